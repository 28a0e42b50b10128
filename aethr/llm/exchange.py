"""One call over HTTP, seen at its bytes: the same for both transports.

LiteLLM has clients of its own, so what is done to a request and to a response is done in httpx's event hooks
(https://www.python-httpx.org/advanced/event-hooks/), which any client can be given.
"""

from __future__ import annotations

import contextlib
import socket
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from aethr.llm import Alive, Call, CallFailed, Chunk, connection, sse
from aethr.llm.failures import READ_CHARS, broken, causes_of, error_in, refused

if TYPE_CHECKING:
    import httpx

LONGEST_BODY = 512 << 20
"""In bytes, decoded: an answer of ``LONGEST_ANSWER`` in small pieces is shorter."""
PIECE = 1 << 16
"""In bytes: how much of a compressed body is unpacked at a time. A kilobyte can hold a megabyte."""
_IDLE_S, _INTERVAL_S, _PROBES = 30, 10, 6
"""A peer that is gone is noticed after 90 s of silence."""
_KEEPALIVE = (
    ("TCP_KEEPIDLE", _IDLE_S),
    ("TCP_KEEPALIVE", _IDLE_S),  # as macOS calls it
    ("TCP_KEEPINTVL", _INTERVAL_S),
    ("TCP_KEEPCNT", _PROBES),
)


class Exchange:
    """The request of one call and what came back. ``failure`` is what ended it, once something did."""

    def __init__(self, call: Call, alive: Alive) -> None:
        self.response: httpx.Response | None = None
        self.failure: CallFailed | None = None
        self.call = call
        self._alive = alive
        self._whole: bytes | None = None

    def sending(self, request: httpx.Request) -> None:
        """The hook for a request: its limits, and a socket that notices a peer that is gone.

        LiteLLM may ask for other things before it makes the call: the last request is the call's.
        """
        self.response = self.failure = None
        request.extensions["timeout"] = connection.timeout(self.call.deadlines).as_dict()
        request.extensions["trace"] = _connected
        request.headers["Accept-Encoding"] = "identity"  # a stream is read as it comes

    def arrived(self, response: httpx.Response) -> None:
        """The hook for a response whose body has not been read. Raises ``CallFailed`` for a refusal."""
        self._alive()
        self.response = response
        if not response.is_success:
            with self.watching():
                raise refused(response.status_code, response.headers, self._start())

    def body(self) -> Iterator[bytes]:
        """The decoded bytes as they come, each a sign of life. Raises ``CallFailed``."""
        assert self.response is not None
        if self._whole is not None:
            yield self._whole
            return
        left = LONGEST_BODY
        with self.watching():
            for piece in _decoded(self.response, self._alive):
                left -= len(piece)
                if left < 0:
                    raise CallFailed("garbage", f"it is longer than {LONGEST_BODY:,} bytes")
                yield piece

    def read(self) -> None:
        """Read all of a body that is not a stream; ``body`` then gives it again. Raises ``CallFailed``."""
        whole = bytearray()
        with self.watching():
            for piece in self.body():
                whole += piece
                if len(whole) > sse.LONGEST_EVENT:
                    raise sse.EventTooLongError(f"it is longer than {sse.LONGEST_EVENT:,} bytes")
        self._whole = bytes(whole)

    @property
    def is_read(self) -> bool:
        return self._whole is not None

    def objects(self) -> Iterator[dict[str, Any]]:
        """The JSON objects of the body. Raises ``CallFailed``, also for an error that one of them reports."""
        with self.watching():
            for data in sse.objects(self.body()):
                failure = error_in(data)
                if failure is not None:
                    raise failure
                yield data

    def hang_up(self) -> None:
        if self.response is not None and not self.response.is_closed:
            connection.hang_up(self.response)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """What httpx or a reader raises in the block, as a ``CallFailed``, which is kept; a bug as it is."""
        try:
            with in_our_words():
                yield
        except CallFailed as failure:
            self.failure = failure
            raise

    def _start(self) -> str:
        """The first ``READ_CHARS`` of the body, however long it is."""
        read = bytearray()
        assert self.response is not None
        for piece in _decoded(self.response, self._alive):
            read += piece
            if len(read) > 4 * READ_CHARS:
                break
        return read.decode("utf-8", "replace")[:READ_CHARS]


class Answer:
    """An answer under way in a protocol that is known here: ``read`` says what an object of it means.

    ``close`` gives the connection back; ``notes`` are remarks on the request.
    """

    def __init__(
        self,
        exchange: Exchange,
        read: Callable[[dict[str, Any]], Chunk],
        close: Callable[[], None],
        notes: Iterator[Chunk],
    ) -> None:
        self._exchange = exchange
        self._read = read
        self._close = close
        self._notes = notes

    def chunks(self) -> Generator[Chunk, None, None]:
        try:
            yield from self._notes
            for data in self._exchange.objects():
                with self._exchange.watching():
                    chunk = self._read(data)
                yield chunk
        finally:
            self._close()

    def hang_up(self) -> None:
        self._exchange.hang_up()


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """What httpx or a reader raises in the block, as a ``CallFailed``; a bug as it is."""
    httpx = connection.load()
    try:
        yield
    except (sse.EventTooLongError, sse.UnreadableError) as error:
        raise CallFailed("garbage", str(error)) from error
    except (RecursionError, OverflowError) as error:
        raise CallFailed("garbage", f"a value in the answer is out of range: {error}") from error
    except zlib.error as error:
        raise CallFailed("garbage", "broken compression in the answer") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise broken(tuple(causes_of(error))) or CallFailed("connection", str(error)) from error


def _decoded(response: httpx.Response, alive: Alive) -> Iterator[bytes]:
    """The body, unpacked in bounded pieces: httpx unpacks whatever one packet holds at once."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise CallFailed("garbage", f"compressed as nobody asked for: {encoding}")
    packed = encoding not in ("", "identity")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None  # 32: gzip or zlib, by its head
    for piece in response.iter_raw():
        alive()
        if unpacker is None:
            yield piece
            continue
        unpacked = unpacker.decompress(piece, PIECE)
        while unpacked:
            yield unpacked
            unpacked = unpacker.decompress(unpacker.unconsumed_tail, PIECE)
        if unpacker.eof:
            return


def _connected(event: str, details: dict[str, Any]) -> None:
    """httpcore's trace (https://www.encode.io/httpcore/extensions/#trace): set a new socket up."""
    if event != "connection.connect_tcp.complete":
        return
    made = details["return_value"].get_extra_info("socket")
    if made is None:
        return
    with contextlib.suppress(OSError):  # a system that lacks an option has its own idea of keepalive
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            option = getattr(socket, name, None)
            if option is not None:
                made.setsockopt(socket.IPPROTO_TCP, option, value)
