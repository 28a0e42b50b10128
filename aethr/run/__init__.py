"""One run from options to result: load, plan, execute, each a step of its own.

All three doors come through here. ``prepare`` refuses everything that can be refused and calls
nothing; ``execute`` runs, writing the checkpoint after every step, and always gives a record back,
also of a run that failed on the way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import engine, git
from aethr.base import budget, edge, options, sanitize, secrecy
from aethr.base.errors import AethrError, BudgetError, DiskError, MissingKeyError, NotReviewedError
from aethr.base.options import RunOptions
from aethr.base.providers import provider_of
from aethr.base.records import (
    UNSEALED,
    Checkout,
    Event,
    Plan,
    RunFinished,
    RunResult,
    Scope,
    Seal,
    StepResult,
    Survey,
    WorkflowSpec,
)
from aethr.base.sanitize import Redactor
from aethr.config import credentials
from aethr.llm.routes import VARIABLE as TRANSPORT
from aethr.review import unreviewed
from aethr.run import one_off, resume, task
from aethr.workflow import planning, terms
from aethr.workflow.planning import Bound

if TYPE_CHECKING:
    import datetime

    from aethr.engine.checkpoint import Checkpoint
    from aethr.run.one_off import Promotion
    from aethr.run.recorder import OnKept, Recorder
    from aethr.workflow.scripted import Script

Show = Callable[[Event], None]


class Prepared(NamedTuple):
    """A run that may begin. ``warnings`` are plain lines to show first; ``done`` are results to replay.

    ``promotion`` is the file that it becomes once it has completed.

    ``carried`` are the environment variables without which the same command would be another run.
    """

    options: RunOptions
    plan: Plan
    done: tuple[StepResult, ...] = ()
    warnings: tuple[str, ...] = ()
    own_checkpoint: Path | None = None
    carried: tuple[tuple[str, str], ...] = ()
    promotion: Promotion | None = None
    script: Script | None = None


class Outcome(NamedTuple):
    """The record of a run, and the error that ended it where one did.

    ``spare`` is the checkpoint of a run that completed: it goes once the result has been told. ``kept`` is
    that of one that stopped.
    """

    result: RunResult
    error: AethrError | None = None
    spare: Path | None = None
    kept: Path | None = None


def prepare(
    given: RunOptions,
    cwd: Path,
    environ: Mapping[str, str],
    project: planning.Project | None = None,
    survey: Survey | None = None,
    today: datetime.date | None = None,
    seal: Seal | None = None,
) -> Prepared:
    """Everything before the first call. Raises ``AethrError``; nothing has been called then.

    ``project`` is the workflow, and ``survey`` what it is about, where the caller has found them already;
    else they are those of ``cwd`` and the options. ``today`` decides which models retire soon; by default it
    is today. ``seal`` is what a checkpoint is sealed with, by default the keys of the providers.
    """
    options.check(given)
    saved = resume.saved(given)
    project = project or one_off.project(given, cwd)
    here = git.checkout_if_any(project.root, survey.checkout if survey else None)
    dotenv = credentials.NOTHING if environ.get("GITHUB_ACTIONS") else credentials.load(project.root, here)
    settings = {**dotenv.values, **environ}
    agreed = terms.read(given, settings, secrecy.found_in(settings))
    secrecy.hide_too(agreed.secrets)
    seal = (seal or _seal(project, settings, agreed)) if agreed.is_live else UNSEALED
    doubt = resume.unproven(saved, seal, agreed.mode)
    if seal.keys:  # before the scope is taken from it; without a key `_preflight` says which one is missing
        resume.require(agreed.gate, doubt)
    scope, survey = (survey.scope, survey) if survey else _change(project.root, here, given, saved)
    script = _script(given.replies, cwd, project.workflow)
    bound = planning.bind(project, agreed, settings, script)
    promotion = _promotion(bound) if given.save else None
    _preflight(bound, dotenv.warnings)  # before the task, which somebody may be about to write in an editor
    plan = planning.plan(bound, _task(given, saved, settings, agreed.secrets), scope, survey)
    resumed = resume.steps(plan, saved, doubt)
    if resumed.unproven is not None or resumed.stale:
        seal = UNSEALED  # this run's seal would vouch for those results too
    earlier = resume.earlier(plan.root, saved, given.resume_checkpoint, settings)
    return Prepared(
        options=given,
        plan=plan._replace(seal=seal, unproven=resumed.unproven, earlier=earlier),
        done=resumed.steps,
        warnings=(
            *dotenv.warnings,
            *_endpoints(plan, settings),
            *_retirements(plan, today),
            *resume.left_behind(earlier),
            *resumed.lines,
            *_worst_case(plan),
        ),
        own_checkpoint=resume.own_file(given, saved),
        carried=_carried(plan, environ),
        promotion=promotion,
        script=script,
    )


def execute(
    prepared: Prepared, screen: AbstractContextManager[Show], on_kept: OnKept = lambda _text, _whole: None
) -> Outcome:
    """Run to the end or to the first failure. Every finished step is on disk before it is shown.

    ``screen`` gives what shows the events, and puts the terminal back: where that fails, the run has failed.
    ``on_kept`` is told what the checkpoint has got.
    """
    from aethr.run.recorder import Recorder

    plan, given = prepared.plan, prepared.options
    planning.warm(plan)
    recorder = Recorder(plan, prepared.done, _folder(given), prepared.own_checkpoint, on_kept)
    try:
        with screen as show, closing(engine.run(plan, prepared.done)) as events:
            result = _consume(_without_keys(events, plan), recorder, show)
    except BaseException as stop:  # noqa: BLE001 - whatever stopped the run, its steps are kept
        return _stopped(prepared, recorder, edge.as_error(stop))
    over = budget.exceeded(plan.allowance, result.steps)
    if over is not None:
        return _over_budget(prepared, recorder, result, over)
    spare = _spare(given, recorder.file)
    if spare is None and recorder.file is not None:
        redact = Redactor(plan.secrets).redact
        result = result._replace(checkpoint=redact(str(recorder.file)))
    left_over = prepared.script.left_over(result) if prepared.script is not None else None
    if left_over is not None:
        result = result._replace(exit_code=left_over.exit_code)
    return Outcome(result, left_over, spare)


@contextmanager
def telling(prepared: Prepared, outcome: Outcome) -> Iterator[None]:
    """The block tells what came of a run; its checkpoint stays until that is done.

    Where telling fails (a closed output, a full disk) the answers are not lost with it. Raises
    ``AethrError``: the one that ended the run, else the one that ended the block with the resume command.
    """
    try:
        yield
    except (AethrError, OSError) as stop:
        if outcome.error is not None:
            raise outcome.error from stop  # what ended the run matters more than an output that is gone
        error = edge.as_error(stop)
        if outcome.spare is not None:
            _offer_resume(error, prepared, outcome.spare)
        raise error from stop
    if outcome.spare is not None:
        outcome.spare.unlink(missing_ok=True)
        if prepared.plan.earlier is not None:  # it is still there where no step has taken it over
            from aethr.snapshot import attempts

            attempts.discard(outcome.spare)


def _seal(project: planning.Project, settings: Mapping[str, str], agreed: terms.Terms) -> Seal:
    from aethr.engine.seal import folder_binding

    models = [agreed.model] if agreed.model else [model.name for model in project.workflow.models.values()]
    return Seal(credentials.provider_keys(settings, models), folder_binding(project.root))


def _change(
    root: Path, here: Checkout | None, given: RunOptions, saved: Checkpoint | None
) -> tuple[Scope, Survey | None]:
    """What is to be reviewed: as named, else as the run that is resumed had it, else chosen now."""
    scope = None
    if given.diff is not None:
        scope = git.resolve_scope(root, given.diff, here)
    elif saved is not None:
        scope = resume.scope(root, here, saved)
    if here is None:
        return scope or Scope(chosen=True), None
    survey = git.survey(here, scope) if scope else git.choose_scope(here)
    return survey.scope, survey


def _task(
    given: RunOptions, saved: Checkpoint | None, settings: Mapping[str, str], secrets: tuple[str, ...]
) -> str:
    if given.task is None and saved is not None and saved.task is not None:
        return saved.task
    return Redactor(secrets).redact(task.read(given.task, settings, sys.stdin.buffer))


def _script(replies: str | None, cwd: Path, spec: WorkflowSpec) -> Script | None:
    if replies is None:
        return None
    from aethr.workflow import scripted

    editing = [program.step for program in planning.programs(spec) if program.agent]
    return scripted.load(Path(cwd, replies), [step.id for step in spec.steps], editing)


def _offer_resume(error: AethrError, prepared: Prepared, path: Path) -> None:
    """Put the resume command on the error; where that would be refused, say so instead."""
    plan = prepared.plan
    if plan.mode == "live" and plan.gate.needs_review and not plan.seal.keys:
        no_proof = "With a gate it cannot be resumed: without a provider's key nothing seals a checkpoint."
        error.fix = f"{error.fix}\n{no_proof}".strip()
        return
    redact = Redactor(plan.secrets).redact
    error.resume = redact(resume.command(prepared.options, prepared.carried, path))


def _promotion(bound: Bound) -> Promotion:
    from aethr.run.one_off import promote

    return promote(bound)


def _preflight(bound: Bound, dotenv_warnings: tuple[str, ...]) -> None:
    """A key that is missing may be one that stands in a ``.env`` which was not read, or not understood."""
    try:
        planning.preflight(bound)
    except MissingKeyError as error:
        error.fix = "\n".join((error.fix, *dotenv_warnings))
        if bound.terms.gate.needs_review:
            raise NotReviewedError(str(error), error.fix) from error
        raise


def _endpoints(plan: Plan, settings: Mapping[str, str]) -> tuple[str, ...]:
    """Which calls go to a host that is not the provider's own; said before the first one."""
    if not plan.is_live:
        return ()
    from aethr.llm.endpoints import endpoints

    return endpoints([step.model for step in plan.steps if step.model], settings)


def _retirements(plan: Plan, today: datetime.date | None) -> tuple[str, ...]:
    """Which models of a live run are shut down soon, or already."""
    if not plan.is_live:
        return ()
    import datetime

    from aethr.llm.prices import retirement

    names = dict.fromkeys(step.model.name for step in plan.steps if step.model)
    lines = (retirement(name, today or datetime.date.today()) for name in names)
    return tuple(line for line in lines if line is not None)


def _worst_case(plan: Plan) -> tuple[str, ...]:
    """What a budget in dollars means for this run; said before the first call."""
    if not plan.is_live or plan.allowance.cost_usd is None:
        return ()
    from aethr.workflow.estimate import against_budget

    return tuple(against_budget(plan, plan.allowance.cost_usd))


def _without_keys(events: Iterator[Event], plan: Plan) -> Iterator[Event]:
    """The events without keys in any of their texts, names included, for whatever shows or keeps them.

    Answers and prompts are redacted where they arise: what a later step is told comes from there.
    """
    redact = Redactor(plan.secrets).redact
    return (sanitize.redact_record(event, redact) for event in events) if plan.secrets else events


def _consume(events: Iterator[Event], recorder: Recorder, show: Show) -> RunResult:
    for event in events:
        try:
            recorder.take(event)
        except DiskError:
            show(event)
            raise
        show(event)
        if isinstance(event, RunFinished):
            return event.result
    raise AssertionError("a run ends with RunFinished")


def _stopped(prepared: Prepared, recorder: Recorder, error: AethrError) -> Outcome:
    """The record of a run that stopped; its checkpoint written and the resume command on the error."""
    redact = Redactor(prepared.plan.secrets).redact
    error.redact(redact)
    path = recorder.stopped(error)
    if path is not None:
        _offer_resume(error, prepared, path)
    verdict = unreviewed(str(error))
    result = engine.record(
        prepared.plan, recorder.results, recorder.loops, verdict, recorder.subject, recorder.failed
    )
    result = result._replace(exit_code=error.exit_code, checkpoint=str(path) if path else None)
    return Outcome(sanitize.redact_record(result, redact), error, kept=path)


def _over_budget(prepared: Prepared, recorder: Recorder, result: RunResult, error: BudgetError) -> Outcome:
    """A run whose last step passed its budget: complete, and its checkpoint stays.

    The resume command, with more to spend, ends with its verdict and calls nothing.
    """
    assert recorder.file is not None
    error.redact(Redactor(prepared.plan.secrets).redact)
    _offer_resume(error, prepared, recorder.file)
    return Outcome(result._replace(exit_code=error.exit_code, checkpoint=str(recorder.file)), error)


def _carried(plan: Plan, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Live or mock, model, transport and endpoints, where the environment and not ``.env`` says so.

    An endpoint with a password in it is left out: the command is printed.
    """
    called = [step.model for step in plan.steps if step.model] if plan.is_live else []
    bases = [base for model in called for base in provider_of(model.name).base_variables]
    names = dict.fromkeys(["AETHR_LIVE", "AETHR_MODEL", TRANSPORT, *bases])
    found = ((name, environ.get(name, "")) for name in names)
    return tuple((name, value) for name, value in found if value and "@" not in value)


def _spare(given: RunOptions, file: Path | None) -> Path | None:
    """The checkpoint of a run that completed, unless it stands where somebody has asked for it."""
    temporary = file is not None and file.resolve().parent == _folder(given).resolve()
    return file if temporary and given.checkpoint_dir is None else None


def _folder(given: RunOptions) -> Path:
    import tempfile

    named = given.checkpoint_dir or os.environ.get("RUNNER_TEMP")
    return Path(named) if named else Path(tempfile.gettempdir())
