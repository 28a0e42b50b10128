"""Where the calls of a model go: by which transport, to which address, with which key."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from aethr.base.errors import MissingKeyError, UsageError
from aethr.base.providers import Package, Provider, provider_of, split
from aethr.base.records import ModelSpec
from aethr.llm import Endpoint, Transport

VARIABLE = "AETHR_TRANSPORT"
CHOICES = ("auto", "direct", "litellm")

TLS = ("SSL_VERIFY", "SSL_CERTIFICATE", "SSL_SECURITY_LEVEL", "SSL_ECDH_CURVE")
"""Variables that only LiteLLM reads: if one is set, every call goes through it."""

Route = Callable[[str], Transport]
"""From ``provider:model`` to its transport. Raises ``UsageError``."""


def wanted(environ: Mapping[str, str]) -> str:
    """One of ``CHOICES``. Raises ``UsageError`` for another word."""
    word = environ.get(VARIABLE) or CHOICES[0]
    if word not in CHOICES:
        raise UsageError(
            f"{VARIABLE}={word}: not one of {', '.join(CHOICES)}",
            f"Set {VARIABLE} to one of them, or unset it.",
        )
    return word


def route(environ: Mapping[str, str]) -> Route:
    """The route that ``environ`` sets."""
    wanted(environ)

    def choose(model_name: str) -> Transport:
        if not is_direct(model_name, environ):
            from aethr.llm.transport_litellm import LiteLLM

            return LiteLLM()
        from aethr.llm.exchange import Direct

        return Direct()

    return choose


def is_direct(model_name: str, environ: Mapping[str, str]) -> bool:
    """Whether Aethr itself calls the model, and not LiteLLM. Raises ``UsageError`` where neither may."""
    word = wanted(environ)
    if word == "litellm":
        return False
    obstacle = _find_obstacle(model_name, environ)
    if obstacle and word == "direct":
        raise UsageError(f"{model_name}: not with {VARIABLE}=direct: {obstacle}", f"Unset {VARIABLE}.")
    return not obstacle


def load_ahead(transports: Iterable[Transport]) -> None:
    """Import what they need, in a thread. Ignore failures: a call meets the same one, and reports it."""

    def load() -> None:
        for transport in each:
            with contextlib.suppress(Exception):
                transport.load()

    each = {transport.name: transport for transport in transports}.values()
    with contextlib.suppress(RuntimeError):  # no thread can be started: the calls load it
        threading.Thread(target=load, name="aethr-load", daemon=True).start()


def _find_obstacle(model_name: str, environ: Mapping[str, str]) -> str:
    """Why only LiteLLM can call the model; empty if it can be called directly."""
    from aethr.llm import protocols

    if not protocols.serves(model_name):
        names = ", ".join(protocols.DIRECT)
        return f"only LiteLLM can call it; Aethr itself calls models of {names}"
    variables = (*TLS, *provider_of(model_name).litellm_variables)
    return next((f"only LiteLLM reads {name}" for name in variables if environ.get(name)), "")


def endpoint_of(model: ModelSpec, environ: Mapping[str, str]) -> Endpoint:
    """The endpoint of a model. Raises ``MissingKeyError`` or ``UsageError``.

    LiteLLM itself reads the key of a provider that is not in the table from the environment of the process.
    """
    provider = provider_of(model.name)
    variable = base_variable(model, environ)
    base = read_address(_owner(model), variable, environ[variable]).geturl() if variable else None
    if provider.listed and (variable := provider.key_in(environ)) is not None:
        _check_key(provider, variable, environ[variable])
        return Endpoint(environ[variable], base, bearer=variable in provider.bearer_tokens)
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


def missing_package(model_name: str, environ: Mapping[str, str]) -> Package | None:
    """The package that calls of the model need and that is not installed. Loads nothing of it."""
    from importlib.util import find_spec  # a mock run does without both

    from aethr.llm.spending import served_as

    package = provider_of(model_name).package(split(served_as(model_name))[1], environ)
    try:
        return package if package is not None and find_spec(package.module) is None else None
    except ModuleNotFoundError:  # a parent of the module is missing
        return package


def base_variable(model: ModelSpec, environ: Mapping[str, str]) -> str | None:
    """The variable with the address of a model's calls; None for the provider's own address.

    Raises ``UsageError`` if the model names one that is not set.
    """
    if model.endpoint is None:
        return provider_of(model.name).base_in(environ)
    if not environ.get(model.endpoint):
        raise UsageError(
            f"{model.name}: no endpoint: {model.endpoint} is not set",
            fix=f"Set {model.endpoint} to the address of the model's server, or remove `endpoint`.",
        )
    return model.endpoint


def _owner(model: ModelSpec) -> str:
    """Whose address it is: that of a model with an ``endpoint``, or that of the provider."""
    return provider_of(model.name).name if model.endpoint is None else model.name


def address_of(model_name: str, endpoint: Endpoint) -> SplitResult | None:
    """The address of a model's calls; None if only LiteLLM knows it."""
    address = endpoint.base or provider_of(model_name).address
    return urlsplit(address) if address else None


class Destination(NamedTuple):
    """Where calls go. ``variable`` is the environment variable that says so, if one does.

    Without an ``address``, ``unknown`` says why it cannot be known before the call.
    """

    address: SplitResult | None
    variable: str = ""
    unknown: str = ""

    @property
    def host(self) -> str:
        """Its host, with the port if one is written; empty if it is not known."""
        return self.address.netloc.rpartition("@")[2].lower() if self.address else ""


def find_destination(model: ModelSpec, environ: Mapping[str, str]) -> Destination:
    """Where the calls of a model go, without its fallbacks. Raises ``UsageError`` for a broken endpoint."""
    provider, variable = provider_of(model.name), base_variable(model, environ) or ""
    if provider.signs or provider.package(split(model.name)[1], environ) is not None:
        return Destination(None, unknown="LiteLLM asks its cloud for a token, at a host of its own choice")
    own = (name for name in provider.litellm_variables if name.endswith("_API_BASE") and environ.get(name))
    variable = variable or next(own, "")  # with one of these LiteLLM makes the call
    if variable:
        return Destination(read_address(_owner(model), variable, environ[variable]), variable)
    if provider.address is None:
        instead = f"{provider.base_variables[0]} can name another one"
        return Destination(None, unknown=f"only LiteLLM knows its address ({instead})")
    return Destination(urlsplit(provider.address))


def host_of(model_name: str, endpoint: Endpoint) -> str | None:
    """The host that gets a model's prompts, with its port if one is set; None if only LiteLLM knows it."""
    return Destination(address_of(model_name, endpoint)).host or None


def describe_endpoints(models: Iterable[ModelSpec], environ: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each provider, or model, whose calls go to another host than the provider's, sorted."""
    lines = set()
    for model in models:
        variable = base_variable(model, environ)
        if variable is None:
            continue
        address = read_address(_owner(model), variable, environ[variable])
        if address.hostname != urlsplit(provider_of(model.name).address or "").hostname:
            lines.add(f"{_owner(model)}: calls go to {public_address(address.geturl())} ({variable})")
    return tuple(sorted(lines))


def public_address(base: str) -> str:
    """A base address without the parts that may be secret: user, password, query."""
    address = urlsplit(base)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def read_address(owner: str, variable: str, value: str) -> SplitResult:
    """The address in a variable; ``owner`` is whose it is. Raises ``UsageError``, without the value."""
    from aethr.base import network  # it loads a part of the standard library that a mock run does without

    try:
        return network.address(value)
    except ValueError as error:
        raise UsageError(
            f"{owner}: {variable} is not an http or https address: {error}",
            fix=f"Set {variable} to an address such as http://127.0.0.1:8000/v1.",
        ) from None


def _check_key(provider: Provider, variable: str, key: str) -> None:
    from aethr.config.credentials import QUOTES

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
