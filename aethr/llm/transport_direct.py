"""Calls without LiteLLM, in the protocols that are known here: httpx and nothing else.

It starts in a tenth of the time, and is the same in everything else: one suite tests both transports.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import TYPE_CHECKING

from aethr.llm import connection
from aethr.llm.calls import Alive, Call, CallFailed, dropped
from aethr.llm.exchange import Answer, Exchange, in_our_words
from aethr.llm.protocols import spoken_by

if TYPE_CHECKING:
    import ssl

    import httpx


class Direct:
    """The transport for ``chat.HOSTS`` and Ollama."""

    name = "direct"

    def load(self) -> None:
        connection.load()

    def open(self, call: Call, alive: Alive) -> Answer:
        protocol, exchange = spoken_by(call.model.name), Exchange(call, alive)
        body = protocol.body(call)
        client = _client(call)
        client.event_hooks = {"request": [exchange.sending], "response": [exchange.arrived]}
        with contextlib.ExitStack() as unless_it_began, in_our_words():
            unless_it_began.callback(client.close)
            request = client.build_request(
                "POST", protocol.address(call), headers=protocol.headers(call), content=json.dumps(body)
            )
            client.send(request, stream=True)
            unless_it_began.pop_all()
        read = functools.partial(protocol.chunk, model_name=call.model.name)
        return Answer(exchange, read, client.close, dropped(call, {**body, **body.get("options", {})}))


def _client(call: Call) -> httpx.Client:
    """A client that follows no redirect: nobody but the endpoint itself gets the prompt."""
    verify = _trusted() if spoken_by(call.model.name).address(call).startswith("https:") else False
    try:
        client: httpx.Client = connection.load().Client(
            timeout=connection.timeout(call.deadlines), verify=verify
        )
    except ImportError as error:
        raise CallFailed("install", f"httpx needs another package for this proxy: {error}") from error
    except ValueError as error:
        raise CallFailed("connection", f"the proxy in the environment: {error}") from error
    return client


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whom to trust: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's list. It takes 20 ms to read."""
    try:
        context: ssl.SSLContext = connection.load().create_ssl_context()
    except OSError as error:
        name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        raise CallFailed("tls", f"{name}: {error.strerror or error}") from error
    return context
