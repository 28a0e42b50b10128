"""Where the calls of a model go and with which key: from the environment that is passed in, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, urlsplit

from aethr import network
from aethr.credentials import QUOTES
from aethr.errors import MissingKeyError, UsageError
from aethr.llm.calls import Endpoint
from aethr.providers import LOGINS, Provider, provider_of, with_variables
from aethr.records import ModelSpec

NO_KEY = "none"
"""What is sent as the key to an OpenAI-compatible server of one's own that wants none."""


def endpoint_of(model_name: str, environ: Mapping[str, str]) -> Endpoint:
    """The endpoint of ``provider:model``. Raises ``MissingKeyError`` or ``UsageError``.

    ``openai`` with a base URL of one's own and no key gets the key ``none``, as such servers expect. The
    bearer token in ANTHROPIC_AUTH_TOKEN is LiteLLM's to read: it must be in the process's environment.
    """
    provider = provider_of(model_name)
    base = _base(provider, environ)
    variable = _first((*provider.keys, *filter(None, [provider.own_key])), environ)
    if variable is not None:
        key = _sound_key(provider, variable, environ[variable])
        return Endpoint(None if variable == "ANTHROPIC_AUTH_TOKEN" else key, base)
    if provider.name == "openai" and base is not None:
        return Endpoint(NO_KEY, base)
    if provider.keys:
        raise _missing(provider)
    if base is None and provider.bases and provider.host is None:
        raise UsageError(
            f"{provider.name}: no endpoint: {provider.bases[0]} is not set",
            fix=f"Set {provider.bases[0]} to the address of your server.",
        )
    return Endpoint(None, base)


def address_of(model_name: str, endpoint: Endpoint) -> SplitResult | None:
    """Where the calls of a model go; None where only LiteLLM knows."""
    provider = provider_of(model_name)
    if endpoint.base is not None:
        return urlsplit(endpoint.base)
    scheme = "http" if ":" in (provider.host or "") else "https"  # a port is that of a server of one's own
    return urlsplit(f"{scheme}://{provider.host}") if provider.host else None


def endpoints(models: Iterable[ModelSpec], environ: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each provider whose calls go somewhere else than to its own host, sorted."""
    lines = set()
    for model in models:
        provider = provider_of(model.name)
        variable = _first(with_variables(provider).bases, environ)
        if variable is None:
            continue
        address = _address(provider, variable, environ[variable])
        if address.hostname != (provider.host or "").partition(":")[0]:
            lines.add(f"{provider.name}: calls go to {shown(address.geturl())} ({variable})")
    return tuple(sorted(lines))


def shown(base: str) -> str:
    """A base address without what may be secret: user, password, query."""
    address = urlsplit(base)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def _base(provider: Provider, environ: Mapping[str, str]) -> str | None:
    variable = _first(with_variables(provider).bases, environ)
    if variable is None:
        return None
    return _address(provider, variable, environ[variable]).geturl()


def _first(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((name for name in names if environ.get(name)), None)


def _address(provider: Provider, variable: str, value: str) -> SplitResult:
    try:
        return network.address(value)
    except ValueError as error:
        raise UsageError(
            f"{provider.name}: {variable} is not an http or https address: {error}",
            fix=f"Set {variable} to an address such as http://127.0.0.1:8000/v1.",
        ) from None


def _sound_key(provider: Provider, variable: str, key: str) -> str:
    if key[0] in QUOTES or key[-1] in QUOTES:
        raise UsageError(
            f"{provider.name}: {variable} has quotes around its value",
            fix=f"Remove the quotes from {variable}: `docker run --env-file`, for one, keeps them.",
        )
    if key.isascii() and key.isprintable() and " " not in key:
        return key
    raise UsageError(
        f"{provider.name}: {variable} holds a space, a line break or another character no key has",
        fix=f"Set {variable} again, without line breaks around it.",
    )


def _missing(provider: Provider) -> MissingKeyError:
    variable = LOGINS.get(provider.name, provider.keys[0])
    login = f"Run `aethr auth login {provider.name}`, or set {variable}."
    return MissingKeyError(f"{provider.name}: no key: {variable} is not set", fix=login)
