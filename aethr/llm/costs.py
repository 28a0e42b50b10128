"""What an answer cost by LiteLLM's price file, for the prices whose rules are known here (pure).

Cached tokens and those written to a cache have prices of their own, and some models cost more in a long
prompt. A row with any other rule is not ``understood``: only LiteLLM can price it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr.llm.prices import lookup, number, row
from aethr.providers import provider_of

_INPUT = "input_cost_per_token"
_OUTPUT = "output_cost_per_token"
_CACHED = "cache_read_input_token_cost"
_WRITTEN = "cache_creation_input_token_cost"
_BASES = "|".join((_INPUT, _OUTPUT, _CACHED, _WRITTEN))
_ABOVE = re.compile(rf"(?:{_BASES})_above_((\d+)(k?)_tokens)")

_OURS = re.compile(rf"(?:{_BASES})(?:_above_\d+k?_tokens)?")
_NOT_OURS = re.compile(
    rf"(?:{_BASES})\w*_(?:batches|flex|priority|ultrafast|decisions)"  # tiers that nobody asks for here
    r"|(?:in|out)put_cost_per_(?:audio|image)_token"  # text goes in, text comes out
    r"|search_context_cost_per_query|code_interpreter_cost_per_session"
    r"|regional_processing_uplift_multiplier_\w+"  # LiteLLM does not apply it either
)
_ABOUT_MONEY = re.compile(r"cost|pric|multiplier|uplift")


class Tokens(NamedTuple):
    """What a provider counted. ``cached`` and ``written`` (to a cache) are part of ``prompt``."""

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0


def understood(model_name: str) -> bool:
    """Whether ``cost`` knows every rule of the model's price; also True where it has no price."""
    money = [key for key in row(model_name) or {} if _ABOUT_MONEY.search(key)]
    return all(_OURS.fullmatch(key) or _NOT_OURS.fullmatch(key) for key in money)


def cost(model_name: str, tokens: Tokens) -> float | None:
    """US dollars; None where the price is unknown or has rules that are."""
    price, rates = lookup(model_name), row(model_name)
    if price is None or rates is None or price.input_usd is None or price.output_usd is None:
        return None
    if not understood(model_name):
        return None
    long = _surcharge(rates, tokens.prompt, inclusive=provider_of(model_name).name == "xai")
    asked = _rate(rates, _INPUT, long) or 0.0
    cached = _rate(rates, _CACHED, long)
    written = _rate(rates, _WRITTEN, long)
    fresh = max(0, tokens.prompt - tokens.cached - tokens.written)
    prompt = fresh * asked
    prompt += tokens.cached * (asked if cached is None else cached)
    prompt += tokens.written * (asked if written is None else written)
    return prompt + tokens.completion * (_rate(rates, _OUTPUT, long) or 0.0)


def _surcharge(rates: Mapping[str, Any], prompt: int, *, inclusive: bool) -> tuple[str, ...]:
    """The endings of the keys that hold for so long a prompt, the longest first."""
    found = {}
    for match in filter(None, map(_ABOVE.fullmatch, rates)):
        found[int(match[2]) * (1000 if match[3] else 1)] = match[1]
    above = [size for size in found if prompt > size or (inclusive and prompt == size)]
    return tuple(f"_above_{found[size]}" for size in sorted(above, reverse=True))


def _rate(rates: Mapping[str, Any], base: str, long: tuple[str, ...]) -> float | None:
    return next((rate for end in (*long, "") if (rate := number(rates, base + end)) is not None), None)
