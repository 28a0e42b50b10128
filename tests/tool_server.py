"""A small OpenAI-compatible server that answers with tool calls, as a model behind an agent does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer."""

    tool: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """An HTTP status instead of an answer."""

    status: int
    message: str = "scripted fault"


Turn = Call | str | Fault


@dataclass(slots=True)
class ToolServer:
    """``turns`` are given out one a request that offers tools; requests without tools get a title.

    When the turns are used up the answer is the text ``done``. ``requests`` are the bodies received.
    """

    turns: list[Turn] = field(default_factory=list)
    requests: list[dict[str, object]] = field(default_factory=list)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def prompts(self) -> str:
        """Everything that was sent to the model, as one text."""
        return json.dumps(self.requests, ensure_ascii=False)

    def next_turn(self, body: dict[str, object]) -> Turn:
        with self.lock:
            self.requests.append(body)
            if not body.get("tools"):
                return "A title"
            return self.turns.pop(0) if self.turns else "done"


@contextmanager
def serving(*turns: Turn) -> Iterator[ToolServer]:
    """Serve ``turns`` on a free port of loopback until the block ends."""
    script = ToolServer(list(turns))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    httpd.daemon_threads = True
    script.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(script: ToolServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            turn = script.next_turn(body)
            if isinstance(turn, Fault):
                self._send(turn.status, "application/json", _error(turn))
            elif body.get("stream"):
                self._send(200, "text/event-stream", _events(turn))
            else:
                self._send(200, "application/json", json.dumps(_whole(turn)).encode())

        def _send(self, status: int, kind: str, payload: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    return Handler


def _error(fault: Fault) -> bytes:
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": fault.message, "type": kind}}).encode()


def _events(turn: Turn) -> bytes:
    message = {"role": "assistant", **_content(turn)}
    for number, call in enumerate(message.get("tool_calls", ())):
        call["index"] = number
    pieces: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": _reason(turn)}]},
        {"choices": [], "usage": _USAGE},
    ]
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "model"}
    lines = [f"data: {json.dumps({**head, **piece})}\n\n" for piece in pieces]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _whole(turn: Turn) -> dict[str, object]:
    message = {"role": "assistant", **_content(turn)}
    choice = {"index": 0, "message": message, "finish_reason": _reason(turn)}
    return {"id": "c1", "object": "chat.completion", "model": "model", "choices": [choice], "usage": _USAGE}


def _content(turn: Turn) -> dict[str, list[dict[str, object]] | str | None]:
    if not isinstance(turn, Call):
        return {"content": str(turn)}
    function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
    return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


def _reason(turn: Turn) -> str:
    return "tool_calls" if isinstance(turn, Call) else "stop"


_USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
