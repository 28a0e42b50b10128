"""The bytes of one HTTP call, for both transports; and the transport that makes it without LiteLLM.

LiteLLM makes its own HTTP clients, so requests and responses are handled in httpx's event hooks, which any
client can be given: https://www.python-httpx.org/advanced/event-hooks/
"""

from __future__ import annotations

import contextlib
import json
import socket
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from aethr import __version__
from aethr.llm import Alive, Call, CallFailed, Chunk, Read, connection, note_dropped, sse
from aethr.llm.failures import READ_CHARS, error_in, iterate_causes, response_failure, transport_failure
from aethr.llm.protocols import protocol_of, request

if TYPE_CHECKING:
    import httpx

LONGEST_BODY = 512 << 20
"""In bytes, decoded: more than an answer of ``LONGEST_ANSWER`` takes, even in small pieces."""
PIECE = 1 << 16
"""In bytes: a compressed body is unpacked in such pieces, as a kilobyte of it can hold a megabyte."""
_IDLE_S, _INTERVAL_S, _PROBES = 30, 10, 6
"""In seconds, and a count: a peer that is gone is noticed after 90 s."""
_KEEPALIVE = (
    ("TCP_KEEPIDLE", _IDLE_S),
    ("TCP_KEEPALIVE", _IDLE_S),  # as macOS calls it
    ("TCP_KEEPINTVL", _INTERVAL_S),
    ("TCP_KEEPCNT", _PROBES),
)


class Exchange:
    """The request of one call and its response. ``failure`` is the one that ended it, if any.

    ``whole`` is the body, once ``read`` has read it.
    """

    def __init__(self, call: Call, alive: Alive) -> None:
        self.response: httpx.Response | None = None
        self.failure: CallFailed | None = None
        self.call = call
        self.whole: bytes | None = None
        self._alive = alive

    def prepare(self, request: httpx.Request) -> None:
        """The hook for a request: set its limits, and make its socket notice a peer that is gone.

        LiteLLM may ask for other things before it makes the call: the last request is the call's. Raises
        ``CallFailed`` for a host that the workflow does not name.
        """
        self.check_host(request.url)
        self.response = self.failure = None
        request.extensions["timeout"] = connection.timeout(self.call.deadlines).as_dict()
        request.extensions["trace"] = _keep_alive
        request.headers["Accept-Encoding"] = "identity"  # a stream is read as it comes

    def check_host(self, url: httpx.URL) -> None:
        """Raises ``CallFailed`` for a host that the workflow does not name, whoever makes the request."""
        hosts = self.call.hosts
        if hosts is not None and not hosts.allow(url.scheme, url.raw_host.decode("ascii"), url.port):
            with self.watching():
                raise CallFailed("bad_request", f"it would go to {url.host}, which `hosts` does not name")

    def receive(self, response: httpx.Response) -> None:
        """The hook for a response whose body is not read yet. Raises ``CallFailed`` for an error status."""
        self._alive()
        self.response = response
        if response.is_success:
            return
        with self.watching():
            start = bytearray()
            for piece in _decode(response, self._alive):
                start += piece
                if len(start) > 4 * READ_CHARS:
                    break
            text = start.decode("utf-8", "replace")[:READ_CHARS]
            raise response_failure(response.status_code, response.headers, text)

    def body(self) -> Iterator[bytes]:
        """The decoded bytes as they arrive. Raises ``CallFailed``."""
        assert self.response is not None
        if self.whole is not None:
            yield self.whole
            return
        left = LONGEST_BODY
        with self.watching():
            for piece in _decode(self.response, self._alive):
                left -= len(piece)
                if left < 0:
                    raise CallFailed("garbage", f"it is longer than {LONGEST_BODY:,} bytes")
                yield piece

    def read(self) -> None:
        """Read a body that is not a stream; ``body`` then yields it again. Raises ``CallFailed``."""
        whole = bytearray()
        with self.watching():
            for piece in self.body():
                whole += piece
                if len(whole) > sse.LONGEST_EVENT:
                    raise sse.EventTooLongError(f"it is longer than {sse.LONGEST_EVENT:,} bytes")
        self.whole = bytes(whole)

    def objects(self) -> Iterator[dict[str, Any]]:
        """The JSON objects of the body. Raises ``CallFailed``, also for an object that reports an error."""
        with self.watching():
            for data in sse.objects(self.body()):
                failure = error_in(data)
                if failure is not None:
                    raise failure
                yield data

    def hang_up(self) -> None:
        """Shut down the socket of an unfinished response: closing it would not wake a blocked reader."""
        if self.response is None or self.response.is_closed:
            return
        network = getattr(self.response, "extensions", {}).get("network_stream")
        sock = network.get_extra_info("socket") if network is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Like ``translated_errors``, and keep the ``CallFailed`` in ``failure``."""
        try:
            with translated_errors():
                yield
        except CallFailed as failure:
            self.failure = failure
            raise


class ProtocolStream:
    """The stream of an answer in one of our own ``protocols``; ``read`` makes a chunk of an object.

    ``close`` returns the connection; ``notes`` are remarks on the request.
    """

    def __init__(
        self,
        exchange: Exchange,
        read: Read,
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


class Direct:
    """Calls without LiteLLM, for the providers in ``protocols.DIRECT``; a call starts in a tenth of the time.

    Everything else is as through LiteLLM: one suite tests both transports.
    """

    name = "direct"

    def load(self) -> None:
        connection.load()

    def open(self, call: Call, alive: Alive) -> ProtocolStream:
        wire, exchange = request(call), Exchange(call, alive)
        headers = {**wire.headers, "User-Agent": f"aethr/{__version__}"}
        client = connection.load().Client(
            timeout=connection.timeout(call.deadlines),
            transport=connection.transport(connection.trusted() if wire.url.startswith("https:") else False),
            follow_redirects=False,  # only the endpoint itself gets the prompt
            event_hooks={"request": [exchange.prepare], "response": [exchange.receive]},
        )
        with contextlib.ExitStack() as on_failure, translated_errors():
            on_failure.callback(client.close)
            sent = client.build_request("POST", wire.url, headers=headers, content=json.dumps(wire.body))
            client.send(sent, stream=True)
            on_failure.pop_all()
        read = protocol_of(call.model.name).reader(call.model.name)
        return ProtocolStream(exchange, read, client.close, note_dropped(call, wire.dropped))


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Raise what httpx or a reader raises in the block as a ``CallFailed``; a bug stays as it is."""
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
        raise transport_failure(tuple(iterate_causes(error))) or CallFailed(
            "connection", str(error)
        ) from error


def _decode(response: httpx.Response, alive: Alive) -> Iterator[bytes]:
    """The body, unpacked in bounded pieces: httpx unpacks all that one packet holds at once."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise CallFailed("garbage", f"compressed, but not as requested: {encoding}")
    packed = encoding not in ("", "identity")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None  # 32: gzip or zlib, by its header
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


def _keep_alive(event: str, details: dict[str, Any]) -> None:
    """Turn TCP keepalive on for a new socket, in httpcore's trace.

    https://www.encode.io/httpcore/extensions/#trace
    """
    if event != "connection.connect_tcp.complete":
        return
    made = details["return_value"].get_extra_info("socket")
    if made is None:
        return
    with contextlib.suppress(OSError):  # a system may not have every option
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            option = getattr(socket, name, None)
            if option is not None:
                made.setsockopt(socket.IPPROTO_TCP, option, value)
