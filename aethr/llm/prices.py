"""What models cost and hold, from the price file that LiteLLM ships, without importing LiteLLM."""

from __future__ import annotations

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

_PROVIDER = re.compile(r'"litellm_provider"\s*:\s*"([\w.-]+)"')
_OBJECT = re.compile(r"\s*:\s*(?=\{)")


class Price(NamedTuple):
    """US dollars a token, and sizes in tokens; None is unknown.

    A price of zero counts as unknown, except on a server of one's own: the file has zeros for models in
    preview and for free tiers. Prices that rise for long prompts are given as they are for short ones.
    """

    input_usd: float | None = None
    output_usd: float | None = None
    window: int | None = None
    max_output: int | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars for these tokens, None where a price is unknown."""
        if self.input_usd is None or self.output_usd is None:
            return None
        return prompt_tokens * self.input_usd + completion_tokens * self.output_usd


def lookup(model_name: str) -> Price | None:
    """The row of ``provider:model``; None for a model that the file does not know."""
    found = row(model_name)
    if found is None:
        return None
    prices = (number(found, "input_cost_per_token"), number(found, "output_cost_per_token"))
    known = any(prices) or not provider_of(model_name).keys
    window = number(found, "max_input_tokens") or number(found, "max_tokens")
    output = number(found, "max_output_tokens") or number(found, "max_tokens")
    return Price(
        prices[0] if known else None,
        prices[1] if known else None,
        int(window) if window else None,
        int(output) if output else None,
    )


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


def number(row: Mapping[str, Any], key: str) -> float | None:
    """The number under ``key``, None where there is none."""
    return outside.number(row.get(key))


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
