"""Which transport carries the calls of a model: the variable ``AETHR_TRANSPORT``, and what is possible."""

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
"""Variables that LiteLLM reads by itself: where one is set, all calls are LiteLLM's."""

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
    """The way that ``environ`` asks for."""
    word = wanted(environ)

    def choose(model_name: str) -> Transport:
        if word == "litellm":
            return _litellm()
        obstacle = _obstacle(model_name, environ)
        if obstacle and word == "direct":
            raise UsageError(f"{model_name}: not with {VARIABLE}=direct: {obstacle}", f"Unset {VARIABLE}.")
        return _litellm() if obstacle else _direct()

    return choose


def load_ahead(transports: Iterable[Transport]) -> None:
    """Let them import what they need in a thread. A failure is told by the call that meets it again."""

    def load() -> None:
        for transport in each:
            with contextlib.suppress(Exception):
                transport.load()

    each = {transport.name: transport for transport in transports}.values()
    with contextlib.suppress(RuntimeError):  # no more threads: then the calls load
        threading.Thread(target=load, name="aethr-load", daemon=True).start()


def _obstacle(model_name: str, environ: Mapping[str, str]) -> str:
    """Why only LiteLLM can call the model; empty where nothing is in the way."""
    from aethr.llm import protocols

    if not protocols.serves(model_name):
        return f"only LiteLLM can; direct are the chat models of {', '.join(protocols.DIRECT)}"
    variables = (*_TLS, *provider_of(model_name).litellm_variables)
    return next((f"only LiteLLM heeds {name}" for name in variables if environ.get(name)), "")


def _direct() -> Transport:
    from aethr.llm.transport_direct import Direct

    return Direct()


def _litellm() -> Transport:
    from aethr.llm.transport_litellm import LiteLLM

    return LiteLLM()
