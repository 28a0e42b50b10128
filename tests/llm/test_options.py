"""What a model's ``options`` and settings become in requests, over both transports."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from aethr.base.errors import BudgetError, ConfigError
from aethr.base.records import Allowance, ModelSpec
from aethr.config import workflow_file
from aethr.llm import Call, Deadlines, Endpoint, spending
from aethr.llm.protocols import PROTOCOLS, SETTINGS
from aethr.workflow import planning
from tests.llm.test_model import WAYS, Outcome, call, litellm_is_loaded, request, transport
from tests.model_server import Reply

__all__ = ["litellm_is_loaded", "transport"]

OPTIONS: Mapping[str, Any] = {
    "top_k": 3,
    "nothing": None,
    "deep": {"list": [1, None, {"ü": False}], "text": "x"},
    "metadata": {"user_id": "1"},
    "api_base": "http://127.0.0.1:1/elsewhere",
    "api_key": "no-key",
    "extra_headers": {"x-stolen": "1"},
    "mock_response": "made up",
    "fallbacks": ["other"],
    "generationConfig": {"topK": 2},
    "options": {"num_gpu": 1},
}
"""Some are LiteLLM's own arguments: as options they are JSON for the provider, like all others."""


def ask(name: str, **settings: Any) -> Outcome:
    way = WAYS[name]
    return call([Reply(("Hello.",), way.finished)], request(ModelSpec(way.model, **settings)))


@pytest.mark.parametrize("name", WAYS)
def test_options_are_in_the_json_of_the_request_as_they_are(name: str) -> None:
    plain = ask(name)
    given = copy.deepcopy(dict(OPTIONS))
    outcome = ask(name, options=OPTIONS)
    assert outcome.done.content == "Hello."
    (before,), (after,) = plain.requests[-1:], outcome.requests[-1:]
    expected = {**before["body"], **OPTIONS}
    for shared in ("generationConfig", "options"):
        expected[shared] = {**before["body"].get(shared, {}), **OPTIONS[shared]}
    assert after["body"] == expected
    assert after["path"] == before["path"]
    assert "x-stolen" not in after["headers"]
    assert not [note for note in outcome.done.notes if "option" in note]
    assert given == OPTIONS, "the model's own mapping is not changed"


@pytest.mark.parametrize(
    "name", ["openai", "hosted_vllm", "openrouter", "xai", "ollama", "google", "anthropic"]
)
def test_sampling_settings_are_sent_or_their_absence_is_told(name: str) -> None:
    outcome = ask(name, top_p=0.5)
    sent = outcome.requests[-1]["body"]
    found = {**sent, **sent.get("options", {}), **sent.get("generationConfig", {})}
    told = any("does not take top_p" in note for note in outcome.done.notes)
    assert ((found.get("top_p") or found.get("topP")) == 0.5) != told


def test_an_effort_reaches_anthropic_as_thinking(transport: str) -> None:
    way = WAYS["anthropic"]
    spec = ModelSpec("anthropic:claude-sonnet-4-5", reasoning_effort="low", max_tokens=9000)
    outcome = call([Reply(("Hello.",), way.finished)], request(spec))
    assert outcome.requests[-1]["body"]["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert not outcome.done.notes


def test_an_effort_reaches_a_chat_model_by_its_own_name() -> None:
    outcome = call([Reply(("Hello.",))], request(ModelSpec("openai:gpt-5.4-mini", reasoning_effort="low")))
    assert outcome.requests[-1]["body"]["reasoning_effort"] == "low"
    assert not outcome.done.notes


# --- keys that cannot be options ---------------------------------------------------------------


def leaves(fragment: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for name, value in fragment.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, *above, name)
        else:
            yield (*above, name)


def refuses(*path: str) -> bool:
    options = "".join(f"{{{name}: " for name in path) + "1" + "}" * len(path)
    text = (
        "workflow: w\nroles: {r: x}\n"
        f"models: {{r: {{model: 'openai:m', options: {options}}}}}\nsteps: [{{id: a, role: r}}]\n"
    )
    try:
        workflow_file.parse(text, "f", planning.vocabulary())
    except ConfigError as error:
        return "cannot be an option: " in str(error) or "expected a mapping" in str(error)
    return False


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_option_replaces_what_aethr_sends(name: str) -> None:
    """Every key of every protocol's request, at every depth."""
    protocol = PROTOCOLS[name]
    models = [way.model for way in WAYS.values()] + ["openai:gpt-5", "anthropic:claude-sonnet-5-5"]
    values = {"temperature": 1.0, "top_p": 1.0, "seed": 1, "reasoning_effort": "low"}
    found = set[tuple[str, ...]]()
    for model in models:
        for stream in (True, False):
            spec = ModelSpec(model, **values)
            asked = Call(
                "p", spec, Endpoint("k"), Deadlines(), 100, stream, schema={"type": "object"}, shared=(1,)
            )
            for fragment in (protocol.frame(asked), *protocol.settings(asked).values()):
                found |= set(leaves(fragment))
    assert found
    assert [path for path in sorted(found) if not refuses(*path)] == []
    assert set(protocol.settings(asked)) <= set(SETTINGS)


@pytest.mark.parametrize(
    "path",
    [
        ("max_completion_tokens",), ("max_output_tokens",), ("options", "num_predict"), ("thinking",),
        ("generationConfig", "maxOutputTokens"), ("generationConfig", "max_output_tokens"),
        ("generation_config",), ("n",), ("truncation",), ("transforms",), ("store",), ("input",),
        ("reasoning", "effort"), ("output_config", "effort"), ("text", "format"), ("models",), ("contents",),
    ],
    ids=".".join,
)  # fmt: skip
def test_the_other_names_of_a_setting_are_refused_too(path: tuple[str, ...]) -> None:
    assert refuses(*path)


@pytest.mark.parametrize(
    "path", [("service_tier",), ("reasoning", "summary"), ("options", "num_gpu"), ("top_k",)]
)
def test_anything_else_is_an_option(path: tuple[str, ...]) -> None:
    assert not refuses(*path)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{a: [" + "1, " * 200 + "]}", "more than 200 values"),
        ("{a: &x [" + "1, " * 99 + "], b: *x, c: *x}", "more than 200 values"),
        ("{a: " * 8 + "1" + "}" * 8, "nested deeper than 8 levels"),
        ("{a: " + "x" * 8192 + "}", "more than 8,192 characters"),
        ("{" + ", ".join(f"{n}{'x' * 999}: 1" for n in range(9)) + "}", "more than 8,192 characters"),
    ],
    ids=["values", "aliases", "levels", "text", "keys"],
)
def test_options_are_bounded(options: str, problem: str) -> None:
    text = f"models: {{r: {{model: 'openai:m', options: {options}}}}}\n"
    with pytest.raises(ConfigError, match=problem):
        workflow_file.parse(
            f"workflow: w\nroles: {{r: x}}\nsteps: [{{id: a, role: r}}]\n{text}", "f", planning.vocabulary()
        )


# --- options that change the price -------------------------------------------------------------


def test_a_price_that_an_option_changes_is_unknown() -> None:
    usual, flex = ask("openai").done.usage, ask("openai", options={"service_tier": "flex"}).done.usage
    assert usual.cost_usd is not None
    assert (flex.cost_usd, flex.total_tokens) == (None, usual.total_tokens)
    assert ask("openai", options={"service_tier": "default"}).done.usage == usual
    assert ask("openai", options={"verbosity": "low"}).done.usage == usual
    spec = ModelSpec("openai:gpt-4o-mini", options={"service_tier": "priority"})
    limited = request(spec)._replace(allowance=Allowance(cost_usd=5.0))
    with pytest.raises(BudgetError, match="its price is not known, so --max-cost cannot hold"):
        spending.answer_tokens(limited)


# --- all of it was thinking --------------------------------------------------------------------


def test_all_tokens_gone_to_thinking_are_told_and_counted() -> None:
    outcome = call([Reply((), "length", usage=(10, 150))])
    assert outcome.line == "openai:gpt-4o-mini: the answer is empty: all 150 answer tokens went to thinking"
    assert outcome.error is not None
    assert outcome.error.fix == "Raise the model's max_tokens, or lower its reasoning_effort."
    assert [usage.completion_tokens for usage in outcome.spent] == [150]


def test_all_thinking_without_a_count_has_used_the_limit() -> None:
    outcome = call([Reply((), "length", usage=None)], request(ModelSpec("openai:gpt-4o-mini", max_tokens=77)))
    assert outcome.line == "openai:gpt-4o-mini: the answer is empty: all answer tokens went to thinking"
    (spent,) = outcome.spent
    assert (spent.completion_tokens, spent.estimated) == (77, True)


def test_a_budget_that_left_no_room_for_thinking_is_named() -> None:
    asked = request(ModelSpec("openai:gpt-4o-mini", max_tokens=9000))._replace(
        allowance=Allowance(tokens=5000)
    )
    outcome = call([Reply((), "length", usage=(10, 4995))], asked)
    assert outcome.line.endswith(
        "went to thinking; the budget left 4,995 tokens for this answer, 9,000 would have been allowed"
    )
