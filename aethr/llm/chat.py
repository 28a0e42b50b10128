"""OpenAI's chat-completions protocol: what is sent, what an event of the answer means (pure).

Which settings a model does not take, and which it knows by another name, is as LiteLLM has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aethr import __version__, outside
from aethr.llm import costs, prices
from aethr.llm.calls import Call, CallFailed, Chunk
from aethr.llm.content import Said, said
from aethr.llm.failures_http import error_in
from aethr.providers import provider_of, split
from aethr.records import Usage

HOSTS: Mapping[str, str | None] = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "xai": "https://api.x.ai/v1",
    "lm_studio": None,
    "hosted_vllm": None,
}
"""The providers that speak it, by their names here, and where they are unless told otherwise."""

PATH = "/chat/completions"
_O_SERIES = re.compile(r"o\d")


def serves(model_name: str) -> bool:
    """Whether calls of ``provider:model`` are the same here as through LiteLLM."""
    provider, model = split(model_name)
    row = prices.row(model_name) or {}
    return (
        provider in HOSTS
        and not model.startswith("responses/")
        and row.get("mode", "chat") == "chat"
        and not (provider == "openai" and model.startswith("openai/"))
    )


def address(call: Call) -> str:
    """Where the request goes."""
    base = urlsplit(call.endpoint.base or HOSTS[provider_of(call.model.name).name] or "")
    path = base.path.rstrip("/")
    return urlunsplit(base._replace(path=path if path.endswith(PATH) else path + PATH))


def is_openai(call: Call) -> bool:
    """Whether the call goes to OpenAI itself, and not to another server that speaks its protocol."""
    if provider_of(call.model.name).name != "openai":
        return False
    host = urlsplit(address(call)).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def headers(call: Call) -> dict[str, str]:
    """The request's own headers; without a key it asks for none."""
    key = call.endpoint.key
    own = {"Content-Type": "application/json", "User-Agent": f"aethr/{__version__}"}
    return {**own, "Authorization": f"Bearer {key}"} if key else own


def body(call: Call) -> dict[str, Any]:
    """The request, without the settings that the model does not take."""
    limit, settings = _settings(call)
    wanted = {limit: call.max_tokens, **settings}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        **(streaming if call.stream else {"stream": False}),
        **({"usage": {"include": True}} if provider_of(call.model.name).name == "openrouter" else {}),
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
    reason = choice.get("finish_reason")
    counted = _counts(data, choice)
    return Chunk(
        text,
        reason if isinstance(reason, str) and reason else None,
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
    places = (data.get("usage"), choice.get("usage"), _record(data.get("x_groq")).get("usage"))
    return next((each for each in places if isinstance(each, dict)), None)


def _settings(call: Call) -> tuple[str, dict[str, Any]]:
    """The name under which the model takes ``max_tokens``, and the settings it takes.

    OpenAI itself takes the newer name for each of its chat models, and for those that think no other:
    https://platform.openai.com/docs/api-reference/chat/create#chat-create-max_completion_tokens
    """
    spec = call.model
    settings: dict[str, Any] = {"temperature": spec.temperature, "seed": spec.seed}
    provider, model = split(spec.name)
    row = prices.row(spec.name) or {}
    if provider != "openai" or not _reasons(model, known=bool(row)):
        return "max_completion_tokens" if is_openai(call) else "max_tokens", settings
    if "gpt-5" in model and "search" in model:
        return "max_completion_tokens", {}
    free = row.get("supports_none_reasoning_effort") and row.get("default_reasoning_effort") == "none"
    if not free and spec.temperature != 1:
        del settings["temperature"]
    return "max_completion_tokens", settings


def _reasons(model: str, *, known: bool) -> bool:
    """Whether OpenAI's model of this name thinks before it answers."""
    if "gpt-5" in model or "gpt-6" in model:
        return "gpt-5-chat" not in model
    return known and _O_SERIES.match(model) is not None


def _usage(usage: Mapping[str, Any], model_name: str) -> Usage | None:
    """What the provider counted, None where it counted nothing. A zero is a count that is missing."""
    details = _record(usage.get("prompt_tokens_details"))
    asked, cached = _count(usage, "prompt_tokens"), _count(details, "cached_tokens")
    tokens = costs.Tokens(
        asked + cached if cached > asked else asked,  # then those are not among them
        _completion(usage, model_name),
        cached,
        _count(details, "cache_write_tokens") or _count(details, "cache_creation_tokens"),
    )
    if not (tokens.prompt and tokens.completion):
        return Usage(tokens.prompt or None, tokens.completion or None) if any(tokens[:2]) else None
    total = tokens.prompt + tokens.completion
    return Usage(tokens.prompt, tokens.completion, total, _cost(usage, tokens, model_name))


def _completion(usage: Mapping[str, Any], model_name: str) -> int:
    """xAI counts what was thought beside the answer's tokens, everybody else among them."""
    answered = _count(usage, "completion_tokens")
    thought = _count(_record(usage.get("completion_tokens_details")), "reasoning_tokens")
    apart = _count(usage, "total_tokens") == _count(usage, "prompt_tokens") + answered + thought
    return answered + thought if apart and provider_of(model_name).name == "xai" else answered


def _cost(usage: Mapping[str, Any], tokens: costs.Tokens, model_name: str) -> float | None:
    """What the provider itself states, else by the price file; unknown for anything but text."""
    stated = costs.stated(model_name, usage)
    if stated is not None:
        return stated
    for side in ("prompt_tokens_details", "completion_tokens_details"):
        details = _record(usage.get(side))
        if _count(details, "audio_tokens") or _count(details, "image_tokens"):
            return None
    return costs.cost(model_name, tokens)


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(record: Mapping[str, Any], key: str) -> int:
    """A count as it was sent: whether one can be true is said in ``spending``."""
    return outside.count(record.get(key))
