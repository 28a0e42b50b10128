"""The sequential loop and the repeat rule, as one generator of events.

What comes next is a function of the finished results alone (``Progress``). A resume therefore needs
no saved loop state: it feeds the checkpoint's results through the same loop and calls a backend for
the first one that is missing. No concrete source, backend or terminal is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from aethr import prompts, review
from aethr.errors import AethrError, UsageError
from aethr.records import (
    CHANGE,
    Block,
    Completion,
    Event,
    LoopEnded,
    LoopOutcome,
    LoopResult,
    Notice,
    Plan,
    PlannedStep,
    Receipt,
    Repeat,
    Request,
    Review,
    RunFinished,
    RunResult,
    RunStarted,
    Spent,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    TextDelta,
    Thinking,
    Totals,
    Usage,
    View,
)
from aethr.sanitize import Redactor

Clock = Callable[[], float]


class Turn(NamedTuple):
    """The next thing to run: the step's position in the workflow, from 0, and its pass, from 1."""

    position: int
    iteration: int


class Progress:
    """Where a run stands. It changes only by ``add``, so replaying the results rebuilds it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results: list[StepResult] = []
        self.loops: list[LoopResult] = []
        self.turn: Turn | None = Turn(0, 1)

    def add(self, result: StepResult) -> LoopResult | None:
        """Take a finished step; give the loop that ended with it, if one did."""
        assert self.turn is not None
        index = self.turn.position
        self.results.append(result)
        repeat = self.plan.steps[index].spec.repeat
        ended = self._ended(repeat, result) if repeat else None
        if ended:
            self.loops.append(ended)
        if repeat and not ended:
            self.turn = Turn(self._index(repeat.back_to), result.iteration + 1)
        else:
            self.turn = self._after(index, result.iteration)
        return ended

    def _after(self, index: int, iteration: int) -> Turn | None:
        following = index + 1
        if following == len(self.plan.steps):
            return None
        inside = any(
            self._index(step.spec.repeat.back_to) < following <= end
            for end, step in enumerate(self.plan.steps)
            if step.spec.repeat
        )
        return Turn(following, iteration if inside else 1)

    def _ended(self, repeat: Repeat, result: StepResult) -> LoopResult | None:
        def end(outcome: LoopOutcome) -> LoopResult:
            return LoopResult(result.id, repeat.back_to, result.iteration, outcome)

        if _satisfied(repeat, result):
            return end("satisfied")
        if self._stalled(repeat, result):
            return end("stalled")
        return end("exhausted") if result.iteration >= repeat.max_iterations else None

    def _stalled(self, repeat: Repeat, result: StepResult) -> bool:
        """This pass edited nothing and the findings are those of the pass before."""
        if result.iteration == 1:
            return False
        since = max(n for n, each in enumerate(self.results) if each.id == repeat.back_to)
        edits = [each.artifacts for each in self.results[since:] if each.artifacts is not None]
        before = next(each for each in reversed(self.results[:-1]) if each.id == result.id)
        unchanged = bool(edits) and not any(artifacts.changed_files for artifacts in edits)
        return unchanged and review.same_findings(before.content, result.content)

    def _index(self, step_id: str) -> int:
        return next(n for n, step in enumerate(self.plan.steps) if step.spec.id == step_id)


def run(
    plan: Plan, done: Sequence[StepResult] = (), clock: Clock = time.monotonic
) -> Generator[Event, None, None]:
    """Run ``plan`` to its end; ``done`` are results to replay. The last event is ``RunFinished``.

    Raises ``AethrError`` where a step fails; every ``StepFinished`` before it was yielded. Whoever
    consumes the events writes the checkpoint before showing anything.
    """
    yield RunStarted(plan.workflow.name, plan.task, plan.mode, len(plan.steps))
    progress = Progress(plan)
    ahead = _reviewed_changes(plan) if plan.gate.needs_review and not done else {}
    if ahead and all(_nothing_changed(blocks) for blocks in ahead.values()):
        yield RunFinished(record(plan, (), (), review.nothing_changed()))
        return
    waiting = iter(done)
    while progress.turn is not None:
        turn = progress.turn
        finished = next(waiting, None)
        if finished is None:
            blocks = ahead.pop(0, None) if turn == Turn(0, 1) else None
            result = yield from _perform(progress, turn, blocks, clock)
        else:
            result = _expected(plan, turn, finished)
        ended = progress.add(result)
        yield StepFinished(result, replayed=finished is not None)
        if ended:
            yield LoopEnded(ended)
    reviewing = frozenset(step.spec.id for step in plan.steps if step.spec.reviewing)
    verdict = review.judge(progress.results, reviewing, plan.mode)
    yield RunFinished(record(plan, progress.results, progress.loops, verdict))


def fits(plan: Plan, done: Sequence[StepResult]) -> Turn | None:
    """What comes after ``done``, None at the end. Raises ``UsageError`` where it does not fit ``plan``."""
    progress = Progress(plan)
    for result in done:
        if progress.turn is None:
            raise UsageError(
                f"the checkpoint does not fit the workflow: step '{result.id}' comes after its end",
                "Start afresh without --resume-checkpoint.",
            )
        progress.add(_expected(plan, progress.turn, result))
    return progress.turn


def saw_another_change(plan: Plan, done: Sequence[StepResult]) -> str | None:
    """The id of a reviewing step among ``done`` that a resume will not ask again, and whose diff is no more.

    None where an agent has edited the tree since: that change is the run's own.
    """
    if any(step.edits_tree for step in plan.steps):
        return None
    turn = fits(plan, done)
    latest = {result.id: result for result in done}
    for step in plan.steps[: turn.position if turn else None]:
        if step.spec.reviewing and _diff(latest[step.spec.id].context) != _diff(_now(plan, step)):
            return step.spec.id
    return None


def preview(plan: Plan, *, run_commands: bool = False) -> Iterator[StepPrepared]:
    """The prompts of the first pass, calling nothing; a placeholder stands where an answer would.

    Commands of the project are run for it only where ``run_commands`` says so.
    """
    history: list[StepResult] = []
    for step in plan.steps:
        view = View(plan.root, plan.scope, tuple(history), preview=True, run_commands=run_commands)
        blocks = step.collect(view)
        prepared = _prepare(plan, step, history, blocks)
        yield prepared
        placeholder = Completion(f"(The answer of the step '{step.spec.id}' will stand here.)", "", "")
        history.append(_result(step, Turn(0, 1), prepared, [placeholder], 0.0))


def record(
    plan: Plan,
    results: Sequence[StepResult],
    loops: Sequence[LoopResult],
    verdict: Review,
    failed: Sequence[Usage] = (),
) -> RunResult:
    """The run record, of a finished run or of one that stopped on the way.

    ``failed`` is what was counted for the attempts of the call that stopped it.
    """
    return RunResult(
        task=plan.task,
        workflow=plan.workflow.name,
        mode=plan.mode,
        scope=plan.scope,
        steps=tuple(results),
        loops=tuple(loops),
        review=review.as_recorded(verdict, plan.mode),
        totals=totals(results, failed),
        exit_code=review.exit_code(verdict, loops, plan.gate),
    )


def totals(results: Sequence[StepResult], failed: Sequence[Usage] = ()) -> Totals:
    """Sums over ``results`` and ``failed`` attempts; one unknown price makes the whole cost unknown."""
    usage = _usage([*(result.usage for result in results), *failed])
    return Totals(
        calls=sum(result.calls for result in results) + bool(failed),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
        seconds=sum(result.seconds for result in results),
    )


def _perform(
    progress: Progress, turn: Turn, blocks: tuple[Block, ...] | None, clock: Clock
) -> Generator[Event, None, StepResult]:
    """One live step: context, prompt, call, and a second short call where a review has no verdict."""
    plan, step = progress.plan, progress.plan.steps[turn.position]
    model = step.model.name if step.model else None
    spec = step.spec
    yield StepStarted(
        spec.id, spec.role, spec.backend, model, turn.iteration, turn.position + 1, len(plan.steps)
    )
    if blocks is None:
        blocks = step.collect(_view(plan, progress.results))
    prepared = _prepare(plan, step, progress.results, blocks)
    yield prepared
    began = clock()
    request = _request(plan, step, prepared.prompt, totals(progress.results))
    request = request._replace(iteration=turn.iteration)
    failed: list[Usage] = []
    answers = [(yield from _call(plan, step, request, failed))]
    if _lacks_verdict(step, answers[0]):
        answers += yield from _ask_verdict(plan, step, request, answers[0], failed)
    result = _result(step, turn, prepared, answers, clock() - began, failed)
    return result._replace(check=step.check()) if step.check else result


def _ask_verdict(
    plan: Plan, step: PlannedStep, request: Request, answer: Completion, failed: list[Usage]
) -> Generator[Event, None, list[Completion]]:
    """Ask once more; the answer already paid for is kept whatever becomes of this call."""
    yield Notice(
        f"{step.spec.id}: no findings and no status line; asking once more for the verdict", "warning"
    )
    left = request.allowance.after(_usage([answer.usage, *failed]))
    again = request._replace(prompt=prompts.ask_verdict(answer.content), allowance=left)
    try:
        return [(yield from _call(plan, step, again, failed))]
    except AethrError as error:
        yield Notice(f"{step.spec.id}: no verdict: {error}", "warning")
        return []


def _call(
    plan: Plan, step: PlannedStep, request: Request, failed: list[Usage]
) -> Generator[Event, None, Completion]:
    """Relay a backend's events with the values of known keys taken out, also across chunks.

    ``failed`` gets what attempts that failed were counted for.
    """
    redactor = Redactor(plan.secrets)
    stream = redactor.stream()
    call = step.backend.complete(request)
    try:
        while True:
            try:
                event = next(call)
            except StopIteration as stop:
                if rest := stream.close():
                    yield TextDelta(rest)
                return _redacted(stop.value, redactor.redact)
            if isinstance(event, Spent):
                failed.append(event.usage)
            if isinstance(event, Thinking | Spent):
                yield event
                continue
            text = stream.feed(event.text) if isinstance(event, TextDelta) else redactor.redact(event.text)
            if text:
                yield event if text == event.text else event._replace(text=text)
    finally:
        call.close()


def _redacted(completion: Completion, redact: Callable[[str], str]) -> Completion:
    artifacts = completion.artifacts
    if artifacts is not None:
        artifacts = artifacts._replace(git_diff=redact(artifacts.git_diff))
    return completion._replace(content=redact(completion.content), artifacts=artifacts)


def _prepare(
    plan: Plan, step: PlannedStep, history: Sequence[StepResult], blocks: Sequence[Block]
) -> StepPrepared:
    spec = step.spec
    setting = prompts.Setting(
        workflow=plan.workflow.name,
        step=spec.id,
        role=spec.role,
        guidance=step.guidance,
        reviewing=spec.reviewing,
        edits_tree=step.edits_tree,
    )
    told = prompts.told(history, spec.history_visibility)
    prompt = Redactor(plan.secrets).redact(prompts.build(setting, plan.task, told, blocks))
    receipts = tuple(receipt for block in blocks for receipt in block.receipts)
    return StepPrepared(spec.id, prompt, prompts.digest(prompt), receipts)


def _view(plan: Plan, results: Sequence[StepResult]) -> View:
    """A mock run calls nothing, so it runs nothing either."""
    return View(plan.root, plan.scope, tuple(results), run_commands=plan.mode == "live")


def _request(plan: Plan, step: PlannedStep, prompt: str, spent: Totals) -> Request:
    used = Usage(total_tokens=spent.prompt_tokens + spent.completion_tokens, cost_usd=spent.cost_usd)
    return Request(
        step=step.spec.id,
        role=step.spec.role,
        prompt=prompt,
        model=step.model,
        root=plan.root,
        reviewing=step.spec.reviewing,
        unsafe_permissions=step.spec.unsafe_permissions,
        allowance=plan.allowance.after(used),
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
    return StepResult(
        id=step.spec.id,
        role=step.spec.role,
        backend=step.spec.backend,
        model=first.model or None,
        iteration=turn.iteration,
        prompt_sha256=prepared.prompt_sha256,
        content="\n\n".join([*(review.closed(each.content) for each in answers[:-1]), answers[-1].content]),
        finish_reason=first.finish_reason,
        truncated=any(answer.truncated for answer in answers),
        seconds=round(seconds, 3),
        calls=len(answers),
        transport=first.transport,
        usage=_usage([*(answer.usage for answer in answers), *failed]),
        context=prepared.receipts,
        artifacts=first.artifacts,
        notes=tuple(note for answer in answers for note in answer.notes),
        cut_prompt=next((answer.cut_prompt for answer in answers if answer.cut_prompt), None),
    )


def _usage(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        total_tokens=sum(usage.total_tokens for usage in usages),
        cost_usd=_sum_of_known([usage.cost_usd for usage in usages]),
    )


def _sum_of_known(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _lacks_verdict(step: PlannedStep, answer: Completion) -> bool:
    """A cut answer is not asked again: whatever is said then, the review was not complete."""
    return (
        step.spec.reviewing
        and not step.edits_tree
        and not answer.truncated
        and review.parse(answer.content).status == "none"
    )


def _satisfied(repeat: Repeat, result: StepResult) -> bool:
    """Every condition that is given holds. A cut answer satisfies none: its end is not known."""
    if result.truncated:
        return False
    if repeat.until_review_pass and review.parse(result.content).status != "pass":
        return False
    if repeat.until_command_passes is not None and not (result.check and result.check.passed):
        return False
    return repeat.until_contains is None or repeat.until_contains in result.content


def _expected(plan: Plan, turn: Turn, finished: StepResult) -> StepResult:
    """A checkpoint's result, which must be the very step and pass that comes next."""
    spec = plan.steps[turn.position].spec
    if (finished.id, finished.iteration) != (spec.id, turn.iteration):
        raise UsageError(
            f"the checkpoint does not fit the workflow: it has step '{finished.id}' "
            f"(pass {finished.iteration}) where '{spec.id}' (pass {turn.iteration}) comes next",
            "Start afresh without --resume-checkpoint.",
        )
    return finished


def _reviewed_changes(plan: Plan) -> dict[int, tuple[Block, ...]]:
    """The context of the reviewing steps by index, collected before the first call.

    Empty where an earlier step may still change the tree: then there may be something to review.
    Only the very first step's is used for its call too, so only that one may run commands.
    """
    if any(step.edits_tree for step in plan.steps):
        return {}
    first, other = _view(plan, ()), View(plan.root, plan.scope)
    return {
        n: step.collect(first if n == 0 else other)
        for n, step in enumerate(plan.steps)
        if step.spec.reviewing
    }


def _now(plan: Plan, step: PlannedStep) -> Iterator[Receipt]:
    """What a step would be sent now; no command is run for it."""
    return (receipt for block in step.collect(View(plan.root, plan.scope)) for receipt in block.receipts)


def _diff(receipts: Iterable[Receipt]) -> set[tuple[str, str | None]]:
    """The files of the change under review, as they were sent."""
    return {(each.path, each.sha256) for each in receipts if each.source == CHANGE and each.path}


def _nothing_changed(blocks: Sequence[Block]) -> bool:
    return any(block.empty_change for block in blocks) and not any(
        receipt.changed_lines or not receipt.complete for block in blocks for receipt in block.receipts
    )
