"""A failed call as one line: which model, what happened, how to mend it (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aethr import outside
from aethr.errors import ModelError
from aethr.llm.calls import CallFailed, Endpoint, FailureKind
from aethr.llm.endpoints import shown
from aethr.providers import provider_of
from aethr.sanitize import redact

KEY_CHARS = 6
"""Shorter "keys" are placeholders for servers that want none; as words they occur in any text."""

READ_CHARS = 10_000
SHOWN_CHARS = 300
"""How much of a provider's own text an error line shows."""

_WHAT: Mapping[FailureKind, str] = {
    "auth": "the key was refused",
    "not_found": "no such model or address",
    "bad_request": "the request was refused",
    "context_window": "the prompt is too long for the model's window",
    "rate_limit": "too many requests",
    "quota": "no credit left",
    "too_large": "the request is too large for the server",
    "region": "the provider does not serve this place",
    "no_stream": "the provider does not stream for this account",
    "server": "the provider failed",
    "connection": "no connection",
    "proxy": "no connection",
    "lost": "no connection",
    "tls": "no secure connection",
    "timeout": "no answer in time",
    "deadline": "no answer in time",
    "silent": "no answer in time",
    "cut": "the answer was cut off",
    "garbage": "the answer is not in the protocol",
    "empty": "the answer is empty",
    "all_thought": "the answer is empty",
    "content_filter": "the provider's content filter refused",
    "refusal": "the model refused to answer",
    "install": "a package is missing",
}

_DEEPEST = 6
"""How far an error object is looked into: servers wrap that of another one, some several times."""
_LIKE_A_KEY = re.compile(r"\b(?:(?:sk|key|xai|gsk)[-_]|AIza)[\w*.-]{8,}")
_BYTES = re.compile(r"b'(\{.*\})'", re.DOTALL)
"""A Python bytes literal: LiteLLM shows some providers' bodies so."""

_SHORTER = "Lower the step's context_chars, name fewer context sources, or use a model with a larger window."
_AT: frozenset[FailureKind] = frozenset({"not_found", "connection", "lost", "proxy", "tls", "garbage"})
_LATER = "Try again later with the resume command."
_FIX: Mapping[FailureKind, str] = {
    "auth": "Check {key}; `aethr auth login {provider}` replaces it.",
    "not_found": "Check the model's name in the workflow{base}.",
    "bad_request": "Check the model's name and settings in the workflow.",
    "context_window": f"{_SHORTER[:-1]}; a lower max_tokens leaves the prompt more room.",
    "rate_limit": "Wait, then continue with the resume command.",
    "quota": "Check the plan and billing of the account that {key} belongs to.",
    "too_large": _SHORTER,
    "region": "Use a model that is served where this runs.",
    "no_stream": "Verify the organization at the provider, or use another model.",
    "server": _LATER,
    "connection": "Check the network{base}, then continue with the resume command.",
    "proxy": "Check the proxy's address, user and password in that variable.",
    "lost": "Check the network{base}, then continue with the resume command.",
    "tls": "Check the server's certificate{base}.",
    "timeout": _LATER,
    "deadline": "Raise the model's timeout_s, then continue with the resume command.",
    "silent": "Check the server, then continue with the resume command.",
    "cut": _LATER,
    "garbage": "Check the model's name{base}: a model server must stand there.",
    "empty": "Try again, or use another model.",
    "all_thought": "Raise the model's max_tokens, or lower its effort.",
    "content_filter": "Look at what the context sends, or use another model.",
    "refusal": "Look at what the context sends, or use another model.",
    "install": "Install it beside aethr, or use another model.",
}


def explain(failure: CallFailed, model_name: str, endpoint: Endpoint) -> ModelError:
    """The error that a user sees: its key never appears in it, its base address where that matters."""
    status = f" ({failure.status})" if failure.status is not None else ""
    address = shown(endpoint.base) if endpoint.base is not None and failure.kind in _AT else ""
    where = f" at {address}" if address else ""
    said = tidy(failure.message, [endpoint.key or ""])
    line = f"{model_name}: {_WHAT[failure.kind]}{where}{status}" + (f": {said}" if said else "")
    return ModelError(line, fix=_fix(failure.kind, model_name, endpoint))


def headline(failure: CallFailed) -> str:
    """A few words for the line that announces another try."""
    if failure.status is not None:
        return f"answered {failure.status}"
    return failure.message if failure.kind in ("connection", "lost") else _WHAT[failure.kind]


def too_long(step: str, model_name: str, tokens: int, window: int) -> ModelError:
    """The prompt cannot fit; nothing was sent."""
    return ModelError(
        f"{model_name}: the prompt of step '{step}' is too long for the model's window: "
        f"{tokens:,} tokens, the window holds {window:,}; {tokens - window:,} have to go",
        fix=_SHORTER,
    )


def tidy(text: str, secrets: Sequence[str] = ()) -> str:
    """A provider's text made fit for one line: its message alone, no HTML, no key, no line break."""
    text = _redacted(message_of(_redacted(text, secrets)[:READ_CHARS]), secrets)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def message_of(text: str) -> str:
    """The message inside of an error page or an error object, else the text itself."""
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
    return _said(found) or text


def _said(error: object, depth: int = 0) -> str:
    """The words of an error, in whichever of the usual places they stand; empty where in none.

    OpenRouter's own message is only that its provider failed: the reason is in ``metadata.raw``.
    """
    if depth > _DEEPEST or not isinstance(error, dict | list):
        return error if isinstance(error, str) else ""
    if isinstance(error, list):
        return next(filter(None, (_said(each, depth + 1) for each in error)), "")
    inner = (error.get(name) for name in ("error", "message", "detail", "errors", "fault", "msg"))
    message = next(filter(None, (_said(each, depth + 1) for each in inner)), "")
    raw = outside.at(error, "metadata", "raw")
    reason = message_of(raw) if isinstance(raw, str) else _said(raw, depth + 1)
    return f"{message}: {reason}" if message and reason and reason not in message else message or reason


def _redacted(text: str, secrets: Sequence[str]) -> str:
    text = redact(text)  # first: what only looks like a key may be a part of one
    for secret in secrets:
        if len(secret) >= KEY_CHARS:
            text = text.replace(secret, "[key]")
    return _LIKE_A_KEY.sub("[key]", text)


def _fix(kind: FailureKind, model_name: str, endpoint: Endpoint) -> str:
    provider = provider_of(model_name)
    key = provider.keys[0] if provider.needs_key else f"the key of {provider.name}"
    base = f" and {provider.base_variables[0]}" if provider.listed and endpoint.base is not None else ""
    if kind == "auth" and not provider.needs_key:
        return f"Check {key} in the environment."
    return _FIX[kind].format(key=key, provider=provider.name, base=base)
