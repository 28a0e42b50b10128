"""A scripted model behind an agent: it answers with tool calls, in streams, by the protocols of agents.

Chat completions (opencode), Anthropic Messages (claude) and OpenAI Responses (codex), told apart by the path.
It keeps all that arrives, whatever it is: a server that must get nothing is one of these without turns.
"""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

from tests.loopback import Handler, Loopback

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer. ``arguments`` are text for a tool that takes any (Codex's apply_patch)."""

    tool: str
    arguments: Mapping[str, object] | str


@dataclass(frozen=True, slots=True)
class Fault:
    """An HTTP status instead of an answer."""

    status: int
    message: str = "scripted fault"


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer whose stream ends after its first words, as when a server dies."""

    text: str = "I was going to"


Turn = Call | str | Fault | Cut


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    payload: bytes

    @property
    def words(self) -> str:
        """The body; where it is JSON, without its escapes, so that a text is found in it as it is."""
        try:
            return json.dumps(json.loads(self.payload), ensure_ascii=False)
        except ValueError:
            return self.payload.decode(errors="replace")


@dataclass(slots=True)
class ToolServer:
    """``turns`` are given out one a request that offers tools; requests without tools get ``title``.

    When the turns are used up the answer is the text ``done``. ``received`` is everything, ``requests`` are
    the bodies of the calls of a model.
    """

    turns: list[Turn] = field(default_factory=list)
    requests: list[Payload] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    title: str = "A title"
    origin: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def prompts(self) -> str:
        """Everything that was sent to the model, as one text."""
        return json.dumps(self.requests, ensure_ascii=False)

    @property
    def everything(self) -> str:
        """All that was sent here: paths, headers and bodies, as one text."""
        lines = (f"{each.method} {each.path} {dict(each.headers)} {each.words}" for each in self.received)
        return "\n".join(lines)

    def next_turn(self, body: Payload) -> Turn:
        with self.lock:
            self.requests.append(body)
            if not body.get("tools"):
                return self.title
            return self.turns.pop(0) if self.turns else "done"


@contextmanager
def serving(*turns: Turn) -> Iterator[ToolServer]:
    """Serve ``turns`` on a free port of loopback until the block ends."""
    script = ToolServer(list(turns))
    with Loopback(_handler(script)) as server:
        script.origin = server.origin
        yield script


def _handler(script: ToolServer) -> type[Handler]:
    class ToolHandler(Handler):
        protocol_version = "HTTP/1.0"  # a connection for each call, so none is open at the end

        def do_GET(self) -> None:
            self._take()
            self._send(404, "application/json", _error(Fault(404, "not found")))

        def do_POST(self) -> None:
            payload = self._take()
            path = self.path.partition("?")[0]
            speak = next((form for end, form in _FORMS.items() if path.endswith(end)), None)
            if speak is None:
                self._send(404, "application/json", _error(Fault(404, "not found")))
                return
            body = json.loads(payload)
            turn = script.next_turn(body)
            if isinstance(turn, Fault):
                self._send(turn.status, "application/json", _error(turn))
            else:
                kind, answer = speak(turn.text if isinstance(turn, Cut) else turn, body)
                if isinstance(turn, Cut):
                    words = answer.index(turn.text.encode())
                    answer = answer[: words + answer[words:].find(b"\n\n") + 2]
                self._send(200, kind, answer)

        do_HEAD = do_CONNECT = do_GET
        do_PUT = do_POST

        def _take(self) -> bytes:
            headers = {name.lower(): value for name, value in self.headers.items()}
            payload = _body(self.rfile, headers)
            with script.lock:
                script.received.append(Received(self.command, self.path, headers, payload))
            return payload

        def _send(self, status: int, kind: str, payload: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    return ToolHandler


def _body(stream: BufferedIOBase, headers: Mapping[str, str]) -> bytes:
    """Whole, whether its length is told or it comes in chunks; what is compressed by gzip is unpacked."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        payload = stream.read(int(headers.get("content-length") or 0))
    else:
        payload = b""
        while size := int(stream.readline().partition(b";")[0], 16):
            payload += stream.read(size)
            stream.readline()
        stream.readline()
    return gzip.decompress(payload) if headers.get("content-encoding") == "gzip" else payload


def _error(fault: Fault) -> bytes:
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    return json.dumps({"type": "error", "error": {"message": fault.message, "type": kind}}).encode()


def _stream(events: list[Payload]) -> bytes:
    """Server-sent events; those that have a type carry it as their name too."""
    named = ((f"event: {event['type']}\n" if "type" in event else "", json.dumps(event)) for event in events)
    return "".join(f"{name}data: {data}\n\n" for name, data in named).encode()


_JSON, _STREAM = "application/json", "text/event-stream"
_PROMPT, _COMPLETION = 100, 20
USED = (_PROMPT, _COMPLETION)
"""The tokens of each call: prompt and answer."""

_NUMBERS = itertools.count(1)
"""No two answers or calls have one id: agents tell them apart by it."""


def _chat(turn: Call | str, body: Payload) -> tuple[str, bytes]:
    """https://platform.openai.com/docs/api-reference/chat"""
    message: Payload = {"role": "assistant", "content": None if isinstance(turn, Call) else turn}
    if isinstance(turn, Call):
        function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
        message["tool_calls"] = [
            {"index": 0, "id": f"call_{next(_NUMBERS)}", "type": "function", "function": function}
        ]
    reason = "tool_calls" if isinstance(turn, Call) else "stop"
    usage = {
        "prompt_tokens": _PROMPT,
        "completion_tokens": _COMPLETION,
        "total_tokens": _PROMPT + _COMPLETION,
    }
    head = {"id": "c1", "created": 1, "model": "model"}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": reason}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return _JSON, json.dumps(whole).encode()
    pieces: list[Payload] = [
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {"choices": [], "usage": usage},
    ]
    chunks = [{**head, "object": "chat.completion.chunk", **piece} for piece in pieces]
    return _STREAM, _stream(chunks) + b"data: [DONE]\n\n"


def _messages(turn: Call | str, body: Payload) -> tuple[str, bytes]:
    """https://platform.claude.com/docs/en/build-with-claude/streaming"""
    empty: Payload
    delta: Payload
    if isinstance(turn, Call):
        empty = {"type": "tool_use", "id": f"toolu_{next(_NUMBERS)}", "name": turn.tool, "input": {}}
        block = {**empty, "input": turn.arguments}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
    else:
        empty, block = {"type": "text", "text": ""}, {"type": "text", "text": turn}
        delta = {"type": "text_delta", "text": turn}
    reason = "tool_use" if isinstance(turn, Call) else "end_turn"
    usage = {"input_tokens": _PROMPT, "output_tokens": _COMPLETION}
    message = {
        "id": f"msg_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
    }
    if not body.get("stream"):
        whole = {**message, "content": [block], "stop_reason": reason, "stop_sequence": None, "usage": usage}
        return _JSON, json.dumps(whole).encode()
    return _STREAM, _stream(
        [
            {
                "type": "message_start",
                "message": {**message, "content": [], "stop_reason": None, "usage": usage},
            },
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage},
            {"type": "message_stop"},
        ]
    )


def _responses(turn: Call | str, _body: Payload) -> tuple[str, bytes]:
    """https://platform.openai.com/docs/api-reference/responses-streaming; Codex always streams."""
    call = f"call_{next(_NUMBERS)}"
    if isinstance(turn, str):
        content = [{"type": "output_text", "text": turn, "annotations": []}]
        item: Payload = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
    elif isinstance(turn.arguments, str):
        item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": call, "name": turn.tool}
        item["input"] = turn.arguments
    else:
        item = {"type": "function_call", "id": "fc_1", "call_id": call, "name": turn.tool}
        item["arguments"] = json.dumps(turn.arguments)
    item["status"] = "completed"
    usage = {
        "input_tokens": _PROMPT,
        "output_tokens": _COMPLETION,
        "total_tokens": _PROMPT + _COMPLETION,
    }
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "model"}
    begun = {**item, "status": "in_progress"}
    pieces: list[Payload] = []
    if isinstance(turn, str):
        begun["content"] = []
        piece = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        pieces = [
            {"type": "response.content_part.added", **piece, "part": {**content[0], "text": ""}},
            {"type": "response.output_text.delta", **piece, "delta": turn},
            {"type": "response.output_text.done", **piece, "text": turn},
        ]
    return _STREAM, _stream(
        [
            {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": begun},
            *pieces,
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {
                "type": "response.completed",
                "response": {**response, "status": "completed", "output": [item], "usage": usage},
            },
        ]
    )


_FORMS = {"/chat/completions": _chat, "/messages": _messages, "/responses": _responses}
"""By the end of the path."""
