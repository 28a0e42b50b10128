"""The words for a model's effort, and the room for its thinking: the price file, read as LiteLLM reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aethr.base.providers import EFFORTS, PROVIDERS
from aethr.base.records import ModelSpec
from aethr.llm import spending
from aethr.llm.effort import find_doubts, room_of, words


@pytest.mark.slow
def test_every_row_takes_the_words_that_litellm_advertises() -> None:
    from litellm.litellm_core_utils.reasoning_effort_capability import resolve_supported_reasoning_efforts

    rows: dict[str, dict[str, Any]] = json.loads(spending._text())
    prefixes = {row.prefix: row.name for row in PROVIDERS.values()}
    compared = 0
    for name, row in rows.items():
        provider = prefixes.get(row.get("litellm_provider", ""))
        if provider is None or row.get("mode") not in ("chat", "responses"):
            continue
        model = f"{provider}:{name.removeprefix(row['litellm_provider'] + '/')}"
        if spending.price_row(model) != row:
            continue  # the row of another name stands for this one
        ours = words(model)
        theirs = resolve_supported_reasoning_efforts({**row, "key": name}, deployment_is_mapped=True)
        if row.get("thinking_always_on") and theirs is not None:  # the providers' pages: never without
            theirs = tuple(word for word in theirs if word != "none")
        assert (None if ours is None else set(ours)) == (None if theirs is None else set(theirs)), name
        compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("model", "effort", "doubt"),
    [
        ("openai:gpt-4o", "low", "does not think, so reasoning_effort low has no effect"),
        ("openai:gpt-5", "xhigh", "takes reasoning_effort minimal, low, medium or high, not xhigh"),
        ("openai:gpt-5", "minimal", None),
        ("openai:gpt-5.1", "minimal", "takes reasoning_effort none, low, medium or high, not minimal"),
        ("openai:o3", "max", None),  # its row does not say
        (
            "anthropic:claude-opus-5-5",
            "none",
            "takes reasoning_effort minimal, low, medium, high, xhigh or max, not none",
        ),
        ("vllm:anything", "max", None),
    ],
)
def test_a_word_that_the_model_does_not_take_is_told(model: str, effort: str, doubt: str | None) -> None:
    told = [f"{model} {doubt} (by LiteLLM's price file)"] if doubt else []
    assert list(find_doubts(ModelSpec(model, reasoning_effort=effort))) == told


@pytest.mark.parametrize(
    ("model", "effort", "room"),
    [
        ("openai:gpt-5", None, 25_000),
        ("openai:gpt-5.4-mini", None, 0),  # it only thinks if it is asked to
        ("openai:gpt-5.4-mini", "low", 25_000),
        ("openai:gpt-5.4-mini", "none", 0),
        ("openai:gpt-4o", None, 0),
        ("openai:gpt-5-of-tomorrow", None, 25_000),
        ("anthropic:claude-sonnet-4-5", None, 0),
        ("anthropic:claude-sonnet-4-5", "none", 0),
        ("anthropic:claude-sonnet-4-5", "low", 1024 + 4096),
        ("anthropic:claude-sonnet-4-5", "max", 16384 + 4096),
        ("anthropic:claude-sonnet-5-5", None, 25_000),
        ("google:gemini-2.5-pro", None, 25_000),
        ("vllm:anything", "max", 0),
    ],
)
def test_the_room_that_thinking_and_answer_need(model: str, effort: str | None, room: int) -> None:
    spec = ModelSpec(model, reasoning_effort=effort)
    assert room_of(spec) == room
    if room:
        (doubt,) = find_doubts(spec._replace(max_tokens=room - 1))
        assert f"set max_tokens to {room:,} or more, or lower reasoning_effort" in doubt
    assert not list(find_doubts(spec._replace(max_tokens=max(room, 1))))
    assert not list(find_doubts(spec))


def test_nothing_more_is_asked_for_than_the_model_can_answer() -> None:
    for name in ("groq:openai/gpt-oss-20b", "openai:o1-mini", "deepseek:deepseek-reasoner"):
        price = spending.lookup(name)
        for effort in (None, *EFFORTS):
            spec = ModelSpec(name, reasoning_effort=effort)
            assert price is None or room_of(spec) <= (price.max_output or room_of(spec))
