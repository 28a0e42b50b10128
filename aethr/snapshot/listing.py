"""All that lies in a work tree, by name, and the state of what is in no record.

git records files, links and the commits of other repositories. What it ignores, what lies inside of other
repositories, FIFOs, sockets and devices have no content that could be shown; only that something of it
changed can be told: by size, times and inode. The time of a last change of status cannot be set by a program.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MOST = 1_000_000
"""Files of which names and states are held. Of a larger tree it is said that not all was looked at."""

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
"""Folders that package managers, test runners and compilers make again: installed packages and caches."""

TOOLS_FILES = (b".pyc", b".pyo", b".tsbuildinfo", b".swp", b".eslintcache", b".coverage", b".DS_Store")
"""Endings of the names of files that tools make again."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Walk(NamedTuple):
    """What lies below a folder; names are relative to it.

    ``files`` are files and links, ``special`` what is neither these nor a folder, with a word for it.
    ``repositories`` are folders with a repository in them, whose own folder ``.git`` is not looked into.
    ``closed`` is what cannot be read, and ``tools`` are folders of ``TOOLS_FOLDERS``: one number stands
    for the state of all that lies in one. ``whole`` is False where there is more than ``MOST``.
    """

    files: list[bytes]
    special: dict[bytes, str]
    repositories: set[bytes]
    closed: set[bytes]
    tools: dict[bytes, int]
    whole: bool = True


class Rest(NamedTuple):
    """What a record does not have: the state of each file, and of each folder of tools."""

    files: Mapping[bytes, int]
    tools: Mapping[bytes, int]


def walk(top: bytes, own: bytes, most: int = MOST) -> Walk:
    """List a folder, links not followed, without ``own``, a folder that may lie in it."""
    found = Walk([], {}, set(), set(), {})
    summed = 0
    stack = [b""]
    while stack:
        folder = stack.pop()
        try:
            inside = _listed(top, folder, found)
        except OSError:
            found.closed.add(folder)
            continue
        for entry in inside:
            name = folder + b"/" + entry.name if folder else entry.name
            if entry.name in TOOLS_FOLDERS:
                summed += _summed(top, name, found, most - summed)
            elif entry.path != own:
                stack.append(name)
        if len(found.files) + summed > most:
            return found._replace(whole=False)
    return found


def rest(top: bytes, found: Walk, recorded: Sequence[bytes]) -> Rest:
    """The state of all that was found and is not in ``recorded``, which is sorted."""
    known = set(recorded)
    names = [name for name in found.files if name not in known]
    tools = dict(found.tools)
    for folder in found.tools:
        inside = folder + b"/"
        at = bisect_left(recorded, inside)
        if at < len(recorded) and recorded[at].startswith(inside):  # git looks there: so does this
            del tools[folder]
            names += [name for name in _below(top, folder) if name not in known]
    names += [*found.special, *found.closed]
    return Rest({name: _state(top + b"/" + name) for name in names}, tools)


def older(top: bytes, found: Rest, than_ns: int) -> Rest:
    """What of ``found`` has kept its status since a time of the wall clock, in nanoseconds."""
    files = {name: state for name, state in found.files.items() if _changed_ns(top + b"/" + name) < than_ns}
    return Rest(files, found.tools)


def written(top: bytes, found: Walk, since_ns: int) -> list[bytes]:
    """The files whose status has changed since a time of the wall clock, in nanoseconds."""
    return [name for name in found.files if _changed_ns(top + b"/" + name) >= since_ns]


def _listed(top: bytes, folder: bytes, found: Walk) -> list[os.DirEntry[bytes]]:
    """Note what lies in a folder, and give the folders in it."""
    below = folder + b"/" if folder else b""
    with os.scandir(top + b"/" + folder) as listing:
        entries = [entry for entry in listing if folder or entry.name != b".git"]
    plain = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    found.files.extend([below + name for name in plain])
    if b".git" in plain:  # it names a repository elsewhere: a submodule, a worktree
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
            found.special[below + entry.name] = _kind(entry)
    return folders


def _kind(entry: os.DirEntry[bytes]) -> str:
    try:
        return _KINDS.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), "of an unknown kind")
    except OSError:
        return "gone again"


def _summed(top: bytes, folder: bytes, found: Walk, left: int) -> int:
    """Note one number for the state of all files below a folder, and give how many there are."""
    total, files = 0, 0
    for name in _below(top, folder):
        files += 1
        if files > left:
            break
        total ^= hash((name, _state(top + b"/" + name)))
    found.tools[folder] = total
    return files


def _below(top: bytes, folder: bytes) -> Iterator[bytes]:
    """The names of all that is no folder, relative to ``top``."""
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


def _changed_ns(path: bytes) -> int:
    try:
        return os.lstat(path).st_ctime_ns
    except OSError:
        return 0
