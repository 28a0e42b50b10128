"""How a model's answer looks on the wire, for each protocol that the test server speaks.

Every dialect is one pure function ``events(answer) -> list of payloads`` plus its framing: server-sent
events (``data: …``) or one JSON object a line.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says: thinking, text in pieces, then why it stopped, then what it counted.

    ``refusal`` is why it refuses. ``finish_reason`` is a word of chat completions, which each dialect says in
    its own, or one that only the dialect has.
    """

    chunks: tuple[str, ...] = ()
    finish_reason: str | None = "stop"
    usage: tuple[int, int] | None = (10, 5)
    cached: int = 0
    tools: tuple[tuple[str, Payload], ...] = ()
    model: str = "m"
    thoughts: tuple[str, ...] = ()
    refusal: str = ""
    written: int = 0
    thought: int = 0


def openai_events(answer: Answer) -> list[Payload]:
    deltas: list[tuple[Payload, str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"reasoning_content": text}, None) for text in answer.thoughts]
    deltas += [({"content": text}, None) for text in answer.chunks]
    if answer.refusal:
        deltas.append(({"refusal": answer.refusal}, None))
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
    if answer.refusal:
        message["refusal"] = answer.refusal
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


ANTHROPIC_ENDS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def anthropic_events(answer: Answer) -> list[Payload]:
    message = {**anthropic_body(answer), "content": [], "stop_reason": None}
    if answer.usage is not None:
        message["usage"]["output_tokens"] = 0
    events: list[Payload] = [{"type": "message_start", "message": message}]
    for kind, pieces in (("thinking", answer.thoughts), ("text", answer.chunks)):
        events.append({"type": "content_block_start", "index": 0, "content_block": {"type": kind, kind: ""}})
        events += [
            {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: piece}}
            for piece in pieces
        ]
        events.append({"type": "content_block_stop", "index": 0})
    if answer.finish_reason is not None:
        counted = {"usage": {"output_tokens": answer.usage[1]}} if answer.usage else {}
        events += [
            {"type": "message_delta", "delta": _anthropic_end(answer), **counted},
            {"type": "message_stop"},
        ]
    return events


def anthropic_body(answer: Answer) -> Payload:
    blocks = [{"type": "thinking", "thinking": text} for text in answer.thoughts]
    blocks += [{"type": "text", "text": text} for text in answer.chunks]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": answer.model}
    usage = {}
    if answer.usage is not None:
        prompt, completion = answer.usage
        new = prompt - answer.cached - answer.written
        counted: Payload = {"input_tokens": new, "output_tokens": completion}
        if answer.cached or answer.written:
            counted["cache_read_input_tokens"] = answer.cached
            counted["cache_creation_input_tokens"] = answer.written
        usage = {"usage": counted}
    return {**message, "content": blocks, **_anthropic_end(answer), **usage}


def _anthropic_end(answer: Answer) -> Payload:
    reason = "refusal" if answer.refusal else answer.finish_reason
    details = {"type": "refusal", "category": "cyber", "explanation": answer.refusal}
    return {
        "stop_reason": ANTHROPIC_ENDS.get(reason or "", reason),
        **({"stop_details": details} if answer.refusal else {}),
    }


GEMINI_ENDS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def gemini_events(answer: Answer) -> list[Payload]:
    parts: list[Payload] = [{"text": text, "thought": True} for text in answer.thoughts]
    parts += [{"text": text} for text in answer.chunks]
    events = [_gemini(answer, [part], None) for part in parts]
    if answer.refusal:
        return [{"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": answer.refusal}}]
    if answer.finish_reason is not None:
        events = [*events[:-1], _gemini(answer, parts[-1:], answer.finish_reason)]
    return events


def gemini_body(answer: Answer) -> Payload:
    if answer.refusal:
        return gemini_events(answer)[0]
    thoughts = [{"text": text, "thought": True} for text in answer.thoughts]
    return _gemini(answer, [*thoughts, *({"text": text} for text in answer.chunks)], answer.finish_reason)


def _gemini(answer: Answer, parts: list[Payload], reason: str | None) -> Payload:
    candidate: Payload = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = GEMINI_ENDS.get(reason, reason)
    if answer.usage is None:
        return {"candidates": [candidate]}
    prompt, completion = answer.usage
    total = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
    counted = {**total, "totalTokenCount": prompt + completion}
    if answer.cached:
        counted["cachedContentTokenCount"] = answer.cached
    return {"candidates": [candidate], "usageMetadata": counted}


def openai_error(message: str, code: int) -> Payload:
    return {"error": {"message": message, "type": "server_error", "code": code}}


def anthropic_error(message: str, code: int) -> Payload:
    kinds = {429: "rate_limit_error", 401: "authentication_error", 402: "billing_error"}
    return {"type": "error", "error": {"type": kinds.get(code, "api_error"), "message": message}}


def gemini_error(message: str, code: int) -> Payload:
    words = {429: "RESOURCE_EXHAUSTED", 401: "UNAUTHENTICATED"}
    return {"error": {"code": code, "message": message, "status": words.get(code, "INTERNAL")}}


def responses_error(message: str, code: int) -> Payload:
    return {"type": "error", "error": {"message": message, "type": "server_error", "code": code}}


def ollama_error(message: str, code: int) -> Payload:
    return {"error": message}


RESPONSES_ENDS = {"stop": "completed", "length": "max_output_tokens"}


def responses_events(answer: Answer) -> list[Payload]:
    """Of OpenAI's Responses: incomplete for a finish reason other than ``completed``."""
    reason = RESPONSES_ENDS.get(answer.finish_reason or "", answer.finish_reason)
    response: Payload = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": answer.model, "output": [],
        "status": "in_progress", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
    }  # fmt: skip
    at: Payload = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Payload] = [{"type": "response.created", "response": response}]
    events += [
        {"type": "response.reasoning_summary_text.delta", **at, "delta": text} for text in answer.thoughts
    ]
    if answer.refusal:
        events.append({"type": "response.refusal.delta", **at, "delta": answer.refusal})
    events += [{"type": "response.output_text.delta", **at, "delta": text} for text in answer.chunks]
    if reason is not None:
        part = {"type": "output_text", "text": "".join(answer.chunks), "annotations": []}
        refused = [{"type": "refusal", "refusal": answer.refusal}] if answer.refusal else []
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        status = "completed" if reason == "completed" else "incomplete"
        ended = {
            **response,
            "status": status,
            "output": [{**message, "content": [part, *refused]}],
            "incomplete_details": None if status == "completed" else {"reason": reason},
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


def bedrock_events(answer: Answer) -> list[Payload]:
    """Of Bedrock's Converse: each event has one key, its type."""
    prompt, completion = answer.usage or (0, 0)
    events: list[Payload] = [
        {"messageStart": {"role": "assistant"}},
        *({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": text}}} for text in answer.chunks),
    ]
    if answer.finish_reason is not None:
        counted = {"inputTokens": prompt, "outputTokens": completion, "totalTokens": prompt + completion}
        events += [
            {"contentBlockStop": {"contentBlockIndex": 0}},
            {"messageStop": {"stopReason": answer.finish_reason}},
            {"metadata": {"usage": counted, "metrics": {"latencyMs": 1}}},
        ]
    return events


@dataclass(frozen=True, slots=True)
class Dialect:
    """``frame`` turns a payload into bytes; ``closing`` ends a stream that ended well.

    ``body`` is the answer to a request without ``stream``, ``error`` an error (a message and a status) in an
    answer. ``ends`` has the dialect's words for the finish reasons of chat completions.
    """

    events: Callable[[Answer], list[Payload]]
    body: Callable[[Answer], Payload]
    frame: Callable[[Payload], bytes]
    error: Callable[[str, int], Payload]
    ends: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/event-stream"
    closing: bytes = b""
    streams: Callable[[Mapping[str, Any]], bool] = lambda body: bool(body.get("stream"))

    def pieces(self, answer: Answer) -> list[bytes]:
        """The stream of an answer, an event each."""
        return [*map(self.frame, self.events(answer)), *([self.closing] if self.closing else [])]


def sse(payload: Payload) -> bytes:
    return b"data: " + _json(payload) + b"\n\n"


def named_sse(payload: Payload) -> bytes:
    name = payload["type"] if isinstance(payload, dict) and "type" in payload else "message"
    return f"event: {name}\n".encode() + sse(payload)


def aws_event(payload: Payload) -> bytes:
    """A message of the binary streams of AWS: lengths, headers, the JSON, and checksums of what is before.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """
    ((kind, body),) = payload.items()
    named = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    headers = b"".join(
        struct.pack(f"!B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in named.items()
    )
    content = _json(body)
    prelude = struct.pack("!II", 16 + len(headers) + len(content), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + content
    return message + struct.pack("!I", zlib.crc32(message))


def ndjson(payload: Payload) -> bytes:
    return _json(payload) + b"\n"


def _json(payload: Payload) -> bytes:
    """Letters as they are; half of a surrogate pair can only be written as an escape."""
    try:
        return json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(payload).encode()


DIALECTS: Mapping[str, Dialect] = {
    "/chat/completions": Dialect(openai_events, openai_body, sse, openai_error, closing=b"data: [DONE]\n\n"),
    "/api/chat": Dialect(
        ollama_events,
        lambda answer: ollama_events(answer)[-1],
        ndjson,
        ollama_error,
        content_type="application/x-ndjson",
        streams=lambda _: True,
    ),
    "/messages": Dialect(anthropic_events, anthropic_body, named_sse, anthropic_error, ANTHROPIC_ENDS),
    ":streamRawPredict": Dialect(  # Claude on Vertex AI
        anthropic_events, anthropic_body, named_sse, anthropic_error, ANTHROPIC_ENDS, streams=lambda _: True
    ),
    ":streamGenerateContent": Dialect(
        gemini_events, gemini_body, sse, gemini_error, GEMINI_ENDS, streams=lambda _: True
    ),
    ":generateContent": Dialect(
        gemini_events, gemini_body, sse, gemini_error, GEMINI_ENDS, streams=lambda _: False
    ),
    "/converse-stream": Dialect(
        bedrock_events,
        openai_body,  # which is never asked for
        aws_event,
        openai_error,
        content_type="application/vnd.amazon.eventstream",
        streams=lambda _: True,
    ),
    "/responses": Dialect(responses_events, responses_body, named_sse, responses_error, RESPONSES_ENDS),
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
    if answer.cached or answer.written:
        usage["prompt_tokens_details"] = {
            "cached_tokens": answer.cached,
            "cache_write_tokens": answer.written,
        }
    if answer.thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.thought}
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
