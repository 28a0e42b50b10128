"""OpenAI's protocol without LiteLLM: requests and costs are the same as with it."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aethr.base.providers import EFFORTS, PROVIDERS
from aethr.base.records import ModelSpec, Usage
from aethr.llm import Call, CallFailed, Chunk, Deadlines, Endpoint, protocols, spending, transport_litellm
from aethr.llm.protocols import chat
from aethr.llm.transport_litellm import LiteLLM
from tests.model_server import ModelServer, Reply
from tests.support import NIGHTLY, tiered

UNKNOWN = (
    "openai:of-our-own",
    "openai:o9-of-tomorrow",
    "openai:gpt-6-of-tomorrow",
    "openai:gpt-5-chat-of-tomorrow",
    "openai:acme/some-model",
    "openrouter:openai/gpt-5",
    "openrouter:openai/o3",
    "openrouter:anthropic/claude-x",
    "hosted_vllm:gpt-5",
    "lm_studio:o3",
    "xai:grok-x",
)


@pytest.fixture(scope="module")
def rows() -> Mapping[str, Any]:
    """The price file's rows by ``provider:model``, of the providers whose chat models are called directly."""
    litellm = transport_litellm.load()
    return {
        f"{row['litellm_provider']}:{name.removeprefix(row['litellm_provider'] + '/')}": row
        for name, row in litellm.model_cost.items()
        if (provider := PROVIDERS.get(row.get("litellm_provider"))) and "chat" in provider.protocols
    }


def served(rows: Mapping[str, Any]) -> Iterator[str]:
    """Those called by chat completions. A name that stands for another one is not called itself."""
    aliases = set(re.findall(r'"(?:\w+/)?([^"]+)"\s*:\s*\{\s*"alias_of"', spending._text()))
    for name, row in rows.items():
        if row.get("mode") == "chat" and name.partition(":")[2] not in aliases and protocols.serves(name):
            yield name


MOST_ROWS = 1000 if NIGHTLY else 10
"""How many rows of each provider are compared."""


def sampled(rows: Mapping[str, Any]) -> list[str]:
    """At most so many of each provider's models, always the same ones."""
    dice, found = random.Random(3), dict[str, dict[str, Any]]()
    for name, row in rows.items():
        if row.get("mode") == "chat":
            found.setdefault(name.partition(":")[0], {})[name] = row
    names = [each for some in found.values() for each in dice.sample([*some], k=min(MOST_ROWS, len(some)))]
    return [*served({name: rows[name] for name in names})]


SETTINGS: Mapping[str, dict[str, Any]] = {
    "none": {},
    "all": {"temperature": 0.5, "top_p": 0.9, "seed": 7},
    "its default temperature": {"temperature": 1.0},
    "no effort": {"temperature": 0.5, "reasoning_effort": "none"},
    "low": {"reasoning_effort": "low"},
    "xhigh": {"reasoning_effort": "xhigh"},
}
UNLIKE_LITELLM: Mapping[str, str] = {
    "openrouter": "it has a setting of its own for the effort",
    "xai": "some models that think refuse an effort",
    "lm_studio": "LiteLLM never sends an effort",
    "openai": "LiteLLM sends an effort to tuned models that do not think, and does not know xhigh of some",
    "deepseek": "LiteLLM sends an effort to models that do not think",
    "dashscope": "the same",
    "moonshot": "LiteLLM sends efforts that the price file says a model does not take",
    "together_ai": "the price file lists other efforts for some",
    "mistral": "LiteLLM asks some models to think in the prompt",
}
"""Where an effort is sent in another way, and why. An effort to a model of unknown name is always sent."""


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_the_request_is_what_litellm_sends(rows: Mapping[str, Any], case: str) -> None:
    providers = [row for row in PROVIDERS.values() if "chat" in row.protocols]
    names = [*sampled(rows), *UNKNOWN, *(f"{row.name}:{row.full_names}of-our-own" for row in providers)]
    with ModelServer(lambda _: Reply()) as server:
        endpoint = Endpoint("sk-12345678", server.base_url)
        for name in names:
            spec = ModelSpec(spending.served_as(name), **SETTINGS[case])
            call = Call("Ünïcode", spec, endpoint, Deadlines(), 99)
            list(LiteLLM().open(call, lambda: None).chunks())
            ours, theirs = dict(protocols.request(call).body), server.bodies[-1]
            row = spending.price_row(name)
            # LiteLLM sends what it was given also to a model that takes other levels only.
            levels = (row or {}).get("reasoning_effort_levels")
            untaken = levels and SETTINGS[case].get("reasoning_effort") not in levels
            if name.partition(":")[0] in UNLIKE_LITELLM or row is None or untaken:
                for body in (ours, theirs):
                    for key in ("reasoning_effort", "reasoning", "thinking"):
                        body.pop(key, None)
            if "reasoning_effort" in SETTINGS[case] and "magistral" in name:
                theirs["messages"] = ours["messages"]
            assert ours == theirs, name


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("openai:gpt-5.4-mini", "xhigh", {"reasoning_effort": "xhigh"}),
        ("openai:gpt-5.4-mini", "minimal", {}),  # by the price file
        ("openai:gpt-4o", "low", {}),
        ("openai:gpt-7", "max", {"reasoning_effort": "max"}),
        ("openrouter:acme/m", "max", {"reasoning": {"effort": "xhigh"}}),
        ("openrouter:acme/m", "none", {"reasoning": {"effort": "none"}}),
        ("xai:grok-4.5", "low", {"reasoning_effort": "low"}),
        ("xai:grok-9", "low", {"reasoning_effort": "low"}),
        ("xai:grok-4-0709", "low", {}),
        ("xai:grok-4.20-reasoning", "low", {}),
        ("xai:grok-code-fast-1", "low", {}),
        ("xai:grok-build-0.1", "low", {}),
        ("deepseek:deepseek-v9", "none", {"thinking": {"type": "disabled"}}),
        ("deepseek:deepseek-v9", "high", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("together_ai:a/b", "none", {"reasoning": {"enabled": False}}),
        ("together_ai:a/b", "minimal", {"reasoning_effort": "low"}),
        ("hosted_vllm:m", "minimal", {"reasoning_effort": "minimal"}),
        ("lm_studio:m", "xhigh", {"reasoning_effort": "xhigh"}),
        ("zai:glm-9", "low", {}),
        ("ollama:m", "none", {"think": False}),
        ("ollama:m", "minimal", {"think": "low"}),
        ("ollama:m", "medium", {"think": "medium"}),
        ("ollama:m", "xhigh", {"think": "max"}),
    ],
)
def test_an_effort_is_sent_as_the_provider_names_it(model: str, effort: str, sent: dict[str, Any]) -> None:
    call = Call("", ModelSpec(model, reasoning_effort=effort), Endpoint("k"), Deadlines(), 99)
    wire = protocols.request(call)
    named = ("reasoning_effort", "reasoning", "thinking", "think")
    assert {name: value for name, value in wire.body.items() if name in named} == sent
    assert ("reasoning_effort" in wire.dropped) is (not sent)


def test_an_effort_that_a_model_lacks_is_the_next_higher_one() -> None:
    levels = {"supports_reasoning": True, "reasoning_effort_levels": ["high", "low", "of-tomorrow"]}
    assert [chat._nearest_effort(levels, word) for word in EFFORTS] == [
        None, "low", "low", "high", "high", "high", "high",
    ]  # fmt: skip
    assert chat._nearest_effort(levels, "of-tomorrow") == "of-tomorrow"
    assert chat._nearest_effort({**levels, "reasoning_effort_levels": []}, "low") is None


@pytest.mark.slow
def test_models_of_another_protocol_go_through_litellm(rows: Mapping[str, Any]) -> None:
    modes = {rows[name]["mode"] for name in rows if protocols.serves(name)}
    assert modes == {"chat", "responses"}
    assert not protocols.serves("openai:openai/o3")
    chats = [name for name, row in rows.items() if row.get("mode") == "chat"]
    unserved = [name for name in chats if not protocols.serves(name)]
    assert {name.partition(":")[0] for name in unserved} == {"fireworks_ai"}  # short for others


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [row.name for row in PROVIDERS.values() if "chat" in row.protocols and row.needs_key]
)
def test_address_and_key_are_those_of_litellm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    litellm, provider = transport_litellm.load(), PROVIDERS[name]
    for key in provider.keys:
        monkeypatch.delenv(key, raising=False)
    for key in reversed(provider.keys):  # the first that is set counts
        monkeypatch.setenv(key, f"sk-of-{key}")
        _, _, found, base = litellm.get_llm_provider(f"{name}/some-model")
        if name != "vercel_ai_gateway":
            assert found in (None, f"sk-of-{key}")
    assert base in (None, provider.address)


@pytest.mark.parametrize("samples", tiered([3, 20], ci=1))
def test_the_cost_of_an_answer_is_that_of_litellm(rows: Mapping[str, Any], samples: int) -> None:
    litellm = transport_litellm.load()
    dice = random.Random(7)
    compared = 0
    for name in sampled(rows):
        for _ in range(samples):
            usage = some_usage(dice)
            ours = chat.read(event(usage), name).usage
            assert ours is not None
            provider, _, model = name.partition(":")
            theirs = sum(
                litellm.cost_per_token(model=f"{provider}/{model}", usage_object=litellm.Usage(**usage))
            )
            if ours.cost_usd is None:
                assert theirs == 0 or not spending.understands_price(name), name
                continue
            assert ours.cost_usd == pytest.approx(theirs, rel=1e-9, abs=1e-15), (name, usage)
            compared += 1
    assert compared > 70 * samples


def some_usage(dice: random.Random) -> dict[str, Any]:
    """Token counts around every threshold, with and without cached tokens."""
    prompt = dice.choice([1, 999, 128_000, 128_001, 199_999, 200_000, 200_001, 272_000, 272_001, 900_000])
    completion = dice.randrange(1, 9000)
    cached = dice.choice([0, prompt // 3, prompt])
    written = dice.choice([0, 0, (prompt - cached) // 2])
    details = {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": 0}
    thought = {"reasoning_tokens": dice.choice([0, completion // 2])}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": thought,
    }


def event(usage: object) -> dict[str, Any]:
    return {"choices": [], "usage": usage}


def test_a_price_with_an_unknown_rule_is_unknown() -> None:
    assert spending.understands_price("openai:gpt-4o-mini")
    assert spending.understands_price("openai:of-our-own")
    assert not spending.understands_price("perplexity:sonar")  # it also charges for each request
    assert spending.cost("perplexity:sonar", spending.Tokens(10, 5)) is None
    assert spending.highest_rates("perplexity:sonar", 10) is None


@pytest.mark.parametrize(
    ("usage", "completion", "cost"),
    [
        # xAI counts thinking beside the answer, and states the cost itself.
        ({"total_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 25}}, 30, None),
        ({"total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 3}}, 5, None),
        ({"cost_in_usd_ticks": 123_000_000}, 5, 0.0123),
        ({"cost_in_usd_ticks": 0}, 5, 0.0),
        ({"cost": 0.5}, 5, 0.5),
        ({"cost": -0.5}, 5, None),
    ],
)
def test_xai_counts_and_charges_in_its_own_way(
    usage: dict[str, Any], completion: int, cost: float | None
) -> None:
    name = next(name for name in ("xai:grok-4.3",) if protocols.serves(name))
    said = chat.read(event({"prompt_tokens": 10, "completion_tokens": 5, **usage}), name).usage
    assert said is not None
    assert said.completion_tokens == completion
    priced = spending.cost(name, spending.Tokens(10, completion))
    assert said.cost_usd == pytest.approx(priced if cost is None else cost)


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ({"cost": 0.0123}, 0.0123),
        ({"cost": 0.0123, "cost_details": {"upstream_inference_cost": 0.5}}, 0.0123),
        ({"cost": 0.0123, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, 0.5123),
        ({"cost": 0.0123, "is_byok": True}, None),
        ({"cost": "0.0123"}, None),
        ({"cost": {"total": 1}}, None),
        ({"cost": 1e400}, None),
        ({"cost": 10**400}, None),
        ({"cost": -1e-9}, None),
        ({"cost": True}, None),
    ],
)
def test_openrouter_states_what_it_charges(said: dict[str, Any], cost: float | None) -> None:
    usage = chat.read(event({"prompt_tokens": 9, "completion_tokens": 1, **said}), "openrouter:a/b").usage
    assert usage == Usage(9, 1, 10, None if cost is None else pytest.approx(cost))


def test_the_highest_rate_is_a_long_prompt_written_to_cache() -> None:
    short, long = (
        spending.highest_rates("openai:gpt-6-sol", 1000),
        spending.highest_rates("openai:gpt-6-sol", 300_000),
    )
    assert short == spending.Rates(pytest.approx(2.5e-06), pytest.approx(1e-05))
    assert long == spending.Rates(pytest.approx(5e-06), pytest.approx(1.5e-05))
    assert spending.highest_rates("openai:of-our-own", 1000) is None


@pytest.mark.slow
def test_no_answer_costs_more_than_the_highest_rates(rows: Mapping[str, Any]) -> None:
    dice = random.Random(11)
    compared = 0
    for name in sampled(rows):
        for _ in range(20):
            usage = some_usage(dice)
            paid = chat.read(event(usage), name).usage
            rates = spending.highest_rates(name, usage["prompt_tokens"])
            assert paid is not None
            if rates is None or paid.cost_usd is None:
                continue
            most = rates.cost(usage["prompt_tokens"], usage["completion_tokens"])
            assert paid.cost_usd <= most * (1 + 1e-9), (name, usage)
            compared += 1
    assert compared > 1000


def test_an_unknown_price_rule_keeps_the_call_direct(tmp_path: Path) -> None:
    """LiteLLM 1.110.2 brought such a key for most of OpenAI's models."""
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / "__init__.py").touch()
    priced = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 1,
        "output_cost_per_token": 2,
    }
    file = {"plain": priced, "odd": {**priced, "full_moon_multiplier": 3}}
    (tmp_path / "litellm" / spending.FILE).write_text(json.dumps(file))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from aethr.llm import spending, protocols\n"
        "for name in ('openai:plain', 'openai:odd'):\n"
        "    print(protocols.serves(name), spending.cost(name, spending.Tokens(1, 1)), end=' ')\n"
        "    print(spending.highest_rates(name, 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 3 Rates(prompt=1, completion=2)\nTrue None None\n"


@pytest.mark.parametrize(
    ("name", "base", "limit"),
    [
        ("openai:gpt-7-of-tomorrow", None, "max_completion_tokens"),
        ("openai:gpt-7-of-tomorrow", "https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("openai:gpt-4o", None, "max_completion_tokens"),
        ("openai:gpt-7-of-tomorrow", "https://api.openai.com.example/v1", "max_tokens"),
        ("openai:gpt-4o", "http://127.0.0.1:8000/v1", "max_tokens"),
        ("xai:grok-4.3", None, "max_tokens"),
    ],
)
def test_openai_itself_gets_the_limit_by_its_newer_name(name: str, base: str | None, limit: str) -> None:
    call = Call("", ModelSpec(name), Endpoint("k", base), Deadlines(), 99)
    for sent in (protocols.request(call).body, transport_litellm._arguments(call)):
        assert {key: sent[key] for key in sent if key.startswith("max_") and key != "max_retries"} == {
            limit: 99
        }


def test_tokens_of_audio_and_images_have_an_unknown_cost() -> None:
    details = {"prompt_tokens_details": {"audio_tokens": 3}}
    usage = chat.read(event({"prompt_tokens": 9, "completion_tokens": 1, **details}), "openai:gpt-4o").usage
    assert usage is not None
    assert (usage.total_tokens, usage.cost_usd) == (10, None)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None, "role": "assistant"}, "finish_reason": 7}]},
        {"choices": [{"index": 1, "delta": {"content": "of another choice"}}]},
        {"choices": [], "usage": [1]},
        {"choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": None}},
        {"choices": [], "usage": {"prompt_tokens": float("inf"), "completion_tokens": True}},
        {"choices": [], "usage": {"prompt_tokens": float("nan")}},
    ],
    ids=str,
)
def test_an_event_without_content_is_an_empty_chunk(said: dict[str, Any]) -> None:
    assert chat.read(said, "openai:gpt-4o") == Chunk()


@pytest.mark.parametrize(
    ("choice", "text", "refusal"),
    [
        ({"delta": {"content": [{"type": "text", "text": "a"}, {"text": "b"}, "c", None]}}, "abc", ""),
        (
            {"delta": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}},
            "a",
            "",
        ),
        ({"delta": {"content": [{"type": "reasoning", "text": "hm"}]}}, "", ""),
        ({"delta": {"content": [{"text": "hm", "thought": True}]}}, "", ""),
        ({"delta": {"content": [{"type": "reference", "reference_ids": [1]}]}}, "", ""),
        ({"delta": {"content": {"type": "text", "text": {"value": "a"}}}}, "a", ""),
        ({"delta": {}, "message": {"content": "a"}}, "a", ""),
        ({"delta": {"role": "assistant"}, "message": {"content": "a"}}, "a", ""),
        ({"message": {"content": "a", "reasoning_content": "hm"}}, "a", ""),
        ({"text": "a", "index": 0}, "a", ""),
        ({"delta": {"content": "a"}, "index": None}, "a", ""),
        ({"delta": {"refusal": "no"}}, "", "no"),
        ({"message": {"content": None, "refusal": "no"}}, "", "no"),
        ({"delta": {"content": [{"type": "refusal", "refusal": "no"}]}}, "", "no"),
    ],
    ids=str,
)
def test_the_text_of_an_answer_is_found_in_every_form(
    choice: dict[str, Any], text: str, refusal: str
) -> None:
    read = chat.read({"choices": [choice]}, "openai:gpt-4o")
    assert (read.text, read.refusal) == (text, refusal)


@pytest.mark.parametrize(
    "choices",
    [
        {"0": {"delta": {"content": "a"}}},
        "a",
        [3],
        ["a"],
        [{"delta": "a"}],
        [{"message": ["a"]}],
        [{"delta": {"content": 7}}],
        [{"delta": {"content": True}}],
        [{"delta": {"content": [7]}}],
        [{"delta": {"content": [{"type": "markdown", "value": "- [high] a"}]}}],
        [{"delta": {"content": [{"type": 3}]}}],
        [{"delta": {"content": {}}}],
        [{"delta": {"refusal": 7}}],
        [{"text": 7}],
    ],
    ids=str,
)
def test_an_unreadable_choice_is_an_error(choices: object) -> None:
    with pytest.raises(CallFailed) as caught:
        chat.read({"choices": choices}, "openai:gpt-4o")
    assert caught.value.kind == "garbage"


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 80}}, 100),
        ({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 80}}, 100),
        ({"prompt_tokens": 10**400}, 1 << 53),
        ({"prompt_tokens": 12.0}, 12),
    ],
    ids=["cached among them", "cached apart", "huge", "a float"],
)
def test_cached_tokens_are_part_of_the_prompt_count(usage: dict[str, Any], prompt: int) -> None:
    counted = chat.read(event({**usage, "completion_tokens": 1}), "openai:of-our-own").usage
    assert counted is not None
    assert counted.prompt_tokens == prompt


@pytest.mark.parametrize(
    "data",
    [
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
        {"choices": [{"delta": {}, "usage": {"prompt_tokens": 5, "completion_tokens": 1}}]},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}},
    ],
    ids=["beside", "in the choice", "groq"],
)
def test_counts_are_found_wherever_a_server_puts_them(data: dict[str, Any]) -> None:
    usage = chat.read(data, "openai:of-our-own").usage
    assert usage is not None
    assert usage.total_tokens == 6


@pytest.mark.parametrize(
    ("base", "where"),
    [
        (None, "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1/chat/completions"),
        ("http://127.0.0.1:1/v1/chat/completions", "http://127.0.0.1:1/v1/chat/completions"),
        ("https://proxy.example/v1?team=a", "https://proxy.example/v1/chat/completions?team=a"),
    ],
)
def test_the_address_is_the_base_and_the_path(base: str | None, where: str) -> None:
    assert (
        protocols.request(Call("", ModelSpec("openai:gpt-4o"), Endpoint("k", base), Deadlines(), 99)).url
        == where
    )


# --- prefix caches that are written at marks alone ------------------------------------------------

ONCE = {"mode": "explicit"}
PIECES = [
    {"type": "text", "text": "shared by all, ", "prompt_cache_breakpoint": ONCE},
    {"type": "text", "text": "by two, ", "prompt_cache_breakpoint": ONCE},
    {"type": "text", "text": "by none"},
]


def shared_call(name: str, base: str | None = None, shared: tuple[int, ...] = (15, 23)) -> Call:
    model = ModelSpec(name)
    return Call("shared by all, by two, by none", model, Endpoint("k", base), Deadlines(), 99, shared=shared)


@pytest.mark.parametrize("name", ["openai:gpt-6-sol", "openai:gpt-5.6-luna"])
def test_a_model_that_charges_for_writes_gets_marks(name: str) -> None:
    body = protocols.request(shared_call(name)).body
    assert body["messages"] == [{"role": "user", "content": PIECES}]
    assert body["prompt_cache_options"] == ONCE
    key = body["prompt_cache_key"]
    assert len(key) == 32
    other = shared_call(name)._replace(prompt="shared by all, and then another text")
    assert protocols.request(other).body["prompt_cache_key"] == key
    alone = protocols.request(shared_call(name, shared=())).body
    assert alone["messages"][0]["content"] == "shared by all, by two, by none"
    assert alone["prompt_cache_options"] == ONCE, "without it, OpenAI would write all of the prompt"
    assert "prompt_cache_key" not in alone


def test_no_part_of_a_prompt_is_empty() -> None:
    body = protocols.request(shared_call("openai:gpt-6-sol", shared=(0, 15, 30))).body
    marked, rest = body["messages"][0]["content"]
    assert (marked, rest) == (PIECES[0], {"type": "text", "text": "by two, by none"})


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("openai:gpt-5.4-mini", None),  # finds a common beginning itself, and refuses the setting
        ("openai:ft:gpt-4o-2024-11-20", None),
        ("openai:gpt-9-of-tomorrow", None),
        ("openai:gpt-6-sol", "http://127.0.0.1:8000/v1"),
        ("openrouter:openai/gpt-6-sol", None),
        ("xai:grok-4.3", None),
        ("hosted_vllm:qwen", "http://127.0.0.1:8000/v1"),
    ],
)
def test_no_other_model_gets_marks(name: str, base: str | None) -> None:
    marked, plain = (protocols.request(shared_call(name, base, shared)) for shared in ((15, 23), ()))
    assert marked == plain
    assert not any("cache" in key for key in plain.body)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai:gpt-6-sol", "openrouter:anthropic/claude-sonnet-5-5"])
def test_litellm_sends_the_same_marks(name: str) -> None:
    call = shared_call(name)
    with ModelServer(lambda _: Reply()) as server:
        litellm = transport_litellm.load()
        for shared in ((15, 23), ()):
            arguments = transport_litellm._arguments(call._replace(shared=shared))
            list(litellm.completion(**{**arguments, "api_base": server.base_url}))
            assert protocols.request(call._replace(shared=shared)).body == server.bodies[-1]


def test_claude_gets_marks_over_litellm() -> None:
    with ModelServer(lambda _: Reply(usage=(2000, 5), cached=1500, written=300)) as server:
        call = shared_call("anthropic:claude-sonnet-5-5", server.origin)
        chunks = list(LiteLLM().open(call, lambda: None).chunks())
    mark = {"cache_control": {"type": "ephemeral"}}
    texts = [{"type": "text", "text": each["text"]} for each in PIECES]
    content = [{**texts[0], **mark}, {**texts[1], **mark}, texts[2]]
    assert server.bodies[0]["messages"] == [{"role": "user", "content": content}]
    usage = next(chunk.usage for chunk in reversed(chunks) if chunk.usage is not None)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.written_tokens) == (2000, 1500, 300)
    row = spending.price_row("anthropic:claude-sonnet-5-5") or {}
    asked, answered = row["input_cost_per_token"], row["output_cost_per_token"]
    read, written = row["cache_read_input_token_cost"], row["cache_creation_input_token_cost"]
    assert read < asked < written
    assert usage.cost_usd == pytest.approx(200 * asked + 1500 * read + 300 * written + 5 * answered)


@pytest.mark.parametrize(
    ("usage", "parts"),
    [
        ({}, (None, None, None)),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, (None, None, None)),
        ({"prompt_tokens_details": {"cached_tokens": 0}}, (0, None, None)),
        ({"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}}, (60, 30, None)),
        ({"prompt_tokens_details": {"cache_write_tokens": 0}}, (None, 0, None)),
        ({"prompt_tokens_details": {"cache_creation_tokens": 30}}, (None, 30, None)),
        ({"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, (64, None, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 40}}, (None, None, 40)),
        ({"completion_tokens_details": {"reasoning_tokens": 51}}, (None, None, None)),
        ({"prompt_tokens_details": {"cached_tokens": -1, "cache_write_tokens": "x"}}, (None, None, None)),
        ({"prompt_tokens_details": {"cached_tokens": True}}, (None, None, None)),
    ],
    ids=[
        "none",
        "null",
        "a miss",
        "read, written",
        "nothing written",
        "other name",
        "deepseek",
        "thinking",
        "beyond",
        "odd",
        "a flag",
    ],
)
def test_parts_of_a_count_are_what_was_counted(usage: dict[str, Any], parts: tuple[int | None, ...]) -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 50, **usage}
    counted = chat.read(event(counts), "openai:of-our-own").usage
    assert counted is not None
    assert (counted.cached_tokens, counted.written_tokens, counted.reasoning_tokens) == parts
    assert counted.total_tokens == 150
