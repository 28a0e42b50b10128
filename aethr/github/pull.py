"""A pull request as the API describes it now, and what a review of its commits refuses.

For the runs whose event does not describe it: a command in a comment, and ``aethr run --pull-request``.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from aethr.base.errors import GitError, UsageError
from aethr.base.outside import at, text
from aethr.base.records import PullRequestText, WorkflowSpec
from aethr.git import fetch
from aethr.git.fetch import Remote
from aethr.github.event import BRANCH, EventChange
from aethr.github.upsert import Api, ApiError
from aethr.workflow import planning

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_PUSHES = 300
"""At most so many pushes are read to find the head at an earlier moment."""


class Pull(NamedTuple):
    """A pull request. ``base`` is a branch, ``head`` a full commit id; ``title`` and ``body`` are untrusted.

    ``head_branch`` and ``head_repository`` are empty where the API does not name them (a deleted fork), and
    so is the login of the ``author`` (a deleted account).
    """

    number: int
    base: str
    head: str
    is_open: bool
    head_branch: str = ""
    head_repository: str = ""
    title: str = ""
    body: str = ""
    author: str = ""


def read(api: Api, repository: str, number: int) -> Pull:
    """Ask for a pull request. Raises ``ApiError``, also for an answer without its two sides."""
    value = api.send("GET", f"/repos/{repository}/pulls/{number}").value
    base, head = text(at(value, "base", "ref")), text(at(value, "head", "sha"))
    if BRANCH.fullmatch(base) is None or _SHA.fullmatch(head) is None:
        raise ApiError(f"GitHub's answer does not name the two sides of pull request {number}")
    branch, fork = text(at(value, "head", "ref")), text(at(value, "head", "repo", "full_name"))
    return Pull(
        number=number,
        base=base,
        head=head,
        is_open=at(value, "state") == "open",
        head_branch=branch if BRANCH.fullmatch(branch) else "",
        head_repository=fork if _REPOSITORY.fullmatch(fork) else "",
        title=text(at(value, "title")),
        body=text(at(value, "body")),
        author=text(at(value, "user", "login")),
    )


def change(pull: Pull, root: Path, remote: Remote) -> EventChange:
    """The change from the tip of the base branch now to the head. Raises ``GitError``.

    What is known of the pull request beyond its commits is handed on here.
    """
    tip = fetch.branch_tip(root, remote, pull.base)
    if tip is None or _SHA.fullmatch(tip) is None:
        raise GitError(f"the base branch of pull request {pull.number}, {pull.base!r}, is gone")
    return EventChange(
        head=pull.head,
        base=tip,
        number=pull.number,
        proposed=True,
        pull_request=PullRequestText(pull.number, pull.title, pull.body),
        author=pull.author,
        commits_only=True,
    )


def head_at(api: Api, pull: Pull, moment: str) -> str | None:
    """The head of a pull request at a moment (ISO 8601, UTC), by the pushes that GitHub has seen.

    Not by the dates of commits, which their author chooses. None if GitHub does not say it. Raises
    ``ApiError``.
    """
    if not (pull.head_branch and pull.head_repository and _TIME.fullmatch(moment)):
        return None
    where = f"/repos/{pull.head_repository}/activity?ref={quote(f'refs/heads/{pull.head_branch}', safe='')}"
    head, seen = pull.head, 0
    for each in islice(api.pages(f"{where}&per_page=100"), _PUSHES):
        before, after, time = (text(at(each, name)) for name in ("before", "after", "timestamp"))
        if after != head or not _TIME.fullmatch(time):
            return None  # a gap in what GitHub has seen
        if time < moment:
            return head
        if not _SHA.fullmatch(before) or not before.strip("0"):
            return None  # the branch was made after that moment
        head, seen = before, seen + 1
    return head if 0 < seen < _PUSHES else None


def refuse_programs(workflow: WorkflowSpec) -> None:
    """Refuse what works on a tree, in a review of commits that are not checked out. Raises ``UsageError``."""
    for program in planning.programs(workflow):
        what = f"runs `{program.command}`" if program.command else "lets an agent work"
        raise UsageError(
            f"{workflow.origin}: the step '{program.step}' {what}, but this pull request is not checked out",
            "Choose a workflow whose steps only call models.",
        )
