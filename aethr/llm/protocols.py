"""The protocols that Aethr reads itself, over both transports: one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from aethr.base.providers import PROVIDERS, provider_of, split
from aethr.llm import Call, Chunk, chat, ollama


class WireProtocol(Protocol):
    """A module with a protocol: the path, the body of a request, the meaning of an object of the answer."""

    PATH: str

    def serves(self, model_name: str) -> bool: ...

    def body(self, call: Call) -> dict[str, Any]: ...

    def chunk(self, data: Mapping[str, Any], model_name: str) -> Chunk: ...


PROTOCOLS: Mapping[str, WireProtocol] = {"chat": chat, "ollama": ollama}
"""By their names in the table ``PROVIDERS``."""

DIRECT = tuple(name for name, provider in PROVIDERS.items() if provider.protocol)
"""The providers whose chat models are called without LiteLLM."""


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
    return next((each for each in PROTOCOLS.values() if path.endswith(each.PATH)), None)


def address(call: Call) -> str:
    """The URL of a direct request."""
    base = urlsplit(call.endpoint.base or provider_of(call.model.name).address or "")
    path, end = base.path.rstrip("/"), protocol_of(call.model.name).PATH
    return urlunsplit(base._replace(path=path if path.endswith(end) else path + end))
