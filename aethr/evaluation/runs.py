"""All runs of an evaluation: prepared before the first call, then several at once, within one budget.

Each is a run as ``aethr run`` makes it, in a repository of its own, with a checkpoint from which a later
evaluation resumes it.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from aethr import __version__, git, run
from aethr.base import budget, disk, providers, secrecy
from aethr.base.errors import (
    AethrError,
    BudgetError,
    ExitCode,
    MissingKeyError,
    NotReviewedError,
    StoppedError,
    UsageError,
)
from aethr.base.options import EvalOptions, RunOptions
from aethr.base.records import (
    NO_USAGE,
    UNLIMITED,
    Allowance,
    Estimate,
    Mode,
    Need,
    Notice,
    Plan,
    RunResult,
    Seal,
    StepEvent,
    Totals,
    Usage,
    WorkflowSpec,
    is_git_diff,
)
from aethr.base.words import counted
from aethr.config.credentials import DotEnv
from aethr.engine import at_once, checkpoint
from aethr.engine.at_once import Loan, Purse
from aethr.evaluation import recorded, scripted, state
from aethr.evaluation.cases import Loaded
from aethr.evaluation.recorded import Recording, Recordings, Tape
from aethr.evaluation.records import About, Evaluation, Renamed, Trial
from aethr.evaluation.scripted import Scripts
from aethr.evaluation.state import Basis, Folder
from aethr.git import building
from aethr.output import wording
from aethr.review import outcome_of_script
from aethr.run import Prepared, one_off
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Project

GRACE_S = 5.0
"""The longest wait for the runs that are under way when the evaluation stops."""


class Setup(NamedTuple):
    """What all runs have in common. ``given`` are their options, ``settings`` their environment.

    ``answers`` are played instead of calling a model. ``tapes`` is the folder of ``--record``.
    """

    project: Project
    given: RunOptions
    settings: Mapping[str, str]
    dotenv: DotEnv
    mode: Mode
    folder: Folder
    workflow_sha256: str
    answers: Recordings | Scripts | None = None
    tapes: Path | None = None
    must_review: bool = False

    @property
    def calls_models(self) -> bool:
        """Whether it costs anything."""
        return self.mode == "live" and self.answers is None


class Entry(NamedTuple):
    """The Nth run over a case. ``spent`` is what an evaluation that stopped has spent on it."""

    loaded: Loaded
    number: int
    place: Path
    checkpoint: Path | None = None
    spent: Usage = NO_USAGE


class Finished(NamedTuple):
    """A run that has ended. ``usage`` is what it used now; ``trial`` has what it used in all."""

    trial: Trial
    usage: Usage
    error: AethrError | None = None


class Schedule(NamedTuple):
    """The runs of an evaluation that can start.

    ``ready`` are those that are prepared, by their place in ``entries``. ``shares`` is what each run needs at most, and ``left`` what all of them may spend. ``variables`` are what
    the resume command has to set, ``notes`` plain lines to show first.
    """

    setup: Setup
    entries: tuple[Entry, ...]
    ready: Mapping[int, Prepared]
    shares: tuple[Allowance, ...]
    left: Allowance
    jobs: int
    began: datetime
    notes: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def prepare(
    options: EvalOptions,
    cases: Sequence[Loaded],
    names: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
) -> Schedule:
    """Everything before the first call. Raises ``AethrError``, and has called nothing then.

    ``names`` are those of all cases, also of those that do not run.
    """
    setup = _set_up(options, cases, names, cwd, environ)
    try:
        entries = tuple(
            _find_entry(setup.folder, each, number)
            for each in cases
            for number in range(1, options.repeat + 1)
        )
        ready = _prepare_first(setup, entries)
        first = ready[min(ready)]
        allowance = Allowance(options.max_cost, options.max_tokens) if setup.calls_models else UNLIMITED
        shares, notes = _estimate(entries, ready, allowance) if setup.calls_models else ((), ())
        planning.warm(first.plan)
        left = allowance.after(Usage.sum([entry.spent for entry in entries]))
    except BaseException:
        if options.resume is None:
            setup.folder.remove()
        raise
    agents = [step.spec.id for step in first.plan.steps if step.edits_tree] if setup.calls_models else []
    if agents and options.jobs > 1:
        notes = (*notes, f"step '{agents[0]}' is an agent: one run at a time")
    again = (f"the case {name} changed since then: it runs again" for name in setup.folder.changed)
    return Schedule(
        setup=setup,
        entries=entries,
        ready=ready,
        shares=shares or (UNLIMITED,) * len(entries),
        left=left,
        jobs=1 if agents else options.jobs,
        began=datetime.now(timezone.utc),
        notes=(*first.warnings, *again, *notes),
        variables=run.find_variables(first.plan, environ),
    )


def perform(schedule: Schedule) -> Iterator[StepEvent | Finished]:
    """Make all runs. Each ``Finished`` comes when its run has ended, and after a ``Notice`` at its start.

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
            if not isinstance(item, at_once.Ended):
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


def explain(schedule: Schedule, finished: Sequence[Finished]) -> AethrError | None:
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


def _set_up(
    options: EvalOptions,
    cases: Sequence[Loaded],
    names: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
) -> Setup:
    given = RunOptions(
        task=options.task,
        config=options.config,
        preset=options.preset,
        model=options.model,
        no_fallback=options.no_fallback,
        replies=options.replies,
    )
    project = one_off.open_project(given, cwd)
    dotenv = run.load_dotenv(project, git.checkout_if_any(project.root), environ)
    settings = {**dotenv.values, **environ}
    terms = planning.read_terms(given, settings, secrecy.found_in(settings))
    must_review = options.min_recall is not None or options.max_false is not None
    if terms.mode == "mock" and must_review:
        raise NotReviewedError(
            "a mock finds nothing, so there is nothing to measure",
            "Set AETHR_LIVE=1, or name answers with --replies.",
        )
    if options.record and terms.mode != "live":
        raise UsageError("--record: no model is called, so there is nothing to record", "Set AETHR_LIVE=1.")
    chosen = [each.case.name for each in cases]
    answers = _open_answers(options, project.workflow, names, chosen, cwd)
    mode, model, task = terms.mode, terms.model, options.task or one_off.REVIEW_TASK.format(verb="committed")
    if isinstance(answers, Recordings):
        mode, model, task = "live", answers.model, options.task or answers.task
        settings = {**settings, "AETHR_LIVE": "1", "AETHR_MODEL": ""}
        given = given._replace(replies=None)
    given = given._replace(task=task, model=model, config=None, preset=None, jobs=1)
    tapes = Path(cwd, options.record) if options.record else None
    if tapes is not None:
        recorded.start_recording(tapes, model, task)
    basis = Basis(
        workflow=_digest(project.workflow, model, given.no_fallback),
        task=task,
        mode="played" if isinstance(answers, Recordings) else mode,
        cases={each.case.name: each.case.sha256 for each in cases},
    )
    folder = state.reopen(Path(cwd, options.resume), basis) if options.resume else state.create(basis)
    return Setup(
        project=project,
        given=given,
        settings=settings,
        dotenv=DotEnv({}, dotenv.warnings),
        mode=mode,
        folder=folder,
        workflow_sha256=basis.workflow,
        answers=answers,
        tapes=tapes,
        must_review=must_review,
    )


def _open_answers(
    options: EvalOptions, workflow: WorkflowSpec, names: Sequence[str], chosen: Sequence[str], cwd: Path
) -> Recordings | Scripts | None:
    if options.replies is None:
        return None
    path = Path(cwd, options.replies)
    if path.is_dir():
        return recorded.open_recordings(path, chosen, options.repeat)
    return scripted.read(path, workflow, names, chosen, options.repeat)


def _digest(workflow: WorkflowSpec, model: str | None, no_fallback: bool) -> str:
    """The SHA-256 of all that the file says, however it is formatted."""
    said = workflow._replace(origin="", places={}, lines=())
    return hashlib.sha256(repr((said, model, no_fallback)).encode("utf-8", "replace")).hexdigest()


def _find_entry(folder: Folder, loaded: Loaded, number: int) -> Entry:
    place = folder.place(loaded.case.name, number)
    files = sorted(place.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        return Entry(loaded, number, place)
    found = checkpoint.load(f"@{files[-1]}")
    return Entry(loaded, number, place, files[-1], budget.used(found.steps, found.failed))


def _prepare_first(setup: Setup, entries: Sequence[Entry]) -> dict[int, Prepared]:
    """The first run over each case, and each that is resumed, if their prompts have a price; else one run."""
    wanted: dict[str, int] = {}
    resumed = []
    for number, entry in enumerate(entries):
        if entry.checkpoint is None:
            wanted.setdefault(entry.loaded.case.name, number)
        else:
            resumed.append(number)
    numbers = sorted([*wanted.values(), *resumed]) if setup.calls_models else [0]
    try:
        return {number: _prepare(setup, entries[number]) for number in numbers}
    except MissingKeyError as error:
        if setup.must_review:
            raise NotReviewedError(str(error), error.fix) from error
        raise


def _prepare(setup: Setup, entry: Entry) -> Prepared:
    """The run in a repository of its own. Raises ``AethrError``."""
    loaded, root = entry.loaded, entry.place / "repository"
    case = loaded.case
    if entry.checkpoint is None or not root.is_dir():  # else an agent may have left edits in it
        shutil.rmtree(root, ignore_errors=True)
        with disk.failing_as(f"{root}: cannot write"):
            root.mkdir(parents=True)
        building.make_repository(root, loaded.base, loaded.head, case.message)
    here = git.checkout(root)
    assert here is not None, "it was made above"
    scope = git.resolve_scope(root, f"{building.BASE}..{building.HEAD}", here)
    file = f"@{entry.checkpoint}" if entry.checkpoint is not None else None
    return run.prepare(
        setup.given._replace(checkpoint_dir=str(entry.place), resume_checkpoint=file),
        root,
        setup.settings,
        Project(root, setup.project.workflow),
        git.survey(here, scope),
        seal=Seal((setup.folder.key,), {"case": case.sha256}),
        dotenv=setup.dotenv,
        played=setup.answers.play(case.name, entry.number) if setup.answers is not None else None,
    )


def _estimate(
    entries: Sequence[Entry], ready: Mapping[int, Prepared], allowance: Allowance
) -> tuple[tuple[Allowance, ...], tuple[str, ...]]:
    """What each run needs at most, and lines that say what all of them need. Raises ``BudgetError``."""
    own = {number: prepared.plan.estimate() or Estimate() for number, prepared in ready.items()}
    fresh = {
        entries[number].loaded.case.name: found
        for number, found in own.items()
        if entries[number].checkpoint is None
    }
    needs = [
        own[number] if number in own else fresh[entry.loaded.case.name]
        for number, entry in enumerate(entries)
    ]
    total = Estimate(_add_up(each.about for each in needs), _add_up(each.most for each in needs))
    lines = [f"{counted(len(entries), 'run')}: {wording.estimate(total)}"]
    if allowance.cost_usd is not None:
        lines += estimate.check_prices(ready[min(ready)].plan)
    lines += estimate.compare(total, allowance, Usage.sum([entry.spent for entry in entries]))
    return tuple(_share(each, allowance) for each in needs), tuple(lines)


def _add_up(needs: Iterable[Sequence[Need]]) -> tuple[Need, ...]:
    """The needs of several runs as those of one."""
    sums: dict[tuple[str, str | None], Need] = {}
    for need in chain.from_iterable(needs):
        before = sums.get((need.model, need.agent), Need(need.model, need.agent))
        known = before.cost_usd is not None and need.cost_usd is not None
        sums[need.model, need.agent] = before._replace(
            calls=before.calls + need.calls,
            input_tokens=before.input_tokens + need.input_tokens,
            output_tokens=before.output_tokens + need.output_tokens,
            cost_usd=(before.cost_usd or 0.0) + (need.cost_usd or 0.0) if known else None,
        )
    return tuple(sums.values())


def _share(needs: Estimate, allowance: Allowance) -> Allowance:
    """What a run needs at most of this budget: all of it, if that is not known."""
    costs = [need.cost_usd for need in needs.most]
    known = [cost for cost in costs if cost is not None]
    tokens = sum(need.input_tokens + need.output_tokens for need in needs.most)
    agents = any(need.agent is not None for need in needs.most)
    most = Allowance(sum(known) if len(known) == len(costs) else allowance.cost_usd, tokens)
    return allowance.at_most(most if not agents else allowance)


def _run_one_by_one(
    works: Sequence[Callable[[Loan], at_once.Work[Finished]]],
    _: int,
    purse: Purse,
    check: Callable[[], None],
) -> Iterator[tuple[int, StepEvent | at_once.Ended[Finished]]]:
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
            yield number, at_once.Ended(stop.value)


def _perform(
    schedule: Schedule, number: int, purse: Purse, under_way: _Open, loan: Loan
) -> Generator[StepEvent, None, Finished]:
    """One run. Raises ``StoppedError``; every other error is in what it returns."""
    entry, setup = schedule.entries[number], schedule.setup
    name = entry.loaded.case.name
    yield Notice(f"{name}: run {entry.number} begins")
    with under_way:
        try:
            prepared = schedule.ready.get(number) or _prepare(setup, entry)
            plan = _arm(schedule, entry, prepared.plan, loan, purse)
            outcome = run.execute(prepared._replace(plan=plan), nullcontext(lambda _: None))
        except AethrError as error:
            return Finished(Trial(name, entry.number, "not-reviewed", error=str(error)), NO_USAGE, error)
        if isinstance(outcome.error, StoppedError):
            raise outcome.error
        if outcome.error is None:
            shutil.rmtree(entry.place / "repository", ignore_errors=True)
    return Finished(
        _to_trial(entry, outcome.result, outcome.error),
        _subtract(outcome.result.totals, entry.spent),
        outcome.error,
    )


def _arm(schedule: Schedule, entry: Entry, plan: Plan, loan: Loan, purse: Purse) -> Plan:
    """The plan with what it may spend, with the one backend of all runs, and with a tape to record on."""
    setup, tape = schedule.setup, None
    if not setup.calls_models:
        return plan._replace(estimate=lambda: None)
    if setup.tapes is not None:
        resumed = entry.checkpoint is not None
        tape = Tape(setup.tapes, entry.loaded.case.name, entry.number, plan.secrets, resumed)
    shared = schedule.ready[min(schedule.ready)].plan.steps  # so that calls to a busy endpoint are spaced
    steps = tuple(
        step._replace(backend=Recording(one.backend, tape, purse.cancelled.is_set))
        for step, one in zip(plan.steps, shared, strict=True)
    )
    cost, tokens = loan.allowance
    allowance = Allowance(
        None if cost is None else cost + (entry.spent.cost_usd or 0.0),
        None if tokens is None else tokens + (entry.spent.total_tokens or 0),
    )
    return plan._replace(steps=steps, allowance=allowance, estimate=lambda: None)


def _to_trial(entry: Entry, result: RunResult, error: AethrError | None) -> Trial:
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


def record(schedule: Schedule, finished: Sequence[Finished]) -> Evaluation:
    """What reports and scores are made of: the same whichever run ended first."""
    setup = schedule.setup
    order = {entry.loaded.case.name: entry.loaded.case for entry in schedule.entries}
    trials = {(each.trial.case, each.trial.number): each.trial for each in finished}
    models = [
        model.name
        for step in schedule.ready[min(schedule.ready)].plan.steps
        for model in providers.called(step)
    ]
    about = About(
        aethr=__version__,
        date=schedule.began.isoformat(timespec="seconds"),
        workflow=setup.project.workflow.name,
        workflow_sha256=setup.workflow_sha256,
        models=tuple(dict.fromkeys(models)),
        mode=setup.mode,
        repeat=max(entry.number for entry in schedule.entries),
        seconds=(datetime.now(timezone.utc) - schedule.began).total_seconds(),
    )
    ordered = (trials.get((entry.loaded.case.name, entry.number)) for entry in schedule.entries)
    return Evaluation(about, tuple(order.values()), tuple(filter(None, ordered)))
