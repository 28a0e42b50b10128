"""Calls without LiteLLM, in the protocols that are known here: httpx and nothing else.

It starts in a tenth of the time, and is the same in everything else: one suite tests both transports.
"""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING

from aethr.llm import Alive, Call, connection, dropped
from aethr.llm.exchange import Answer, Exchange, in_our_words
from aethr.llm.protocols import address, headers, spoken_by

if TYPE_CHECKING:
    import httpx


class Direct:
    """The transport for the providers in ``protocols.DIRECT``."""

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
                "POST", address(call), headers=headers(call), content=json.dumps(body)
            )
            client.send(request, stream=True)
            unless_it_began.pop_all()
        read = functools.partial(protocol.chunk, model_name=call.model.name)
        return Answer(exchange, read, client.close, dropped(call, {**body, **body.get("options", {})}))


def _client(call: Call) -> httpx.Client:
    """A client that follows no redirect: nobody but the endpoint itself gets the prompt."""
    verify = connection.trusted() if address(call).startswith("https:") else False
    client: httpx.Client = connection.load().Client(
        timeout=connection.timeout(call.deadlines), transport=connection.transport(verify)
    )
    return client
