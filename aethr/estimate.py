"""The worst case of a run before it begins: the most calls its loops allow, with tokens and cost.

Nothing is called. Every loop is assumed to go on to its last pass, and every answer to be as long as is
reserved for one (``spending``). Prompts are measured as they are now; a context that will be known only
while the run is on counts as the whole of its budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aethr import context, executor, prompts
from aethr.errors import BudgetError
from aethr.llm import prices, spending
from aethr.output import wording
from aethr.records import Plan, PlannedStep, StepPrepared

NO_MODEL = "(no model)"


class WorstCase(NamedTuple):
    """Sums for one model, called by Aethr or (``agent``) by an agent as often as the agent sees fit.

    ``cost_usd`` is None where it is not known: for a model without a price, and for every agent.
    """

    model: str
    agent: str | None = None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


def worst_case(plan: Plan, prepared: Sequence[StepPrepared]) -> tuple[WorstCase, ...]:
    """The most that ``plan`` can need, for each model in order of first use.

    ``prepared`` are the prompts of its steps as they would be now (``executor.preview``).
    """
    measured = {each.id: each for each in prepared}
    sums: dict[tuple[str, str | None], WorstCase] = {}
    earlier: list[int] = []
    edited = False
    for step in turns(plan):
        answer = spending.reserve(step.model)
        asked = _prompt(step, measured[step.spec.id], edited) + _history(step, earlier)
        key = (step.model.name if step.model else NO_MODEL, step.spec.backend if step.edits_tree else None)
        sums[key] = _plus(sums.get(key, WorstCase(*key)), asked, answer)
        if step.spec.reviewing and not step.edits_tree:
            sums[key] = _plus(sums[key], spending.estimate_tokens(prompts.ask_verdict("")) + answer, answer)
            answer *= 2  # later steps are told both answers
        earlier.append(answer)
        edited = edited or step.edits_tree
    return tuple(row._replace(cost_usd=_cost(row)) for row in sums.values())


def against_budget(plan: Plan, cost_usd: float) -> Iterator[str]:
    """What a budget of so many dollars means for the worst case of a run, as lines to say first.

    Raises ``BudgetError`` where it cannot hold, because a model's price is not known.
    """
    worst = worst_case(plan, list(executor.preview(plan)))
    for row in worst:
        if row.cost_usd is None and row.agent is None:
            raise BudgetError(
                f"{row.model}: its price is not known, so --max-cost cannot hold", "Use --max-tokens instead."
            )
    most = sum(row.cost_usd or 0.0 for row in worst)
    if most > cost_usd:
        yield (
            f"at worst the models cost {wording.cost(most)}, more than --max-cost "
            f"{cost_usd:g}: the run stops before the call that could pass it"
        )
    for row in worst:
        if row.agent is not None:
            yield f"--max-cost does not bound what {row.agent} spends inside of its step"


def turns(plan: Plan) -> Iterator[PlannedStep]:
    """The steps in the order of a run whose loops all go on to their last pass."""
    ids = [step.spec.id for step in plan.steps]
    start = 0
    for end, step in enumerate(plan.steps):
        repeat = step.spec.repeat
        if repeat is None:
            continue
        back_to = ids.index(repeat.back_to)
        yield from plan.steps[start:back_to]
        for _ in range(repeat.max_iterations):
            yield from plan.steps[back_to : end + 1]
        start = end + 1
    yield from plan.steps[start:]


def _plus(row: WorstCase, asked: int, answered: int) -> WorstCase:
    return row._replace(
        calls=row.calls + 1,
        input_tokens=row.input_tokens + asked,
        output_tokens=row.output_tokens + answered,
    )


def _prompt(step: PlannedStep, now: StepPrepared, edited: bool) -> int:
    """Tokens of a step's prompt without its history; its context may grow to its budget."""
    tokens = spending.estimate_tokens(now.prompt)
    sources = [context.find(source)[0] for source in step.spec.context]
    if not any(row.late for row in sources) and not (edited and sources):
        return tokens
    rest = step.spec.context_chars - sum(receipt.bytes_sent for receipt in now.receipts)
    return tokens + max(0, math.ceil(rest / spending.BYTES_PER_TOKEN))


def _history(step: PlannedStep, earlier: list[int]) -> int:
    visibility = step.spec.history_visibility
    if visibility == "none":
        return 0
    return sum(earlier[-1:] if visibility == "latest" else earlier)


def _cost(row: WorstCase) -> float | None:
    if row.agent is not None or row.model == NO_MODEL:
        return None
    price = prices.lookup(row.model)
    return price.cost(row.input_tokens, row.output_tokens) if price else None
