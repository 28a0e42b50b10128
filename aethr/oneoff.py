"""The workflow of one run: the file's or the preset's, as ``--step`` and ``--context`` change it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aethr import config, workflow
from aethr.config.mistakes import quoted
from aethr.errors import UsageError
from aethr.options import RunOptions
from aethr.records import CHANGE, Place, StepSpec, WorkflowSpec
from aethr.workflow import Project


def project(options: RunOptions, cwd: Path) -> Project:
    """The project and workflow that the command line describes. Raises ``ConfigError``, ``UsageError``."""
    if options.step:
        opened = Project(workflow.project_root(cwd), _ad_hoc(options.step, options.context))
    else:
        opened = workflow.open_project(cwd, options.config, options.preset)
    _check_sources(options.context)
    if options.step or not options.context:
        return opened
    return opened._replace(workflow=_with_context(opened.workflow, options.context))


def _ad_hoc(words: Sequence[str], context: tuple[str, ...]) -> WorkflowSpec:
    """A step for each ``ROLE:TEXT``, its id the role. A later refusal shows the word as a line."""
    roles = dict(map(_role, words))
    if len(roles) < len(words):
        raise UsageError("--step: two steps have the same role", "Give each step a role of its own.")
    return WorkflowSpec(
        name="-".join(roles),
        roles=roles,
        models={},
        steps=tuple(StepSpec(role, role, config.CONTEXT_CHARS, context) for role in roles),
        origin="--step",
        places={f"steps.{number}.role": Place(number + 1, 1) for number in range(len(words))},
        lines=tuple(words),
    )


def _role(word: str) -> tuple[str, str]:
    role, colon, text = word.partition(":")
    problem = config.problem_of_id(role) if colon and text.strip() else "not ROLE:TEXT"
    problem = problem or config.problem_of_text(text)
    if problem:
        raise UsageError(f"--step {quoted(word)}: {problem}", 'As in --step "reviewer:Look for lost data."')
    return role, text.strip()


def _check_sources(context: Sequence[str]) -> None:
    vocabulary = workflow.vocabulary()
    for source in context:
        if problem := config.problem_of_source(source, vocabulary):
            known = ", ".join(
                f"{name}:…" if argument else name for name, argument in vocabulary.sources.items()
            )
            raise UsageError(f"--context {quoted(source)}: {problem}", f"A source is one of {known}.")


def _with_context(spec: WorkflowSpec, context: tuple[str, ...]) -> WorkflowSpec:
    if not any(CHANGE in step.context for step in spec.steps):
        raise UsageError(
            f"--context: no step of {spec.origin} reads {CHANGE}",
            f"It takes the place of {CHANGE}; name the source in the workflow file.",
        )
    return spec._replace(
        steps=tuple(
            step._replace(context=context) if CHANGE in step.context else step for step in spec.steps
        ),
    )
