"""The names of everything in a work tree, and the state of what is not in a record.

git records files, links and the commits of other repositories. The content of ignored files, of files in
other repositories, and of FIFOs, sockets and devices is not shown. Only whether they changed is known: by
size, times and inode. A program cannot set the time of the last status change (ctime).
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from aethr.snapshot.gitdir import changed_ns

MOST = 1_000_000
"""Files whose names and states are held. A larger tree is reported as not completely compared."""

TOOLS_FOLDERS = frozenset(
    {
        *(
            b"node_modules",
            b"bower_components",
            b".pnpm-store",
            b".next",
            b".nuxt",
            b".svelte-kit",
            b".turbo",
        ),
        *(b".parcel-cache", b".nyc_output", b"__pycache__", b".venv", b"venv", b".tox", b".nox", b".eggs"),
        *(
            b".pytest_cache",
            b".mypy_cache",
            b".ruff_cache",
            b".hypothesis",
            b"htmlcov",
            b".ipynb_checkpoints",
        ),
        *(b".gradle", b".dart_tool", b".terraform"),
    }
)
"""Folders that package managers, test runners and compilers regenerate: installed packages and caches."""

TOOLS_FILES = (b".pyc", b".pyo", b".tsbuildinfo", b".swp", b".eslintcache", b".coverage", b".DS_Store")
"""Suffixes of files that tools regenerate."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Walk(NamedTuple):
    """Everything below a folder; names are relative to it.

    ``files`` are files and links, ``special`` what is not a file, link or folder, with its kind.
    ``repositories`` are folders with a ``.git``, which is not looked into. ``closed`` cannot be read.
    ``tools`` are folders of ``TOOLS_FOLDERS``, each with one number for the state of all that is in it.
    ``complete`` is False if there are more than ``MOST`` files.
    """

    files: list[bytes]
    special: dict[bytes, str]
    repositories: set[bytes]
    closed: set[bytes]
    tools: dict[bytes, int]
    complete: bool = True


class Rest(NamedTuple):
    """The state of each file that is not in a record, and of each folder of tools.

    A state is a hash of integers: unlike that of text, it is the same in every process.
    """

    files: Mapping[bytes, int]
    tools: Mapping[bytes, int]


def walk(top: bytes, own: bytes, most: int = MOST) -> Walk:
    """List a folder without following links, and without ``own``, a folder that may be in it."""
    found = Walk([], {}, set(), set(), {})
    summed = 0
    stack = [b""]
    while stack:
        folder = stack.pop()
        try:
            inside = _scan(top, folder, found)
        except OSError:
            found.closed.add(folder)
            continue
        for entry in inside:
            name = folder + b"/" + entry.name if folder else entry.name
            if entry.name in TOOLS_FOLDERS:
                summed += _sum_up(top, name, found, most - summed)
            elif entry.path != own:
                stack.append(name)
        if len(found.files) + summed > most:
            return found._replace(complete=False)
    return found


def rest(top: bytes, found: Walk, recorded: Sequence[bytes]) -> Rest:
    """The state of everything that was found and is not in ``recorded``, which must be sorted."""
    known = set(recorded)
    names = [name for name in found.files if name not in known]
    tools = dict(found.tools)
    for folder in found.tools:
        inside = folder + b"/"
        at = bisect_left(recorded, inside)
        if at < len(recorded) and recorded[at].startswith(inside):  # git tracks files there, so compare each
            del tools[folder]
            names += [name for name in _below(top, folder) if name not in known]
    names += [*found.special, *found.closed]
    return Rest({name: _state(top + b"/" + name) for name in names}, tools)


def list_written(top: bytes, found: Walk, since_ns: int) -> list[bytes]:
    """The files changed since a time, in nanoseconds of the wall clock."""
    return [name for name in found.files if changed_ns(top + b"/" + name) >= since_ns]


def _scan(top: bytes, folder: bytes, found: Walk) -> list[os.DirEntry[bytes]]:
    """Add the content of a folder to ``found``, and return its subfolders."""
    below = folder + b"/" if folder else b""
    with os.scandir(top + b"/" + folder) as listing:
        entries = [entry for entry in listing if folder or entry.name != b".git"]
    plain = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    found.files.extend([below + name for name in plain])
    if b".git" in plain:  # a file that names a git directory elsewhere: a submodule, a worktree
        found.repositories.add(folder)
    folders = []
    for entry in entries if len(plain) < len(entries) else ():
        if entry.is_dir(follow_symlinks=False):
            if entry.name == b".git" and os.path.lexists(entry.path + b"/HEAD"):
                found.repositories.add(folder)
            else:
                folders.append(entry)
        elif entry.is_symlink():
            found.files.append(below + entry.name)
        elif not entry.is_file(follow_symlinks=False):
            kind = "gone again"
            with suppress(OSError):
                mode = entry.stat(follow_symlinks=False).st_mode
                kind = _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
            found.special[below + entry.name] = kind
    return folders


def _sum_up(top: bytes, folder: bytes, found: Walk, left: int) -> int:
    """Add one number for the state of all files below a folder to ``found``, and return their count."""
    total, files = 0, 0
    for name in _below(top, folder):
        files += 1
        if files > left:
            break
        total ^= hash((crc32(name), _state(top + b"/" + name)))
    found.tools[folder] = total
    return files


def _below(top: bytes, folder: bytes) -> Iterator[bytes]:
    """The names of everything that is not a folder, relative to ``top``."""
    stack = [folder]
    while stack:
        current = stack.pop()
        try:
            with os.scandir(top + b"/" + current) as entries:
                for entry in entries:
                    name = current + b"/" + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(name)
                    else:
                        yield name
        except OSError:
            yield current


def _state(path: bytes) -> int:
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return hash((found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
