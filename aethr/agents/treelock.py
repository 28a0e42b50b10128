"""One agent at a time in one work tree: two would each be taken for the author of the other's edits."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aethr.errors import AgentError, DiskError


@contextmanager
def exclusive(top: Path) -> Iterator[None]:
    """Hold the lock of a work tree; the system frees it also when this process is killed.

    Raises ``AgentError``, which names the other process, and ``DiskError``. On a system without
    ``flock`` there is no lock.
    """
    lock = _lock(top)
    if lock is None:
        yield
        return
    held, path = lock
    try:
        os.truncate(held, 0)
        os.write(held, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


def _lock(top: Path) -> tuple[int, Path] | None:
    """The locked file, open, and its path; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    path = _path(top)
    while True:
        held = _open(path)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(held, 64).decode("ascii", "replace").strip()
            os.close(held)
            raise AgentError(
                f"{top}: another agent step is at work in this tree (process {owner or 'unknown'})",
                "Wait for it to end, or work in another clone or `git worktree`.",
            ) from error
        if _is_current(held, path):
            return held, path
        os.close(held)  # Its last holder removed the file between our two calls.


def _path(top: Path) -> Path:
    key = hashlib.sha256(os.fsencode(top.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"aethr-agent-{os.getuid()}-{key}.lock")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskError(
            f"{path}: cannot lock the work tree: {error.strerror or error}",
            "Remove that file, or name another folder in TMPDIR.",
        ) from error


def _is_current(held: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(held), path.lstat())
    return False
