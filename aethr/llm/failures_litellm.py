"""What LiteLLM raises, as a ``CallFailed``: the real cause stands in the chain behind its exceptions."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from aethr.llm import connection
from aethr.llm.calls import CallFailed, FailureKind
from aethr.llm.failures import message_of
from aethr.llm.failures_http import broken, causes_of, error_event, kind_of, seconds

_PREFIX = re.compile(
    r"^(?:litellm\.\w+:\s*|\w+(?:Error|Exception|Timeout):\s*|\w+Exception - |Timeout Error: )+"
)

_OPENROUTER = re.compile(r"Message: (.*), Metadata: .*, User ID: .*", re.DOTALL)


def failure_of(error: BaseException, litellm: ModuleType) -> CallFailed:
    """``error`` and its causes in our words. ``litellm`` is the loaded module."""
    outer = getattr(error, "original_exception", None) or error
    causes = tuple(causes_of(outer))
    known = _missing(causes) or _keyless(causes) or broken(causes) or _garbage(causes)
    if known is not None:
        return known
    event = _event(causes)
    if event is not None:
        return error_event(event)
    status = _status(outer)
    message = _message(outer, causes)
    said = " ".join((message, *(str(cause) for cause in causes))).lower()
    kind = _kind(outer, status, said, litellm)
    shown = status if kind not in ("timeout", "server") or _from_http(causes) else None
    return CallFailed(kind, message, shown, _retry_after(causes))


def _missing(causes: Sequence[BaseException]) -> CallFailed | None:
    for cause in reversed(causes):
        if isinstance(cause, ModuleNotFoundError):
            return CallFailed("install", f"LiteLLM needs the package '{cause.name}' for it")
    return None


def _keyless(causes: Sequence[BaseException]) -> CallFailed | None:
    """The openai package raises its base class for one thing: a client without credentials, never a call.

    LiteLLM has a class of the same name, for every answer that OpenAI's protocol refuses.
    """
    for cause in causes:
        kind = type(cause)
        if kind.__name__ == "OpenAIError" and kind.__module__.partition(".")[0] == "openai":
            return CallFailed("auth", str(cause))
    return None


def _garbage(causes: Sequence[BaseException]) -> CallFailed | None:
    if any(isinstance(cause, json.JSONDecodeError) for cause in causes) and not _from_http(causes):
        return CallFailed("garbage", "broken JSON in the answer")
    return None


def _event(causes: Sequence[BaseException]) -> object:
    """The error object that came inside of a stream, as the openai package keeps it; None for another."""
    for cause in causes:
        if type(cause).__name__ == "APIError" and getattr(cause, "response", None) is None:
            return getattr(cause, "body", None)
    return None


def _message(error: BaseException, causes: Sequence[BaseException]) -> str:
    """What the server said, where LiteLLM has read it; else what LiteLLM says."""
    httpx = connection.load()
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            with contextlib.suppress(httpx.StreamError):
                return message_of(cause.response.text)
    return _OPENROUTER.sub(r"\1", _PREFIX.sub("", str(getattr(error, "message", "") or error)))


def _kind(error: BaseException, status: int | None, said: str, litellm: ModuleType) -> FailureKind:
    if isinstance(error, litellm.ContextWindowExceededError):
        return "context_window"
    if isinstance(error, litellm.ContentPolicyViolationError):
        return "content_filter"
    return kind_of(status, said)


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _from_http(causes: Sequence[BaseException]) -> bool:
    """Whether the status is one that a server sent; LiteLLM invents 500 where there was none."""
    return any(isinstance(cause, connection.load().HTTPStatusError) for cause in causes)


def _retry_after(causes: Sequence[BaseException]) -> float | None:
    for cause in causes:
        headers: Any = getattr(cause, "litellm_response_headers", None)
        headers = headers or getattr(getattr(cause, "response", None), "headers", None) or {}
        value = headers.get("retry-after")
        if value:
            return seconds(str(value))
    return None
