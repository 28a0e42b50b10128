"""The protocols that Aethr reads itself, over both transports: one row and one module for each (pure).

A module has the request of its protocol and a reader of its answers. The row of a provider in
``base.providers`` names the protocols of its models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from aethr.base.providers import PROVIDERS, provider_of, split
from aethr.llm import Call, Read, Settings, spending
from aethr.llm.protocols import chat, gemini, messages, ollama, responses

SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "reasoning_effort", "schema")
"""Aethr's own settings of a call. ``schema`` is the form of the answer (``answer: schema`` of a step)."""


class Wire(NamedTuple):
    """A request. ``dropped`` are the settings that are wanted, and not in it."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    dropped: tuple[str, ...]


class WireProtocol(NamedTuple):
    """``path`` is a regular expression for the end of its addresses, ``path_of`` the path of a call, below
    the base. ``serves`` says whether it has a model.

    ``headers`` has the key. ``frame`` is the JSON of a request without ``settings``; these are the fragments
    of JSON for the settings that a model takes, also for those without a value (None). ``reader`` is for one
    answer of a model: it makes a chunk of each object, and raises ``CallFailed``.
    """

    path: str
    serves: Callable[[str], bool]
    frame: Callable[[Call], dict[str, Any]]
    settings: Callable[[Call], Settings]
    reader: Callable[[str], Read]
    headers: Callable[[Call], dict[str, str]]
    path_of: Callable[[Call], str]


def request(call: Call) -> Wire:
    """The request of a direct call: the frame, the settings that have a value, the model's ``options``."""
    protocol = protocol_of(call.model.name)
    body, taken = protocol.frame(call), protocol.settings(call)
    for name, fragment in taken.items():
        if name not in call.left_out or name == "max_tokens":  # which has another name by then
            merge(body, fragment)
    merge(body, call.model.options, keep_none=True)
    return Wire(
        address(call),
        {"Content-Type": "application/json", **protocol.headers(call)},
        body,
        tuple(name for name, value in wanted(call).items() if name not in taken),
    )


def wanted(call: Call) -> Mapping[str, Any]:
    """The settings of a call that have a value."""
    spec = call.model._asdict()
    values = {
        **{name: spec.get(name) for name in SETTINGS},
        "max_tokens": call.max_tokens,
        "schema": call.schema,
    }
    return {name: value for name, value in values.items() if value is not None}


def serves(model_name: str) -> bool:
    """Whether a call of ``provider:model`` is the same without LiteLLM as through it."""
    return name_of(model_name) is not None


def protocol_of(model_name: str) -> WireProtocol:
    """The protocol of a model that is called directly."""
    return PROTOCOLS[name_of(model_name) or ""]


def protocol_at(path: str) -> WireProtocol | None:
    """The protocol of a request's path; None for one that only LiteLLM reads."""
    return next((each for each in PROTOCOLS.values() if re.search(f"(?:{each.path})$", path)), None)


def name_of(model_name: str) -> str | None:
    """The name of the protocol of a model; None for a model that only LiteLLM calls."""
    provider, model = provider_of(model_name), split(model_name)[1]
    if model.startswith(provider.litellm_models) or not model.startswith(provider.full_names):
        return None
    return next((name for name in provider.protocols if PROTOCOLS[name].serves(model_name)), None)


_VERSION = re.compile(r"/v\d\w*")
"""The version of an API in a path. That of a base address counts."""


def address(call: Call) -> str:
    """Where a direct call goes."""
    base = urlsplit(call.endpoint.base or provider_of(call.model.name).address or "")
    end, _, query = protocol_of(call.model.name).path_of(call).partition("?")
    path = base.path.rstrip("/")
    if not path.endswith(end):
        version = _VERSION.match(end)
        path += end[version.end() :] if version and _VERSION.fullmatch(path[path.rfind("/") :]) else end
    return urlunsplit(base._replace(path=path, query="&".join(filter(None, (base.query, query)))))


def merge(into: dict[str, Any], fragment: Mapping[str, Any], *, keep_none: bool = False) -> None:
    """Add a fragment, level by level; a value that is None only if ``keep_none`` is True."""
    for name, value in fragment.items():
        if isinstance(value, Mapping):
            below = into.get(name)
            into[name] = dict(below) if isinstance(below, Mapping) else {}
            merge(into[name], value, keep_none=keep_none)
        elif value is not None or keep_none:
            into[name] = value


def _bearer(call: Call) -> dict[str, str]:
    return {"Authorization": f"Bearer {call.endpoint.key}"} if call.endpoint.key else {}


_CHAT, _OLLAMA, _RESPONSES = "/chat/completions", "/api/chat", "/responses"
PROTOCOLS: Mapping[str, WireProtocol] = {
    "chat": WireProtocol(
        _CHAT, chat.is_chat_model, chat.frame, chat.settings, chat.reader, _bearer, lambda _call: _CHAT
    ),
    "ollama": WireProtocol(
        _OLLAMA,
        lambda _model: True,
        ollama.frame,
        ollama.settings,
        ollama.reader,
        _bearer,
        lambda _call: _OLLAMA,
    ),
    "messages": WireProtocol(
        messages.PATH,
        spending.is_chat,
        messages.frame,
        messages.settings,
        messages.reader,
        messages.headers,
        lambda _call: "/v1/messages",
    ),
    "gemini": WireProtocol(
        gemini.PATH,
        spending.is_chat,
        gemini.frame,
        gemini.settings,
        gemini.reader,
        gemini.headers,
        gemini.path_of,
    ),
    "responses": WireProtocol(
        _RESPONSES,
        responses.is_responses_model,
        responses.frame,
        responses.settings,
        responses.reader,
        _bearer,
        lambda _call: _RESPONSES,
    ),
}
"""By their names in the table ``PROVIDERS``."""

DIRECT = tuple(name for name, provider in PROVIDERS.items() if provider.protocols)
"""The providers whose models are called without LiteLLM."""
