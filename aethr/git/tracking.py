"""Which files git knows: tracked, untracked, ignored, in its history, or marked as unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from aethr.git import call, checkout

_LITERAL = "--literal-pathspecs"
"""Paths are names, not patterns. check-ignore does not accept this option."""


def files(root: Path, wanted: Callable[[str], object]) -> tuple[str, ...] | None:
    """Tracked files, and untracked ones that git does not ignore, relative to ``root``, sorted.

    Only those for which ``wanted`` returns something true; None outside of any work tree. Names are as
    ``os.fsdecode`` returns them. Raises as ``checkout`` does.
    """
    # To find untracked files git walks the whole tree; everything else runs in parallel.
    with (
        call.background(root, "ls-files", "-z", "--others", "--exclude-standard") as untracked,
        call.background(root, "ls-files", "-z", "--cached") as tracked,
    ):
        if checkout(root) is None:
            return None
        known = dict.fromkeys(filter(wanted, _names(tracked())))  # unmerged files are listed twice
        # A name that ends with a slash is another repository.
        new = [name for name in filter(wanted, _names(untracked())) if not name.endswith("/")]
        return tuple(sorted([*known, *new]))


def _names(listed: bytes) -> list[str]:
    return os.fsdecode(listed).split("\0")[:-1]


def is_tracked(root: Path, path: str, head: str | None = None) -> bool:
    """Whether git has this path in its index or, if given, in the commit ``head``.

    Raises ``GitError``, also outside of a repository.
    """
    with_head = [] if head is None else [f"--with-tree={head}"]
    return call.checked(root, _LITERAL, "ls-files", "-z", *with_head, "--", path) != b""


def had_content(root: Path, contents: Iterable[bytes]) -> bool:
    """Whether a commit reachable from a ref or HEAD has added a file with one of these contents.

    The slow walk through history is for objects that git has, such as those that ``git stash`` leaves behind.
    """
    import hashlib

    ids: list[str] = []
    for content in dict.fromkeys(contents):  # a repository uses one of the two hash algorithms
        blob = b"blob %d\0%b" % (len(content), content)
        ids += hashlib.sha1(blob, usedforsecurity=False).hexdigest(), hashlib.sha256(blob).hexdigest()
    stdin = "".join(f"{each}\n" for each in ids).encode()
    listed = call.checked(root, "cat-file", "--batch-check", stdin=stdin).decode()
    # log.showSignature would run the gpg.program of the repository.
    quiet = ("--no-show-signature", "--no-ext-diff", "--no-textconv")
    found = (row.partition(" ") for row in listed.splitlines())
    return any(
        call.checked(root, "log", *quiet, "--all", "-m", "-1", "--format=%H", f"--find-object={name}")
        for name, _, kind in found
        if kind.startswith("blob ")
    )


def is_ignored(root: Path, path: str) -> bool:
    """Whether git ignores this path; False for a tracked one."""
    done = call.run(root, "check-ignore", "--quiet", "--", f"./{path}")
    if done.code not in (0, 1):
        raise call.failure(done)
    return done.code == 0


def overlooked_files(top: Path) -> tuple[bytes, ...]:
    """Files whose changes git does not show because it was told to ignore them. Raises ``GitError``.

    ``git ls-files -v`` marks them with a lower case letter (assume-unchanged) or an S (skip-worktree). An S
    without a file on disk is outside of a sparse checkout and hides nothing.
    """
    rows = call.checked(top, "ls-files", "-v", "-z").split(b"\0")
    marked = [row for row in rows if row[:1].islower() or row[:1] == b"S"]
    return tuple(
        row[2:] for row in marked if row[:1] not in b"Ss" or os.path.lexists(top / os.fsdecode(row[2:]))
    )
