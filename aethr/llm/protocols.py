"""The protocols that are read here, whichever transport carries them: one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aethr.llm import chat, ollama
from aethr.llm.calls import Call, Chunk
from aethr.providers import provider_of


class Spoken(Protocol):
    """A protocol: what is sent, and what an object of the answer means. A module is one."""

    PATH: str

    def address(self, call: Call) -> str: ...

    def headers(self, call: Call) -> dict[str, str]: ...

    def body(self, call: Call) -> dict[str, Any]: ...

    def chunk(self, data: Mapping[str, Any], model_name: str) -> Chunk: ...


PROTOCOLS: tuple[Spoken, ...] = (chat, ollama)


DIRECT = (*chat.HOSTS, "ollama")
"""The providers whose chat models are called without LiteLLM."""


def serves(model_name: str) -> bool:
    """Whether calls of ``provider:model`` are the same without LiteLLM as through it."""
    return provider_of(model_name).name == "ollama" or chat.serves(model_name)


def can_come_whole(model_name: str) -> bool:
    """Whether the answer may be asked for without a stream: where ``stream`` stands in the body."""
    return provider_of(model_name).name in DIRECT


def spoken_by(model_name: str) -> Spoken:
    """The protocol of a provider that is called directly."""
    return ollama if provider_of(model_name).name == "ollama" else chat


def spoken_at(path: str) -> Spoken | None:
    """The protocol that the path of a request belongs to; None for one that only LiteLLM reads."""
    return next((each for each in PROTOCOLS if path.endswith(each.PATH)), None)
