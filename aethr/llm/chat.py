"""OpenAI's chat-completions protocol: what is sent, what an event of the answer means (pure).

Which settings a model does not take, and which it knows by another name, is as LiteLLM has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr.base import outside
from aethr.base.providers import Provider, provider_of, split
from aethr.base.records import Usage
from aethr.llm import Call, CallFailed, Chunk, prices
from aethr.llm.failures import error_in

TEXT = ("text", "output_text")
THOUGHT = (
    "thinking",
    "redacted_thinking",
    "reasoning",
    "reasoning_content",
    "reasoning_text",
    "summary_text",
    "thought",
)
SILENT = (
    "reference",
    "citation",
    "tool_use",
    "tool_call",
    "tool_calls",
    "function_call",
    "image",
    "image_url",
    "audio",
    "input_audio",
    "file",
)
"""Parts that have no words of the answer."""


class Said(NamedTuple):
    """The words of an answer, and those in place of one."""

    text: str = ""
    refusal: str = ""


def said(content: object) -> Said:
    """The text in ``content``; thinking is left out. Raises ``CallFailed`` for what cannot be read.

    It is a text, one part, or a list of either; nothing is nothing.
    """
    if content is None:
        return Said()
    if isinstance(content, str):
        return Said(content)
    if isinstance(content, dict):
        return _part(content)
    if isinstance(content, list):
        parts = [said(part) for part in content]
        return Said("".join(part.text for part in parts), "".join(part.refusal for part in parts))
    raise CallFailed("garbage", f"a piece of the answer cannot be read: {str(content)[:80]}")


def _part(part: Mapping[str, Any]) -> Said:
    kind = part.get("type")
    if kind in THOUGHT or part.get("thought") is True or kind in SILENT:
        return Said()
    if kind == "refusal":
        return Said(refusal=said(part.get("refusal") or part.get("text")).text)
    text = part.get("text")
    if kind in TEXT or (kind is None and "text" in part):
        return said(text.get("value") if isinstance(text, dict) else text)
    raise CallFailed("garbage", f"a part of the answer cannot be read: its type is '{str(kind)[:80]}'")


PATH = "/chat/completions"


def serves(model_name: str) -> bool:
    """Whether it is the protocol of ``provider:model``; ``responses/`` is LiteLLM's word for another one."""
    row = prices.row(model_name) or {}
    return not split(model_name)[1].startswith("responses/") and row.get("mode", "chat") == "chat"


def limit_name(call: Call) -> str:
    """The setting that limits the answer; a server that only speaks the protocol may not know a newer one."""
    provider = provider_of(call.model.name)
    return provider.limit if provider.is_at(call.endpoint.base) else Provider._field_defaults["limit"]


def body(call: Call) -> dict[str, Any]:
    """The request, without the settings that the model does not take."""
    limit, settings = _settings(call)
    wanted = {limit: call.max_tokens, **settings}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        **(streaming if call.stream else {"stream": False}),
        **provider_of(call.model.name).request,
        **{name: value for name, value in wanted.items() if value is not None},
    }


def chunk(data: Mapping[str, Any], model_name: str) -> Chunk:
    """What one object of the answer says: an event of a stream, or all of it at once.

    Only the first choice counts. Raises ``CallFailed`` for an error in it and for what cannot be read.
    """
    choice = _first(data.get("choices"))
    failure = error_in(choice) if choice.get("error") else None
    if failure is not None:
        raise failure
    text, refusal = _said(choice)
    counted = _counts(data, choice)
    return Chunk(
        text,
        outside.text(choice.get("finish_reason")) or None,
        _usage(counted, model_name) if counted is not None else None,
        refusal=refusal,
    )


def _first(choices: object) -> Mapping[str, Any]:
    """The choice with index 0, or without one; empty where it has no news."""
    each = [] if choices is None else choices
    if not isinstance(each, list) or not all(choice is None or isinstance(choice, dict) for choice in each):
        raise CallFailed("garbage", "broken JSON in the answer: choices is not a list of objects")
    return next((choice for choice in each if choice and choice.get("index") in (0, None, "0")), {})


def _said(choice: Mapping[str, Any]) -> Said:
    """The text of a choice: of its piece, or of the whole message; ``text`` is that of older servers."""
    for name in ("delta", "message"):
        message = choice.get(name)
        if message is not None and not isinstance(message, dict):
            raise CallFailed("garbage", f"broken JSON in the answer: {name} is not an object")
        words = said((message or {}).get("content")), said((message or {}).get("refusal"))
        if any(words[0]) or words[1].text:
            return Said(words[0].text, words[0].refusal + words[1].text)
    return said(choice.get("text"))


def _counts(data: Mapping[str, Any], choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Some servers count in the choice, and Groq under a name of its own."""
    places = (data.get("usage"), choice.get("usage"), outside.at(data, "x_groq", "usage"))
    return next((each for each in places if isinstance(each, dict)), None)


def _settings(call: Call) -> tuple[str, dict[str, Any]]:
    """The name under which the model takes ``max_tokens``, and the settings it takes.

    A model that thinks takes the provider's own name alone, wherever it is served.
    """
    spec, provider = call.model, provider_of(call.model.name)
    settings: dict[str, Any] = {"temperature": spec.temperature, "seed": spec.seed}
    model, row = split(spec.name)[1], prices.row(spec.name) or {}
    if not provider.thinks(model, bool(row)):
        return limit_name(call), settings
    if "gpt-5" in model and "search" in model:
        return provider.limit, {}
    free = row.get("supports_none_reasoning_effort") and row.get("default_reasoning_effort") == "none"
    if not free and spec.temperature != 1:
        del settings["temperature"]
    return provider.limit, settings


def _usage(usage: Mapping[str, Any], model_name: str) -> Usage | None:
    """What the provider counted, None where it counted nothing. A zero is a count that is missing."""
    details = "prompt_tokens_details"
    asked, cached = _count(usage, "prompt_tokens"), _count(usage, details, "cached_tokens")
    tokens = prices.Tokens(
        asked + cached if cached > asked else asked,  # then those are not among them
        _completion(usage, model_name),
        cached,
        _count(usage, details, "cache_write_tokens") or _count(usage, details, "cache_creation_tokens"),
    )
    if not (tokens.prompt and tokens.completion):
        return Usage.of(tokens.prompt or None, tokens.completion or None) if any(tokens[:2]) else None
    return Usage.of(tokens.prompt, tokens.completion, _cost(usage, tokens, model_name))


def _completion(usage: Mapping[str, Any], model_name: str) -> int:
    """The answer's tokens with those of thinking, which nearly everybody counts among them."""
    answered = _count(usage, "completion_tokens")
    thought = _count(usage, "completion_tokens_details", "reasoning_tokens")
    apart = _count(usage, "total_tokens") == _count(usage, "prompt_tokens") + answered + thought
    return answered + thought if apart and provider_of(model_name).thinking_apart else answered


def _cost(usage: Mapping[str, Any], tokens: prices.Tokens, model_name: str) -> float | None:
    """What the provider itself states, else by the price file; unknown for anything but text."""
    stated = prices.stated(model_name, usage)
    if stated is not None:
        return stated
    for side in ("prompt_tokens_details", "completion_tokens_details"):
        if _count(usage, side, "audio_tokens") or _count(usage, side, "image_tokens"):
            return None
    return prices.cost(model_name, tokens)


def _count(usage: Mapping[str, Any], *keys: str) -> int:
    """A count as it was sent: whether one can be true is said in ``spending``."""
    return outside.count(outside.at(usage, *keys))
