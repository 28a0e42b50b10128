"""Commits: what a name stands for, which ones this clone has, and how they relate."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr.base.errors import GitError, UsageError
from aethr.git import call

_LINE_BREAK = re.compile(r"[\0\r\n]")
"""Not allowed in the name of a commit, and would end one that is passed as a line."""


def commits_or_trees(root: Path, *names: str) -> tuple[str, ...]:
    """The full ids of the commits (or trees) with these names. Raises ``UsageError`` for an unknown name."""
    found = resolve(root, *names)
    for name, id_ in zip(names, found, strict=True):
        if id_ is None:
            raise UsageError(
                f"--diff: {name!r} is not a commit here",
                "`git branch --all` and `git tag` list names; fetch the one you mean if it is not here yet.",
            )
    return tuple(filter(None, found))


def resolve(root: Path, *names: str) -> tuple[str | None, ...]:
    """The id of the commit, else of the tree, behind each name; None if it is neither."""
    found = _objects(root, [name + "^{commit}" for name in names])
    if None in found:
        # Only now: a partial clone may lack the trees of its commits, and git stops at the first one. A
        # search (`:/x`) and a path (`HEAD:x`) cannot have a suffix, so each name is also tried alone.
        others = _objects(root, [name + end for name in names for end in ("^{tree}", "")])
        found = [commit or others[2 * n] or others[2 * n + 1] for n, commit in enumerate(found)]
    return tuple(found)


def _objects(root: Path, names: Sequence[str]) -> list[str | None]:
    """The id of the commit or tree of each name, None for anything else."""
    done = None
    if not any(name.startswith("-") or _LINE_BREAK.search(name) for name in names):
        lines = b"".join(os.fsencode(name) + b"\n" for name in names)
        done = call.run(root, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=lines)
    if done is None or done.code != 0:  # git stops at some names, such as @{upstream} without an upstream
        return [None] if len(names) == 1 else [_objects(root, [name])[0] for name in names]
    rows = (row.split(b" ") for row in done.stdout.splitlines())
    return [row[0].decode() if row[1:] in ([b"commit"], [b"tree"]) else None for row in rows]


def merge_base(root: Path, base: str, head: str) -> str:
    """The best common ancestor of two ids. Raises ``GitError``, also when the clone is too shallow."""
    done = call.run(root, "merge-base", "--end-of-options", base, head)
    if done.code == 0:
        return done.stdout.decode().split("\n", 1)[0]
    if done.code == 1 and is_shallow(root):
        raise GitError(
            f"no common commit of {base[:12]} and {head[:12]}: this clone is shallow",
            "Run `git fetch --unshallow`; in GitHub Actions, check out with `fetch-depth: 0`.",
        )
    if done.code == 1:
        raise GitError(f"{base[:12]} and {head[:12]} have no common commit", "Compare them with A..B.")
    raise call.failure(done)


def has(root: Path, *ids: str) -> bool:
    """Whether all of these commit ids are in this clone."""
    names = "".join(f"{each}^{{commit}}\n" for each in ids)
    done = call.run(root, "cat-file", "--batch-check=%(objecttype)", stdin=names.encode())
    return done.code == 0 and done.stdout == b"commit\n" * len(ids)


def is_shallow(root: Path) -> bool:
    return call.checked(root, "rev-parse", "--is-shallow-repository") == b"true\n"


def is_partial(root: Path) -> bool:
    """Whether this is a partial clone (``--filter``), which may lack objects of its commits."""
    pattern = r"^(remote\..*\.promisor|extensions\.partialclone)$"
    return call.run(root, "config", "--get-regexp", pattern).code == 0


def is_ancestor(root: Path, ancestor: str, of: str) -> bool:
    """Whether one commit is the other or in its history, as far as this clone knows."""
    found = has(root, ancestor, of)
    return found and call.run(root, "merge-base", "--is-ancestor", ancestor, of).code == 0


def parents(root: Path, commit: str) -> tuple[str, ...]:
    """The ids of a commit's parents as recorded in it, even if a shallow clone lacks them."""
    header = call.checked(root, "cat-file", "commit", commit).partition(b"\n\n")[0]
    rows = (line.split(b" ", 1) for line in header.split(b"\n") if line.startswith(b"parent "))
    return tuple(name.decode() for _, name in rows)


def certain_merge_base(root: Path, base: str, head: str) -> str | None:
    """The merge base of two commits of this clone; None if there is none, or the clone is too shallow to
    know.

    In a shallow clone git may find a common commit although a better one is cut off. So the answer counts
    only if the history between it and the two commits is complete.
    """
    done = call.run(root, "merge-base", "--end-of-options", base, head)
    if done.code == 1:
        return None
    if done.code != 0:
        raise call.failure(done)
    found = done.stdout.decode().strip()
    return None if _is_cut(root, base, head, f"^{found}") else found


def _is_cut(root: Path, *commits: str) -> bool:
    """Whether a shallow clone lacks a parent of one of these commits, named as for ``git rev-list``."""
    name = call.checked(root, "rev-parse", "--git-path", "shallow").removesuffix(b"\n")
    file = root / os.fsdecode(name)  # the commits whose parents this clone lacks
    edges = frozenset(file.read_bytes().split()) if file.is_file() else frozenset()
    return bool(edges) and not edges.isdisjoint(call.checked(root, "rev-list", *commits).split())


class Commit(NamedTuple):
    """A commit's id and the beginning of its message in UTF-8, of ``size`` bytes in all."""

    id: str
    message: bytes
    size: int


class Commits(NamedTuple):
    """Commits, the newest first. ``more``: there are older ones. ``cut``: a shallow clone may lack some."""

    newest: tuple[Commit, ...]
    more: bool
    cut: bool


def commits(root: Path, head: str, without: Sequence[str], most: int, message_bytes: int) -> Commits | None:
    """The newest commits of ``head`` that are in the history of none of ``without``; merges do not count.

    All are ids, and those that this clone lacks exclude nothing. None if ``head`` is not a commit of this
    clone. Raises ``GitError``.
    """
    if not has(root, head):
        return None
    revisions = [head, *(f"^{each}" for each in without if has(root, each))]
    # log.showSignature would run the gpg.program of the repository.
    quiet = ("--no-show-signature", "--no-notes", "--no-color", "--no-decorate", "--encoding=UTF-8")
    which = ("--no-merges", "--topo-order", f"--max-count={most + 1}", "-z", "--format=%H%n%B")
    found: list[tuple[bytearray, list[int]]] = []
    ended = True
    for chunk in call.streamed(root, "log", *quiet, *which, *revisions, "--"):
        for number, text in enumerate(chunk.split(b"\0")):
            if number or ended:
                found.append((bytearray(), []))
            ended = False
            kept, sizes = found[-1]
            kept += text[: max(0, message_bytes + 65 - len(kept))]  # an id and a line feed come before it
            sizes.append(len(text))
    rows = [(*bytes(kept).partition(b"\n"), sum(sizes)) for kept, sizes in found if kept]
    listed = [Commit(id_.decode(), text, size - len(id_) - 1) for id_, _, text, size in rows]
    return Commits(tuple(listed[:most]), len(listed) > most, _is_cut(root, *revisions))


class Touched(NamedTuple):
    """A file that a commit changed, and its modes before and after it: octal text, zeros if it is missing."""

    path: bytes
    modes: tuple[str, str]


def touched(root: Path, commits: Sequence[str]) -> Iterator[tuple[str, tuple[Touched, ...]]]:
    """Each of these commits with the files that it changed; a rename is two of them.

    A commit that changed nothing, a merge and one without a parent are not listed. Raises ``GitError``.
    """
    lines = "".join(f"{each}\n" for each in commits).encode()
    words = ("diff-tree", "--stdin", "-r", "--raw", "-z", "--no-renames", "--no-abbrev")
    fields = iter(call.checked(root, *words, stdin=lines).split(b"\0")[:-1])
    commit, files = "", list[Touched]()
    for field in fields:
        if field.startswith(b":"):
            before, after = field[1:].split(b" ")[:2]
            files.append(Touched(next(fields), (before.decode(), after.decode())))
        else:  # the id of a commit comes before its files
            if files:
                yield commit, tuple(files)
            commit, files = field.decode().strip(), []
    if files:
        yield commit, tuple(files)
