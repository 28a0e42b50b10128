"""Calls of Anthropic's Messages and Gemini over both transports: addresses, tokens, endings, retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aethr.base.records import ModelSpec, Usage
from aethr.llm import Endpoint
from aethr.llm.routes import endpoint_of
from tests.dialects import Answer
from tests.llm.test_model import KEY, WAYS, Outcome, backend, call, litellm_is_loaded, request, transport
from tests.model_server import ModelServer, Reply, error

__all__ = ["litellm_is_loaded", "transport"]

HAIKU, OPUS, FLASH = "anthropic:claude-haiku-4-5", "anthropic:claude-opus-5", "google:gemini-3.8-flash"


@pytest.mark.parametrize("name", ["anthropic", "google"])
def test_a_setting_that_a_model_ignores_has_a_note(name: str, transport: str) -> None:
    model = {"anthropic": OPUS}.get(name, FLASH)
    done = call([Reply(("ok",))], request(ModelSpec(model, temperature=0.0))).done
    assert done.notes == (f"{model} does not take temperature: it was not sent",)


def test_a_repeated_beginning_is_marked_over_both_transports(transport: str) -> None:
    words = "word " * 3000  # 5,000 tokens by estimate
    outcome = call([Reply(("ok",))], request(HAIKU, prompt=words + "rest", shared=(len(words),)))
    marked = {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}
    (message,) = outcome.requests[0]["body"]["messages"]
    assert message["content"] == [marked, {"type": "text", "text": "rest"}]


@pytest.mark.parametrize(
    ("name", "path", "called"),
    [
        *(("anthropic", path, "/v1/messages") for path in ("", "/v1", "/v1/messages")),
        *(
            ("google", path, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse")
            for path in ("", "/v1beta")
        ),
    ],
)
def test_both_transports_call_the_same_address(name: str, path: str, called: str, transport: str) -> None:
    way = WAYS[name]
    with ModelServer([Reply(("ok",))]) as server:
        list(backend({**way.keys, way.base: server.origin + path}).complete(request(way.model)))
        assert server.requests[0]["path"] == called


def test_a_token_is_sent_as_one(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)  # where LiteLLM reads it
    with ModelServer([Reply(("ok",))] * 2) as server:
        environ = {"ANTHROPIC_AUTH_TOKEN": KEY, "ANTHROPIC_BASE_URL": server.origin}
        list(backend(environ).complete(request("anthropic:claude-x")))
        headers = server.requests[0]["headers"]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "x-api-key" not in headers
    assert endpoint_of(ModelSpec(HAIKU), environ) == Endpoint(KEY, server.origin, bearer=True)
    assert endpoint_of(ModelSpec(HAIKU), {"ANTHROPIC_API_KEY": KEY}).bearer is False


def test_a_token_among_the_keys_is_recognized(transport: str) -> None:
    with ModelServer([Reply(("ok",))]) as server:
        environ = {"ANTHROPIC_API_KEY": "sk-ant-oat01-abcdef", "ANTHROPIC_BASE_URL": server.origin}
        list(backend(environ).complete(request("anthropic:claude-x")))
        headers = server.requests[0]["headers"]
    assert headers["authorization"] == "Bearer sk-ant-oat01-abcdef"
    assert "oauth-2025-04-20" in headers["anthropic-beta"]
    assert "x-api-key" not in headers


@pytest.mark.parametrize(
    ("name", "event"),
    [
        (HAIKU, {"type": "content_block_delta", "delta": "- [high] a"}),
        (HAIKU, {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 7}}),
        (HAIKU, {"type": "content_block_start", "content_block": ["a"]}),
        (HAIKU, {"type": "message", "content": "- [high] a"}),
        (HAIKU, {"type": "message", "content": ["- [high] a"]}),
        (FLASH, {"candidates": {"0": {}}}),
        (FLASH, {"candidates": ["- [high] a"]}),
        (FLASH, {"candidates": [{"content": "- [high] a"}]}),
        (FLASH, {"candidates": [{"content": {"parts": "- [high] a"}}]}),
        (FLASH, {"candidates": [{"content": {"parts": ["- [high] a"]}}]}),
        (FLASH, {"candidates": [{"content": {"parts": [{"text": 7}]}}]}),
    ],
    ids=str,
)
def test_an_unreadable_piece_fails_even_before_a_pass(
    name: str, event: Mapping[str, Any], transport: str
) -> None:
    way = WAYS[name.partition(":")[0]]
    pieces = way.dialect.pieces(Answer(("Review status: pass",)))
    outcome = answer(name, way.dialect.frame(dict(event)), *pieces)
    assert "the answer is not in the protocol" in outcome.line
    assert len(outcome.requests) == 1


def answer(name: str, *pieces: bytes, times: int = 1) -> Outcome:
    asked = request(WAYS[name.partition(":")[0]].model)
    reply = Reply(pieces=pieces, content_type="text/event-stream")
    return call([*[reply] * times, error(418, "one request too many")], asked)


def test_the_end_counts_only_with_the_event_that_says_so(transport: str) -> None:
    pieces = WAYS["anthropic"].dialect.pieces(Answer(("Review status: pass",)))[:-1]
    outcome = answer(HAIKU, *pieces, times=2)
    assert "the answer was cut off: the stream ended without a finish reason" in outcome.line
    assert [usage.total_tokens for usage in outcome.spent] == [15, 15]


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"category": "cyber", "explanation": "It could do harm."}, "It could do harm."),
        ({"category": "cyber", "explanation": None}, "cyber"),
        (None, "it does not say why"),
    ],
)
def test_a_refusal_after_text_is_a_refusal(details: object, said: str, transport: str) -> None:
    start, *pieces = WAYS["anthropic"].dialect.pieces(Answer(("Review status: pass",), None))
    ended = {"stop_reason": "refusal", "stop_details": details}
    rest = [{"type": "message_delta", "delta": ended}, {"type": "message_stop"}]
    outcome = answer(HAIKU, start, *pieces, *map(WAYS["anthropic"].dialect.frame, rest))
    assert outcome.line == f"anthropic:claude-x: the model refused to answer: {said}"


GAVE_UP = (
    "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
)  # fmt: skip


@pytest.mark.parametrize("chunks", [(), ("Review status: pass",)])
@pytest.mark.parametrize("reason", GAVE_UP)
def test_a_broken_answer_is_retried_once_and_names_the_reason(
    reason: str, chunks: tuple[str, ...], transport: str
) -> None:
    """LiteLLM would call each of them complete."""
    outcome = call([Reply(chunks, reason)] * 3, request("google:gemini-x"))
    assert (
        outcome.line == f"google:gemini-x: the model broke off its answer: the answer ended with '{reason}'"
    )
    assert len(outcome.requests) == 2


def candidate(text: str, reason: str | None = None, **more: Any) -> bytes:
    found = {"content": {"parts": [{"text": text, **more}]}, "finishReason": reason}
    return b"data: " + json.dumps({"candidates": [found]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("pieces", "text", "reason"),
    [
        ((candidate("a", "STOP"), candidate("b", "STOP")), "ab", "STOP"),
        ((candidate("a", "STOP"), candidate("b", "MAX_TOKENS")), "ab", "MAX_TOKENS"),
        ((candidate("a", "MAX_TOKENS"), candidate("", "STOP")), "a", "MAX_TOKENS"),
        ((candidate("hm", thought=True), candidate("a", "STOP", thoughtSignature="x")), "a", "STOP"),
        ((candidate("a"), b'data: {"candidates": [{"finishReason": "STOP"}]}\n\n'), "a", "STOP"),
        ((candidate("a"), b'data: {"usageMetadata": {}}\n\n', candidate("b", "STOP")), "ab", "STOP"),
        (
            (
                b'data: {"candidates": [{"index": 1, "content": {"parts": [{"text": "other"}]}}]}\n\n',
                candidate("a", "STOP"),
            ),
            "a",
            "STOP",
        ),
        (
            (candidate("a"), b'data: {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}\n\n',
             candidate("", "STOP")),
            "a",
            "STOP",
        ),
    ],
)  # fmt: skip
def test_geminis_answer_is_read_to_its_end(
    pieces: tuple[bytes, ...], text: str, reason: str, transport: str
) -> None:
    outcome = answer(FLASH, *pieces)
    assert (outcome.done.content, outcome.done.finish_reason) == (text, reason)
    assert outcome.done.truncated is (reason != "STOP")


def test_an_error_after_an_early_end_is_an_error(transport: str) -> None:
    """Some gateways send an end with each piece."""
    dialect = WAYS["google"].dialect
    broke = dialect.frame(dialect.error("it crashed", 500))
    outcome = answer(FLASH, candidate("a", "STOP"), candidate("b", "STOP"), broke, times=2)
    assert outcome.line == "google:gemini-x: the provider failed: it crashed"


def test_the_last_counts_of_gemini_win(transport: str) -> None:
    def counted(prompt: int, completion: int) -> bytes:
        said = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
        return b"data: " + json.dumps({"usageMetadata": said}).encode() + b"\n\n"

    outcome = answer(FLASH, counted(7, 1), candidate("a"), counted(9, 3), candidate("", "STOP"))
    assert outcome.done.usage == Usage(9, 3, 12)


@pytest.mark.parametrize(
    ("status", "header", "requests"),
    [
        (429, "false", 1),
        (503, "false", 1),
        (400, "true", 3),
        (429, "true", 3),
        (429, "maybe", 3),
        (529, "", 3),
    ],
)
def test_what_the_provider_says_about_a_retry_counts(
    status: int, header: str, requests: int, transport: str
) -> None:
    refused = error(status, "no", x_should_retry=header, Retry_After="0")
    assert len(call([refused] * 4, request("anthropic:claude-x")).requests) == requests


def quota(delay: str, *ids: str) -> Reply:
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": id_} for id_ in ids],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    message = "You exceeded your current quota, please check your plan and billing details."
    said = {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}
    return Reply(status=429, body=json.dumps(said))


MINUTE, DAY = (
    "GenerateRequestsPerMinutePerProjectPerModel",
    "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
)


def test_the_wait_that_google_names_is_kept(transport: str) -> None:
    outcome = call([quota("17.5s", MINUTE), Reply(("ok",))], request("google:gemini-x"))
    assert (outcome.done.content, outcome.sleeps) == ("ok", [17.5])


def test_the_quota_of_a_day_is_named_and_not_waited_for(transport: str) -> None:
    outcome = call([quota("17s", MINUTE, DAY)] * 2, request("google:gemini-x"))
    assert outcome.line.startswith(
        "google:gemini-x: too many requests (429): You exceeded your current quota"
    )
    assert outcome.line.endswith(f"(the quota of the day is used up: {DAY})")
    assert (outcome.sleeps, len(outcome.requests)) == ([], 1)


@pytest.mark.parametrize("whole", [True, False])
def test_the_quota_is_read_in_a_list_and_in_an_answer(whole: bool, transport: str) -> None:
    said = f"[{quota('17s', DAY).body}]"
    reply = Reply(status=429, body=said) if whole else Reply(body=said)
    outcome = call([reply] * 2, request("google:gemini-x"))
    assert outcome.line.endswith(f"(the quota of the day is used up: {DAY})")
    assert len(outcome.requests) == 1


def test_a_limit_that_the_user_has_set_is_not_retried(transport: str) -> None:
    message = "You have reached your specified API usage limits. You will regain access on 2026-12-01."
    outcome = call([error(400, message)] * 2, request("anthropic:claude-x"))
    assert "no credit left (400)" in outcome.line
    assert len(outcome.requests) == 1
