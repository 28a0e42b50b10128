"""The sequential loop and the repeat rule, as one generator of events.

What comes next depends only on the finished results (``Progress``). A resume therefore needs no saved
loop state: it feeds the checkpoint's results through the same loop and calls a backend for the first one
that is missing. A step that is not called because the change that it would read is empty has a result too
(``skipped``), so a replay does not look at the tree again. This module knows no concrete source, backend or
terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from aethr import review
from aethr.base import budget
from aethr.base.errors import AethrError, ExitCode, ModelError, NotReviewedError, UsageError
from aethr.base.records import (
    CHANGE,
    CHANGES,
    NO_USAGE,
    UNLIMITED,
    AttemptStarted,
    Block,
    Collected,
    Completion,
    Concurrent,
    Earlier,
    Event,
    Excluded,
    LoopEnded,
    LoopOutcome,
    LoopResult,
    Notice,
    Plan,
    PlannedStep,
    Receipt,
    Repeat,
    Request,
    RunFinished,
    RunResult,
    RunStarted,
    ShardPlan,
    ShardResult,
    ShardStep,
    Skipped,
    Spent,
    StepEvent,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    Subject,
    TextDelta,
    Thinking,
    Totals,
    Usage,
    View,
)
from aethr.base.sanitize import REDACTED, Redactor
from aethr.engine import at_once, conditions, prompts
from aethr.engine.at_once import Loan, Purse
from aethr.review import Verdict

Clock = Callable[[], float]
Keep = Callable[[StepResult], None]


class Turn(NamedTuple):
    """The next call: the step's position in the workflow, from 0, and its pass, from 1."""

    position: int
    iteration: int


class Progress:
    """Where a run stands. It changes only by ``add``, so replaying the results rebuilds it.

    ``results`` are those of finished turns, in the order of the run and of their parts. ``open`` are those of
    turns that are not finished, or that come after one that is not, in the order in which they came.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results: list[StepResult] = []
        self.loops: list[LoopResult] = []
        self.turn: Turn | None = Turn(0, 1)
        self.open: list[StepResult] = []

    def turns(self) -> tuple[Turn, ...]:
        """The next turn, and the turns of the steps after it that may run at the same time.

        These are reviewing steps in the same loops that see no earlier answer.
        """
        if self.turn is None:
            return ()
        position, iteration = self.turn
        last = position
        while last + 1 < len(self.plan.steps) and self._may_run_together(last, last + 1):
            last += 1
        return tuple(Turn(each, iteration) for each in range(position, last + 1))

    def results_of(self, turn: Turn) -> list[StepResult]:
        """Those of the ``open`` results that belong to this turn."""
        own = self.plan.steps[turn.position].spec.id, turn.iteration
        return [each for each in self.open if (each.id, each.iteration) == own]

    def add(self, result: StepResult) -> LoopResult | None:
        """Take a finished step, or a part of one; return the loop that ended with it, if one did."""
        self.open.append(result)
        ended = None
        while self.turn is not None and (finished := _in_order(self.results_of(self.turn))):
            if len(finished) < len(self.plan.own_parts(finished[0].parts)):
                break
            self.open = [each for each in self.open if (each.id, each.iteration) != _turn_key(finished[0])]
            self.results += finished
            ended = self._end_turn(self.turn, finished)
        return ended

    def _end_turn(self, turn: Turn, finished: Sequence[StepResult]) -> LoopResult | None:
        following = turn.position + 1
        repeat = self.plan.steps[turn.position].spec.repeat
        if repeat:
            outcome = self._end_loop(repeat, finished)
            if outcome is None:
                self.turn = Turn(self._index(repeat.back_to), turn.iteration + 1)
                return None
            self.loops.append(LoopResult(finished[0].id, repeat.back_to, turn.iteration, outcome))
        inside = any(
            self._index(step.spec.repeat.back_to) < following <= end
            for end, step in enumerate(self.plan.steps)
            if step.spec.repeat
        )
        at_end = following == len(self.plan.steps)
        self.turn = None if at_end else Turn(following, turn.iteration if inside else 1)
        return self.loops[-1] if repeat else None

    def _may_run_together(self, first: int, second: int) -> bool:
        pair = [self.plan.steps[first], self.plan.steps[second]]
        blind = pair[0].backend is pair[1].backend and all(
            step.spec.reviewing
            and step.spec.history_visibility == "none"
            and not (step.edits_tree or step.runs_commands)
            for step in pair
        )
        loops = [
            [
                end
                for end, step in enumerate(self.plan.steps)
                if step.spec.repeat and self._index(step.spec.repeat.back_to) <= position <= end
            ]
            for position in (first, second)
        ]
        return blind and pair[0].spec.repeat is None and loops[0] == loops[1]

    def _end_loop(self, repeat: Repeat, finished: Sequence[StepResult]) -> LoopOutcome | None:
        """How the loop ends with these results of its last step; None if another pass follows."""
        if finished[0].skipped is not None:
            return "satisfied" if self._is_satisfied_without_review(repeat, finished) else "stalled"
        if conditions.hold(repeat, finished, finished):
            return "satisfied"
        if self._is_stalled(repeat, finished):
            return "stalled"
        return "exhausted" if finished[0].iteration >= repeat.max_iterations else None

    def _is_satisfied_without_review(self, repeat: Repeat, skipped: Sequence[StepResult]) -> bool:
        """Whether a loop whose last step had nothing to read is satisfied: its latest answer still counts.

        If there was no answer, there was nothing to review, unless a step edited files that the review
        does not see.
        """
        for each in reversed(self.results[:-1]):
            if each.artifacts is not None and each.artifacts.edited:
                return False
            if each.id == skipped[0].id and each.skipped is None:
                return conditions.hold(repeat, self._turn_of(each), skipped)
        return conditions.hold(repeat, (), skipped)

    def _is_stalled(self, repeat: Repeat, finished: Sequence[StepResult]) -> bool:
        """Whether this pass edited nothing and found the same as the pass before."""
        if finished[0].iteration == 1:
            return False
        since = max(n for n, each in enumerate(self.results) if each.id == repeat.back_to)
        edits = [each.artifacts for each in self.results[since:] if each.artifacts is not None]
        earlier = self.results[: -len(finished)]
        before = next(each for each in reversed(earlier) if each.id == finished[0].id)
        unchanged = bool(edits) and not any(artifacts.edited for artifacts in edits)
        return unchanged and review.same_findings(self._turn_of(before), finished)

    def _turn_of(self, result: StepResult) -> list[StepResult]:
        """All parts of the turn that this result belongs to."""
        return [each for each in self.results if _turn_key(each) == _turn_key(result)]

    def _index(self, step_id: str) -> int:
        return next(n for n, step in enumerate(self.plan.steps) if step.spec.id == step_id)


def _turn_key(result: StepResult) -> tuple[str, int]:
    return result.id, result.iteration


def _in_order(finished: Iterable[StepResult]) -> list[StepResult]:
    """The results of one turn by their parts. A command of its loop has run after all: the last has it."""
    ordered = sorted(finished, key=lambda result: result.part)
    if len(ordered) < 2:
        return ordered
    check = next((each.check for each in ordered if each.check is not None), None)
    return [*(each._replace(check=None) for each in ordered[:-1]), ordered[-1]._replace(check=check)]


def run(
    plan: Plan,
    done: Sequence[StepResult] = (),
    clock: Clock = time.monotonic,
    keep: Keep = lambda _: None,
) -> Generator[Event, None, None]:
    """Run ``plan`` to its end; ``done`` are results to replay. The last event is ``RunFinished``.

    Raises ``AethrError`` if a step fails, after a ``StepFinished`` for each step before it, and for each call
    that ran at the same time. The consumer writes the checkpoint before it shows an event. ``keep`` is called
    earlier with the result of a call that runs beside others, in the thread of that call. What earlier
    attempts left in the tree belongs to the next step that edits it, even if the workflow now has another
    step there.
    """
    subject, left_out, first = _read_subject(plan, resumed=bool(done))
    shards = None
    if plan.shard and subject:
        shards = _describe_shards(plan, subject, _view(plan, ())._replace(run_commands=False))
    started = RunStarted(plan.workflow.name, plan.task, plan.mode, len(plan.steps), subject, shards)
    if (refusal := _find_too_many_parts(plan, subject)) is not None:
        yield started
        raise refusal
    estimate = plan.estimate()
    yield started._replace(estimate=estimate, left_out=left_out)
    progress = Progress(plan)
    if shards and not plan.own_parts(len(shards.lines)):
        progress.turn = None
    for result in in_order(plan, done):
        yield from _finish(progress, _check_order(progress, result), replayed=True)
    earlier = plan.earlier
    while (turn := progress.turn) is not None:
        yield from _run_next(progress, first, earlier, clock, keep)
        first = None
        earlier = None if plan.steps[turn.position].edits_tree else earlier
    reviewing = frozenset(step.spec.id for step in plan.steps if step.spec.reviewing)
    visibility = {step.spec.id: step.spec.history_visibility for step in plan.steps}
    doubt = plan.unproven
    if plan.is_live and plan.gate.needs_review:
        doubt = _find_move(plan, progress.results, shards) or doubt
    if earlier is not None and earlier.remains and reviewing:
        # The workflow has changed since: no step that edits the tree has run, so no reviewed diff has it.
        doubt = f"what the failed attempt of step '{earlier.attempt.step}' changed was not reviewed"
    verdict = review.judge(progress.results, reviewing, plan.mode, plan.holds, visibility, doubt)
    finished = record(plan, progress.results, progress.loops, verdict, subject, shards=shards, doubt=doubt)
    yield RunFinished(finished._replace(estimate=estimate))


def in_order(plan: Plan, results: Sequence[StepResult]) -> list[StepResult]:
    """``results`` in the order of the run, if calls that ran at once ended in another one.

    Those that do not fit ``plan``, because the id of a step holds a key and is redacted, stay as they are.
    """
    progress = Progress(plan)
    for result in results:
        progress.add(result)
    rest = [each for turn in progress.turns() for each in _in_order(progress.results_of(turn))]
    return [*progress.results, *rest] if len(rest) == len(progress.open) else list(results)


def replay(plan: Plan, done: Sequence[StepResult]) -> Progress:
    """Where a run stands after ``done``. Raises ``UsageError`` if that does not fit ``plan``."""
    progress = Progress(plan)
    for result in done:
        progress.add(_check_order(progress, result))
    return progress


def without_stale_parts(plan: Plan, done: Sequence[StepResult]) -> tuple[StepResult, ...]:
    """``done``, without the parts of an unfinished step if its change is now another one or cut elsewhere."""
    progress = replay(plan, done)
    view = _view(plan, progress.results)._replace(run_commands=False, again=True)
    stale: list[StepResult] = []
    for turn in progress.turns() if progress.open else ():
        if found := progress.results_of(turn):
            parts = plan.steps[turn.position].collect(view).parts
            if any(
                each.parts != len(parts)
                or not _same_change(each.context, _receipts(parts[each.part - 1]), CHANGES)
                for each in found
            ):
                stale += found
    return tuple(each for each in done if each not in stale)


def readers_behind_review(plan: Plan, done: Sequence[StepResult]) -> tuple[PlannedStep, ...]:
    """The steps among ``done`` through which a review sees the change, and which do not run again.

    These are the reviewing steps that read it; if none reads any change, all steps that do.
    """
    turn = replay(plan, done).turn
    reviewing = [step for step in plan.steps if step.spec.reviewing and set(CHANGES) & {*step.spec.context}]
    finished = plan.steps[: turn.position if turn else None]
    return tuple(s for s in finished if CHANGE in s.spec.context and s in (reviewing or plan.steps))


def saw_another_change(plan: Plan, done: Sequence[StepResult]) -> str | None:
    """The id of a step among ``done`` on which a review rests and whose change is now a different one.

    None if the workflow has an agent: it edits the tree, so the difference may be the run's own.
    """
    if any(step.edits_tree for step in plan.steps):
        return None
    latest = {result.id: result.iteration for result in done}
    view = _view_anew(plan)
    for step in readers_behind_review(plan, done):
        own = step.spec.id
        then = (each for r in done if (r.id, r.iteration) == (own, latest[own]) for each in r.context)
        parts = step.collect(view).parts
        now = (each for part in plan.own_parts(len(parts)) for each in _receipts(parts[part - 1]))
        if not _same_change(then, now, {CHANGE}):
            return own
    return None


def _view_anew(plan: Plan) -> View:
    """A view for which the change is read again."""
    fixed = None if plan.scope.looks_at_disk or not plan.survey else plan.survey._replace(listed_diff=None)
    return _view(plan, ())._replace(run_commands=False, survey=fixed, again=True)


def preview(plan: Plan, *, run_commands: bool = False, agents: bool = True) -> Iterator[StepPrepared]:
    """The prompts of the first pass, without a call; a placeholder stands where an answer would.

    Commands of the project run only if ``run_commands`` is True. Without ``agents`` their prompts are empty,
    and their context is not read.
    """
    history: list[StepResult] = []
    for step in plan.steps:
        if step.edits_tree and not agents:
            yield StepPrepared(step.spec.id, "", "", ())
            continue
        view = _view(plan, history)._replace(preview=True, run_commands=run_commands)
        collected = step.collect(view)
        resumed = plan.earlier is not None and plan.earlier.attempt.step == step.spec.id
        earlier = plan.earlier if resumed else None
        answers = []
        for part in plan.own_parts(len(collected.parts)):
            prepared = _prepare(plan, step, history, collected, part, earlier)
            if _has_nothing_to_read(plan, step, collected):
                answers.append(_skipped(step, Turn(0, 1), collected))
                yield prepared._replace(skipped=answers[-1].skipped)
                continue
            yield prepared
            placeholder = Completion(f"(The answer of the step '{step.spec.id}' will stand here.)", "", "")
            answers.append(_result(step, Turn(0, 1), prepared, [placeholder], 0.0))
        history += answers


def record(
    plan: Plan,
    results: Sequence[StepResult],
    loops: Sequence[LoopResult],
    verdict: Verdict,
    subject: Subject | None = None,
    failed: Sequence[Usage] = (),
    shards: ShardPlan | None = None,
    doubt: str | None = None,
) -> RunResult:
    """The run record, also of a run that stopped early.

    ``failed`` is what the failed attempts of each call used that did not finish. A shard has no verdict and
    no gate: ``shards`` and ``doubt``, why the review of its parts cannot be complete, are for the merge.
    """
    skipped = (Skipped(each.id, each.iteration, each.skipped) for each in results if each.skipped is not None)
    recorded = review.as_recorded(verdict, plan.mode)
    exit_code = review.exit_code(verdict, loops, plan.gate, plan.mode)
    shard = None
    if plan.shard is not None:
        not_called = tuple(each for each in results if each.skipped is not None)
        shard = ShardResult(*plan.shard, shards, _list_paths(plan, results), not_called, doubt, tuple(failed))
        recorded, exit_code = review.as_shard(verdict, shard), ExitCode.OK
    return RunResult(
        task=plan.task,
        workflow=plan.workflow.name,
        mode=plan.mode,
        scope=plan.scope,
        steps=tuple(each for each in results if each.skipped is None),
        loops=tuple(loops),
        review=recorded.review,
        totals=totals(results, failed),
        exit_code=exit_code,
        subject=subject,
        skipped=tuple(skipped),
        outcome=recorded.outcome,
        excluded=tuple(find_excluded(results)),
        shard=shard,
    )


def find_excluded(results: Iterable[StepResult]) -> Iterator[Excluded]:
    """The excluded files of all steps, each as it was last seen, but not those that another step was sent."""
    receipts = {each.path: each for result in results for each in result.context if each.source == CHANGE}
    for each in receipts.values():
        if each.path is not None and each.excluded is not None:
            removed = each.changed_lines - each.added_lines
            yield Excluded(each.path, each.excluded, each.added_lines, removed)


def _describe_shards(plan: Plan, subject: Subject, view: View) -> ShardPlan:
    """What all shards of this run have in common. All steps of the workflow read the same parts."""
    from aethr.engine import checkpoint

    cut = plan.steps[0].collect(view).parts
    parts = [[each for each in _receipts(blocks) if each.source in CHANGES and each.path] for blocks in cut]
    return ShardPlan(
        checkpoint.digest(plan, parts),
        subject,
        tuple(ShardStep(s.spec.id, s.spec.reviewing, s.spec.history_visibility) for s in plan.steps),
        tuple(sum(each.changed_lines for each in part if not each.excluded) for part in parts),
    )


def _list_paths(plan: Plan, results: Iterable[StepResult]) -> tuple[str, ...]:
    """The paths of findings that the tree has, because the merge has no tree to look at."""
    held: dict[str, bool] = {}

    def holds(path: str) -> bool:
        held[path] = plan.holds(path)
        return held[path]

    reviewing = {step.spec.id for step in plan.steps if step.spec.reviewing}
    for result in results:
        if result.id in reviewing:
            review.read(result, holds)
    return tuple(sorted(path for path, is_there in held.items() if is_there))


def totals(results: Sequence[StepResult], failed: Sequence[Usage] = ()) -> Totals:
    """Sums over ``results`` and ``failed`` attempts; one unknown figure makes its sum unknown."""
    used = budget.used(results, failed)
    return Totals(
        calls=sum(result.calls for result in results) + len(failed),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cost_usd=used.cost_usd,
        seconds=sum(result.seconds for result in results),
        estimated=used.estimated,
    )


class _Call(NamedTuple):
    """A part of a step that is to run. ``history`` are the results from before its turn."""

    step: PlannedStep
    turn: Turn
    part: int
    collected: Collected
    history: tuple[StepResult, ...]
    earlier: Earlier | None

    def prepare(self, plan: Plan) -> tuple[StepPrepared, Request]:
        """Its prompt, and the request without its allowance."""
        prepared = _prepare(plan, self.step, self.history, self.collected, self.part, self.earlier)
        request = self.step.request(plan.root, prepared.prompt, iteration=self.turn.iteration)
        return prepared, request._replace(earlier=self.earlier)

    def announce(self, plan: Plan) -> Iterator[StepStarted]:
        """Its start, unless that was said before the commands of its context ran."""
        parts = len(self.collected.parts)
        if parts > 1 or not self.step.runs_commands:
            yield _started(plan, self.turn, self.part, parts)


def _run_next(
    progress: Progress, first: Collected | None, earlier: Earlier | None, clock: Clock, keep: Keep
) -> Iterator[Event]:
    """Run the parts of the next step that have no result yet, and of the steps that may run with it.

    ``first`` is the context of the first step, if it has been read. A step that would review an empty change
    is not called.
    """
    plan, calls, history = progress.plan, list[_Call](), tuple(progress.results)
    _require_budget(progress)
    for turn in progress.turns():
        step = plan.steps[turn.position]
        if step.runs_commands:  # they may take minutes
            yield _started(plan, turn)
        collected = first if turn == Turn(0, 1) else None
        if collected is None:
            collected = step.collect(_view(plan, history))
        if _has_nothing_to_read(plan, step, collected):
            if calls:  # its turn comes after them
                break
            if not step.runs_commands:
                yield _started(plan, turn)
            yield from _finish(progress, _skipped(step, turn, collected), replayed=False)
            return
        done = {result.part for result in progress.results_of(turn)}
        missing = sorted({*plan.own_parts(len(collected.parts))} - done)
        calls += [_Call(step, turn, part, collected, history, earlier) for part in missing]
    purse = _share_budget(progress, calls)
    if plan.jobs > 1 and len(calls) > 1:
        yield from _run_at_once(progress, calls, purse, clock, keep)
        return
    for number, call in enumerate(calls):
        _require_budget(progress)
        yield from call.announce(plan)
        loan = purse.admit(number)
        assert loan is not None, "no other call runs"
        result = yield from _perform(plan, call, loan, purse, clock)
        purse.settle(number, result.usage)
        yield from _finish(progress, result, replayed=False)


def _run_at_once(
    progress: Progress, calls: Sequence[_Call], purse: Purse, clock: Clock, keep: Keep
) -> Iterator[Event]:
    """Run calls in threads. What depends on their order is left to whoever takes the events."""
    plan = progress.plan

    def perform(call: _Call, loan: Loan) -> at_once.Work:
        yield from call.announce(plan)
        result = yield from _perform(plan, call, loan, purse, clock)
        with suppress(AethrError):  # the recorder tries again when it takes the event, and then raises
            keep(result)
        return result

    works = [partial(perform, call) for call in calls]
    for number, item in at_once.run(works, plan.jobs, purse, partial(_require_budget, progress)):
        if not isinstance(item, StepResult):
            yield Concurrent(number, item, len(calls))
            continue
        for event in _finish(progress, item, replayed=False):
            yield Concurrent(number, event, len(calls)) if isinstance(event, StepFinished) else event


def _share_budget(progress: Progress, calls: Sequence[_Call]) -> Purse:
    """What these calls may spend together, and each of them alone.

    A call's share does not depend on which of the others ends first, nor on how many run at once.
    """
    plan = progress.plan
    left = plan.allowance.after(budget.used([*progress.results, *progress.open]))
    if len(calls) == 1 or left == UNLIMITED:
        return Purse(left, [left] * len(calls))
    requests = (call.prepare(plan)[1] for call in calls)
    return Purse(left, calls[0].step.share(requests, left))


def _require_budget(progress: Progress) -> None:
    """Raise ``BudgetError`` if the finished steps exceed the budget: no other call is made then."""
    over = budget.exceeded(progress.plan.allowance, [*progress.results, *progress.open])
    if over is not None:
        raise over


def _started(plan: Plan, turn: Turn, part: int = 1, parts: int = 1) -> StepStarted:
    step = plan.steps[turn.position]
    model = step.model.name if step.model else None
    place = turn.position + 1, len(plan.steps)
    return StepStarted(
        step.spec.id, step.spec.role, step.spec.backend, model, turn.iteration, *place, part, parts
    )


def _finish(progress: Progress, result: StepResult, *, replayed: bool) -> Iterator[StepFinished | LoopEnded]:
    result = _with_check(progress, result)
    ended = progress.add(result)
    yield StepFinished(result, replayed)
    if ended:
        yield LoopEnded(ended)


def _perform(
    plan: Plan, call: _Call, loan: Loan, purse: Purse, clock: Clock
) -> Generator[StepEvent, None, StepResult]:
    """One part of a step: prompt, call, and a second short call if a review has no verdict."""
    step = call.step
    prepared, request = call.prepare(plan)
    yield prepared
    began = clock()
    request = request._replace(allowance=loan.allowance, extend=loan.extend, cancelled=purse.cancelled.is_set)
    failed: list[Usage] = []
    answers = [(yield from _call(plan, step, request, failed))]
    doubt = _find_missing_verdict(plan, step, prepared, answers[0])
    if doubt:
        yield Notice(f"{step.spec.id}: no verdict: {doubt}; asking once more", "warning")
        answers += yield from _ask_verdict(plan, step, request, answers[0], failed)
    return _result(step, call.turn, prepared, answers, clock() - began, failed)


def _with_check(progress: Progress, result: StepResult) -> StepResult:
    """The result, with what the command of the step's loop says once all of its parts are there."""
    check = next(step.check for step in progress.plan.steps if step.spec.id == result.id)
    turn = [*(each for each in progress.open if _turn_key(each) == _turn_key(result)), result]
    if (
        check is None
        or len(turn) < len(progress.plan.own_parts(result.parts))
        or any(each.check is not None for each in turn)
    ):
        return result
    return result._replace(check=check())


def _has_nothing_to_read(plan: Plan, step: PlannedStep, collected: Collected) -> bool:
    """Whether a step needs a change to read, and there is none.

    A reviewing step does, and every step of a workflow whose steps read only the change.
    """
    there = {block.change for blocks in collected.parts for block in blocks}
    if True in there or False not in there or step.edits_tree:
        return False
    contexts = [set(each.spec.context) for each in plan.steps]
    return step.spec.reviewing or (
        all(CHANGE in context and context <= set(CHANGES) for context in contexts)
        and not any(each.edits_tree for each in plan.steps)
    )


def _skipped(step: PlannedStep, turn: Turn, collected: Collected) -> StepResult:
    """The result of a step that is not called, with the reason and the receipts of its empty change."""
    receipts = tuple(each for each in _receipts(collected.parts[0]) if each.source in CHANGES)
    return StepResult(
        id=step.spec.id,
        role=step.spec.role,
        backend=step.spec.backend,
        model=None,
        iteration=turn.iteration,
        prompt_sha256="",
        content="",
        calls=0,
        usage=NO_USAGE,
        context=receipts,
        skipped=_explain_empty(receipts) or "nothing changed",
    )


def _explain_empty(receipts: Iterable[Receipt]) -> str:
    """Why there is nothing of a change to read."""
    notes = (review.ALL_EXCLUDED if each.excluded else each.note for each in receipts)
    return "; ".join(dict.fromkeys(note for note in notes if note))


def _ask_verdict(
    plan: Plan, step: PlannedStep, request: Request, answer: Completion, failed: list[Usage]
) -> Generator[StepEvent, None, list[Completion]]:
    """Ask once more. If this call fails, the answer that is already paid for still counts."""
    try:
        again = request.after(answer.usage, *failed)._replace(prompt=prompts.ask_verdict(answer.content))
        return [(yield from _call(plan, step, again, failed))]
    except AethrError as error:
        yield Notice(f"{step.spec.id}: no verdict: {error}", "warning")
        return []


def _call(
    plan: Plan, step: PlannedStep, request: Request, failed: list[Usage]
) -> Generator[StepEvent, None, Completion]:
    """Relay a backend's events without thinking and without the values of known keys, also across chunks.

    The usage of attempts that fail is added to ``failed``.
    """
    from aethr.review.thinking import Filter

    redactor = Redactor(plan.secrets)
    stream, filtered = redactor.stream(), Filter()
    shown: list[str] = []
    call = step.backend.complete(request)
    try:
        while True:
            try:
                event = next(call)
            except StopIteration as stop:
                if rest := filtered.feed(stream.close()) + filtered.close():
                    shown.append(rest)
                    yield TextDelta(rest)
                return (yield from _clean(step, stop.value, redactor, "".join(shown)))
            match event:
                case TextDelta():
                    text = filtered.feed(stream.feed(event.text))
                    if text:
                        shown.append(text)
                        yield TextDelta(text)
                    elif filtered.thinking:
                        yield Thinking()
                case Notice():
                    yield event._replace(text=redactor.redact(event.text))
                case Spent():
                    failed.append(event.usage)
                    yield event
                case Thinking() | AttemptStarted():
                    yield event
    finally:
        call.close()


def _clean(
    step: PlannedStep, completion: Completion, redactor: Redactor, shown: str
) -> Generator[StepEvent, None, Completion]:
    """The completion without keys and thinking. If the thinking never ends, there is no answer to review.

    ``shown`` is the text that was shown as it arrived.
    """
    from aethr.review.thinking import split

    if (artifacts := completion.artifacts) is not None:
        artifacts = artifacts._replace(git_diff=redactor.redact(artifacts.git_diff))
        completion = completion._replace(artifacts=artifacts)
    thought = split(redactor.redact(completion.content))
    if thought.thinking and shown.strip() != thought.answer.strip():
        yield Notice(f"{step.spec.id}: a part of the text above is thinking, not the answer", "warning")
    if thought.finished or step.edits_tree:
        return completion._replace(content=thought.answer)
    if step.spec.reviewing:
        return completion._replace(content="", notes=(*completion.notes, "it never stopped thinking"))
    yield Spent(completion.usage)
    raise ModelError(
        f"{completion.model}: the answer is empty: all of it was thinking",
        "Raise the model's max_tokens, or let it think less.",
    )


def _prepare(
    plan: Plan,
    step: PlannedStep,
    history: Sequence[StepResult],
    collected: Collected,
    part: int,
    earlier: Earlier | None,
) -> StepPrepared:
    spec, parts = step.spec, len(collected.parts)
    setting = prompts.Setting(
        workflow=plan.workflow.name,
        step=spec.id,
        role=spec.role,
        guidance=step.guidance,
        reviewing=spec.reviewing,
        edits_tree=step.edits_tree,
        cut=parts > 1,
    )
    called = [
        each for each in history if each.skipped is None and _is_seen(plan, step, history, each, part, parts)
    ]
    earlier_steps = prompts.describe_history(called, spec.history_visibility)
    redactor = Redactor(plan.secrets)
    found = earlier if step.edits_tree else None
    blocks = collected.parts[part - 1]
    prompt = redactor.redact(prompts.build(setting, plan.task, earlier_steps, blocks, found))
    receipts = list(_receipts(blocks))
    for block in blocks:
        if count := redactor.count(block.text):
            places = "1 place" if count == 1 else f"{count:,} places"
            note = f"the value of a key is replaced by {REDACTED} in {places}"
            receipts.append(Receipt(block.source, None, 0, note=note))
    return StepPrepared(spec.id, prompt, prompts.digest(prompt), tuple(receipts), part=part, parts=parts)


def _is_seen(
    plan: Plan, step: PlannedStep, history: Sequence[StepResult], each: StepResult, part: int, parts: int
) -> bool:
    """Whether a part of a step sees this earlier answer.

    Of a step over the same change it sees the answer to its own part alone.
    """
    if parts == 1 or each.parts != parts or each.part == part:
        return True
    sources = [CHANGES & {*own.spec.context} for own in plan.steps if own.spec.id in (step.spec.id, each.id)]
    edited = any(result.artifacts is not None for result in history[history.index(each) :])
    return sources[0] != sources[-1] or edited


def _receipts(blocks: Iterable[Block]) -> tuple[Receipt, ...]:
    return tuple(receipt for block in blocks for receipt in block.receipts)


def _view(plan: Plan, results: Sequence[StepResult]) -> View:
    """What a step reads. A mock run calls nothing, so it runs no commands either.

    The survey is from the start of the run: once a step has finished, it may be out of date.
    """
    return View(
        plan.root,
        plan.scope,
        tuple(results),
        run_commands=plan.is_live,
        strict=plan.gate.needs_review and plan.mode != "scripted",  # which tests a workflow, not a tree
        survey=None if results else plan.survey,
        rules=plan.workflow.rules,
    )


def _result(
    step: PlannedStep,
    turn: Turn,
    prepared: StepPrepared,
    answers: Sequence[Completion],
    seconds: float,
    failed: Sequence[Usage] = (),
) -> StepResult:
    first = answers[0]
    before = "".join(f"{review.close_blocks(each.content)}\n\n" for each in answers[:-1])
    return StepResult(
        id=step.spec.id,
        role=step.spec.role,
        backend=step.spec.backend,
        model=first.model or None,
        iteration=turn.iteration,
        prompt_sha256=prepared.prompt_sha256,
        content=before + answers[-1].content,
        finish_reason=first.finish_reason,
        truncated=any(answer.truncated for answer in answers),
        seconds=round(seconds, 3),
        calls=len(answers),
        transport=first.transport,
        usage=Usage.sum([*(answer.usage for answer in answers), *failed]),
        context=prepared.receipts,
        artifacts=first.artifacts,
        notes=tuple(note for answer in answers for note in answer.notes),
        cut_prompt=next((answer.cut_prompt for answer in answers if answer.cut_prompt), None),
        verdict_from=len(before),
        over_limit=next((answer.over_limit for answer in answers if answer.over_limit), None),
        part=prepared.part,
        parts=prepared.parts,
    )


def _find_missing_verdict(
    plan: Plan, step: PlannedStep, prepared: StepPrepared, answer: Completion
) -> str | None:
    """Why no verdict can be read from this answer, so that Aethr asks once more; None if it does not ask.

    A mock always answers in the form. If the answer is empty or cut, or the prompt was cut, Aethr does not
    ask again: the review would be incomplete in any case.
    """
    asked = step.spec.reviewing and not step.edits_tree and plan.mode != "mock"
    if not asked or not answer.content or answer.truncated or answer.cut_prompt:
        return None
    read = review.parse(answer.content, review.ground(prepared.receipts, plan.holds))
    return read.reason if read.status == "none" else None


def _check_order(progress: Progress, finished: StepResult) -> StepResult:
    """The checkpoint's result, if it is of the step and pass that comes next. Raises ``UsageError``."""
    again = "Start over without --resume-checkpoint."
    if progress.turn is None:
        raise UsageError(
            f"the checkpoint does not fit the workflow: step '{finished.id}' comes after its end", again
        )
    steps, turns = progress.plan.steps, progress.turns()
    fitting = [
        each for each in turns if (steps[each.position].spec.id, each.iteration) == _turn_key(finished)
    ]
    if not fitting:
        raise UsageError(
            f"the checkpoint does not fit the workflow: it has step '{finished.id}' "
            f"(pass {finished.iteration}) where '{steps[turns[0].position].spec.id}' "
            f"(pass {turns[0].iteration}) comes next",
            again,
        )
    step, others = steps[fitting[0].position], progress.results_of(fitting[0])
    fits = all(each.parts == finished.parts and each.part != finished.part for each in others)
    is_own = finished.part in progress.plan.own_parts(finished.parts)
    if not fits or not is_own or (step.edits_tree and finished.parts > 1):
        raise UsageError(
            f"the checkpoint does not fit the workflow: step '{finished.id}' has no part {finished.part} of "
            f"{finished.parts} beside the others",
            again,
        )
    return finished


def _read_subject(
    plan: Plan, *, resumed: bool
) -> tuple[Subject | None, tuple[Receipt, ...], Collected | None]:
    """What the run is about, what of it is not sent, and the first step's context if that was read for it.

    No command of the project runs here: it may take minutes, and nothing is shown yet.
    """
    readers = [(step.edits_tree, n) for n, step in enumerate(plan.steps) if CHANGE in step.spec.context]
    if not readers:
        return None, (), None
    _, reader = min(readers)  # an agent sees the change in one piece
    used = not resumed and reader == 0 and not plan.steps[0].runs_commands
    collected = plan.steps[reader].collect(_view(plan, ())._replace(run_commands=False))
    blocks = [block for part in collected.parts for block in part if block.source == CHANGE]
    change, receipts = blocks[0], _receipts(blocks)
    subject = Subject(
        plan.scope,
        collected.extent if change.change else None,
        any(step.spec.reviewing and CHANGE in step.spec.context for step in plan.steps),
        "" if change.change else _explain_empty(change.receipts[:1]),
        collected.needed,
        excluded=len({each.path for each in receipts if each.excluded is not None}),
        by_name=change.change is True and plan.workflow.exclude_defaults and plan.scope.without_base_side,
    )
    left_out = (each for each in receipts if not each.complete or each.excluded is not None)
    return subject, tuple(dict.fromkeys(left_out)), collected if used else None


def _find_too_many_parts(plan: Plan, subject: Subject | None) -> NotReviewedError | None:
    """Why a required review is impossible: the change needs more parts than the workflow allows."""
    most = plan.workflow.parts
    if subject is None or subject.parts <= most or not plan.gate.needs_review or plan.mode == "mock":
        return None
    return NotReviewedError(
        f"the change needs {subject.parts:,} parts, and limits.parts allows {most}",
        f"Set `limits: {{parts: {subject.parts}}}` in {plan.workflow.origin}, exclude files that need no "
        "review, or review a smaller change.",
    )


def _find_move(plan: Plan, results: Sequence[StepResult], shards: ShardPlan | None) -> str | None:
    """Why the review is out of date: what it read has changed during the run. None if it has not.

    With an agent nothing is compared: the run itself edits the tree, and may move HEAD. A shard has read only
    its own parts, and compares the plan of all.
    """
    if any(step.edits_tree for step in plan.steps):
        return None
    if (moved := plan.moved()) is not None:
        return f"{moved} during the run, so the review is of what was there before"
    if plan.scope.kind == "range":  # between commits, which do not change
        return None
    if shards is None:
        step = saw_another_change(plan, results)
    else:
        same = _describe_shards(plan, shards.subject, _view_anew(plan)) == shards
        step = None if same else plan.steps[0].spec.id
    return f"the change that step '{step}' read was changed during the run" if step else None


def _same_change(then: Iterable[Receipt], now: Iterable[Receipt], sources: Container[str]) -> bool:
    """Whether the same files changed, and those that were sent in full both times have the same content.

    How much of a file fits the budget depends on the other sources, so only complete files are compared.
    """
    old, new = _files(then, sources), _files(now, sources)
    return old.keys() == new.keys() and all(
        old[path] == new[path] for path in old if None not in (*old[path], *new[path])
    )


def _files(receipts: Iterable[Receipt], sources: Container[str]) -> Mapping[str | None, Sequence[str | None]]:
    """The files of the change under review, each with its SHA-256, or None if it was not sent in full.

    A file that became a link has two entries, because git shows it twice, and one that was cut has one for
    each part. A gap that is not a file counts under its note. An excluded file has its rule instead: it is
    another change once it is not excluded.
    """
    found: dict[str | None, list[str | None]] = {}
    for each in receipts:
        if each.source in sources and (each.path or not each.complete):
            state = each.excluded or each.sha256
            found.setdefault(each.path or each.note, []).append(state if each.complete else None)
    return found
