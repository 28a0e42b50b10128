"""Where a run stands: the next turn, and what has ended, as a function of the finished results.

A turn is one iteration of a step, with all parts of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from aethr import review
from aethr.base.errors import UsageError
from aethr.base.records import (
    Answer,
    LoopOutcome,
    LoopResult,
    Plan,
    Repeat,
    Review,
    StepResult,
    StepSpec,
)
from aethr.engine import conditions
from aethr.engine.conditions import Ended


class Turn(NamedTuple):
    """The next call: the step's position in the workflow, from 0, and its pass, from 1."""

    position: int
    iteration: int


class Progress:
    """Where a run stands. It changes only by ``add``, so replaying the results rebuilds it.

    ``results`` are those of finished turns, in the order of the run and of their parts. ``open`` are those of
    turns that are not finished, or that come after one that is not, in the order in which they came. ``done``
    are the turns of a checkpoint, which say how many passes a loop had: the answers of the workflow file,
    which decide whether it is satisfied, may have changed since.
    """

    def __init__(self, plan: Plan, done: Iterable[StepResult] = ()) -> None:
        self.plan = plan
        self.done = {turn_key(each) for each in done}
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
        while self.turn is not None and (finished := _join_parts(self.results_of(self.turn))):
            if len(finished) < len(self.plan.own_parts(finished[0].parts)):
                break
            self.open = [each for each in self.open if (each.id, each.iteration) != turn_key(finished[0])]
            self.results += finished
            ended = self._end_turn(self.turn, finished)
        return ended

    def _end_turn(self, turn: Turn, finished: Sequence[StepResult]) -> LoopResult | None:
        following = turn.position + 1
        repeat = self.plan.steps[turn.position].spec.repeat
        if repeat:
            outcome = self._keep_passes(turn, repeat, finished, self._end_loop(repeat, finished))
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
        answered = [each for each in finished if each.skipped is None]
        if not answered and not self._has_new_reviews(finished[0]):
            return "satisfied" if self._is_satisfied_without_review(repeat, finished) else "stalled"
        ended = Ended(answered, finished, lambda: review.worst(self._reviews_of(finished)))
        if conditions.hold(repeat, ended):
            return "satisfied"
        if self._is_stalled(repeat, finished):
            return "stalled"
        return "exhausted" if finished[0].iteration >= repeat.max_iterations else None

    def _keep_passes(
        self, turn: Turn, repeat: Repeat, finished: Sequence[StepResult], outcome: LoopOutcome | None
    ) -> LoopOutcome | None:
        """The outcome of the loop, or None if it went on with other answers when the checkpoint was written.

        If it ended with other answers, it is exhausted: the steps after it have run.
        """
        went_on = (repeat.back_to, turn.iteration + 1) in self.done
        if outcome is not None:
            return outcome if not went_on else self._end_with((), repeat, finished) and outcome
        if went_on or not any(self._index(name) > turn.position for name, _ in self.done):
            return None
        found = [each for own in self._reviews_of(finished) for each in own.findings if each.id]
        every = tuple(Answer(each.id or "", each.severity, each.message, "") for each in found)
        return self._end_with(every, repeat, finished) and "exhausted"

    def _end_with(
        self, answers: tuple[Answer, ...], repeat: Repeat, finished: Sequence[StepResult]
    ) -> LoopOutcome | None:
        """How the loop would end if the workflow had these answers."""
        from copy import copy  # few runs need it

        other = copy(self)
        other.plan = self.plan._replace(workflow=self.plan.workflow._replace(answers=answers))
        return Progress._end_loop(other, repeat, finished)

    def _is_satisfied_without_review(self, repeat: Repeat, skipped: Sequence[StepResult]) -> bool:
        """Whether a loop whose last step had nothing to read is satisfied: its latest answer still counts.

        If there was no answer, there was nothing to review, unless a step edited files that the review
        does not see.
        """
        spec = self._spec_of(skipped[0])
        for each in reversed(self.results[:-1]):
            if each.artifacts is not None and each.artifacts.edited:
                return False
            if each.skipped is None and each.id in (spec.id, *spec.verify):
                turn = self._turn_of(each)
                reviewed = self._reviews_of(skipped if spec.verify else turn)
                answered = turn if each.id == spec.id else ()
                return conditions.hold(repeat, Ended(answered, skipped, partial(review.worst, reviewed)))
        return conditions.hold(repeat, Ended((), skipped, lambda: None))

    def _is_stalled(self, repeat: Repeat, finished: Sequence[StepResult]) -> bool:
        """Whether this pass edited nothing and found the same as the pass before."""
        if finished[0].iteration == 1:
            return False
        since = max(n for n, each in enumerate(self.results) if each.id == repeat.back_to)
        edits = [each.artifacts for each in self.results[since:] if each.artifacts is not None]
        earlier = self.results[: -len(finished)]
        before = next(each for each in reversed(earlier) if each.id == finished[0].id)
        unchanged = bool(edits) and not any(artifacts.edited for artifacts in edits)
        return unchanged and review.same_findings(
            self._reviews_of(self._turn_of(before)), self._reviews_of(finished)
        )

    def _has_new_reviews(self, result: StepResult) -> bool:
        """Whether steps that this one verifies have reviewed since it was last called."""
        last = {each.id: each for each in self.results}
        return any(last[name].skipped is None for name in self._spec_of(result).verify if name in last)

    def _reviews_of(self, turn: Sequence[StepResult]) -> Sequence[Review]:
        """The reviews of these results; of a verifying step those that it verifies, as it left them.

        Both are read from the results alone, so that a replay finds the same. Answers cover findings.
        """
        spec = self._spec_of(turn[0])
        answers, is_gone = self.plan.workflow.answers, self.plan.is_gone
        if not spec.verify:
            named = {each.path for result in turn for each in result.places}
            reviews = [review.read(result, named.__contains__) for result in turn]
            return review.apply_answers(reviews, answers, is_gone)
        until = self.results[: self.results.index(turn[-1]) + 1]
        there = {each.path for of in until for each in of.shown if each.place in ("change", "tree")}
        there |= {each.path for of in until for each in of.places}
        high = frozenset(step.spec.id for step in self.plan.steps if step.spec.verify_high)
        settled = review.settle(until, frozenset(spec.verify), there.__contains__, high)
        return review.apply_answers([own for _, own in settled], answers, is_gone)

    def _spec_of(self, result: StepResult) -> StepSpec:
        return self.plan.steps[self._index(result.id)].spec

    def _turn_of(self, result: StepResult) -> list[StepResult]:
        """All parts of the turn that this result belongs to."""
        return [each for each in self.results if turn_key(each) == turn_key(result)]

    def _index(self, step_id: str) -> int:
        return next(n for n, step in enumerate(self.plan.steps) if step.spec.id == step_id)


def upcoming(plan: Plan, turn: Turn, *, every_pass: bool) -> Iterator[Turn]:
    """This turn and those after it; each loop ends with its next pass, or with its last one."""
    ids = [step.spec.id for step in plan.steps]
    position, iteration = turn
    while position < len(plan.steps):
        yield Turn(position, iteration)
        repeat = plan.steps[position].spec.repeat
        if repeat and every_pass and iteration < repeat.max_iterations:
            position, iteration = ids.index(repeat.back_to), iteration + 1
        else:
            position, iteration = position + 1, 1 if repeat else iteration


def turn_key(result: StepResult) -> tuple[str, int]:
    return result.id, result.iteration


def _join_parts(finished: Iterable[StepResult]) -> list[StepResult]:
    """The results of one turn by their parts. The last one has the loop's command, which ran after all."""
    ordered = sorted(finished, key=lambda result: result.part)
    if len(ordered) < 2:
        return ordered
    check = next((each.check for each in ordered if each.check is not None), None)
    return [*(each._replace(check=None) for each in ordered[:-1]), ordered[-1]._replace(check=check)]


def in_order(plan: Plan, results: Sequence[StepResult]) -> list[StepResult]:
    """``results`` in the order of the run, if calls that ran at once ended in another one.

    Those that do not fit ``plan``, because the id of a step holds a key and is redacted, stay as they are.
    """
    progress = Progress(plan, results)
    for result in results:
        progress.add(result)
    rest = [each for turn in progress.turns() for each in _join_parts(progress.results_of(turn))]
    return [*progress.results, *rest] if len(rest) == len(progress.open) else list(results)


def replay(plan: Plan, done: Sequence[StepResult]) -> Progress:
    """Where a run stands after ``done``. Raises ``UsageError`` if that does not fit ``plan``."""
    progress = Progress(plan, done)
    for result in done:
        progress.add(check_order(progress, result))
    return progress


def check_order(progress: Progress, finished: StepResult) -> StepResult:
    """The checkpoint's result, if it is of the step and pass that comes next. Raises ``UsageError``."""
    again = "Start over without --resume-checkpoint."
    if progress.turn is None:
        raise UsageError(
            f"the checkpoint does not fit the workflow: step '{finished.id}' comes after its end", again
        )
    steps, turns = progress.plan.steps, progress.turns()
    fitting = [each for each in turns if (steps[each.position].spec.id, each.iteration) == turn_key(finished)]
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
