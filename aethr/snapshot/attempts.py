"""The tree from before an agent's first attempt, kept beside the checkpoint until the step is finished.

The checkpoint has the tree's id. The objects of the tree that the project's repository does not have are in a
folder beside the checkpoint: the next attempt's change is compared with them.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

LIMIT = 64 << 20
"""Bytes of objects that are kept, smallest first. If a dropped one is needed, edits cannot be shown."""

LOST = f"the files from before it are no longer here (up to {LIMIT >> 20} MiB are kept beside the checkpoint)"
"""Why a failed attempt's edits cannot be shown: git does not find the tree from before it."""

_BLOCK = 4096
"""The size of the smallest file on a disk, in bytes."""


def keep(checkpoint: Path, objects: Path) -> None:
    """Copy a folder of loose objects beside the checkpoint, replacing what was kept there before.

    An object that does not fit or cannot be written is dropped: only later is it known whether it is needed.
    """
    discard(checkpoint)
    loose = sorted((file.stat().st_size, file) for file in objects.glob("[0-9a-f][0-9a-f]/*"))
    if not loose:
        return
    folder, room = _folder(checkpoint), LIMIT
    with suppress(OSError):
        folder.mkdir(mode=0o700)  # never replaces anything
        for size, file in loose:
            room -= max(size, _BLOCK)
            if room < 0:
                break
            (folder / file.parent.name).mkdir(exist_ok=True)
            shutil.copyfile(file, folder / file.parent.name / file.name)


def find(checkpoint: Path) -> Path | None:
    """The folder beside a checkpoint; None if it does not exist, or belongs to another user."""
    folder = _folder(checkpoint)
    try:
        status = folder.lstat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return folder if stat.S_ISDIR(status.st_mode) and ours else None


def discard(checkpoint: Path) -> None:
    """Remove what was kept for a checkpoint, but nothing else in a folder of that name."""
    folder = find(checkpoint)
    if folder is None:
        return
    for each in folder.glob("[0-9a-f][0-9a-f]"):
        shutil.rmtree(each, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _folder(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.objects")
