"""A YAML file that a person wrote, as text: a regular file, not too large, UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aethr.config.mistakes import visible
from aethr.errors import ConfigError

MAX_BYTES = 128 * 1024
"""The size of the largest file that is read."""

TOO_LARGE = f"larger than {MAX_BYTES // 1024} KiB; a few lines of YAML are expected"

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def shown(path: Path) -> str:
    """The path from the current folder where it lies below, as compilers print it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def read(path: Path, origin: str, absent: str) -> bytes:
    """At most one byte more than may be read; never waits for a FIFO, never reads a device.

    ``absent`` is said of a file that is not there. Raises ``ConfigError``.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_dir():
            raise unreadable(origin, "is a folder, not a file")
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise unreadable(origin, "is not a regular file")
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise unreadable(origin, absent) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        reason = getattr(error, "strerror", None) or error
        raise unreadable(origin, f"cannot be read: {visible(str(reason))}") from None


def decoded(content: bytes, origin: str) -> str:
    """UTF-8 only. What is no text is not shown: a link could have led to anything."""
    if len(content) > MAX_BYTES:
        raise unreadable(origin, TOO_LARGE)
    if content.startswith(_UTF16):
        raise unreadable(origin, "is UTF-16; save it as UTF-8")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise unreadable(f"{origin}:{line}", "holds a NUL byte; save it as UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise unreadable(f"{origin}:{line}", f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None


def unreadable(origin: str, reason: str) -> ConfigError:
    return ConfigError([f"{visible(origin)}: {reason}"])
