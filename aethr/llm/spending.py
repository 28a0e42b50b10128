"""The limit on an answer: the one that is always sent, and how a run's allowance lowers it (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from aethr.base.errors import BudgetError
from aethr.base.providers import provider_of
from aethr.base.records import ModelSpec, Request, Usage
from aethr.llm import prices
from aethr.llm.prices import Price

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


def answer_limit(model: ModelSpec, price: Price | None, prompt: int) -> int:
    """The most tokens of an answer to a prompt of ``prompt`` tokens, before any allowance lowers it.

    The model's ``max_tokens``, but at most its maximum by the price file. The default is that maximum, as
    far as the window has room: a provider refuses a limit that does not fit beside the prompt.
    """
    most = price.max_output if price is not None else None
    if model.max_tokens is not None:
        return min(model.max_tokens, most or model.max_tokens)
    limit = most or UNKNOWN_LIMIT
    if price is not None and price.window is not None:
        limit = min(limit, max(price.window - prompt, ANSWER_TOKENS))
    return limit


def answer_tokens(request: Request, price: Price | None) -> int:
    """The ``max_tokens`` to send: ``answer_limit``, lowered to the rest of the run's allowance.

    Raises ``BudgetError`` if that does not pay for a usual answer.
    """
    assert request.model is not None
    prompt = estimate_tokens(request.prompt)
    limit = answer_limit(request.model, price, prompt)
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


def states_cost(model_name: str) -> bool:
    """Whether the provider states each call's cost, so that a budget in dollars can hold without a price."""
    return provider_of(model_name).stated_cost is not None


def limit_notes(request: Request, price: Price | None, sent: int, *, truncated: bool) -> Iterator[str]:
    """Notes on the limit ``sent``, if it is not the one that the model's settings ask for."""
    assert request.model is not None
    own = request.model.max_tokens
    limit = answer_limit(request.model, price, estimate_tokens(request.prompt))
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


def estimated_usage(prompt: str, answer: str, model_name: str) -> Usage:
    """An estimate for a call that the provider did not count, so that an allowance still holds."""
    asked, answered = estimate_tokens(prompt), estimate_tokens(answer)
    cost = prices.cost(model_name, prices.Tokens(asked, answered))
    return Usage.of(asked, answered, cost, estimated=True)


def _limit_by_cost(request: Request, prompt: int, answer: int, limit: int, left: float) -> int:
    assert request.model is not None
    rates = prices.highest_rates(request.model.name, prompt)
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
