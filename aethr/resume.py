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
from aethr.records import Gate, Mode, Plan, Scope, Seal, StepResult

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


def scope(root: Path, found: Checkpoint) -> Scope | None:
    """The very change that the resumed run was about, whatever its words stand for now.

    None where the checkpoint does not say. Raises ``UsageError`` for commits that are no longer here.
    """
    saved = found.scope
    if saved is None:
        return None
    if saved.base is None:  # a word, or a file of an earlier version, which has no ids
        return git.resolve_scope(root, saved.text)._replace(chosen=saved.chosen)
    return saved._replace(
        base=git.commit_or_tree(root, saved.base),
        head=git.commit_or_tree(root, saved.head) if saved.head else None,
        head_sha=git.head_sha(root),
    )


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


def unproven(found: Checkpoint | None, seal: Seal, mode: Mode) -> str | None:
    """Why no review of a live run can rest on what was kept; None where it can, or nothing was.

    What a mock or a script kept is no review either, and does not fit a live run (``steps``).
    """
    if found is None or mode != "live" or found.mode not in (None, "live"):
        return None
    from aethr import checkpoint

    return checkpoint.unproven(found, seal)


def require(gate: Gate, doubt: str | None) -> None:
    """Refuse a checkpoint with this ``doubt`` where a review is required. Raises ``NotReviewedError``."""
    if gate.needs_review and doubt is not None:
        raise NotReviewedError(doubt, "Start afresh without --resume-checkpoint.")


def steps(plan: Plan, found: Checkpoint | None, doubt: str | None) -> Resumed:
    """What ``found``, of which ``doubt`` says why it is unproven, gives to a run of ``plan``.

    Raises ``UsageError`` for a checkpoint of another workflow, ``NotReviewedError`` where a review is
    required and the one in the checkpoint is not proven, or was of another change.
    """
    if found is None:
        return Resumed()
    from aethr import checkpoint

    fitting = checkpoint.match(found, plan)
    executor.fits(plan, fitting.steps)
    stale = _stale(fitting, plan)
    for each in (doubt, stale):
        require(plan.gate, each)
    doubt = doubt if found.steps else None
    lines = (*_what_happened(found), stale or _head_moved(found, plan), doubt)
    return Resumed(fitting.steps, tuple(line for line in lines if line), doubt, stale is not None)


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
