"""A real HTTP server on loopback that speaks the protocols of model providers, and can misbehave.

In a test::

    with ModelServer(["first answer", Reply(status=429, headers={"Retry-After": "1"})]) as server:
        server.base_url   # http://127.0.0.1:PORT/v1
        server.requests   # what arrived: [{"method", "path", "headers", "body"}, …]

Replies are used up in order; when none is left the server answers 400, which nobody retries. In place of
the list a callable may stand: ``body -> Reply | str``. As a process of its own::

    python -m tests.model_server --port 0 --script FILE [--log FILE]

It prints its base URL, then serves until its standard input ends or it is terminated. FILE is a JSON list of
strings and of objects with the fields of ``Reply``; ``--log`` gets one JSON line for each request.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.dialects import Answer, Dialect, dialect_of, sse
from tests.loopback import PAUSE_S, Handler, HttpServer, Loopback

Fault = Literal[
    "reset_before",  # the connection is reset before any answer
    "reset_mid",  # … after the chunks
    "cut",  # after the chunks the stream ends cleanly, without a finish reason
    "cut_body",  # after the chunks the connection closes inside the chunked body
    "done_only",  # after the chunks only [DONE], without a finish reason
    "bad_json",  # after the chunks a line that is not JSON
    "error_event",  # after the chunks an error object inside the stream
    "error_open",  # the same, and the connection stays open
    "never",  # no byte of an answer, ever
    "stall",  # after the chunks nothing more, the connection stays open
    "drip",  # the last chunk again and again, every ``delay_s``, for ever
]
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``status`` other than 200, or ``body``, sends that body whole instead of a stream.

    ``pieces`` are sent as they stand instead, and a number among them is so many seconds of silence.
    ``usage`` is (prompt, completion) tokens, ``cached`` how many of the prompt's were cached, ``tools`` are
    (name, arguments) of tool calls. ``packets`` is the size in bytes in which a stream is written, 0 for one
    write for each event. ``delay_s`` passes between two events. A stream says nothing until ``gate`` is set.
    """

    chunks: tuple[str, ...] = ("Hello", ", world.")
    finish_reason: str | None = "stop"
    usage: tuple[int, int] | None = (10, 5)
    cached: int = 0
    tools: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: str | None = None
    content_type: str = "application/json"
    fault: Fault | None = None
    delay_s: float = 0.0
    packets: int = 0
    pieces: tuple[bytes | float, ...] = ()
    gate: threading.Event | None = None


Script = Iterable["Reply | str"] | Callable[[dict[str, Any]], "Reply | str"]


def error(status: int, message: str = "it failed", code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's shape; ``Retry_After="1"`` becomes the header ``Retry-After: 1``."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=body, headers=named)


def text(content: str, size: int = 12) -> Reply:
    """A good answer, in pieces of ``size`` characters."""
    pieces = tuple(content[start : start + size] for start in range(0, len(content), size))
    return Reply(chunks=pieces)


class _Server(HttpServer):
    owner: ModelServer
    daemon_threads = False
    block_on_close = True


class ModelServer(Loopback):
    """The server. Its ``origin`` is without the ``/v1``."""

    http_class = _Server

    def __init__(self, script: Script = (), port: int = 0, log: Path | None = None) -> None:
        super().__init__(_Handler, port)
        self.requests: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        """Set when the first request is there."""
        self.stopping = threading.Event()
        self._script = script if callable(script) else None
        self._replies: Iterator[Reply | str] = iter(()) if callable(script) else iter(script)
        self._log = log
        self._abandoned = threading.Event()
        self._lock = threading.Condition()

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the model calls that arrived."""
        return [request["body"] for request in self.requests if dialect_of(request["path"]) is not None]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        super().__exit__(kind, value, trace)

    def wait_for(self, count: int) -> None:
        """Return when so many model calls have arrived."""
        self.wait_until(lambda bodies: len(bodies) >= count)

    def wait_until(self, arrived: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 30.0) -> None:
        """Return when the bodies of the model calls so far are what ``arrived`` waits for."""
        with self._lock:
            assert self._lock.wait_for(lambda: arrived(self.bodies), timeout_s), self.requests

    def wait_abandoned(self) -> None:
        """Return when a client has gone away from an answer that was still to come."""
        assert self._abandoned.wait(30), "nobody hung up"

    def abandon(self) -> None:
        self._abandoned.set()

    def take(self, request: dict[str, Any]) -> Reply:
        """Record a request and choose its reply."""
        with self._lock:
            self.requests.append(request)
            self._lock.notify_all()
            self.arrived.set()
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(request) + "\n")
            if dialect_of(request["path"]) is None:
                return _elsewhere(request)
            if self._script is not None:
                chosen = self._script(request["body"])
            else:
                chosen = next(self._replies, error(400, "the script has no more replies"))
        return text(chosen) if isinstance(chosen, str) else chosen


class _Handler(Handler):
    wbufsize = 0
    timeout = PAUSE_S
    server: _Server

    def handle(self) -> None:
        """Serve requests on one connection until the client or the server ends it."""
        self.close_connection = False
        while not self.close_connection and not self.server.owner.stopping.is_set():
            if self._readable():
                self.connection.settimeout(5)
                self.handle_one_request()
                self.connection.settimeout(PAUSE_S)

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._serve(json.loads(raw or b"{}"))
        except ValueError:
            self._whole(error(400, "the request is not JSON"))

    def _serve(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = {"method": self.command, "path": self.path, "headers": headers, "body": body}
        reply = self.server.owner.take(request)
        if reply.fault == "reset_before":
            self._reset()
        elif reply.fault == "never":
            self._hold()
        elif reply.pieces:
            self._pieces(reply)
        elif reply.status != 200 or reply.body is not None:
            self._whole(reply)
        else:
            self._answer(reply, body)

    def _answer(self, reply: Reply, body: dict[str, Any]) -> None:
        dialect = dialect_of(self.path)
        assert dialect is not None, "only model calls take a streaming reply"
        answer = Answer(
            reply.chunks,
            None if reply.fault else reply.finish_reason,
            None if reply.fault else reply.usage,
            reply.cached,
            reply.tools,
            str(body.get("model", "")),
        )
        if dialect.streams(body):
            self._stream(reply, dialect, answer)
        else:
            self._whole(Reply(body=json.dumps(dialect.whole(answer)), headers=reply.headers))

    def _whole(self, reply: Reply) -> None:
        body = (reply.body or "").encode()
        self._head(reply.status, reply.content_type, {**reply.headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _pieces(self, reply: Reply) -> None:
        self.close_connection = True
        self._head(reply.status, reply.content_type, {**reply.headers, "Connection": "close"})
        try:
            for piece in reply.pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(piece)
                elif self.server.owner.stopping.wait(piece):
                    return
        except OSError:
            self.server.owner.abandon()

    def _stream(self, reply: Reply, dialect: Dialect, answer: Answer) -> None:
        self._head(200, dialect.content_type, {**reply.headers, "Transfer-Encoding": "chunked"})
        if reply.gate is not None and not self._hold(reply.gate):
            return
        events = [dialect.frame(event) for event in dialect.events(answer)]
        self._write_events(events if reply.fault else [*events, dialect.closing], reply)
        if reply.fault == "reset_mid":
            self._reset()
        elif reply.fault == "cut_body":
            self._drop()
        elif reply.fault in ("stall", "error_open"):
            self._write_events([_TAILS.get(reply.fault, b"")], reply)
            self._hold()
        elif reply.fault == "drip":
            self._drip(events[-1], reply.delay_s)
        else:
            self._write_events([_TAILS.get(reply.fault, b"")], reply)
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, content_type: str, headers: Headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _write_events(self, events: list[bytes], reply: Reply) -> None:
        pieces = events
        if reply.packets:
            joined = b"".join(events)
            pieces = [joined[at : at + reply.packets] for at in range(0, len(joined), reply.packets)]
        for piece in pieces:
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if reply.delay_s:
                self.server.owner.stopping.wait(reply.delay_s)

    def _drip(self, event: bytes, delay_s: float) -> None:
        try:
            while not self.server.owner.stopping.wait(delay_s):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        except OSError:
            self.server.owner.abandon()
        self.close_connection = True

    def _hold(self, gate: threading.Event | None = None) -> bool:
        """Say nothing until the client goes away, the server ends, or the gate opens: then True."""
        while not self.server.owner.stopping.is_set():
            if gate is not None and gate.is_set():
                return True
            if self._readable():
                self.server.owner.abandon()
                break
        self.close_connection = True
        return False

    def _readable(self) -> bool:
        """Whether the client sent something, or closed, within a short while."""
        self.connection.settimeout(PAUSE_S)
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                self.close_connection = True
        except TimeoutError:
            return False
        except OSError:
            self.close_connection = True
        return True

    def _reset(self) -> None:
        """Close so that the client sees ECONNRESET instead of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.rfile.close()
        self.connection.close()


def _elsewhere(request: dict[str, Any]) -> Reply:
    """Paths that are no model call use up no reply: a list of models, and what does not exist."""
    if request["path"].endswith("/models"):
        return Reply(body=json.dumps({"object": "list", "data": []}))
    return error(404, "no such path")


_CRASH = sse({"error": {"message": "the model crashed", "type": "server_error", "code": 500}})
_TAILS: Mapping[str | None, bytes] = {
    "done_only": b"data: [DONE]\n\n",
    "bad_json": b'data: {"id": "chatcmpl-1", "choi\n\n',
    "error_event": _CRASH,
    "error_open": _CRASH,
}


def _replies(path: Path) -> list[Reply | str]:
    def reply(fields: Any) -> Reply | str:
        if isinstance(fields, str):
            return fields
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return Reply(**{**fields, **lists})

    return [reply(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args(argv)
    with ModelServer(_replies(options.script), options.port, options.log) as server:
        sys.stdout.write(server.base_url + "\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
