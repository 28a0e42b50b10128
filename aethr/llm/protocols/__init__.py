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
from aethr.llm import Call, CallFailed, Read, Settings
from aethr.llm.protocols import chat, ollama

SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "reasoning_effort", "schema")
"""Aethr's own settings of a call. ``schema`` is the form of the answer (``answer: schema`` of a step)."""


_ABOUT_SCHEMA = re.compile(
    r"schema|response_?format|output_(?:config|format)|text\.format|mime_?type|structured.?output|grammar|json.?mode"
    r"|request\.format\b|[`'\"]format[`'\"]",
    re.IGNORECASE,
)
"""What servers write that refuse the schema: few name a parameter, and Ollama answers 500.

https://github.com/web-infra-dev/midscene/issues/259, https://github.com/Kiln-AI/Kiln/issues/186,
https://github.com/datalab-to/marker/issues/984
"""


class Wire(NamedTuple):
    """A request. ``dropped`` are the settings that are wanted, and not in it."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    dropped: tuple[str, ...]


class WireProtocol(NamedTuple):
    """``path`` is the end of its address, ``path_of`` that of a call. ``serves`` says whether it has a model.

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
        if name not in call.left_out:
            _merge(body, fragment)
    _merge(body, call.model.options)
    return Wire(
        _address(call, protocol.path_of(call)),
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


def refused_setting(call: Call, failure: CallFailed) -> str | None:
    """The setting of ours that the provider refused by name, so that the call can be made without it."""
    may_be = failure.kind in ("bad_request", "not_found") or failure.status == 500
    told = f"{failure.parameter} {failure.message}"
    if call.schema and "schema" not in call.left_out and may_be and _ABOUT_SCHEMA.search(told):
        return "schema"
    if failure.status != 400 or not failure.parameter or provider_of(call.model.name).protocols == ():
        return None
    last = failure.parameter.rpartition(".")[2]
    sent = protocol_of(call.model.name).settings(call)
    names = {name: {name, *_keys(fragment)} for name, fragment in sent.items() if name in wanted(call)}
    return next((name for name, keys in names.items() if last in keys and name not in call.left_out), None)


def serves(model_name: str) -> bool:
    """Whether a call of ``provider:model`` is the same without LiteLLM as through it."""
    return _name_of(model_name) is not None


def protocol_of(model_name: str) -> WireProtocol:
    """The protocol of a model that is called directly."""
    return PROTOCOLS[_name_of(model_name) or ""]


def protocol_at(path: str) -> WireProtocol | None:
    """The protocol of a request's path; None for one that only LiteLLM reads."""
    return next((each for each in PROTOCOLS.values() if path.endswith(each.path)), None)


def _name_of(model_name: str) -> str | None:
    provider = provider_of(model_name)
    if split(model_name)[1].startswith(provider.litellm_models):
        return None
    return next((name for name in provider.protocols if PROTOCOLS[name].serves(model_name)), None)


def _address(call: Call, end: str) -> str:
    base = urlsplit(call.endpoint.base or provider_of(call.model.name).address or "")
    end, _, query = end.partition("?")
    path = base.path.rstrip("/")
    return urlunsplit(
        base._replace(
            path=path if path.endswith(end) else path + end, query="&".join(filter(None, (base.query, query)))
        )
    )


def _merge(into: dict[str, Any], fragment: Mapping[str, Any]) -> None:
    """Add a fragment, level by level, without its values that are None."""
    for name, value in fragment.items():
        if isinstance(value, Mapping):
            below = into.get(name)
            into[name] = dict(below) if isinstance(below, Mapping) else {}
            _merge(into[name], value)
        elif value is not None:
            into[name] = value


def _keys(fragment: Mapping[str, Any]) -> set[str]:
    below = (_keys(value) for value in fragment.values() if isinstance(value, Mapping))
    return set(fragment).union(*below)


def _bearer(call: Call) -> dict[str, str]:
    return {"Authorization": f"Bearer {call.endpoint.key}"} if call.endpoint.key else {}


_CHAT, _OLLAMA = "/chat/completions", "/api/chat"
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
}
"""By their names in the table ``PROVIDERS``."""

DIRECT = tuple(name for name, provider in PROVIDERS.items() if provider.protocols)
"""The providers whose models are called without LiteLLM."""
