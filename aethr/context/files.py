"""Reading files of the project, and nothing else: a path becomes bytes or a refusal with its reason.

From the disk, or out of git's objects: of the index or of a commit, never of the work tree then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeAlias

from aethr import git
from aethr.base.errors import GitError, GitMissingError, ProcessError
from aethr.base.records import Survey, View
from aethr.context.paths import refusal
from aethr.git import objects, tracking
from aethr.git.objects import TreeEntry

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
            listed = tracking.files(self.root, wanted)
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


LONGEST_NAME = 4096
"""In characters; a file system takes no more."""

_NO_FILE = {"120000": "a link; in a commit links are not followed", "160000": "a submodule"}


class GitTree(NamedTuple):
    """The files of the index or of a commit. ``entries`` maps a path, relative to ``root``, to its entry."""

    root: Path
    entries: Mapping[str, TreeEntry]

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """See ``Tree``. Links are not followed; what git has as an object is given as it is there."""
        found = [self._find(path) for path in paths]
        sizes = objects.sizes(self.root, {each.id for each in found if isinstance(each, TreeEntry)})
        checked = [_measured(each, sizes) for each in found]
        given = objects.contents(self.root, [each for each in checked if not isinstance(each, Refusal)])
        for each in checked:
            yield each if isinstance(each, Refusal) else next(given)

    def names(self, wanted: Wanted) -> Listing:
        """See ``Tree``."""
        return Listing(tuple(sorted(filter(wanted, self.entries))))

    def _find(self, path: str) -> TreeEntry | Refusal:
        refused = refusal(path)
        if refused is not None:
            return Refusal(refused)
        plain = _plain(path)
        entry = self.entries.get(plain)
        if entry is None:
            below = "" if plain == "." else f"{plain}/"
            folder = any(name.startswith(below) for name in self.entries)
            return Refusal("a folder" if folder else "no such file", absent=True)
        if entry.stage != "0":
            return Refusal("unmerged")
        reason = _NO_FILE.get(entry.mode)
        return entry if reason is None else Refusal(reason)


def tree_of(view: View, path: str | None = None) -> Tree:
    """Where a run of this scope reads files: beside a staged change the index, beside a range its head.

    ``path`` is the only one that will be read, None for all. Where there is no repository, staging
    means nothing and the files on disk are read. Raises ``GitError`` for one that git cannot read.
    """
    root, scope = view.root, view.scope
    below = "." if path is None or refusal(path) else _plain(path)
    if scope.kind == "range" and scope.head is not None:
        return GitTree(root, _by_path(objects.tree_entries(root, scope.head, below)))
    known = view.survey.checkout if view.survey else None
    if scope.kind == "staged" and git.checkout_if_any(root, known):
        return GitTree(root, _by_path(objects.index_entries(root, below)))
    return WorkTree(root)


def holds(root: Path, survey: Survey | None, path: str) -> bool:
    """Whether the tree under review, or the work tree, has a file or a folder of this name.

    The name is relative to ``root``, or to the top of its repository. True where git cannot say.
    """
    plain = PurePosixPath(path)
    if not path or "\0" in path or plain.is_absolute() or ".." in plain.parts or len(path) > LONGEST_NAME:
        return False
    try:
        folders = {root, survey.top} if survey else {root}
        if any(os.path.lexists(folder / path) for folder in folders):
            return True
        if survey is None or survey.scope.reads_disk:
            return False
        if head := survey.scope.head:
            return any(any(objects.tree_entries(folder, head, path)) for folder in folders)
        return any(any(objects.index_entries(folder, path)) for folder in folders)
    except (GitError, ProcessError, OSError, ValueError):
        return True


def _measured(found: TreeEntry | Refusal, sizes: Mapping[str, int]) -> tuple[str, int] | Refusal:
    if isinstance(found, Refusal):
        return found
    size = sizes.get(found.id)
    if size is None:
        return Refusal("not in this clone")
    return (found.id, size) if size <= MAX_BYTES else too_large(size)


def _by_path(entries: Iterator[TreeEntry]) -> dict[str, TreeEntry]:
    return {os.fsdecode(entry.path): entry for entry in entries}


def _plain(path: str) -> str:
    """Without the ``./`` and doubled slashes that a workflow may have and git does not."""
    return PurePosixPath(path).as_posix()
