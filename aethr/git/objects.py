"""Files from git's objects: what the index or a commit contains, independent of the work tree.

One call lists, one measures, and contents come in batches of bounded size. ``with_new_files`` makes a copy of
the index that also lists every new file: the repository's own index is only read, and no object is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aethr.base.errors import DiskError, GitError
from aethr.git import call

_OWN = {"core.splitIndex": "false", "core.untrackedCache": "false"}
"""Otherwise git writes a part of the copy into the repository's folder."""


@contextmanager
def with_new_files(top: Path, options: Sequence[str]) -> Iterator[Path]:
    """The path of the copy, which is deleted after the block. Raises ``GitError``, ``DiskError``.

    ``options`` switch off the filters of the repository: to write an index, git reads every file again that
    is as new as its entry (https://git-scm.com/docs/racy-git).
    """
    listed = call.checked(top, "ls-files", "-z", "--others", "--exclude-standard")
    names = [name for name in listed.split(b"\0") if name]
    own = top / os.fsdecode(call.checked(top, "rev-parse", "--git-path", "index").removesuffix(b"\n"))
    try:
        folder = tempfile.TemporaryDirectory(prefix="aethr-index-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DiskError(f"no room for a copy of git's index: {error.strerror}", "Is TMPDIR full?") from error
    with folder as name:
        index = Path(name, "index")
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


BATCH_BYTES = 10_000_000
"""About how much content one call returns; a larger object comes alone."""

_LITERAL = "--literal-pathspecs"


class TreeEntry(NamedTuple):
    """A file as git lists it. ``mode`` is octal text: ``120000`` a link, ``160000`` a submodule.

    ``stage`` is ``0``, or which side of a conflict this is.
    """

    path: bytes
    mode: str
    id: str
    stage: str = "0"


def index_entries(folder: Path, below: str = ".") -> Iterator[TreeEntry]:
    """The entries of the index at or below a path of ``folder``; their paths are relative to ``folder``."""
    listed = call.checked(folder, _LITERAL, "ls-files", "-z", "--stage", "--", below)
    for head, path in _rows(listed):
        mode, name, stage = head
        yield TreeEntry(path, mode, name, stage)


def tree_entries(folder: Path, tree: str, below: str = ".") -> Iterator[TreeEntry]:
    """The same from a commit or tree, by its id."""
    listed = call.checked(folder, _LITERAL, "ls-tree", "-r", "-z", "--end-of-options", tree, "--", below)
    for head, path in _rows(listed):
        mode, _kind, name = head
        yield TreeEntry(path, mode, name)


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


def _rows(listed: bytes) -> Iterator[tuple[list[str], bytes]]:
    for row in listed.split(b"\0"):
        if row:
            head, _, path = row.partition(b"\t")
            yield head.decode().split(" "), path


def _lines(ids: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in ids).encode()
