"""Which calls of a run have prompts that begin alike, for the prefix caches of providers (pure).

Some providers cache the beginning of a prompt only up to a place that the request marks, and only a request
that marks the same place reads it. A write costs more than a prompt without a mark, so a place is marked only
if a call before this one has marked it, or a call after it is planned to. The plan decides, not luck: where a
step may edit files, what is read after it counts as different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from aethr.base.records import Plan, PlannedStep, changes_in, is_change, is_git_diff
from aethr.engine import prompts
from aethr.engine.progress import Progress, Turn, turn_key, upcoming
from aethr.engine.steps import PartCall

MOST_MARKS = 4
"""The most places that a request can mark, at Anthropic and at OpenAI."""


def mark(progress: Progress, calls: Sequence[PartCall]) -> list[PartCall]:
    """The calls of the next turns, each with the numbers of blocks (``shared``) to mark.

    A cache can be read once the answer of the call that writes it has begun: calls that run at the same time
    do not read what the others write, so only the first of them writes what they have in common.
    """
    plan, marked = progress.plan, list[PartCall]()
    for number, call in enumerate(calls):
        if call.step.edits_tree:
            marked.append(call)
            continue
        began = max(0, number - plan.jobs + 1)
        before, beside, after = calls[:began], calls[began:number], calls[number + plan.jobs :]
        read = [*(_count_common(plan, call, each) for each in before), *_look_back(progress, call)]
        written = {*(_count_common(plan, call, each) for each in after), *_look_ahead(plan, call, calls)}
        by_others = max((_count_common(plan, call, each) for each in beside), default=0)
        ahead = sorted(count for count in written if count > by_others)[-MOST_MARKS + 1 :]
        marked.append(call._replace(shared=tuple(sorted({max(read, default=0), *ahead} - {0}))))
    return marked


def _look_back(progress: Progress, call: PartCall) -> Iterator[int]:
    """How many blocks the call has in common with each call that this run has made before its turn.

    Those of a checkpoint were made so long ago that their cache has expired.
    """
    plan, steps = progress.plan, {step.spec.id: step for step in progress.plan.steps}
    edited = False
    for at in range(len(call.history) - 1, -1, -1):
        result = call.history[at]
        if turn_key(result) in progress.done:
            return
        step = steps[result.id]
        edited = edited or _may_edit(step)
        if result.calls:
            first = next(n for n, each in enumerate(call.history) if turn_key(each) == turn_key(result))
            turn = Turn(plan.steps.index(step), result.iteration)
            known = call._replace(step=step, turn=turn, part=result.part, history=call.history[:first])
            yield _predict_common(plan, call, known, edited)


def _look_ahead(plan: Plan, call: PartCall, calls: Sequence[PartCall]) -> Iterator[int]:
    """How many blocks the call has in common with each call that may follow, if every loop uses its passes.

    A later step that sees all earlier answers sees those that this one sees first.
    """
    edited, now = False, {each.turn for each in calls}
    for turn in upcoming(plan, call.turn, every_pass=True):
        step = plan.steps[turn.position]
        if turn not in now:
            grows = step.spec.history_visibility in ("all", "summary")
            for part in plan.own_parts(len(call.collected.parts)):
                later = call._replace(
                    step=step, turn=turn, part=part, history=call.history if grows else (), findings=()
                )
                yield _predict_common(plan, call, later, edited)
        edited = edited or _may_edit(step)


def _may_edit(step: PlannedStep) -> bool:
    """Whether what is read after this step may be different."""
    return step.edits_tree or step.runs_commands or step.check is not None


def _predict_common(plan: Plan, call: PartCall, other: PartCall, edited: bool) -> int:
    """How many blocks two calls have in common, of which ``other`` is known only as far as the plan goes.

    ``edited`` says that files may be edited between them: then they have the same context only between two
    commits. Two steps with different context have the same change, because it is cut once for all of them;
    their other sources may be cut to another size.
    """
    mine, theirs = call.step.spec, other.step.spec
    late = any(is_change(each) and not is_git_diff(each) for each in (*mine.context, *theirs.context))
    unknown = edited and bool(mine.context or theirs.context) and (late or plan.scope.kind != "range")
    if unknown or call.step.runs_commands or other.step.runs_commands:
        return 0
    if edited and len(call.collected.parts) > 1:  # an answer to another part may be seen then
        call, other = call._replace(history=()), other._replace(history=())
    as_large = mine.context_chars == theirs.context_chars or all(map(is_change, mine.context))
    if mine.context == theirs.context and as_large:
        return _count_common(plan, call, other)
    if changes_in(mine.context) != changes_in(theirs.context) or call.part != other.part:
        return 0
    first = [list(takewhile(is_change, each.context)) for each in (mine, theirs)]
    return _count_equal(*first) if _have_one_cache(call.step, other.step) else 0


def _count_common(plan: Plan, one: PartCall, other: PartCall) -> int:
    """How many blocks two prompts have in common from their beginning on, if one cache can serve both."""
    mine, theirs = (call.collected.parts[call.part - 1] for call in (one, other))
    explained = [prompts.explains_numbers(blocks) for blocks in (mine, theirs)]
    if explained[0] != explained[1] or not _have_one_cache(one.step, other.step):
        return 0
    alike = _count_equal([each[:2] for each in mine], [each[:2] for each in theirs])
    if alike < max(len(mine), len(theirs)):
        return alike
    return alike + 1 + _count_equal(one.describe_history(plan), other.describe_history(plan))  # and the task


def _count_equal(one: Sequence[object], other: Sequence[object]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _have_one_cache(one: PlannedStep, other: PlannedStep) -> bool:
    """Whether both call one model in one way: effort and other options are a part of what is cached."""

    def way(step: PlannedStep) -> object:
        model = step.model
        return model and (model.name, model.endpoint, model.reasoning_effort, model.options)

    return one.backend is other.backend and not other.edits_tree and way(one) == way(other)
