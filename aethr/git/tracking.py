"""The files that git knows: which are tracked, ignored or in its history, and what the index or a commit
contains, independent of the work tree.

One call lists, one measures, and contents come in batches of bounded size. ``with_new_files`` makes a copy of
the index that also lists every new file: the repository's own index is only read, and no object is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aethr.base.errors import DiskError, GitError
from aethr.git import call, checkout

_LITERAL = "--literal-pathspecs"
"""Paths are names, not patterns. check-ignore does not accept this option."""

BATCH_BYTES = 10_000_000
"""About how much content one call returns; a larger object comes alone."""


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

    ids: list[str] = []  # a repository uses one of the two hash algorithms
    for content in dict.fromkeys(contents):
        blob = b"blob %d\0%b" % (len(content), content)
        ids += hashlib.sha1(blob, usedforsecurity=False).hexdigest(), hashlib.sha256(blob).hexdigest()
    listed = call.checked(root, "cat-file", "--batch-check", stdin=_lines(ids)).decode()
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


_OWN = {"core.splitIndex": "false", "core.untrackedCache": "false"}
"""Otherwise git writes a part of the copy into the repository's folder."""


@contextmanager
def temporary_index() -> Iterator[Path]:
    """A path for an index outside of the repository, deleted after the block. Raises ``DiskError``."""
    import tempfile  # few scopes need it

    try:
        folder = tempfile.TemporaryDirectory(prefix="aethr-index-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DiskError(f"no room for an index of git: {error.strerror}", "Is TMPDIR full?") from error
    with folder as name:
        yield Path(name, "index")


@contextmanager
def with_new_files(top: Path, options: Sequence[str]) -> Iterator[Path]:
    """The path of the copy, which is deleted after the block. Raises ``GitError``, ``DiskError``.

    ``options`` switch off the filters of the repository: to write an index, git reads every file again that
    is as new as its entry (https://git-scm.com/docs/racy-git).
    """
    import shutil

    names = call.checked(top, "ls-files", "-z", "--others", "--exclude-standard").split(b"\0")[:-1]
    own = top / os.fsdecode(call.checked(top, "rev-parse", "--git-path", "index").removesuffix(b"\n"))
    with temporary_index() as index:
        try:
            if own.is_file():
                shutil.copy2(own, index)  # keeps its time: git trusts only entries that are older
        except OSError as error:
            raise DiskError(f"cannot copy {own}: {error.strerror}", "Is TMPDIR full?") from error
        empty = call.checked(top, "hash-object", "--stdin", stdin=b"").decode().strip()
        rows = b"".join(_row(top, name, empty) for name in names)
        call.checked(
            top,
            *call.settings(_OWN),
            *options,
            *("update-index", "--add", "--replace", "-z", "--index-info"),
            stdin=rows,
            index=index,
        )
        yield index


def _row(top: Path, name: bytes, empty: str) -> bytes:
    """The entry of a new file, without its content; for another repository, the commit checked out there.

    A repository without a commit has no entry: ``git add`` skips it too.
    """
    path = top / os.fsdecode(name)
    if not name.endswith(b"/"):
        mode = "120000" if path.is_symlink() else "100644"  # git reads the executable bit from the disk
        return f"{mode} {empty} 0\t".encode() + name + b"\0"
    head = call.run(path, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.code != 0:
        return b""
    return f"160000 {head.stdout.decode().strip()} 0\t".encode() + name.rstrip(b"/") + b"\0"


class TreeEntry(NamedTuple):
    """A file as git lists it. ``mode`` is octal text: ``120000`` a link, ``160000`` a submodule.

    ``stage`` is ``0``, or which side of a conflict this is.
    """

    path: bytes
    mode: str
    id: str
    stage: str = "0"


def entries(folder: Path, tree: str | None, *below: str) -> Iterator[TreeEntry]:
    """The files of a commit or tree, by its id; None is the index. Their paths are relative to ``folder``.

    ``below`` are the only files or folders that are listed (default: all of the folder).
    """
    words: tuple[str, ...] = ("ls-files", "-z", "--stage")
    if tree is not None:
        words = ("ls-tree", "-r", "-z", "--end-of-options", tree)
    for row in call.checked(folder, _LITERAL, *words, "--", *(below or ["."])).split(b"\0")[:-1]:
        head, _, path = row.partition(b"\t")
        mode, second, third = head.decode().split(" ")
        yield TreeEntry(path, mode, second, third) if tree is None else TreeEntry(path, mode, third)


def plain_file(top: Path, tree: str, name: str) -> TreeEntry | None:
    """The file of a commit or tree with this path from ``top``; None for anything else, such as a link."""
    wanted = os.fsencode(name)
    files = (each for each in entries(top, tree, name) if each.mode in ("100644", "100755"))
    return next((each for each in files if each.path == wanted), None)


def changed_paths(root: Path, base: str, head: str) -> list[bytes]:
    """The paths of all files that differ between two commits (or trees)."""
    words = ("diff-tree", "-r", "--name-only", "-z", "--no-renames", "--end-of-options", base, head)
    return call.checked(root, *words).split(b"\0")[:-1]


def changed_ids(root: Path, base: str, head: str) -> Iterator[str]:
    """The ids of all files that differ between two commits (or trees), on both sides."""
    rows = call.checked(
        root, "diff-tree", "-r", "--raw", "-z", "--no-renames", "--no-abbrev", "--end-of-options", base, head
    ).split(b"\0")
    for row in rows[0::2]:  # the others are names
        if row:
            _, _, old, new, _ = row.decode("ascii").split(" ")
            yield from (old, new)


def sizes(root: Path, ids: Iterable[str]) -> dict[str, int]:
    """The size in bytes of each object that this clone has.

    Raises ``GitError``, also for an object that a partial clone lacks and git would fetch.
    """
    done = call.run(root, "cat-file", "--batch-check", stdin=_lines(ids))
    if done.code != 0 or call.not_fetched(done):
        raise call.failure(done)
    rows = (line.split(" ") for line in done.stdout.decode().splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) == 3}


def contents(root: Path, wanted: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """The bytes of each (id, size), in this order, read as they are taken. Raises ``GitError``."""
    for batch in _batches(wanted):
        output = call.checked(root, "cat-file", "--batch", stdin=_lines(name for name, _ in batch))
        start = 0
        for name, size in batch:
            header = f"{name} blob {size}\n".encode()
            if not output.startswith(header, start):
                raise GitError(f"git object {name[:12]} is not a file", "`git fsck` says what is wrong.")
            start += len(header) + size + 1
            yield output[start - size - 1 : start - 1]


def _batches(wanted: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    batch: list[tuple[str, int]] = []
    total = 0
    for name, size in wanted:
        if batch and total + size > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append((name, size))
        total += size
    if batch:
        yield batch


def _lines(ids: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in ids).encode()
