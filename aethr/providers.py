"""The providers Aethr knows by name: LiteLLM's prefix, key variables, endpoint variables.

Any other LiteLLM provider works too, under LiteLLM's own name; this table adds the check for a key
before anything is sent, ``aethr auth``, and the names people expect (``google``, ``x-ai``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from aethr.models import EXAMPLE


class Provider(NamedTuple):
    """``keys`` and ``bases`` are environment variables, in the order in which LiteLLM takes them.

    No ``keys`` means: needs none (a server of one's own). ``host`` is where calls go unless one of
    ``bases`` says otherwise. ``own_key`` is the variable of a key that a server of one's own may want.
    ``states_cost`` says that it states with each answer what it charges.
    """

    name: str
    prefix: str
    keys: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    host: str | None = None
    own_key: str | None = None
    states_cost: bool = False


_TABLE = (
    Provider(
        "openai", "openai", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"), "api.openai.com"
    ),
    Provider(
        "anthropic",
        "anthropic",
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
        "api.anthropic.com",
    ),
    Provider(
        "google",
        "gemini",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("GEMINI_API_BASE",),
        "generativelanguage.googleapis.com",
    ),
    Provider(
        "gemini",
        "gemini",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("GEMINI_API_BASE",),
        "generativelanguage.googleapis.com",
    ),
    Provider(
        "openrouter",
        "openrouter",
        ("OPENROUTER_API_KEY", "OR_API_KEY"),
        ("OPENROUTER_API_BASE",),
        "openrouter.ai",
        states_cost=True,
    ),
    Provider("xai", "xai", ("XAI_API_KEY",), ("XAI_API_BASE",), "api.x.ai", states_cost=True),
    Provider("ollama", "ollama_chat", (), ("OLLAMA_API_BASE",), "localhost:11434", own_key="OLLAMA_API_KEY"),
    Provider("lm_studio", "lm_studio", (), ("LM_STUDIO_API_BASE",), own_key="LM_STUDIO_API_KEY"),
    Provider("hosted_vllm", "hosted_vllm", (), ("HOSTED_VLLM_API_BASE",), own_key="HOSTED_VLLM_API_KEY"),
)

PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _TABLE}

LOGINS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "xai": "XAI_API_KEY",
}
"""The names ``aethr auth login`` takes, and the variable each one writes."""

_ALIASES = {"x-ai": "xai", "vllm": "hosted_vllm", "lm-studio": "lm_studio", "lmstudio": "lm_studio"}
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)[:/]([^\s\x00-\x1f\x7f]+)")


def split(name: str) -> tuple[str, str]:
    """``provider:model`` or ``provider/model`` as (provider, model). Raises ``ValueError``, one line."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is not provider:model, such as {EXAMPLE}")
    if "://" in name:
        raise ValueError(f"'{name}' has an address in it; an endpoint is set by an environment variable")
    provider, model = match.groups()
    return _ALIASES.get(provider.lower(), provider), model


def provider_of(name: str) -> Provider:
    """The table row of a model name; one without key and endpoint facts for a provider not in it."""
    provider, _ = split(name)
    return PROVIDERS.get(provider, Provider(provider, provider))


def with_variables(provider: Provider) -> Provider:
    """The row, and for a provider outside of the table its variables by LiteLLM's custom."""
    if provider.name in PROVIDERS:
        return provider
    stem = re.sub("[-.]", "_", provider.name.upper())
    return provider._replace(keys=(f"{stem}_API_KEY",), bases=(f"{stem}_API_BASE", f"{stem}_BASE_URL"))


def litellm_name(name: str) -> str:
    """The model name as LiteLLM wants it: ``google:NAME`` is ``gemini/NAME``."""
    return f"{provider_of(name).prefix}/{split(name)[1]}"
