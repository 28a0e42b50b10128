"""The files of a case, which may come from anybody: read into memory, and none from outside of the case."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from aethr.base.errors import ConfigError, GitError
from aethr.config.mistakes import visible
from aethr.git import building
from aethr.git.building import Blob, Tree

MOST_FILES = 2000
MOST_BYTES = 16 << 20


def read(top: Path, origin: Path | None = None) -> Tree:
    """The files below a folder, which messages call ``origin``. Raises ``ConfigError`` with every mistake."""
    origin = origin or top
    if top.is_symlink() or not top.is_dir():
        said = "is a link, not a folder" if top.is_symlink() else "no such folder"
        raise ConfigError([f"{shown(origin)}: {said}"])
    tree: dict[str, Blob] = {}
    mistakes: list[str] = []
    size = 0
    for path in _walk(top):
        name = path.relative_to(top).as_posix()
        try:
            if problem := building.check_name(name) or _find_problem(path, top):
                mistakes.append(f"{shown(origin / name)}: {problem}")
                continue
            if len(tree) == MOST_FILES or (size := size + path.lstat().st_size) > MOST_BYTES:
                most = f"{MOST_FILES:,} files and {MOST_BYTES >> 20} MiB"
                mistakes.append(f"{shown(origin)}: too large: a case has at most {most} on each side")
                break
            tree[name] = _read_file(path)
        except OSError as error:
            mistakes.append(f"{shown(origin / name)}: cannot be read: {error.strerror}")
    if mistakes:
        raise ConfigError(mistakes)
    return tree


def patch(base: Tree, file: Path) -> Tree:
    """The files of ``base`` with the patch in a file applied to them. Raises ``ConfigError``."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise ConfigError([f"{shown(file)}: is not a regular file"])
    if file.stat().st_size > MOST_BYTES:
        raise ConfigError([f"{shown(file)}: larger than {MOST_BYTES >> 20} MiB"])
    try:
        with building.applied(base, file.read_bytes()) as folder:
            return read(folder, file)
    except (GitError, OSError) as error:
        raise ConfigError([f"{shown(file)}: does not apply to base/: {visible(str(error))}"]) from error


def shown(path: Path) -> str:
    """A path in a message: relative to the current folder if it is inside, on one line."""
    inside = path.is_relative_to(Path.cwd())
    return visible(str(path.relative_to(Path.cwd()) if inside else path))


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not a folder, sorted, without bytecode; no link is followed."""
    with os.scandir(folder) as found:
        # pip compiles every .py of a wheel, also those of the cases; and so does running a case's code.
        entries = sorted((each for each in found if each.name != "__pycache__"), key=lambda each: each.name)
    for entry in entries:
        path = folder / entry.name
        if not entry.is_dir(follow_symlinks=False) or building.check_name(entry.name):
            yield path
        else:
            yield from _walk(path)


def _find_problem(path: Path, top: Path) -> str:
    """Why a case cannot have this file; empty if it can."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return ""
    if not stat.S_ISLNK(mode):
        return "is not a regular file"
    target = str(path.readlink())
    # With os.path: pathlib raises for a loop of links.
    real, home = os.path.realpath(path), os.path.realpath(top)
    if os.path.isabs(target) or os.path.commonpath([real, home]) != home:  # noqa: PTH117
        return "is a link that leaves the case"
    return building.check_name(target)


def _read_file(path: Path) -> Blob:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Blob("120000", os.fsencode(path.readlink()))
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        return Blob("100755" if status.st_mode & stat.S_IXUSR else "100644", file.read(MOST_BYTES))
