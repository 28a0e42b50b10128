"""Calling models. This module has the types of a call: its request, its chunks, its failure.

A transport is a module with one class that implements ``Transport``. Retries, deadlines, allowances, cut and
empty answers and all error texts are above this interface, and the same for every transport.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from aethr.base.records import ModelSpec, Usage

if TYPE_CHECKING:
    from aethr.base.network import Hosts

ATTEMPTS = 3
"""The most attempts of a call."""

FailureKind = Literal[
    "auth",  # the key was refused
    "not_found",  # the model or the path does not exist on that server
    "bad_request",  # the provider refused the request as it is
    "context_window",  # the prompt is longer than the model's window
    "rate_limit",  # too many requests; a retry can help
    "quota",  # no credit left; a retry cannot help
    "too_large",  # the server refuses a request of this size
    "region",  # the provider does not serve the caller's country
    "no_stream",  # the provider answers this account only without streaming
    "server",  # 5xx, or an error event inside a stream
    "connection",  # not made: refused, unknown host, no answer to the handshake
    "lost",  # made, then broken: reset, closed within the answer, the peer is gone
    "proxy",  # a proxy of the environment refused
    "tls",  # the connection is not trusted
    "timeout",  # the server reports that it took too long
    "deadline",  # the call's time is over
    "silent",  # the connection is open, but nothing arrives any more
    "cut",  # the stream ended without a finish reason
    "garbage",  # not the protocol: an HTML page, broken JSON
    "broken",  # the model or its server gave the answer up
    "empty",  # finished, without text
    "all_thought",  # finished by the limit on its length, and all of it is thinking
    "content_filter",  # the provider refused to answer
    "refusal",  # the model refused to answer
    "install",  # a package that this model needs is not installed
]


UNREACHED: frozenset[FailureKind] = frozenset({"connection", "lost", "timeout", "deadline", "silent"})
"""Failures in which no server has answered."""

FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"})
"""Finish reasons of a complete answer, in lower case. With any other, something is missing."""

LENGTH = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
"""Finish reasons of an answer that reached a limit on its length."""

BROKEN: Mapping[str, FailureKind] = {
    "error": "server",
    # https://ai.google.dev/api/generate-content#FinishReason
    "malformed_response": "broken",
    "malformed_function_call": "broken",
    "unexpected_tool_call": "broken",
    "too_many_tool_calls": "broken",
    "missing_thought_signature": "broken",
}
"""Finish reasons of an answer that failed, whatever text it has."""

REFUSED: Mapping[str, FailureKind] = {
    "refusal": "refusal",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "recitation": "content_filter",
    "language": "content_filter",
    "spii": "content_filter",
    "escalation": "content_filter",
    "model_armor": "content_filter",
    "pup_limited_disabled": "content_filter",
    "other": "content_filter",
}
"""Finish reasons of an answer that was refused."""


BUSY = frozenset({429, 503, 529})
"""Statuses with which a server asks for fewer requests; 529 is Anthropic's."""

GATEWAY = frozenset({502, *range(520, 525)})
"""Statuses with which a gateway says that it cannot reach the server behind it; the others are Cloudflare's.

https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""

OVERLOADED = re.compile(
    r"overload|(?:at|over|no|insufficient) capacity|capacity exceeded|high demand|\bbusy\b"
    r"|(?:temporarily|currently|service|model is) unavailable|resource[ _]exhausted",
    re.IGNORECASE,
)
"""What a server says in an error of another status, or of none, if it has no capacity now."""


class CallFailed(Exception):  # noqa: N818 - it names what happened, and is not what users see
    """One attempt failed. ``message`` is only the cause, without model name and advice; untrusted text.

    ``status`` is the HTTP status, if any, ``retry_after_s`` the wait that the provider asks for, in seconds,
    ``parameter`` the name in the request that the provider refuses. ``retry`` is what the provider says about
    a retry; None if it says nothing.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        parameter: str = "",
        retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.parameter = parameter
        self.retry = retry

    @property
    def is_busy(self) -> bool:
        """Whether the server asks for fewer requests."""
        return self.kind == "rate_limit" or (self.kind == "server" and self.status in BUSY)

    @property
    def allows_fallback(self) -> bool:
        """Whether another model may be asked: no capacity, no answer in time, or no connection.

        A refused key or request never does: somebody has to correct it.
        """
        if self.kind == "server":
            return self.status in BUSY | GATEWAY or OVERLOADED.search(self.message) is not None
        return self.kind == "rate_limit" or self.kind in UNREACHED


class Deadlines(NamedTuple):
    """Limits of one call, in seconds; ``whole_s`` spans all of its attempts and the waits between them.

    Until the first text only ``whole_s`` counts: a model may think for minutes without sending anything, and
    TCP keepalive notices a peer that is gone. After it the server may send no byte for ``silence_s``, and
    after the end of the answer for ``linger_s``.
    """

    connect_s: float = 10.0
    silence_s: float = 60.0
    linger_s: float = 5.0
    whole_s: float = 600.0


class Endpoint(NamedTuple):
    """Where a call goes. ``key`` is None if none is needed or LiteLLM finds it; ``base`` is None for the
    provider's own address. ``bearer`` says that ``key`` is a token, which is sent in another header."""

    key: str | None = None
    base: str | None = None
    bearer: bool = False


class Call(NamedTuple):
    """One attempt. ``max_tokens`` is the limit that is sent: the model's own setting or less.

    ``deadlines`` are what is left of the call's deadlines. ``stream`` is False for a request whose answer is
    one JSON body. ``left_out`` are settings that the provider has refused by name, ``schema`` and ``shared``
    as in ``Request``. ``hosts`` are those that a request may go to, None for any.
    """

    prompt: str
    model: ModelSpec
    endpoint: Endpoint
    deadlines: Deadlines
    max_tokens: int
    stream: bool = True
    left_out: frozenset[str] = frozenset()
    schema: Mapping[str, Any] | None = None
    shared: tuple[int, ...] = ()
    hosts: Hosts | None = None


class Chunk(NamedTuple):
    """A piece of an answer: text, the provider's finish reason, its token counts, or a note for the user.

    ``refusal`` is a piece of the text with which the model refuses to answer.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    note: str = ""
    refusal: str = ""


Alive = Callable[[], None]
"""Called, from any thread, when bytes of an answer arrive."""


Settings = Mapping[str, Mapping[str, Any]]
"""By the name of a setting, the fragment of the request's JSON that says it."""

Read = Callable[[Mapping[str, Any]], Chunk]
"""Reads one object of an answer. Raises ``CallFailed``."""


def note_dropped(call: Call, dropped: Iterable[str]) -> Iterator[Chunk]:
    """A note for each setting that was not sent because the model does not take it."""
    for name in dropped:
        yield Chunk(note=f"{call.model.name} does not take {name}: it was not sent")


class Stream(Protocol):
    """The answer to a call, as it arrives."""

    def chunks(self) -> Generator[Chunk, None, None]:
        """The answer in pieces. Raises ``CallFailed``. An answer without a ``finish_reason`` was cut."""

    def hang_up(self) -> None:
        """End the connection, and ``chunks`` with it. Safe from any thread, and more than once."""


class Transport(Protocol):
    """Makes the calls; ``name`` is in the run record."""

    name: str

    def load(self) -> None:
        """Import what a call needs, which may take seconds. Safe from any thread, and more than once."""

    def open(self, call: Call, alive: Alive) -> Stream:
        """Send the request and wait for the start of the answer. Raises ``CallFailed``."""
