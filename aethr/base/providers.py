"""The table of providers, with everything that differs between them, and the models that Aethr names.

Transports, prices, ``aethr auth``, ``aethr check``, ``.env``, the Action, agents and the pages read it. Any
other provider of LiteLLM works too, under LiteLLM's own name and by LiteLLM's conventions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aethr.base.records import ModelSpec, PlannedStep

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

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The words for how much a model thinks, of all providers. Few models take each of them."""


class PrefixCache(NamedTuple):
    """A cache that keeps the beginning of a prompt only up to a part that the request marks.

    A write to it costs more than a prompt without a mark. ``mark`` is added to the last part of such a
    beginning, ``request`` to each request, so that nothing else is written. ``key`` is the setting that
    brings requests with the same beginning to the same server. ``has`` says for which models: by their name,
    and by whether they charge for a write (by the price file). ``elsewhere`` says whether a server at another
    address takes the mark, too.
    """

    mark: Mapping[str, Any]
    request: Mapping[str, Any] = MappingProxyType({})
    key: str | None = None
    has: Callable[[str, bool], bool] = lambda _model, _charges: True
    elsewhere: bool = False


class Package(NamedTuple):
    """A package that LiteLLM imports for some models and does not install: a module of it, its name on PyPI.

    ``extra`` is Aethr's own extra that installs it, if there is one.
    """

    module: str
    name: str
    extra: str | None = None

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f'pip install "aethr[{self.extra}]"' if self.extra else f"pip install {self.name}"


_GOOGLE_AUTH = Package("google.auth", "google-auth", "vertex")
_GOOGLE_SDK = Package("vertexai", "google-cloud-aiplatform")
_AZURE_IDENTITY = Package("azure.identity", "azure-identity", "azure")
PACKAGES = (_GOOGLE_AUTH, _GOOGLE_SDK, _AZURE_IDENTITY)


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
    """Those of ``keys`` that have a token, which is sent in another header than a key."""

    protocols: tuple[str, ...] = ()
    """The protocols of its models, by their names in ``llm.protocols``; the first that has a model counts."""
    litellm_models: tuple[str, ...] = ()
    """Prefixes of models that LiteLLM calls nevertheless."""
    full_names: str = ""
    """The beginning of models' full names: what the others are short for, only LiteLLM knows."""
    litellm_schema: str = "response_format"
    """LiteLLM's argument for JSON by a schema."""
    litellm_variables: tuple[str, ...] = ()
    """Environment variables that only LiteLLM reads: if one is set, it makes all calls."""

    signs: bool = False
    """LiteLLM signs its calls, with credentials that it may have to get from other hosts."""
    package: Callable[[str, Mapping[str, str]], Package | None] = lambda _model, _environ: None
    """The package that calls need beside LiteLLM, by the model and the environment variables that are set."""
    responses_only: re.Pattern[str] = re.compile(r"(?!)")
    """Names of models that only Responses serves, for models that the price file does not have."""
    pads_streams: bool = False
    """In Responses, the pieces of a stream are padded unless the request says otherwise."""
    asks_for_counts: bool = True
    """The request for a stream asks for token counts; False for a provider that has no such setting."""

    limit: str = "max_tokens"
    """The setting that limits an answer. A compatible server elsewhere gets ``max_tokens``."""
    request: Mapping[str, Any] = MappingProxyType({})
    """Added to every request."""
    thinks: Callable[[str, bool], bool] = lambda _model, _known: False
    """Whether a model thinks, and takes fewer settings: by its name, and by being in the price file."""

    prefix_cache: PrefixCache | None = None
    """None for a provider that needs no marks, or has no cache."""
    lacks: Callable[[str, Mapping[str, Any]], Collection[str]] = lambda _model, _row: ()
    """The settings that a model does not take, by its name and its row in the price file."""
    seed: str = "seed"
    """The name of the seed in a request."""
    effort: Callable[[str], Mapping[str, Any]] = lambda word: {"reasoning_effort": word}
    """The fragment of a request for ``reasoning_effort``."""

    thinking_budgets: Mapping[str, int] = MappingProxyType({})
    """The tokens that each effort gives to thinking, for models that only think if they are asked to."""
    thinking_apart: bool = False
    """Thinking tokens may be counted apart from those of the answer, not among them."""
    stated_cost: Callable[[Mapping[str, Any]], float | None] | None = None
    """US dollars charged, by the ``usage`` of an answer; None for a provider that does not state its cost."""
    cached_share: float = 1
    """What a token read from a cache costs, as a share of another one, if the price file does not say."""
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


_OPENAI_RESPONSES = re.compile(r"codex-mini.*|(gpt-\d[\w.]*|o\d+)-(codex|pro)(-.*)?")
_XAI_RESPONSES = re.compile(r"grok-.*multi-agent.*")
_XAI_FIXED = re.compile(
    r"grok-(4(-\d{4})?(-latest)?|4-fast.*|4\.20(?!.*multi-agent).*|code-fast.*|build-0\.1.*)"
)
"""Models that think, but refuse an effort: https://docs.x.ai/docs/guides/reasoning"""


def _xai_lacks(model: str, _row: Mapping[str, Any]) -> Collection[str]:
    return ("reasoning_effort",) if _XAI_FIXED.fullmatch(model) else ()


def _moonshot_lacks(_model: str, row: Mapping[str, Any]) -> Collection[str]:
    return ("temperature",) if row.get("supports_reasoning") else ()


def _openrouter_effort(word: str) -> Mapping[str, Any]:
    """https://openrouter.ai/docs/use-cases/reasoning-tokens"""
    return {"reasoning": {"effort": "xhigh" if word == "max" else word}}


def _no_effort(_model: str, _row: Mapping[str, Any]) -> Collection[str]:
    return ("reasoning_effort",)


def _together_effort(word: str) -> Mapping[str, Any]:
    """https://docs.together.ai/docs/reasoning-overview"""
    if word == "none":
        return {"reasoning": {"enabled": False}}
    return {"reasoning_effort": {"minimal": "low", "xhigh": "high"}.get(word, word)}


def _deepseek_effort(word: str) -> Mapping[str, Any]:
    """https://api-docs.deepseek.com/guides/thinking_mode"""
    if word == "none":
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled"}, "reasoning_effort": word}


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


def _google_package(model: str, _environ: Mapping[str, str]) -> Package:
    return _GOOGLE_SDK if model.startswith(("xai/", "gemma-", "medlm-", "deep-research-")) else _GOOGLE_AUTH


def _azure_package(_model: str, environ: Mapping[str, str]) -> Package | None:
    """Without a key LiteLLM asks Microsoft Entra for a token, with a secret or a password.

    https://docs.litellm.ai/docs/providers/azure/#azure-authentication
    """
    with_secret = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    with_password = ("AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_PASSWORD")
    keys = ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AI_API_KEY")
    if any(map(environ.get, keys)):
        return None
    wanted = all(map(environ.get, with_secret)) or all(map(environ.get, with_password))
    return _AZURE_IDENTITY if wanted else None


def _by_convention(name: str) -> Provider:
    """A row by LiteLLM's conventions, for a provider that has none."""
    stem = re.sub("[-.]", "_", name.upper())
    bases = (f"{stem}_API_BASE", f"{stem}_BASE_URL")
    signs = name.startswith(("bedrock", "sagemaker", "vertex_ai"))
    return Provider(name, name, (f"{stem}_API_KEY",), bases, listed=False, signs=signs)


def _hosted(name: str, address: str, **fields: Any) -> Provider:
    """A row for a provider of chat completions, with LiteLLM's variables by convention."""
    row = _by_convention(name)._replace(address=address, listed=True, protocols=("chat",))
    return row._replace(**fields)


_CLAUDE_MARK = {"cache_control": {"type": "ephemeral"}}
"""https://docs.claude.com/en/docs/build-with-claude/prompt-caching"""


_GOOGLE = Provider(
    "google", "gemini", ("GOOGLE_API_KEY", "GEMINI_API_KEY"), ("GEMINI_API_BASE",),
    "https://generativelanguage.googleapis.com", protocols=("gemini",),
)  # fmt: skip

_TABLE = (
    Provider(
        "openai", "openai", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        "https://api.openai.com/v1", key_elsewhere="none", protocols=("responses", "chat"),
        litellm_models=("openai/",), responses_only=_OPENAI_RESPONSES, pads_streams=True,
        litellm_variables=(
            "OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS",
        ),
        # https://platform.openai.com/docs/api-reference/chat/create#chat-create-max_completion_tokens
        limit="max_completion_tokens", thinks=_openai_thinks,
        # From gpt-5.6 on. Older models find a common beginning themselves, without charge:
        # https://platform.openai.com/docs/guides/prompt-caching
        prefix_cache=PrefixCache(
            {"prompt_cache_breakpoint": {"mode": "explicit"}},
            {"prompt_cache_options": {"mode": "explicit"}},
            "prompt_cache_key",
            lambda _model, charges: charges,
        ),
    ),
    Provider(
        "anthropic", "anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"), "https://api.anthropic.com",
        bearer_tokens=("ANTHROPIC_AUTH_TOKEN",), protocols=("messages",),
        litellm_schema="output_config",  # of `response_format` LiteLLM makes a tool for older models
        prefix_cache=PrefixCache(_CLAUDE_MARK, elsewhere=True),
        # Those of LiteLLM; the newer models decide it themselves (``supports_adaptive_thinking``).
        thinking_budgets={
            "minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384,
        },
    ),
    _GOOGLE,
    _GOOGLE._replace(name="gemini"),
    Provider(
        "openrouter", "openrouter", ("OPENROUTER_API_KEY", "OR_API_KEY"), ("OPENROUTER_API_BASE",),
        "https://openrouter.ai/api/v1", protocols=("chat",), litellm_variables=("OR_SITE_URL", "OR_APP_NAME"),
        request={"usage": {"include": True}}, effort=_openrouter_effort, stated_cost=_openrouter_cost,
        # https://openrouter.ai/docs/features/prompt-caching
        prefix_cache=PrefixCache(
            _CLAUDE_MARK, has=lambda model, _charges: model.startswith("anthropic/"), elsewhere=True
        ),
    ),
    Provider(
        "xai", "xai", ("XAI_API_KEY",), ("XAI_API_BASE",), "https://api.x.ai/v1", ("x-ai",),
        protocols=("responses", "chat"), responses_only=_XAI_RESPONSES, lacks=_xai_lacks, thinking_apart=True,
        stated_cost=_xai_cost, long_from=True,
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
    _hosted(
        "mistral", "https://api.mistral.ai/v1", asks_for_counts=False, seed="random_seed",
        litellm_variables=("MISTRAL_AZURE_API_BASE", "MISTRAL_AZURE_API_KEY"),
    ),
    _hosted("groq", "https://api.groq.com/openai/v1"),
    _hosted("deepseek", "https://api.deepseek.com/beta", effort=_deepseek_effort),
    _hosted("cerebras", "https://api.cerebras.ai/v1", asks_for_counts=False),
    _hosted("moonshot", "https://api.moonshot.ai/v1", lacks=_moonshot_lacks),
    _hosted(
        "zai", "https://api.z.ai/api/paas/v4", lacks=lambda _model, _row: ("seed", "reasoning_effort"),
    ),
    _hosted(
        "together_ai", "https://api.together.ai/v1", keys=(
            "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN",
        ), effort=_together_effort,
    ),
    _hosted(
        "fireworks_ai", "https://api.fireworks.ai/inference/v1", keys=(
            "FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN",
        ), base_variables=("FIREWORKS_API_BASE", "FIREWORKS_AI_API_BASE"), full_names="accounts/",
        cached_share=0.5,  # https://docs.fireworks.ai/guides/prompt-caching#pricing
    ),
    _hosted(
        "dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1",
        litellm_variables=("DASHSCOPE_API_BASE",),  # it may be one of several protocols
    ),
    _hosted("nvidia_nim", "https://integrate.api.nvidia.com/v1", asks_for_counts=False),
    _hosted("novita", "https://api.novita.ai/v3/openai", lacks=_no_effort),
    _hosted(
        "vercel_ai_gateway", "https://ai-gateway.vercel.sh/v1",
        keys=("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"), lacks=_no_effort,
    ),
    _hosted("minimax", "https://api.minimax.io/v1", lacks=_no_effort),
    _by_convention("perplexity")._replace(
        keys=("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"), listed=True, always_searches=True,
    ),
    _by_convention("azure")._replace(package=_azure_package),
    _by_convention("azure_ai")._replace(package=_azure_package),
    _by_convention("vertex_ai")._replace(package=_google_package),
    _by_convention("gdc")._replace(package=_google_package),
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


def renamed(model: ModelSpec, name: str) -> ModelSpec:
    """The model ``name`` alone, with the settings of ``model``.

    Options and endpoint are those of a provider, so another one does not get them.
    """
    defaults = model._field_defaults
    if provider_of(name).prefix != provider_of(model.name).prefix:
        model = model._replace(options=defaults["options"], endpoint=None)
    return model._replace(name=name, fallback=())


def chain(model: ModelSpec) -> tuple[ModelSpec, ...]:
    """The model and its fallbacks, in the order in which they are called."""
    return (model, *(renamed(model, name) for name in model.fallback))


def called(step: PlannedStep) -> tuple[ModelSpec, ...]:
    """The models that a step may call, in order. An agent calls only its own, which has no fallback then."""
    if step.model is None:
        return ()
    return (step.model,) if step.edits_tree else chain(step.model)
