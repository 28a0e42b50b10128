"""What HTTP says of a failed call, as a ``CallFailed``: the same for every transport."""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aethr import outside
from aethr.llm import connection
from aethr.llm.calls import CallFailed, FailureKind
from aethr.llm.failures import message_of

_NO_CREDIT = (
    "insufficient_quota",
    "exceeded your current quota",
    "credit balance is too low",
    "insufficient credits",
    "insufficient balance",
)
_FILTERED = ("content_filter", "content management policy", "content_policy_violation", "was flagged")
_REGION = ("unsupported_country_region_territory", "region, or territory", "location is not supported")
_NO_STREAM = ("must be verified to stream",)
_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",  # llama.cpp
    "context length",  # OpenAI, vLLM, LM Studio, Ollama
    "context window",
    "context size",
    "prompt is too long",  # Anthropic
    "prompt too long",  # Ollama
    "maximum prompt length",  # xAI
    "exceeds the maximum number of tokens",  # Gemini
    "longer than the maximum model length",  # older vLLM
)
_BY_STATUS: dict[int, FailureKind] = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "not_found",
    408: "timeout",
    409: "server",  # another request holds a lock: the providers' own SDKs try again
    413: "too_large",
    425: "server",  # too early
    429: "rate_limit",
    504: "timeout",
}
_BY_WORD: Mapping[str, int] = {
    **dict.fromkeys(("ratelimit", "ratelimitexceeded", "toomanyrequests", "resourceexhausted"), 429),
    **dict.fromkeys(("overloaded", "serviceunavailable", "unavailable", "serveroverloaded"), 503),
    **dict.fromkeys(("server", "internal", "internalserver", "api", "unknown"), 500),
    **dict.fromkeys(("timeout", "requesttimeout", "deadlineexceeded", "gatewaytimeout"), 504),
    **dict.fromkeys(("authentication", "invalidapikey", "unauthenticated", "unauthorized"), 401),
    **dict.fromkeys(("permission", "permissiondenied", "forbidden", "requestforbidden"), 403),
    **dict.fromkeys(("insufficientquota", "insufficientcredits", "billing", "paymentrequired"), 402),
    **dict.fromkeys(("notfound", "modelnotfound"), 404),
    **dict.fromkeys(("requesttoolarge", "payloadtoolarge"), 413),
    **dict.fromkeys(("invalidrequest", "invalidargument", "badrequest", "failedprecondition"), 400),
    **dict.fromkeys(("contextlengthexceeded", "exceedcontextsize", "invalidprompt"), 400),
    **dict.fromkeys(("contentfilter", "contentpolicyviolation"), 400),
}
"""The status that stands behind the word of an error which came with none, as ``_word`` spells it."""


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
        (httpx.ConnectError, "connection", ""),
        (httpx.ProxyError, "connection", ""),
        (TimeoutError, "silent", "the server fell silent"),
        (httpx.TimeoutException, "silent", "the server fell silent"),
        (ConnectionError, "lost", "connection reset"),
        (httpx.RemoteProtocolError, "lost", "the connection closed inside the answer"),
        (httpx.TransportError, "lost", ""),
    )
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT:  # not of a timeout that was set
            return CallFailed("lost", "the server is gone: it answers no keepalive")
        for kind_of_error, kind, message in table:
            if isinstance(cause, kind_of_error):
                return CallFailed(kind, message or str(cause) or type(cause).__name__)
    return None


def kind_of(status: int | None, said: str) -> FailureKind:
    """What a status means together with the words of the answer, ``said`` in lower case."""

    def says(words: Sequence[str]) -> bool:
        return any(word in said for word in words)

    if status in (None, 400, 413, 422, 500) and says(_TOO_LONG):
        return "context_window"
    if status in (None, 400, 403) and says(_FILTERED):
        return "content_filter"
    if status in (None, 400, 403) and says(_REGION):
        return "region"
    if status in (None, 400, 402, 403, 429) and says(_NO_CREDIT):
        return "quota"
    if status == 400 and says(_NO_STREAM):
        return "no_stream"
    if status is None:
        return "server"
    return _BY_STATUS.get(status, "server" if status >= 500 else "bad_request")


def refused(status: int, headers: Mapping[str, str], body: str) -> CallFailed:
    """An answer whose status is no success, by the start of its body."""
    if 300 <= status < 400 and headers.get("location"):
        return CallFailed("not_found", f"it redirects to {headers['location']}", status)
    kind = kind_of(status, body.lower())
    if status == 400 and _parameter(body) == "stream":
        kind = "no_stream"
    return CallFailed(kind, message_of(body), status, _wait(headers))


def error_in(data: Mapping[str, Any]) -> CallFailed | None:
    """The error that an object in an answer with status 200 reports; None for what reports none."""
    error = data.get("error")
    if error:
        return error_event({**data, **error} if isinstance(error, dict) else data)
    if data.get("object") == "error" or data.get("type") == "error":  # vLLM; OpenAI's Responses
        return error_event(data)
    answers = any(name in data for name in ("choices", "message", "candidates", "response", "type"))
    if not answers and any(data.get(name) for name in ("detail", "errors", "fault")):  # FastAPI, gateways
        return error_event(data)
    if isinstance(data.get("message"), str) and any(name in data for name in ("code", "status")):
        return error_event(data)
    return None


def error_event(error: Mapping[str, Any]) -> CallFailed:
    """An error object inside of an answer; its code counts as a status where it is one, or means one."""
    try:
        text = json.dumps(error)
    except (RecursionError, ValueError):  # what could just be read may be too deep to be written
        text = ""
    status = next(filter(None, (_status(error.get(name)) for name in ("code", "status", "type"))), None)
    kind = kind_of(status, text.lower())
    return CallFailed(kind, message_of(text), None if kind in ("server", "timeout") else status)


def _wait(headers: Mapping[str, str]) -> float | None:
    """OpenAI says it in milliseconds too, and means those."""
    exact = outside.retry_after_s(headers.get("retry-after-ms", ""))
    return outside.retry_after_s(headers.get("retry-after", "")) if exact is None else exact / 1000


def _status(code: object) -> int | None:
    """A number, digits or a word (``rate_limit_exceeded``, ``UNAVAILABLE``) as an HTTP status."""
    if isinstance(code, str):
        if re.fullmatch(r"[45][0-9][0-9]", code.strip()):
            return int(code)
        return _BY_WORD.get(_word(code))
    return int(code) if isinstance(code, int | float) and 400 <= code < 600 else None


def _word(code: str) -> str:
    """``RateLimitError`` and ``rate_limit_error`` are one word."""
    letters = "".join(filter(str.isalpha, code.lower()))
    return letters.removesuffix("exception").removesuffix("error")


def _parameter(body: str) -> object:
    try:
        return outside.at(outside.json_value(body), "error", "param")
    except ValueError:
        return None
