"""Read the terms of a run, find its workflow, bind its names, and refuse what can be refused, without a call.

A project is the folder that holds the workflow file. With a preset it is the repository's top folder, or the
current folder outside of a repository.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from aethr import context, git
from aethr.base.errors import AethrError, NotReviewedError, UsageError
from aethr.base.options import GATES, RunOptions, read_shard
from aethr.base.providers import renamed, split
from aethr.base.records import (
    CHANGE,
    Allowance,
    Backend,
    Block,
    CommandCheck,
    Gate,
    Mode,
    ModelSpec,
    Plan,
    PlannedStep,
    PullRequestText,
    Quote,
    Request,
    Scope,
    Shard,
    StepSpec,
    Survey,
    WorkflowSpec,
    changes_in,
    is_git_diff,
)
from aethr.base.sanitize import Redactor
from aethr.config import WORKFLOW_FILE, read_preset, workflow_file
from aethr.config.kinds import Problem, Text
from aethr.config.mistakes import quote
from aethr.context import changes, evidence, exclusion, files
from aethr.engine import conditions
from aethr.git import call
from aethr.llm import routes
from aethr.workflow.backends import BACKENDS, MockBackend


class Terms(NamedTuple):
    """``model`` overrides every model of the workflow; ``secrets`` are values to redact in all text.

    Without ``fallback`` no model is called in the place of another one. The gate of a shard comes with the
    merge, so until then a complete review is required.
    """

    mode: Mode
    model: str | None
    gate: Gate
    allowance: Allowance
    secrets: tuple[str, ...] = ()
    jobs: int = 1
    shard: Shard | None = None
    fallback: bool = True

    @property
    def is_live(self) -> bool:
        """Whether models are called."""
        return self.mode == "live"


class Project(NamedTuple):
    """A workflow and the folder it works in."""

    root: Path
    workflow: WorkflowSpec


class Bound(NamedTuple):
    """A project with its workflow's names bound to the tables, the terms of the run, and its environment."""

    root: Path
    workflow: WorkflowSpec
    terms: Terms
    steps: tuple[PlannedStep, ...]
    environ: Mapping[str, str]


class Program(NamedTuple):
    """Something that a step starts, an agent or a command, and its place in the file."""

    step: str
    place: str
    agent: str = ""
    command: str = ""


def read_terms(options: RunOptions, environ: Mapping[str, str], secrets: tuple[str, ...]) -> Terms:
    """The terms by the command line and the environment. Raises ``UsageError``, ``NotReviewedError``."""
    live = environ.get("AETHR_LIVE", "") if options.live is None else str(int(options.live))
    if live not in ("", "0", "1"):
        raise UsageError(f"AETHR_LIVE={live}: neither 1 nor 0", "Set AETHR_LIVE to 1, or unset it.")
    routes.wanted(environ)  # in a mock run too, as with AETHR_LIVE
    model = options.model or environ.get("AETHR_MODEL") or None
    if model is not None:
        try:
            split(model)
        except ValueError as error:
            where = "--model" if options.model else "AETHR_MODEL"
            raise UsageError(f"{where}: {error}", "Name a model as provider:model.") from error
    called = live == "1" or (live == "" and model is not None)
    if options.replies:
        # Scripted answers are not a review, so options that ask for a real one are refused.
        if called:
            asks = "AETHR_LIVE=1" if live == "1" else f"the model {model}"
            raise UsageError(f"--replies plays answers, and {asks} asks for real ones", "Add --mock.")
        if options.require_review:
            raise NotReviewedError(
                "--require-review: the answers of --replies are not a review",
                "Leave it out: --fail-on alone is decided on the scripted answers.",
            )
    return Terms(
        mode="scripted" if options.replies else "live" if called else "mock",
        model=model,
        gate=Gate(
            fail_on=next(gate for gate in GATES if gate == options.fail_on),
            require_review=options.require_review or options.shard is not None,
        ),
        allowance=Allowance(options.max_cost, options.max_tokens),
        secrets=secrets,
        jobs=options.jobs,
        shard=Shard(*read_shard(options.shard)) if options.shard is not None else None,
        fallback=not options.no_fallback,
    )


def vocabulary() -> workflow_file.Vocabulary:
    """The names that a workflow file may use, from the tables themselves."""
    return workflow_file.Vocabulary(
        sources={name: _argument_kind(row) for name, row in context.SOURCES.items()},
        backends=tuple(BACKENDS),
        conditions=tuple(row.key for row in conditions.CONDITIONS.values()),
        pattern=Text("a pattern", one_line=True, problem=_pattern_problem),
        optional=frozenset(name for name, row in context.SOURCES.items() if row.argument == "optional"),
    )


def _argument_kind(row: context.SourceRow) -> Text | None:
    if row.argument == "none":
        return None
    if row.name == CHANGE:
        return workflow_file.DIFF_FORM
    return workflow_file.COMMAND if row.runs else workflow_file.ARGUMENT


def _pattern_problem(text: str) -> Problem | None:
    problem = exclusion.problem(text)
    return Problem(f"the pattern {quote(text)} {problem}") if problem else None


def open_project(cwd: Path, path: str | None, preset: str | None) -> Project:
    """The workflow that the command line names (default: the ``.aethr.yaml`` of this project)."""
    if preset is not None:
        workflow = workflow_file.parse(read_preset(preset), f"preset {preset}", vocabulary())
        return Project(project_root(cwd), workflow)
    file = find_file(cwd, path)
    return Project(file.parent.resolve(), workflow_file.load(file, vocabulary()))


def find_file(cwd: Path, path: str | None) -> Path:
    """The workflow file of the command line (default: that of this project). Raises ``UsageError``."""
    file = Path(cwd, path) if path is not None else nearest(cwd)
    if file is None:
        raise UsageError(
            f"no {WORKFLOW_FILE} in this project",
            "Create one with `aethr init`, or use a built-in workflow without a file:\n"
            '  aethr run --preset review-existing-diff "review my changes"',
        )
    return file


def project_root(cwd: Path) -> Path:
    """The folder of the nearest workflow file, else the repository's top folder, else ``cwd``."""
    file = nearest(cwd)
    return (file.parent if file is not None else folders(cwd)[-1]).resolve()


def nearest(cwd: Path) -> Path | None:
    """The workflow file in ``cwd`` or the nearest folder above it in the same repository."""
    files = (folder / WORKFLOW_FILE for folder in folders(cwd))
    return next((file for file in files if os.path.lexists(file)), None)


def folders(cwd: Path) -> tuple[Path, ...]:
    """``cwd`` and the folders above it up to the repository's top; ``cwd`` alone outside of git."""
    above = (cwd, *cwd.parents)
    found = call.repository(cwd)
    top = next((n for n, folder in enumerate(above) if found and folder.resolve() == found.top), 0)
    return above[: top + 1]


def bind(
    project: Project,
    terms: Terms,
    environ: Mapping[str, str],
    find_backend: Callable[[str], Backend] | None = None,
) -> Bound:
    """Bind the workflow's names to the tables, without a call.

    ``find_backend`` gives the backend of a name instead of the table, or of the mock.

    Raises ``ConfigError`` for a role without a model, ``NotReviewedError`` if a required review is missing.
    """
    workflow = project.workflow
    if terms.model is not None:  # each role keeps its own settings
        own = {role: workflow.models.get(role, ModelSpec(terms.model)) for role in workflow.roles}
        workflow = workflow._replace(
            models={role: renamed(model, terms.model) for role, model in own.items()}
        )
    if not terms.fallback:
        alone = {role: model._replace(fallback=()) for role, model in workflow.models.items()}
        workflow = workflow._replace(models=alone)
    _refuse(workflow, terms)
    mock = MockBackend()
    # One for all of its steps.
    backend = find_backend or cache(lambda name: BACKENDS[name].build(environ) if terms.is_live else mock)
    redact = Redactor(terms.secrets).redact
    whole = frozenset(step.id for step in workflow.steps if BACKENDS[step.backend].edits_tree)
    reader = context.Reader(workflow.steps, whole, workflow.parts)
    steps = tuple(
        PlannedStep(
            spec=step,
            guidance=redact(workflow.roles[step.role]),
            model=workflow.models.get(step.role),
            backend=backend(step.backend),
            edits_tree=BACKENDS[step.backend].edits_tree,
            collect=partial(reader.collect, step),
            check=_bind_check(step, project.root, terms.mode),
            runs_commands=terms.is_live and any(context.find(each)[0].runs for each in step.context),
            share=BACKENDS[step.backend].share,
            about_change=frozenset(each for each in step.context if context.find(each)[0].about_change),
            address=_bind_address(step, workflow.models.get(step.role), environ) if terms.is_live else None,
            hosts=workflow.hosts,
        )
        for step in workflow.steps
    )
    return Bound(project.root, workflow, terms, steps, environ)


def _bind_address(
    step: StepSpec, model: ModelSpec | None, environ: Mapping[str, str]
) -> Callable[[], str] | None:
    """Where a step's model is called, found when it is needed: by then a missing key has been reported."""
    find = BACKENDS[step.backend].find_address
    return partial(find, model, environ) if find is not None and model is not None else None


def plan(
    bound: Bound,
    task: str,
    scope: Scope,
    survey: Survey | None = None,
    pull_request: PullRequestText | None = None,
) -> Plan:
    """The plan to run ``task`` on the change of ``scope``; ``survey`` is None outside of a repository."""
    root, workflow, terms, steps, _ = bound
    folder = changes.folder_of(root, survey)
    return Plan(
        workflow=workflow,
        task=task,
        root=root,
        mode=terms.mode,
        scope=scope,
        steps=steps,
        gate=terms.gate,
        allowance=terms.allowance,
        secrets=terms.secrets,
        holds=partial(context.holds, root, survey) if terms.is_live else lambda _: True,
        survey=survey,
        moved=partial(git.moved, root, scope),
        jobs=terms.jobs,
        shard=terms.shard,
        find_quotes=_find_quotes,
        concerns=partial(exclusion.concerns, folder),
        pull_request=pull_request,
        read_files=partial(files.read_named, root, folder, scope, survey),
        is_gone=find_gone(survey.top if survey else None, scope.head),
    )


def find_gone(top: Path | None, head: str | None) -> Callable[[str], bool]:
    """Whether a tree has no file any more with the path of a place id: that of a commit, or the work tree.

    ``top`` is the repository's top folder. The tree is read when it is first asked for; without one, or where
    git cannot list it, nothing is gone.
    """

    @cache
    def list_digits(top: Path) -> frozenset[str]:
        from aethr.git import tracking
        from aethr.review.answered import path_digits

        if head is None:
            names = tracking.files(top, lambda _: True) or ()
        else:
            names = tuple(os.fsdecode(each.path) for each in tracking.entries(top, head))
        return frozenset(map(path_digits, ("", *names)))  # the first is that of a finding without a path

    def is_gone(place: str) -> bool:
        from aethr.review.identity import PATH_DIGITS

        try:
            return top is not None and place[:PATH_DIGITS] not in list_digits(top)
        except AethrError:
            return False

    return is_gone


def _find_quotes(blocks: Sequence[Block], text: str, path: str | None, line: int | None) -> Sequence[Quote]:
    from aethr.context import quotes  # only answers with quotations need it

    return quotes.find_all(blocks, text, path, line)


def preflight(bound: Bound) -> None:
    """Refuse hosts that must not be called, and let each backend check for missing keys and programs.

    Raises ``AethrError``.
    """
    if bound.terms.is_live:
        if bound.workflow.hosts:
            from aethr.workflow import egress

            egress.require(bound.workflow, bound.environ, elsewhere=bound.terms.model is not None)
        for command in commands(bound.workflow):
            evidence.require(command, bound.root)
    for backend, requests in _group_requests(bound):
        backend.preflight(requests)


def warm(plan: Plan) -> None:
    """Let each backend start its slow preparations in the background."""
    for backend, requests in _group_requests(plan):
        backend.warm(requests)


def _group_requests(planned: Bound | Plan) -> Iterator[tuple[Backend, list[Request]]]:
    """Each backend with its requests; their prompts are not known yet."""
    for backend in {id(step.backend): step.backend for step in planned.steps}.values():
        yield backend, [step.request(planned.root) for step in planned.steps if step.backend is backend]


def _bind_check(step: StepSpec, root: Path, mode: Mode) -> Callable[[], CommandCheck] | None:
    command = next((value for row, value in conditions.given(step.repeat) if row.runs), None)
    if command is None:
        return None
    return partial(evidence.check, command, root) if mode == "live" else partial(evidence.not_run, command)


def programs(workflow: WorkflowSpec) -> Iterator[Program]:
    """Every program that a run of this workflow starts besides git, in the order of the file."""
    for number, step in enumerate(workflow.steps):
        place = f"steps.{number}"
        if BACKENDS[step.backend].edits_tree:
            yield Program(step.id, f"{place}.backend", agent=step.backend)
        for index, source in enumerate(step.context):
            row, argument = context.find(source)
            if row.runs:
                yield Program(step.id, f"{place}.context.{index}", command=argument)
        for condition, value in conditions.given(step.repeat):
            if condition.runs:
                yield Program(step.id, f"{place}.repeat.{condition.key.name}", command=value)


def commands(workflow: WorkflowSpec) -> tuple[str, ...]:
    """Every command of the project that this workflow runs, without duplicates."""
    return tuple(dict.fromkeys(program.command for program in programs(workflow) if program.command))


def _refuse(workflow: WorkflowSpec, terms: Terms) -> None:
    """Refuse a gate that has nothing to decide on, and in a live run a role without a model.

    Without a step that reviews, ``--fail-on`` is decided on the loops, if the workflow has any.
    """
    loops = any(step.repeat for step in workflow.steps) and not terms.gate.require_review
    if terms.shard is not None and (problems := list(_find_undivided(workflow))):
        raise workflow_file.refuse(workflow, problems)
    decides = loops or terms.shard is not None or any(step.reviewing for step in workflow.steps)
    if terms.gate.needs_review and not decides:
        raise NotReviewedError(
            f"{workflow.origin}: a review is required, and no step reviews",
            "Write `review: true` in the step that reviews, or give it the role 'reviewer'.",
        )
    if not terms.is_live:
        return
    problems = [
        (
            f"steps.{number}.role",
            f"the role '{step.role}' has no model: name one under 'models', or set AETHR_MODEL",
        )
        for number, step in enumerate(workflow.steps)
        if step.role not in workflow.models
    ]
    if problems:
        raise workflow_file.refuse(workflow, problems)


def _find_undivided(workflow: WorkflowSpec) -> Iterator[tuple[str, str]]:
    """What a shard cannot do, because it depends on all parts of the change: the place and the mistake."""
    read = changes_in(workflow.steps[0].context)
    for number, step in enumerate(workflow.steps):
        place, name = f"steps.{number}", f"--shard: the step '{step.id}'"
        if BACKENDS[step.backend].edits_tree:
            yield f"{place}.backend", f"{name} is an agent, which cannot work on a part of the change"
        elif step.repeat is not None:
            yield f"{place}.repeat", f"{name} ends a loop, which depends on all parts of the change"
        elif [*map(is_git_diff, own := changes_in(step.context))] != [True] or own != read:
            unread = f"needs all parts of the change, because it does not read {CHANGE} as the others do"
            yield (f"{place}.context" if step.context else place), f"{name} {unread}"
