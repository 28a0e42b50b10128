"""Make the runs of an evaluation, several at once and within one budget.

Each is a run as ``aethr run`` makes it, in a repository of its own, with a checkpoint from which a later
evaluation resumes it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from functools import partial
from typing import NamedTuple

from aethr import __version__, run
from aethr.base import providers
from aethr.base.errors import AethrError, BudgetError, ExitCode, StoppedError
from aethr.base.records import (
    NO_USAGE,
    Allowance,
    Notice,
    Plan,
    RunResult,
    StepEvent,
    Totals,
    Usage,
    is_git_diff,
)
from aethr.base.words import counted
from aethr.engine import at_once
from aethr.engine.at_once import Loan, Purse
from aethr.evaluation.recorded import Shared, Tape
from aethr.evaluation.schedule import PlannedRun, Schedule, prepare_run, share
from aethr.evaluation.trials import Basis, Evaluation, Renamed, Trial
from aethr.review import outcome_of_script

GRACE_S = 5.0
"""The longest wait for the runs that are under way when the evaluation stops."""


class EndedRun(NamedTuple):
    """A run that has ended. ``usage`` is what it used now; ``trial`` has what it used in all."""

    trial: Trial
    usage: Usage
    error: AethrError | None = None


def perform(schedule: Schedule) -> Iterator[StepEvent | EndedRun]:
    """Make all runs. Each ``EndedRun`` comes when its run has ended, and after a ``Notice`` at its start.

    A run that fails does not end the others, but none begins once the budget is spent. Raises
    ``StoppedError``.
    """
    purse = Purse(schedule.left, schedule.shares)
    spent: list[AethrError] = []
    under_way = _Open()
    works = [partial(_perform, schedule, number, purse, under_way) for number in range(len(schedule.entries))]

    def check() -> None:
        if spent:
            raise spent[0]

    # An agent's child processes have to end with this process: its run is in the main thread.
    inline = schedule.jobs == 1 or len(works) == 1
    make = _run_one_by_one if inline else at_once.run
    try:
        for _, item in make(works, schedule.jobs, purse, check):
            if not isinstance(item, at_once.Returned):
                yield item
                continue
            if isinstance(item.result.error, BudgetError):
                spent.append(item.result.error)
            yield item.result
    except BudgetError:  # every run that has ended has been shown
        return
    finally:
        purse.cancelled.set()
        under_way.wait(GRACE_S)


def explain(schedule: Schedule, finished: Sequence[EndedRun]) -> AethrError | None:
    """The error for runs that failed, or that could not begin; None if all have ended well."""
    failed = [each for each in finished if each.error is not None]
    total, left = len(schedule.entries), len(schedule.entries) - len(finished) + len(failed)
    if not left:
        return None
    if any(isinstance(each.error, BudgetError) for each in failed):
        return BudgetError(
            f"over budget: {total - left} of {counted(total, 'run')} are finished",
            "Raise --max-cost or --max-tokens to resume.",
        )
    # One of them speaks for all: a bug before wrong usage before what failed outside.
    order = (ExitCode.BUG, ExitCode.USAGE, ExitCode.NOT_REVIEWED, ExitCode.WORLD)
    errors = [
        (order.index(ExitCode(each.error.exit_code)), n, each.error)
        for n, each in enumerate(failed)
        if each.error
    ]
    _, number, first = min(errors, key=lambda each: each[:2])
    said = f"{len(failed)} of {counted(total, 'run')} failed; {failed[number].trial.case}: {first}"
    error = AethrError(said, first.fix)
    error.exit_code = first.exit_code
    return error


def record(schedule: Schedule, finished: Sequence[EndedRun]) -> Evaluation:
    """What reports and scores are made of: the same whichever run ended first."""
    common = schedule.common
    order = {entry.loaded.case.name: entry.loaded.case for entry in schedule.entries}
    trials = {(each.trial.case, each.trial.number): each.trial for each in finished}
    models = [model.name for step in schedule.first.plan.steps for model in providers.called(step)]
    basis = Basis(
        aethr=__version__,
        date=schedule.began.isoformat(timespec="seconds"),
        workflow=common.project.workflow.name,
        workflow_sha256=common.workflow_sha256,
        models=tuple(dict.fromkeys(models)),
        mode=common.mode,
        repeat=max(entry.number for entry in schedule.entries),
        seconds=(datetime.now(timezone.utc) - schedule.began).total_seconds(),
    )
    ordered = (trials.get((entry.loaded.case.name, entry.number)) for entry in schedule.entries)
    return Evaluation(basis, tuple(order.values()), tuple(filter(None, ordered)))


def _run_one_by_one(
    works: Sequence[Callable[[Loan], at_once.Work[EndedRun]]],
    _: int,
    purse: Purse,
    check: Callable[[], None],
) -> Iterator[tuple[int, StepEvent | at_once.Returned[EndedRun]]]:
    """As ``at_once.run`` with one job, in this thread."""
    for number, work in enumerate(works):
        check()
        loan = purse.admit(number)
        assert loan is not None, "no other run holds anything"
        events = work(loan)
        try:
            while True:
                yield number, next(events)
        except StopIteration as stop:
            purse.settle(number, stop.value.usage)
            yield number, at_once.Returned(stop.value)


def _perform(
    schedule: Schedule, number: int, purse: Purse, under_way: _Open, loan: Loan
) -> Generator[StepEvent, None, EndedRun]:
    """One run. Raises ``StoppedError``; every other error is in what it returns."""
    entry, common = schedule.entries[number], schedule.common
    name = entry.loaded.case.name
    yield Notice(f"{name}: run {entry.number} begins")
    with under_way:
        try:
            shared = share(schedule.first.plan) if common.calls_models else None
            prepared = schedule.ready.get(number) or prepare_run(common, entry, shared)
            plan = _arm(schedule, entry, prepared.plan, loan, purse)
            outcome = run.execute(prepared._replace(plan=plan), nullcontext(lambda _: None))
        except AethrError as error:
            return EndedRun(Trial(name, entry.number, "not-reviewed", error=str(error)), NO_USAGE, error)
        if isinstance(outcome.error, StoppedError):
            raise outcome.error
        if outcome.error is None:
            shutil.rmtree(entry.place / "repository", ignore_errors=True)
    return EndedRun(
        _to_trial(entry, outcome.result, outcome.error),
        _subtract(outcome.result.totals, entry.spent),
        outcome.error,
    )


def _arm(schedule: Schedule, entry: PlannedRun, plan: Plan, loan: Loan, purse: Purse) -> Plan:
    """The plan with what it may spend, with the one backend of all runs, and with a tape to record on."""
    common, tape = schedule.common, None
    if not common.calls_models:
        return plan._replace(estimate=lambda: None)
    if common.tapes is not None:
        resumed = entry.checkpoint is not None
        tape = Tape(common.tapes, entry.loaded.case.name, entry.number, plan.secrets, resumed)
    steps = tuple(
        step._replace(backend=Shared(step.backend, tape, purse.cancelled.is_set)) for step in plan.steps
    )
    cost, tokens = loan.allowance
    allowance = Allowance(
        None if cost is None else cost + (entry.spent.cost_usd or 0.0),
        None if tokens is None else tokens + (entry.spent.total_tokens or 0),
    )
    return plan._replace(steps=steps, allowance=allowance, estimate=lambda: None)


def _to_trial(entry: PlannedRun, result: RunResult, error: AethrError | None) -> Trial:
    receipts = [each for each in result.receipts if is_git_diff(each.source) and each.path is not None]
    whole = {each.path for each in receipts if each.complete}
    partly = dict.fromkeys(each.path for each in receipts if each.excluded is None and each.path not in whole)
    return Trial(
        case=entry.loaded.case.name,
        number=entry.number,
        outcome=outcome_of_script(result),
        findings=result.review.findings,
        excluded=tuple(each.path for each in result.excluded),
        missing=tuple(path for path in partly if path is not None),
        totals=result.totals,
        renamed=tuple(
            sorted({Renamed(each.old_path, each.path) for each in receipts if each.path and each.old_path})
        ),
        error=str(error) if error is not None else None,
    )


def _subtract(totals: Totals, spent: Usage) -> Usage:
    """What a run used now, without what it had used before it was resumed."""
    tokens = totals.tokens
    return Usage(
        total_tokens=None if tokens is None else max(0, tokens - (spent.total_tokens or 0)),
        cost_usd=None if totals.cost_usd is None else max(0.0, totals.cost_usd - (spent.cost_usd or 0.0)),
    )


class _Open:
    """The runs that are under way."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, most_s: float) -> None:
        """Until none is, or so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, most_s)
