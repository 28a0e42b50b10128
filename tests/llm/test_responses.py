"""OpenAI's Responses: what is sent, how each answer and each ending is read, and that both lanes agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aethr.base.providers import provider_of
from aethr.base.records import ModelSpec, Usage
from aethr.llm import Call, CallFailed, Chunk, Deadlines, Endpoint, protocols, spending, transport_litellm
from aethr.llm.protocols import responses
from aethr.llm.routes import VARIABLE
from aethr.llm.transport_litellm import LiteLLM
from tests.llm.test_agreement import visible_facts
from tests.llm.test_model import Outcome, call, litellm_is_loaded, request
from tests.model_server import ModelServer, Reply, error

__all__ = ["litellm_is_loaded"]

CODEX = "openai:gpt-5.3-codex"
PASS = "Review status: pass"


@pytest.fixture(
    autouse=True,
    params=[
        pytest.param("litellm", marks=pytest.mark.slow),
        "direct",
    ],
)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, request.param)
    return str(request.param)


def sse(*events: Mapping[str, Any]) -> Reply:
    named = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Reply(pieces=("".join(named).encode(),), content_type="text/event-stream")


def delta(text: object, item: int = 0, part: int = 0, kind: str = "output_text") -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": item, "content_index": part, "delta": text}


def done(text: str, item: int = 0, part: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.done", "output_index": item, "content_index": part, "text": text}


def message(*texts: str, kind: str = "output_text") -> dict[str, Any]:
    name = "refusal" if kind == "refusal" else "text"
    return {"type": "message", "role": "assistant", "content": [{"type": kind, name: text} for text in texts]}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


def response(*items: Mapping[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": [*items],
        **more,
    }


def end(*items: Mapping[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(*items, status=status, **more)}


def incomplete(reason: str | None, *items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return end(*items, status="incomplete", incomplete_details=reason and {"reason": reason}, **more)


COUNTS = {
    "input_tokens": 1000, "input_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 0},
    "output_tokens": 100, "output_tokens_details": {"reasoning_tokens": 60}, "total_tokens": 1100,
}  # fmt: skip


def ask(*replies: Reply | str, model: ModelSpec | str = CODEX, **fields: Any) -> Outcome:
    return call([*replies, *[error(418, "one request too many")] * 3], request(model, **fields))


# --- the request ---------------------------------------------------------------------------------


def test_a_request_asks_the_provider_not_to_keep_it(transport: str) -> None:
    outcome = ask(Reply(("Fine.",)), model=ModelSpec(CODEX, max_tokens=99))
    (sent,) = outcome.requests
    assert sent["path"] == "/v1/responses"
    assert (sent["body"]["store"], sent["body"]["stream"], sent["body"]["max_output_tokens"]) == (
        False,
        True,
        99,
    )
    assert (outcome.done.content, outcome.done.finish_reason, outcome.done.transport) == (
        "Fine.",
        "completed",
        transport,
    )


def body_of(spec: ModelSpec, **fields: Any) -> Mapping[str, Any]:
    return protocols.request(Call("Look.", spec, Endpoint("k"), Deadlines(), 99)._replace(**fields)).body


def test_the_request_has_only_the_prompt_and_the_settings() -> None:
    assert body_of(ModelSpec(CODEX)) == {
        "model": "gpt-5.3-codex",
        "input": "Look.",
        "store": False,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "max_output_tokens": 99,
    }
    spec = ModelSpec("xai:grok-4.20-multi-agent", 0.5, seed=7, reasoning_effort="high", top_p=0.9)
    assert body_of(spec, max_tokens=5, stream=False) == {
        "model": "grok-4.20-multi-agent",
        "input": "Look.",
        "store": False,
        "stream": False,
        "max_output_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning": {"effort": "high"},
    }


def test_a_schema_is_the_format_of_the_text() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    form = body_of(ModelSpec(CODEX), schema=schema)["text"]["format"]
    assert form == {"type": "json_schema", "name": "review", "strict": True, "schema": schema}


@pytest.mark.parametrize(
    ("spec", "dropped"),
    [
        (ModelSpec(CODEX, temperature=0.0, seed=7), ("temperature", "seed")),
        (ModelSpec(CODEX, temperature=1.0), ()),
        (ModelSpec(CODEX, top_p=0.5, reasoning_effort="low"), ("top_p",)),
        (ModelSpec(CODEX, reasoning_effort="minimal"), ("reasoning_effort",)),  # the price file says so
        (ModelSpec("openai:gpt-5.4-pro", reasoning_effort="none"), ("reasoning_effort",)),
        (ModelSpec("openai:gpt-9-pro", reasoning_effort="max"), ()),
        (ModelSpec("xai:grok-9-multi-agent", temperature=0.0, seed=7), ("seed",)),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_the_model_does_not_take_are_left_out(
    spec: ModelSpec, dropped: tuple[str, ...]
) -> None:
    wire = protocols.request(Call("", spec, Endpoint("k"), Deadlines(), 99))
    assert set(wire.dropped) == set(dropped)
    assert not {"seed", "stop", *(name for name in dropped if name != "reasoning_effort")} & wire.body.keys()
    assert ("reasoning" in wire.body) is (
        spec.reasoning_effort is not None and "reasoning_effort" not in dropped
    )


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("openai:gpt-5-codex", "responses"), ("openai:o3-pro", "responses"),
        ("openai:gpt-5.5-pro-2026-04-23", "responses"), ("openai:responses/gpt-4o", "responses"),
        ("openai:codex-mini-latest", "responses"), ("openai:gpt-7-codex-max", "responses"),
        ("openai:o7-pro-2027-01-01", "responses"), ("xai:grok-9-multi-agent-beta", "responses"),
        ("openai:gpt-4o", "chat"), ("openai:gpt-7", "chat"), ("openai:my-own-pro", "chat"),
        ("openai:qwen-codex", "chat"), ("openai:acme/gpt-5-pro", "chat"), ("xai:grok-4.7", "chat"),
        ("hosted_vllm:gpt-5-codex", "chat"), ("openrouter:openai/gpt-5-codex", "chat"),
    ],
)  # fmt: skip
def test_the_protocol_follows_from_the_price_file_or_else_the_name(name: str, protocol: str) -> None:
    assert protocols.protocol_of(name) is protocols.PROTOCOLS[protocol]


def test_a_marked_model_has_its_own_price_and_name() -> None:
    assert spending.lookup("openai:responses/gpt-4o-mini") == spending.lookup("openai:gpt-4o-mini")
    assert body_of(ModelSpec("openai:responses/gpt-4o-mini"))["model"] == "gpt-4o-mini"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.0, "seed": 7},
        {"temperature": 1.0},
        {"top_p": 0.5},
        {"reasoning_effort": "high"},
    ],
    ids=str,
)
def test_the_request_is_what_litellm_sends_but_for_what_it_keeps(settings: dict[str, Any]) -> None:
    """The differences: the form of the input, no padding, and that nothing is kept."""
    litellm = transport_litellm.load()
    names = [
        f"{row['litellm_provider']}:{name.removeprefix(row['litellm_provider'] + '/')}"
        for name, row in litellm.model_cost.items()
        if row.get("mode") == "responses"
        and row["litellm_provider"] in ("openai", "xai")
        and not row.get("alias_of")
    ]
    assert len(names) > 25
    with ModelServer(lambda _: Reply()) as server:
        for name in names:
            one = Call(
                "Ünïcode",
                ModelSpec(name, **settings),
                Endpoint("sk-12345678", server.base_url),
                Deadlines(),
                99,
            )
            assert (
                "".join(chunk.text for chunk in LiteLLM().open(one, lambda: None).chunks()) == "Hello, world."
            )
            theirs, ours = server.bodies[-1], dict(protocols.request(one).body)
            ((role, (content,)),) = [(each["role"], each["content"]) for each in theirs.pop("input")]
            assert (role, content["text"]) == ("user", ours.pop("input"))
            assert ours.pop("stream_options", None) == (
                {"include_obfuscation": False} if "openai" in name and ours["stream"] else None
            )
            assert ours.pop("store") is theirs.pop("store", False) is False
            assert ours.pop("stream") is theirs.pop("stream", False)
            assert ours == theirs, name


# --- the text ------------------------------------------------------------------------------------

TEXTS = {
    "pieces": [delta("a "), delta("b"), end(message("a b"))],
    "pieces, and nothing in the response": [delta("a "), delta("b"), end()],
    "pieces, and the end of the part": [delta("a "), delta("b"), done("a b"), end(message("a b"))],
    "only the end of the part": [done("a b"), end()],
    "only the end of the item": [
        {"type": "response.output_item.done", "output_index": 0, "item": message("a b")},
        end(),
    ],
    "only the response": [end(message("a b"))],
    "two parts, one without pieces": [delta("a ", 0, 0), done("b", 0, 1), end(message("a ", "b"))],
    "two messages, one only in the response": [delta("a "), end(message("a "), message("b"))],
    "thinking before the answer": [
        {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 0,
            "summary_index": 0,
            "delta": "hm",
        },
        {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "hm"},
        {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "hm"},
        {"type": "response.output_item.done", "output_index": 0, "item": thought("hm")},
        delta("a b", 1),
        end(thought("hm"), message("a b")),
    ],
    "items that are numbered anew": [delta("a b", 3), end(message("a b"))],
    "pieces without numbers": [
        {"type": "response.output_text.delta", "delta": "a "},
        {"type": "response.output_text.delta", "delta": "b"},
        end(message("a b")),
    ],
    "half of the pieces": [delta("a "), end(message("a b"))],
    "other items": [
        delta("a b", 1),
        end({"type": "web_search_call", "status": "completed"}, message("a b"), {"type": "function_call"}),
    ],
    "unknown events": [
        {"type": "response.of_tomorrow", "delta": "x"},
        {"type": "keepalive"},
        delta("a b"),
        end(),
    ],
}


@pytest.mark.parametrize("case", TEXTS)
def test_every_word_of_the_answer_arrives_once(case: str) -> None:
    outcome = ask(sse({"type": "response.created", "response": response(status="in_progress")}, *TEXTS[case]))
    assert (outcome.done.content, outcome.done.truncated) == ("a b", False)
    assert "".join(outcome.deltas) == "a b"


def test_letters_cut_in_two_are_joined_and_not_doubled() -> None:
    outcome = ask(sse(delta("a\ud83d"), delta("\ude00b"), done("a😀b"), end(message("a😀b"))))
    assert outcome.done.content == "a😀b"


def test_a_whole_response_to_a_streamed_request_is_read() -> None:
    whole = response(thought("hm"), message("Fi", "ne."), usage=COUNTS)
    for indent in (None, 2):
        outcome = ask(Reply(body=json.dumps(whole, indent=indent)))
        assert (outcome.done.content, outcome.done.usage.total_tokens) == ("Fine.", 1100)
        assert len(outcome.requests) == 1


@pytest.mark.parametrize(
    "event",
    [
        delta(7),
        end({"type": "message", "content": [{"type": "markdown", "value": "- [high] a.py:2 — lost"}]}),
        end({"type": "message", "content": 7}),
        {"type": "response.completed", "response": response() | {"output": "a"}},
    ],
    ids=str,
)
def test_what_cannot_be_read_fails_even_before_a_pass(event: dict[str, Any]) -> None:
    outcome = ask(sse(event, delta(PASS), end(message(PASS))))
    assert "the answer is not in the protocol" in outcome.line
    assert len(outcome.requests) == 1


def test_pieces_that_were_lost_fail_the_answer() -> None:
    outcome = ask(
        sse(delta("- [high] a.py:2 — "), delta(PASS), end(message(f"- [high] a.py:2 — eval\n\n{PASS}")))
    )
    assert "the text of the answer is not that of its pieces" in outcome.line


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([delta(PASS), incomplete("max_output_tokens", message(PASS))], "max_output_tokens"),
        ([delta(PASS), incomplete("content_filter", message(PASS))], "content_filter"),
    ],
)
def test_an_incomplete_answer_is_cut(events: list[dict[str, Any]], reason: str) -> None:
    done = ask(sse(*events)).done
    assert (done.content, done.finish_reason, done.truncated) == (PASS, reason, True)


FAILED = {
    "failed, too long": (
        end(status="failed", error={"code": "context_length_exceeded", "message": "too many"}, usage=None),
        "the prompt is too long for the model's window",
        1,
    ),
    "failed": (
        end(status="failed", error={"code": "server_error", "message": "boom"}),
        "the provider failed: boom",
        3,
    ),
    "failed, slow down": (
        end(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
        "too many requests (429): slow",
        3,
    ),
    "failed, no credit": (
        end(status="failed", error={"code": "insufficient_quota", "message": "empty"}),
        "no credit left (402): empty",
        1,
    ),
    "failed, a bad prompt": (
        end(status="failed", error={"code": "invalid_prompt", "message": "no"}),
        "the request was refused (400): no",
        1,
    ),
    "failed without a reason": (end(status="failed"), "the provider failed: the response is failed", 3),
    "cancelled": (end(status="cancelled"), "the provider failed: the response is cancelled", 3),
    "a flat error": (
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None},
        "too many requests (429): slow",
        3,
    ),
    "a nested error": (
        {
            "type": "error",
            "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "empty"},
        },
        "no credit left (402): empty",
        1,
    ),
    "steered": (incomplete("steered"), "the provider failed: the response is incomplete: steered", 3),
    "incomplete without a reason": (incomplete(None), "the provider failed: the response is incomplete", 3),
    "filtered": (incomplete("content_filter"), "the provider's content filter refused", 1),
    "all thought": (
        incomplete("max_output_tokens", thought("hm"), usage=COUNTS),
        "all 100 answer tokens went to thinking",
        1,
    ),
    "empty": (end(usage=COUNTS), "the answer is empty: no text, finish reason 'completed'", 2),
    "still at work": (
        response(status="in_progress") | {"type": ""},
        "it ended without any text",
        2,
    ),
}


@pytest.mark.parametrize("case", FAILED)
def test_a_failed_response_says_why(case: str) -> None:
    event, line, requests = FAILED[case]
    outcome = ask(*[sse(event)] * requests)
    assert line in outcome.line
    assert len(outcome.requests) == requests


@pytest.mark.parametrize("reason", ["steered", "max_messages", None])
def test_an_answer_that_was_given_up_is_never_complete(reason: str | None) -> None:
    outcome = ask(*[sse(delta(PASS), incomplete(reason, message(PASS)))] * 2)
    assert "the provider failed: the response is incomplete" in outcome.line


def test_a_stream_without_its_last_event_was_cut() -> None:
    outcome = ask(*[sse(delta(PASS), done(PASS))] * 2)
    assert outcome.line.endswith(f"the stream ended without a finish reason after {len(PASS)} characters")


@pytest.mark.parametrize(
    "events",
    [
        [
            delta("I can", kind="refusal"),
            delta("not.", kind="refusal"),
            end(message("I cannot.", kind="refusal")),
        ],
        [end(message("I cannot.", kind="refusal"))],
        [
            {"type": "response.refusal.done", "output_index": 0, "content_index": 0, "refusal": "I cannot."},
            end(),
        ],
    ],
    ids=["in pieces", "in the response", "in its part"],
)
def test_a_refusal_is_shown_and_is_never_a_pass(events: list[dict[str, Any]]) -> None:
    assert ask(sse(*events)).line == f"{CODEX}: the model refused to answer: I cannot."


# --- tokens and cost -----------------------------------------------------------------------------


def test_tokens_are_counted_once_and_priced() -> None:
    usage = ask(sse(delta("a"), end(message("a"), usage=COUNTS))).done.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 100, 1100)
    assert usage.cost_usd == pytest.approx(spending.cost(CODEX, spending.Tokens(1000, 100, 400)), rel=1e-9)


def test_xai_states_what_it_charges() -> None:
    read = responses.reader("xai:grok-4.20-multi-agent")
    usage = read(end(message("a"), usage={**COUNTS, "cost_in_usd_ticks": 123_000_000})).usage
    assert usage == Usage(1000, 100, 1100, pytest.approx(0.0123), False, 400, 0, 60)


@pytest.mark.parametrize("usage", [None, [], {}, {"input_tokens": "many"}, {"input_tokens": None}])
def test_counts_that_are_missing_are_not_zero(usage: object) -> None:
    assert responses.reader(CODEX)(end(message("a"), usage=usage)) == Chunk("a", "completed")


# --- without a stream ----------------------------------------------------------------------------


def test_an_account_that_may_not_stream_is_answered_whole() -> None:
    refused = Reply(
        status=400,
        body=json.dumps(
            {"error": {"message": "must be verified", "param": "stream", "code": "unsupported_value"}}
        ),
    )
    outcome = ask(refused, Reply(("Fi", "ne.")))
    assert [each["body"].get("stream", False) for each in outcome.requests] == [True, False]
    assert "stream_options" not in outcome.requests[1]["body"]
    assert (outcome.done.content, outcome.done.usage.total_tokens) == ("Fine.", 15)


def test_a_model_that_cannot_stream_is_asked_for_the_whole_response() -> None:
    outcome = ask(Reply(("Fi", "ne.")), model="openai:gpt-5-pro")
    assert [each["body"].get("stream", False) for each in outcome.requests] == [False]
    assert outcome.done.content == "Fine."


# --- other providers, through LiteLLM --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["azure:gpt-5-codex", "perplexity:openai/gpt-5.1"])
@pytest.mark.parametrize("case", ["pieces", "filtered", "a nested error"])
def test_litellm_requests_and_the_same_reader_reads(
    monkeypatch: pytest.MonkeyPatch, name: str, case: str
) -> None:
    for variable in provider_of(name).keys:
        monkeypatch.setenv(variable, "sk-12345678")
    monkeypatch.setenv("AZURE_API_VERSION", "2025-04-01-preview")
    events = TEXTS.get(case) or [FAILED[case][0]]
    with ModelServer(lambda _: sse(*events)) as server:
        one = Call("Hi", ModelSpec(name), Endpoint("sk-12345678", server.origin), Deadlines(), 99)
        stream = LiteLLM().open(one, lambda: None)
        if case == "a nested error":
            with pytest.raises(CallFailed) as caught:
                list(stream.chunks())
            assert caught.value.kind == "quota"
        else:
            chunks = list(stream.chunks())
            assert "".join(chunk.text for chunk in chunks) == ("a b" if case == "pieces" else "")
            assert chunks[-1].finish_reason == ("completed" if case == "pieces" else "content_filter")
        assert server.requests[-1]["path"].partition("?")[0].endswith("/responses")


@pytest.mark.slow
@pytest.mark.parametrize("case", [*TEXTS, *FAILED])
def test_both_transports_read_answers_alike(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    events = TEXTS.get(case) or [FAILED[case][0]]
    seen = []
    for word in ("litellm", "direct"):
        monkeypatch.setenv(VARIABLE, word)
        seen.append(visible_facts(call([sse(*events)] * 3, request(CODEX))))
    assert seen[0] == seen[1]
