"""Faulty servers, over both transports: text is never lost, heartbeats are ignored, errors are reported."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from aethr.base import outside
from aethr.base.records import Allowance, ModelSpec, Usage
from aethr.llm import Call, CallFailed, Deadlines, Endpoint
from aethr.llm.exchange import Direct, Exchange
from aethr.llm.failures import error_in, transport_failure
from aethr.llm.model import LONGEST_WAIT_S, MEANINGFUL, cut_prompt
from aethr.llm.transport_litellm import LiteLLM
from tests.dialects import Answer
from tests.llm.test_model import (
    GPT,
    KEY,
    LANES,
    PATIENT,
    WAYS,
    Outcome,
    call,
    litellm_is_loaded,
    request,
    streamed,
    transport,
)
from tests.model_server import ModelServer, Reply, error

__all__ = ["litellm_is_loaded", "transport"]

CHAT = ("openai", "hosted_vllm")
"""LiteLLM calls the first with OpenAI's SDK, the second with httpx."""


def event(value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def chunk(text: object = None, end: str | None = None, index: int = 0, **more: object) -> bytes:
    delta = {**more, **({} if text is None else {"content": text})}
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": end}]})


def counted(prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"choices": [], "usage": usage})


END = (chunk(None, "stop"), event("[DONE]"))


def raw_reply(*pieces: bytes | float, kind: str = "text/event-stream", **more: Any) -> Reply:
    return Reply(pieces=pieces, content_type=kind, **more)


def call_model(name: str, *replies: Reply, limits: Deadlines = PATIENT, **fields: Any) -> Outcome:
    return call(
        [*replies, *[error(418, "one request too many")] * 3], request(WAYS[name].model, **fields), limits
    )


# --- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ((chunk([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]), *END), "a b"),
        ((chunk([{"type": "thinking", "thinking": "hm"}]), chunk("a"), *END), "a"),
        ((chunk([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}]), *END), "a"),
        ((chunk("a\u0085b\u2028c\u2029d\x0be\x0cf\x1cg"), *END), "a\u0085b\u2028c\u2029d\x0be\x0cf\x1cg"),
        ((chunk("a"), chunk("of another choice", index=1), *END), "a"),
        ((chunk("of another choice", "stop", index=1), chunk("a"), *END), "a"),
        ((event({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}),), "a"),
        ((event({"choices": [{"text": "a", "index": 0, "finish_reason": "stop"}]}),), "a"),
        ((chunk("a"), chunk(None, "stop").rstrip()), "a"),
        ((b"event: message\r\n", chunk("a").replace(b"\n", b"\r\n"), *END), "a"),
        ((chunk("a").rstrip() + b"\n", chunk("b"), *END), "ab"),
    ],
    ids=[
        "parts", "a thought in parts", "reasoning in parts", "letters that end lines elsewhere",
        "two choices", "the other choice ends first", "a message in the stream", "a legacy text",
        "no line end at the end", "named events", "no empty line between",
    ],
)  # fmt: skip
def test_every_word_of_the_answer_arrives(name: str, pieces: tuple[bytes, ...], text: str) -> None:
    outcome = call_model(name, raw_reply(*pieces))
    assert (outcome.done.content, outcome.done.truncated) == (text, False)
    assert "".join(outcome.deltas) == text


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_later_stop_does_not_undo_a_cut(name: str, reason: str) -> None:
    outcome = call_model(name, raw_reply(chunk("Review status: pass"), chunk(None, reason), *END))
    assert (outcome.done.truncated, outcome.done.finish_reason) == (True, reason)


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    "piece",
    [
        chunk([{"type": "markdown", "value": "- [high] a.py:2 — lost"}]),
        chunk(7),
        event({"choices": [{"delta": "- [high] a.py:2 — lost"}]}),
        event("- [high] a.py:2 — lost"),
        event('{"choices": [{"delta": {"content": "- [high] a.py:2 — cut'),
    ],
    ids=["a part of unknown type", "a number", "a delta that is a text", "words alone", "half an object"],
)
def test_an_unreadable_piece_fails_even_before_a_pass(name: str, piece: bytes) -> None:
    outcome = call_model(name, raw_reply(piece, chunk("Review status: pass"), *END))
    assert "the answer is not in the protocol" in outcome.line
    assert len(outcome.requests) == 1


ODD = "a\u0085b\u2028c\u2029d"


@pytest.mark.parametrize("name", ["ollama", "anthropic", "google", "responses"])
def test_unicode_line_ends_stay_in_other_protocols(name: str) -> None:
    way = WAYS[name]
    outcome = call_model(name, Reply((ODD, "e"), way.finished))
    assert (outcome.done.content, outcome.done.finish_reason) == (ODD + "e", way.finished)


def test_litellms_side_request_is_not_taken_for_the_call(transport: str) -> None:
    """It asks Ollama's ``/api/show`` about a model that is new to it, before the call and after it."""
    outcome = call([Reply((ODD, "e"))], request(f"ollama:never-seen-with-{transport}"))
    assert (outcome.done.content, outcome.done.usage.total_tokens) == (ODD + "e", 15)
    refused = error(400, "it exceeds the context length")
    outcome = call([refused], request(f"ollama:another-never-seen-with-{transport}"))
    assert "too long for the model's window (400)" in outcome.line


# --- heartbeats --------------------------------------------------------------------------------

BEATS = {
    "comment": b": OPENROUTER PROCESSING\n\n",
    "ping": b"event: ping\ndata:\n\n",
    "ping with data": b'event: ping\ndata: {"type": "ping"}\n\n',
    "comment as data": b"data: : PROCESSING\n\n",
    "empty data": b"data:\n\n",
    "white data": b"data:    \n\n",
    "empty lines": b"\n\n\n",
    "null": b"data: null\n\n",
    "no choices": event({"choices": []}),
    "no choice at all": event({"id": "x", "choices": None}),
    "empty object": event({}),
}


@pytest.mark.parametrize("name", LANES)
@pytest.mark.parametrize("beat", BEATS)
def test_a_heartbeat_is_never_an_error(name: str, beat: str) -> None:
    whole = pieces_of(name, "Fine. ", "Yes.")
    outcome = call_model(name, raw_reply(*(BEATS[beat] + piece for piece in whole)))
    assert (outcome.done.content, outcome.done.finish_reason) == ("Fine. Yes.", WAYS[name].finished)


def pieces_of(name: str, *texts: str, **fields: Any) -> list[bytes]:
    """The stream of an answer in the protocol of a provider."""
    return WAYS[name].dialect.pieces(Answer(texts, **fields))


@pytest.mark.slow
@pytest.mark.parametrize("name", LANES)
def test_any_byte_restarts_the_silence_limit(name: str) -> None:
    limits = Deadlines(silence_s=0.6, whole_s=30)
    beats = {b"first": [b": x\n\n", 0.01] * 20, b"second": [b": x\n\n", 0.25] * 3}
    slow: list[bytes | float] = []
    for piece in pieces_of(name, "first", "second"):
        slow += [each for word, before in beats.items() if word in piece for each in before]
        slow.append(piece)
    outcome = call_model(name, raw_reply(*slow), limits=limits)
    assert outcome.done.content == "firstsecond"
    assert len(outcome.requests) == 1
    assert 0 < outcome.thoughts <= 10


@pytest.mark.parametrize("name", [*LANES, "ollama"])
def test_before_the_first_text_only_the_deadline_counts(name: str) -> None:
    limits = Deadlines(silence_s=0.6, whole_s=30)
    first = b'{"done": false}\n' if name == "ollama" else b": x\n\n"
    outcome = call_model(name, raw_reply(first, 0.8, *pieces_of(name, "ok")), limits=limits)
    assert outcome.done.content == "ok"
    assert len(outcome.requests) == 1


# --- errors within an answer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, form) for name in CHAT for form in ("whole", "event", "named event", "pretty")),
        *((name, form) for name in ("anthropic", "google") for form in ("whole", "named event")),
    ],
)
@pytest.mark.parametrize(
    ("body", "said", "requests"),
    [
        ({"error": {"message": "Insufficient credits", "code": 402}}, "no credit left (402): Insuff", 1),
        ({"error": {"message": "Slow down", "code": 429}}, "too many requests (429): Slow down", 3),
        ({"error": {"message": "Slow down", "code": "429"}}, "too many requests (429): Slow down", 3),
        ({"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}, "too many requests (429)", 3),
        ({"error": {"message": "Slow", "status": "RESOURCE_EXHAUSTED"}}, "too many requests (429): Slow", 3),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Full"}}, "failed: Full", 3),
        ({"object": "error", "message": "CUDA out of memory", "code": 500}, "failed: CUDA out of", 3),
        ({"code": "Client specified an invalid argument", "error": "Not this"}, "failed: Not this", 3),
        ({"error": "model runner crashed"}, "the provider failed: model runner crashed", 3),
        ({"detail": "Model not loaded"}, "the provider failed: Model not loaded", 3),
        ({"error": {"message": "no key", "type": "authentication_error"}}, "refused (401): no key", 1),
        ({"error": {"message": "gone", "code": "model_not_found"}}, "(404): gone", 1),
        ({"error": {"message": "the request exceeds the available context size"}}, "too long for the", 1),
        ([{"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}}], "failed: later", 3),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict | list) else None,
)
def test_an_error_in_an_answer_is_read(name: str, form: str, body: object, said: str, requests: int) -> None:
    pieces = {
        "whole": json.dumps(body).encode(),
        "event": event(body),
        "named event": b"event: error\n" + event(body),
        "pretty": json.dumps(body, indent=2).encode(),
    }
    kind = "application/json" if form == "whole" else "text/event-stream"
    outcome = call_model(name, *[raw_reply(pieces[form], kind=kind)] * requests)
    assert said in outcome.line
    assert len(outcome.requests) == requests


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "Full up"}}),
        ("google", {"error": {"code": 503, "message": "Full up", "status": "UNAVAILABLE"}}),
        ("google", [{"error": {"code": 503, "message": "Full up", "status": "UNAVAILABLE"}}]),
        ("ollama", {"error": "Full up"}),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_an_error_in_an_answer_is_read_in_other_protocols(name: str, body: object, bare: bool) -> None:
    piece = json.dumps(body).encode() + b"\n" if bare or name == "ollama" else event(body)
    outcome = call_model(name, *[raw_reply(piece)] * 3)
    assert outcome.line == f"{WAYS[name].model}: the provider failed: Full up"
    assert len(outcome.requests) == 3


def test_an_object_without_an_error_is_not_an_error() -> None:
    for data in (
        {"error": None, "choices": []},
        {"error": False},
        {"error": ""},
        {"error": {}},
        {"choices": [], "detail": "x"},
        {"message": {"content": "x"}, "done": False},
        {"type": "ping"},
    ):
        assert error_in(data) is None, data


def test_a_deeply_nested_error_is_one_line() -> None:
    body: object = "deep"
    for _ in range(300):
        body = {"error": body}
    outcome = call_model("openai", *[raw_reply(event(body))] * 3)
    assert "the provider failed" in outcome.line


@pytest.mark.parametrize("name", LANES)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", ""])
def test_an_unstreamed_answer_to_a_streamed_request_is_read(name: str, kind: str) -> None:
    body = WAYS[name].dialect.body(Answer(("Fine.",), usage=(9, 2)))
    for indent in (None, 2):
        outcome = call_model(name, raw_reply(json.dumps(body, indent=indent).encode(), kind=kind))
        assert (outcome.done.content, outcome.done.usage.total_tokens) == ("Fine.", 11)
        assert outcome.done.finish_reason == WAYS[name].finished
        assert len(outcome.requests) == 1


def test_geminis_answer_in_a_list_is_read() -> None:
    """What it sends without ``alt=sse``, as some gateways do."""
    parts = WAYS["google"].dialect.events(Answer(("Fi", "ne.")))
    done = call_model("google", raw_reply(json.dumps(parts, indent=1).encode())).done
    assert (done.content, done.finish_reason) == ("Fine.", "STOP")


def test_a_prompt_that_gemini_blocks_has_a_clear_error() -> None:
    outcome = call_model("google", raw_reply(event({"promptFeedback": {"blockReason": "SAFETY"}})))
    assert outcome.line.endswith("content filter refused: the prompt was blocked: SAFETY")


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    ("late", "note"),
    [
        (event({"error": {"message": "late", "code": 500}}), "late"),
        (event('{"choices": [{"del'), "broken JSON"),
        (event({"choices": 7}), "broken JSON"),
        (30.0, None),
    ],
    ids=["an error", "half an object", "not the protocol", "silence"],
)
def test_a_late_error_keeps_the_complete_answer(name: str, late: bytes | float, note: str | None) -> None:
    limits = Deadlines(linger_s=0.3, whole_s=20)
    outcome = call_model(
        name, raw_reply(chunk("whole"), chunk(None, "stop"), counted(9, 2), late), limits=limits
    )
    assert (outcome.done.content, outcome.done.usage.total_tokens) == ("whole", 11)
    assert [
        said for said in outcome.done.notes if "after the end" in said and (note or "!") in said
    ] or not note
    assert len(outcome.requests) == 1


@pytest.mark.parametrize("name", ["anthropic", "google", "ollama", "responses"])
def test_a_late_error_keeps_the_answer_in_other_protocols(name: str) -> None:
    dialect = WAYS[name].dialect
    late = dialect.frame(dialect.error("late", 500))
    outcome = call_model(name, raw_reply(*pieces_of(name, "whole"), late))
    assert outcome.done.content == "whole"
    assert [note for note in outcome.done.notes if "an error after the end of the answer: late" in note]


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    "pieces",
    [
        (chunk(refusal="I cannot "), chunk(refusal="help."), *END),
        (chunk("Well. "), chunk(refusal="I cannot help."), *END),
        (chunk([{"type": "refusal", "refusal": "I cannot help."}]), *END),
        (
            json.dumps(
                {"choices": [{"message": {"refusal": "I cannot help."}, "finish_reason": "stop"}]}
            ).encode(),
        ),
    ],
    ids=["deltas", "after text", "a part", "whole"],
)
def test_a_refusal_is_shown_in_the_models_words(name: str, pieces: tuple[bytes, ...]) -> None:
    outcome = call_model(name, raw_reply(*pieces))
    assert outcome.line == f"{WAYS[name].model}: the model refused to answer: I cannot help."
    assert len(outcome.requests) == 1


@pytest.mark.parametrize("texts", [(), ("Well. ",)])
@pytest.mark.parametrize("name", ["anthropic", "google", "responses"])
def test_a_refusal_is_shown_in_the_words_of_the_provider(name: str, texts: tuple[str, ...]) -> None:
    what = {
        "google": "the provider's content filter refused: the prompt was blocked: OTHER: I cannot help."
    }.get(name, "the model refused to answer: I cannot help.")
    for pieces in (
        pieces_of(name, *texts, refusal="I cannot help."),
        [json.dumps(WAYS[name].dialect.body(Answer(texts, refusal="I cannot help."))).encode()],
    ):
        outcome = call_model(name, raw_reply(*pieces))
        assert outcome.line == f"{WAYS[name].model}: {what}"
        assert len(outcome.requests) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [*((name, "length") for name in LANES), ("openai", "max_tokens")]
)
def test_thinking_that_used_all_tokens_is_reported(name: str, reason: str) -> None:
    thought = pieces_of(name, thoughts=("hm",), finish_reason=reason, usage=(90, 60))
    outcome = call_model(name, raw_reply(*thought))
    assert outcome.line.endswith("the answer is empty: all 60 answer tokens went to thinking")
    assert outcome.error is not None
    assert "max_tokens" in outcome.error.fix
    assert [usage.total_tokens for usage in outcome.spent] == [150]
    assert len(outcome.requests) == 1


@pytest.mark.parametrize("name", CHAT)
def test_thinking_of_an_unknown_size_is_reported(name: str) -> None:
    outcome = call_model(name, raw_reply(chunk(None, "length"), counted(90, 0), event("[DONE]")))
    assert outcome.line.endswith("the answer is empty: all answer tokens went to thinking")
    assert [(usage.prompt_tokens, usage.total_tokens) for usage in outcome.spent] == [(90, None)]


def test_tokens_of_a_failed_attempt_reduce_the_allowance() -> None:
    broke = raw_reply(chunk("half"), counted(1000, 900), event({"error": {"message": "x", "code": 500}}))
    spec = ModelSpec(GPT, max_tokens=500)
    outcome = call([broke, "whole"], request(spec, allowance=Allowance(tokens=2000)))
    assert [usage.total_tokens for usage in outcome.spent] == [1900]
    assert "100 are left" in outcome.line


# --- refusals ----------------------------------------------------------------------------------

RAW = json.dumps({"error": {"message": "acme/some-model is rate-limited upstream"}})
WRAPPED = {"message": "Provider returned error", "code": 429, "metadata": {"raw": RAW, "provider_name": "A"}}


@pytest.mark.parametrize("name", [*CHAT, "openrouter", "anthropic", "google", "ollama", "responses"])
@pytest.mark.parametrize(
    ("status", "headers", "body", "said", "sleeps"),
    [
        (409, {}, '{"error": {"message": "conflict"}}', "the provider failed (409): conflict", [1.0, 2.0]),
        (413, {}, "<html><title>Too Large</title></html>", "request is too large for the server (413)", []),
        (413, {}, '{"error": {"message": "maximum context length is 9"}}', "too long for the model", []),
        (
            403,
            {},
            '{"error": {"code": "unsupported_country_region_territory", "message": "Not in your region"}}',
            "the provider does not serve this place (403): Not in your region",
            [],
        ),
        (
            429,
            {},
            json.dumps({"error": WRAPPED}),
            "(429): Provider returned error: acme/some-model is rate-limited upstream",
            [1.0, 2.0],
        ),
        (429, {"Retry-After": "inf"}, "", "too many requests (429)", [1.0, 2.0]),
        (429, {"Retry-After": "nan"}, "", "too many requests (429)", [1.0, 2.0]),
        (429, {"Retry-After": "-5"}, "", "too many requests (429)", [1.0, 2.0]),
        (429, {"Retry-After": "1e400"}, "", "too many requests (429)", [1.0, 2.0]),
        (429, {"Retry-After": "9" * 400}, "", "it asks to wait 1,000,000,000 s", []),
        (
            429,
            {"Retry-After": "Thu, 01 Jan 100000000000000000000 00:00:00 GMT"},
            "",
            "too many requests (429)",
            [1.0, 2.0],
        ),
        (429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", "too many requests (429)", [0.0, 0.0]),
        (504, {}, "", "no answer in time (504)", [1.0, 2.0]),
        (418, {}, "teapot", "the request was refused (418): teapot", []),
    ],
    ids=[
        "409", "413 page", "413 window", "403 region", "429 raw", "inf", "nan", "negative", "1e400", "huge",
        "a date beyond time", "a date long ago", "504", "418",
    ],
)  # fmt: skip
def test_a_refusal_has_the_same_text_and_retries_everywhere(
    name: str, status: int, headers: Mapping[str, str], body: str, said: str, sleeps: list[float]
) -> None:
    outcome = call([Reply(status=status, headers=headers, body=body)] * 4, request(WAYS[name].model))
    assert said in outcome.line
    assert outcome.sleeps == sleeps
    assert len(outcome.requests) == 1 + len(sleeps)


def test_a_retry_after_in_milliseconds_counts() -> None:
    outcome = call([error(429, retry_after_ms="1500", Retry_After="2"), "ok"])
    assert outcome.sleeps == [1.5]


@pytest.mark.parametrize("said", ["inf", "-inf", "nan", "", "soon", "1_000", "0x10", "１２", "1e3", "\ud800"])
def test_an_invalid_retry_after_is_ignored(said: str) -> None:
    assert outside.retry_after_s(said) is None


def test_a_retry_after_is_not_negative_or_infinite() -> None:
    assert outside.retry_after_s(" 7 ") == 7.0
    assert outside.retry_after_s("2.5") == 2.5
    assert outside.retry_after_s("Mon, 01 Jan 1990 00:00:00 GMT") == 0.0
    assert (outside.retry_after_s("9" * 4000) or 0) > LONGEST_WAIT_S


# --- without streaming -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LANES, "lm_studio", "ollama"])
def test_an_empty_stream_is_retried_unstreamed_for_the_reason(name: str) -> None:
    said = "the model is loaded with context length of only 4096 tokens, which is not enough"
    outcome = call_model(name, raw_reply(*pieces_of(name, usage=(9, 0))), error(400, said))
    assert f"too long for the model's window (400): {said}" in outcome.line
    assert list(map(streamed, outcome.requests)) == [True, False]
    assert "stream_options" not in outcome.requests[1]["body"]


@pytest.mark.parametrize("name", LANES)
def test_an_empty_stream_may_be_answered_unstreamed(name: str) -> None:
    outcome = call_model(name, raw_reply(event("[DONE]")), Reply(("Fine.",)))
    assert outcome.done.content == "Fine."
    assert len(outcome.requests) == 2


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize("second", [Reply(()), error(503), error(429), Reply(fault="reset_before")])
def test_an_empty_stream_is_retried_at_most_once(name: str, second: Reply) -> None:
    outcome = call_model(name, raw_reply(*END), second)
    assert outcome.error is not None
    assert len(outcome.requests) == 2
    assert outcome.sleeps == []


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    "body",
    [
        {"message": "Your organization must be verified to stream this model.", "param": "stream"},
        {"message": "stream is not supported here", "param": "stream", "code": "unsupported_value"},
    ],
    ids=["verified", "unsupported"],
)
def test_an_account_that_may_not_stream_is_retried_unstreamed(name: str, body: object) -> None:
    outcome = call_model(name, Reply(status=400, body=json.dumps({"error": body})), Reply(("Fine.",)))
    assert outcome.done.content == "Fine."
    assert "retrying once without streaming" in outcome.notices[0]
    assert [sent["body"].get("stream", False) for sent in outcome.requests] == [True, False]


# --- a prompt that was cut ---------------------------------------------------------------------

LONG = "def total(prices):\n    return sum(prices) + 1\n" * 900


@pytest.mark.parametrize("name", [*CHAT, "anthropic", "google", "ollama", "responses"])
@pytest.mark.parametrize(("counts", "cut"), [((4096, 5), True), ((9000, 5), False), ((0, 5), False)])
def test_a_small_token_count_shows_that_the_prompt_was_cut(
    name: str, counts: tuple[int, int], cut: bool
) -> None:
    outcome = call_model(name, Reply(("Fine.",), WAYS[name].finished, counts), prompt=LONG)
    said = outcome.done.cut_prompt
    assert (said is not None) is cut
    if said is not None:
        assert said.startswith(f"the server counted 4,096 tokens for {len(LONG):,} characters")
        assert "OLLAMA_CONTEXT_LENGTH" in said
        assert "context_chars" in said


@pytest.mark.parametrize(
    "prompt",
    [
        "x" * 100_000,
        "\n".join(" " * 120 + "x" for _ in range(500)),
        ("=" * 79 + "\n") * 300,
        "ab" * (MEANINGFUL // 2 - 1),
    ],
    ids=["one letter", "deep indentation", "ruled lines", "short"],
)
def test_runs_of_one_letter_do_not_look_like_a_cut_prompt(prompt: str) -> None:
    assert cut_prompt(prompt, Usage(prompt_tokens=max(40, len(prompt) // 70))) is None


@pytest.mark.parametrize(
    ("text", "per_token"),
    [
        ("The quick brown fox jumps over the lazy dog. ", 5),
        ("Съешь же ещё этих мягких французских булок. ", 4.5),
        ("那只敏捷的棕色狐狸跳过了那只懒狗。", 2.2),
        ("एक तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर से कूदती है। ", 4.5),
        ("😀", 1),
    ],
)
def test_no_language_looks_like_a_cut_prompt(text: str, per_token: float) -> None:
    """``per_token``: characters per token in the best vocabulary for it, rounded up."""
    prompt = text * (20_000 // len(text))
    assert cut_prompt(prompt, Usage(prompt_tokens=int(len(prompt) / per_token))) is None


def test_the_count_includes_what_was_cached() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9900}}
    outcome = call_model(
        "openai", raw_reply(chunk("Fine."), *END[:1], event({"choices": [], "usage": usage})), prompt=LONG
    )
    assert outcome.done.cut_prompt is None


@pytest.mark.parametrize("limit", [None, 9000])
def test_ollama_gets_the_window_and_must_not_cut(limit: int | None, transport: str) -> None:
    spec = ModelSpec("ollama:some-model", temperature=0.0, seed=7, max_tokens=limit)
    outcome = call([Reply(("Fine.",), usage=(12_000, 5))], request(spec, prompt=LONG))
    body = outcome.requests[-1]["body"]
    assert (body["truncate"], body["shift"], body["stream"]) == (False, False, True)
    needed = len(LONG) / 3 + 8192
    assert needed <= body["options"]["num_ctx"] < needed + 4097
    assert (body["options"]["temperature"], body["options"]["seed"]) == (0.0, 7)
    assert body["options"]["num_predict"] == (limit or 16_384)
    assert "think" not in body
    assert outcome.done.transport == transport
    assert outcome.done.notes == ()


def test_a_prompt_too_long_for_ollama_has_a_clear_error() -> None:
    refusal = Reply(status=400, body='{"error": "the prompt is too long: it exceeds the context length"}')
    outcome = call([refusal], request("ollama:some-model", prompt=LONG))
    assert "the prompt is too long for the model's window (400)" in outcome.line
    assert outcome.error is not None
    assert "context_chars" in outcome.error.fix


# --- deadlines and bounds ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHAT, "ollama"])
def test_an_endless_stream_ends_with_the_deadline(name: str) -> None:
    """The reader takes 5 ms for each piece, so that it would need minutes for all that arrives."""
    import time

    from tests.llm.test_model import backend, environ_for

    piece = b'{"message": {"content": "x"}, "done": false}\n' if name == "ollama" else chunk("x")
    with ModelServer([raw_reply(*[piece * 1000] * 2000)]) as server:
        model = backend(environ_for(WAYS[name], server))
        began = time.monotonic()
        with pytest.raises(Exception, match="the whole call took longer than 1 s"):  # noqa: PT012
            for _ in model.complete(request(ModelSpec(WAYS[name].model, timeout_s=1))):
                time.sleep(0.005)
        assert time.monotonic() - began < 2.5


def test_a_slow_reader_still_gets_the_complete_answer() -> None:
    from contextlib import closing

    from aethr.llm.connection import Feed

    with ModelServer([Reply(("a", "b"))]) as server:
        one = Call("hi", ModelSpec(GPT), Endpoint(KEY, server.base_url), PATIENT, None)
        with closing(Feed(Direct(), one)) as feed:
            assert feed.next(10, 10) is not None
            assert feed._ended.wait(10)
            read = []
            while (piece := feed.next(-1, 10)) is not None:
                read.append(piece.text)
    assert "b" in read


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize("status", [200, 500])
def test_reading_stops_early_in_a_compressed_gigabyte(name: str, status: int) -> None:
    resource = pytest.importorskip("resource", reason="measures as POSIX does")
    packed = gzip.compress(b"x" * (64 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = raw_reply(packed, *[packed] * 4, status=status, headers={"Content-Encoding": "gzip"})
    outcome = call_model(name, *[bomb] * 3)
    assert outcome.error is not None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000, "in kilobytes"


def test_an_encoding_that_was_not_requested_is_an_error() -> None:
    outcome = call_model("openai", raw_reply(b"x", headers={"Content-Encoding": "br"}))
    assert "compressed, but not as requested: br" in outcome.line


@pytest.mark.parametrize("kind", [Direct, LiteLLM])
def test_a_socket_notices_a_peer_that_is_gone(kind: type[Direct | LiteLLM]) -> None:
    with ModelServer([Reply(("half",), fault="stall")]) as server:
        one = Call("hi", ModelSpec(GPT), Endpoint(KEY, server.base_url), PATIENT, None)
        stream = kind().open(one, lambda: None)
        exchange = stream._exchange
        assert isinstance(exchange, Exchange)
        assert exchange.response is not None
        made = exchange.response.extensions["network_stream"].get_extra_info("socket")
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        list_until_hung_up(stream)


def list_until_hung_up(stream: Any) -> None:
    chunks = stream.chunks()
    next(chunks)
    stream.hang_up()
    with pytest.raises(CallFailed):
        list(chunks)


def test_a_peer_that_answers_no_keepalive_is_a_lost_connection() -> None:
    gone = TimeoutError(110, "Connection timed out")
    failure = transport_failure([gone])
    assert failure is not None
    assert (failure.kind, failure.message) == ("lost", "the server is gone: it answers no keepalive")


@pytest.mark.parametrize("name", LANES)
@pytest.mark.parametrize("fault", ["reset_before", "reset_mid"])
def test_a_lost_connection_is_retried_once(name: str, fault: Any) -> None:
    outcome = call_model(name, *[Reply(("half",), fault=fault)] * 2)
    assert re.search("connection reset|closed inside", outcome.line)
    assert len(outcome.requests) == 2
