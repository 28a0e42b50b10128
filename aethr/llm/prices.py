"""What models cost and hold, from the price file that LiteLLM ships, without importing LiteLLM."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aethr.providers import provider_of, split

FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True)
class Price:
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
    row = _row(model_name)
    if row is None:
        return None
    prices = (_number(row, "input_cost_per_token"), _number(row, "output_cost_per_token"))
    known = any(prices) or not provider_of(model_name).keys
    window = _number(row, "max_input_tokens") or _number(row, "max_tokens")
    output = _number(row, "max_output_tokens") or _number(row, "max_tokens")
    return Price(
        prices[0] if known else None,
        prices[1] if known else None,
        int(window) if window else None,
        int(output) if output else None,
    )


@functools.cache
def table() -> Mapping[str, Mapping[str, Any]]:
    """The whole file, read once a process (about 40 ms); empty where it is missing or damaged."""
    spec = importlib.util.find_spec("litellm")
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    for folder in folders:
        try:
            loaded = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(loaded, dict):
            return loaded
    return {}


def _row(model_name: str) -> Mapping[str, Any] | None:
    """LiteLLM keeps some models under ``prefix/model`` and some under the bare name of one provider."""
    _, model = split(model_name)
    prefix = provider_of(model_name).prefix
    family = prefix.removesuffix("_chat")
    for name in (f"{prefix}/{model}", f"{family}/{model}", model):
        row = table().get(name)
        if isinstance(row, dict) and row.get("litellm_provider") in (prefix, family):
            return row
    return None


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
