"""How much of an answer the rest of a run's allowance affords (pure)."""

from __future__ import annotations

import math

from aethr.errors import BudgetError
from aethr.llm.prices import Price
from aethr.records import ModelSpec, Request, Usage

BYTES_PER_TOKEN = 3
"""Text and code have about four bytes a token; three makes the estimate err on the dear side."""

ANSWER_TOKENS = 4096
"""Reserved for an answer whose model sets no ``max_tokens``."""

MOST_TOKENS = 1 << 40
"""No call comes near so many."""

_RAISE = "Raise {option}, or lower the step's context_chars or the model's max_tokens."


def estimate_tokens(text: str) -> int:
    """Tokens of ``text`` by its length alone: UTF-8 bytes / 3, rounded up."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def reserve(model: ModelSpec | None) -> int:
    """The tokens of an answer that must be affordable before a call, and that a worst case counts."""
    return (model.max_tokens if model else None) or ANSWER_TOKENS


def answer_tokens(request: Request, price: Price | None) -> int | None:
    """The ``max_tokens`` to send; without an allowance the model's own setting.

    With one, the whole answer must be affordable before anything is sent. Raises ``BudgetError``.
    """
    assert request.model is not None
    own = request.model.max_tokens
    allowance = request.allowance
    if allowance.tokens is None and allowance.cost_usd is None:
        return own
    prompt = estimate_tokens(request.prompt)
    longest = reserve(request.model)
    limits = [own or (price and price.max_output) or ANSWER_TOKENS]
    if allowance.tokens is not None:
        limits.append(_by_tokens(request, prompt, longest, allowance.tokens))
    if allowance.cost_usd is not None:
        limits.append(_by_cost(request, prompt, longest, allowance.cost_usd, price))
    return min(limits)


def believable(usage: Usage) -> bool:
    """Whether a count can be true: a checkpoint takes no other, and a budget must not grow by one."""
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return all(0 <= count < MOST_TOKENS for count in counts)


def estimated_usage(prompt: str, answer: str, price: Price | None) -> Usage:
    """For a call that the provider did not count, so that an allowance still means something."""
    asked, answered = estimate_tokens(prompt), estimate_tokens(answer)
    cost = price.cost(asked, answered) if price is not None else None
    return Usage(asked, answered, asked + answered, cost)


def _by_tokens(request: Request, prompt: int, answer: int, left: int) -> int:
    if prompt + answer > left:
        raise BudgetError(
            f"{_who(request)} needs about {prompt + answer:,} tokens "
            f"({prompt:,} prompt, {answer:,} answer), {left:,} are left",
            fix=_RAISE.format(option="--max-tokens"),
        )
    return left - prompt


def _by_cost(request: Request, prompt: int, answer: int, left: float, price: Price | None) -> int:
    needed = price.cost(prompt, answer) if price is not None else None
    if price is None or needed is None or price.output_usd is None:
        raise BudgetError(
            f"{_who(request)}: its price is not known, so --max-cost cannot hold",
            fix="Use --max-tokens instead.",
        )
    if needed > left:
        raise BudgetError(
            f"{_who(request)} needs about ${needed:.4f} ({prompt:,} prompt and {answer:,} answer tokens), "
            f"${left:.4f} is left",
            fix=_RAISE.format(option="--max-cost"),
        )
    over = (left - needed) / price.output_usd if price.output_usd else 0
    return answer + int(over)


def _who(request: Request) -> str:
    assert request.model is not None
    return f"step '{request.step}': {request.model.name}"
