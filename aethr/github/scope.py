"""The commits of a change in this clone: found, and fetched where missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from aethr import git
from aethr.errors import UsageError
from aethr.git import fetch, history, objects
from aethr.git.fetch import Remote
from aethr.github.event import Change
from aethr.records import Checkout, Scope


def resolved(here: Checkout, change: Change, remote: Remote) -> Scope:
    """The range ``BASE...HEAD`` with both sides and their common commit in this clone.

    ``A..B`` stands only for what has one side by nature: a commit and the one before it. Raises ``GitError``.
    """
    top = here.top
    base = change.base or _tip(top, change, remote)
    if base is not None:
        common = fetch.common_commit(top, remote, base, change.head)
        _complete(top, remote, common, change.head)
        return Scope("range", f"{base}...{change.head}", common, change.head, here.head)
    if not history.has(top, change.head):
        fetch.commits(top, remote, (change.head,), depth=2)
    before = history.parents(top, change.head)[:1]
    if not history.has(top, *before):
        fetch.commits(top, remote, (change.head,), depth=2)
    first = before[0] if before else git.empty_tree(top)
    _complete(top, remote, first, change.head)
    return Scope("range", f"{first}..{change.head}", first, change.head, here.head)


def fetch_files(top: Path, remote: Remote, commit: str, wanted: Callable[[str], object]) -> None:
    """Have the files of a commit in a partial clone too, of whose path ``wanted`` gives something true."""

    def ids() -> Iterator[str]:
        entries = objects.tree_entries(top, commit)
        return (each.id for each in entries if wanted(os.fsdecode(each.path)))

    fetch.complete(top, remote, (commit,), ids)


def refuse_checked_out_head(here: Checkout, change: Change) -> None:
    """With the rights of ``pull_request_target``, code of the pull request must not lie in the workspace."""
    top, checked_out = here.top, here.head
    assert change.base is not None
    if (
        checked_out is None
        or checked_out == change.base
        or history.is_ancestor(top, checked_out, change.base)
    ):
        return
    if checked_out == change.head or _comes_from(top, checked_out, change):
        raise UsageError(
            "pull_request_target with the pull request's own code checked out, next to this run's secrets",
            "Leave `ref:` of actions/checkout out, so that the base branch is checked out.",
        )


def _comes_from(top: Path, checked_out: str, change: Change) -> bool:
    """Whether the head went into it, as in GitHub's merge commit; a shallow clone still names the parents."""
    parents = history.parents(top, checked_out)
    return change.head in parents or history.is_ancestor(top, change.head, checked_out)


def _complete(top: Path, remote: Remote, base: str, head: str) -> None:
    """Have every file of the change on both sides, also in a partial clone."""
    fetch.complete(top, remote, (base, head), lambda: objects.changed_ids(top, base, head))


def _tip(top: Path, change: Change, remote: Remote) -> str | None:
    return fetch.branch_tip(top, remote, change.onto) if change.onto else None
