"""Which change a commit or a push is about, and how much it is.

pre-commit and prek tell a hook about a push in environment variables (``PRE_COMMIT_…``); of several refs
that are pushed at once they name the first that has something new. Only git's objects are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base.errors import UsageError
from aethr.base.records import Checkout, Extent, Scope, Survey
from aethr.base.sanitize import one_line
from aethr.context import changes
from aethr.context.diffs import Hunk, Section, parse
from aethr.context.paths import is_generated
from aethr.git import call, history


class Change(NamedTuple):
    """``what`` is the scope in words, ``branch`` the one that is committed to or pushed."""

    scope: Scope
    checkout: Checkout
    what: str
    branch: str | None = None


class Measure(NamedTuple):
    """How much changes. ``only`` says what the files are, where all are of one kind.

    ``readable`` is False when not one of them may be sent to a model.
    """

    extent: Extent
    only: str = ""
    readable: bool = True


def find(root: Path, environ: Mapping[str, str]) -> Change | None:
    """The change of this stage; None for a ref that is deleted.

    It is a range where one is named, all that a remote does not have on the first push to it, else what
    is staged. Raises ``UsageError`` outside of a repository and for an index outside of it, ``GitError``.
    """
    here = git.checkout(root)
    if here is None:
        raise UsageError(f"{root} is in no git repository", "A hook reviews a commit or a push.")
    # git names the index to the hooks of a commit, and to no other: then what speaks of a push is left over.
    if environ.get("GIT_INDEX_FILE"):
        return _staged(here)
    start, end = environ.get("PRE_COMMIT_FROM_REF", ""), environ.get("PRE_COMMIT_TO_REF", "")
    remote, pushed = environ.get("PRE_COMMIT_REMOTE_NAME", ""), environ.get("PRE_COMMIT_LOCAL_BRANCH", "")
    if not end and not (remote and pushed):
        return _staged(here)
    if end and _is_null(end):
        return None
    if _is_null(start):
        (head,) = history.commits_or_trees(root, end or pushed)
        base = _first_base(root, remote, environ.get("PRE_COMMIT_REMOTE_BRANCH", ""), head)
    else:
        head, first = history.commits_or_trees(root, end or pushed, start)
        base = _base(root, first, head)
    return _range(here, base, head, remote, _branch(here, pushed))


def moved(root: Path, found: Change) -> str | None:
    """Whether what is pushed is another change now, because a ref moved. Raises as ``find`` does."""
    now = find(root, os.environ)
    same = now is not None and now.scope.text == found.scope.text
    return None if same else "a ref of the push moved"


def measure(survey: Survey) -> Measure:
    """How much a scope holds, before anything of it is sent. Raises ``GitError``."""
    sections: list[Section] = []
    added = changed = 0
    for part in parse(git.diff(survey), 0):
        if isinstance(part, Hunk):
            added, changed = added + part.added, changed + part.changed
        else:
            sections.append(part)
    binary = [each for each in sections if each.binary and not each.deleted]
    texts = changes.hidden_texts(survey, binary)
    opaque = [each for each in binary if each not in texts]
    secret = [each for each in sections if changes.holds_secrets(each)]
    kinds = {
        "only deletions": [each for each in sections if each.deleted],
        "only binary files": opaque,
        "only files that hold secrets": secret,
        "only generated files": [each for each in sections if is_generated(os.fsdecode(each.path))],
    }
    return Measure(
        Extent(len({each.path for each in sections}), added, changed - added),
        only=next((kind for kind, found in kinds.items() if len(found) == len(sections)), ""),
        readable=len({*opaque, *secret}) < len(sections),
    )


def _staged(here: Checkout) -> Change:
    if call.ignores_index(here.root):
        raise UsageError(
            "GIT_INDEX_FILE names an index outside of this repository, so what it stages cannot be reviewed",
            "Put that index into .git, or commit without GIT_INDEX_FILE.",
        )
    branch = here.branch if here.head else git.unborn_branch(here.root)
    return Change(Scope("staged", "staged", head_sha=here.head), here, "the staged change", branch)


def _range(here: Checkout, base: str, head: str, remote: str, branch: str | None) -> Change:
    shown = f"{base[:12]}..{head[:12]}"
    pushed = f"the push of {one_line(branch or 'HEAD')} to {one_line(remote)}, {shown}"
    scope = Scope("range", f"{base}..{head}", base, head, here.head)
    return Change(scope, here, pushed if remote else f"the change {shown}", branch)


def _branch(here: Checkout, pushed: str) -> str | None:
    """The branch or tag that is pushed; what is pushed by another name comes from the one checked out."""
    kind, _, name = pushed.removeprefix("refs/").partition("/")
    return name if kind in ("heads", "tags") and name else here.branch


def _base(root: Path, first: str, head: str) -> str:
    """The merge base: after a force push the old tip is no ancestor of the new one.

    Histories without a common commit are compared as they are.
    """
    found = history.certain_merge_base(root, first, head)
    if found is None and history.is_shallow(root):
        return history.merge_base(root, first, head)
    return found or first


def _first_base(root: Path, remote: str, branch: str, head: str) -> str:
    """Where a push begins that names no old commit: all is new, but for what is known of the remote.

    That is its branch of this name (prek does not name the old tip when a force push replaces another
    history), or its default branch.
    """
    names = (branch.removeprefix("refs/heads/"), "HEAD")
    same, default = history.resolve(root, *(f"refs/remotes/{remote}/{name}" for name in names))
    if same is not None:
        return _base(root, same, head)
    common = history.certain_merge_base(root, default, head) if default is not None else None
    return common or git.empty_tree(root)


def _is_null(name: str) -> bool:
    """git's way to say that there is no commit on this side."""
    return not name.strip("0")
