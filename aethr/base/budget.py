"""What the steps of a run used together, and whether that is more than the run was allowed (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from aethr.base.errors import BudgetError
from aethr.base.records import Allowance, StepResult, Usage

_ROUNDING_USD = 1e-9
"""Sums of costs are not exact: less than this is not an excess."""


def used(results: Sequence[StepResult], failed: Sequence[Usage] = ()) -> Usage:
    """What finished steps, and ``failed`` attempts of the one that did not, used together."""
    return Usage.sum([*(result.usage for result in results), *failed])


def exceeded(allowance: Allowance, results: Sequence[StepResult]) -> BudgetError | None:
    """The error that ends a run whose finished steps used more than was allowed, None for any other.

    Before a call its prompt can only be estimated and its answer only be limited: what a server makes of
    both is known afterwards. A budget cannot be held either against what nobody stated.
    """
    spent = used(results)
    over, options = [], []
    if allowance.cost_usd is not None:
        if spent.cost_usd is None:
            silent = next(result for result in results if result.usage.cost_usd is None)
            return BudgetError(
                f"{_who(silent)} did not say what it cost, so --max-cost cannot hold",
                "Use --max-tokens instead.",
            )
        if (excess := spent.cost_usd - allowance.cost_usd) > _ROUNDING_USD:
            over.append(f"${excess:.4f} over --max-cost {allowance.cost_usd:g}")
            options.append("--max-cost")
    if allowance.tokens is not None:
        if spent.total_tokens is None:
            silent = next(result for result in results if result.usage.total_tokens is None)
            return BudgetError(
                f"{_who(silent)} did not say how many tokens it used, so --max-tokens cannot hold",
                "Leave --max-tokens out, or use another model.",
            )
        if (more := spent.total_tokens - allowance.tokens) > 0:
            over.append(f"{more:,} token{'s' * (more > 1)} over --max-tokens {allowance.tokens}")
            options.append("--max-tokens")
    if not over:
        return None
    blamed = [f"{_who(result)} {result.over_limit}" for result in results if result.over_limit]
    cause = "; ".join(blamed) or f"{_who(results[-1])} used more than was estimated before the call"
    fix = f"Raise {' and '.join(options)}" + (", or use a server that honours its limit." if blamed else ".")
    return BudgetError(f"{cause}: {' and '.join(over)}", fix)


def _who(result: StepResult) -> str:
    return f"step '{result.id}': {result.model or result.backend}"
