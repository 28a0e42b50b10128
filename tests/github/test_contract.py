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


THREADS = 'query($number: Int!) { repository(owner: "o", name: "n") { pullRequest(number: $number) %s } }'


def graphql(query: str, data: object, **variables: Any) -> dict[str, Any]:
    body = {"query": query, "variables": variables}
    return {"method": "POST", "path": "/graphql", "body": body, "status": 200, "answer": {"data": data}}


def test_a_good_graphql_exchange_passes() -> None:
    check(graphql("query { viewer { login } }", {"viewer": {"login": "ann"}}))
    fields = "{ reviewThreads(first: 1) { nodes { id isResolved } } }"
    nodes = [{"id": "x", "isResolved": True}]
    data = {"repository": {"pullRequest": {"reviewThreads": {"nodes": nodes}}}}
    check(graphql(THREADS % fields, data, number=7))


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("query { viewer { name } }", {"viewer": {"name": "ann"}}),
        ("query { viewer { login } }", {"viewer": {"login": 7}}),
        ("query { viewer { login } }", {"viewer": {"login": None}}),
        ("query { viewer { login } }", {"viewer": {}}),
        ("query { viewer { login } }", {"viewer": {"login": "ann", "id": "x"}}),
        ("query { viewer(first: 1) { login } }", {"viewer": {"login": "ann"}}),
        ('query { repository(owner: "o") { pullRequest(number: 1) { reviewThreads } } }', {}),
        ("query { viewer { login } }", None),
    ],
)
def test_a_wrong_graphql_exchange_fails(query: str, data: object) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(graphql(query, data))


@pytest.mark.parametrize("variables", [{}, {"number": "7"}, {"number": None}, {"number": 7, "more": 1}])
def test_wrong_variables_fail(variables: dict[str, Any]) -> None:
    fields = "{ reviewThreads(first: 1) { nodes { id } } }"
    data = {"repository": {"pullRequest": {"reviewThreads": {"nodes": []}}}}
    with pytest.raises(AssertionError):
        check(graphql(THREADS % fields, data, **variables))


def test_a_review_without_a_text_or_a_commit_fails() -> None:
    path = "/repos/octo/shop/pulls/7/reviews"
    review = {"event": "COMMENT", "commit_id": "a" * 40, "body": "text", "comments": []}
    server = GitHubServer()
    with server:
        status, answer, _ = server.answer("POST", path, review)
    good = {"method": "POST", "path": path, "body": review, "status": status, "answer": answer}
    check(good)
    for wrong in ({"body": ""}, {"event": None}, {"comments": [{"path": "a"}]}, {"commit_id": None}):
        with pytest.raises(ValidationError):
            check({**good, "body": {**review, **wrong}})
