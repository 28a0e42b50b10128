"""The runs of an evaluation, prepared before the first call: what each needs, and what all of them cost."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from aethr import git, run
from aethr.base import budget, disk, secrecy
from aethr.base.errors import MissingKeyError, NotReviewedError, UsageError
from aethr.base.options import EvalOptions, RunOptions
from aethr.base.records import (
    NO_USAGE,
    UNLIMITED,
    Allowance,
    Backend,
    Estimate,
    Mode,
    Need,
    Plan,
    Seal,
    Usage,
    WorkflowSpec,
)
from aethr.base.words import counted
from aethr.config.credentials import DotEnv
from aethr.engine import checkpoint
from aethr.evaluation import recorded, scripted, state
from aethr.evaluation.cases import Loaded
from aethr.evaluation.recorded import Recordings, Shared
from aethr.evaluation.scripted import Scripts
from aethr.evaluation.state import Identity, StateFolder
from aethr.git import building
from aethr.output import wording
from aethr.run import Prepared, one_off
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Project


class Common(NamedTuple):
    """What all runs have in common. ``given`` are their options, ``settings`` their environment.

    ``answers`` are played instead of calling a model. ``tapes`` is the folder of ``--record``.
    """

    project: Project
    given: RunOptions
    task: str
    settings: Mapping[str, str]
    dotenv: DotEnv
    mode: Mode
    folder: StateFolder
    workflow_sha256: str
    answers: Recordings | Scripts | None = None
    tapes: Path | None = None
    must_review: bool = False

    @property
    def calls_models(self) -> bool:
        """Whether it costs anything."""
        return self.mode == "live" and self.answers is None


class PlannedRun(NamedTuple):
    """The Nth run over a case. ``spent`` is what an evaluation that stopped has spent on it."""

    loaded: Loaded
    number: int
    place: Path
    checkpoint: Path | None = None
    spent: Usage = NO_USAGE


class Schedule(NamedTuple):
    """The runs of an evaluation that can start.

    ``ready`` are those that are prepared, by their place in ``entries``. ``shares`` is what each run needs at
    most, and ``left`` what all of them may spend. ``variables`` are what the resume command has to set,
    ``notes`` plain lines to show first.
    """

    common: Common
    entries: tuple[PlannedRun, ...]
    ready: Mapping[int, Prepared]
    shares: tuple[Allowance, ...]
    left: Allowance
    jobs: int
    began: datetime
    notes: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def first(self) -> Prepared:
        """Any of those that are prepared."""
        return self.ready[min(self.ready)]


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
    common = _set_up(options, cases, names, cwd, environ)
    try:
        entries = tuple(
            _find_entry(common.folder, each, number)
            for each in cases
            for number in range(1, options.repeat + 1)
        )
        ready = _prepare_first(common, entries, options.jobs)
        first = ready[min(ready)]
        allowance = Allowance(options.max_cost, options.max_tokens) if common.calls_models else UNLIMITED
        shares, notes = _estimate(entries, ready, allowance) if common.calls_models else ((), ())
        left = allowance.after(Usage.sum([entry.spent for entry in entries]))
        if common.tapes is not None:
            recorded.start_recording(common.tapes, common.given.model, common.task)
    except BaseException:
        if options.resume is None:
            common.folder.remove()
        raise
    notes = (*_describe_mode(common), *notes)
    agents = [step.spec.id for step in first.plan.steps if step.edits_tree] if common.calls_models else []
    if agents and options.jobs > 1:
        notes = (*notes, f"step '{agents[0]}' is an agent: one run at a time")
    again = (f"the case {name} changed since then: it runs again" for name in common.folder.changed)
    return Schedule(
        common=common,
        entries=entries,
        ready=ready,
        shares=shares or (UNLIMITED,) * len(entries),
        left=left,
        jobs=1 if agents else options.jobs,
        began=datetime.now(timezone.utc),
        notes=(*first.warnings, *again, *notes),
        variables=run.find_variables(first.plan, common.given, environ),
    )


def _set_up(
    options: EvalOptions,
    cases: Sequence[Loaded],
    names: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
) -> Common:
    given = RunOptions(
        task=options.task,
        config=options.config,
        preset=options.preset,
        live=options.live if options.replies is None else False,  # whatever AETHR_LIVE says
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
        given = given._replace(replies=None, live=None)
    given = given._replace(task=task, model=model, config=None, preset=None, jobs=1)
    tapes = Path(cwd, options.record) if options.record else None
    identity = Identity(
        workflow=_digest(project.workflow, model, given.no_fallback),
        task=task,
        mode="played" if isinstance(answers, Recordings) else mode,
        cases={each.case.name: each.case.sha256 for each in cases},
    )
    folder = state.reopen(Path(cwd, options.resume), identity) if options.resume else state.create(identity)
    return Common(
        project=project,
        given=given,
        task=task,
        settings=settings,
        dotenv=DotEnv({}, dotenv.warnings),
        mode=mode,
        folder=folder,
        workflow_sha256=identity.workflow,
        answers=answers,
        tapes=tapes,
        must_review=must_review,
    )


def _describe_mode(common: Common) -> Iterator[str]:
    if common.mode == "mock":
        yield "a mock: no model is called, so the figures mean nothing; AETHR_LIVE=1 makes it real"
    elif common.answers is not None:
        yield "the answers are played from files; no model is called"


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


def _find_entry(folder: StateFolder, loaded: Loaded, number: int) -> PlannedRun:
    place = folder.place(loaded.case.name, number)
    files = sorted(place.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        return PlannedRun(loaded, number, place)
    found = checkpoint.load(f"@{files[-1]}")
    return PlannedRun(loaded, number, place, files[-1], budget.used(found.steps, found.failed))


def _prepare_first(common: Common, entries: Sequence[PlannedRun], jobs: int) -> dict[int, Prepared]:
    """The first run over each case, and each that is resumed, if their prompts have a price; else one run."""
    wanted: dict[str, int] = {}
    resumed = []
    for number, entry in enumerate(entries):
        if entry.checkpoint is None:
            wanted.setdefault(entry.loaded.case.name, number)
        else:
            resumed.append(number)
    first, *others = sorted([*wanted.values(), *resumed]) if common.calls_models else [0]
    try:
        ready = {first: prepare_run(common, entries[first])}
    except MissingKeyError as error:
        if common.must_review:
            raise NotReviewedError(str(error), error.fix) from error
        raise
    planning.warm(ready[first].plan)
    shared = share(ready[first].plan)

    def make(number: int) -> Prepared:
        prepared = prepare_run(common, entries[number], shared)
        prepared.plan.estimate()  # which keeps what it has read
        return prepared

    with ThreadPoolExecutor(jobs) as pool:  # they wait for git most of the time
        return {**ready, **dict(zip(others, pool.map(make, others), strict=True))}


def share(plan: Plan) -> Callable[[str], Backend]:
    """The backends of a plan, by name, for other runs: calls to a busy endpoint are spaced in all of them."""
    found = {step.spec.backend: Shared(step.backend) for step in plan.steps}
    return found.__getitem__


def prepare_run(
    common: Common, entry: PlannedRun, shared: Callable[[str], Backend] | None = None
) -> Prepared:
    """The run in a repository of its own. ``shared`` are the backends, if they are there.

    Raises ``AethrError``.
    """
    loaded, root = entry.loaded, entry.place / "repository"
    case = loaded.case
    if entry.checkpoint is None or not root.is_dir():  # else an agent may have left edits in it
        shutil.rmtree(root, ignore_errors=True)
        with disk.failing_as(f"{root}: cannot write"):
            root.mkdir(parents=True)
        building.make_repository(root, loaded.base, loaded.head, case.message)
    file = f"@{entry.checkpoint}" if entry.checkpoint is not None else None
    played = common.answers.play(case.name, entry.number) if common.answers is not None else None
    prepared = run.prepare(
        common.given._replace(checkpoint_dir=str(entry.place), resume_checkpoint=file),
        root,
        common.settings,
        run.Provided(Project(root, common.project.workflow), building.survey(root), dotenv=common.dotenv),
        seal=Seal((common.folder.key,), {"case": case.sha256}),
        find_backend=(lambda _: played) if played is not None else shared,
    )
    return prepared._replace(played=played)


def _estimate(
    entries: Sequence[PlannedRun], ready: Mapping[int, Prepared], allowance: Allowance
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
