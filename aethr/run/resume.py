"""Going on from a checkpoint: which of its steps count, what has moved since, the command that does it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import engine, git
from aethr.base import options
from aethr.base.errors import GitError, NotReviewedError
from aethr.base.options import RunOptions
from aethr.base.records import (
    Attempt,
    Baseline,
    Checkout,
    Earlier,
    Gate,
    Mode,
    Plan,
    Scope,
    Seal,
    StepResult,
)
from aethr.base.sanitize import redact
from aethr.base.words import capped
from aethr.git import history

if TYPE_CHECKING:
    from aethr.engine.checkpoint import Checkpoint
    from aethr.snapshot import Shadow


_NAMED = 20
"""Files named in one line; of more the number is given."""


def saved(given: RunOptions) -> Checkpoint | None:
    """The checkpoint that the command line names. Raises ``UsageError``, also if a folder can take none."""
    if given.checkpoint_dir is None and not given.resume_checkpoint:
        return None
    from aethr.engine import checkpoint

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
    base, *head = history.commits_or_trees(root, saved.base, *([saved.head] if saved.head else []))
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


def unproven(found: Checkpoint | None, seal: Seal, mode: Mode) -> str | None:
    """Why no review of a live run can rest on what was kept; None where it can, or nothing was.

    What a mock or a script kept is no review either, and does not fit a live run (``steps``).
    """
    if found is None or mode != "live" or found.mode not in (None, "live"):
        return None
    from aethr.engine import checkpoint

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
    from aethr.engine import checkpoint

    fitting = checkpoint.match(found, plan)
    engine.fits(plan, fitting.steps)
    stale = _stale(fitting, plan)
    for each in (doubt, stale):
        require(plan.gate, each)
    doubt = doubt if found.steps or found.attempt else None
    cut = "the checkpoint was cut off while its last step was written: that step is done again"
    lines = (cut if found.cut else None, stale or _head_moved(found, plan), doubt)
    return Resumed(fitting.steps, tuple(line for line in lines if line), doubt, stale is not None)


def earlier(
    root: Path, found: Checkpoint | None, named: str | None, environ: Mapping[str, str]
) -> Earlier | None:
    """What an agent's attempt, and those before it, left in the tree as it is now; None where none failed.

    ``named`` is what the command line says of the checkpoint. Raises ``DiskError``.
    """
    attempt = _attempt(found) if found is not None else None
    if found is None or attempt is None:
        return None
    known = found.failure.changed_files if found.failure is not None else ()
    if attempt.lost or attempt.baseline is None:
        return Earlier(attempt, None, known, attempt.lost)
    from aethr import snapshot
    from aethr.snapshot import attempts

    objects = attempts.find(Path(named[1:])) if named and named.startswith("@") else None
    try:
        with snapshot.open_shadow(root, environ, objects) as shadow:
            lost = _out_of_sight(shadow, attempt, attempt.baseline)
            if not lost:
                before, _ = snapshot.restore(shadow, attempt.baseline)
                change = snapshot.since(shadow, before)
                return Earlier(attempt, objects, change.artifacts.changed_files)
    except GitError:
        lost = attempts.LOST
    return Earlier(attempt, None, known, lost)


def left_behind(earlier: Earlier | None) -> Iterator[str]:
    """Plain lines on what a failed attempt left, and what a review will see of it."""
    if earlier is None:
        return
    if earlier.files:
        files = capped(earlier.files, _NAMED)
        yield f"the failed attempt of step '{earlier.attempt.step}' had already changed: {files}"
    if earlier.unseen:
        yield f"the review will be incomplete: nobody can show {earlier.unseen}"
    elif earlier.files:
        yield "the step's change is measured from before that attempt, with all that was edited since then"


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
    step = engine.saw_another_change(plan, found.steps)
    return f"the change is another one than step '{step}' reviewed before the checkpoint" if step else None


def _head_moved(found: Checkpoint, plan: Plan) -> str | None:
    head = found.scope.head_sha if found.scope is not None else None
    if head is None or head == plan.scope.head_sha:
        return None
    return f"HEAD moved since the checkpoint (it was {head[:12]})"


def _attempt(found: Checkpoint) -> Attempt | None:
    """The attempt that did not finish; earlier versions of Aethr kept no more of it than its files."""
    if found.attempt is not None or found.failure is None or not found.failure.changed_files:
        return found.attempt
    return Attempt(found.failure.step, 1, lost="the version of Aethr that ran it kept no record of it")


def _out_of_sight(shadow: Shadow, attempt: Attempt, baseline: Baseline) -> str:
    """Why its edits may be elsewhere than in this tree; empty where they are not."""
    from aethr import snapshot

    if redact(str(shadow.top)) != baseline.top:
        return f"it worked in another folder, {baseline.top}"
    if shadow.rules != baseline.rules:
        return "what decides which files git ignores (.git/info, its configuration) has changed since"
    if not snapshot.follows(shadow, attempt.left):
        return f"the commit that it left, {attempt.left[:12]}, is not part of what is checked out now"
    return ""
