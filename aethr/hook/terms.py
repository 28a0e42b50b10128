"""What a hook runs: its options, its workflow, its task, and what is refused there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aethr import config, presets, workflow
from aethr.errors import NotReviewedError
from aethr.hook.change import Change
from aethr.options import HOOK_OPTIONS, RunOptions, from_environment
from aethr.records import CHANGE, WorkflowSpec
from aethr.sanitize import one_line

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


def for_change(options: RunOptions, change: Change, cwd: Path) -> RunOptions:
    """A run of this change, by the project's own workflow file or else by the preset.

    Raises ``ConfigError`` for a workflow that edits the tree or runs commands, ``NotReviewedError`` for one
    that would pass a change which no step has seen.
    """
    named = options.config or options.preset or os.path.lexists(workflow.project_root(cwd) / workflow.FILE)
    run = options._replace(
        task=options.task or task(change),
        diff=change.diff,
        preset=options.preset if named else presets.REVIEW,
    )
    spec = workflow.open_project(cwd, run.config, run.preset).workflow
    _refuse_programs(spec)
    if not any(CHANGE in step.context for step in spec.steps):
        raise NotReviewedError(
            f"{spec.origin}: no step sees the change", f"Give the reviewing step the context '{CHANGE}'."
        )
    return run


def task(change: Change) -> str:
    """The instruction where none is given, and the branch."""
    said = TASK.format(verb="committed" if change.diff == "staged" else "pushed")
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
        for program in workflow.programs(spec)
    ]
    if problems:
        raise config.refuse(spec, problems)
