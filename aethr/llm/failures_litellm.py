"""What LiteLLM raises, as a ``CallFailed``: the real cause stands in the chain behind its exceptions."""

from __future__ import annotations

import email.utils
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from aethr.llm.calls import CallFailed, FailureKind

_PREFIX = re.compile(
    r"^(?:litellm\.\w+:\s*|\w+(?:Error|Exception|Timeout):\s*|\w+Exception - |Timeout Error: )+"
)
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


def failure_of(error: BaseException, litellm: ModuleType) -> CallFailed:
    """``error`` and its causes in our words. ``litellm`` is the loaded module."""
    outer = getattr(error, "original_exception", None) or error
    causes = tuple(_chain(outer))
    broken = _broken(causes)
    if broken is not None:
        return broken
    status = _status(outer)
    message = _PREFIX.sub("", str(getattr(outer, "message", "") or outer))
    said = " ".join((message, *(str(cause) for cause in causes))).lower()
    kind = _kind(outer, status, said, litellm)
    shown = status if kind not in ("timeout", "server") or _from_http(causes) else None
    return CallFailed(kind, message, shown, _retry_after(causes))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _broken(causes: tuple[BaseException, ...]) -> CallFailed | None:
    """A connection, a deadline or a body that broke: LiteLLM calls them all a server error."""
    import httpx

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
        if isinstance(cause, ModuleNotFoundError):
            return CallFailed("install", f"LiteLLM needs the package '{cause.name}' for it")
        for kind_of_error, kind, message in table:
            if isinstance(cause, kind_of_error):
                return CallFailed(kind, message or str(cause) or type(cause).__name__)
    if any(isinstance(cause, json.JSONDecodeError) for cause in causes) and not _from_http(causes):
        return CallFailed("garbage", "broken JSON in the answer")
    return None


def _kind(error: BaseException, status: int | None, said: str, litellm: ModuleType) -> FailureKind:
    if isinstance(error, litellm.ContextWindowExceededError) or (
        status in (400, 413, 422) and any(words in said for words in _TOO_LONG)
    ):
        return "context_window"
    if isinstance(error, litellm.ContentPolicyViolationError) or (
        status == 400 and any(words in said for words in _FILTERED)
    ):
        return "content_filter"
    if status in (400, 402, 403, 429) and any(words in said for words in _NO_CREDIT):
        return "quota"
    if status is None or status >= 500:
        return "server"
    return _BY_STATUS.get(status, "bad_request")


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _from_http(causes: tuple[BaseException, ...]) -> bool:
    """Whether the status is one that a server sent; LiteLLM invents 500 where there was none."""
    import httpx

    return any(isinstance(cause, httpx.HTTPStatusError) for cause in causes)


def _retry_after(causes: tuple[BaseException, ...]) -> float | None:
    """Seconds, from either form of the header ``Retry-After``."""
    for cause in causes:
        headers: Any = getattr(cause, "litellm_response_headers", None)
        headers = headers or getattr(getattr(cause, "response", None), "headers", None) or {}
        value = headers.get("retry-after")
        if value:
            return _seconds(str(value))
    return None


def _seconds(value: str) -> float | None:
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
