"""Anthropic's Messages and Gemini without LiteLLM: requests, costs, and how answers are read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from aethr.base.providers import litellm_name, provider_of
from aethr.base.records import ModelSpec, Usage
from aethr.llm import Call, Chunk, Deadlines, Endpoint, protocols, spending, transport_litellm
from aethr.llm.failures import response_failure
from aethr.llm.protocols import gemini, messages
from aethr.llm.transport_litellm import LiteLLM
from tests.llm.test_model import KEY
from tests.model_server import ModelServer, Reply
from tests.support import tiered

HAIKU, OPUS, FABLE = (
    "anthropic:claude-haiku-4-5",  # thinks within a budget
    "anthropic:claude-opus-5",  # by default, and takes a word for the effort
    "anthropic:claude-fable-5-1",  # always
)
FLASH, PRO, OLD_PRO = "google:gemini-3.8-flash", "google:gemini-3.1-pro-preview", "google:gemini-2.5-pro"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def one(name: str, prompt: str = "Ünïcode", limit: int = 9000, **settings: Any) -> Call:
    fields = {key: settings.pop(key) for key in ("schema", "shared", "stream") if key in settings}
    return Call(prompt, ModelSpec(name, **settings), Endpoint(KEY), Deadlines(), limit, **fields)


def body(name: str, **settings: Any) -> Mapping[str, Any]:
    return protocols.request(one(name, **settings)).body


def dropped(name: str, **settings: Any) -> tuple[str, ...]:
    return protocols.request(one(name, **settings)).dropped


@pytest.fixture(scope="module")
def rows() -> Mapping[str, Any]:
    """The price file's rows by ``provider:model``, of the providers of both lanes."""
    return {
        f"{provider}:{name.removeprefix(provider + '/')}": row
        for name, row in transport_litellm.load().model_cost.items()
        if (provider := row.get("litellm_provider")) in ("anthropic", "gemini") and row.get("mode") == "chat"
    }


def litellms(sent: Mapping[str, Any], spec: ModelSpec) -> Mapping[str, Any]:
    """What LiteLLM sent as Aethr sends it: other spellings of the same."""
    if "contents" not in sent:
        return {name: value for name, value in sent.items() if name != "output_format"}
    spellings = {"max_output_tokens": "maxOutputTokens", "top_p": "topP"}
    config = {spellings.get(name, name): value for name, value in sent["generationConfig"].items()}
    ours = protocols.request(Call("", spec, Endpoint(KEY), Deadlines(), 99))
    if spec.temperature is None or "temperature" in ours.dropped:
        config.pop("temperature", None)  # LiteLLM adds Gemini 3's own default
    return {**sent, "generationConfig": config}


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [None, 0.0, 1.0])
def test_the_request_is_what_litellm_sends(rows: Mapping[str, Any], temperature: float | None) -> None:
    names = [*rows, "anthropic:claude-x", "anthropic:claude-opus-6", "gemini:gemini-5-flash", "gemini:m"]
    assert len(names) > 60
    with ModelServer(lambda _: Reply(("ok",))) as server:
        for name in names:
            spec = ModelSpec(spending.served_as(name), temperature=temperature, seed=7)
            endpoint = Endpoint(KEY, server.origin)
            asked = Call("Ünïcode", spec, endpoint, Deadlines(), 99)
            list(LiteLLM().open(asked, lambda: None).chunks())
            ours, theirs = protocols.request(asked), server.requests[-1]
            assert ours.body == litellms(theirs["body"], spec), name
            assert ours.url == server.origin + theirs["path"]
            sent = {key.lower(): value for key, value in ours.headers.items()}
            assert sent.items() <= theirs["headers"].items()
            assert ("seed" in ours.dropped) is ("contents" not in ours.body)


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.slow
@pytest.mark.parametrize("effort", EFFORTS)
def test_the_effort_is_what_litellm_makes_of_it(rows: Mapping[str, Any], effort: str) -> None:
    """But for efforts that the provider refuses, and for models that do not think."""
    litellm = transport_litellm.load()
    compared = 0
    with ModelServer(lambda _: Reply(("ok",))) as server:
        for name, row in rows.items():
            asked = one(spending.served_as(name), limit=20_000, reasoning_effort=effort, stream=False)
            asked = asked._replace(endpoint=Endpoint(KEY, server.origin))
            ours = protocols.request(asked)
            if "reasoning_effort" in ours.dropped:
                continue
            litellm.completion(**transport_litellm._arguments(asked))  # a stream would stay open
            theirs = litellms(server.bodies[-1], asked.model)
            if effort == "none" and row.get("supports_adaptive_thinking"):
                assert ours.body["thinking"] == {"type": "disabled"}, "some think when nothing is sent"
                assert "thinking" not in theirs or theirs["thinking"] == {"type": "disabled"}
                theirs = {**theirs, "thinking": {"type": "disabled"}}
            assert ours.body == theirs, name
            compared += 1
    assert compared > (12 if effort in ("none", "xhigh", "max") else 40)


@pytest.mark.parametrize(
    ("name", "effort", "sent"),
    [
        (FABLE, "none", None),  # it cannot stop thinking, and refuses to be asked
        (OPUS, "none", {"thinking": {"type": "disabled"}}),
        (HAIKU, "none", {}),
        ("anthropic:claude-sonnet-4-6", "xhigh", None),
        ("anthropic:claude-x", "low", None),
        (OPUS, "extreme", None),
        (HAIKU, "extreme", None),
        ("anthropic:claude-opus-6", "low", {"output_config": {"effort": "low"}}),
        ("anthropic:claude-fable-7", "none", None),
        ("anthropic:claude-opus-4-20250514", "low", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OLD_PRO, "none", None),
        ("google:gemini-2.5-flash", "none", {"thinkingBudget": 0, "includeThoughts": False}),
        (OLD_PRO, "minimal", {"thinkingBudget": 128, "includeThoughts": True}),
        (FLASH, "max", None),
        (FLASH, "none", {"thinkingLevel": "low", "includeThoughts": False}),
        ("google:gemini-3.6-flash", "none", {"thinkingLevel": "minimal", "includeThoughts": False}),
        ("google:gemini-9-ultra", "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("google:learnlm-1.5-pro-experimental", "low", None),
    ],
)  # fmt: skip
def test_each_effort_is_sent_or_named(name: str, effort: str, sent: Mapping[str, Any] | None) -> None:
    made = protocols.request(one(name, reasoning_effort=effort))
    assert ("reasoning_effort" in made.dropped) is (sent is None)
    thinking = made.body.get("generationConfig", {}).get("thinkingConfig")
    if thinking is not None:
        assert thinking == sent
    else:
        assert (sent or {}).items() <= made.body.items()
        assert sent or not {"thinking", "output_config"} & set(made.body)


@pytest.mark.parametrize(("limit", "budget"), [(9000, 8192), (8192, 8191), (1025, 1024), (1024, None)])
def test_a_thinking_budget_is_below_the_limit(limit: int, budget: int | None) -> None:
    made = protocols.request(one(HAIKU, limit=limit, reasoning_effort="xhigh"))
    assert made.body.get("thinking", {}).get("budget_tokens") == budget
    assert made.dropped == (() if budget else ("reasoning_effort",))
    assert made.body["max_tokens"] == limit


def test_sampling_is_not_sent_where_it_is_refused_or_ignored() -> None:
    hot: Mapping[str, Any] = {"temperature": 0.5, "top_p": 0.9}
    assert dropped(HAIKU, **hot) == ()
    assert dropped(HAIKU, **hot, reasoning_effort="low") == ("temperature", "top_p")  # beside a budget
    assert dropped(OPUS, **hot) == ("temperature", "top_p")
    assert dropped(OPUS, temperature=1.0) == ()
    assert dropped(FLASH, **hot, seed=7) == ("temperature", "top_p")
    assert body(FLASH, seed=7)["generationConfig"]["seed"] == 7
    assert body(PRO, **hot)["generationConfig"] == {"maxOutputTokens": 9000, "temperature": 0.5, "topP": 0.9}
    assert dropped(HAIKU, seed=7) == ("seed",)


def test_a_schema_is_in_the_providers_own_form() -> None:
    assert body(OPUS, schema=SCHEMA, reasoning_effort="low")["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": SCHEMA},
    }
    config = body(FLASH, schema=SCHEMA)["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", SCHEMA)
    assert dropped("google:gemma-3-27b-it", schema=SCHEMA) == ("schema",)
    assert "output_config" not in body(HAIKU)
    assert "responseMimeType" not in body(FLASH)["generationConfig"]


@pytest.mark.parametrize(
    ("name", "base", "where"),
    [
        (HAIKU, None, "https://api.anthropic.com/v1/messages"),
        (HAIKU, "http://127.0.0.1:1", "http://127.0.0.1:1/v1/messages"),
        (HAIKU, "http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1/messages"),
        (HAIKU, "http://127.0.0.1:1/v1/messages", "http://127.0.0.1:1/v1/messages"),
        (HAIKU, "http://127.0.0.1:1/a/v2?x=1", "http://127.0.0.1:1/a/v2/messages?x=1"),
        (
            FLASH,
            None,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash:streamGenerateContent"
            "?alt=sse",
        ),
        (FLASH, "http://127.0.0.1:1", "http://127.0.0.1:1/v1beta/models/gemini-3.8-flash:stream…"),
        (FLASH, "http://127.0.0.1:1/v1beta/", "http://127.0.0.1:1/v1beta/models/gemini-3.8-flash:stream…"),
        (FLASH, "http://127.0.0.1:1/g/v1", "http://127.0.0.1:1/g/v1/models/gemini-3.8-flash:stream…"),
        ("google:a?b#c", "http://127.0.0.1:1", "http://127.0.0.1:1/v1beta/models/a%3Fb%23c:stream…"),
    ],
)
def test_the_address_is_the_base_and_the_path(name: str, base: str | None, where: str) -> None:
    made = protocols.request(one(name)._replace(endpoint=Endpoint(KEY, base)))
    assert made.url == where.replace("stream…", "streamGenerateContent?alt=sse")


def some_anthropic_usage(dice: random.Random) -> dict[str, Any]:
    usage: dict[str, Any] = {"input_tokens": dice.choice([1, 999, 99_999, 100_001, 400_000])}
    usage["output_tokens"] = dice.randrange(1, 9000)
    usage["cache_read_input_tokens"] = dice.choice([0, None, 5000, 150_000])
    short, hour = dice.choice([0, 3000]), dice.choice([0, 0, 7000])
    usage["cache_creation_input_tokens"] = short + hour
    if hour or dice.random() < 0.5:
        usage["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour}
    if dice.random() < 0.5:
        usage["output_tokens_details"] = {"thinking_tokens": usage["output_tokens"] // 2}
    usage["inference_geo"] = dice.choice([None, "global", "not_available", "us", "US", "moon"])
    usage["speed"] = dice.choice([None, "standard", "fast"])
    return usage


def some_gemini_usage(dice: random.Random) -> dict[str, Any]:
    prompt = dice.choice([1, 999, 128_001, 199_999, 200_000, 200_001, 900_000])
    answer, thought, tools = dice.randrange(1, 9000), dice.choice([0, 4000]), dice.choice([0, 0, 500])
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": answer}
    among = thought <= answer and dice.random() < 0.5  # as some gateways count
    usage["totalTokenCount"] = prompt + answer + tools + (0 if among else thought)
    if tools:
        usage["toolUsePromptTokenCount"] = tools
    if thought:
        usage["thoughtsTokenCount"] = thought
    if dice.random() < 0.7:
        usage["cachedContentTokenCount"] = dice.choice([0, prompt // 3, prompt])
    if dice.random() < 0.5 and not tools:  # LiteLLM then forgets the tokens of tools
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]  # type: ignore[assignment]
        usage["candidatesTokensDetails"] = [{"modality": "TEXT", "tokenCount": answer}]  # type: ignore[assignment]
    return usage


def priced(name: str, dice: random.Random) -> tuple[Usage, float]:
    """Some usage of a model as it is read here, and its cost as LiteLLM computes it."""
    litellm = transport_litellm.load()
    if "contents" in body(name):
        from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig

        said = some_gemini_usage(dice)
        ours = gemini.reader(name)({"usageMetadata": said}).usage
        theirs = VertexGeminiConfig.calculate_usage({"usageMetadata": said})  # type: ignore[typeddict-item]
    else:
        from litellm.llms.anthropic.chat.transformation import AnthropicConfig

        said = some_anthropic_usage(dice)
        ours = messages.reader(name)({"type": "message", "content": [], "usage": said}).usage
        theirs = AnthropicConfig().calculate_usage(said, None)
    assert ours is not None
    assert (ours.prompt_tokens, ours.completion_tokens) == (theirs.prompt_tokens, theirs.completion_tokens)
    return ours, sum(litellm.cost_per_token(model=litellm_name(name), usage_object=theirs))


@pytest.mark.parametrize("samples", tiered([3, 60], ci=1))
def test_the_cost_of_an_answer_is_that_of_litellm(rows: Mapping[str, Any], samples: int) -> None:
    dice = random.Random(7)
    compared = 0
    for name in rows:
        for _ in range(samples):
            usage, cost = priced(name, dice)
            if usage.cost_usd is None:
                assert cost == 0, name
                continue
            assert usage.cost_usd == pytest.approx(cost, rel=1e-9, abs=1e-15), (name, usage)
            compared += 1
    assert compared > 40 * samples


@pytest.mark.slow
def test_every_price_of_both_lanes_is_understood(rows: Mapping[str, Any]) -> None:
    assert [name for name in rows if not spending.understands_price(name)] == []


def test_the_highest_rate_includes_the_dearest_place() -> None:
    rates = spending.highest_rates(OPUS, 1000)
    row = spending.price_row(OPUS) or {}
    assert rates is not None
    assert row["provider_specific_entry"]["fast"] > 1.1, "which no call has unasked"
    assert rates.completion == pytest.approx(1.1 * row["output_cost_per_token"])


def test_what_is_not_a_token_of_text_makes_the_cost_unknown() -> None:
    counted = {"promptTokenCount": 9, "candidatesTokenCount": 3}
    for detail, known in (({"modality": "AUDIO", "tokenCount": 4}, False), ({"modality": "AUDIO"}, True)):
        said = {"usageMetadata": {**counted, "promptTokensDetails": [detail]}}
        usage = gemini.reader(PRO)(said).usage
        assert usage is not None
        assert (usage.total_tokens, usage.cost_usd is not None) == (12, known)
    read = gemini.reader(PRO)
    read({"candidates": [{"groundingMetadata": {"webSearchQueries": ["x"]}}]})
    searched = read({"usageMetadata": counted}).usage
    assert searched is not None
    assert searched.cost_usd is None
    said = {"input_tokens": 9, "output_tokens": 3, "server_tool_use": {"web_search_requests": 1}}
    usage = messages.reader(HAIKU)({"type": "message", "content": [], "usage": said}).usage
    assert usage is not None
    assert (usage.total_tokens, usage.cost_usd) == (12, None)


def test_cached_written_and_thought_tokens_are_in_the_usage() -> None:
    said = {
        "input_tokens": 5, "output_tokens": 9, "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 2, "output_tokens_details": {"thinking_tokens": 4},
    }  # fmt: skip
    usage = messages.reader(HAIKU)({"type": "message", "content": [], "usage": said}).usage
    assert usage is not None
    assert usage._replace(cost_usd=None) == Usage(10, 9, 19, None, False, 3, 2, 4)
    counts = {
        "promptTokenCount": 8,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 7,
        "totalTokenCount": 17,
    }
    usage = gemini.reader(PRO)({"usageMetadata": {**counts, "cachedContentTokenCount": 6}}).usage
    assert usage is not None
    assert usage._replace(cost_usd=None) == Usage(8, 9, 17, None, False, 6, None, 7)


def read(name: str, *events: Mapping[str, Any]) -> list[Chunk]:
    reader = protocols.protocol_of(name).reader(name)
    return [reader(event) for event in events]


def test_the_counts_of_a_message_are_cumulative_and_null_is_none() -> None:
    start = {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 1}
    delta = {"input_tokens": None, "output_tokens": 15}
    ended = {"delta": {"stop_reason": "end_turn"}, "usage": delta}
    chunks = read(
        HAIKU,
        {"type": "message_start", "message": {"usage": start}},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 9}},
        {"type": "message_delta", **ended},
        {"type": "message_stop"},
    )
    usages = [(chunk.usage.prompt_tokens, chunk.usage.completion_tokens) for chunk in chunks if chunk.usage]
    assert usages == [(32, 9), (32, 15)]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "end_turn"]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ping"},
        {"type": "an_event_of_tomorrow", "text": "x"},
        {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x"}},
        {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "x"}},
        {"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": {"text": "x"}}},
        {"type": "content_block_delta", "delta": {"type": "a_delta_of_tomorrow", "text": "x"}},
        {"type": "content_block_stop"},
        {"type": "message_start", "message": None},
        {"type": "message_delta", "delta": None, "usage": [1]},
        {"type": "message_stop"},
        {},
    ],
    ids=str,
)
def test_an_event_without_text_is_an_empty_chunk(event: Mapping[str, Any]) -> None:
    assert read(HAIKU, event) == [Chunk()]


@pytest.mark.parametrize(
    "details",
    [7, [7], [{"violations": 7}], [{"violations": [7]}], [{"retryDelay": 7}], [{"retryDelay": "1e9s"}]],
)
def test_odd_details_of_an_error_are_ignored(details: object) -> None:
    said = {"error": {"code": 429, "message": "You exceeded your current quota", "details": details}}
    failure = response_failure(429, {}, json.dumps(said))
    assert (failure.kind, failure.retry, failure.retry_after_s) == ("quota", None, None)


def test_no_word_means_two_things() -> None:
    from aethr.llm import BROKEN, FINISHED, LENGTH, REFUSED

    tables: Iterator[set[str]] = map(set, (BROKEN, FINISHED, LENGTH, REFUSED))
    words = [word for table in tables for word in table]
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in words)


def test_paths_of_other_services_have_the_same_readers() -> None:
    vertex = "/v1/projects/p/locations/l/publishers"
    for path, name in (
        ("/anthropic/v1/messages", "messages"),
        (f"{vertex}/anthropic/models/claude-x:streamRawPredict", "messages"),
        (f"{vertex}/anthropic/models/claude-x:rawPredict", "messages"),
        (f"{vertex}/google/models/gemini-x:streamGenerateContent", "gemini"),
        (f"{vertex}/google/models/gemini-x:generateContent", "gemini"),
        ("/v1/chat/completions", "chat"),
        ("/api/chat", "ollama"),
    ):
        assert protocols.protocol_at(path) is protocols.PROTOCOLS[name]
    for path in (f"{vertex}/mistralai/models/m:streamRawPredict", "/v1/messages/batches", "/v1/embeddings"):
        assert protocols.protocol_at(path) is None
    assert provider_of(FLASH).protocols == ("gemini",)


def test_a_repeated_beginning_is_marked_for_the_cache() -> None:
    words = "word " * 3000
    marked = {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}

    def blocks(prompt: str, *shared: int) -> Any:
        return body(HAIKU, prompt=prompt, shared=shared)["messages"][0]["content"]

    assert blocks(words + "rest", len(words)) == [marked, {"type": "text", "text": "rest"}]
    assert blocks(words + "rest") == [{"type": "text", "text": words + "rest"}]
    assert blocks(words, len(words)) == [{"type": "text", "text": words}], "Anthropic refuses an empty block"
