"""Read files of the project, and no others: a path becomes bytes, or a refusal with its reason.

The files are those on disk, in the index, or in a commit.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeAlias

from aethr import git
from aethr.base.errors import GitError, GitMissingError, ProcessError
from aethr.base.records import Entry, FileText, Fragment, Gap, NamedFile, Piece, Scope, Survey, View
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import counted
from aethr.context.diffs import is_pointer
from aethr.context.paths import refusal
from aethr.git import tracking
from aethr.git.tracking import TreeEntry

MAX_BYTES = 10_000_000
"""A larger file is not read."""

BINARY_SNIFF = 8000
"""A NUL in this many first bytes means binary, as in git (``buffer_is_binary`` in its xdiff-interface.c)."""

POINTER = "a git-lfs pointer; the file itself is not shown"

LONGEST_CODE = 2_000_000
"""In bytes: a longer file is made by a program, and nobody looks for a line of it."""

ON_BASE = "@base"
"""Ends the argument of a ``file:`` that is read from the base side."""

WALK_ENTRIES = 100_000
WALK_SECONDS = 10.0
"""Bounds for listing a folder outside of any repository."""


class Refusal(NamedTuple):
    """Why a file is not read, in a few words; ``absent`` if there is no such file."""

    reason: str
    absent: bool = False


Wanted: TypeAlias = Callable[[str], object]
"""Whether a file with this name is wanted: something true or not."""


class Listing(NamedTuple):
    """Files relative to the root, sorted; ``cut`` if there were too many to list."""

    names: tuple[str, ...]
    cut: bool = False


class Tree(Protocol):
    """The files of a project: in the work tree, in the index, or in a commit."""

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """The bytes of each file, in this order, read lazily.

        Paths are relative to the root, with forward slashes.
        """

    def names(self, wanted: Wanted) -> Listing:
        """The wanted files, by their names relative to the root."""


class WorkTree(NamedTuple):
    """The files on disk below ``root``. ``walk_entries`` bounds ``names``, ``links`` says to follow links."""

    root: Path
    walk_entries: int = WALK_ENTRIES
    links: bool = True

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """See ``Tree``. A link is followed only to a path that a workflow may name itself."""
        return map(partial(_follow, self.root.resolve(), links=self.links), paths)

    def names(self, wanted: Wanted) -> Listing:
        """See ``Tree``. In a repository the files that git lists, else every file outside of ``.git``."""
        try:
            listed = tracking.files(self.root, wanted)
        except GitMissingError:
            listed = None
        return _walk(self.root, self.walk_entries, wanted) if listed is None else Listing(listed)


def _follow(root: Path, path: str, *, links: bool) -> bytes | Refusal:
    """The bytes of the file behind ``path``; ``root`` contains no links."""
    refused = refusal(path)
    if refused is not None:
        return Refusal(refused)
    try:
        real = (root / path).resolve(strict=True)
        if not real.is_relative_to(root):
            return Refusal("a link that leaves the project")
        inner = real.relative_to(root).as_posix()
        if inner != path and not links:
            return Refusal("a link")
        refused = None if inner in (".", path) else refusal(inner)
        return Refusal(f"a link to {refused}") if refused else _read(real)
    except FileNotFoundError:
        return Refusal("no such file", absent=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return Refusal(f"cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}")


def _read(real: Path) -> bytes | Refusal:
    """``O_NONBLOCK``: opening a FIFO must not hang. ``O_NOFOLLOW``: ``real`` must not have become a link."""
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
        if len(content) > status.st_size:  # it grows, or reports a wrong size, as in /proc
            content += file.read(MAX_BYTES)
    size = max(status.st_size, len(content))
    return content if size <= MAX_BYTES else too_large(size)


def too_large(size: int) -> Refusal:
    """The refusal of a file with this many bytes."""
    return Refusal(f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read")


def _walk(root: Path, most: int, wanted: Wanted) -> Listing:
    """Every wanted file below ``root``, within bounds. Links to folders and ``.git`` are not entered."""
    deadline = time.monotonic() + WALK_SECONDS
    names: list[str] = []
    folders, seen = [""], 0
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:  # unreadable, or deleted meanwhile
            continue
        for entry in entries:
            seen += 1
            if seen > most or time.monotonic() > deadline:
                return Listing(tuple(sorted(names)), cut=True)
            name = folder + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name.casefold() != ".git":
                    folders.append(f"{name}/")
            elif wanted(name):
                names.append(name)
    return Listing(tuple(sorted(names)))


LONGEST_NAME = 4096
"""In characters: PATH_MAX of Linux."""

ARGUMENTS = 100_000
"""Characters of names that git gets on its command line; POSIX has a limit. For more, it lists all files."""

LINK = "120000"
"""The mode of a symbolic link in git."""

_NO_FILE = {LINK: "a link; in a commit links are not followed", "160000": "a submodule"}


class GitTree(NamedTuple):
    """The files of the index or of a commit. ``entries`` maps a path, relative to ``root``, to its entry."""

    root: Path
    entries: Mapping[str, TreeEntry]

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """See ``Tree``. Links are not followed; contents are as in git's objects, without filters."""
        found = [self._find(path) for path in paths]
        sizes = tracking.sizes(self.root, {each.id for each in found if isinstance(each, TreeEntry)})
        checked: list[tuple[str, int] | Refusal] = []
        for each in found:
            size = 0 if isinstance(each, Refusal) else sizes.get(each.id)
            if isinstance(each, Refusal):
                checked.append(each)
            elif size is None:
                checked.append(Refusal("not in this clone"))
            else:
                checked.append((each.id, size) if size <= MAX_BYTES else too_large(size))
        contents = tracking.contents(self.root, [each for each in checked if not isinstance(each, Refusal)])
        for item in checked:
            yield item if isinstance(item, Refusal) else next(contents)

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


OUTLINE_LINES = 500
"""At most so many files and folders in an outline; if the top folder has more, they are counted."""

OUTLINE_ENTRIES = 100
"""A folder with more entries is not opened in an outline."""


def outline(names: Iterable[str]) -> list[str]:
    """A line for each of these files, sorted. Of a folder that is not opened, one line counts the files.

    Folders are opened from the top down, so that a large project is shown to an even depth.
    """
    entries: dict[str, list[str]] = {"": []}
    counts: Counter[str] = Counter()
    for name in names:
        folder = ""
        for part in name.split("/")[:-1]:
            below = f"{folder}{part}/"
            if below not in entries:
                entries[below] = []
                entries[folder].append(below)
            counts[below] += 1
            folder = below
        entries[folder].append(name)
    shown = {*entries[""]}
    closed = deque(filter(entries.__contains__, entries[""]))
    while closed:
        folder = closed.popleft()
        inside = entries[folder]
        if len(inside) <= OUTLINE_ENTRIES and len(shown) + len(inside) <= OUTLINE_LINES:
            shown.remove(folder)
            shown.update(inside)
            closed.extend(filter(entries.__contains__, inside))
    lines = [
        f"{reveal_name(each)} ({counted(counts[each], 'file')})" if each in entries else reveal_name(each)
        for each in sorted(shown)[:OUTLINE_LINES]
    ]
    more = len(shown) - len(lines)
    return [*lines, f"and {more:,} more"] if more else lines


def tree_of(view: View, *names: str) -> Tree:
    """The files for this scope: the index for ``staged``, the second commit of a range, else the disk.

    ``names`` are the only ones that will be read (default: all). Outside of a repository ``staged`` has no
    meaning and the files on disk are read. Raises ``GitError`` for a repository that git cannot read.
    """
    root, scope = view.root, view.scope
    known = view.survey.checkout if view.survey else None
    commit = scope.head if scope.kind == "range" else None
    if commit is None and not (scope.kind == "staged" and git.checkout_if_any(root, known)):
        return WorkTree(root)
    return git_tree(root, commit, *names)


def read_named(
    root: Path, folder: str, scope: Scope, survey: Survey | None, asked: Sequence[NamedFile]
) -> Iterator[FileText]:
    """Each of these files as the change leaves it; ``folder`` is the project's from the repository's top.

    A file that may not be read, is not text or is too long has no lines. Raises ``GitError``.
    """
    top = survey.top if survey else root
    names = [
        [each.path] if each.from_top or folder == "." else [f"{folder}/{each.path}", each.path]
        for each in asked
    ]
    on_disk, of_scope = (
        [name for each, own in zip(asked, names, strict=True) if each.on_disk is side for name in own]
        for side in (True, False)
    )
    disk = WorkTree(top, links=False)
    tree = tree_of(View(top, scope, survey=survey), *of_scope) if of_scope else disk
    contents = {
        True: disk.read(on_disk),
        False: (disk if isinstance(tree, WorkTree) else tree).read(of_scope),
    }
    for each, own in zip(asked, names, strict=True):
        read = [(name, next(contents[each.on_disk])) for name in own]
        there = (item for item in read if not (isinstance(item[1], Refusal) and item[1].absent))
        name, content = next(there, read[0])
        if isinstance(content, Refusal) or b"\0" in content[:BINARY_SNIFF] or len(content) > LONGEST_CODE:
            yield FileText(_plain(name))
        else:
            yield FileText(_plain(name), tuple(content.decode("utf-8", "replace").split("\n")))


def split_base(argument: str) -> tuple[str, bool]:
    """The path of a ``file:``, and whether it is that of the base side."""
    return argument.removesuffix(ON_BASE), argument.endswith(ON_BASE)


def git_tree(root: Path, commit: str | None, *names: str) -> GitTree:
    """The files of a commit (or tree), None for the index. ``names`` are as in ``tree_of``."""
    below = [_plain(name) for name in names if refusal(name) is None]
    if sum(map(len, below)) > ARGUMENTS:
        below = []
    return GitTree(root, {os.fsdecode(each.path): each for each in tracking.entries(root, commit, *below)})


def show(
    name: str, order: int, content: bytes | Refusal, *, labelled: bool = False, extra: bool = False
) -> Iterator[Fragment]:
    """A whole file as fragments, or the reason why it is not sent. ``extra`` is as in ``Entry``."""
    shown = reveal_name(name)
    if isinstance(content, Refusal):
        yield Entry(shown, order, withheld=content.reason, extra=extra)
        return
    withheld = "binary" if b"\0" in content[:BINARY_SNIFF] else None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text, withheld = "", withheld or "not UTF-8 text"
    if withheld:
        yield Entry(shown, order, withheld=withheld, extra=extra)
        yield Piece(None, len(content))
        return
    label = f"[file: {shown}, {len(text.splitlines()):,} lines]\n" if labelled else ""
    revealed, count = reveal(text)
    yield Entry(shown, order, label=label if text else f"[file: {shown}, empty]\n", extra=extra)
    yield Piece(revealed, len(content), revealed=count)
    if is_pointer(content):
        yield Gap(POINTER)


def holds(root: Path, survey: Survey | None, path: str) -> bool:
    """Whether the tree under review, or the work tree, has a file or a folder with this name.

    The name is relative to ``root``, or to the top of its repository. True if git cannot say.
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
        return any(any(tracking.entries(folder, survey.scope.head, path)) for folder in folders)
    except (GitError, ProcessError, OSError, ValueError):
        return True


def _plain(path: str) -> str:
    """Without ``./`` and double slashes, which a workflow may contain and git does not."""
    return PurePosixPath(path).as_posix()
