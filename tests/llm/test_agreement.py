"""Answers as real servers send them, odd ones too: both transports read each of them alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from aethr.llm.routes import VARIABLE
from tests.dialects import Answer
from tests.llm.test_model import WAYS, Outcome, call, litellm_is_loaded, request
from tests.model_server import Reply

__all__ = ["litellm_is_loaded"]

DIRECT = ("openai", "hosted_vllm", "lm_studio", "openrouter", "xai")
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def part(delta: object, end: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": end}], **more}


def counted(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def stream(*events: object, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end


HI, STOP = part({"content": "hi"}), part({}, "stop")
TOTAL = counted(1000, 5, total_tokens=1005)
STREAMS = {
    "counts at the end": stream(HI, STOP, {**HEAD, "choices": [], "usage": TOTAL}),
    "counts without a total": stream(HI, STOP, {**HEAD, "choices": [], "usage": counted(10, 5)}),
    "counts in every event": stream(
        part({"content": "h"}, usage=counted(10, 1, total_tokens=11)),
        part({"content": "i"}, "stop", usage=counted(10, 2, total_tokens=12)),
    ),
    "counts that are null": stream(part({"content": "hi"}, usage=None), part({}, "stop", usage=TOTAL)),
    "cached and thought tokens": stream(
        HI,
        part(
            {},
            "stop",
            usage={
                **TOTAL,
                "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        ),
    ),
    "no counts": stream(HI, STOP),
    "comments": ": ping\n\n" + stream(HI, end=": ping\n\n") + stream(STOP),
    "CR LF": stream(HI, STOP).replace("\n", "\r\n"),
    "no space": stream(HI, STOP).replace("data: ", "data:"),
    "named events": "event: message\n" + stream(HI, STOP),
    "thought beside the text": stream(part({"content": None, "reasoning_content": "hm"}), HI, STOP),
    "thought beside the text, by its other name": stream(part({"content": "", "reasoning": "hm"}), HI, STOP),
    "thought inside of the text": stream(part({"content": "<think>hm</think>"}), HI, STOP),
    "two choices": stream(part({"content": "B"}, index=1), HI, STOP),
    "text after the end": stream(HI, part({"content": "!"}, "stop"), part({"content": "?"})),
    "an empty end": stream(HI, part({}, "")),
    "a tool call": stream(
        part({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f"}}]}),
        part({}, "tool_calls"),
    ),
    "a refusal": stream(part({"refusal": "no"}), STOP),
    "half an event": stream(HI, end='data: {"id": "chatcmpl-1", "cho'),
    "error 500 after text": stream(HI, {"error": {"message": "boom", "code": 500}}),
    "error 429": stream({"error": {"message": "slow down", "code": 429}}),
    "error 401": stream({"error": {"message": "no key", "code": 401}}),
    "error, too long": stream({"error": {"message": "maximum context length is 9", "code": 400}}),
    "error and an end": stream({**part({}, "error"), "error": {"message": "boom", "code": 502}}),
    "parts": stream(part({"content": [{"type": "text", "text": "a"}, {"type": "thinking"}]}), STOP),
    "a whole answer": json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}),
    "a flat error": stream(HI, {"object": "error", "message": "no memory", "code": 500}),
    "letters that end lines": stream(part({"content": "a|b|c"}), STOP).replace("|", "\u2028"),
    "all thought": stream(part({"reasoning_content": "hm"}), part({}, "length", usage=TOTAL)),
}
LINES = {
    "counts": [{"message": {"content": "hi"}}, {"done": True, "prompt_eval_count": 9, "eval_count": 2}],
    "thought": [{"message": {"content": "", "thinking": "hm"}}, {"message": {"content": "hi"}, "done": True}],
    "cut": [{"message": {"content": "hi"}, "done": False}],
    "length": [{"message": {"content": "hi"}, "done": True, "done_reason": "length"}],
    "error": [{"message": {"content": "hi"}}, {"error": "model runner crashed"}],
    "error at once": [{"error": "no memory"}],
    "one line end too many": [{"message": {"content": "a\u2028b"}}, {"done": True}],
}
REFUSALS = {
    "400 with a detail": (400, '{"detail": "Not good"}'),
    "400 in a list": (400, '[{"error": {"message": "inner"}}]'),
    "400 without a message": (400, '{"error": {"message": {"a": 1}}}'),
    "400 filtered": (400, '{"error": {"message": "x", "code": "content_filter"}}'),
    "400 empty": (400, ""),
    "401 null": (401, "null"),
    "402": (402, '{"error": {"message": "Insufficient credits", "code": 402}}'),
    "403 with a page": (403, "<html><title>Blocked</title></html>"),
    "404 as a text": (404, '{"error": "Model not found"}'),
    "404 flat": (404, '{"object": "error", "message": "no such model", "code": 404}'),
    "409": (409, '{"error": {"message": "conflict"}}'),
    "413 too long": (413, '{"error": {"message": "it exceeds the context window"}}'),
    "418 plain": (418, "teapot"),
    "500 empty": (500, ""),
    "500 plain": (500, "it burns"),
    "504 with half a page": (504, "<html>"),
    "529": (529, '{"error": {"message": "overloaded"}}'),
}
REPLIES = {
    **{name: Reply(body=body, content_type="text/event-stream") for name, body in STREAMS.items()},
    **{name: Reply(status=status, body=body) for name, (status, body) in REFUSALS.items()},
}


OTHERS = ("anthropic", "google", "responses")
ANSWERS = {
    "counts": Answer(("h", "i"), usage=(1000, 5)),
    "cached tokens": Answer(("hi",), usage=(1000, 5), cached=800),
    "no counts": Answer(("hi",), usage=None),
    "thought beside the text": Answer(("hi",), thoughts=("h", "m")),
    "thought inside of the text": Answer(("<think>hm</think>",)),
    "letters that end lines": Answer(("a\u2028b\u2029c\u0085d",)),
    "all thought": Answer((), "length", thoughts=("hm",)),
    "length": Answer(("hi",), "length"),
    "filtered": Answer(("hi",), "content_filter"),
    "filtered at once": Answer((), "content_filter"),
    "a refusal": Answer(("hi",), refusal="no"),
    "a word of tomorrow": Answer(("hi",), "a_word"),
    "cut": Answer(("hi",), None),
    "nothing": Answer(()),
}
TAILS = {
    "": b"",
    " and half an event": b'data: {"type": "content',
    " and an error": b'data: {"error": {"message": "boom", "code": 500}}\n\n',
    " and a heartbeat": b": ping\n\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("provider", OTHERS)
def test_both_transports_read_other_protocols_alike(
    monkeypatch: pytest.MonkeyPatch, provider: str, case: str, tail: str
) -> None:
    pieces = WAYS[provider].dialect.pieces(ANSWERS[case])
    seen = []
    for word in ("litellm", "direct"):
        monkeypatch.setenv(VARIABLE, word)
        reply = Reply(pieces=(*pieces, TAILS[tail]), content_type="text/event-stream")
        seen.append(visible_facts(call([reply] * 3, request(WAYS[provider].model))))
    assert seen[0] == seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", LINES)
def test_both_transports_read_ollamas_answers_alike(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    body = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in LINES[case])
    seen = []
    for word in ("litellm", "direct"):
        monkeypatch.setenv(VARIABLE, word)
        reply = Reply(body=body, content_type="application/x-ndjson")
        seen.append(visible_facts(call([reply] * 3, request("ollama:some-model"))))
    assert seen[0] == seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_both_transports_read_ollamas_refusals_alike(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    seen = []
    for word in ("litellm", "direct"):
        monkeypatch.setenv(VARIABLE, word)
        seen.append(visible_facts(call([REPLIES[case]] * 3, request("ollama:some-model"))))
    assert seen[0] == seen[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provider", "case"),
    [
        *((provider, case) for provider in DIRECT for case in REPLIES),
        *((provider, case) for provider in OTHERS for case in REFUSALS),
    ],
)
def test_both_transports_read_answers_alike(
    monkeypatch: pytest.MonkeyPatch, provider: str, case: str
) -> None:
    seen = []
    for word in ("litellm", "direct"):
        monkeypatch.setenv(VARIABLE, word)
        seen.append(visible_facts(call([REPLIES[case]] * 3, request(WAYS[provider].model))))
    assert seen[0] == seen[1]


def visible_facts(outcome: Outcome) -> Iterable[object]:
    """Everything that an answer shows, without the server's port."""
    done = outcome.completion and outcome.completion._replace(transport="")
    failed = outcome.error and (re.sub(r":\d{4,5}\b", ":PORT", str(outcome.error)), outcome.error.fix)
    return (done, failed, outcome.deltas, outcome.notices, outcome.sleeps, len(outcome.requests))
