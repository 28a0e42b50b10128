"""Reading files of the project, and nothing else: a path becomes bytes or a refusal with its reason.

Here from the disk; ``context.objects`` has the same for the index and for commits.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from aethr import git
from aethr.context.paths import refusal
from aethr.errors import GitMissingError

MAX_BYTES = 10_000_000
"""A larger file is not read."""

WALK_ENTRIES = 100_000
WALK_SECONDS = 10.0
"""Where the listing of a folder outside of any repository stops."""


class Refusal(NamedTuple):
    """Why a file's bytes are not given, in a few words; ``absent`` when there is no file to give."""

    reason: str
    absent: bool = False


Wanted: TypeAlias = Callable[[str], object]
"""Whether a file is wanted, by its name: something true or not."""


class Listing(NamedTuple):
    """Files relative to the root, sorted; ``cut`` when there were too many to list."""

    names: tuple[str, ...]
    cut: bool = False


class Tree(Protocol):
    """The files of a project at some moment: in the work tree now, in the index, or in a commit."""

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """The bytes of each file, in this order and only as they are taken.

        Paths are relative to the root, with forward slashes.
        """

    def names(self, wanted: Wanted) -> Listing:
        """The files that are wanted, by their names relative to the root."""


class WorkTree(NamedTuple):
    """The files on disk below ``root``, as they are now. ``walk_entries`` bounds ``names``."""

    root: Path
    walk_entries: int = WALK_ENTRIES

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """See ``Tree``. Links are followed only to places that could be named themselves."""
        return map(partial(_follow, self.root.resolve()), paths)

    def names(self, wanted: Wanted) -> Listing:
        """See ``Tree``. In a repository as git lists them, else every file below the root but ``.git``."""
        try:
            listed = git.files(self.root, wanted)
        except GitMissingError:
            listed = None
        return _walk(self.root, self.walk_entries, wanted) if listed is None else Listing(listed)


def _follow(root: Path, path: str) -> bytes | Refusal:
    """The bytes of what ``path`` leads to; ``root`` has no links in it."""
    refused = refusal(path)
    if refused is not None:
        return Refusal(refused)
    try:
        real = (root / path).resolve(strict=True)
        leads = _refused_target(root, real, path)
        return _read(real) if leads is None else Refusal(leads)
    except FileNotFoundError:
        return Refusal("no such file", absent=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return Refusal(f"cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}")


def _refused_target(root: Path, real: Path, path: str) -> str | None:
    if not real.is_relative_to(root):
        return "a link that leaves the project"
    inner = real.relative_to(root).as_posix()
    reason = None if inner in (".", path) else refusal(inner)
    return f"a link to {reason}" if reason else None


def _read(real: Path) -> bytes | Refusal:
    """``O_NONBLOCK`` so that a FIFO cannot hang the open, ``O_NOFOLLOW`` because ``real`` is no link."""
    flags = (
        os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    )
    mode = real.stat().st_mode
    if stat.S_ISDIR(mode):
        return Refusal("a folder", absent=True)
    if not stat.S_ISREG(mode):
        return Refusal("not a regular file")
    with os.fdopen(os.open(real, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return Refusal("not a regular file")
        content = b"" if status.st_size > MAX_BYTES else file.read(status.st_size + 1)
        if len(content) > status.st_size:  # it grows, or does not tell its size
            content += file.read(MAX_BYTES)
    size = max(status.st_size, len(content))
    return content if size <= MAX_BYTES else too_large(size)


def too_large(size: int) -> Refusal:
    """Why a file of so many bytes is not read."""
    return Refusal(f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read")


def _walk(root: Path, most: int, wanted: Wanted) -> Listing:
    """Every wanted file below ``root``. Links to folders are not entered, nor is ``.git``; bounded."""
    deadline = time.monotonic() + WALK_SECONDS
    names: list[str] = []
    for seen, (name, is_file) in enumerate(_entries(root)):
        if seen >= most or time.monotonic() > deadline:
            return Listing(tuple(sorted(names)), cut=True)
        if is_file and wanted(name):
            names.append(name)
    return Listing(tuple(sorted(names)))


def _entries(root: Path) -> Iterator[tuple[str, bool]]:
    """Each entry once, in a fixed order: its name relative to ``root``, and whether it is no folder."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:  # unreadable, or gone meanwhile
            continue
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            yield folder + entry.name, not is_folder
            if is_folder and entry.name.casefold() != ".git":
                folders.append(f"{folder}{entry.name}/")
