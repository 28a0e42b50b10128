"""What HTTP says of a failed call, as a ``CallFailed``: the same for every transport."""

from __future__ import annotations

import email.utils
import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence

from aethr.llm import connection
from aethr.llm.calls import CallFailed, FailureKind
from aethr.llm.failures import message_of

_NO_CREDIT = ("insufficient_quota", "exceeded your current quota", "credit balance is too low")
_FILTERED = ("content_filter", "content management policy", "content_policy_violation")
_TOO_LONG = ("context_length_exceeded", "maximum context length", "prompt is too long", "context window")
_BY_STATUS: dict[int, FailureKind] = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "not_found",
    408: "timeout",
    429: "rate_limit",
}


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what it came from, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def broken(causes: Sequence[BaseException]) -> CallFailed | None:
    """A connection, a deadline or a body that broke; None where none of ``causes`` says so."""
    httpx = connection.load()
    from aethr.llm.routed import ProxyFailed

    for error in causes:
        if isinstance(error, ProxyFailed):
            inner = broken(tuple(causes_of(error.__cause__)))
            reason = inner.message if inner else error.reason
            return CallFailed("proxy" if error.refused else "connection", f"{error.way}: {reason}")
    table: tuple[tuple[type[BaseException], FailureKind, str], ...] = (
        (socket.gaierror, "connection", "no such host"),
        (ssl.SSLError, "tls", ""),
        (ConnectionRefusedError, "connection", "connection refused"),
        (httpx.ConnectTimeout, "connection", "no connection in time"),
        (TimeoutError, "timeout", "the server fell silent"),
        (httpx.TimeoutException, "timeout", "the server fell silent"),
        (ConnectionError, "connection", "connection reset"),
        (httpx.RemoteProtocolError, "connection", "the connection closed inside the answer"),
        (httpx.TransportError, "connection", ""),
    )
    for cause in reversed(causes):
        for kind_of_error, kind, message in table:
            if isinstance(cause, kind_of_error):
                return CallFailed(kind, message or str(cause) or type(cause).__name__)
    return None


def kind_of(status: int | None, said: str) -> FailureKind:
    """What a status means together with the words of the answer, ``said`` in lower case."""
    if status in (400, 413, 422) and any(words in said for words in _TOO_LONG):
        return "context_window"
    if status == 400 and any(words in said for words in _FILTERED):
        return "content_filter"
    if status in (400, 402, 403, 429) and any(words in said for words in _NO_CREDIT):
        return "quota"
    if status is None or status >= 500:
        return "server"
    return _BY_STATUS.get(status, "bad_request")


def error_event(error: object) -> CallFailed:
    """An error object inside of a stream; its code counts as a status where it is one."""
    try:
        text = json.dumps({"error": error})
    except (RecursionError, ValueError):  # what could just be read may be too deep to be written
        text = ""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    kind = kind_of(status, text.lower())
    return CallFailed(kind, message_of(text), None if kind in ("server", "timeout") else status)


def seconds(retry_after: str) -> float | None:
    """Either form of the header ``Retry-After``, from now; None for what is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
