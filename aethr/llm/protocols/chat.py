"""OpenAI's chat completions, https://platform.openai.com/docs/api-reference/chat (pure).

Which settings a model does not take, or takes under another name, follows LiteLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from aethr.base import outside
from aethr.base.providers import EFFORTS, Provider, provider_of, split
from aethr.base.records import Usage
from aethr.llm import Call, CallFailed, Chunk, Read, Settings, spending
from aethr.llm.failures import error_in
from aethr.llm.protocols.content import Content, cache_settings, read_content, read_objects, write_content

_OTHER = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""By one name of the setting that limits an answer, the other one."""


def is_chat_model(model_name: str) -> bool:
    """Whether it is a chat model; LiteLLM marks models of another protocol with ``responses/``."""
    return not split(model_name)[1].startswith("responses/") and spending.is_chat(model_name)


def limit_name(call: Call) -> str:
    """The name of the setting that limits the answer; if the provider has refused it, the other one.

    A compatible server may not know the newer name, and models that think take only that.
    """
    provider, name = provider_of(call.model.name), call.model.name
    thinks = provider.thinks(split(name)[1], spending.price_row(name) is not None)
    newer = thinks or provider.is_at(call.endpoint.base)
    limit = provider.limit if newer else Provider._field_defaults["limit"]
    return _OTHER[limit] if "max_tokens" in call.left_out else limit


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings."""
    provider = provider_of(call.model.name)
    counts = {"stream_options": {"include_usage": True}}
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": write_content(call)}],
        "stream": call.stream,
        **(counts if call.stream and provider.asks_for_counts else {}),
        **provider.request,
        **cache_settings(call),
    }


def settings(call: Call) -> Settings:
    """Only those that the model takes."""
    provider, accepted = provider_of(call.model.name), taken(call)
    effort = accepted.get("reasoning_effort")
    shapes: dict[str, Mapping[str, Any]] = {
        "seed": {provider.seed: call.model.seed},
        "reasoning_effort": provider.effort(effort) if effort else {},
    }
    sent = {name: shapes.get(name, {name: value}) for name, value in accepted.items()}
    return {"max_tokens": {limit_name(call): call.max_tokens}, "schema": response_format(call), **sent}


def taken(call: Call) -> Mapping[str, Any]:
    """The sampling and the effort that the model takes, by LiteLLM's rules, also those without a value."""
    spec, provider = call.model, provider_of(call.model.name)
    model, row = split(spec.name)[1], spending.price_row(spec.name) or {}
    wanted = {name: getattr(spec, name) for name in ("temperature", "top_p", "seed")}
    effort = _nearest_effort(row, spec.reasoning_effort) if spec.reasoning_effort else None
    if effort or not spec.reasoning_effort:
        wanted["reasoning_effort"] = effort
    lacking = set(provider.lacks(model, row))
    if provider.thinks(model, bool(row)):
        resolved = effort or row.get("default_reasoning_effort")
        if "gpt-5" in model and "search" in model:
            lacking.update(wanted)
        elif not row.get("supports_none_reasoning_effort") or resolved != "none":
            lacking.update(("top_p",) if spec.temperature == 1 else ("top_p", "temperature"))
    return {name: value for name, value in wanted.items() if name not in lacking}


def _nearest_effort(row: Mapping[str, Any], effort: str) -> str | None:
    """The effort to send to a model: where it takes few, the next higher one; None if it does not take any.

    What the price file does not say is left to the provider.
    """
    if row and not row.get("supports_reasoning"):
        return None
    levels = row.get("reasoning_effort_levels")
    if isinstance(levels, list) and effort not in levels and effort in EFFORTS:
        known = sorted((each for each in levels if each in EFFORTS), key=EFFORTS.index)
        higher = [each for each in known if EFFORTS.index(each) > EFFORTS.index(effort)]
        return next(iter([*higher, *known[-1:]]), None) if effort != "none" else None
    return effort if row.get(f"supports_{effort}_reasoning_effort") is not False else None


def response_format(call: Call) -> dict[str, Any]:
    """The request for JSON by the schema of the call, None without one."""
    form = {"name": "review", "strict": True, "schema": call.schema}
    return {"response_format": {"type": "json_schema", "json_schema": form} if call.schema else None}


def reader(model_name: str) -> Read:
    return partial(read, model_name=model_name)


def read(data: Mapping[str, Any], model_name: str) -> Chunk:
    """Read one object of the answer: an event of a stream, or the complete answer.

    Only the first choice counts. Raises ``CallFailed`` for an error in it and for data in another form.
    """
    choices = read_objects(data.get("choices"), "choices")
    choice: Mapping[str, Any] = next((each for each in choices if each.get("index") in (0, None, "0")), {})
    failure = error_in(choice) if choice.get("error") else None
    if failure is not None:
        raise failure
    text, refusal = _choice_content(choice)
    # Some servers count in the choice, Groq under its own key.
    places = (data.get("usage"), choice.get("usage"), outside.at(data, "x_groq", "usage"))
    counted = next((each for each in places if isinstance(each, dict)), None)
    return Chunk(
        text,
        outside.text(choice.get("finish_reason")) or None,
        read_usage(counted, model_name) if counted is not None else None,
        refusal=refusal,
    )


def _choice_content(choice: Mapping[str, Any]) -> Content:
    """The content of a piece (``delta``) or of a complete ``message``; older servers have ``text``."""
    for name in ("delta", "message"):
        message = choice.get(name)
        if message is not None and not isinstance(message, dict):
            raise CallFailed("garbage", f"broken JSON in the answer: {name} is not an object")
        content = read_content((message or {}).get("content"))
        refusal = read_content((message or {}).get("refusal")).text
        if any(content) or refusal:
            return Content(content.text, content.refusal + refusal)
    return read_content(choice.get("text"))


def read_usage(usage: Mapping[str, Any], model_name: str) -> Usage | None:
    """The provider's counts; None if it counted nothing. A count of zero is a missing count."""

    def counted(*keys: str) -> int | None:
        """As it was sent; ``spending.is_plausible`` says whether it can be true."""
        return outside.count_if_any(outside.at(usage, *keys))

    of_prompt, of_answer = "prompt_tokens_details", "completion_tokens_details"
    asked, answered = counted("prompt_tokens") or 0, counted("completion_tokens") or 0
    cached, thought = counted(of_prompt, "cached_tokens"), counted(of_answer, "reasoning_tokens")
    if cached is None:  # https://api-docs.deepseek.com/guides/kv_cache
        cached = counted("prompt_cache_hit_tokens")
    writes = [counted(of_prompt, name) for name in ("cache_write_tokens", "cache_creation_tokens")]
    written = max((each for each in writes if each is not None), default=None)
    if cached is not None and cached > asked:  # they were not included
        asked += cached
    # Nearly every provider counts thinking in completion_tokens.
    if thought and provider_of(model_name).thinking_apart:
        apart = counted("total_tokens") == asked + answered + thought
        answered += thought if apart else 0
    tokens = spending.Tokens(asked, answered, cached, written, thought)
    cost = spending.stated_cost(model_name, usage)
    media = any(
        counted(side, kind) for side in (of_prompt, of_answer) for kind in ("audio_tokens", "image_tokens")
    )
    if cost is None and not media:  # the prices known here are those of text
        cost = spending.cost(model_name, tokens)
    return spending.to_usage(tokens, cost)
