"""Calls without LiteLLM, in the protocols of ``protocols``: it needs httpx only.

A call starts in a tenth of the time. Everything else is as through LiteLLM: one suite tests both transports.
"""

from __future__ import annotations

import contextlib
import functools
import json

from aethr import __version__
from aethr.llm import Alive, Call, connection, note_dropped
from aethr.llm.exchange import Exchange, ProtocolStream, translated_errors
from aethr.llm.protocols import address, protocol_of


class Direct:
    """The transport for the providers in ``protocols.DIRECT``."""

    name = "direct"

    def load(self) -> None:
        connection.load()

    def open(self, call: Call, alive: Alive) -> ProtocolStream:
        protocol, exchange, url = protocol_of(call.model.name), Exchange(call, alive), address(call)
        body = protocol.body(call)
        headers = {"Content-Type": "application/json", "User-Agent": f"aethr/{__version__}"}
        if call.endpoint.key:
            headers["Authorization"] = f"Bearer {call.endpoint.key}"
        client = connection.load().Client(
            timeout=connection.timeout(call.deadlines),
            transport=connection.transport(connection.trusted() if url.startswith("https:") else False),
            follow_redirects=False,  # only the endpoint itself gets the prompt
            event_hooks={"request": [exchange.prepare], "response": [exchange.receive]},
        )
        with contextlib.ExitStack() as on_failure, translated_errors():
            on_failure.callback(client.close)
            request = client.build_request("POST", url, headers=headers, content=json.dumps(body))
            client.send(request, stream=True)
            on_failure.pop_all()
        read = functools.partial(protocol.chunk, model_name=call.model.name)
        notes = note_dropped(call, {**body, **body.get("options", {})})
        return ProtocolStream(exchange, read, client.close, notes)
