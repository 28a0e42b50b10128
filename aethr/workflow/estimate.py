"""What a run will need, before it starts: about and at most, in calls, tokens and dollars.

Nothing is called. "About" is a run in which all goes well: each loop ends with its first pass, each answer
is of usual length, and no call is retried. "At most" holds for every server that honours the limit it is
sent: each loop runs to its last pass, each review is asked once more for its verdict, each call is made as
often as the backend retries it, and each answer is as long as its limit. Prompts are measured as they are
now. A context that is known only during the run counts as nothing in "about", and as its budget in "at most".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aethr import context, engine
from aethr.base.errors import BudgetError
from aethr.base.records import CHANGES, Plan, PlannedStep, StepPrepared
from aethr.engine import prompts
from aethr.llm import ATTEMPTS, spending
from aethr.output import wording

NO_MODEL = "(no model)"


class Need(NamedTuple):
    """Sums for one model. With an ``agent``, that agent decides how often it calls the model.

    ``calls`` counts requests to the model, or runs of the agent. ``cost_usd`` is None if it is not known: for
    a model without a price, and for every agent.
    """

    model: str
    agent: str | None = None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0


class Estimate(NamedTuple):
    """What a plan needs, for each model in order of first use."""

    about: tuple[Need, ...]
    most: tuple[Need, ...]


class _Case(NamedTuple):
    """How to count "about" or "at most". ``unread``: tokens per character of a context not known yet."""

    tokens: Callable[[str], int]
    unread: int
    longest_answer: int | None
    attempts: int
    every_pass: bool


_ABOUT = _Case(spending.estimate_tokens, 0, spending.ANSWER_TOKENS, attempts=1, every_pass=False)
_MOST = _Case(spending.most_tokens, 4, None, ATTEMPTS, every_pass=True)  # at most 4 bytes a character


def estimate(plan: Plan, prepared: Sequence[StepPrepared]) -> Estimate:
    """What ``plan`` needs. ``prepared`` are its prompts as they are now (``engine.preview``)."""
    measured: dict[str, list[StepPrepared]] = {}
    for each in prepared:
        measured.setdefault(each.id, []).append(each)
    return Estimate(_count(plan, measured, _ABOUT), _count(plan, measured, _MOST))


def check_budget(plan: Plan, cost_usd: float) -> Iterator[str]:
    """What a budget of this many dollars means for a run of ``plan``, as lines to show before it.

    Raises ``BudgetError`` if it cannot hold because the cost of a model is not known at all.
    """
    most = estimate(plan, list(engine.preview(plan))).most
    for need in most:
        if need.cost_usd is not None or need.agent is not None:
            continue
        if need.model == NO_MODEL or not spending.states_cost(need.model):
            raise BudgetError(
                f"{need.model}: its price is not known, so --max-cost cannot hold",
                "Use --max-tokens instead.",
            )
        yield (
            f"{need.model}: its price is not known before a call, so --max-cost stops the run after the call "
            "that passed it"
        )
    known = sum(need.cost_usd or 0.0 for need in most)
    if known > cost_usd:
        yield (
            f"the models can cost {wording.cost(known)} at most, more than --max-cost "
            f"{cost_usd:g}: the run stops before the call that could pass it"
        )
    for need in most:
        if need.agent is not None:
            yield f"--max-cost does not limit what {need.agent} spends within its step"


def _unroll(plan: Plan) -> Iterator[PlannedStep]:
    """The steps in the order of a run whose loops all run to their last pass."""
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


def _count(plan: Plan, prepared: Mapping[str, Sequence[StepPrepared]], case: _Case) -> tuple[Need, ...]:
    needs: dict[tuple[str, str | None], Need] = {}
    earlier: list[tuple[int, int]] = []  # tokens of an answer, and of how many parts there is one
    edited = False
    for step in _unroll(plan) if case.every_pass else plan.steps:
        key = (step.model.name if step.model else NO_MODEL, step.spec.backend if step.edits_tree else None)
        seen = {"all": earlier, "latest": earlier[-1:], "summary": earlier, "none": []}
        answer = spending.ANSWER_TOKENS
        if step.model is not None:
            # The limit that is sent with the shortest prompt, which leaves an answer the most room.
            answer = spending.answer_limit(step.model, prompt=0)
            if case.longest_answer is not None:
                answer = min(answer, case.longest_answer)
        prompts_now = _measure_prompts(plan, step, prepared[step.spec.id], case, edited=edited)
        asks_again = case.every_pass and step.spec.reviewing and not step.edits_tree
        need = needs.get(key, Need(*key))
        for prompt in prompts_now:
            history = sum(
                tokens if parts == len(prompts_now) else tokens * parts
                for tokens, parts in seen[step.spec.history_visibility]
            )
            need = _add_call(need, prompt + history, answer, case)
            if asks_again:
                need = _add_call(need, case.tokens(prompts.ask_verdict("")) + answer, answer, case)
        needs[key] = need
        earlier.append(
            (2 * answer if asks_again else answer, len(prompts_now))
        )  # later steps see both answers
        edited = edited or step.edits_tree
    return tuple(needs.values())


def _add_call(need: Need, prompt: int, answer: int, case: _Case) -> Need:
    """``need`` and one more call, or one more run of an agent."""
    if need.agent is not None or need.model == NO_MODEL:
        return need._replace(calls=need.calls + 1, cost_usd=None)
    price = spending.lookup(need.model)
    if price is not None and price.window is not None:
        prompt = min(prompt, price.window)  # the provider refuses a longer one
    rates = spending.highest_rates(need.model, prompt)
    cost = None
    if rates is not None and need.cost_usd is not None:
        cost = need.cost_usd + case.attempts * rates.cost(prompt, answer)
    return need._replace(
        calls=need.calls + case.attempts,
        input_tokens=need.input_tokens + case.attempts * prompt,
        output_tokens=need.output_tokens + case.attempts * answer,
        cost_usd=cost,
    )


def _measure_prompts(
    plan: Plan, step: PlannedStep, now: Sequence[StepPrepared], case: _Case, *, edited: bool
) -> list[int]:
    """Tokens of a step's prompts without its history, one for each part of the change.

    A context that is not known yet may fill its budget; a change that is not known yet may have all parts.
    """
    tokens = [case.tokens(each.prompt) for each in now]
    sources = [context.find(source)[0] for source in step.spec.context]
    if case.unread == 0 or not (any(row.late for row in sources) or (edited and sources)):
        return tokens
    for n, each in enumerate(now):
        rest = step.spec.context_chars - sum(receipt.bytes_sent for receipt in each.receipts)
        tokens[n] += case.unread * max(0, rest)
    is_cut = bool(CHANGES & {*step.spec.context}) and not step.edits_tree
    late = edited or any(row.late for row in sources if row.name in CHANGES)
    if is_cut and late:
        tokens += [max(tokens)] * (plan.workflow.parts - len(tokens))
    return tokens
