"""One run from options to result: load, plan, execute, each a step of its own.

The command line, the hook and the Action all run through here. ``prepare`` refuses everything that can be
refused and calls nothing; ``execute`` runs, writes the checkpoint after every step, and always returns a
record, also if the run failed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import engine, git
from aethr.base import budget, edge, options, providers, sanitize, secrecy
from aethr.base.errors import AethrError, DiskError, MissingKeyError, NotReviewedError, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import (
    UNLIMITED,
    UNSEALED,
    Backend,
    Checkout,
    Estimate,
    Event,
    KeptAnswer,
    Plan,
    PullRequestText,
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
from aethr.llm import routes
from aethr.review import unreviewed
from aethr.run import one_off, resume
from aethr.workflow import backends, planning
from aethr.workflow.backends import Played, Script
from aethr.workflow.planning import Bound, Terms

if TYPE_CHECKING:
    import datetime

    from aethr.engine.checkpoint import Checkpoint
    from aethr.run.kept import Folder
    from aethr.run.one_off import Promotion
    from aethr.run.recorder import OnKept, Recorder

Show = Callable[[Event], None]


class Prepared(NamedTuple):
    """A run that can start. ``warnings`` are plain lines to show first; ``done`` are results to replay.

    ``promotion`` is the file that ``--save`` writes once the run has completed. ``variables`` are the
    environment variables that the resume command has to set. ``folder`` is where the answers are kept.
    """

    options: RunOptions
    plan: Plan
    done: tuple[StepResult, ...] = ()
    warnings: tuple[str, ...] = ()
    own_checkpoint: Path | None = None
    variables: tuple[tuple[str, str], ...] = ()
    promotion: Promotion | None = None
    played: Played | None = None
    folder: Folder | None = None


class Outcome(NamedTuple):
    """The record of a run, and the error that ended it, if any.

    ``spare`` is the checkpoint of a run that completed, to delete once the result is delivered. ``kept`` is
    the checkpoint of a run that stopped. ``notes`` are plain lines to show last.
    """

    result: RunResult
    error: AethrError | None = None
    spare: Path | None = None
    kept: Path | None = None
    notes: tuple[str, ...] = ()


class Provided(NamedTuple):
    """What the caller of ``prepare`` provides. None: it comes from the folder and the options.

    ``project`` is the workflow, ``survey`` the change, ``dotenv`` the ``.env`` to use. ``pull_request`` is
    what its author says about it, for the source of that name.
    """

    project: planning.Project | None = None
    survey: Survey | None = None
    pull_request: PullRequestText | None = None
    dotenv: credentials.DotEnv | None = None


NOTHING_PROVIDED = Provided()


def prepare(
    given: RunOptions,
    cwd: Path,
    environ: Mapping[str, str],
    provided: Provided = NOTHING_PROVIDED,
    *,
    today: datetime.date | None = None,
    seal: Seal | None = None,
    answers: Iterable[KeptAnswer] = (),
    keeps_answers: bool = False,
    find_backend: Callable[[str], Backend] | None = None,
) -> Prepared:
    """Everything before the first call. Raises ``AethrError``, and has called nothing then.

    ``today`` (default: the current date) decides which models retire soon. ``seal`` seals the checkpoint
    (default: the keys of the providers). ``answers`` are those of earlier runs; with ``keeps_answers``, they
    are kept in the folder of ``--checkpoint-dir``. ``find_backend`` gives the backend of each name (default:
    ``--replies``, or the table).
    """
    options.check(given)
    saved = resume.load(given)
    project, survey, pull_request, dotenv = provided
    project = project or one_off.open_project(given, cwd)
    here = git.checkout_if_any(project.root, survey.checkout if survey else None)
    dotenv = load_dotenv(project, here, environ) if dotenv is None else dotenv
    settings = {**dotenv.values, **environ}
    agreed = planning.read_terms(given, settings, secrecy.found_in(settings))
    secrecy.hide_too(agreed.secrets)
    seal = (seal or _make_seal(project, settings, agreed)) if agreed.is_live else UNSEALED
    doubt = resume.find_doubt(saved, seal, agreed.mode)
    if seal.keys:  # before the scope is taken from it; without a key `_preflight` says which one is missing
        resume.require(agreed.gate, doubt)
    scope, survey = (survey.scope, survey) if survey else _resolve_change(project.root, here, given, saved)
    played = None if find_backend else _load_script(given.replies, cwd, project.workflow)
    bound = planning.bind(project, agreed, settings, (lambda _: played) if played else find_backend)
    promotion = one_off.promote(bound) if given.save else None
    _preflight(bound, dotenv.warnings)  # before the task, which somebody may be about to write in an editor
    plan = planning.plan(
        bound, _read_task(given, saved, settings, agreed.secrets), scope, survey, pull_request
    )
    resumed = resume.take_over(plan, saved, doubt)
    if resumed.unproven is not None or resumed.stale:
        seal = UNSEALED  # this run's seal would vouch for those results too
    earlier = resume.find_earlier(plan.root, saved, given.resume_checkpoint, settings)
    plan = plan._replace(
        seal=seal, unproven=resumed.unproven, earlier=earlier, failed=saved.failed if saved else ()
    )
    folder: Folder | None = None
    ignored: tuple[str, ...] = ()
    if plan.is_live:
        if keeps_answers and given.checkpoint_dir is not None:
            folder, answers, ignored = _read_answers(plan, given.checkpoint_dir)
        plan = plan._replace(reuse={} if given.fresh else {each.key: each for each in answers})
        plan = plan._replace(estimate=cache(partial(_estimate, plan, resumed.steps)))
    return Prepared(
        options=given,
        plan=plan,
        done=resumed.steps,
        warnings=(
            *dotenv.warnings,
            *(_warn_before_calls(plan, resumed.steps, settings, today) if plan.is_live else ()),
            *resume.describe_earlier(earlier),
            *resumed.lines,
            *ignored,
        ),
        own_checkpoint=resume.find_own_file(given, saved),
        variables=find_variables(plan, given, environ),
        promotion=promotion,
        played=played,
        folder=folder,
    )


def execute(
    prepared: Prepared, screen: AbstractContextManager[Show], on_kept: OnKept = lambda _text, _whole: None
) -> Outcome:
    """Run to the end or to the first failure. Every finished step is on disk before it is shown.

    ``screen`` yields the function that shows events, and restores the terminal at its end; if that fails, the
    run has failed. ``on_kept`` is called with each text that is written to the checkpoint.
    """
    outcome = _execute(prepared, screen, on_kept)
    if prepared.folder is None:
        return outcome
    try:
        scope = prepared.plan.scope
        prepared.folder.add(outcome.result.steps, scope.head or scope.head_sha or "")
    except DiskError as error:  # the run itself lacks nothing
        return outcome._replace(notes=(sanitize.redact(str(error)),))
    return outcome


def _execute(prepared: Prepared, screen: AbstractContextManager[Show], on_kept: OnKept) -> Outcome:
    from aethr.run.recorder import Recorder

    plan, given = prepared.plan, prepared.options
    redact = Redactor(plan.secrets).redact
    planning.warm(plan)
    folder = Path(given.checkpoint_dir or os.environ.get("RUNNER_TEMP") or tempfile.gettempdir())
    recorder = Recorder(plan, prepared.done, folder, prepared.own_checkpoint, on_kept)

    def keep(result: StepResult) -> None:
        recorder.keep(sanitize.redact_record(result, redact) if plan.secrets else result)

    try:
        with screen as show, edge.ending(engine.run(plan, prepared.done, keep=keep)) as events:
            # Answers and prompts are redacted where they arise; here it is every other text, names included.
            clean = (sanitize.redact_record(event, redact) for event in events) if plan.secrets else events
            result = _record_and_show(clean, recorder, show)
    except BaseException as stop:  # noqa: BLE001 - the finished steps are kept for any of them
        return _record_failure(prepared, recorder, edge.as_error(stop))
    result = recorder.complete(result)
    over = budget.exceeded(plan.allowance, result.steps, plan.failed)
    if over is not None:  # by the last step: the record is complete, and a resume calls nothing
        over.redact(redact)
        path = recorder.file or recorder.stop(over)  # replayed from a text, all of it, no file was needed yet
        if path is not None:
            _offer_resume(over, prepared, path)
        return Outcome(
            result._replace(exit_code=over.exit_code, checkpoint=str(path) if path else None), over
        )
    file = recorder.file
    temporary = file is not None and file.resolve().parent == folder.resolve()
    spare = file if temporary and given.checkpoint_dir is None else None
    if spare is None and file is not None:
        result = result._replace(checkpoint=redact(str(file)))
    unused = prepared.played.find_unused(result) if prepared.played is not None else None
    if unused is not None:
        result = result._replace(exit_code=unused.exit_code)
    return Outcome(result, unused, spare)


@contextmanager
def telling(prepared: Prepared, outcome: Outcome) -> Iterator[None]:
    """A context for the block that delivers the result: the checkpoint is deleted only after the block.

    So if delivery fails (a closed output, a full disk) no answer is lost. Raises ``AethrError``: the error
    that ended the run, else the one that ended the block, with the resume command.
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
        if prepared.plan.earlier is not None:  # its objects are still there if no step took it over
            from aethr.snapshot import attempts

            attempts.discard(outcome.spare)


def _read_answers(plan: Plan, named: str) -> tuple[Folder | None, Iterable[KeptAnswer], tuple[str, ...]]:
    """The file of answers in the folder of ``--checkpoint-dir``, what it has, and a line if it is ignored."""
    from aethr.run import kept

    folder = kept.find_folder(named, plan)
    try:
        return folder, folder.read().answers if folder else (), ()
    except kept.StateError as error:
        return folder, (), (f"the answers of earlier runs in {named} are ignored: {error}",)


def load_dotenv(
    project: planning.Project, here: Checkout | None, environ: Mapping[str, str]
) -> credentials.DotEnv:
    """The ``.env`` of the project; a job of GitHub Actions has none."""
    if environ.get("GITHUB_ACTIONS"):
        return credentials.NOTHING
    named = (model.endpoint for model in project.workflow.models.values())
    return credentials.load(project.root, here, filter(None, named))


def _make_seal(project: planning.Project, settings: Mapping[str, str], agreed: Terms) -> Seal:
    from aethr.engine.seal import folder_binding

    called = (each.name for model in project.workflow.models.values() for each in providers.chain(model))
    models = [agreed.model] if agreed.model else called
    return Seal(credentials.provider_keys(settings, models), folder_binding(project.root))


def _resolve_change(
    root: Path, here: Checkout | None, given: RunOptions, saved: Checkpoint | None
) -> tuple[Scope, Survey | None]:
    """The change to review: by ``--diff``, else that of the checkpoint, else chosen by what git reports."""
    scope = None
    if given.diff is not None:
        scope = git.resolve_scope(root, given.diff, here)
    elif saved is not None:
        scope = resume.resolve_scope(root, here, saved)
    if here is None:
        return scope or Scope(chosen=True), None
    survey = git.survey(here, scope) if scope else git.choose_scope(here)
    return survey.scope, survey


def _read_task(
    given: RunOptions, saved: Checkpoint | None, settings: Mapping[str, str], secrets: tuple[str, ...]
) -> str:
    if given.task is None and saved is not None and saved.task is not None:
        return saved.task
    return Redactor(secrets).redact(one_off.read_task(given.task, settings))


def _load_script(replies: str | None, cwd: Path, spec: WorkflowSpec) -> Script | None:
    if replies is None:
        return None
    editing = frozenset(program.step for program in planning.programs(spec) if program.agent)
    steps = [step.id for step in spec.steps]
    verifying = frozenset(step.id for step in spec.steps if step.verify)
    return Script(backends.read_replies(Path(cwd, replies), steps, editing, verifying), editing)


def _offer_resume(error: AethrError, prepared: Prepared, path: Path) -> None:
    """Add the resume command to the error; if a resume would be refused, say so instead."""
    plan = prepared.plan
    if plan.mode == "live" and plan.gate.needs_review and not plan.seal.keys:
        no_proof = "With a gate it cannot be resumed: without a provider's key nothing seals a checkpoint."
        error.fix = f"{error.fix}\n{no_proof}".strip()
        return
    redact = Redactor(plan.secrets).redact
    error.resume = redact(resume.build_command(prepared.options, prepared.variables, path))


def _preflight(bound: Bound, dotenv_warnings: tuple[str, ...]) -> None:
    """Check keys, addresses, programs. What is missing may be in a ``.env`` that was not read: say so too."""
    try:
        planning.preflight(bound)
    except UsageError as error:
        error.fix = "\n".join((error.fix, *dotenv_warnings))
        if isinstance(error, MissingKeyError) and bound.terms.gate.needs_review:
            raise NotReviewedError(str(error), error.fix) from error
        raise


def _warn_before_calls(
    plan: Plan, done: Sequence[StepResult], settings: Mapping[str, str], today: datetime.date | None
) -> Iterator[str]:
    """What to know before the first call of a live run: foreign hosts, doubtful models, the budget."""
    import datetime

    from aethr.llm.catalog import find_doubts
    from aethr.llm.spending import retirement

    steps = [(step, providers.called(step)) for step in plan.steps]
    yield from routes.describe_endpoints((model for _, models in steps for model in models), settings)
    for name in dict.fromkeys(model.name for _, models in steps for model in models):
        if line := retirement(name, today or datetime.date.today()):
            yield line
    asked = (model for step, models in steps if not step.edits_tree for model in models)
    yield from find_doubts(asked, settings)
    if plan.allowance != UNLIMITED:
        from aethr.workflow import estimate

        if plan.allowance.cost_usd is not None:
            yield from estimate.check_prices(plan)
        if (found := plan.estimate()) is not None:
            yield from estimate.compare(found, plan.allowance, budget.used(done, plan.failed))


def _estimate(plan: Plan, done: tuple[StepResult, ...]) -> Estimate:
    from aethr.workflow import estimate

    return estimate.estimate(plan, engine.preview(plan, agents=False), done)


def _record_and_show(events: Iterator[Event], recorder: Recorder, show: Show) -> RunResult:
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


def _record_failure(prepared: Prepared, recorder: Recorder, error: AethrError) -> Outcome:
    """Write the checkpoint of a run that stopped, and return its record, the resume command in the error."""
    redact = Redactor(prepared.plan.secrets).redact
    error.redact(redact)
    refused = isinstance(error, NotReviewedError) and not recorder.results  # so a resume would be, too
    path = None if refused else recorder.stop(error)
    if path is not None:
        _offer_resume(error, prepared, path)
    verdict = unreviewed(str(error))
    result = engine.record(
        prepared.plan,
        recorder.results,
        recorder.loops,
        verdict,
        recorder.subject,
        recorder.failed,
        recorder.shards,
        doubt=str(error),
    )
    result = result._replace(
        exit_code=error.exit_code, checkpoint=str(path) if path else None, estimate=recorder.estimate
    )
    return Outcome(sanitize.redact_record(recorder.complete(result), redact), error, kept=path)


def find_variables(plan: Plan, given: RunOptions, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Variables of the environment (not of ``.env``) for live or mock, model, transport and endpoints.

    ``--live`` and ``--mock`` replace the first. An endpoint with a password in it is excluded, because the
    command is printed.
    """
    called = [model for step in plan.steps for model in providers.called(step)] if plan.is_live else []
    bases = [base for model in called for base in providers.provider_of(model.name).base_variables]
    own = [model.endpoint for model in called if model.endpoint is not None]
    mode = ["AETHR_LIVE"] if given.live is None else []
    names = dict.fromkeys([*mode, "AETHR_MODEL", routes.VARIABLE, *bases, *own])
    found = ((name, environ.get(name, "")) for name in names)
    return tuple((name, value) for name, value in found if value and "@" not in value)
