"""OpenAI's chat completions, https://platform.openai.com/docs/api-reference/chat (pure).

Which settings a model does not take, or takes under another name, follows LiteLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from aethr.base import outside
from aethr.base.providers import Provider, provider_of, split
from aethr.base.records import Usage
from aethr.llm import Call, CallFailed, Chunk, Read, Settings, spending
from aethr.llm.failures import error_in
from aethr.llm.protocols.content import Content, read_content


def is_chat_model(model_name: str) -> bool:
    """Whether it is a chat model; LiteLLM marks models of another protocol with ``responses/``."""
    row = spending.price_row(model_name) or {}
    return not split(model_name)[1].startswith("responses/") and row.get("mode", "chat") == "chat"


def limit_name(call: Call) -> str:
    """The setting that limits the answer; a compatible server may not know the provider's newer name."""
    provider = provider_of(call.model.name)
    return provider.limit if provider.is_at(call.endpoint.base) else Provider._field_defaults["limit"]


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings."""
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        **(streaming if call.stream else {"stream": False}),
        **provider_of(call.model.name).request,
    }


def settings(call: Call) -> Settings:
    """Only those that the model takes."""
    spec, provider = call.model, provider_of(call.model.name)
    model, row = split(spec.name)[1], spending.price_row(spec.name) or {}
    limit = limit_name(call)
    wanted: dict[str, Any] = {"temperature": spec.temperature, "seed": spec.seed}
    if provider.thinks(model, bool(row)):
        limit = provider.limit  # wherever the model is served, it takes only this name
        free = row.get("supports_none_reasoning_effort") and row.get("default_reasoning_effort") == "none"
        if "gpt-5" in model and "search" in model:
            wanted = {}
        elif not free and spec.temperature != 1:
            del wanted["temperature"]
    return {
        "max_tokens": {limit: call.max_tokens},
        "schema": response_format(call),
        **{name: {name: value} for name, value in wanted.items()},
    }


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
    choices = [] if data.get("choices") is None else data["choices"]
    if not isinstance(choices, list) or not all(each is None or isinstance(each, dict) for each in choices):
        raise CallFailed("garbage", "broken JSON in the answer: choices is not a list of objects")
    choice: Mapping[str, Any] = next(
        (each for each in choices if each and each.get("index") in (0, None, "0")), {}
    )
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
        _usage(counted, model_name) if counted is not None else None,
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


def _usage(usage: Mapping[str, Any], model_name: str) -> Usage | None:
    """The provider's counts; None if it counted nothing. A count of zero is a missing count."""
    details = "prompt_tokens_details"
    asked, cached = _count(usage, "prompt_tokens"), _count(usage, details, "cached_tokens")
    answered = _count(usage, "completion_tokens")
    thought = _count(usage, "completion_tokens_details", "reasoning_tokens")
    # Nearly every provider counts thinking in completion_tokens.
    apart = _count(usage, "total_tokens") == asked + answered + thought
    tokens = spending.Tokens(
        asked + cached if cached > asked else asked,  # more cached than counted: they were not included
        answered + thought if apart and provider_of(model_name).thinking_apart else answered,
        cached,
        _count(usage, details, "cache_write_tokens") or _count(usage, details, "cache_creation_tokens"),
    )
    if not (tokens.prompt and tokens.completion):
        return Usage.of(tokens.prompt or None, tokens.completion or None) if any(tokens[:2]) else None
    cost = spending.stated_cost(model_name, usage)
    media = any(
        _count(usage, side, kind)
        for side in ("prompt_tokens_details", "completion_tokens_details")
        for kind in ("audio_tokens", "image_tokens")
    )
    if cost is None and not media:  # the prices known here are those of text
        cost = spending.cost(model_name, tokens)
    return Usage.of(tokens.prompt, tokens.completion, cost)


def _count(usage: Mapping[str, Any], *keys: str) -> int:
    """A count as it was sent; ``spending.is_plausible`` says whether it can be true."""
    return outside.count(outside.at(usage, *keys))
