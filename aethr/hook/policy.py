"""What a hook runs: its options, its workflow, its task, and what is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr.base.errors import NotReviewedError
from aethr.base.options import HOOK_OPTIONS, RunOptions, from_environment
from aethr.base.records import CHANGE, WorkflowSpec
from aethr.base.sanitize import one_line
from aethr.config import presets, workflow_file
from aethr.hook.change import Change
from aethr.workflow import planning
from aethr.workflow.planning import Project

TASK = (
    "Review the change that is about to be {verb}. Find what it breaks or makes worse: wrong results, lost "
    "data, security holes, broken callers, missing error handling, tests that cannot fail. Report only what "
    "this change causes, and only what you can point to."
)


class HookOptions(NamedTuple):
    """The command line of ``aethr hook``. ``lenient`` lets a review that did not take place pass."""

    run: RunOptions
    lenient: bool = False


def read(given: Mapping[str, Any], environ: Mapping[str, str]) -> HookOptions:
    """The options, from the command line and ``AETHR_RUN_…``. Raises ``UsageError``.

    A hook always requires a review; what ``--if-not-reviewed`` says is about its exit code.
    """
    merged = {"fail_on": "revise", **from_environment(environ, HOOK_OPTIONS), **given}
    lenient = merged.pop("if_not_reviewed", "fail") == "pass"
    merged |= {"report": tuple(merged.get("report", ())), "require_review": True}
    return HookOptions(RunOptions(**merged), lenient)


def for_change(options: RunOptions, change: Change) -> tuple[RunOptions, Project]:
    """The options of a run of this change, and the project's own workflow file or else the preset.

    Raises ``ConfigError`` for a workflow that edits the tree or runs commands, ``NotReviewedError`` for one
    that would pass a change which no step has seen.
    """
    cwd = change.checkout.root
    named = options.config or options.preset or planning.nearest(cwd)
    run = options._replace(
        task=options.task or task(change), preset=options.preset if named else presets.REVIEW
    )
    project = planning.open_project(cwd, run.config, run.preset)
    spec = project.workflow
    _refuse_programs(spec)
    if not any(CHANGE in step.context for step in spec.steps):
        raise NotReviewedError(
            f"{spec.origin}: no step sees the change", f"Give the reviewing step the context '{CHANGE}'."
        )
    return run, project


def task(change: Change) -> str:
    """The instruction where none is given, and the branch."""
    said = TASK.format(verb="committed" if change.scope.kind == "staged" else "pushed")
    return said + (f"\nBranch: {one_line(change.branch)}" if change.branch else "")


def _refuse_programs(spec: WorkflowSpec) -> None:
    """Nothing may edit the tree, or run, in the middle of a commit."""
    problems = [
        (
            program.place,
            f"refused in a hook: '{program.agent}' edits the working tree"
            if program.agent
            else "refused in a hook: it runs a command of the project",
        )
        for program in planning.programs(spec)
    ]
    if problems:
        raise workflow_file.refuse(spec, problems)
