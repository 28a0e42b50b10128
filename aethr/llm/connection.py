"""HTTP connections of both transports: a lighter httpx, deadlines, hanging up.

A thread of its own reads a stream: a blocked read cannot be interrupted, and a server that stalls must not
delay a deadline or Ctrl-C.
"""

from __future__ import annotations

import functools
import importlib
import os
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aethr.base import network
from aethr.llm import Call, Chunk, Deadlines, Stream, Transport

if TYPE_CHECKING:
    import httpx


_UNUSED = ("httpx._main", "httpcore._sync.http2", "httpcore._async.http2")
"""httpx's command line (with click and rich) and HTTP/2: optional parts, and two thirds of its import."""
_LOADING = threading.Lock()


def load() -> ModuleType:
    """httpx, without its optional parts. Safe from any thread.

    The import of a module that is None in ``sys.modules`` fails, and httpx and httpcore then do without it.
    """
    with _LOADING:
        hidden = () if "httpcore" in sys.modules else [name for name in _UNUSED if name not in sys.modules]
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]
        try:
            importlib.import_module("httpcore")  # httpx itself would import it in the first call
            return importlib.import_module("httpx")
        finally:
            for name in hidden:
                del sys.modules[name]


def transport(verify: ssl.SSLContext | bool, **settings: Any) -> httpx.BaseTransport:
    """A transport for httpx that uses the proxy which the environment names for an address.

    ``settings`` are those of ``httpx.HTTPTransport``.
    """
    load()
    from aethr.llm.routed import Routed

    return Routed(verify, **settings)


@functools.cache
def trusted() -> ssl.SSLContext:
    """The trusted certificates: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's list (20 ms to read).

    Raises ``UsageError`` if the file or folder of the variable cannot be read.
    """
    network.check_certificates(os.environ)
    context: ssl.SSLContext = load().create_ssl_context()
    return context


def timeout(limits: Deadlines) -> httpx.Timeout:
    """The socket's limits, a little longer than ours, so that ours end a call."""
    made: httpx.Timeout = load().Timeout(limits.whole_s + 1.0, connect=limits.connect_s)
    return made


SLICE_S = 0.2
"""The longest single wait: on Windows, Python notices Ctrl-C only between two waits."""
WAITING = 1 << 16
"""Chunks that may wait for a slow reader; until it takes one, nothing more is read from the server."""


class Overdue(Exception):  # noqa: N818 - how a wait ended
    """The time of the call is over."""


class Silent(Exception):  # noqa: N818 - the same
    """The server has sent no byte for too long."""


class Feed:
    """The chunks of one call, read by a daemon thread; ``close`` it in any case.

    ``cancelled`` says that nobody waits for the answer any more.
    """

    def __init__(
        self, transport: Transport, call: Call, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._cancelled = cancelled
        self._box: queue.Queue[Chunk | BaseException | None] = queue.Queue(WAITING)
        self._closed = threading.Event()
        self._ended = threading.Event()
        self._stream: Stream | None = None
        self._alive_at = self._told_at = time.monotonic()
        thread = threading.Thread(target=self._read, args=(transport, call), name="aethr-call", daemon=True)
        thread.start()

    def next(self, left_s: float, silence_s: float) -> Chunk | None:
        """The next chunk; an empty one if bytes arrived without text; None at the end.

        Raises ``Overdue`` if the call is cancelled, and after ``left_s`` seconds, unless the answer has ended
        and only waits to be taken; ``Silent`` after ``silence_s`` seconds without a byte, or what the
        transport raised.
        """
        ends_at = time.monotonic() + left_s
        while True:
            now = time.monotonic()
            if self._cancelled() or (now >= ends_at and not self._ended.is_set()):
                raise Overdue
            try:
                item = self._box.get(timeout=max(0.0, min(ends_at - now, silence_s, SLICE_S)))
            except queue.Empty:
                if time.monotonic() - self._alive_at >= silence_s:
                    raise Silent from None
                if self._alive_at > self._told_at:
                    self._told_at = time.monotonic()
                    return Chunk()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def close(self) -> None:
        """Hang up without waiting for the thread: it ends at its next byte or its socket's timeout."""
        self._closed.set()
        if self._stream is not None:
            self._stream.hang_up()

    def _read(self, transport: Transport, call: Call) -> None:
        try:
            self._stream = transport.open(call, self._alive)
            with closing(self._stream.chunks()) as chunks:
                for chunk in chunks:
                    if chunk != Chunk():
                        self._put(chunk)
                    if self._closed.is_set():
                        break
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: the reader's thread raises it
            self._put(error)

    def _alive(self) -> None:
        self._alive_at = time.monotonic()

    def _put(self, item: Chunk | BaseException | None) -> None:
        """Wait for room. That time does not count as the server's silence."""
        if not isinstance(item, Chunk):
            self._ended.set()
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._box.put(item, timeout=SLICE_S)
                return
            self._alive()
