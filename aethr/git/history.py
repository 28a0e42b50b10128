"""Commits and how they hang together: what is here, what is an ancestor of what."""

from __future__ import annotations

import os
from pathlib import Path

from aethr.git import call


def has(root: Path, *ids: str) -> bool:
    """Whether all of these commit ids are in this clone."""
    names = "".join(f"{each}^{{commit}}\n" for each in ids)
    done = call.run(root, "cat-file", "--batch-check=%(objecttype)", stdin=names.encode())
    return done.code == 0 and done.stdout == b"commit\n" * len(ids)


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
    """The best common commit of two that are here; None where there is none, or this clone cannot tell.

    In a shallow clone a common commit may be found while a better one is still hidden behind the edge. So
    it counts only if no edge lies between it and the two.
    """
    done = call.run(root, "merge-base", "--end-of-options", base, head)
    if done.code == 1:
        return None
    if done.code != 0:
        raise call.failed(done)
    found = done.stdout.decode().strip()
    edges = _edges(root)
    hidden = edges and edges.intersection(call.checked(root, "rev-list", base, head, f"^{found}").split())
    return None if hidden else found


def _edges(root: Path) -> frozenset[bytes]:
    """The commits whose parents a shallow clone does not have."""
    name = call.checked(root, "rev-parse", "--git-path", "shallow").removesuffix(b"\n")
    file = root / os.fsdecode(name)
    return frozenset(file.read_bytes().split()) if file.is_file() else frozenset()


def _succeeds(root: Path, *args: str) -> bool:
    return call.run(root, *args).code == 0
