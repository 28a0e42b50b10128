"""The worst case of a run before it begins: the most calls its loops allow, with tokens and cost.

Nothing is called. Prompts are measured as they would be now, every loop is assumed to go on to its
last pass, and every answer to be as long as is reserved for one (``spending``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aethr import executor
from aethr.llm import prices, spending
from aethr.records import Plan, PlannedStep


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Sums for one model. ``cost_usd`` is None where its price is not known."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


def worst_case(plan: Plan) -> tuple[WorstCase, ...]:
    """The most that ``plan`` can need, for each model in order of first use.

    Steps that an agent runs count as one call each; what the agent itself calls is not known here.
    """
    prompts = {each.id: spending.estimate_tokens(each.prompt) for each in executor.preview(plan)}
    sums: dict[str, tuple[int, int, int]] = {}
    earlier: list[int] = []
    for step in _turns(plan):
        answer = _answer_tokens(step)
        again = 1 if step.spec.reviewing and not step.edits_tree else 0
        asked = prompts[step.spec.id] + _history(step, earlier) + again * answer
        model = step.model.name if step.model else "(no model)"
        calls, tokens_in, tokens_out = sums.get(model, (0, 0, 0))
        sums[model] = (calls + 1 + again, tokens_in + asked, tokens_out + answer * (1 + again))
        earlier.append(answer)
    return tuple(WorstCase(model, *row, _cost(model, row[1], row[2])) for model, row in sums.items())


def _turns(plan: Plan) -> Iterator[PlannedStep]:
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


def _history(step: PlannedStep, earlier: list[int]) -> int:
    visibility = step.spec.history_visibility
    if visibility == "all":
        return sum(earlier)
    return earlier[-1] if visibility == "latest" and earlier else 0


def _answer_tokens(step: PlannedStep) -> int:
    return (step.model.max_tokens if step.model else None) or spending.ANSWER_TOKENS


def _cost(model: str, input_tokens: int, output_tokens: int) -> float | None:
    try:
        price = prices.lookup(model)
    except ValueError:
        return None
    return price.cost(input_tokens, output_tokens) if price else None
