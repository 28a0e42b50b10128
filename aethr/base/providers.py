"""The table of providers, with everything that differs between them, and the models that Aethr names.

Transports, prices, ``aethr auth``, ``aethr check``, ``.env``, the Action, agents and the pages read it. Any
other provider of LiteLLM works too, under LiteLLM's own name and by LiteLLM's conventions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

EXAMPLE = "openai:gpt-5.4-mini"
"""In messages and in the schema; also what the presets review with."""

NAMED = (
    EXAMPLE,  # reads, reviews
    "openai:gpt-6-sol",  # writes
    "anthropic:claude-sonnet-5-5",  # a second provider
    "xai:grok-4.7",  # a third
    "ollama:qwen3:8b",  # the user's own server
)

PRICES = ("1.110.2", "2026-11-20")
"""The newest LiteLLM whose price file this table was compared with, and the day of its release.

It is stated here because a package does not say when it was released. No model above may retire within 90
days of it.
"""

ANSWER_LIMIT = 32_000
"""The ``max_tokens`` of every preset: OpenAI advises at least 25,000 for what a model thinks and answers.

https://platform.openai.com/docs/guides/reasoning#allocating-space-for-reasoning
"""


class Provider(NamedTuple):
    """What is known about a provider. ``name`` is Aethr's, ``prefix`` LiteLLM's."""

    name: str
    prefix: str

    keys: tuple[str, ...]
    """Variables that may hold the key; the first that is set counts. ``auth login`` writes the first."""
    base_variables: tuple[str, ...]
    """Variables that may hold the base address; the first that is set counts, for agents too."""
    address: str | None = None
    """The base address if none of ``base_variables`` is set; None: only LiteLLM may know it."""
    aliases: tuple[str, ...] = ()
    """Other names that a workflow may use."""
    own_server: bool = False
    """The user runs the server: it needs no key, and ``auth login`` and ``.env`` do not offer one."""
    listed: bool = True
    """False: key and address are not checked before a call; LiteLLM reads the key itself."""
    key_elsewhere: str | None = None
    """The key to send to another address if none is set: a compatible server may not need one."""
    bearer_tokens: tuple[str, ...] = ()
    """Those of ``keys`` that only LiteLLM can read, from the environment of the process."""

    protocols: tuple[str, ...] = ()
    """The protocols of its models, by their names in ``llm.protocols``; the first that has a model counts."""
    litellm_models: tuple[str, ...] = ()
    """Prefixes of models that LiteLLM calls nevertheless."""
    litellm_schema: str = "response_format"
    """LiteLLM's argument for JSON by a schema."""
    litellm_variables: tuple[str, ...] = ()
    """Environment variables that only LiteLLM reads: if one is set, it makes all calls."""

    limit: str = "max_tokens"
    """The setting that limits an answer. A compatible server elsewhere gets ``max_tokens``."""
    request: Mapping[str, Any] = MappingProxyType({})
    """Added to every request."""
    thinks: Callable[[str, bool], bool] = lambda _model, _known: False
    """Whether a model thinks, and takes fewer settings: by its name, and by being in the price file."""

    thinking_apart: bool = False
    """Thinking tokens may be counted apart from those of the answer, not among them."""
    stated_cost: Callable[[Mapping[str, Any]], float | None] | None = None
    """US dollars charged, by the ``usage`` of an answer; None for a provider that does not state its cost."""
    long_from: bool = False
    """The price for long prompts applies from the threshold on, not only above it."""
    always_searches: bool = False
    """Every call is charged for a search."""

    @property
    def needs_key(self) -> bool:
        """Whether calls to ``address`` need one of ``keys``."""
        return self.listed and not self.own_server

    def key_in(self, environ: Mapping[str, str]) -> str | None:
        """The variable that holds the key."""
        return _first(self.keys, environ)

    def base_in(self, environ: Mapping[str, str]) -> str | None:
        """The variable that says where calls go."""
        return _first(self.base_variables, environ)

    def is_at(self, base: str | None) -> bool:
        """Whether a base address is on the provider's own host or a subdomain of it; None is ``address``."""
        if base is None:
            return True
        host, own = urlsplit(base).hostname, urlsplit(self.address or "").hostname
        return host is not None and own is not None and f".{host}".endswith(f".{own}")


def _first(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((name for name in names if environ.get(name)), None)


def _openai_thinks(model: str, known: bool) -> bool:
    if "gpt-5" in model or "gpt-6" in model:
        return "gpt-5-chat" not in model
    return known and re.match(r"o\d", model) is not None


def _openrouter_cost(usage: Mapping[str, Any]) -> float | None:
    """https://openrouter.ai/docs/use-cases/usage-accounting

    With the user's own key at the upstream provider, ``cost`` is OpenRouter's fee alone.
    """
    from aethr.base import outside  # not loaded by a run that calls no model

    charged = outside.amount(usage.get("cost"))
    if charged is None or usage.get("is_byok") is not True:
        return charged
    upstream = outside.amount(outside.at(usage, "cost_details", "upstream_inference_cost"))
    return None if upstream is None else charged + upstream


def _xai_cost(usage: Mapping[str, Any]) -> float | None:
    """In ticks, 10**10 to the dollar, or else in dollars: https://docs.x.ai/developers/cost-tracking"""
    from aethr.base import outside

    ticks = outside.amount(usage.get("cost_in_usd_ticks"))
    return outside.amount(usage.get("cost")) if ticks is None else ticks / 10**10


def _by_convention(name: str) -> Provider:
    """A row by LiteLLM's conventions, for a provider that has none."""
    stem = re.sub("[-.]", "_", name.upper())
    return Provider(name, name, (f"{stem}_API_KEY",), (f"{stem}_API_BASE", f"{stem}_BASE_URL"), listed=False)


_GOOGLE = Provider(
    "google", "gemini", ("GOOGLE_API_KEY", "GEMINI_API_KEY"), ("GEMINI_API_BASE",),
    "https://generativelanguage.googleapis.com",
)  # fmt: skip

_TABLE = (
    Provider(
        "openai", "openai", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        "https://api.openai.com/v1", key_elsewhere="none", protocols=("chat",), litellm_models=("openai/",),
        litellm_variables=(
            "OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS",
        ),
        # https://platform.openai.com/docs/api-reference/chat/create#chat-create-max_completion_tokens
        limit="max_completion_tokens", thinks=_openai_thinks,
    ),
    Provider(
        "anthropic", "anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"), "https://api.anthropic.com",
        bearer_tokens=("ANTHROPIC_AUTH_TOKEN",),
        litellm_schema="output_config",  # of `response_format` LiteLLM makes a tool for older models
    ),
    _GOOGLE,
    _GOOGLE._replace(name="gemini"),
    Provider(
        "openrouter", "openrouter", ("OPENROUTER_API_KEY", "OR_API_KEY"), ("OPENROUTER_API_BASE",),
        "https://openrouter.ai/api/v1", protocols=("chat",), litellm_variables=("OR_SITE_URL", "OR_APP_NAME"),
        request={"usage": {"include": True}}, stated_cost=_openrouter_cost,
    ),
    Provider(
        "xai", "xai", ("XAI_API_KEY",), ("XAI_API_BASE",), "https://api.x.ai/v1", ("x-ai",),
        protocols=("chat",), thinking_apart=True, stated_cost=_xai_cost, long_from=True,
    ),
    Provider(
        "lm_studio", "lm_studio", ("LM_STUDIO_API_KEY",), ("LM_STUDIO_API_BASE",),
        aliases=("lm-studio", "lmstudio"), own_server=True, protocols=("chat",),
    ),
    Provider(
        "hosted_vllm", "hosted_vllm", ("HOSTED_VLLM_API_KEY",), ("HOSTED_VLLM_API_BASE",),
        aliases=("vllm",), own_server=True, protocols=("chat",),
    ),
    Provider(
        "ollama", "ollama_chat", ("OLLAMA_API_KEY",), ("OLLAMA_API_BASE",), "http://localhost:11434",
        own_server=True, protocols=("ollama",),
    ),
    _by_convention("perplexity")._replace(always_searches=True),
)  # fmt: skip

PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _TABLE if provider.listed}
"""The providers whose key and address are checked before anything is sent, by name."""

LOGINS: Mapping[str, str] = {
    name: provider.keys[0] for name, provider in PROVIDERS.items() if provider.needs_key
}
"""The names ``aethr auth login`` takes, and the variable each one writes."""

_ROWS = {provider.name: provider for provider in _TABLE}
_ALIASES = {alias: provider.name for provider in _TABLE for alias in provider.aliases}
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
    """The row for a model; one by LiteLLM's conventions for a provider that has none."""
    provider, _ = split(name)
    return _ROWS.get(provider) or _by_convention(provider)


def litellm_name(name: str) -> str:
    """The model name as LiteLLM wants it: ``google:NAME`` is ``gemini/NAME``."""
    return f"{provider_of(name).prefix}/{split(name)[1]}"
