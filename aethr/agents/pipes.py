"""Reading a running program's two outputs line by line, with a deadline and in bounded memory."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from aethr.errors import ProcessError

LINE_LIMIT = 16 << 20
"""Bytes; a longer line is left out whole."""

DRAIN_S = 1.0
"""Seconds in which what is still in the pipes is read after the program has ended."""

_POLL_S = 0.1
_CHUNK = 1 << 16


class Line(NamedTuple):
    """One line without its newline; ``error`` is True for standard error."""

    text: bytes
    error: bool


@dataclass(slots=True)
class _Splitter:
    error: bool
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that ``chunk`` completes; an empty chunk is the end and completes the last one."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._hold(piece)
            yield from self._flush()
        self._hold(rest)
        if not chunk and self.size:
            yield from self._flush()

    def _hold(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= LINE_LIMIT:
            self.parts.append(piece)

    def _flush(self) -> Iterator[Line]:
        if self.size <= LINE_LIMIT:
            yield Line(b"".join(self.parts).rstrip(b"\r"), self.error)
        self.parts, self.size = [], 0


def lines(child: subprocess.Popen[bytes], timeout_s: float, ended: Callable[[], object]) -> Iterator[Line]:
    """The lines of both outputs as they come, until both are closed or the program has ended.

    ``ended`` is called once the program itself has ended: orphans may hold its pipes open for ever, so
    reading goes on for ``DRAIN_S`` at most after it. Raises ``ProcessError`` after ``timeout_s`` seconds.
    """
    deadline, draining = time.monotonic() + timeout_s, False
    with selectors.DefaultSelector() as selector:
        for pipe, error in ((child.stdout, False), (child.stderr, True)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, _Splitter(error))
        while selector.get_map() or child.poll() is None:
            if (left := deadline - time.monotonic()) <= 0:
                if draining:
                    break
                raise ProcessError(f"no end after {timeout_s:g} s")
            yield from _ready(child, selector, min(left, _POLL_S))
            if not draining and child.poll() is not None:
                ended()
                deadline, draining = time.monotonic() + DRAIN_S, True
        if not draining:
            ended()
        for key in list(selector.get_map().values()):
            yield from key.data.feed(b"")


def _ready(child: subprocess.Popen[bytes], selector: selectors.BaseSelector, wait_s: float) -> Iterator[Line]:
    """Read once from each pipe that has something; wait ``wait_s`` at most for that, or for the end."""
    if not selector.get_map():
        with suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
    for key, _ in selector.select(wait_s) if selector.get_map() else ():
        chunk = os.read(key.fd, _CHUNK)
        yield from key.data.feed(chunk)
        if not chunk:
            selector.unregister(key.fileobj)
