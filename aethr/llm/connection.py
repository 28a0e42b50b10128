"""HTTP connections of both transports: httpx without what it need not import, deadlines, hanging up.

A stream is read in a thread of its own: a server that stalls must not hold up a deadline or Ctrl-C, and a
blocked read cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import queue
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
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
    """httpx. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    """While ``sys.modules`` has None for a module its import fails; httpx then does without it."""
    hidden = () if "httpcore" in sys.modules else [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        importlib.import_module("httpcore")  # httpx itself would put it off to the first call
        return importlib.import_module("httpx")
    finally:
        for name in hidden:
            del sys.modules[name]


def transport(verify: ssl.SSLContext | bool, **settings: Any) -> httpx.BaseTransport:
    """What a client sends by: directly, or by the proxy that the environment names for the address.

    ``settings`` are those of ``httpx.HTTPTransport``.
    """
    load()
    # DROPPED-IMPORT

    from aethr.llm.routed import Routed

    return Routed(verify, **settings)


@functools.cache
def trusted() -> ssl.SSLContext:
    """Whom to trust: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's list. It takes 20 ms to read.

    Raises ``UsageError`` where the variable names nothing that can be read.
    """
    network.check_certificates(os.environ)
    context: ssl.SSLContext = load().create_ssl_context()
    return context


def timeout(limits: Deadlines) -> httpx.Timeout:
    """The socket's own limits: a little more than ours, so that ours are the ones that end a call."""
    made: httpx.Timeout = load().Timeout(limits.whole_s + 1.0, connect=limits.connect_s)
    return made


def hang_up(response: Any) -> None:
    """Shut the socket of an unfinished response down: that wakes a reader in it, closing would not."""
    network = getattr(response, "extensions", {}).get("network_stream")
    sock = network.get_extra_info("socket") if network is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


SLICE_S = 0.2
"""The longest single wait: on Windows Ctrl-C is only noticed between two waits."""
WAITING = 1 << 16
"""Chunks that wait for a slow reader. When there are more the server is not read from either."""


class Overdue(Exception):  # noqa: N818 - how a wait ended, and its name in ``Feed.next``
    """The time of the whole call is over."""


class Silent(Exception):  # noqa: N818 - the same
    """No byte has come for too long."""


class Feed:
    """The chunks of one call, read by a daemon thread."""

    def __init__(self, transport: Transport, call: Call) -> None:
        self._box: queue.Queue[Chunk | BaseException | None] = queue.Queue(WAITING)
        self._closed = threading.Event()
        self._ended = threading.Event()
        self._stream: Stream | None = None
        self._alive_at = self._told_at = time.monotonic()
        thread = threading.Thread(target=self._read, args=(transport, call), name="aethr-call", daemon=True)
        thread.start()

    def next(self, left_s: float, silence_s: float) -> Chunk | None:
        """The next chunk, an empty one for a sign of life alone, None at the end.

        Raises ``Overdue`` after ``left_s``, however much has come, unless the answer is over and only waits
        to be taken; ``Silent`` when no byte has come for ``silence_s``; or what the transport raised.
        """
        ends_at = time.monotonic() + left_s
        while True:
            now = time.monotonic()
            if now >= ends_at and not self._ended.is_set():
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
        """Hang up without waiting for the thread: it ends at its next byte or its socket's own limit."""
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
        """Wait for room; not to read for so long is no silence of the server's."""
        if not isinstance(item, Chunk):
            self._ended.set()
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._box.put(item, timeout=SLICE_S)
                return
            self._alive()


@contextmanager
def feeding(transport: Transport, call: Call) -> Iterator[Feed]:
    """A ``Feed`` that is hung up whatever happens in the block."""
    feed = Feed(transport, call)
    try:
        yield feed
    finally:
        feed.close()
