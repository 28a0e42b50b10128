"""Which transport carries the calls of a model: ``AETHR_TRANSPORT``, as far as the model allows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping

from aethr.base.errors import UsageError
from aethr.base.providers import provider_of
from aethr.llm import Transport

VARIABLE = "AETHR_TRANSPORT"
CHOICES = ("auto", "direct", "litellm")

_TLS = ("SSL_VERIFY", "SSL_CERTIFICATE", "SSL_SECURITY_LEVEL", "SSL_ECDH_CURVE")
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
    word = wanted(environ)

    def choose(model_name: str) -> Transport:
        if word == "litellm":
            return _litellm()
        obstacle = _obstacle(model_name, environ)
        if obstacle and word == "direct":
            raise UsageError(f"{model_name}: not with {VARIABLE}=direct: {obstacle}", f"Unset {VARIABLE}.")
        if obstacle:
            return _litellm()
        from aethr.llm.transport_direct import Direct

        return Direct()

    return choose


def load_ahead(transports: Iterable[Transport]) -> None:
    """Import what they need, in a thread. Ignore failures: a call meets the same one, and reports it."""

    def load() -> None:
        for transport in each:
            with contextlib.suppress(Exception):
                transport.load()

    each = {transport.name: transport for transport in transports}.values()
    with contextlib.suppress(RuntimeError):  # no thread can be started: the calls load it
        threading.Thread(target=load, name="aethr-load", daemon=True).start()


def _obstacle(model_name: str, environ: Mapping[str, str]) -> str:
    """Why only LiteLLM can call the model; empty if it can be called directly."""
    from aethr.llm import protocols

    if not protocols.serves(model_name):
        names = ", ".join(protocols.DIRECT)
        return f"only LiteLLM can call it; Aethr itself calls the chat models of {names}"
    variables = (*_TLS, *provider_of(model_name).litellm_variables)
    return next((f"only LiteLLM reads {name}" for name in variables if environ.get(name)), "")


def _litellm() -> Transport:
    from aethr.llm.transport_litellm import LiteLLM

    return LiteLLM()
