"""The protocols that Aethr reads itself, over both transports: the request, the objects of an answer (pure).

``chat`` is OpenAI's chat completions, https://platform.openai.com/docs/api-reference/chat; which settings a
model does not take, or takes under another name, follows LiteLLM. ``ollama`` is Ollama's own protocol,
https://docs.ollama.com/api/chat: its OpenAI endpoint has no ``num_ctx`` and silently cuts a prompt that is
longer than its window; here Ollama is asked to refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from aethr.base import outside
from aethr.base.providers import PROVIDERS, Provider, provider_of, split
from aethr.base.records import Usage
from aethr.llm import Call, CallFailed, Chunk, spending
from aethr.llm.failures import error_in
from aethr.llm.spending import estimate_tokens


class WireProtocol(NamedTuple):
    """``path`` is the end of its address. ``serves`` says whether it has a model of its providers.

    ``body`` is the JSON of a request; ``chunk`` reads an object of the answer of a model, and raises
    ``CallFailed``.
    """

    path: str
    serves: Callable[[str], bool]
    body: Callable[[Call], dict[str, Any]]
    chunk: Callable[[Mapping[str, Any], str], Chunk]


def serves(model_name: str) -> bool:
    """Whether a call of ``provider:model`` is the same without LiteLLM as through it."""
    provider = provider_of(model_name)
    if provider.protocol is None or split(model_name)[1].startswith(provider.litellm_models):
        return False
    return PROTOCOLS[provider.protocol].serves(model_name)


def protocol_of(model_name: str) -> WireProtocol:
    """The protocol of a provider that is called directly."""
    return PROTOCOLS[provider_of(model_name).protocol or ""]


def protocol_at(path: str) -> WireProtocol | None:
    """The protocol of a request's path; None for one that only LiteLLM reads."""
    return next((each for each in PROTOCOLS.values() if path.endswith(each.path)), None)


def address(call: Call) -> str:
    """The URL of a direct request."""
    base = urlsplit(call.endpoint.base or provider_of(call.model.name).address or "")
    path, end = base.path.rstrip("/"), protocol_of(call.model.name).path
    return urlunsplit(base._replace(path=path if path.endswith(end) else path + end))


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
"""Types of parts that have no text of the answer."""


class Content(NamedTuple):
    """The text of an answer, and the text of a refusal in its place."""

    text: str = ""
    refusal: str = ""


def read_content(content: object) -> Content:
    """The text in ``content`` (a string, a part, or a list of either) without the model's thinking.

    None is empty. Raises ``CallFailed`` for a part of an unknown type.
    """
    if content is None:
        return Content()
    if isinstance(content, str):
        return Content(content)
    if isinstance(content, list):
        parts = [read_content(part) for part in content]
        return Content("".join(part.text for part in parts), "".join(part.refusal for part in parts))
    if not isinstance(content, dict):
        raise CallFailed("garbage", f"a piece of the answer cannot be read: {str(content)[:80]}")
    kind, text = content.get("type"), content.get("text")
    if kind in THOUGHT or content.get("thought") is True or kind in SILENT:
        return Content()
    if kind == "refusal":
        return Content(refusal=read_content(content.get("refusal") or text).text)
    if kind in TEXT or (kind is None and "text" in content):
        return read_content(text.get("value") if isinstance(text, dict) else text)
    raise CallFailed("garbage", f"a part of the answer cannot be read: its type is '{str(kind)[:80]}'")


def is_chat_model(model_name: str) -> bool:
    """Whether it is a chat model; LiteLLM marks models of another protocol with ``responses/``."""
    row = spending.price_row(model_name) or {}
    return not split(model_name)[1].startswith("responses/") and row.get("mode", "chat") == "chat"


def limit_name(call: Call) -> str:
    """The setting that limits the answer; a compatible server may not know the provider's newer name."""
    provider = provider_of(call.model.name)
    return provider.limit if provider.is_at(call.endpoint.base) else Provider._field_defaults["limit"]


def chat_body(call: Call) -> dict[str, Any]:
    """The JSON of the request, without the settings that the model does not take."""
    spec, provider = call.model, provider_of(call.model.name)
    model, row = split(spec.name)[1], spending.price_row(spec.name) or {}
    limit = limit_name(call)
    settings: dict[str, Any] = {"temperature": spec.temperature, "seed": spec.seed}
    if provider.thinks(model, bool(row)):
        limit = provider.limit  # wherever the model is served, it takes only this name
        free = row.get("supports_none_reasoning_effort") and row.get("default_reasoning_effort") == "none"
        if "gpt-5" in model and "search" in model:
            settings = {}
        elif not free and spec.temperature != 1:
            del settings["temperature"]
    wanted = {limit: call.max_tokens, **settings}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": model,
        "messages": [{"role": "user", "content": call.prompt}],
        **(streaming if call.stream else {"stream": False}),
        **provider.request,
        **{name: value for name, value in wanted.items() if value is not None},
    }


def chat_chunk(data: Mapping[str, Any], model_name: str) -> Chunk:
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


WHOLE_PROMPT: Mapping[str, bool] = {"truncate": False, "shift": False}
"""Refuse a prompt that does not fit, and do not drop its beginning while the answer grows."""
ANSWER_ROOM = 8192
"""In tokens: the answer's part of the window, which costs memory. A longer answer is cut: never a pass."""
WINDOW_STEP = 4096
"""In tokens: Ollama reloads the model for another size of the window, so sizes are rounded up."""


def ollama_body(call: Call) -> dict[str, Any]:
    """The JSON of the request. Whether the model thinks is left at its default."""
    settings = {
        "temperature": call.model.temperature,
        "seed": call.model.seed,
        "num_predict": call.max_tokens,
        "num_ctx": window(call),
    }
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": call.stream,
        "options": {name: value for name, value in settings.items() if value is not None},
        **WHOLE_PROMPT,
    }


def window(call: Call) -> int:
    """The tokens that prompt and answer need: Ollama's default is 4,096 on most machines."""
    needed = estimate_tokens(call.prompt) + min(call.max_tokens, ANSWER_ROOM)
    return math.ceil(needed / WINDOW_STEP) * WINDOW_STEP


def ollama_chunk(data: Mapping[str, Any], model_name: str) -> Chunk:
    """Read one line of the answer; thinking is in another field. Raises ``CallFailed``."""
    message = data.get("message")
    text = read_content(message.get("content") if isinstance(message, dict) else data.get("response")).text
    if data.get("done") is not True:
        return Chunk(text)
    prompt, completion = (outside.count(data.get(key)) for key in ("prompt_eval_count", "eval_count"))
    usage = None
    if prompt and completion:
        usage = Usage.of(prompt, completion, spending.cost(model_name, spending.Tokens(prompt, completion)))
    elif prompt or completion:  # Ollama does not count a prompt that it has in its cache
        usage = Usage.of(prompt or None, completion or None)
    return Chunk(text, outside.text(data.get("done_reason")) or "stop", usage)


PROTOCOLS: Mapping[str, WireProtocol] = {
    "chat": WireProtocol("/chat/completions", is_chat_model, chat_body, chat_chunk),
    "ollama": WireProtocol("/api/chat", lambda _model_name: True, ollama_body, ollama_chunk),
}
"""By their names in the table ``PROVIDERS``."""

DIRECT = tuple(name for name, provider in PROVIDERS.items() if provider.protocol)
"""The providers whose chat models are called without LiteLLM."""
