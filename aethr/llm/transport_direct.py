"""Calls without LiteLLM, to whoever speaks OpenAI's chat-completions protocol: httpx and nothing else.

It starts in a tenth of the time, and is the same in everything else: one suite tests both transports.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from aethr.llm import chat, connection, sse
from aethr.llm.calls import Call, CallFailed, Chunk, dropped
from aethr.llm.failures import READ_CHARS, message_of
from aethr.llm.failures_http import broken, causes_of, kind_of, seconds

if TYPE_CHECKING:
    import httpx


class Direct:
    """The transport for ``chat.HOSTS``."""

    name = "direct"

    def load(self) -> None:
        connection.load()

    def open(self, call: Call) -> DirectStream:
        client = _client(call)
        with contextlib.ExitStack() as unless_it_began, _in_our_words():
            unless_it_began.callback(client.close)
            request = client.build_request(
                "POST", chat.address(call), headers=chat.headers(call), content=json.dumps(chat.body(call))
            )
            response = client.send(request, stream=True)
            if not response.is_success:
                raise _refusal(response)
            unless_it_began.pop_all()
        return DirectStream(call, client, response)


class DirectStream:
    """One answer, on a connection of its own that is closed behind it."""

    def __init__(self, call: Call, client: httpx.Client, response: httpx.Response) -> None:
        self._call = call
        self._client = client
        self._response = response

    def chunks(self) -> Generator[Chunk, None, None]:
        with contextlib.closing(self._client), _in_our_words():
            yield from dropped(self._call, chat.body(self._call))
            yield from self._answer()

    def _answer(self) -> Iterator[Chunk]:
        for event in sse.events(self._response.iter_bytes()):
            if event.strip() == chat.DONE:
                return
            yield chat.chunk(event, self._call.model.name)

    def hang_up(self) -> None:
        if not self._response.is_closed:
            connection.hang_up(self._response)


def _client(call: Call) -> httpx.Client:
    """A client that follows no redirect: nobody but the endpoint itself gets the prompt."""
    verify = connection.trusted() if chat.address(call).startswith("https:") else False
    client: httpx.Client = connection.load().Client(
        timeout=connection.timeout(call.deadlines), transport=connection.transport(verify)
    )
    return client


def _refusal(response: httpx.Response) -> CallFailed:
    """A status that is no success, with what its body says."""
    if response.is_redirect:
        there = response.headers.get("location", "another address")
        return CallFailed("not_found", f"it redirects to {there}", response.status_code)
    body = _start(response)
    wait = response.headers.get("retry-after")
    return CallFailed(
        kind_of(response.status_code, body.lower()),
        message_of(body),
        response.status_code,
        seconds(wait) if wait else None,
    )


def _start(response: httpx.Response) -> str:
    """The first ``READ_CHARS`` of a body, however long it is."""
    read = bytearray()
    for piece in response.iter_bytes():
        read += piece
        if len(read) > 4 * READ_CHARS:
            break
    return read.decode("utf-8", "replace")[:READ_CHARS]


@contextlib.contextmanager
def _in_our_words() -> Iterator[None]:
    """What httpx raises in the block, as a ``CallFailed``; a bug as it is."""
    httpx = connection.load()
    try:
        yield
    except sse.EventTooLongError as error:
        raise CallFailed("garbage", str(error)) from error
    except httpx.DecodingError as error:
        raise CallFailed("garbage", "broken compression in the answer") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise broken(tuple(causes_of(error))) or CallFailed("connection", str(error)) from error
