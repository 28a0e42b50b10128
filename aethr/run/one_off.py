"""The workflow of one run, as ``--step`` and ``--context`` change it; and ``--save``, which keeps it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aethr.base import disk
from aethr.base.errors import ConfigError, DiskError, ExitCode, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import CHANGE, Place, StepSpec, WorkflowSpec
from aethr.base.sanitize import Redactor
from aethr.config import WORKFLOW_FILE, workflow_file
from aethr.config.mistakes import quote
from aethr.workflow import planning
from aethr.workflow.planning import Bound, Project, vocabulary


def project(options: RunOptions, cwd: Path) -> Project:
    """The project and workflow that the command line describes. Raises ``ConfigError``, ``UsageError``."""
    if options.step:
        opened = Project(planning.project_root(cwd), _ad_hoc(options.step, options.context))
    else:
        opened = planning.open_project(cwd, options.config, options.preset)
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
        steps=tuple(StepSpec(role, role, workflow_file.CONTEXT_CHARS, context) for role in roles),
        origin="--step",
        places={f"steps.{number}.role": Place(number + 1, 1) for number in range(len(words))},
        lines=tuple(words),
    )


def _role(word: str) -> tuple[str, str]:
    role, colon, text = word.partition(":")
    problem = workflow_file.problem_of_id(role) if colon and text.strip() else "not ROLE:TEXT"
    problem = problem or workflow_file.problem_of_text(text)
    if problem:
        raise UsageError(f"--step {quote(word)}: {problem}", 'As in --step "reviewer:Look for lost data."')
    return role, text.strip()


def _check_sources(context: Sequence[str]) -> None:
    vocabulary = planning.vocabulary()
    for source in context:
        if problem := workflow_file.problem_of_source(source, vocabulary):
            known = ", ".join(
                f"{name}:…" if argument else name for name, argument in vocabulary.sources.items()
            )
            raise UsageError(f"--context {quote(source)}: {problem}", f"A source is one of {known}.")


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


COMPLETED = (ExitCode.OK, ExitCode.GATE)
"""A gate's no says something about the change, and nothing against the workflow."""


class Promotion(NamedTuple):
    """The file that a run will leave behind: nothing is written before it has completed."""

    path: Path
    text: str

    def write(self) -> None:
        """Put the file there in one step, over no other. Raises ``DiskError``."""
        with disk.failing_as(f"{self.path}: cannot write"):
            try:
                disk.write(self.path, self.text, overwrite=False)
            except FileExistsError as error:
                beside = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}")
                disk.write(beside, self.text, overwrite=False)
                raise DiskError(
                    f"{self.path} came into being during the run", f"The workflow is in {beside}."
                ) from error


def promote(bound: Bound) -> Promotion:
    """The workflow of a run as a file of its project. Raises ``UsageError``; nothing is written yet."""
    path = bound.root / WORKFLOW_FILE
    if os.path.lexists(path):
        raise UsageError(f"--save: {path} is already here", "Move it away; --save overwrites nothing.")
    if not os.access(bound.root, os.W_OK):
        raise UsageError(f"--save: {path} cannot be written", "Leave --save out, or make the folder yours.")
    text = workflow_file.text(bound.workflow)
    if Redactor(bound.terms.secrets).redact(text) != text:
        raise UsageError("--save: the workflow holds the value of a key", "Take the key out of its text.")
    try:
        again = workflow_file.parse(text, WORKFLOW_FILE, vocabulary())
    except ConfigError as error:
        raise UsageError(f"--save: this workflow does not fit into a file: {error.mistakes[0]}") from error
    assert _meaning(again) == _meaning(bound.workflow)
    return Promotion(path, text)


def _meaning(spec: WorkflowSpec) -> WorkflowSpec:
    """The workflow without the places that it came from."""
    return spec._replace(origin="", places={}, lines=())
