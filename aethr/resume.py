"""Going on from a checkpoint: which of its steps count, what has moved since, the command that does it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aethr import executor, git, options
from aethr.errors import NotReviewedError
from aethr.options import RunOptions
from aethr.records import Checkout, Plan, Scope, StepResult

if TYPE_CHECKING:
    from aethr.checkpoint import Checkpoint


def saved(given: RunOptions) -> Checkpoint | None:
    """The checkpoint that the command line names. Raises ``UsageError``, also if a folder can take none."""
    if given.checkpoint_dir is None and not given.resume_checkpoint:
        return None
    from aethr import checkpoint

    if given.checkpoint_dir is not None:
        checkpoint.check(given.checkpoint_dir)
    return checkpoint.load(given.resume_checkpoint) if given.resume_checkpoint else None


def scope(root: Path, here: Checkout | None, found: Checkpoint) -> Scope | None:
    """The very change that the resumed run was about, whatever its words stand for now.

    None where the checkpoint does not say. Raises ``UsageError`` for commits that are no longer here.
    """
    saved = found.scope
    if saved is None:
        return None
    if saved.base is None:  # a word, or a file of an earlier version, which has no ids
        return git.resolve_scope(root, saved.text, here)._replace(chosen=saved.chosen)
    base, *head = git.commits_or_trees(root, saved.base, *([saved.head] if saved.head else []))
    return saved._replace(base=base, head=head[0] if head else None, head_sha=here.head if here else None)


def own_file(given: RunOptions, found: Checkpoint | None) -> Path | None:
    """A file of ours is written on; a seed array or inline JSON is left alone."""
    text = given.resume_checkpoint
    ours = found is not None and found.contract is not None
    return Path(text[1:]) if ours and text and text.startswith("@") else None


def steps(plan: Plan, found: Checkpoint | None) -> tuple[tuple[StepResult, ...], tuple[str, ...]]:
    """The results to replay, and plain lines on what is not as it was when they were made.

    Raises ``UsageError`` for a checkpoint of another workflow, ``NotReviewedError`` where a review is
    required and the one in the checkpoint was of another change.
    """
    if found is None:
        return (), ()
    from aethr import checkpoint

    fitting = checkpoint.match(found, plan)
    executor.fits(plan, fitting.steps)
    return fitting.steps, tuple(_what_moved(fitting, plan))


def command(given: RunOptions, variables: Sequence[tuple[str, str]], path: Path) -> str:
    """The command line that goes on from ``path``, quoted for a POSIX shell.

    ``variables`` are those of the environment that it sets.
    """
    program = [sys.executable, "-m", "aethr"]
    if Path(sys.argv[0]).stem == "aethr":
        program = ["aethr" if _is_on_path(sys.argv[0]) else sys.argv[0]]
    words = [*program, "run", *options.command_line(given), "--resume-checkpoint", f"@{path}"]
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables), shlex.join(words)])


def _is_on_path(program: str) -> bool:
    """Whether ``aethr`` is this program to whoever pastes it; for its hooks pre-commit changes PATH."""
    found = shutil.which("aethr")
    if found is None or os.environ.get("PRE_COMMIT"):
        return False
    # Without suffix: on Windows a program is started as aethr.exe and told that it is aethr.
    return Path(found).resolve().with_suffix("") == Path(program).resolve().with_suffix("")


def _what_moved(found: Checkpoint, plan: Plan) -> Iterator[str]:
    if found.cut:
        yield "the checkpoint was cut off while its last step was written: that step is done again"
    if found.failure is not None and found.failure.changed_files:
        files = ", ".join(found.failure.changed_files)
        yield f"the failed attempt of step '{found.failure.step}' had already changed: {files}"
    head = found.scope.head_sha if found.scope is not None else None
    if head is not None and head != plan.scope.head_sha:
        done = {step.id for step in found.steps}
        reviewed = any(step.spec.reviewing for step in plan.steps if step.spec.id in done)
        if plan.gate.needs_review and reviewed:
            raise NotReviewedError(
                "HEAD moved since the checkpoint, and its review was of the commit before",
                "Start afresh without --resume-checkpoint.",
            )
        yield f"HEAD moved since the checkpoint (it was {head[:12]})"
    if found.contract is None:  # the seed form does not say what a step saw, or that a model was asked
        reviewing = {step.spec.id for step in plan.steps if step.spec.reviewing}
        if plan.gate.needs_review and not reviewing.isdisjoint(step.id for step in found.steps):
            raise NotReviewedError(
                "the checkpoint is a plain list of answers, which is no proof of a review",
                "Leave the reviewing step out of it: it is then asked.",
            )
        return
    step = executor.saw_another_change(plan, found.steps)
    if step is not None and plan.gate.needs_review:
        raise NotReviewedError(
            f"the change is another one than step '{step}' reviewed before the checkpoint",
            "Start afresh without --resume-checkpoint.",
        )
    if step is not None:
        yield f"the change is another one than step '{step}' reviewed before the checkpoint"
