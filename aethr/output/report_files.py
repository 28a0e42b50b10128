"""Reports as files: ``--report PATH``, whose suffix is the format. Formats are loaded when first needed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base import disk
from aethr.base.errors import GitError, UsageError
from aethr.base.records import RunResult
from aethr.base.words import suggest
from aethr.git import tracking

_NOT_REPLACED = (errno.EBUSY, errno.EPERM, errno.EACCES)
"""A file that is a mount point, or in a folder of another user, can be written but not replaced."""


class Target(NamedTuple):
    """Where a report goes. ``followed`` is True if that is a link, a pipe or a device.

    This is decided before the run, so that a link that appears during it is replaced, not followed.
    """

    path: Path
    followed: bool = False


def check(paths: Sequence[str], formats: Collection[str] = ()) -> tuple[Target, ...]:
    """Where the reports go. Raises ``UsageError`` for one that cannot be written, before the run costs.

    ``formats`` are the suffixes that choose one (default: those of a run).
    """
    if not paths:
        return ()
    if not formats:
        from aethr.output.report import FORMATS

        formats = FORMATS
    for name, path in zip(paths, map(Path, paths), strict=True):
        if path.suffix not in formats:
            raise UsageError(
                f"--report {path}: no format '{path.suffix}'{suggest(path.suffix, formats)}",
                f"The suffix chooses the format: {' '.join(formats)}.",
            )
        # os.path instead of pathlib, which raises for a folder that may not be read.
        if os.path.isdir(path) or not os.path.isdir(path.parent):  # noqa: PTH112
            raise UsageError(
                f"--report {name}: not a file in a folder that exists", "Create the folder first."
            )
        if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):  # noqa: PTH110
            raise UsageError(f"--report {name}: cannot be written", "Name a file in a folder that is yours.")
        if _leaves_repository(path):
            raise UsageError(
                f"--report {name}: a link that git tracks leads it out of the repository",
                "Name the file itself: such a link may have come with the change.",
            )
    return tuple(Target(path, os.path.lexists(path) and _mode(path) is None) for path in map(Path, paths))


def _leaves_repository(path: Path) -> bool:
    """Whether a link that git tracks leads out of its repository. The user's own links may do so."""
    links = [each for each in (path.absolute(), *path.absolute().parents) if each.is_symlink()]
    try:
        checkouts = [(link, git.checkout(link.parent)) for link in links]
        tops = [here.top for link, here in checkouts if here and tracking.is_tracked(link.parent, link.name)]
    except GitError as error:
        raise UsageError(
            f"--report {path}: a link, and git cannot say whether it tracks it", str(error)
        ) from error
    real = Path(os.path.realpath(path))
    return any(
        not real.is_relative_to(top) or ".git" in real.relative_to(top).parts
        for top in (each.resolve() for each in tops)
    )


def write(targets: Sequence[Target], result: RunResult) -> None:
    """Write each report of a run. Raises ``DiskError``."""
    if not targets:
        return
    from aethr.output.report import FORMATS

    write_texts(targets, lambda suffix: FORMATS[suffix].render(result))


def write_texts(targets: Sequence[Target], render: Callable[[str], str]) -> None:
    """Write what ``render`` makes for each suffix; a file that exists is replaced in one step, with its mode.

    Raises ``DiskError``.
    """
    for path, followed in targets:
        text = render(path.suffix)
        with disk.failing_as(f"{path}: cannot write the report", "The answer is above; nothing was lost."):
            if followed:
                _write_into(path, text, 0)
                continue
            mode = _mode(path)
            try:
                disk.write(path, text, mode=mode)
            except OSError as error:
                if error.errno not in _NOT_REPLACED or mode is None:
                    raise
                _write_into(path, text, getattr(os, "O_NOFOLLOW", 0))


def _mode(path: Path) -> int | None:
    """The permissions of a regular file; None for anything else."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def _write_into(path: Path, text: str, flags: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o666)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)
