"""The sequential loop and the repeat rule, as one generator of events.

What comes next depends only on the finished results (``progress``). A resume therefore needs no saved
loop state: it feeds the checkpoint's results through the same loop and calls a backend for the first one
that is missing. A step that is not called because the change that it would read is empty has a result too
(``skipped``), so a replay does not look at the tree again. ``steps`` makes one call; ``stale`` says whether
what was read has changed since. This module knows no concrete source, backend or terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from aethr import review
from aethr.base import budget
from aethr.base.errors import AethrError, ExitCode, NotReviewedError
from aethr.base.providers import provider_of
from aethr.base.records import (
    UNLIMITED,
    Collected,
    Completion,
    Concurrent,
    Earlier,
    Event,
    Excluded,
    LoopEnded,
    LoopResult,
    Plan,
    PlannedStep,
    Receipt,
    RunFinished,
    RunResult,
    RunStarted,
    ShardPlan,
    ShardResult,
    Skipped,
    StepFinished,
    StepPrepared,
    StepResult,
    Subject,
    TextDelta,
    Totals,
    Usage,
    changes_in,
    is_change,
    is_git_diff,
)
from aethr.engine import at_once
from aethr.engine.at_once import Loan, Purse
from aethr.engine.progress import Progress, Turn, check_order, in_order, turn_key
from aethr.engine.steps import (
    PartCall,
    explain_empty,
    make_start,
    perform,
    receipts_of,
    skip,
    skip_check,
    to_result,
    view_of,
)
from aethr.review import Verdict

Clock = Callable[[], float]
Keep = Callable[[StepResult], None]


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
        from aethr.engine import stale

        shards = stale.describe_shards(plan, subject, view_of(plan, ())._replace(run_commands=False))
    started = RunStarted(plan.workflow.name, plan.task, plan.mode, len(plan.steps), subject, shards)
    if (refusal := _find_too_many_parts(plan, subject)) is not None:
        yield started
        raise refusal
    estimate = plan.estimate()
    yield started._replace(estimate=estimate, left_out=left_out)
    progress = Progress(plan, done)
    if shards and not plan.own_parts(len(shards.lines)):
        progress.turn = None
    for result in in_order(plan, done):
        yield from _finish(progress, check_order(progress, result), replayed=True)
    earlier = plan.earlier
    while (turn := progress.turn) is not None:
        yield from _run_next(progress, first, earlier, clock, keep)
        first = None
        earlier = None if plan.steps[turn.position].edits_tree else earlier
    reviewing = frozenset(step.spec.id for step in plan.steps if step.spec.reviewing)
    visibility = {step.spec.id: step.spec.history_visibility for step in plan.steps}
    doubt = plan.unproven
    if plan.is_live and plan.gate.needs_review:
        from aethr.engine import stale

        doubt = stale.find_move(plan, progress.results, shards) or doubt
    if earlier is not None and earlier.remains and reviewing:
        # The workflow has changed since: no step that edits the tree has run, so no reviewed diff has it.
        doubt = f"what the failed attempt of step '{earlier.attempt.step}' changed was not reviewed"
    high = frozenset(step.spec.id for step in plan.steps if step.spec.verify_high)
    verdict = review.judge(
        progress.results,
        reviewing,
        plan.mode,
        plan.holds,
        visibility,
        doubt,
        high,
        plan.workflow.answers,
        plan.is_gone,
    )
    finished = record(plan, progress.results, progress.loops, verdict, subject, shards=shards, doubt=doubt)
    yield RunFinished(finished._replace(estimate=estimate))


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
        view = view_of(plan, history)._replace(preview=True, run_commands=run_commands)
        collected = step.collect(view)
        resumed = plan.earlier is not None and plan.earlier.attempt.step == step.spec.id
        earlier = plan.earlier if resumed else None
        answers = []
        for part in plan.own_parts(len(collected.parts)):
            prepared = PartCall(step, Turn(0, 1), part, collected, tuple(history), earlier).prepare(plan)
            if _has_nothing_to_read(plan, step, collected):
                answers.append(skip(step, Turn(0, 1), collected))
                yield prepared._replace(skipped=answers[-1].skipped)
                continue
            yield prepared
            placeholder = Completion(f"(The answer of the step '{step.spec.id}' will stand here.)", "", "")
            answers.append(to_result(step, Turn(0, 1), prepared, [placeholder], 0.0))
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

    ``failed`` is what the failed attempts of each call used that did not finish, besides those of the run
    that it resumes. A shard has no verdict and no gate: ``shards`` and ``doubt``, why the review of its parts
    cannot be complete, are for the merge.
    """
    recorded = review.as_recorded(verdict, plan.mode)
    exit_code = review.exit_code(verdict, loops, plan.gate, plan.mode)
    shard, failed = None, (*plan.failed, *failed)
    if plan.shard is not None:
        not_called = tuple(each for each in results if each.skipped is not None)
        shard = ShardResult(*plan.shard, shards, _list_paths(plan, results), not_called, doubt, failed)
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
        skipped=tuple(list_skipped(results)),
        outcome=recorded.outcome,
        excluded=tuple(find_excluded(results)),
        shard=shard,
        closed=review.explain_gate(verdict, loops, plan.gate, plan.mode),
    )


def list_skipped(results: Sequence[StepResult]) -> Iterable[Skipped]:
    """The steps that were not called in an iteration, for no part of the change."""
    called = {turn_key(each) for each in results if each.skipped is None}
    return dict.fromkeys(
        Skipped(each.id, each.iteration, each.skipped)
        for each in results
        if each.skipped is not None and turn_key(each) not in called
    )


def find_excluded(results: Iterable[StepResult]) -> Iterator[Excluded]:
    """The excluded files of all steps, each as it was last seen, but not those that another step was sent."""
    receipts = {each.path: each for result in results for each in result.context if is_git_diff(each.source)}
    for each in receipts.values():
        if each.path is not None and each.excluded is not None:
            removed = each.changed_lines - each.added_lines
            yield Excluded(each.path, each.excluded, each.added_lines, removed)


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
        cached_tokens=used.cached_tokens,
        written_tokens=used.written_tokens,
        reasoning_tokens=used.reasoning_tokens,
    )


def _run_next(
    progress: Progress, first: Collected | None, earlier: Earlier | None, clock: Clock, keep: Keep
) -> Iterator[Event]:
    """Run the parts of the next step that have no result yet, and of the steps that may run with it.

    ``first`` is the context of the first step, if it has been read. A step that would review an empty change
    is not called.
    """
    plan, calls, history = progress.plan, list[PartCall](), tuple(progress.results)
    _require_budget(progress)
    for turn in progress.turns():
        step = plan.steps[turn.position]
        if step.runs_commands:  # they may take minutes
            yield make_start(plan, turn)
        collected = first if turn == Turn(0, 1) else None
        if collected is None:
            collected = step.collect(view_of(plan, history))
        if _has_nothing_to_read(plan, step, collected):
            if calls:  # its turn comes after them
                break
            if not step.runs_commands:
                yield make_start(plan, turn)
            yield from _finish(progress, skip(step, turn, collected), replayed=False)
            return
        done = {result.part for result in progress.results_of(turn)}
        missing = sorted({*plan.own_parts(len(collected.parts))} - done)
        own = [PartCall(step, turn, part, collected, history, earlier) for part in missing]
        calls += (yield from _ask_about_findings(progress, own)) if step.spec.verify else own
    calls = yield from _reuse_answers(progress, calls)
    if plan.is_live and any(_marks_prefixes(call.step) for call in calls):
        from aethr.engine import prefixes

        calls = prefixes.mark(progress, calls)
    purse = _share_budget(progress, calls)
    if plan.jobs > 1 and len(calls) > 1:
        yield from _run_at_once(progress, calls, purse, clock, keep)
        return
    for number, call in enumerate(calls):
        _require_budget(progress)
        yield from call.announce(plan)
        loan = purse.admit(number)
        assert loan is not None, "no other call runs"
        result = yield from perform(plan, call, loan, purse.cancelled.is_set, clock)
        purse.settle(number, result.usage)
        yield from _finish(progress, result, replayed=False)


def _marks_prefixes(step: PlannedStep) -> bool:
    """Whether the provider of its model keeps only what a request marks, so that the plan matters to it."""
    return step.model is not None and provider_of(step.model.name).prefix_cache is not None


def _ask_about_findings(
    progress: Progress, calls: Iterable[PartCall]
) -> Generator[Event, None, list[PartCall]]:
    """The calls of a verifying step with their findings; a part without any is finished without a call."""
    asked = []
    for call in calls:
        asking = call.ask_about_findings(progress.plan)
        if asking.findings:
            asked.append(asking)
            continue
        yield from call.announce(progress.plan)
        yield from _finish(progress, skip_check(call), replayed=False)
    return asked


def _reuse_answers(progress: Progress, calls: Iterable[PartCall]) -> Generator[Event, None, list[PartCall]]:
    """The calls to make, each with the reason why; one whose answer is kept is finished without a call."""
    plan, asked = progress.plan, []
    if not plan.reuse:
        return list(calls)
    from aethr.engine import reuse

    for call in calls:
        prepared = call.prepare(plan)
        result = reuse.find(plan, call, prepared)
        if result is None:
            again = reuse.explain_asking(plan, prepared)
            asked.append(call._replace(notes=(again,)) if again else call)
            continue
        yield from call.announce(plan)
        yield prepared
        yield TextDelta(result.content)
        yield from _finish(progress, result, replayed=False)
    return asked


def _run_at_once(
    progress: Progress, calls: Sequence[PartCall], purse: Purse, clock: Clock, keep: Keep
) -> Iterator[Event]:
    """Run calls in threads. What depends on their order is left to whoever takes the events."""
    plan = progress.plan

    def work(call: PartCall, loan: Loan) -> at_once.Work[StepResult]:
        yield from call.announce(plan)
        result = yield from perform(plan, call, loan, purse.cancelled.is_set, clock)
        with suppress(AethrError):  # the recorder tries again when it takes the event, and then raises
            keep(result)
        return result

    works = [partial(work, call) for call in calls]
    for number, item in at_once.run(works, plan.jobs, purse, partial(_require_budget, progress)):
        if not isinstance(item, at_once.Returned):
            yield Concurrent(number, item, len(calls))
            continue
        for event in _finish(progress, item.result, replayed=False):
            yield Concurrent(number, event, len(calls)) if isinstance(event, StepFinished) else event


def _share_budget(progress: Progress, calls: Sequence[PartCall]) -> Purse:
    """What these calls may spend together, and each of them alone.

    A call's share does not depend on which of the others ends first, nor on how many run at once.
    """
    plan = progress.plan
    left = plan.allowance.after(budget.used([*progress.results, *progress.open], plan.failed))
    if len(calls) < 2 or left == UNLIMITED:
        return Purse(left, [left] * len(calls))
    requests = (call.request(plan, call.prepare(plan)) for call in calls)
    return Purse(left, calls[0].step.share(requests, left))


def _require_budget(progress: Progress) -> None:
    """Raise ``BudgetError`` if the finished steps exceed the budget: no other call is made then."""
    plan = progress.plan
    over = budget.exceeded(plan.allowance, [*progress.results, *progress.open], plan.failed)
    if over is not None:
        raise over


def _finish(progress: Progress, result: StepResult, *, replayed: bool) -> Iterator[StepFinished | LoopEnded]:
    """Take a result, with what the command of the step's loop says once all of its parts are there."""
    check = next(step.check for step in progress.plan.steps if step.spec.id == result.id)
    turn = [*(each for each in progress.open if turn_key(each) == turn_key(result)), result]
    is_complete = len(turn) >= len(progress.plan.own_parts(result.parts))
    if check is not None and is_complete and all(each.check is None for each in turn):
        result = result._replace(check=check())
    ended = progress.add(result)
    yield StepFinished(result, replayed)
    if ended:
        yield LoopEnded(ended)


def _has_nothing_to_read(plan: Plan, step: PlannedStep, collected: Collected) -> bool:
    """Whether a step needs a change to read, and there is none.

    A reviewing or verifying step does, and every step of a workflow whose steps read only the change.
    """
    there = {block.change for blocks in collected.parts for block in blocks}
    if True in there or False not in there or step.edits_tree:
        return False
    return (
        step.spec.reviewing
        or bool(step.spec.verify)
        or (
            all(
                any(map(is_git_diff, each.spec.context))
                and all(is_change(source) or source in each.about_change for source in each.spec.context)
                for each in plan.steps
            )
            and not any(each.edits_tree for each in plan.steps)
        )
    )


def _read_subject(
    plan: Plan, *, resumed: bool
) -> tuple[Subject | None, tuple[Receipt, ...], Collected | None]:
    """What the run is about, what of it is not sent, and the first step's context if that was read for it.

    No command of the project runs here: it may take minutes, and nothing is shown yet.
    """
    readers = [
        (step.edits_tree, n) for n, step in enumerate(plan.steps) if any(map(is_git_diff, step.spec.context))
    ]
    if not readers:
        return None, (), None
    _, reader = min(readers)  # an agent sees the change in one piece
    used = not resumed and reader == 0 and not plan.steps[0].runs_commands
    view = view_of(plan, ())._replace(run_commands=False)
    collected = plan.steps[reader].collect(view)
    blocks = [block for part in collected.parts for block in part if is_git_diff(block.source)]
    change, receipts = blocks[0], receipts_of(blocks)
    subject = Subject(
        plan.scope,
        collected.extent if change.change else None,
        any(step.spec.reviewing and any(map(is_git_diff, step.spec.context)) for step in plan.steps),
        "" if change.change else explain_empty(change.receipts[:1]),
        max([collected.needed, *(each.collect(view).needed for each in _find_other_forms(plan, reader))]),
        excluded=len({each.path for each in receipts if each.excluded is not None}),
        by_name=change.change is True and plan.workflow.exclude_defaults and plan.scope.without_base_side,
    )
    left_out = (each for each in receipts if not each.complete or each.excluded is not None)
    return subject, tuple(dict.fromkeys(left_out)), collected if used else None


def _find_other_forms(plan: Plan, reader: int) -> Sequence[PlannedStep]:
    """A step for each other form in which the change under review is read in parts."""
    steps = {changes_in(each.spec.context): each for each in plan.steps if not each.edits_tree}
    first = changes_in(plan.steps[reader].spec.context)
    return [each for form, each in steps.items() if form and form != first and all(map(is_git_diff, form))]


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
