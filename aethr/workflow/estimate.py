"""What a run will need, before it starts: about and at most, in calls, tokens and dollars.

Nothing is called. "About" is a run in which all goes well: each loop ends with its first pass, each answer
is of usual length, and no call is retried. "At most" holds for every server that honours the limit it is
sent: each loop runs to its last pass, each review is asked once more for its verdict, each call is made as
often as the backend retries it, with each fallback of its model too, and each answer is as long as its limit.
Prompts are measured as they are now. A context that is known only during the run counts as nothing in
"about", and as its budget in "at most"; if it is a change, it may need every part that the workflow allows.
What an agent says counts as one answer of its model. A resumed run needs only what it has not finished. An
answer of an earlier run, where the same prompt is known to come, costs nothing in "about".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aethr import context, review
from aethr.base import providers
from aethr.base.errors import BudgetError
from aethr.base.records import (
    Allowance,
    Estimate,
    Need,
    Plan,
    PlannedStep,
    StepPrepared,
    StepResult,
    Usage,
    changes_in,
)
from aethr.engine import prompts
from aethr.engine.progress import Progress, replay, upcoming
from aethr.llm import ATTEMPTS, spending
from aethr.output import wording

NO_MODEL = "(no model)"


class _Case(NamedTuple):
    """How to count "about" or "at most". ``unread``: bytes per character of a context not known yet.

    ``listed`` is how many times as long as an answer the list of its findings is. With ``every_pass`` each
    call is made with each fallback too.
    """

    bytes_per_token: int
    unread: int
    longest_answer: int | None
    attempts: int
    every_pass: bool
    listed: int

    def tokens(self, size: int) -> int:
        """The tokens of a text with this many bytes in UTF-8."""
        return math.ceil(size / self.bytes_per_token)


_ABOUT = _Case(spending.BYTES_PER_TOKEN, 0, spending.ANSWER_TOKENS, attempts=1, every_pass=False, listed=1)
_MOST = _Case(
    1, 4, None, ATTEMPTS, every_pass=True, listed=review.LISTED
)  # the smallest tokens; the longest characters


class _Prompt(NamedTuple):
    """A prompt as it is now: its size and that of its context in bytes, and whether it would not be sent.

    ``known`` says that an answer to it is kept.
    """

    part: int
    size: int
    context: int
    skipped: bool
    known: bool


class _Answer(NamedTuple):
    """The answers of a finished ``step``: the tokens of one, how many parts it has, and of which change.

    ``edits`` counts the steps before it that edited the tree.
    """

    step: str
    tokens: int
    parts: int
    change: frozenset[str]
    edits: int


def estimate(plan: Plan, prepared: Iterable[StepPrepared], done: Sequence[StepResult] = ()) -> Estimate:
    """What ``plan`` needs after ``done``. ``prepared`` are its prompts as they are now (of a preview)."""
    measured: dict[str, list[_Prompt]] = {}
    for each in prepared:
        sent = sum(receipt.bytes_sent for receipt in each.receipts)
        size = spending.most_tokens(each.prompt)
        prompt = _Prompt(each.part, size, sent, each.skipped is not None, each.answer_key in plan.reuse)
        measured.setdefault(each.id, []).append(prompt)
    progress = replay(plan, done)
    edits, is_cut_later = 0, False
    for step in _upcoming(progress, every_pass=True):
        is_cut_later = is_cut_later or _reads_late_change(step, edits)
        edits += step.edits_tree
    return Estimate(
        about=_count(progress, measured, _ABOUT),
        most=_count(progress, measured, _MOST),
        late_parts=plan.workflow.parts if is_cut_later else 0,
    )


def check_prices(plan: Plan) -> Iterator[str]:
    """What ``--max-cost`` cannot limit in this plan, as lines to show before the run.

    Raises ``BudgetError`` if it cannot hold because the cost of a model is not known at all.
    """
    agents = dict.fromkeys(step.spec.backend for step in plan.steps if step.edits_tree)
    called = dict.fromkeys(model for step in plan.steps if not step.edits_tree for model in _models_of(step))
    for name, option in called:
        if name != NO_MODEL and option is None and spending.highest_rates(name, 0) is not None:
            continue
        if name == NO_MODEL or not spending.states_cost(name):
            known = f"known with the option {option}" if option else "known"
            raise BudgetError(
                f"{name}: its price is not {known}, so --max-cost cannot hold", "Use --max-tokens instead."
            )
        yield (
            f"{name}: its price is not known before a call, so --max-cost stops the run after the call "
            "that passed it"
        )
    for agent in agents:
        yield f"--max-cost does not limit what {agent} spends within its step"


def compare(found: Estimate, allowance: Allowance, used: Usage) -> Iterator[str]:
    """Lines that say if a run with these needs will exceed its budget, or may; ``used`` was spent before."""
    left = allowance.after(used)
    about, most = (sum(need.cost_usd or 0.0 for need in needs) for needs in (found.about, found.most))
    tokens = sum(need.input_tokens + need.output_tokens for need in found.about)
    early = "the run will probably stop before its end"
    if left.cost_usd is not None and about > left.cost_usd:
        limit = f"--max-cost {allowance.cost_usd:g}"
        yield f"the models cost about {wording.cost(about)}, more than {limit} leaves: {early}"
    elif left.cost_usd is not None and most > left.cost_usd:
        yield (
            f"the models can cost {wording.cost(most)} at most, more than --max-cost "
            f"{allowance.cost_usd:g}: the run stops before the call that could pass it"
        )
    if left.tokens is not None and tokens > left.tokens:
        limit = f"--max-tokens {allowance.tokens}"
        yield f"the calls need about {tokens:,} tokens, more than {limit} leaves: {early}"


def _models_of(step: PlannedStep) -> Sequence[tuple[str, str | None]]:
    """The names of a step's models, each with its option that changes the price."""
    called = [(model.name, spending.repriced_by(model)) for model in providers.called(step)]
    return called or [(NO_MODEL, None)]


def _upcoming(progress: Progress, *, every_pass: bool) -> Iterator[PlannedStep]:
    """The steps that are still to come, in order."""
    turns = upcoming(progress.plan, progress.turn, every_pass=every_pass) if progress.turn else ()
    return (progress.plan.steps[turn.position] for turn in turns)


def _reads_late_change(step: PlannedStep, edits: int) -> bool:
    """Whether the change that a model reads in this step is not known now. ``edits`` as in ``_Answer``."""
    late = any(context.find(source)[0].late for source in changes_in(step.spec.context))
    return not step.edits_tree and (late or (edits > 0 and bool(changes_in(step.spec.context))))


def _count(progress: Progress, measured: Mapping[str, Sequence[_Prompt]], case: _Case) -> tuple[Need, ...]:
    needs: dict[tuple[str, str | None], Need] = {}
    plan, answers, edits = progress.plan, _answered(progress, case), 0
    finished = {result.part for result in progress.open}
    for step in _upcoming(progress, every_pass=case.every_pass):
        sent = _measure_prompts(plan, step, measured.get(step.spec.id, ()), case, edits)
        if not sent:
            continue
        limits = _limit_answers(step, case)
        answer = max(limits.values())
        asks_again = case.every_pass and step.spec.reviewing and not step.edits_tree
        own = _Answer(
            step.spec.id,
            2 * answer if asks_again else answer,  # later steps see both answers
            len(sent),
            changes_in(step.spec.context),
            edits,
        )
        seen = {"all": answers, "latest": answers[-1:], "summary": answers, "none": []}
        history = sum(_read_again(each, own) for each in seen[step.spec.history_visibility])
        latest = {each.step: each for each in answers}
        listed = case.listed * sum(
            _read_again(latest[name], own) for name in step.spec.verify if name in latest
        )
        own = own._replace(tokens=own.tokens + listed)  # its findings are in the history, too
        agent = step.spec.backend if step.edits_tree else None
        known = {each.part for each in measured[step.spec.id] if each.known and not case.every_pass}
        asked = [prompt for part, prompt in sent if part not in finished and part not in known]
        for model, limit in limits.items():
            need = needs.get((model, agent), Need(model, agent))
            for prompt in asked:
                need = _add_call(need, prompt + history + listed, limit, case)
                if asks_again:
                    again = case.tokens(spending.most_tokens(prompts.ask_verdict("")))
                    need = _add_call(need, again + answer, limit, case)
            if (model, None) not in _models_of(step):
                need = need._replace(cost_usd=None)
            needs[model, agent] = need
        finished = set()
        if case.every_pass:  # the lines around it in a prompt; those of the first pass are there already
            title = f"{step.spec.id} ({step.spec.role}), pass 99, part 99 of 99"
            own = own._replace(tokens=own.tokens + _FRAME + 2 * spending.most_tokens(title))
        answers.append(own)
        edits += step.edits_tree
    return tuple(needs.values())


def _limit_answers(step: PlannedStep, case: _Case) -> Mapping[str, int]:
    """The longest answer of each model that the step calls, in tokens.

    It is the limit that is sent with the shortest prompt, which leaves an answer the most room.
    """
    called = providers.called(step) if case.every_pass else providers.called(step)[:1]
    limits = {model.name: spending.answer_limit(model, prompt=0) for model in called}
    if case.longest_answer is not None:
        limits = {name: min(limit, case.longest_answer) for name, limit in limits.items()}
    return limits or {NO_MODEL: spending.ANSWER_TOKENS}


_FRAME = 200
"""Bytes of the lines around an earlier answer in a prompt, without its title."""


def _answered(progress: Progress, case: _Case) -> list[_Answer]:
    """The answers of the finished steps of a resumed run."""
    turns: dict[tuple[str, int], list[StepResult]] = {}
    finished = progress.results[: len(progress.results) - len(progress.open)]
    for result in finished:
        if result.skipped is None:
            turns.setdefault((result.id, result.iteration), []).append(result)
    return [
        _Answer(
            parts[0].id,
            max(case.tokens(spending.most_tokens(result.content)) + _FRAME for result in parts),
            len(parts),
            changes_in(next(s for s in progress.plan.steps if s.spec.id == parts[0].id).spec.context),
            sum(each.artifacts is not None for each in finished[: finished.index(parts[0])]),
        )
        for parts in turns.values()
    ]


def _read_again(earlier: _Answer, own: _Answer) -> int:
    """Tokens of an earlier step's answers in the prompt of a later one, as in ``engine``.

    If the earlier step read the same parts of the same change, a part sees only the answer to its own part.
    """
    same = (earlier.parts, earlier.change, earlier.edits) == (own.parts, own.change, own.edits)
    return earlier.tokens if same and earlier.change else earlier.tokens * earlier.parts


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
    plan: Plan, step: PlannedStep, now: Sequence[_Prompt], case: _Case, edits: int
) -> list[tuple[int, int]]:
    """Each part of the change that is sent, with the tokens of its prompt without history.

    A context that is not known yet may fill its budget; a change that is not known yet may have all parts.
    None of them is sent if there is nothing to read, and no step before has edited files.
    """
    if edits == 0:
        now = [each for each in now if not each.skipped]
    sources = step.spec.context
    late = any(context.find(source)[0].late for source in sources) or (edits > 0 and bool(sources))
    if case.unread == 0 or not late or step.edits_tree:
        return [(each.part, case.tokens(each.size)) for each in now]
    most = case.unread * context.most_chars(sources, step.spec.context_chars)
    if _reads_late_change(step, edits):  # which may have files that each instruction is for
        most += sum(
            spending.most_tokens(f"{prompts.instruct(each)}\n\n") for each in plan.workflow.instructions
        )
    sizes = {each.part: each.size - each.context + most for each in now}
    if sizes and _reads_late_change(step, edits):
        largest = max(sizes.values())
        sizes |= dict.fromkeys(range(len(sizes) + 1, plan.workflow.parts + 1), largest)
    return [(part, case.tokens(size)) for part, size in sizes.items()]
