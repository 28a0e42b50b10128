"""What belongs to one run only: its task, a workflow by ``--step`` and ``--context``, and ``--save``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr.base import disk
from aethr.base.errors import ConfigError, DiskError, ExitCode, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import CHANGE, Place, StepSpec, WorkflowSpec, is_git_diff
from aethr.base.sanitize import Redactor
from aethr.config import WORKFLOW_FILE, workflow_file
from aethr.config.mistakes import quote
from aethr.workflow import planning
from aethr.workflow.planning import Bound, Project, vocabulary

LONGEST_TASK = 1 << 20

REVIEW_TASK = (
    "Review the change that is about to be {verb}. Find what it breaks or makes worse: wrong results, lost "
    "data, security holes, broken callers, missing error handling, tests that cannot fail. Report only what "
    "this change causes, and only what you can point to."
)
"""The task where nobody writes one. ``verb`` is ``committed`` or ``pushed``."""

_TEMPLATE = """
# What should this run do? Lines that start with # are ignored; an empty text stops the run.
"""


def read_task(given: str | None, environ: Mapping[str, str]) -> str:
    """The task: from the command line, standard input or an editor, as in ``git commit``.

    Raises ``UsageError`` if it is missing, empty, too long, or not UTF-8.
    """
    if given is None:
        text = _edit(environ)
    elif given == "-":
        text = _decode(sys.stdin.buffer.read(LONGEST_TASK + 1), "standard input")
    else:
        text = given
    if not text.strip():
        raise UsageError("the task is empty", 'Say what to do: aethr run "review my changes".')
    if "\0" in text or len(text) > LONGEST_TASK:
        raise UsageError(
            "the task has a NUL character, or is over one megabyte", "Put large material into a file: source."
        )
    return text.encode("utf-8", "replace").decode("utf-8").strip("\n")


def _edit(environ: Mapping[str, str]) -> str:
    """The task as written in the user's editor. It needs the terminal, so it does not run in ``process``."""
    editor = environ.get("VISUAL") or environ.get("EDITOR")
    if not sys.stdin.isatty() or not editor:
        raise UsageError(
            "no task given", 'Say what to do: aethr run "review my changes"; or set EDITOR to write it there.'
        )
    with tempfile.TemporaryDirectory(prefix="aethr-task-") as folder:
        file = Path(folder, "TASK.md")
        file.write_text(_TEMPLATE, encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), os.fspath(file)], check=False).returncode
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"the editor '{editor}' cannot be started: {reason}", "Set EDITOR.") from error
        if code != 0:
            raise UsageError(f"the editor '{editor}' ended with exit code {code}", "The run was not started.")
        text = _decode(file.read_bytes(), "the edited task")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text", "Convert it to UTF-8.") from error


def open_project(options: RunOptions, cwd: Path) -> Project:
    """The project and workflow that the command line describes. Raises ``ConfigError``, ``UsageError``."""
    if options.step:
        opened = Project(planning.project_root(cwd), _build_workflow(options.step, options.context))
    else:
        opened = planning.open_project(cwd, options.config, options.preset)
    for source in options.context:
        words = planning.vocabulary()
        if problem := workflow_file.problem_of(workflow_file.context_source(words), source):
            known = ", ".join(workflow_file.source_forms(words))
            raise UsageError(f"--context {quote(source)}: {problem}", f"A source is one of {known}.")
    if options.step or not options.context:
        return opened
    spec = opened.workflow
    if not any(is_git_diff(source) for step in spec.steps for source in step.context):
        raise UsageError(
            f"--context: no step of {spec.origin} reads {CHANGE}",
            f"It replaces the context of steps that read {CHANGE}; name the source in the workflow file.",
        )
    steps = [
        step._replace(context=options.context) if any(map(is_git_diff, step.context)) else step
        for step in spec.steps
    ]
    return opened._replace(workflow=spec._replace(steps=tuple(steps)))


def _build_workflow(words: Sequence[str], context: tuple[str, ...]) -> WorkflowSpec:
    """A step for each ``ROLE:TEXT``, with the role as its id. A later refusal shows the word as its line."""
    roles: dict[str, str] = {}
    for word in words:
        role, colon, text = word.partition(":")
        problem = (
            workflow_file.problem_of(workflow_file.STEP_ID, role)
            if colon and text.strip()
            else "not ROLE:TEXT"
        )
        problem = problem or workflow_file.problem_of(workflow_file.GUIDANCE, text)
        if problem:
            raise UsageError(
                f"--step {quote(word)}: {problem}", 'As in --step "reviewer:Look for lost data."'
            )
        roles[role] = text.strip()
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


COMPLETED = (ExitCode.OK, ExitCode.GATE)
"""The exit codes of a completed run: a closed gate is about the change, not about the workflow."""


class Promotion(NamedTuple):
    """The file that a run writes for ``--save``, but not before it has completed."""

    path: Path
    text: str

    def write(self) -> None:
        """Write the file atomically; never overwrite another one. Raises ``DiskError``."""
        with disk.failing_as(f"{self.path}: cannot write"):
            try:
                disk.write(self.path, self.text, overwrite=False)
            except FileExistsError as error:
                beside = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}")
                disk.write(beside, self.text, overwrite=False)
                raise DiskError(
                    f"{self.path} was created during the run",
                    f"The workflow is in {beside}.",
                ) from error


def promote(bound: Bound) -> Promotion:
    """The workflow of a run as a file of its project, not written yet. Raises ``UsageError``."""
    path = bound.root / WORKFLOW_FILE
    if os.path.lexists(path):
        raise UsageError(f"--save: {path} already exists", "Move it away; --save overwrites nothing.")
    if not os.access(bound.root, os.W_OK):
        raise UsageError(f"--save: {path} cannot be written", "Leave --save out, or make the folder yours.")
    text = workflow_file.text(bound.workflow)
    if Redactor(bound.terms.secrets).redact(text) != text:
        raise UsageError("--save: the workflow holds the value of a key", "Take the key out of its text.")
    try:
        again = workflow_file.parse(text, WORKFLOW_FILE, vocabulary())
    except ConfigError as error:
        raise UsageError(f"--save: this workflow does not fit into a file: {error.mistakes[0]}") from error
    ran = bound.workflow
    assert again._replace(origin=ran.origin, places=ran.places, lines=ran.lines) == ran
    return Promotion(path, text)
