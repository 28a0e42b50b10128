"""The address and the key for the calls of a model, read from the environment that is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, urlsplit

from aethr.base import network
from aethr.base.errors import MissingKeyError, UsageError
from aethr.base.providers import Provider, provider_of
from aethr.base.records import ModelSpec
from aethr.config.credentials import QUOTES
from aethr.llm import Endpoint


def endpoint_of(model_name: str, environ: Mapping[str, str]) -> Endpoint:
    """The endpoint of ``provider:model``. Raises ``MissingKeyError`` or ``UsageError``.

    LiteLLM itself reads bearer tokens, and the key of a provider that is not in the table, from the process's
    environment.
    """
    provider = provider_of(model_name)
    variable = provider.base_in(environ)
    base = _address(provider, variable, environ[variable]).geturl() if variable else None
    if provider.listed and (variable := provider.key_in(environ)) is not None:
        _check_key(provider, variable, environ[variable])
        return Endpoint(None if variable in provider.bearer_tokens else environ[variable], base)
    if base is not None and provider.key_elsewhere:
        return Endpoint(provider.key_elsewhere, base)
    if provider.needs_key:
        login = f"Run `aethr auth login {provider.name}`, or set {provider.keys[0]}."
        raise MissingKeyError(f"{provider.name}: no key: {provider.keys[0]} is not set", fix=login)
    if provider.own_server and base is None and provider.address is None:
        raise UsageError(
            f"{provider.name}: no endpoint: {provider.base_variables[0]} is not set",
            fix=f"Set {provider.base_variables[0]} to the address of your server.",
        )
    return Endpoint(None, base)


def address_of(model_name: str, endpoint: Endpoint) -> SplitResult | None:
    """The address of a model's calls; None if only LiteLLM knows it."""
    address = endpoint.base or provider_of(model_name).address
    return urlsplit(address) if address else None


def endpoints(models: Iterable[ModelSpec], environ: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each provider whose calls go to another host than its own, sorted."""
    lines = set()
    for model in models:
        provider = provider_of(model.name)
        variable = provider.base_in(environ)
        if variable is None:
            continue
        address = _address(provider, variable, environ[variable])
        if address.hostname != urlsplit(provider.address or "").hostname:
            lines.add(f"{provider.name}: calls go to {public_address(address.geturl())} ({variable})")
    return tuple(sorted(lines))


def public_address(base: str) -> str:
    """A base address without the parts that may be secret: user, password, query."""
    address = urlsplit(base)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def _address(provider: Provider, variable: str, value: str) -> SplitResult:
    try:
        return network.address(value)
    except ValueError as error:
        raise UsageError(
            f"{provider.name}: {variable} is not an http or https address: {error}",
            fix=f"Set {variable} to an address such as http://127.0.0.1:8000/v1.",
        ) from None


def _check_key(provider: Provider, variable: str, key: str) -> None:
    if key[0] in QUOTES or key[-1] in QUOTES:
        raise UsageError(
            f"{provider.name}: {variable} has quotes around its value",
            fix=f"Remove the quotes from {variable}: `docker run --env-file`, for one, keeps them.",
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(
            f"{provider.name}: {variable} holds a space, a line break or another character no key has",
            fix=f"Set {variable} again, without line breaks around it.",
        )
