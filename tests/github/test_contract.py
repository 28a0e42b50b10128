"""The check against GitHub's description can fail."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import ValidationError

from tests.github.contract import check
from tests.github.github_server import GitHubServer

LIST = "/repos/octo/shop/issues/7/comments"


def exchange(**changed: Any) -> dict[str, Any]:
    server = GitHubServer()
    with server:
        status, answer, _ = server.answer("POST", LIST, {"body": "text"})
    made = {"method": "POST", "path": LIST, "body": {"body": "text"}, "status": status, "answer": answer}
    return {**made, **changed}


def test_a_good_exchange_passes() -> None:
    check(exchange())


@pytest.mark.parametrize(
    "changed",
    [{"body": {}}, {"body": {"body": 1}}, {"body": {"body": "x" * 262_145}}, {"answer": {"id": "1"}}],
)
def test_a_wrong_body_or_answer_fails(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check(exchange(**changed))


@pytest.mark.parametrize(("method", "path"), [("DELETE", LIST), ("GET", "/user"), ("PATCH", LIST)])
def test_what_github_does_not_describe_fails(method: str, path: str) -> None:
    with pytest.raises(AssertionError, match="GitHub describes no"):
        check(exchange(method=method, path=path))


def test_an_unknown_parameter_fails() -> None:
    with pytest.raises(KeyError):
        check(exchange(method="GET", path=f"{LIST}?sort=created", body=None, status=200, answer=[]))
