"""What LiteLLM raises, as a ``CallFailed``: the real cause stands in the chain behind its exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import ModuleType

from aethr.llm.calls import CallFailed, FailureKind
from aethr.llm.failures_http import broken, causes_of, kind_of

_PREFIX = re.compile(
    r"^(?:litellm\.\w+:\s*|\w+(?:Error|Exception|Timeout):\s*|\w+Exception - |Timeout Error: )+"
)


def failure_of(error: BaseException, litellm: ModuleType, seen: CallFailed | None = None) -> CallFailed:
    """``error`` and its causes in our words. ``litellm`` is the loaded module.

    ``seen`` is what was read of the answer below LiteLLM; it does not always keep that as a cause.
    """
    outer = getattr(error, "original_exception", None) or error
    causes = tuple(causes_of(outer))
    known = (
        _ours(causes) or seen or _missing(causes) or _keyless(causes) or broken(causes) or _garbage(causes)
    )
    if known is not None:
        return known
    status = _status(outer)
    message = _PREFIX.sub("", str(getattr(outer, "message", "") or outer))
    said = " ".join((message, *(str(cause) for cause in causes))).lower()
    kind = _kind(outer, status, said, litellm)
    return CallFailed(kind, message, None if kind in ("timeout", "server") else status)


def _ours(causes: Sequence[BaseException]) -> CallFailed | None:
    """What the server itself said was read here, below LiteLLM."""
    return next((cause for cause in causes if isinstance(cause, CallFailed)), None)


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
        if kind.__name__ == "OpenAIError" and f"{kind.__module__}.".startswith("openai."):
            return CallFailed("auth", str(cause))
    return None


def _garbage(causes: Sequence[BaseException]) -> CallFailed | None:
    if any(isinstance(cause, json.JSONDecodeError) for cause in causes):
        return CallFailed("garbage", "broken JSON in the answer")
    return None


def _kind(error: BaseException, status: int | None, said: str, litellm: ModuleType) -> FailureKind:
    if isinstance(error, litellm.ContextWindowExceededError):
        return "context_window"
    if isinstance(error, litellm.ContentPolicyViolationError):
        return "content_filter"
    return kind_of(status, said)


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None
