"""What a hook runs: its options, workflow and task; and which workflows it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr.base.errors import NotReviewedError
from aethr.base.options import HOOK_OPTIONS, RunOptions, from_environment
from aethr.base.records import CHANGE
from aethr.base.sanitize import one_line
from aethr.config import REVIEW_PRESET, workflow_file
from aethr.hook.change import HookChange
from aethr.workflow import planning
from aethr.workflow.planning import Project

TASK = (
    "Review the change that is about to be {verb}. Find what it breaks or makes worse: wrong results, lost "
    "data, security holes, broken callers, missing error handling, tests that cannot fail. Report only what "
    "this change causes, and only what you can point to."
)


class HookOptions(NamedTuple):
    """The command line of ``aethr hook``. ``lenient`` passes without a complete review."""

    run: RunOptions
    lenient: bool = False


def read(given: Mapping[str, Any], environ: Mapping[str, str]) -> HookOptions:
    """Read the options from the command line and ``AETHR_RUN_…``. Raises ``UsageError``.

    A hook always requires a review; ``--if-not-reviewed`` changes only its exit code.
    """
    merged = {"fail_on": "revise", **from_environment(environ, HOOK_OPTIONS), **given}
    lenient = merged.pop("if_not_reviewed", "fail") == "pass"
    merged |= {"report": tuple(merged.get("report", ())), "require_review": True}
    return HookOptions(RunOptions(**merged), lenient)


def choose_workflow(options: RunOptions, change: HookChange) -> tuple[RunOptions, Project]:
    """The options of a run of this change, and the project with its own workflow file or else the preset.

    Raises ``ConfigError`` for a workflow that edits the tree or runs commands, which must not happen in the
    middle of a commit, and ``NotReviewedError`` for one in which no step sees the change.
    """
    cwd = change.checkout.root
    named = options.config or options.preset or planning.nearest(cwd)
    run = options._replace(
        task=options.task or task(change), preset=options.preset if named else REVIEW_PRESET
    )
    project = planning.open_project(cwd, run.config, run.preset)
    spec = project.workflow
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
    if not any(CHANGE in step.context for step in spec.steps):
        raise NotReviewedError(
            f"{spec.origin}: no step sees the change", f"Give the reviewing step the context '{CHANGE}'."
        )
    return run, project


def task(change: HookChange) -> str:
    """The default task, with the branch."""
    said = TASK.format(verb="committed" if change.scope.kind == "staged" else "pushed")
    return said + (f"\nBranch: {one_line(change.branch)}" if change.branch else "")
