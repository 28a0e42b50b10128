"""Going on from a checkpoint: which of its steps count, what has moved since, the command that does it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import executor, git, options
from aethr.errors import NotReviewedError
from aethr.options import RunOptions
from aethr.records import Checkout, Gate, Mode, Plan, Scope, Seal, StepResult

if TYPE_CHECKING:
    from aethr.checkpoint import Checkpoint

_AFRESH = "Start afresh without --resume-checkpoint."


def saved(given: RunOptions, seal: Seal) -> Checkpoint | None:
    """The checkpoint that the command line names. Raises ``UsageError``, also if a folder can take none.

    ``seal`` is what proves its results to this run.
    """
    if given.checkpoint_dir is None and not given.resume_checkpoint:
        return None
    from aethr import checkpoint

    if given.checkpoint_dir is not None:
        checkpoint.check(given.checkpoint_dir)
    return checkpoint.load(given.resume_checkpoint, seal) if given.resume_checkpoint else None


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


class Resumed(NamedTuple):
    """What a run takes over: results to replay, and plain lines on what is not as it was.

    ``unproven`` says why no review can rest on these results; ``stale`` that one among them was of another
    change. Where a review is required there is neither.
    """

    steps: tuple[StepResult, ...] = ()
    lines: tuple[str, ...] = ()
    unproven: str | None = None
    stale: bool = False


def require_proof(found: Checkpoint | None, mode: Mode, gate: Gate) -> None:
    """Refuse a checkpoint without valid seals where a review is required. Raises ``NotReviewedError``.

    One of a mock or scripted run has none, and does not fit a live run for another reason (``steps``).
    """
    live = mode == "live" and found is not None and found.mode in (None, "live")
    if live and gate.needs_review and found is not None and found.unproven is not None:
        raise NotReviewedError(found.unproven, _AFRESH)


def steps(plan: Plan, found: Checkpoint | None) -> Resumed:
    """What ``found`` gives to a run of ``plan``.

    Raises ``UsageError`` for a checkpoint of another workflow, ``NotReviewedError`` where a review is
    required and the one in the checkpoint is not proven, or was of another change.
    """
    if found is None:
        return Resumed()
    from aethr import checkpoint

    fitting = checkpoint.match(found, plan)
    executor.fits(plan, fitting.steps)
    require_proof(found, plan.mode, plan.gate)
    stale = _stale(fitting, plan)
    if stale is not None and plan.gate.needs_review:
        raise NotReviewedError(stale, _AFRESH)
    unproven = found.unproven if plan.mode == "live" and found.steps else None
    lines = (*_what_happened(found), stale or _head_moved(found, plan), unproven)
    return Resumed(fitting.steps, tuple(line for line in lines if line), unproven, stale is not None)


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


def _stale(found: Checkpoint, plan: Plan) -> str | None:
    """Why the review in a checkpoint is not one of this change."""
    done = {step.id for step in found.steps}
    reviewed = any(step.spec.reviewing for step in plan.steps if step.spec.id in done)
    if reviewed and (moved := _head_moved(found, plan)):
        return f"{moved}, and its review was of the commit before"
    if found.contract is None:  # it does not say what a step saw
        return None
    step = executor.saw_another_change(plan, found.steps)
    return f"the change is another one than step '{step}' reviewed before the checkpoint" if step else None


def _head_moved(found: Checkpoint, plan: Plan) -> str | None:
    head = found.scope.head_sha if found.scope is not None else None
    if head is None or head == plan.scope.head_sha:
        return None
    return f"HEAD moved since the checkpoint (it was {head[:12]})"


def _what_happened(found: Checkpoint) -> Iterator[str]:
    if found.cut:
        yield "the checkpoint was cut off while its last step was written: that step is done again"
    if found.failure is not None and found.failure.changed_files:
        files = ", ".join(found.failure.changed_files)
        yield f"the failed attempt of step '{found.failure.step}' had already changed: {files}"
