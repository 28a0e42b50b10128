"""What calls cost, and the limits on them: prices, estimates of tokens, the most tokens of an answer.

Prices and windows are in the price file of LiteLLM's package, which is read without importing LiteLLM. Tokens
read from a cache and written to one have their own prices, and some models cost more with a long prompt. The
cost of a row with any other rule is unknown here.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base import outside
from aethr.base.errors import BudgetError
from aethr.base.providers import chain, provider_of, split
from aethr.base.records import Allowance, ModelSpec, Request, Usage

FILE = "model_prices_and_context_window_backup.json"

SOON_DAYS = 90
"""A warning is given so many days before a model retires."""

_PROVIDER = re.compile(r'"litellm_provider"\s*:\s*"([\w.-]+)"')
_SUBSET = re.compile(r"-[\w-]*models$|_converse$|_chat$")
_OBJECT = re.compile(r"\s*:\s*(?=\{)")
_SNAPSHOT = r"-\d{4}-?\d{2}-?\d{2}"
"""How the name of a model with a date ends."""


class Price(NamedTuple):
    """US dollars a token, and sizes in tokens; None is unknown.

    A price of zero counts as unknown, except on the user's own server: the file has zeros for models in
    preview and for free tiers. These are the prices of short prompts; ``cost`` gives that of a call.
    """

    input_usd: float | None = None
    output_usd: float | None = None
    window: int | None = None
    max_output: int | None = None


def lookup(model_name: str) -> Price | None:
    """Prices and sizes of ``provider:model``; None if the file does not have the model."""
    found = price_row(model_name)
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
    """The day on which its provider shuts ``provider:model`` down; None if the file does not have it.

    A name without its own date stands for one of its snapshots (``gpt-5-mini`` for
    ``gpt-5-mini-2025-08-07``): it retires with the last of them, once all of them have a date.
    """
    found = price_row(model_name)
    if found is None:
        return None
    if (own := _date(found.get("deprecation_date"))) is not None:
        return own
    names = _snapshots(split(model_name)[1])
    rows = [price_row(f"{provider_of(model_name).name}:{name}") for name in names]
    dates = [_date(each.get("deprecation_date")) for each in rows if each is not None]
    known = [date for date in dates if date is not None]
    return max(known) if known and len(known) == len(dates) else None


def retirement(model_name: str, today: datetime.date) -> str | None:
    """A warning for a model that retires within ``SOON_DAYS``, or has retired; None for any other."""
    date = retires(model_name)
    if date is None or (date - today).days > SOON_DAYS:
        return None
    return f"{model_name} {'retires' if date >= today else 'was retired'} on {date} (by LiteLLM's price file)"


def priced_providers() -> frozenset[str]:
    """The providers of all models in the file, as LiteLLM spells them."""
    return frozenset(_PROVIDER.findall(_text()))


def called_provider(listed: str) -> str:
    """The provider in LiteLLM's name of a model whose row has ``listed`` as its ``litellm_provider``.

    ``bedrock`` for ``bedrock_converse``, ``vertex_ai`` for ``vertex_ai-anthropic_models``.
    """
    return _SUBSET.sub("", listed)


def price_row(model_name: str) -> Mapping[str, Any] | None:
    """The row of ``provider:model`` as it is in the file; None if the file does not have the model."""
    return _locate(model_name)[1]


def served_as(model_name: str) -> str:
    """The ``provider:model`` that is called: some names in the file only stand for another (``alias_of``)."""
    alias, _ = _locate(model_name)
    return model_name if alias is None else f"{split(model_name)[0]}:{alias}"


@functools.cache
def _locate(model_name: str) -> tuple[str | None, Mapping[str, Any] | None]:
    """The model that ``model_name`` stands for, if any, and the row of the one or the other.

    LiteLLM keeps some models under ``prefix/model`` and some under the bare name of one provider.
    """
    model = split(model_name)[1].removeprefix("responses/")  # LiteLLM's mark for its protocol
    prefix = provider_of(model_name).prefix
    family = called_provider(prefix)
    for name in (f"{prefix}/{model}", f"{family}/{model}", model):
        found, alias = _find(name), None
        if isinstance(target := found.get("alias_of"), str):
            found, alias = _find(target), target.removeprefix(f"{prefix}/").removeprefix(f"{family}/")
        if called_provider(str(found.get("litellm_provider"))) == family:
            return alias, found
    return None, None


def is_chat(model_name: str) -> bool:
    """Whether it is a chat model by the price file, or not in it."""
    row = price_row(model_name)
    return row is None or row.get("mode", "chat") == "chat"


def _date(value: object) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


@functools.cache
def all_rows() -> Mapping[str, Mapping[str, Any]]:
    """The file, by the names in it; empty if it is not sound. To parse it takes 0.1 s."""
    try:
        found = json.loads(_text())
    except (ValueError, RecursionError):
        return {}
    rows = found.items() if isinstance(found, dict) else ()
    return {name: row for name, row in rows if isinstance(row, dict)}


@functools.cache
def _all_snapshots() -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name in all_rows():
        if match := re.search(rf"{_SNAPSHOT}$", name):
            found.setdefault(name[: match.start()], []).append(name)
    return found


def _snapshots(model: str) -> Iterable[str]:
    """The names in the file that are ``model`` with a date."""
    if all_rows.cache_info().currsize:
        return _all_snapshots().get(model, ())
    return set(re.findall(rf'"({re.escape(model)}{_SNAPSHOT})"', _text()))


def _find(name: str) -> Mapping[str, Any]:
    """The row of ``name``, or an empty one. Of 3 MB only this row is parsed, unless ``all_rows`` has been."""
    if all_rows.cache_info().currsize:
        return all_rows().get(name, {})
    text, quoted = _text(), json.dumps(name)
    at = text.find(quoted)
    while at >= 0:
        follows = _OBJECT.match(text, at + len(quoted))
        if follows is None:
            at = text.find(quoted, at + 1)
            continue
        try:
            found, _ = json.JSONDecoder().raw_decode(text, follows.end())
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    return {}


@functools.cache
def _text() -> str:
    """The text of the file, read once; empty if it is missing."""
    spec = importlib.util.find_spec("litellm")
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    files = [file for folder in folders if (file := Path(folder, FILE)).is_file()]
    try:
        return files[0].read_text(encoding="utf-8", errors="replace") if files else ""
    except OSError:
        return ""


_INPUT = "input_cost_per_token"
_OUTPUT = "output_cost_per_token"
_CACHED = "cache_read_input_token_cost"
_WRITTEN = "cache_creation_input_token_cost"
_HOUR = "_above_1hr"
_SAME = {"output_cost_per_reasoning_token": _OUTPUT, "input_cost_per_token_cache_hit": _CACHED}
"""Keys that are understood as long as their price is that of another key."""
_BASES = "|".join((_INPUT, _OUTPUT, _CACHED, _WRITTEN))
_ABOVE = re.compile(rf"(?:{_BASES})_above_((\d+)(k?)_tokens)")

_OURS = re.compile(rf"(?:{_BASES}|{_WRITTEN}{_HOUR})(?:_above_\d+k?_tokens)?")
_NOT_OURS = re.compile(
    rf"(?:{_BASES})\w*_(?:batches|flex|priority|ultrafast|decisions)"  # tiers that Aethr does not ask for
    rf"|{_WRITTEN}_above_\d+hr\w*"  # caches that live longer than an hour: on request only
    r"|(?:in|out)put_cost_per_(?:audio|image|video|character)\w*"  # text goes in and out, and tokens count
    r"|cache_read_input_audio_token_cost\w*"
    r"|\w+_cost_per_(?:query|session)"  # searches and other tools of the provider
    # For data that must stay in a region: on request only.
    r"|regional_processing_uplift_multiplier_\w+|fedramp_uplift_multiplier"
)
_SEARCH = "search_context_cost_per_query"
"""The price of a search: some providers make one in each call, others on request only."""
_ON_REQUEST = "fast"
"""The factor that no call has unasked."""
_ABOUT_MONEY = re.compile(r"cost|pric|multiplier|uplift")


class Tokens(NamedTuple):
    """What a provider counted; None where it counted nothing.

    ``cached`` (read from a cache) and ``written`` (to one) are part of ``prompt``, ``thought`` of
    ``completion``. ``written_1h`` is the part of ``written`` that the cache keeps for an hour. ``served``
    says in the provider's words, in lower case, where and how fast it answered.
    """

    prompt: int
    completion: int
    cached: int | None = None
    written: int | None = None
    thought: int | None = None
    written_1h: int = 0
    served: tuple[str, ...] = ()


class Rates(NamedTuple):
    """US dollars for a token of a prompt, and for one of an answer."""

    prompt: float
    completion: float

    def cost(self, prompt: int, completion: int) -> float:
        return prompt * self.prompt + completion * self.completion


def understands_price(model_name: str) -> bool:
    """Whether every rule of the model's price is known here; True for a model without a price."""
    rates = price_row(model_name) or {}
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
    """US dollars; None if the price or one of its rules is unknown."""
    rates = _priced(model_name)
    if rates is None:
        return None
    long = _surcharge(rates, tokens.prompt, inclusive=provider_of(model_name).long_from)
    asked = _rate(rates, _INPUT, long) or 0.0
    cached = _rate(rates, _CACHED, long)
    written = _rate(rates, _WRITTEN, long)
    written = asked if written is None else written
    written_1h = _rate(rates, _WRITTEN + _HOUR, long)
    read, kept = tokens.cached or 0, tokens.written or 0
    prompt = max(0, tokens.prompt - read - kept) * asked
    prompt += read * (asked * provider_of(model_name).cached_share if cached is None else cached)
    prompt += max(0, kept - tokens.written_1h) * written
    prompt += tokens.written_1h * (written if written_1h is None else written_1h)
    answer = tokens.completion * (_rate(rates, _OUTPUT, long) or 0.0)
    return (prompt + answer) * math.prod(_factors(rates).get(word, 1.0) for word in tokens.served)


def charges_for_writes(rates: Mapping[str, Any]) -> bool:
    """Whether a token written to a cache costs more than one of a prompt that is not."""
    written, asked = (outside.amount(rates.get(key)) for key in (_WRITTEN, _INPUT))
    return written is not None and asked is not None and written > asked


def highest_rates(model_name: str, prompt: int) -> Rates | None:
    """The highest rates of a call whose prompt has at most ``prompt`` tokens; None as in ``cost``.

    A provider may write the whole prompt to its cache without being asked, for some at a higher price, and
    choose where it serves the call.
    """
    rates = _priced(model_name)
    if rates is None:
        return None
    endings = ("", *_surcharge(rates, prompt, inclusive=True))
    factor = max([1, *(value for name, value in _factors(rates).items() if name != _ON_REQUEST)])

    def most(*bases: str) -> float:
        return factor * max(outside.amount(rates.get(base + end)) or 0.0 for base in bases for end in endings)

    return Rates(most(_INPUT, _CACHED, _WRITTEN), most(_OUTPUT))


def rates_of(model: ModelSpec, prompt: int) -> Rates | None:
    """The highest rates of a call with the model's options, as ``highest_rates``."""
    return None if repriced_by(model) else highest_rates(model.name, prompt)


def repriced_by(model: ModelSpec) -> str | None:
    """The option of the model that changes what its tokens cost, or adds to it; None if none does.

    A provider that states its cost has counted that.
    """
    given = [name for name in _REPRICING if model.options.get(name) not in (None, "default", "standard_only")]
    return given[0] if given and not states_cost(model.name) else None


_REPRICING = ("service_tier", "speed", "inference_geo", "tools", "web_search_options")
"""Options with a price of their own: tiers, regions, and what the provider does beside the answer."""


def stated_cost(model_name: str, usage: Mapping[str, Any]) -> float | None:
    """US dollars that the provider states in ``usage``; None if it states none or not a valid number."""
    read = provider_of(model_name).stated_cost
    return read(usage) if read is not None else None


def _priced(model_name: str) -> Mapping[str, Any] | None:
    """The row of a model whose price and rules are all known; None for any other."""
    price = lookup(model_name)
    known = price is not None and price.input_usd is not None and price.output_usd is not None
    return price_row(model_name) if known and understands_price(model_name) else None


def _surcharge(rates: Mapping[str, Any], prompt: int, *, inclusive: bool) -> tuple[str, ...]:
    """The suffixes of the keys that apply to a prompt of that length, the longest prompt first."""
    found = {}
    for match in filter(None, map(_ABOVE.fullmatch, rates)):
        found[int(match[2]) * (1000 if match[3] else 1)] = match[1]
    above = [size for size in found if prompt > size or (inclusive and prompt == size)]
    return tuple(f"_above_{found[size]}" for size in sorted(above, reverse=True))


def _factors(rates: Mapping[str, Any]) -> Mapping[str, float]:
    """The factors of all prices of a call, by the words for where and how fast it is answered."""
    found = rates.get("provider_specific_entry")
    words = found.items() if isinstance(found, dict) else ()
    return {word: value for word, value in words if outside.amount(value) is not None}


def _rate(rates: Mapping[str, Any], base: str, long: tuple[str, ...]) -> float | None:
    found = (outside.amount(rates.get(base + end)) for end in (*long, ""))
    return next((rate for rate in found if rate is not None), None)


BYTES_PER_TOKEN = 3
"""Text and code have about four bytes per token; with three an estimate is rather too high."""

ANSWER_TOKENS = 4096
"""A usual answer with its thinking: a call is not made if the allowance is smaller."""

UNKNOWN_LIMIT = 16_384
"""Sent for a model that sets no ``max_tokens`` and that the price file does not know.

Most of these run on the user's own server, and some servers refuse a limit that does not fit their window.
"""

MOST_TOKENS = 1 << 40
"""Far more than any call can use."""

_RAISE = "Raise {option}, or lower the step's context_chars or the model's max_tokens."


def estimate_tokens(text: str) -> int:
    """Tokens of ``text`` by its length alone: UTF-8 bytes / 3, rounded up."""
    return math.ceil(most_tokens(text) / BYTES_PER_TOKEN)


def most_tokens(text: str) -> int:
    """At least as many tokens as any tokenizer makes of ``text``: its UTF-8 bytes, the smallest tokens."""
    return len(text.encode("utf-8", "replace"))


def answer_limit(model: ModelSpec, prompt: int) -> int:
    """The most tokens of an answer to a prompt of ``prompt`` tokens, before any allowance lowers it.

    The model's ``max_tokens``, but at most its maximum by the price file. The default is that maximum, as
    far as the window has room: a provider refuses a limit that does not fit beside the prompt.
    """
    price = lookup(model.name)
    most = price.max_output if price is not None else None
    if model.max_tokens is not None:
        return min(model.max_tokens, most or model.max_tokens)
    limit = most or UNKNOWN_LIMIT
    if price is not None and price.window is not None:
        limit = min(limit, max(price.window - prompt, ANSWER_TOKENS))
    return limit


def answer_tokens(request: Request) -> int:
    """The ``max_tokens`` to send: ``answer_limit``, lowered to the rest of the run's allowance.

    Raises ``BudgetError`` if that does not pay for a usual answer.
    """
    assert request.model is not None
    prompt = estimate_tokens(request.prompt)
    limit = answer_limit(request.model, prompt)
    usual = min(limit, ANSWER_TOKENS)
    allowance = request.allowance
    if allowance.tokens is not None:
        if prompt + usual > allowance.tokens:
            raise BudgetError(
                f"{_who(request)} needs about {prompt + usual:,} tokens "
                f"({prompt:,} prompt, {usual:,} answer), {allowance.tokens:,} are left",
                fix=_RAISE.format(option="--max-tokens"),
            )
        limit = min(limit, allowance.tokens - prompt)
    if allowance.cost_usd is not None:
        limit = min(limit, _limit_by_cost(request, prompt, usual, limit, allowance.cost_usd))
    return limit


def share(requests: Iterable[Request], left: Allowance) -> Sequence[Allowance]:
    """What each of these calls, which may run at once, may spend of ``left``.

    All answers get the same limit, lowered until every call fits; but never below a usual answer, and
    never above their own ``answer_limit``. So they may exceed ``left`` together. A call whose price is not
    known may need all of it. A call needs what the most expensive of its models does.
    """
    sizes = []
    for request in requests:
        assert request.model is not None
        prompt = estimate_tokens(request.prompt)
        called = [(answer_limit(model, prompt), rates_of(model, prompt)) for model in chain(request.model)]
        sizes.append((prompt, called))

    def divide(most: int) -> list[Allowance]:
        return [
            Allowance(
                left.cost_usd
                and max(
                    rates.cost(prompt, min(limit, most)) if rates else left.cost_usd
                    for limit, rates in called
                ),
                left.tokens and prompt + min(max(limit for limit, _ in called), most),
            )
            for prompt, called in sizes
        ]

    def fits(most: int) -> bool:
        rest = left
        for each in divide(most):
            if not rest.covers(each):
                return False
            rest = rest.without(each)
        return True

    low, high = ANSWER_TOKENS, max((limit for _, called in sizes for limit, _ in called), default=0)
    while low < high:  # the largest limit with which all fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return divide(low)


def states_cost(model_name: str) -> bool:
    """Whether the provider states each call's cost, so that a budget in dollars can hold without a price."""
    return provider_of(model_name).stated_cost is not None


def limit_notes(request: Request, sent: int, *, truncated: bool) -> Iterator[str]:
    """Notes on the limit ``sent``, if it is not the one that the model's settings ask for."""
    assert request.model is not None
    own = request.model.max_tokens
    limit = answer_limit(request.model, estimate_tokens(request.prompt))
    if own is not None and limit < own:
        yield f"max_tokens {own:,} is more than {request.model.name} can answer: {limit:,} was sent"
    if truncated and sent < limit:
        yield f"the budget left {sent:,} tokens for this answer, {limit:,} would have been allowed"


def over_limit(usage: Usage, sent: int) -> str | None:
    """How a server exceeded the limit it was sent; None if it did not, or did not count."""
    answered = usage.completion_tokens
    if answered is None or usage.estimated or answered <= sent:
        return None
    return f"answered {answered:,} tokens where {sent:,} were allowed"


def is_plausible(usage: Usage) -> bool:
    """Whether counts can be true: a checkpoint refuses others, and a negative one would raise a budget."""
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return all(count is None or 0 <= count < MOST_TOKENS for count in counts)


def to_usage(tokens: Tokens, cost_usd: float | None) -> Usage | None:
    """The usage of a call by what every protocol counts; None if nothing was counted.

    A prompt or an answer of zero tokens is a missing count, and then the cost is unknown. A part that is
    larger than its whole was counted elsewhere, so it is unknown too.
    """
    prompt, completion = tokens.prompt or None, tokens.completion or None
    if prompt is None and completion is None:
        return None
    whole = prompt is not None and completion is not None

    def part(of: int, counted: int | None) -> int | None:
        return counted if counted is not None and 0 <= counted <= of else None

    return Usage.of(prompt, completion, cost_usd if whole else None)._replace(
        cached_tokens=part(tokens.prompt, tokens.cached),
        written_tokens=part(tokens.prompt, tokens.written),
        reasoning_tokens=part(tokens.completion, tokens.thought),
    )


def estimated_usage(prompt: str, answered: int, model_name: str) -> Usage:
    """An estimate for a call that the provider did not count, so that an allowance still holds.

    ``answered`` are the tokens of the answer.
    """
    asked = estimate_tokens(prompt)
    return Usage.of(asked, answered, cost(model_name, Tokens(asked, answered)), estimated=True)


def _limit_by_cost(request: Request, prompt: int, answer: int, limit: int, left: float) -> int:
    assert request.model is not None
    rates = rates_of(request.model, prompt)
    if rates is None:
        if not states_cost(request.model.name):
            raise BudgetError(
                f"{_who(request)}: its price is not known, so --max-cost cannot hold",
                fix="Use --max-tokens instead.",
            )
        if left <= 0:
            raise BudgetError(f"{_who(request)}: nothing is left to spend", fix="Raise --max-cost.")
        return limit
    needed = rates.cost(prompt, answer)
    if needed > left:
        raise BudgetError(
            f"{_who(request)} needs about ${needed:.4f} ({prompt:,} prompt and {answer:,} answer tokens), "
            f"${left:.4f} is left",
            fix=_RAISE.format(option="--max-cost"),
        )
    return answer + int((left - needed) / rates.completion) if rates.completion else limit


def _who(request: Request) -> str:
    assert request.model is not None
    return f"step '{request.step}': {request.model.name}"
