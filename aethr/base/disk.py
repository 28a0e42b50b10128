"""Writes files: completely or not at all, and never through a link or file that somebody else made.

A text is written to a file with a random name beside its target, created with ``O_EXCL``, and renamed onto
it. So a link or a file that waits at a predictable name is neither followed nor taken over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aethr.base.errors import DiskError

State = tuple[int, ...]
"""The state of a file: device, inode, owner, size and time. The inode alone may be reused soon."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def failing_as(message: str, fix: str = "") -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``DiskError``: ``message`` and the system's reason."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{message}: {error.strerror or error}", fix) from error


def write(
    path: Path, text: str, *, mode: int | None = None, durable: bool = False, overwrite: bool = True
) -> State:
    """Put a file with this UTF-8 text at ``path`` in one step; a link there is replaced.

    Without ``mode``, the umask decides. ``durable``: on disk before this returns. Raises ``OSError``, and
    ``FileExistsError`` if anything is at ``path`` and ``overwrite`` is False; no other file is left then.
    """
    part = path.with_name(f".aethr-{os.urandom(8).hex()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                with suppress(OSError):  # a file system without modes
                    os.fchmod(handle, mode)
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            if durable:
                os.fsync(handle)
            left = _state(os.fstat(handle))
        if overwrite:
            part.replace(path)
        else:
            _publish(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return left


def append(path: Path, text: str, left: State) -> State | None:
    """Append to a file if it is still in the state ``left``: all of the text or nothing, durably.

    Returns None without writing if the file is gone or was changed, or if a link, a pipe or another file has
    taken its place. Raises ``OSError``.
    """
    try:  # O_NONBLOCK: do not wait for the reader of a pipe
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | _NO_LINK | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        if _is_at(path, left):
            raise
        return None
    with os.fdopen(handle, "wb", buffering=0) as file:
        status = os.fstat(handle)
        if _state(status) != left:
            return None
        try:
            rest = text.encode("utf-8", "replace")
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, status.st_size)
            raise
        return _state(os.fstat(handle))


def _publish(part: Path, path: Path) -> None:
    """Rename without replacing anything: ``os.link`` fails if the name is taken, a rename would not."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)
    else:
        part.unlink()


def _is_at(path: Path, left: State) -> bool:
    try:
        return _state(path.lstat()) == left
    except OSError:
        return False


def _state(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_uid, status.st_size, status.st_mtime_ns
