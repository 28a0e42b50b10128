"""What a failed call means, as HTTP or LiteLLM reports it: one line with the cause, and a fix (pure)."""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from aethr.base import outside
from aethr.base.errors import ModelError
from aethr.base.providers import PACKAGES, provider_of
from aethr.base.sanitize import redact
from aethr.llm import CallFailed, Endpoint, FailureKind, connection
from aethr.llm.routes import public_address

KEY_CHARS = 6
"""Shorter "keys" are placeholders for servers without keys, and words that occur in any text."""

READ_CHARS = 10_000
SHOWN_CHARS = 300
"""How much of a provider's own text an error line shows."""

_DEEPEST = 6
"""Levels of an error object that are searched: servers wrap each other's errors, some several times."""
_LIKE_A_KEY = re.compile(r"\b(?:(?:sk|key|xai|gsk)[-_]|AIza)[\w*.-]{8,}")
_BYTES = re.compile(r"b'(\{.*\})'", re.DOTALL)
"""A Python bytes literal: LiteLLM shows the bodies of some providers in this form."""

_SHORTER = "Lower the step's context_chars, name fewer context sources, or use a model with a larger window."
_AT: frozenset[FailureKind] = frozenset({"not_found", "connection", "lost", "proxy", "tls", "garbage"})
_LATER = "Try again later with the resume command."
_TEXTS: Mapping[FailureKind, tuple[str, str]] = {
    "auth": ("the key was refused", "Check {key}; `aethr auth login {provider}` replaces it."),
    "not_found": ("no such model or address", "Check the model's name in the workflow{base}."),
    "bad_request": ("the request was refused", "Check the model's name and settings in the workflow."),
    "context_window": (
        "the prompt is too long for the model's window",
        f"{_SHORTER[:-1]}; a lower max_tokens leaves the prompt more room.",
    ),
    "rate_limit": ("too many requests", "Wait, then continue with the resume command."),
    "quota": ("no credit left", "Check the plan and billing of the account that {key} belongs to."),
    "too_large": ("the request is too large for the server", _SHORTER),
    "region": ("the provider does not serve this place", "Use a model that is served where this runs."),
    "no_stream": (
        "the provider does not stream for this account",
        "Verify the organization at the provider, or use another model.",
    ),
    "server": ("the provider failed", _LATER),
    "connection": ("no connection", "Check the network{base}, then continue with the resume command."),
    "proxy": ("no connection", "Check the proxy's address, user and password in that variable."),
    "lost": ("no connection", "Check the network{base}, then continue with the resume command."),
    "tls": ("no secure connection", "Check the server's certificate{base}."),
    "timeout": ("no answer in time", _LATER),
    "deadline": ("no answer in time", "Raise the model's timeout_s, then continue with the resume command."),
    "silent": ("no answer in time", "Check the server, then continue with the resume command."),
    "cut": ("the answer was cut off", _LATER),
    "garbage": (
        "the answer is not in the protocol",
        "Check the model's name{base}: a model server must stand there.",
    ),
    "broken": ("the model broke off its answer", _LATER),
    "empty": ("the answer is empty", "Try again, or use another model."),
    "all_thought": ("the answer is empty", "Raise the model's max_tokens, or lower its reasoning_effort."),
    "content_filter": (
        "the provider's content filter refused",
        "Look at what the context sends, or use another model.",
    ),
    "refusal": ("the model refused to answer", "Look at what the context sends, or use another model."),
    "install": ("a package is missing", "Install it beside aethr, or use another model."),
}
"""What happened, and how to fix it."""


def explain(failure: CallFailed, model_name: str, endpoint: Endpoint) -> ModelError:
    """The error that a user sees: without the key, and with the base address if that helps."""
    kind, provider = failure.kind, provider_of(model_name)
    what, fix = _TEXTS[kind]
    status = f" ({failure.status})" if failure.status is not None else ""
    where = f" at {public_address(endpoint.base)}" if endpoint.base is not None and kind in _AT else ""
    cause = tidy(failure.message, [endpoint.key or ""])
    line = f"{model_name}: {what}{where}{status}" + (f": {cause}" if cause else "")
    key = provider.keys[0] if provider.needs_key else f"the key of {provider.name}"
    base = f" and {provider.base_variables[0]}" if provider.listed and endpoint.base is not None else ""
    fix = fix.format(key=key, provider=provider.name, base=base)
    if kind == "auth" and not provider.needs_key:  # such a key is not in .env
        fix = f"Check {key} in the environment."
    return ModelError(line, fix=fix)


def headline(failure: CallFailed) -> str:
    """A few words for the line that announces a retry."""
    if failure.status is not None:
        return f"answered {failure.status}"
    return failure.message if failure.kind in ("connection", "lost") else _TEXTS[failure.kind][0]


def too_long(step: str, model_name: str, tokens: int, window: int) -> ModelError:
    """The error for a prompt that is longer than the window; nothing was sent."""
    return ModelError(
        f"{model_name}: the prompt of step '{step}' is too long for the model's window: "
        f"{tokens:,} tokens, the window holds {window:,}; {tokens - window:,} have to go",
        fix=_SHORTER,
    )


def tidy(text: str, secrets: Sequence[str] = ()) -> str:
    """A provider's text as one line: only its message, without traceback, HTML, keys and line breaks."""
    before, traceback, inside = text.partition("Traceback (most recent call last)")
    if traceback:  # LiteLLM adds one to some errors
        text = before.strip() or inside.strip().rpartition("\n")[2]
    text = _redacted(message_of(_redacted(text, secrets)[:READ_CHARS]), secrets)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def message_of(text: str) -> str:
    """The message in an error page or an error object, else the text itself."""
    if re.search(r"<!doctype|<html|<head|<body", text[:2000], re.IGNORECASE):
        title = re.search(r"<title>(.*?)</title>", text[:5000], re.IGNORECASE | re.DOTALL)
        return "an HTML page" + (f": '{title.group(1).strip()}'" if title else "")
    text = _BYTES.sub(lambda found: found.group(1).replace("\\'", "'"), text)
    start = text.find("{")
    if start < 0:
        return text
    try:
        found = outside.json_value(text[start : text.rindex("}") + 1])
    except ValueError:
        return text
    return _message_in(found) or text


def _message_in(error: object, depth: int = 0) -> str:
    """The message in any of the usual places of an error object; empty if it has none.

    OpenRouter's own message only says that its provider failed: the reason is in ``metadata.raw``.
    """
    if depth > _DEEPEST or not isinstance(error, dict | list):
        return error if isinstance(error, str) else ""
    if isinstance(error, list):
        return next(filter(None, (_message_in(each, depth + 1) for each in error)), "")
    inner = (error.get(name) for name in ("error", "message", "detail", "errors", "fault", "msg"))
    message = next(filter(None, (_message_in(each, depth + 1) for each in inner)), "")
    raw = outside.at(error, "metadata", "raw")
    reason = message_of(raw) if isinstance(raw, str) else _message_in(raw, depth + 1)
    return f"{message}: {reason}" if message and reason and reason not in message else message or reason


def _redacted(text: str, secrets: Sequence[str]) -> str:
    text = redact(text)  # first: a secret may be only a part of what looks like a key
    for secret in secrets:
        if len(secret) >= KEY_CHARS:
            text = text.replace(secret, "[key]")
    return _LIKE_A_KEY.sub("[key]", text)


_NO_CREDIT = (
    "insufficient_quota",
    "exceeded your current quota",
    "reached your specified api usage limits",  # Anthropic, for a limit that the user has set
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
    409: "server",  # another request holds a lock: the providers' own SDKs retry
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
"""The status that the word of an error means, in lower case without ``error`` and other signs."""


def iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and its causes, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def transport_failure(causes: Sequence[BaseException]) -> CallFailed | None:
    """A broken connection or body, or a socket's timeout; None if ``causes`` has none of them."""
    httpx = connection.load()
    from aethr.llm.routed import ProxyFailed

    for error in causes:
        if isinstance(error, ProxyFailed):
            inner = transport_failure(tuple(iterate_causes(error.__cause__)))
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
        if isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT:  # not a timeout of ours
            return CallFailed("lost", "the server is gone: it answers no keepalive")
        for kind_of_error, kind, message in table:
            if isinstance(cause, kind_of_error):
                return CallFailed(kind, message or str(cause) or type(cause).__name__)
    return None


_BY_TEXT: tuple[tuple[tuple[int | None, ...], Sequence[str], FailureKind], ...] = (
    ((None, 400, 413, 422, 500), _TOO_LONG, "context_window"),
    ((None, 400, 403), _FILTERED, "content_filter"),
    ((None, 400, 403), _REGION, "region"),
    ((None, 400, 402, 403, 429), _NO_CREDIT, "quota"),
    ((400,), _NO_STREAM, "no_stream"),
)
"""Statuses with several meanings, and the words that tell them apart; the first match counts."""


def kind_of(status: int | None, text: str) -> FailureKind:
    """The kind of a status together with the text of the answer, in lower case."""
    for statuses, words, kind in _BY_TEXT:
        if status in statuses and any(word in text for word in words):
            return kind
    if status is None:
        return "server"
    return _BY_STATUS.get(status, "server" if status >= 500 else "bad_request")


def response_failure(status: int, headers: Mapping[str, str], body: str) -> CallFailed:
    """The failure that a status other than 2xx means; ``body`` is the start of the response's body."""
    if 300 <= status < 400 and headers.get("location"):
        return CallFailed("not_found", f"it redirects to {headers['location']}", status)
    try:
        found = outside.json_value(body)
    except ValueError:
        found = None
    error = outside.at(next(iter(found), None) if isinstance(found, list) else found, "error")
    parameter = _parameter_in(found)
    kind = "no_stream" if status == 400 and parameter == "stream" else kind_of(status, body.lower())
    wait_ms = outside.retry_after_s(headers.get("retry-after-ms", ""))  # of OpenAI, which means these
    wait_s = outside.retry_after_s(headers.get("retry-after", "")) if wait_ms is None else wait_ms / 1000
    # What both Anthropic's and OpenAI's own clients obey.
    retry = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    failure = CallFailed(kind, message_of(body), status, wait_s, parameter, retry)
    return _with_quota(failure, error)


def _with_quota(failure: CallFailed, error: object) -> CallFailed:
    """The failure with what Google says about its quotas: when to retry, or that a day is used up.

    It says "exceeded your current quota" for the quota of a minute too, and names a wait even for that of a
    day: https://github.com/googleapis/python-genai/issues/2044
    """
    details = outside.at(error, "details")
    waits, days = list[float | None](), list[str]()
    for detail in details if isinstance(details, list) else []:
        waits.append(outside.retry_after_s(outside.text(outside.at(detail, "retryDelay")).removesuffix("s")))
        found = outside.at(detail, "violations")
        ids = [outside.text(outside.at(each, "quotaId")) for each in found] if isinstance(found, list) else []
        days += [each for each in ids if "PerDay" in each]
    wait_s = next((wait for wait in waits if wait is not None), None)
    if failure.kind not in ("quota", "rate_limit") or (wait_s is None and not days):
        return failure
    failure.kind = "rate_limit"
    if days:
        failure.message += f" (the quota of the day is used up: {days[0]})"
        failure.retry = False
    elif failure.retry_after_s is None:
        failure.retry_after_s = wait_s
    return failure


def _parameter_in(found: object) -> str:
    """The name in the request that an answer refuses: OpenAI's ``param``, or FastAPI's location."""
    details = outside.at(found, "detail")
    where = outside.at(next(iter(details), None) if isinstance(details, list) else None, "loc")
    last = where[-1] if isinstance(where, list) and where else None
    named = (outside.at(found, "error", "param"), outside.at(found, "param"), last)
    return next((name for name in named if isinstance(name, str)), "")


def error_in(data: Mapping[str, Any]) -> CallFailed | None:
    """The error that an object in an answer with status 200 reports; None if it reports none."""
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
    """The failure that an error object in an answer means; its code counts if it is or names a status."""
    try:
        text = json.dumps(error)
    except (RecursionError, ValueError):  # JSON that can just be read may be too deep to write
        text = ""
    status = next(filter(None, (_status(error.get(name)) for name in ("code", "status", "type"))), None)
    kind = kind_of(status, text.lower())
    failure = CallFailed(kind, message_of(text), None if kind in ("server", "timeout") else status)
    return _with_quota(failure, error)


def _status(code: object) -> int | None:
    """A number, digits or a word (``rate_limit_exceeded``, ``UNAVAILABLE``) as an HTTP status."""
    if isinstance(code, int | float):
        return int(code) if 400 <= code < 600 else None
    if not isinstance(code, str):
        return None
    if re.fullmatch(r"[45][0-9][0-9]", code.strip()):
        return int(code)
    letters = "".join(filter(str.isalpha, code.lower()))  # RateLimitError is rate_limit_error
    return _BY_WORD.get(letters.removesuffix("exception").removesuffix("error"))


_PREFIX = re.compile(
    r"^(?:litellm\.\w+:\s*|\w+(?:Error|Exception|Timeout):\s*"
    r"|(?:\w+|GetLLMProvider )Exception - |Timeout Error: )+"
)


def failure_of(error: BaseException, litellm: ModuleType, seen: CallFailed | None = None) -> CallFailed:
    """The failure that LiteLLM's ``error`` reports. ``litellm`` is the loaded module.

    ``seen`` is a failure that was read below LiteLLM, which does not always keep it as a cause.
    """
    outer = getattr(error, "original_exception", None) or error
    causes = tuple(iterate_causes(outer))
    known = _failure_in(causes, seen)
    if known is not None:
        return known
    status = getattr(outer, "status_code", None)
    status = status if isinstance(status, int) else None
    message = _PREFIX.sub("", str(getattr(outer, "message", "") or outer))
    kind = kind_of(status, " ".join((message, *(str(cause) for cause in causes))).lower())
    if isinstance(outer, litellm.ContextWindowExceededError):
        kind = "context_window"
    elif isinstance(outer, litellm.ContentPolicyViolationError):
        kind = "content_filter"
    return CallFailed(kind, message, None if kind in ("timeout", "server") else status)


def _describe_missing(module: str) -> str:
    """The package with that module, by its name on PyPI, which is often another one."""
    known = (each for each in PACKAGES if f"{each.module}.".startswith(f"{module}."))
    package = next(known, None)
    if package is None:
        return f"LiteLLM needs the module '{module}' for it"
    return f"LiteLLM needs {package.name} for it; `{package.command}` installs it"


_WITHOUT_CREDENTIALS = frozenset(
    {
        # The openai package raises its base class for a client without credentials only, never for a call.
        # LiteLLM has a class of the same name, for every answer that OpenAI's protocol refuses.
        ("openai", "OpenAIError"),
        ("google", "DefaultCredentialsError"),
        ("google", "RefreshError"),
        ("azure", "ClientAuthenticationError"),
        ("botocore", "NoCredentialsError"),
    }
)
"""Errors that mean missing or refused credentials, by package and class."""


def _failure_in(causes: Sequence[BaseException], seen: CallFailed | None) -> CallFailed | None:
    """The failure that is known without LiteLLM's classes: first the one that was read below it."""
    ours = next((cause for cause in causes if isinstance(cause, CallFailed)), seen)
    if ours is not None:
        return ours
    for cause in reversed(causes):
        if isinstance(cause, ModuleNotFoundError):
            return CallFailed("install", _describe_missing(cause.name or str(cause)))
    for cause in causes:
        kind = type(cause)
        if (kind.__module__.partition(".")[0], kind.__name__) in _WITHOUT_CREDENTIALS:
            return CallFailed("auth", str(cause))
    failure = transport_failure(causes)
    if failure is None and any(isinstance(cause, json.JSONDecodeError) for cause in causes):
        return CallFailed("garbage", "broken JSON in the answer")
    return failure
