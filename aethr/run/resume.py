"""Resume from a checkpoint: which of its steps count, what has changed since, and the command to print."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aethr import git
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
from aethr.base.words import capped, counted
from aethr.git import history

if TYPE_CHECKING:
    from aethr.engine.checkpoint import Checkpoint
    from aethr.snapshot import Shadow


_NAMED = 20
"""How many files one line names; the others are only counted."""


def load(given: RunOptions) -> Checkpoint | None:
    """The checkpoint of ``--resume-checkpoint``. Raises ``UsageError``, also for ``--checkpoint-dir``."""
    if given.checkpoint_dir is None and not given.resume_checkpoint:
        return None
    from aethr.engine import checkpoint

    if given.checkpoint_dir is not None:
        checkpoint.check(given.checkpoint_dir)
    return checkpoint.load(given.resume_checkpoint) if given.resume_checkpoint else None


def resolve_scope(root: Path, here: Checkout | None, found: Checkpoint) -> Scope | None:
    """The scope of the resumed run, with the same commits even if their names have moved since.

    None if the checkpoint does not record it. Raises ``UsageError`` if a commit is no longer here.
    """
    saved = found.scope
    if saved is None:
        return None
    if saved.base is None:  # a word such as "staged", or a file of an earlier version, which has no ids
        return git.resolve_scope(root, saved.text, here)._replace(chosen=saved.chosen)
    side = saved.base_side or saved.base
    base, side, *head = history.commits_or_trees(root, saved.base, side, *filter(None, [saved.head]))
    head_sha = here.head if here else None
    return saved._replace(base=base, head=head[0] if head else None, head_sha=head_sha, base_side=side)


def find_own_file(given: RunOptions, found: Checkpoint | None) -> Path | None:
    """The checkpoint file to append to; None for a seed array and for inline JSON, which stay as they are."""
    text = given.resume_checkpoint
    ours = found is not None and found.contract is not None
    return Path(text[1:]) if ours and text and text.startswith("@") else None


class Resumed(NamedTuple):
    """What a run takes over: results to replay, and plain lines about what has changed since.

    ``unproven`` says why no review can rest on these results. ``stale`` is True if a review among them is of
    another change. If a review is required, neither occurs: such a checkpoint is refused.
    """

    steps: tuple[StepResult, ...] = ()
    lines: tuple[str, ...] = ()
    unproven: str | None = None
    stale: bool = False


def find_doubt(found: Checkpoint | None, seal: Seal, mode: Mode) -> str | None:
    """Why no review of a live run can rest on the checkpoint; None if it can, or if there is no checkpoint.

    The checkpoint of a mock or scripted run is not examined: ``take_over`` refuses it in a live run.
    """
    if found is None or mode != "live" or found.mode not in (None, "live"):
        return None
    from aethr.engine import checkpoint

    return checkpoint.unproven(found, seal)


def require(gate: Gate, doubt: str | None) -> None:
    """Refuse a checkpoint with a ``doubt`` if a review is required. Raises ``NotReviewedError``."""
    if gate.needs_review and doubt is not None:
        raise NotReviewedError(doubt, "Start over without --resume-checkpoint.")


def take_over(plan: Plan, found: Checkpoint | None, doubt: str | None) -> Resumed:
    """What a run of ``plan`` takes over from ``found``; ``doubt`` says why the checkpoint is unproven.

    Raises ``UsageError`` for a checkpoint of another workflow. Raises ``NotReviewedError`` if a review is
    required and the one in the checkpoint is unproven or is of another change.
    """
    if found is None:
        return Resumed()
    from aethr.engine import checkpoint
    from aethr.engine.stale import without_stale_parts

    fitting = checkpoint.match(found, plan)
    steps = without_stale_parts(plan, fitting.steps)
    moved = len(fitting.steps) - len(steps)
    fitting = fitting._replace(steps=steps)
    stale = _find_stale_review(fitting, plan)
    for each in (doubt, stale):
        require(plan.gate, each)
    doubt = doubt if found.steps or found.attempt else None
    cut = "the checkpoint was cut off while its last step was written: that step runs again"
    parts = counted(moved, "finished part")
    again = f"the change moved, or is cut in other places now: {parts} of the next step will run again"
    lines = (
        cut if found.cut else None,
        stale or _head_moved(found, plan),
        again if moved else None,
        doubt,
    )
    return Resumed(fitting.steps, tuple(line for line in lines if line), doubt, stale is not None)


def find_earlier(
    root: Path, found: Checkpoint | None, named: str | None, environ: Mapping[str, str]
) -> Earlier | None:
    """What failed attempts of an agent left in the tree; None if there is no failed attempt.

    ``named`` is the value of ``--resume-checkpoint``. Raises ``DiskError``.
    """
    if found is None:
        return None
    attempt, failure = found.attempt, found.failure
    known = failure.changed_files if failure is not None else ()
    if attempt is None and failure is not None and known:
        attempt = Attempt(failure.step, 1, lost="the version of Aethr that ran it kept no record of it")
    if attempt is None:
        return None
    if attempt.lost or attempt.baseline is None:
        return Earlier(attempt, None, known, lost=attempt.lost)
    from aethr import snapshot
    from aethr.snapshot import attempts

    objects = attempts.find(Path(named[1:])) if named and named.startswith("@") else None
    try:
        with snapshot.open_shadow(root, environ, objects) as shadow:
            lost = _find_loss(shadow, attempt, attempt.baseline)
            if not lost:
                before, _ = snapshot.restore(shadow, attempt.baseline)
                left = snapshot.since(shadow, before).artifacts
                return Earlier(attempt, objects, left.changed_files, left.unseen)
    except GitError:
        lost = attempts.LOST
    return Earlier(attempt, None, known, lost=lost)


def describe_earlier(earlier: Earlier | None) -> Iterator[str]:
    """Plain lines that say what a failed attempt left, and what a review will see of it."""
    if earlier is None:
        return
    if earlier.files:
        files = capped(earlier.files, _NAMED)
        yield f"the failed attempt of step '{earlier.attempt.step}' had already changed: {files}"
    for line in earlier.unseen:
        yield f"the failed attempt of step '{earlier.attempt.step}' left what Aethr cannot show: {line}"
    if earlier.loss:
        yield f"the review will be incomplete: Aethr cannot show {earlier.loss}"
    elif earlier.files:
        yield "the step's change is measured from before that attempt and includes all edits since then"


def build_command(given: RunOptions, variables: Sequence[tuple[str, str]], path: Path) -> str:
    """The command line that resumes from ``path`` and sets ``variables``, quoted for a POSIX shell."""
    return quote_command(["run", *options.command_line(given), "--resume-checkpoint", f"@{path}"], variables)


def quote_command(words: Sequence[str], variables: Sequence[tuple[str, str]]) -> str:
    """``aethr`` with these words and variables, as this process was started, quoted for a POSIX shell."""
    program = [sys.executable, "-m", "aethr"]
    own = Path(sys.argv[0])
    if own.stem == "aethr":
        found = shutil.which("aethr")
        # pre-commit changes PATH for its hooks, so what is found there is not what the user would run.
        # Without suffix: on Windows a program is started as aethr.exe and its argv[0] is aethr.
        on_path = (
            found is not None
            and not os.environ.get("PRE_COMMIT")
            and Path(found).resolve().with_suffix("") == own.resolve().with_suffix("")
        )
        program = ["aethr" if on_path else sys.argv[0]]
    set_first = (f"{name}={shlex.quote(value)}" for name, value in variables)
    return " ".join([*set_first, shlex.join([*program, *words])])


def _find_stale_review(found: Checkpoint, plan: Plan) -> str | None:
    """Why the review in a checkpoint is not of this change, or not enough for a gate; None if it is.

    Without a gate what the scope leaves out is only a note. Where no agent edits the tree, the comparison
    with the present change finds it.
    """
    done = {step.id for step in found.steps}
    reviewed = any(step.spec.reviewing for step in plan.steps if step.spec.id in done)
    if reviewed and (moved := _head_moved(found, plan)):
        return f"{moved}, and its review was of the commit before"
    if found.contract is None:  # it does not record what a step saw
        return None
    from aethr.engine.stale import readers_behind_review, saw_another_change

    if step := saw_another_change(plan, found.steps):
        return f"the change is not the one that step '{step}' reviewed before the checkpoint"
    checked = found.gate or not plan.is_live or not plan.scope.looks_at_disk
    if checked or not plan.gate.needs_review or not any(step.edits_tree for step in plan.steps):
        return None
    for reader in readers_behind_review(plan, found.steps):
        return f"step '{reader.spec.id}' ran without a gate, so it did not check what the scope leaves out"
    return None


def _head_moved(found: Checkpoint, plan: Plan) -> str | None:
    head = found.scope.head_sha if found.scope is not None else None
    if head is None or head == plan.scope.head_sha:
        return None
    return f"HEAD moved since the checkpoint (it was {head[:12]})"


def _find_loss(shadow: Shadow, attempt: Attempt, baseline: Baseline) -> str:
    """Why the attempt's edits may not be in this tree; empty if they are."""
    from aethr import snapshot

    if redact(str(shadow.top)) != baseline.top:
        return f"it worked in another folder, {baseline.top}"
    if shadow.rules != baseline.rules:
        return "what decides which files git ignores (.git/info, its configuration) has changed since"
    if not snapshot.follows(shadow, attempt.left):
        return f"the commit that it left, {attempt.left[:12]}, is not part of what is checked out now"
    return ""
