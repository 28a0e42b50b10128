"""How a model's answer looks on the wire, for each protocol that the test server speaks.

Every dialect is one pure function ``events(answer) -> list of payloads`` plus its framing: server-sent
events (``data: …``) or one JSON object a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says: text in pieces, then why it stopped, then what it counted."""

    chunks: tuple[str, ...]
    finish_reason: str | None
    usage: tuple[int, int] | None
    cached: int
    tools: tuple[tuple[str, Payload], ...]
    model: str


def openai_events(answer: Answer) -> list[Payload]:
    deltas: list[tuple[Payload, str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in answer.chunks]
    if answer.tools:
        deltas.append(({"tool_calls": _tool_calls(answer)}, None))
    if answer.finish_reason is not None:
        deltas.append(({}, answer.finish_reason))
    events = [
        _openai(answer, "chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": reason}])
        for delta, reason in deltas
    ]
    if answer.usage is not None:
        events.append({**_openai(answer, "chat.completion.chunk", []), "usage": _usage(answer)})
    return events


def openai_body(answer: Answer) -> Payload:
    """The answer to a request without ``stream``."""
    message: Payload = {"role": "assistant", "content": "".join(answer.chunks)}
    if answer.tools:
        message["tool_calls"] = _tool_calls(answer)
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    usage = {"usage": _usage(answer)} if answer.usage is not None else {}
    return {**_openai(answer, "chat.completion", [choice]), **usage}


def ollama_events(answer: Answer) -> list[Payload]:
    lines: list[Payload] = [
        {"model": answer.model, "message": {"role": "assistant", "content": text}, "done": False}
        for text in answer.chunks
    ]
    if answer.finish_reason is not None:
        prompt, completion = answer.usage or (0, 0)
        end = {"done": True, "done_reason": answer.finish_reason}
        counted = {"prompt_eval_count": prompt, "eval_count": completion}
        lines.append(
            {"model": answer.model, "message": {"role": "assistant", "content": ""}, **end, **counted}
        )
    return lines


def anthropic_events(answer: Answer) -> list[Payload]:
    prompt, completion = answer.usage or (0, 0)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": answer.model, "content": []}
    start = {**message, "stop_reason": None, "usage": {"input_tokens": prompt, "output_tokens": 0}}
    events: list[Payload] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for text in answer.chunks:
        delta = {"type": "text_delta", "text": text}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    if answer.finish_reason is not None:
        events += [
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": answer.finish_reason},
                "usage": {"output_tokens": completion},
            },
            {"type": "message_stop"},
        ]
    return events


def gemini_events(answer: Answer) -> list[Payload]:
    prompt, completion = answer.usage or (0, 0)
    candidates: list[Payload] = [
        {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0} for text in answer.chunks
    ]
    if answer.finish_reason is not None and candidates:
        candidates[-1]["finishReason"] = answer.finish_reason
    total = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
    counted = {"usageMetadata": {**total, "totalTokenCount": prompt + completion}}
    return [{"candidates": [candidate], **counted} for candidate in candidates]


def responses_events(answer: Answer) -> list[Payload]:
    """Of OpenAI's Responses: incomplete for a finish reason other than ``completed`` and ``stop``."""
    response: Payload = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": answer.model, "output": [],
        "status": "in_progress", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
    }  # fmt: skip
    at: Payload = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Payload] = [{"type": "response.created", "response": response}]
    events += [{"type": "response.output_text.delta", **at, "delta": text} for text in answer.chunks]
    if answer.finish_reason is not None:
        part = {"type": "output_text", "text": "".join(answer.chunks), "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        status = "completed" if answer.finish_reason in ("stop", "completed") else "incomplete"
        ended = {
            **response,
            "status": status,
            "output": [{**message, "content": [part]}],
            "incomplete_details": None if status == "completed" else {"reason": answer.finish_reason},
            "usage": _responses_usage(answer) if answer.usage is not None else None,
        }
        events.append({"type": f"response.{status}", "response": ended})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def responses_body(answer: Answer) -> Payload:
    """The response itself, which is what the last event of a stream has."""
    response: Payload = responses_events(answer)[-1]["response"]
    return response


def _responses_usage(answer: Answer) -> Payload:
    prompt, completion = answer.usage or (0, 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": answer.cached},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


@dataclass(frozen=True, slots=True)
class Dialect:
    """``frame`` turns a payload into bytes; ``closing`` ends a stream that ended well."""

    events: Callable[[Answer], list[Payload]]
    frame: Callable[[Payload], bytes]
    content_type: str = "text/event-stream"
    closing: bytes = b""
    always_streams: bool = True
    whole: Callable[[Answer], Payload] = openai_body

    def streams(self, body: Mapping[str, Any]) -> bool:
        """Whether the answer to ``body`` is a stream; only OpenAI's dialects have the form ``whole``."""
        return self.always_streams or bool(body.get("stream"))


def sse(payload: Payload) -> bytes:
    return b"data: " + _json(payload) + b"\n\n"


def named_sse(payload: Payload) -> bytes:
    return f"event: {payload['type']}\n".encode() + sse(payload)


def ndjson(payload: Payload) -> bytes:
    return _json(payload) + b"\n"


def _json(payload: Payload) -> bytes:
    """Letters as they are; half of a surrogate pair can only be written as an escape."""
    try:
        return json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(payload).encode()


DIALECTS: Mapping[str, Dialect] = {
    "/chat/completions": Dialect(openai_events, sse, closing=b"data: [DONE]\n\n", always_streams=False),
    "/api/chat": Dialect(ollama_events, ndjson, "application/x-ndjson"),
    "/messages": Dialect(anthropic_events, named_sse),
    ":streamGenerateContent": Dialect(gemini_events, sse),
    "/responses": Dialect(responses_events, named_sse, always_streams=False, whole=responses_body),
}
"""By the end of the request's path."""


def dialect_of(path: str) -> Dialect | None:
    route = path.partition("?")[0]
    return next((dialect for end, dialect in DIALECTS.items() if route.endswith(end)), None)


def _openai(answer: Answer, kind: str, choices: list[Payload]) -> Payload:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": answer.model, "choices": choices}


def _usage(answer: Answer) -> Payload:
    prompt, completion = answer.usage or (0, 0)
    usage: Payload = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if answer.cached:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached}
    return usage


def _tool_calls(answer: Answer) -> list[Payload]:
    return [
        {
            "index": number,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(answer.tools)
    ]
