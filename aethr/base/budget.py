"""What the steps of a run used together, and whether that exceeds the budget (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from aethr.base.errors import BudgetError
from aethr.base.records import Allowance, StepResult, Usage
from aethr.base.words import counted

_ROUNDING_USD = 1e-9
"""Sums of floats are not exact: an excess up to this does not count."""


def used(results: Sequence[StepResult], failed: Sequence[Usage] = ()) -> Usage:
    """What the finished steps and the ``failed`` attempts of an unfinished one used together."""
    return Usage.sum([*(result.usage for result in results), *failed])


def exceeded(
    allowance: Allowance, results: Sequence[StepResult], failed: Sequence[Usage] = ()
) -> BudgetError | None:
    """The error that ends a run whose finished steps and ``failed`` calls exceed its budget, or None.

    Before a call, the prompt can only be estimated and the answer only be limited; what the server counts is
    known afterwards. A budget that cannot be checked, because the server reports no figure, is an error too.
    """
    spent = used(results, failed)
    over, options = [], []
    if allowance.cost_usd is not None:
        if spent.cost_usd is None:
            silent = next((result for result in results if result.usage.cost_usd is None), None)
            return BudgetError(
                f"{_who(silent)} did not report its cost, so --max-cost cannot hold",
                "Use --max-tokens instead.",
            )
        if (excess := spent.cost_usd - allowance.cost_usd) > _ROUNDING_USD:
            over.append(f"${excess:.4f} over --max-cost {allowance.cost_usd:g}")
            options.append("--max-cost")
    if allowance.tokens is not None:
        if spent.total_tokens is None:
            silent = next((result for result in results if result.usage.total_tokens is None), None)
            return BudgetError(
                f"{_who(silent)} did not report its tokens, so --max-tokens cannot hold",
                "Leave --max-tokens out, or use another model.",
            )
        if (more := spent.total_tokens - allowance.tokens) > 0:
            over.append(f"{counted(more, 'token')} over --max-tokens {allowance.tokens}")
            options.append("--max-tokens")
    if not over:
        return None
    blamed = [f"{_who(result)} {result.over_limit}" for result in results if result.over_limit]
    last = _who(results[-1] if results else None)
    cause = "; ".join(blamed) or f"{last} used more than was estimated before the call"
    fix = f"Raise {' and '.join(options)}" + (", or use a server that honours its limit." if blamed else ".")
    return BudgetError(f"{cause}: {' and '.join(over)}", fix)


def _who(result: StepResult | None) -> str:
    if result is None:
        return "a call of the run that this one resumes"
    return f"step '{result.id}': {result.model or result.backend}"
