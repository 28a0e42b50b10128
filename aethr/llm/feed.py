"""Read a stream in a thread of its own, so that the reader can stop waiting whenever it wants.

A server that stalls, or drips, or never answers must not hold up a deadline or Ctrl-C, and a blocked
read cannot be interrupted from outside.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from aethr.llm.calls import Call, Chunk, Stream, Transport

SLICE_S = 0.2
"""The longest single wait: on Windows Ctrl-C is only noticed between two waits."""


class Feed:
    """The chunks of one call, read by a daemon thread."""

    def __init__(self, transport: Transport, call: Call) -> None:
        self._box: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._stream: Stream | None = None
        thread = threading.Thread(target=self._read, args=(transport, call), name="aethr-call", daemon=True)
        thread.start()

    def next(self, timeout_s: float) -> Chunk | None:
        """The next chunk, None at the end. Raises ``TimeoutError``, or what the transport raised."""
        ends_at = time.monotonic() + timeout_s
        while True:
            left = ends_at - time.monotonic()
            try:
                item = self._box.get(timeout=max(0.0, min(left, SLICE_S)))
            except queue.Empty:
                if left <= 0:
                    raise TimeoutError from None
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def close(self) -> None:
        """Hang up without waiting for the thread: it ends at its next byte or its socket's own limit."""
        self._closed.set()
        if self._stream is not None:
            self._stream.hang_up()

    def _read(self, transport: Transport, call: Call) -> None:
        try:
            self._stream = transport.open(call)
            with closing(self._stream.chunks()) as chunks:
                for chunk in chunks:
                    self._box.put(chunk)
                    if self._closed.is_set():
                        break
            self._box.put(None)
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: the reader's thread raises it
            self._box.put(error)


@contextmanager
def feeding(transport: Transport, call: Call) -> Iterator[Feed]:
    """A ``Feed`` that is hung up whatever happens in the block."""
    feed = Feed(transport, call)
    try:
        yield feed
    finally:
        feed.close()
