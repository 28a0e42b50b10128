"""The difference of two records: files, statistics and a diff of limited size.

git reads only what is recorded, not the work tree, so no attribute in the tree changes the diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from aethr import git
from aethr.base import process
from aethr.snapshot.shadow import TIMEOUT_S, Shadow, output

DIFF_LIMIT = 10_000_000
"""Bytes of a diff; files beyond it are only named."""

_FORMAT = (*git.PLAIN_DIFF, f"-O{os.devnull}")


class ChangedFile(NamedTuple):
    """A changed file: its name after the change, git's status letter, the ids before and after.

    ``binary`` is True if git does not show it as text.
    """

    path: bytes
    status: str
    old: str
    new: str
    binary: bool = False


class Patch(NamedTuple):
    """``sections`` are the diff, one per file (two if a file became a link).

    ``excluded`` are the files whose content is not shown because the diff is too long.
    """

    stat: str = ""
    sections: tuple[bytes, ...] = ()
    excluded: tuple[ChangedFile, ...] = ()


def difference(shadow: Shadow, old: str, record: str) -> tuple[tuple[ChangedFile, ...], Patch]:
    """The files that differ between a tree and a record, in git's order, and a diff. Raises ``GitError``."""
    with ThreadPoolExecutor(1) as beside:
        text = beside.submit(
            _read, shadow, record, (*_diff(), "--patch-with-stat", "--stat=120", *_FORMAT, old)
        )
        files = _files(shadow, old, record)
    printed, complete = text.result()
    stat, opening, rest = printed.partition(b"\n\ndiff --git ")
    sections = _sections(b"diff --git " + rest if opening else b"")
    shown = stat.decode("utf-8", "replace").strip("\n")
    if complete:
        return files, Patch(shown, sections)
    kept = sections[:-1]
    # With a threshold of one byte git treats every file as binary: the same sections, without content.
    named = _sections(shadow.object_git(*_diff(1), "--patch", *_FORMAT, old, index=record))
    whole_files, position = 0, 0
    for file in files:
        position += 2 if file.status == "T" else 1  # a change of type has two sections
        whole_files += position <= len(kept)
    return files, Patch(shown, kept + named[len(kept) :], files[whole_files:])


def _files(shadow: Shadow, old: str, record: str) -> tuple[ChangedFile, ...]:
    printed = shadow.object_git(*_diff(), "--raw", "--numstat", "-z", old, index=record)
    fields = iter(printed.split(b"\0"))
    files: dict[bytes, ChangedFile] = {}
    for head in fields:
        if head.startswith(b":"):
            _, _, before, after, status = head.decode().split(" ")
            path = next(fields)
            if status[0] in "RC":
                path = next(fields)
            files[path] = ChangedFile(path, status[0], before, after)
        elif head:
            added, _, path = head.split(b"\t", 2)
            if not path:
                _, path = next(fields), next(fields)
            if added == b"-":
                files[path] = files[path]._replace(binary=True)
    return tuple(files.values())


def sizes(shadow: Shadow, files: Sequence[ChangedFile]) -> tuple[tuple[str, str], ...]:
    """The sizes of each file before and after, in bytes; ``none`` if it does not exist."""
    ids = {side for file in files for side in (file.old, file.new) if side.strip("0")}
    if not ids:
        return ()
    asked = "".join(f"{each}\n" for each in sorted(ids)).encode()
    answers = shadow.object_git("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
    known = dict(line.split(" ", 1) for line in answers.decode().splitlines())
    return tuple((known.get(file.old, "none"), known.get(file.new, "none")) for file in files)


def _diff(big_file: int = DIFF_LIMIT) -> tuple[str, ...]:
    threshold = f"core.bigFileThreshold={big_file}"
    return ("-c", threshold, "diff-index", "--cached", "-M", "-l1000", "--full-index")


def _read(shadow: Shadow, record: str, args: Sequence[str]) -> tuple[bytes, bool]:
    """The output of git up to the limit, and whether it is complete."""
    env = {**shadow.environment(), **shadow.recorded(record)}
    parts: list[bytes] = []
    size = 0
    with process.stream(shadow.command(*args), cwd=shadow.plain, env=env, timeout_s=TIMEOUT_S) as child:
        for chunk in child.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > DIFF_LIMIT:
                return b"".join(parts), False
        output(child.finish())
    return b"".join(parts), True


def _sections(patch: bytes) -> tuple[bytes, ...]:
    """One text per file. A line of content cannot look like a header: it begins with a space, + or -."""
    return tuple(re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE)[1:])
