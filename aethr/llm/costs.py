"""What an answer cost, and what it can cost, by LiteLLM's price file, for the rules known here (pure).

Cached tokens and those written to a cache have prices of their own, and some models cost more in a long
prompt. A row with any other rule is not ``understood``: what its calls cost is unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr import outside
from aethr.llm.prices import lookup, row
from aethr.providers import provider_of

_INPUT = "input_cost_per_token"
_OUTPUT = "output_cost_per_token"
_CACHED = "cache_read_input_token_cost"
_WRITTEN = "cache_creation_input_token_cost"
_SAME = {"output_cost_per_reasoning_token": _OUTPUT, "input_cost_per_token_cache_hit": _CACHED}
"""Keys that are understood while they say the same as another one."""
_BASES = "|".join((_INPUT, _OUTPUT, _CACHED, _WRITTEN))
_ABOVE = re.compile(rf"(?:{_BASES})_above_((\d+)(k?)_tokens)")

_OURS = re.compile(rf"(?:{_BASES})(?:_above_\d+k?_tokens)?")
_NOT_OURS = re.compile(
    rf"(?:{_BASES})\w*_(?:batches|flex|priority|ultrafast|decisions)"  # tiers that nobody asks for here
    rf"|{_WRITTEN}_above_\d+hr\w*"  # caches that live longer, for which one has to ask as well
    r"|(?:in|out)put_cost_per_(?:audio|image|video)\w*"  # text goes in, text comes out
    r"|cache_read_input_audio_token_cost\w*"
    r"|\w+_cost_per_(?:query|session)"  # searches and other tools of the provider
    # For data that has to stay in a region, which is not asked for here either.
    r"|regional_processing_uplift_multiplier_\w+|fedramp_uplift_multiplier"
)
_SEARCH = "search_context_cost_per_query"
"""Charged for a search: by some providers in each call, elsewhere only where one asks for it."""
_ABOUT_MONEY = re.compile(r"cost|pric|multiplier|uplift")


class Tokens(NamedTuple):
    """What a provider counted. ``cached`` and ``written`` (to a cache) are part of ``prompt``."""

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0


class Rates(NamedTuple):
    """US dollars for a token of a prompt, and for one of an answer."""

    prompt: float
    completion: float

    def cost(self, prompt: int, completion: int) -> float:
        return prompt * self.prompt + completion * self.completion


def understood(model_name: str) -> bool:
    """Whether every rule of the model's price is known here; also True where it has no price."""
    rates = row(model_name) or {}
    if provider_of(model_name).always_searches and _SEARCH in rates:
        return False
    money = [key for key in rates if _ABOUT_MONEY.search(key)]
    return all(
        _OURS.fullmatch(key)
        or _NOT_OURS.fullmatch(key)
        or (key in _SAME and rates[key] == rates.get(_SAME[key]))
        for key in money
    )


def cost(model_name: str, tokens: Tokens) -> float | None:
    """US dollars; None where the price is unknown or has rules that are."""
    rates = _priced(model_name)
    if rates is None:
        return None
    long = _surcharge(rates, tokens.prompt, inclusive=provider_of(model_name).long_from)
    asked = _rate(rates, _INPUT, long) or 0.0
    cached = _rate(rates, _CACHED, long)
    written = _rate(rates, _WRITTEN, long)
    fresh = max(0, tokens.prompt - tokens.cached - tokens.written)
    prompt = fresh * asked
    prompt += tokens.cached * (asked if cached is None else cached)
    prompt += tokens.written * (asked if written is None else written)
    return prompt + tokens.completion * (_rate(rates, _OUTPUT, long) or 0.0)


def dearest(model_name: str, prompt: int) -> Rates | None:
    """The most that a token can cost in a call whose prompt has at most so many tokens; None as in ``cost``.

    A provider may write all of a prompt to its cache, unasked, and for some that costs more than to read it.
    """
    rates = _priced(model_name)
    if rates is None:
        return None
    endings = ("", *_surcharge(rates, prompt, inclusive=True))

    def most(*bases: str) -> float:
        return max(outside.amount(rates.get(base + end)) or 0.0 for base in bases for end in endings)

    return Rates(most(_INPUT, _CACHED, _WRITTEN), most(_OUTPUT))


def stated(model_name: str, usage: Mapping[str, Any]) -> float | None:
    """US dollars that the provider states in ``usage``; None where it states none, or no sound number."""
    read = provider_of(model_name).stated_cost
    return read(usage) if read is not None else None


def _priced(model_name: str) -> Mapping[str, Any] | None:
    """The row of a model whose price is known with all of its rules."""
    price = lookup(model_name)
    known = price is not None and price.input_usd is not None and price.output_usd is not None
    return row(model_name) if known and understood(model_name) else None


def _surcharge(rates: Mapping[str, Any], prompt: int, *, inclusive: bool) -> tuple[str, ...]:
    """The endings of the keys that hold for so long a prompt, the longest first."""
    found = {}
    for match in filter(None, map(_ABOVE.fullmatch, rates)):
        found[int(match[2]) * (1000 if match[3] else 1)] = match[1]
    above = [size for size in found if prompt > size or (inclusive and prompt == size)]
    return tuple(f"_above_{found[size]}" for size in sorted(above, reverse=True))


def _rate(rates: Mapping[str, Any], base: str, long: tuple[str, ...]) -> float | None:
    found = (outside.amount(rates.get(base + end)) for end in (*long, ""))
    return next((rate for rate in found if rate is not None), None)
