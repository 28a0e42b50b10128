"""Reports as files: ``--report PATH``, its suffix the format. Without any, no format is loaded."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base import disk
from aethr.base.errors import GitError, UsageError
from aethr.base.records import RunResult
from aethr.base.words import suggest
from aethr.git import tracking

_NOT_REPLACED = (errno.EBUSY, errno.EPERM, errno.EACCES)
"""A file that is mounted by itself, or in a folder of somebody else: it takes a text, and no other file."""


class Target(NamedTuple):
    """Where a report goes. ``followed`` is True for what is not a plain file: a link, a pipe, a device.

    That is decided before the run, so a link that appears meanwhile is replaced instead of followed.
    """

    path: Path
    followed: bool = False


def check(paths: Sequence[str]) -> tuple[Target, ...]:
    """Where the reports go. Refuses one that could not be written, before anything is paid for.

    Raises ``UsageError``.
    """
    return tuple(map(_target, paths))


def _target(name: str) -> Target:
    path = Path(name)
    _check_suffix(path)
    # With os.path: pathlib raises where one may not look.
    if os.path.isdir(path) or not os.path.isdir(path.parent):  # noqa: PTH112
        raise UsageError(f"--report {name}: not a file in a folder that exists", "Create the folder first.")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):  # noqa: PTH110
        raise UsageError(f"--report {name}: cannot be written", "Name a file in a folder that is yours.")
    if _is_led_out(path):
        raise UsageError(
            f"--report {name}: a link that git tracks leads it out of the repository",
            "Name the file itself: such a link may have come with the change.",
        )
    return Target(path, os.path.lexists(path) and _mode(path) is None)


def _is_led_out(path: Path) -> bool:
    """Whether a link of the repository, and not one of the user's own, takes the file somewhere else."""
    links = [each for each in (path.absolute(), *path.absolute().parents) if each.is_symlink()]
    try:
        checkouts = [(link, git.checkout(link.parent)) for link in links]
        tops = [here.top for link, here in checkouts if here and tracking.is_tracked(link.parent, link.name)]
    except GitError as error:
        raise UsageError(
            f"--report {path}: a link, and git cannot say whether it tracks it", str(error)
        ) from error
    return any(not _is_within(top.resolve(), Path(os.path.realpath(path))) for top in tops)


def _is_within(top: Path, real: Path) -> bool:
    return real.is_relative_to(top) and ".git" not in real.relative_to(top).parts


def _check_suffix(path: Path) -> None:
    from aethr.output.report import FORMATS

    if path.suffix not in FORMATS:
        known = " ".join(FORMATS)
        raise UsageError(
            f"--report {path}: no format '{path.suffix}'{suggest(path.suffix, FORMATS)}",
            f"The suffix chooses the format: {known}.",
        )


def write(targets: Iterable[Target], result: RunResult) -> None:
    """Write each report. Raises ``DiskError``."""
    from aethr.output.report import FORMATS

    for target in targets:
        text = FORMATS[target.path.suffix].render(result)
        with disk.failing_as(
            f"{target.path}: cannot write the report", "The answer is above; nothing was lost."
        ):
            if target.followed:
                _write_into(target.path, text, 0)
            else:
                _replace(target.path, text)


def _replace(path: Path, text: str) -> None:
    """In one step; a file that is there keeps its mode."""
    mode = _mode(path)
    try:
        disk.write(path, text, mode=mode)
    except OSError as error:
        if error.errno not in _NOT_REPLACED or mode is None:
            raise
        _write_into(path, text, getattr(os, "O_NOFOLLOW", 0))


def _mode(path: Path) -> int | None:
    """The permissions of a plain file; None where there is none."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def _write_into(path: Path, text: str, flags: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o666)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)
