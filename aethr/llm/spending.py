"""The limit on an answer: what is always sent, and how far a run's allowance lowers it (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from aethr.base.errors import BudgetError
from aethr.base.providers import provider_of
from aethr.base.records import ModelSpec, Request, Usage
from aethr.llm import prices
from aethr.llm.prices import Price

BYTES_PER_TOKEN = 3
"""Text and code have about four bytes a token; three makes the estimate err on the dear side."""

ANSWER_TOKENS = 4096
"""An answer of usual length, with what was thought before it: a call that cannot afford it is not made."""

UNKNOWN_LIMIT = 16_384
"""Sent for a model that sets no ``max_tokens`` and that the price file does not know.

Most of these run on a server of one's own, some of which refuse a limit that does not fit their window.
"""

MOST_TOKENS = 1 << 40
"""No call comes near so many."""

_RAISE = "Raise {option}, or lower the step's context_chars or the model's max_tokens."


def estimate_tokens(text: str) -> int:
    """Tokens of ``text`` by its length alone: UTF-8 bytes / 3, rounded up."""
    return math.ceil(_bytes(text) / BYTES_PER_TOKEN)


def most_tokens(text: str) -> int:
    """More tokens than any tokenizer makes of ``text``: they all work on bytes, or on more than one."""
    return _bytes(text)


def answer_limit(model: ModelSpec, price: Price | None, prompt: int) -> int:
    """The most tokens of an answer to a prompt of so many, as it is sent where nothing else limits it.

    The model's own ``max_tokens``, or the most that it can answer by the price file where that is less.
    Without a ``max_tokens`` the latter, as far as its window has room: where prompt and answer share one, a
    provider refuses a limit that does not fit.
    """
    most = price.max_output if price is not None else None
    if model.max_tokens is not None:
        return min(model.max_tokens, most or model.max_tokens)
    limit = most or UNKNOWN_LIMIT
    if price is not None and price.window is not None:
        limit = min(limit, max(price.window - prompt, ANSWER_TOKENS))
    return limit


def answer_tokens(request: Request, price: Price | None) -> int:
    """The ``max_tokens`` to send: ``answer_limit``, lowered to what the rest of the run's allowance affords.

    Before anything is sent, an answer of usual length must be affordable. Raises ``BudgetError``.
    """
    assert request.model is not None
    prompt = estimate_tokens(request.prompt)
    limit = answer_limit(request.model, price, prompt)
    usual = min(limit, ANSWER_TOKENS)
    allowance = request.allowance
    if allowance.tokens is not None:
        limit = min(limit, _by_tokens(request, prompt, usual, allowance.tokens))
    if allowance.cost_usd is not None:
        limit = min(limit, _by_cost(request, prompt, usual, limit, allowance.cost_usd))
    return limit


def states_cost(model_name: str) -> bool:
    """Whether a budget in dollars can hold after each call where no price says so before it."""
    return provider_of(model_name).stated_cost is not None


def limit_notes(request: Request, price: Price | None, sent: int, *, truncated: bool) -> Iterator[str]:
    """What there is to say about the limit that was sent, ``sent``."""
    assert request.model is not None
    own = request.model.max_tokens
    limit = answer_limit(request.model, price, estimate_tokens(request.prompt))
    if own is not None and limit < own:
        yield f"max_tokens {own:,} is more than {request.model.name} can answer: {limit:,} was sent"
    if truncated and sent < limit:
        yield f"the budget left {sent:,} tokens for this answer, {limit:,} would have been allowed"


def over_limit(usage: Usage, sent: int) -> str | None:
    """How a server did not honour the limit that it was sent; None where it did, or where nobody counted."""
    answered = usage.completion_tokens
    if answered is None or usage.estimated or answered <= sent:
        return None
    return f"answered {answered:,} tokens where {sent:,} were allowed"


def believable(usage: Usage) -> bool:
    """Whether a count can be true: a checkpoint takes no other, and a budget must not grow by one."""
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return all(count is None or 0 <= count < MOST_TOKENS for count in counts)


def estimated_usage(prompt: str, answer: str, model_name: str) -> Usage:
    """For a call that the provider did not count, so that an allowance still means something."""
    asked, answered = estimate_tokens(prompt), estimate_tokens(answer)
    cost = prices.cost(model_name, prices.Tokens(asked, answered))
    return Usage.of(asked, answered, cost, estimated=True)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _by_tokens(request: Request, prompt: int, answer: int, left: int) -> int:
    if prompt + answer > left:
        raise BudgetError(
            f"{_who(request)} needs about {prompt + answer:,} tokens "
            f"({prompt:,} prompt, {answer:,} answer), {left:,} are left",
            fix=_RAISE.format(option="--max-tokens"),
        )
    return left - prompt


def _by_cost(request: Request, prompt: int, answer: int, limit: int, left: float) -> int:
    assert request.model is not None
    rates = prices.dearest(request.model.name, prompt)
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
