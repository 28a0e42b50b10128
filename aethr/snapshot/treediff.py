"""The difference of two records, for a reader: files, statistics and a diff of bounded size.

Runs on what is recorded and sees no work tree, so no attribute there changes what is shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from aethr import git
from aethr.base import process
from aethr.snapshot.shadow import TIMEOUT_S, Shadow, failed

DIFF_LIMIT = 10_000_000
"""Bytes of a diff; beyond it, whole files are only named."""

_FORMAT = (*git.PLAIN_DIFF, f"-O{os.devnull}")


class ChangedFile(NamedTuple):
    """A changed file: its name after the change, git's status letter, the ids before and after.

    ``binary`` is True where git does not show it as text.
    """

    path: bytes
    status: str
    old: str
    new: str
    binary: bool = False


class Patch(NamedTuple):
    """``sections`` are the diff, one a file (two where a file became a link).

    ``left_out`` are the files of whose content nothing is shown because the diff is too long.
    """

    stat: str = ""
    sections: tuple[bytes, ...] = ()
    left_out: tuple[ChangedFile, ...] = ()


def difference(shadow: Shadow, old: str, record: str) -> tuple[tuple[ChangedFile, ...], Patch]:
    """The files in which a record differs from a tree, in git's order, and how. Raises ``GitError``."""
    with ThreadPoolExecutor(1) as beside:
        text = beside.submit(
            _read, shadow, record, (*_diff(), "--patch-with-stat", "--stat=120", *_FORMAT, old)
        )
        files = _files(shadow, old, record)
    output, whole = text.result()
    stat, opening, rest = output.partition(b"\n\ndiff --git ")
    sections = _sections(b"diff --git " + rest if opening else b"")
    shown = stat.decode("utf-8", "replace").strip("\n")
    if whole:
        return files, Patch(shown, sections)
    kept = sections[:-1]
    # With a threshold of one byte git calls every file binary: the same sections, without content.
    named = _sections(shadow.object_git(*_diff(1), "--patch", *_FORMAT, old, index=record))
    return files, Patch(shown, kept + named[len(kept) :], _beyond(files, len(kept)))


def _files(shadow: Shadow, old: str, record: str) -> tuple[ChangedFile, ...]:
    output = shadow.object_git(*_diff(), "--raw", "--numstat", "-z", old, index=record)
    fields = iter(output.split(b"\0"))
    files: dict[bytes, ChangedFile] = {}
    for head in fields:
        if head.startswith(b":"):
            file = _raw(head, fields)
            files[file.path] = file
        elif head:
            added, _, path = head.split(b"\t", 2)
            if not path:
                _, path = next(fields), next(fields)
            if added == b"-":
                files[path] = files[path]._replace(binary=True)
    return tuple(files.values())


def sizes(shadow: Shadow, files: Sequence[ChangedFile]) -> tuple[tuple[str, str], ...]:
    """The sizes of each file before and after, in bytes; ``none`` where it does not exist."""
    ids = {side for file in files for side in (file.old, file.new) if side.strip("0")}
    if not ids:
        return ()
    asked = "".join(f"{each}\n" for each in sorted(ids)).encode()
    answers = shadow.object_git("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
    known = dict(line.split(" ", 1) for line in answers.decode().splitlines())
    return tuple((known.get(file.old, "none"), known.get(file.new, "none")) for file in files)


def _raw(head: bytes, fields: Iterator[bytes]) -> ChangedFile:
    _, _, before, after, status = head.decode().split(" ")
    path = next(fields)
    if status[0] in "RC":
        path = next(fields)
    return ChangedFile(path, status[0], before, after)


def _diff(big_file: int = DIFF_LIMIT) -> tuple[str, ...]:
    threshold = f"core.bigFileThreshold={big_file}"
    return ("-c", threshold, "diff-index", "--cached", "-M", "-l1000", "--full-index")


def _read(shadow: Shadow, record: str, args: Sequence[str]) -> tuple[bytes, bool]:
    """Output of git up to the limit, and whether that is all of it."""
    env = {**shadow.environment(), **shadow.recorded(record)}
    parts: list[bytes] = []
    size = 0
    argv = [shadow.program, *args]
    with process.stream(argv, cwd=shadow.plain, env=env, timeout_s=TIMEOUT_S) as child:
        for chunk in child.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > DIFF_LIMIT:
                return b"".join(parts), False
        done = child.finish()
    if done.code != 0:
        raise failed(done)
    return b"".join(parts), True


def _sections(patch: bytes) -> tuple[bytes, ...]:
    """One text a file: every line of content begins with a character of its own."""
    return tuple(re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE)[1:])


def _beyond(files: Sequence[ChangedFile], kept: int) -> tuple[ChangedFile, ...]:
    """The files after the first ``kept`` sections; a change of type takes two."""
    position = 0
    for number, file in enumerate(files):
        position += 2 if file.status == "T" else 1
        if position > kept:
            return tuple(files[number:])
    return ()
