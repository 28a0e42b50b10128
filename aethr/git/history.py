"""Commits and how they hang together: what is here, what is an ancestor of what."""

from __future__ import annotations

import os
from pathlib import Path

from aethr.git import call


def has(root: Path, *ids: str) -> bool:
    """Whether all of these commit ids are in this clone."""
    return all(_succeeds(root, "cat-file", "-e", f"{each}^{{commit}}") for each in ids)


def is_shallow(root: Path) -> bool:
    return call.checked(root, "rev-parse", "--is-shallow-repository") == b"true\n"


def is_partial(root: Path) -> bool:
    """Whether this clone was made with a filter, so that objects of its commits may be elsewhere."""
    return _succeeds(root, "config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$")


def is_ancestor(root: Path, ancestor: str, of: str) -> bool:
    """Whether one commit is the other or lies in its history, as far as this clone knows."""
    return has(root, ancestor, of) and _succeeds(root, "merge-base", "--is-ancestor", ancestor, of)


def parents(root: Path, commit: str) -> tuple[str, ...]:
    """The ids of a commit's parents, as the commit names them, also where a shallow clone lacks them."""
    header = call.checked(root, "cat-file", "commit", commit).partition(b"\n\n")[0]
    rows = (line.split(b" ", 1) for line in header.split(b"\n") if line.startswith(b"parent "))
    return tuple(name.decode() for _, name in rows)


def certain_merge_base(root: Path, base: str, head: str) -> str | None:
    """The best common commit, or None where this clone cannot tell: too shallow, or there is none.

    In a shallow clone a common commit may be found while a better one is still hidden behind the edge. So
    it counts only if no edge lies between it and the two.
    """
    if not has(root, base, head):
        return None
    done = call.run(root, "merge-base", "--end-of-options", base, head)
    if done.code == 1:
        return None
    if done.code != 0:
        raise call.failed(done)
    found = done.stdout.decode().strip()
    between = call.checked(root, "rev-list", base, head, f"^{found}").split()
    return None if _edges(root).intersection(between) else found


def _edges(root: Path) -> frozenset[bytes]:
    """The commits whose parents a shallow clone does not have."""
    name = call.checked(root, "rev-parse", "--git-path", "shallow").removesuffix(b"\n")
    file = root / os.fsdecode(name)
    return frozenset(file.read_bytes().split()) if file.is_file() else frozenset()


def _succeeds(root: Path, *args: str) -> bool:
    return call.run(root, *args).code == 0
