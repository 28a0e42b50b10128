"""Which calls of a run have prompts that begin alike, for the prefix caches of providers (pure).

Some providers cache the beginning of a prompt only up to a place that the request marks, and only a request
that marks the same place reads it. A write costs more than a prompt without a mark, so a place is marked only
if a call before this one has marked it, or a call after it is planned to. The plan decides, not luck: where a
step may edit files, what is read after it counts as different.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from aethr.base.records import (
    Block,
    ModelSpec,
    Plan,
    PlannedStep,
    StepResult,
    changes_in,
    is_change,
    is_git_diff,
)
from aethr.engine import prompts
from aethr.engine.progress import Progress, turn_key, upcoming
from aethr.engine.steps import PartCall

MOST_MARKS = 4
"""The most places that a request can mark, at Anthropic and at OpenAI."""


class _Beginning(NamedTuple):
    """What a prompt begins with: the blocks of its context, and the results that its history is made of."""

    step: PlannedStep
    part: int
    blocks: Sequence[Block]
    seen: Sequence[StepResult]

    def describe_history(self) -> tuple[prompts.Titled, ...]:
        return prompts.describe_history(self.seen, self.step.spec.history_visibility)


def mark(progress: Progress, calls: Sequence[PartCall]) -> list[PartCall]:
    """The calls of the next turns, each with the numbers of blocks (``shared``) to mark.

    A cache can be read once the answer of the call that writes it has begun: calls that run at the same time
    do not read what the others write, so only the first of them writes what they have in common.
    """
    plan, marked = progress.plan, list[PartCall]()
    begin = [
        _Beginning(each.step, each.part, each.collected.parts[each.part - 1], each.see(plan))
        for each in calls
    ]
    for number, (call, own) in enumerate(zip(calls, begin, strict=True)):
        if call.step.edits_tree:
            marked.append(call)
            continue
        began = max(0, number - plan.jobs + 1)
        before, beside, after = begin[:began], begin[began:number], begin[number + plan.jobs :]
        read = [*(_count_common(own, each) for each in before), *_look_back(progress, call, own)]
        written = {*(_count_common(own, each) for each in after), *_look_ahead(plan, call, own, calls)}
        by_others = max((_count_common(own, each) for each in beside), default=0)
        ahead = sorted(count for count in written if count > by_others)[-MOST_MARKS + 1 :]
        marked.append(call._replace(shared=tuple(sorted({max(read, default=0), *ahead} - {0}))))
    return marked


def _look_back(progress: Progress, call: PartCall, own: _Beginning) -> Iterator[int]:
    """How many blocks the call has in common with each call that this run has made before its turn.

    Those of a checkpoint were made so long ago that their cache has expired.
    """
    steps = {step.spec.id: step for step in progress.plan.steps}
    first: dict[tuple[str, int], int] = {}
    for at, result in enumerate(call.history):
        first.setdefault(turn_key(result), at)
    places = {result.key: at for at, result in enumerate(call.history)}
    edited = False
    for result in reversed(call.history):
        if turn_key(result) in progress.done:
            return
        step, begins = steps[result.id], first[turn_key(result)]
        edited = edited or _may_edit(step)
        if result.calls:
            seen = () if result.part != call.part else [r for r in own.seen if places[r.key] < begins]
            yield _predict_common(progress.plan, call, own, step, result.part, seen, edited)


def _look_ahead(plan: Plan, call: PartCall, own: _Beginning, calls: Sequence[PartCall]) -> Iterator[int]:
    """How many blocks the call has in common with each call that may follow, if every loop uses its passes.

    A later step that sees all earlier answers sees those that this one sees first.
    """
    edited, now = False, {each.turn for each in calls}
    for turn in upcoming(plan, call.turn, every_pass=True):
        step = plan.steps[turn.position]
        if turn not in now:
            seen = own.seen if step.spec.history_visibility in ("all", "summary") else ()
            for part in plan.own_parts(len(call.collected.parts)):
                yield _predict_common(plan, call, own, step, part, seen, edited)
        edited = edited or _may_edit(step)


def _may_edit(step: PlannedStep) -> bool:
    """Whether what is read after this step may be different."""
    return step.edits_tree or step.runs_commands or step.check is not None


def _predict_common(
    plan: Plan,
    call: PartCall,
    own: _Beginning,
    step: PlannedStep,
    part: int,
    seen: Sequence[StepResult],
    edited: bool,
) -> int:
    """How many blocks a call has in common with that of ``step`` for ``part``, which is known only in part.

    ``seen`` is what that one sees of what this one sees. ``edited`` says that files may be edited between
    them: then they have the same context only between two commits. Two steps with different context have the
    same change, because it is cut once for all of them; their other sources may be cut to another size.
    """
    mine, theirs = call.step.spec, step.spec
    late = any(is_change(each) and not is_git_diff(each) for each in (*mine.context, *theirs.context))
    unknown = edited and bool(mine.context or theirs.context) and (late or plan.scope.kind != "range")
    if unknown or call.step.runs_commands or step.runs_commands:
        return 0
    as_large = mine.context_chars == theirs.context_chars or all(map(is_change, mine.context))
    if mine.context == theirs.context and as_large:
        if edited and len(call.collected.parts) > 1:  # an answer to another part may be seen then
            own, seen = own._replace(seen=()), ()
        return _count_common(own, _Beginning(step, part, call.collected.parts[part - 1], seen))
    if changes_in(mine.context) != changes_in(theirs.context) or call.part != part:
        return 0
    first = [[*takewhile(is_change, each.context)] for each in (mine, theirs)]
    return _count_equal(*first) if _have_one_cache(call.step, step) else 0


def _count_common(one: _Beginning, other: _Beginning) -> int:
    """How many blocks two prompts have in common from their beginning on, if one cache can serve both."""
    explained = [prompts.explains_numbers(each.blocks) for each in (one, other)]
    if explained[0] != explained[1] or not _have_one_cache(one.step, other.step):
        return 0
    mine, theirs = ([(each.source, each.text) for each in of.blocks] for of in (one, other))
    alike = _count_equal(mine, theirs)
    if alike < max(len(mine), len(theirs)):
        return alike
    visibility = {each.step.spec.history_visibility for each in (one, other)}
    whole = len(visibility) == 1 and visibility <= {"all", "summary"}
    histories = (each.seen if whole else each.describe_history() for each in (one, other))
    return alike + 1 + _count_equal(*histories)  # and the task


def _count_equal(one: Iterable[object], other: Iterable[object]) -> int:
    """How many items two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _have_one_cache(one: PlannedStep, other: PlannedStep) -> bool:
    """Whether both call one model in one way: effort and other options are a part of what is cached."""

    def way(model: ModelSpec | None) -> object:
        return model and (model.name, model.endpoint, model.reasoning_effort, model.options)

    return one.backend is other.backend and not other.edits_tree and way(one.model) == way(other.model)
