"""What models cost and hold, from the price file that LiteLLM ships, without importing LiteLLM."""

from __future__ import annotations

import datetime
import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aethr import outside
from aethr.providers import provider_of, split

FILE = "model_prices_and_context_window_backup.json"

SOON_DAYS = 90
"""So long before a model retires it is said."""

_PROVIDER = re.compile(r'"litellm_provider"\s*:\s*"([\w.-]+)"')
_OBJECT = re.compile(r"\s*:\s*(?=\{)")


class Price(NamedTuple):
    """US dollars a token, and sizes in tokens; None is unknown.

    A price of zero counts as unknown, except on a server of one's own: the file has zeros for models in
    preview and for free tiers. What a call costs is in ``costs``: these are the prices of short prompts.
    """

    input_usd: float | None = None
    output_usd: float | None = None
    window: int | None = None
    max_output: int | None = None


def lookup(model_name: str) -> Price | None:
    """The row of ``provider:model``; None for a model that the file does not know."""
    found = row(model_name)
    if found is None:
        return None
    keys = ("input_cost_per_token", "output_cost_per_token", "max_input_tokens", "max_output_tokens")
    asked, answered, window, output = (outside.amount(found.get(key)) for key in keys)
    either = outside.amount(found.get("max_tokens")) or 0
    known = asked or answered or not provider_of(model_name).needs_key
    return Price(
        asked if known else None,
        answered if known else None,
        int(window or either) or None,
        int(output or either) or None,
    )


def retires(model_name: str) -> datetime.date | None:
    """The day on which its provider shuts ``provider:model`` down; None where the file has none.

    A name without a date of its own stands for one of its snapshots (``gpt-5-mini`` for
    ``gpt-5-mini-2025-08-07``): it retires with the last of them, once all of them have a date.
    """
    found = row(model_name)
    if found is None:
        return None
    if (own := _date(found.get("deprecation_date"))) is not None:
        return own
    _, model = split(model_name)
    names = set(re.findall(rf'"({re.escape(model)}-\d{{4}}-?\d{{2}}-?\d{{2}})"', _text()))
    rows = [row(f"{provider_of(model_name).name}:{name}") for name in names]
    dates = [_date(each.get("deprecation_date")) for each in rows if each is not None]
    known = [date for date in dates if date is not None]
    return max(known) if known and len(known) == len(dates) else None


def retirement(model_name: str, today: datetime.date) -> str | None:
    """A line on a model that retires within ``SOON_DAYS``, or has done so; None for any other."""
    date = retires(model_name)
    if date is None or (date - today).days > SOON_DAYS:
        return None
    return f"{model_name} {'retires' if date >= today else 'was retired'} on {date} (by LiteLLM's price file)"


def providers() -> frozenset[str]:
    """The names of all providers that the file has a model of."""
    return frozenset(_PROVIDER.findall(_text()))


@functools.cache
def row(model_name: str) -> Mapping[str, Any] | None:
    """The file's own row of ``provider:model``; None for a model that it does not know.

    LiteLLM keeps some models under ``prefix/model`` and some under the bare name of one provider.
    """
    _, model = split(model_name)
    prefix = provider_of(model_name).prefix
    family = prefix.removesuffix("_chat")
    for name in (f"{prefix}/{model}", f"{family}/{model}", model):
        found = _found(name)
        if found.get("litellm_provider") in (prefix, family):
            return found
    return None


def _date(value: object) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _found(name: str) -> Mapping[str, Any]:
    """The object that follows ``name``, empty where none does. All of the file is 3 MB: one row is read."""
    text, quoted = _text(), json.dumps(name)
    at = text.find(quoted)
    while at >= 0:
        follows = _OBJECT.match(text, at + len(quoted))
        if follows is not None:
            return _object(text, follows.end())
        at = text.find(quoted, at + 1)
    return {}


def _object(text: str, at: int) -> Mapping[str, Any]:
    try:
        found, _ = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def _text() -> str:
    """The file, read once a process; empty where it is missing."""
    spec = importlib.util.find_spec("litellm")
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    files = [file for folder in folders if (file := Path(folder, FILE)).is_file()]
    try:
        return files[0].read_text(encoding="utf-8", errors="replace") if files else ""
    except OSError:
        return ""
