"""Calling models. Here are the types of one call: what is asked, what arrives, how it fails.

A transport is one file with one class that implements ``Transport``. Retries, deadlines, allowances,
cut and empty answers and all error texts live above this seam and are the same for every transport.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator
from typing import Literal, NamedTuple, Protocol

from aethr.base.records import ModelSpec, Usage

ATTEMPTS = 3
"""How often a call is made at most."""

FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete"})
"""Words for a whole answer, in lower case. Every other word means that something is missing."""

FailureKind = Literal[
    "auth",  # the key was refused
    "not_found",  # no such model, or no such path on that server
    "bad_request",  # the provider refused the request as it is
    "context_window",  # the prompt is longer than the model's window
    "rate_limit",  # too many requests; worth another try
    "quota",  # no credit left; another try cannot help
    "too_large",  # the server takes no request of this size
    "region",  # the provider does not serve the place that the call came from
    "no_stream",  # the provider answers this account only without streaming
    "server",  # 5xx, or an error event inside a stream
    "connection",  # never made: refused, no such host, no answer to the handshake
    "lost",  # made and accepted, then broken: reset, closed inside the answer, the peer is gone
    "proxy",  # a proxy of the environment refused
    "tls",  # no trusted connection
    "timeout",  # the server itself says that it took too long
    "deadline",  # the call's own time is over
    "silent",  # the connection stands, and nothing comes any more
    "cut",  # the stream ended without saying that the answer is finished
    "garbage",  # not the protocol: an HTML page, broken JSON
    "empty",  # finished, and no text
    "all_thought",  # finished by the limit on its length, and all of it was thinking
    "content_filter",  # the provider refused to answer
    "refusal",  # the model refused to answer
    "install",  # a package that this model needs is not installed
]


class CallFailed(Exception):  # noqa: N818 - it names what happened, and is not what users see
    """One attempt failed. ``message`` is the cause alone: no model name, no advice; untrusted text.

    ``status`` is the HTTP status where there was one, ``retry_after_s`` what the provider asked to wait.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class Deadlines(NamedTuple):
    """Limits of one call, in seconds; ``whole_s`` spans all of its attempts and the waits between them.

    Until the first text only ``whole_s`` counts: a model may think for minutes without a word, and TCP
    keepalive finds a peer that is gone. After it the server may be silent, to the last byte, for
    ``silence_s``, and after the end of the answer for ``linger_s``.
    """

    connect_s: float = 10.0
    silence_s: float = 60.0
    linger_s: float = 5.0
    whole_s: float = 600.0


class Endpoint(NamedTuple):
    """Where a call goes. None for ``key``: none is needed, or the transport finds it itself; for ``base``:
    the provider's own address."""

    key: str | None = None
    base: str | None = None


class Call(NamedTuple):
    """One attempt. ``max_tokens`` is what is sent (the model's own setting or less).

    ``deadlines`` are what is left of the whole call's. ``stream`` is False for a request whose answer comes
    as one JSON body.
    """

    prompt: str
    model: ModelSpec
    endpoint: Endpoint
    deadlines: Deadlines
    max_tokens: int
    stream: bool = True


class Chunk(NamedTuple):
    """What arrived: a piece of text, or the end (its provider's own word), what was counted, a remark.

    ``refusal`` is a piece of what the model says in place of an answer.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    note: str = ""
    refusal: str = ""


Alive = Callable[[], None]
"""Called, from any thread, whenever a byte of an answer has come."""


def dropped(call: Call, sent: Container[str]) -> Iterator[Chunk]:
    """Say which settings were left out of the request because the model does not take them."""
    for name in ("temperature", "seed"):
        if getattr(call.model, name) is not None and name not in sent:
            yield Chunk(note=f"{call.model.name} does not take {name}: it was not sent")


class Stream(Protocol):
    """An answer under way."""

    def chunks(self) -> Generator[Chunk, None, None]:
        """What arrives. Raises ``CallFailed``. Without a ``finish_reason`` in any of them it was cut."""

    def hang_up(self) -> None:
        """End the connection, from any thread, as often as one likes; ``chunks`` then ends by itself."""


class Transport(Protocol):
    """What carries calls; ``name`` goes into the record."""

    name: str

    def load(self) -> None:
        """Import what a call needs, in up to seconds; from any thread, as often as one likes."""

    def open(self, call: Call, alive: Alive) -> Stream:
        """Send the request and wait for the answer to begin. Raises ``CallFailed``."""
