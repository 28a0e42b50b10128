"""The protocols that are read here, whichever transport carries them: one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from aethr import __version__
from aethr.base.providers import PROVIDERS, provider_of, split
from aethr.llm import Call, Chunk, chat, ollama


class Spoken(Protocol):
    """A protocol: what is sent, and what an object of the answer means. A module is one."""

    PATH: str

    def serves(self, model_name: str) -> bool: ...

    def body(self, call: Call) -> dict[str, Any]: ...

    def chunk(self, data: Mapping[str, Any], model_name: str) -> Chunk: ...


PROTOCOLS: Mapping[str, Spoken] = {"chat": chat, "ollama": ollama}
"""By the names that the table of providers has for them."""

DIRECT = tuple(name for name, provider in PROVIDERS.items() if provider.protocol)
"""The providers whose chat models are called without LiteLLM."""


def serves(model_name: str) -> bool:
    """Whether calls of ``provider:model`` are the same without LiteLLM as through it."""
    provider = provider_of(model_name)
    if provider.protocol is None or split(model_name)[1].startswith(provider.litellm_models):
        return False
    return PROTOCOLS[provider.protocol].serves(model_name)


def can_come_whole(model_name: str) -> bool:
    """Whether the answer may be asked for without a stream: where ``stream`` stands in the body."""
    return provider_of(model_name).protocol is not None


def spoken_by(model_name: str) -> Spoken:
    """The protocol of a provider that is called directly."""
    return PROTOCOLS[provider_of(model_name).protocol or ""]


def spoken_at(path: str) -> Spoken | None:
    """The protocol that the path of a request belongs to; None for one that only LiteLLM reads."""
    return next((each for each in PROTOCOLS.values() if path.endswith(each.PATH)), None)


def address(call: Call) -> str:
    """Where a direct request goes."""
    base = urlsplit(call.endpoint.base or provider_of(call.model.name).address or "")
    path, end = base.path.rstrip("/"), spoken_by(call.model.name).PATH
    return urlunsplit(base._replace(path=path if path.endswith(end) else path + end))


def headers(call: Call) -> dict[str, str]:
    """Those of a direct request; without a key it asks for none."""
    key = call.endpoint.key
    own = {"Content-Type": "application/json", "User-Agent": f"aethr/{__version__}"}
    return {**own, "Authorization": f"Bearer {key}"} if key else own
