"""Which change an event is about, and its commits in this clone, fetched where they are missing.

Only typed fields of the event's payload decide anything. A title and a body are passed on as they are, for
the context source ``pull_request`` alone: they become no task, log line, name or command. The fields:
https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aethr import git
from aethr.base.errors import UsageError
from aethr.base.outside import MOST, at, text
from aethr.base.records import Checkout, PullRequestText, Scope
from aethr.git import fetch, history, tracking
from aethr.git.fetch import Remote
from aethr.github.runner import Runner

COMMENT = "issue_comment"
"""The one event whose change is not in its payload: see ``command``."""
DEPENDABOT = "dependabot[bot]"

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ZEROS = re.compile(r"0+")
BRANCH = re.compile(
    "[^\\s\x00-\x1f\x7f\ud800-\udfff~^:?*\\[\\\\-][^\\s\x00-\x1f\x7f\ud800-\udfff~^:?*\\[\\\\]{0,999}"
)


class EventChange(NamedTuple):
    """The change from the common commit of ``base`` and ``head`` to ``head``, as full commit ids.

    Without a ``base`` in the event, ``onto`` is the branch to compare with, or None for the parent commit.
    ``number`` is the pull request's. ``proposed`` is True for a change that is not merged yet, which must not
    decide how it is reviewed. ``outside`` is True for a pull request of a fork or of Dependabot whose run has
    no secrets and a token that can only read; ``privileged`` for one whose run has secrets and can write,
    although anybody may have written the change. ``pull_request`` is what its author says about it.
    ``author`` is the login of that person, empty if GitHub does not name one.
    ``commits_only`` is True for a run that may touch no tree: it refuses agents and commands, whatever its
    inputs say.
    """

    head: str
    base: str | None = None
    onto: str | None = None
    number: int | None = None
    proposed: bool = False
    outside: bool = False
    privileged: bool = False
    pull_request: PullRequestText | None = None
    author: str = ""
    commits_only: bool = False


def change(runner: Runner) -> EventChange:
    """Read the change from this run's event. Raises ``UsageError`` for an event without one."""
    find = _EVENTS.get(runner.event_name)
    if find is None:
        raise UsageError(
            f"the event {runner.event_name!r} names no change to review",
            f"Use one of: {', '.join((*_EVENTS, COMMENT))}.",
        )
    return find(runner)


def _pull_request(runner: Runner) -> EventChange:
    request = _mapping(runner.event, "pull_request")
    base, head = _mapping(request, "base"), _mapping(request, "head")
    number = request.get("number")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number < MOST:
        raise UsageError("the event's pull request has no number")
    privileged = runner.event_name == "pull_request_target"
    ours, theirs = base.get("repo"), head.get("repo")
    is_fork = (
        not isinstance(ours, dict)
        or not isinstance(theirs, dict)  # null for a fork that was deleted
        or ours.get("id") != theirs.get("id")
        or ours.get("full_name") != theirs.get("full_name")
    )
    is_dependabot = DEPENDABOT in (runner.actor, at(request, "user", "login"))
    return EventChange(
        head=_sha(head, "sha"),
        base=_sha(base, "sha"),
        number=number,
        proposed=True,
        outside=(is_fork or is_dependabot) and not privileged,
        privileged=privileged,
        pull_request=PullRequestText(number, text(request.get("title")), text(request.get("body"))),
        author=text(at(request, "user", "login")),
    )


def _merge_group(runner: Runner) -> EventChange:
    group = _mapping(runner.event, "merge_group")
    return EventChange(head=_sha(group, "head_sha"), base=_sha(group, "base_sha"), proposed=True)


def _push(runner: Runner) -> EventChange:
    if runner.event.get("deleted") is True:
        raise UsageError(
            "the push deleted a branch: there is nothing to review", "Exclude such pushes with `if:`."
        )
    before, head = text(runner.event.get("before")), _sha(runner.event, "after")
    if _SHA.fullmatch(before) and not _ZEROS.fullmatch(before):
        return EventChange(head=head, base=before)
    return EventChange(head=head, onto=_onto(runner))


def _manual(runner: Runner) -> EventChange:
    return EventChange(head=_sha({"GITHUB_SHA": runner.sha}, "GITHUB_SHA"), onto=_onto(runner))


_EVENTS = {
    "pull_request": _pull_request,
    "pull_request_target": _pull_request,
    "merge_group": _merge_group,
    "push": _push,
    "workflow_dispatch": _manual,
    "schedule": _manual,
}


def _onto(runner: Runner) -> str | None:
    """The default branch, unless it is the branch of this run."""
    name = text(at(runner.event, "repository", "default_branch"))
    return name if BRANCH.fullmatch(name) and runner.ref != f"refs/heads/{name}" else None


def _mapping(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    if not isinstance(value, dict):
        raise UsageError(f"the event has no {name!r}")
    return value


def _sha(payload: Mapping[str, Any], name: str) -> str:
    value = text(payload.get(name))
    if _SHA.fullmatch(value) is None:
        raise UsageError(f"the event's {name!r} is not a commit id")
    return value


def resolve(here: Checkout, change: EventChange, remote: Remote) -> Scope:
    """The range ``BASE...HEAD``, with both sides and their common commit fetched into this clone.

    Without a base it is ``PARENT..HEAD``. Raises ``GitError``.
    """
    top = here.top
    base = change.base
    if base is None and change.onto:
        base = fetch.branch_tip(top, remote, change.onto)
    if base is not None:
        common = fetch.common_commit(top, remote, base, change.head)
        _complete(top, remote, common, change.head)
        _complete_base_side(top, remote, base, (common, change.head))
        return Scope("range", f"{base}...{change.head}", common, change.head, here.head, base_side=base)
    if not history.has(top, change.head):
        fetch.commits(top, remote, (change.head,), depth=2)
    before = history.parents(top, change.head)[:1]
    if not history.has(top, *before):
        fetch.commits(top, remote, (change.head,), depth=2)
    first = before[0] if before else git.empty_tree(top)
    _complete(top, remote, first, change.head)
    if before:
        _complete_base_side(top, remote, first, (first, change.head))
    return Scope("range", f"{first}..{change.head}", first, change.head, here.head, base_side=first)


def fetch_files(top: Path, remote: Remote, commit: str, wanted: Callable[[str], object]) -> None:
    """Fetch the files of a commit that a partial clone lacks, if ``wanted`` is true of their path."""

    def ids() -> Iterator[str]:
        entries = tracking.entries(top, commit)
        return (each.id for each in entries if wanted(os.fsdecode(each.path)))

    fetch.complete(top, remote, (commit,), ids)


def _complete_base_side(top: Path, remote: Remote, base: str, sides: tuple[str, str]) -> None:
    """Fetch what the base side says about the files of the change: its attributes, and these files there."""

    def ids() -> Iterator[str]:
        changed = frozenset(tracking.changed_paths(top, *sides))
        for each in tracking.entries(top, base):
            if each.path in changed or each.path.rpartition(b"/")[2] == b".gitattributes":
                yield each.id

    fetch.complete(top, remote, (base,), ids)


def refuse_checked_out_head(here: Checkout, change: EventChange, default: str = "") -> None:
    """Refuse the pull request's code in the workspace of a run that has secrets.

    The attack: https://securitylab.github.com/resources/github-actions-preventing-pwn-requests/. The head may
    also be in a merge commit, as GitHub makes one; a shallow clone still names its parents. Where only
    commits are read, everything is refused that is not in the history of the base or of ``default``, the tip
    of the default branch: an earlier head is the author's code too.
    """
    top, checked_out, base = here.top, here.head, change.base
    assert base is not None
    trusted = [base, *filter(_SHA.fullmatch, [default])]
    if checked_out is None or checked_out in trusted:
        return
    if any(history.is_ancestor(top, checked_out, each) for each in trusted):
        return
    own = (
        checked_out == change.head
        or change.head in history.parents(top, checked_out)
        or history.is_ancestor(top, change.head, checked_out)
    )
    if own or change.commits_only:
        what = "the pull request's own code" if own else f"{checked_out[:12]}, not the base branch, is"
        raise UsageError(
            f"{what} checked out, next to this run's secrets",
            "Leave `ref:` of actions/checkout out, so that the base branch is checked out.",
        )


def _complete(top: Path, remote: Remote, base: str, head: str) -> None:
    """Fetch the files of the change, on both sides, that a partial clone lacks."""
    fetch.complete(top, remote, (base, head), lambda: tracking.changed_ids(top, base, head))
