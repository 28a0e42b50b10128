"""Which change an event is about, from payloads as GitHub sends them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from aethr.base.errors import UsageError
from aethr.base.records import PullRequestText
from aethr.github.event import EventChange, change
from aethr.github.runner import Runner

A, B, ZEROS = "a" * 40, "b" * 40, "0" * 40
OURS: dict[str, Any] = {"id": 1, "full_name": "octo/shop"}
THEIRS: dict[str, Any] = {"id": 2, "full_name": "mallory/shop"}


def runner(name: str, event: dict[str, Any], **more: str) -> Runner:
    made = Runner(
        "octo/shop", name, event, B, "refs/heads/topic", "ann", 1, 1, "review", Path("/w"), Path("/t"),
        "https://github.com", "https://api.github.com", "https://api.github.com/graphql",
    )  # fmt: skip
    return dataclasses.replace(made, **more)


def request(head_repo: dict[str, Any] | None = OURS, login: str = "ann") -> dict[str, Any]:
    head = {"sha": B, "repo": head_repo, "ref": "$(id)"}
    return {
        "pull_request": {
            "number": 7, "user": {"login": login}, "base": {"sha": A, "repo": OURS}, "head": head
        }
    }  # fmt: skip


def on(branch: str, **more: Any) -> dict[str, Any]:
    return {"repository": {"default_branch": branch}, **more}


def test_a_pull_request() -> None:
    assert change(runner("pull_request", request())) == EventChange(
        B, A, number=7, proposed=True, pull_request=PullRequestText(7, "", ""), author="ann"
    )


@pytest.mark.parametrize(
    ("event", "actor"),
    [
        (request(THEIRS), "ann"),
        (request(None), "ann"),  # the fork was deleted
        (request({"id": 3, "full_name": "octo/shop"}), "ann"),
        (request(login="dependabot[bot]"), "ann"),
        (request(), "dependabot[bot]"),
    ],
)
def test_a_fork_or_dependabot_is_outside(event: dict[str, Any], actor: str) -> None:
    assert change(runner("pull_request", event, actor=actor)).outside


def test_pull_request_target_is_marked_and_has_secrets() -> None:
    asked = change(runner("pull_request_target", request(THEIRS)))
    assert (asked.privileged, asked.outside) == (True, False)
    assert not change(runner("pull_request", request(THEIRS))).privileged


@pytest.mark.parametrize(
    ("name", "event", "ref", "expected"),
    [
        ("push", on("main", before=A, after=B), "refs/heads/topic", EventChange(B, A)),
        ("push", on("main", before=ZEROS, after=B), "refs/heads/topic", EventChange(B, onto="main")),
        ("push", on("main", before=ZEROS, after=B), "refs/heads/main", EventChange(B)),
        ("workflow_dispatch", on("main"), "refs/heads/topic", EventChange(B, onto="main")),
        ("workflow_dispatch", on("main"), "refs/heads/main", EventChange(B)),
        ("schedule", on("--upload-pack=x"), "refs/heads/topic", EventChange(B)),
        (
            "merge_group",
            {"merge_group": {"head_sha": B, "base_sha": A}},
            "",
            EventChange(B, A, proposed=True),
        ),
    ],
)
def test_other_events(name: str, event: dict[str, Any], ref: str, expected: EventChange) -> None:
    assert change(runner(name, event, ref=ref)) == expected


@pytest.mark.parametrize(
    ("name", "event", "says"),
    [
        ("issue_comment", {}, "names no change"),
        ("workflow_run", {}, "names no change"),
        ("push", {"deleted": True, "after": ZEROS}, "deleted a branch"),
        ("push", {"after": "--output=x"}, "not a commit id"),
        ("pull_request", {}, "no 'pull_request'"),
        ("pull_request", {"pull_request": {"number": "7; id", "base": {}, "head": {}}}, "no number"),
        ("pull_request", {"pull_request": {"number": 7, "base": {}, "head": {"sha": B}}}, "not a commit id"),
    ],
)
def test_an_event_without_a_change_is_refused(name: str, event: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        change(runner(name, event))
