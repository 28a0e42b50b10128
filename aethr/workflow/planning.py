"""Which workflow a run is of, its names bound, everything refusable refused, nothing called.

A project is the folder that holds the workflow file; with a preset it is the repository's top folder,
or the current one outside of git.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import context, git
from aethr.base.errors import NotReviewedError, UsageError
from aethr.base.records import (
    Backend,
    CommandCheck,
    Gate,
    Mode,
    ModelSpec,
    Plan,
    PlannedStep,
    Request,
    Scope,
    StepSpec,
    Survey,
    WorkflowSpec,
)
from aethr.base.sanitize import Redactor
from aethr.config import WORKFLOW_FILE, presets, workflow_file
from aethr.context import evidence
from aethr.engine import conditions
from aethr.git import call
from aethr.workflow.backends import BACKENDS
from aethr.workflow.scripted import MockBackend
from aethr.workflow.terms import Terms

if TYPE_CHECKING:
    from aethr.workflow.scripted import Script


class Project(NamedTuple):
    """A workflow and the folder it works in."""

    root: Path
    workflow: WorkflowSpec


class Bound(NamedTuple):
    """A project whose workflow's names are bound to the tables, under the terms of a run."""

    root: Path
    workflow: WorkflowSpec
    terms: Terms
    steps: tuple[PlannedStep, ...]


class Program(NamedTuple):
    """Something that a step starts, an agent or a command, and its place in the file."""

    step: str
    place: str
    agent: str = ""
    command: str = ""


def vocabulary() -> workflow_file.Vocabulary:
    """What a workflow file may say, from the tables themselves."""
    return workflow_file.Vocabulary(
        sources={
            name: (workflow_file.COMMAND if row.runs else workflow_file.ARGUMENT)
            if row.takes_argument
            else None
            for name, row in context.SOURCES.items()
        },
        backends=tuple(BACKENDS),
        conditions=tuple(row.key for row in conditions.CONDITIONS.values()),
    )


def open_project(cwd: Path, path: str | None, preset: str | None) -> Project:
    """The workflow that the command line names, by default the ``.aethr.yaml`` of this project."""
    if preset is not None:
        workflow = workflow_file.parse(presets.text(preset), f"preset {preset}", vocabulary())
        return Project(project_root(cwd), workflow)
    file = Path(cwd, path) if path is not None else nearest(cwd)
    if file is None:
        raise UsageError(
            f"no {WORKFLOW_FILE} in this project",
            "Choose one with `aethr init`; or write no file and name a built-in workflow:\n"
            '  aethr run --preset review-existing-diff "review my changes"',
        )
    return Project(file.parent.resolve(), workflow_file.load(file, vocabulary()))


def project_root(cwd: Path) -> Path:
    """The folder of the nearest workflow file, else the repository's top folder, else ``cwd``."""
    file = nearest(cwd)
    return (file.parent if file is not None else folders(cwd)[-1]).resolve()


def nearest(cwd: Path) -> Path | None:
    """The workflow file of ``cwd`` or of a folder above it, inside the same repository."""
    files = (folder / WORKFLOW_FILE for folder in folders(cwd))
    return next((file for file in files if os.path.lexists(file)), None)


def folders(cwd: Path) -> tuple[Path, ...]:
    """``cwd`` and the folders above it up to the repository's top; ``cwd`` alone outside of git."""
    above = (cwd, *cwd.parents)
    found = call.repository(cwd)
    top = next((n for n, folder in enumerate(above) if found and folder.resolve() == found.top), 0)
    return above[: top + 1]


def bind(project: Project, terms: Terms, environ: Mapping[str, str], script: Script | None = None) -> Bound:
    """Bind the workflow's names to the tables. ``script`` answers every step of a scripted run.

    Raises ``ConfigError`` and its kin; makes no call.
    """
    workflow = _with_model(project.workflow, terms.model)
    _refuse(workflow, terms)
    backend = _backends(terms.mode, environ, script)
    redact = Redactor(terms.secrets).redact
    collector = cache(context.collector)  # steps with the same context share it
    steps = tuple(
        PlannedStep(
            spec=step,
            guidance=redact(workflow.roles[step.role]),
            model=workflow.models.get(step.role),
            backend=backend(step.backend),
            edits_tree=BACKENDS[step.backend].edits_tree,
            collect=collector(step.context, step.context_chars),
            check=_check(step, project.root, terms.mode),
            runs_commands=terms.is_live and any(context.find(each)[0].runs for each in step.context),
        )
        for step in workflow.steps
    )
    return Bound(project.root, workflow, terms, steps)


def plan(bound: Bound, task: str, scope: Scope, survey: Survey | None = None) -> Plan:
    """What to run: ``task`` on the change of ``scope``, whose ``survey`` is None outside of a repository."""
    root, workflow, terms, steps = bound
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
    )


def preflight(bound: Bound) -> None:
    """Let each backend refuse what it can before the first call: a key, a program that is missing."""
    if bound.terms.is_live:
        for command in commands(bound.workflow):
            evidence.require(command, bound.root)
    for backend, requests in _asked(bound):
        backend.preflight(requests)


def warm(plan: Plan) -> None:
    """The run begins: let each backend get ready in the background what takes it long."""
    for backend, requests in _asked(plan):
        backend.warm(requests)


def _asked(planned: Bound | Plan) -> Iterator[tuple[Backend, list[Request]]]:
    """Each backend with what it will be asked; the prompts are not known yet."""
    for backend in {id(step.backend): step.backend for step in planned.steps}.values():
        yield backend, [step.request(planned.root) for step in planned.steps if step.backend is backend]


def _backends(mode: Mode, environ: Mapping[str, str], script: Script | None) -> Callable[[str], Backend]:
    """The backend of each name, made once; without a model the one that stands in for all of them."""
    if mode == "live":
        return cache(lambda name: BACKENDS[name].build(environ))
    stand_in = script or MockBackend()
    return lambda _: stand_in


def _check(step: StepSpec, root: Path, mode: Mode) -> Callable[[], CommandCheck] | None:
    command = next((value for row, value in conditions.given(step.repeat) if row.runs), None)
    if command is None:
        return None
    return partial(evidence.check, command, root) if mode == "live" else partial(evidence.not_run, command)


def programs(workflow: WorkflowSpec) -> Iterator[Program]:
    """Everything that a run of this workflow starts beside git, in the order of the file."""
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
    """Every command of the project that a run of this workflow runs, each once."""
    return tuple(dict.fromkeys(program.command for program in programs(workflow) if program.command))


def _with_model(workflow: WorkflowSpec, override: str | None) -> WorkflowSpec:
    """The workflow with one model for every role; each role keeps its own settings."""
    if override is None:
        return workflow
    unnamed = ModelSpec(override)
    models = {role: workflow.models.get(role, unnamed)._replace(name=override) for role in workflow.roles}
    return workflow._replace(models=models)


def _refuse(workflow: WorkflowSpec, terms: Terms) -> None:
    _refuse_without_review(workflow, terms.gate)
    if terms.is_live:
        _refuse_missing_models(workflow)


def _refuse_without_review(workflow: WorkflowSpec, gate: Gate) -> None:
    """A gate may be about loops alone, where nobody demands a review."""
    if not gate.needs_review or any(step.reviewing for step in workflow.steps):
        return
    if gate.require_review or not any(step.repeat for step in workflow.steps):
        raise NotReviewedError(
            f"{workflow.origin}: a review is required, and no step reviews",
            "Give the reviewing step the role 'reviewer'.",
        )


def _refuse_missing_models(workflow: WorkflowSpec) -> None:
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
