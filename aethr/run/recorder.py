"""Takes a run's events before anybody shows them, and keeps its finished steps on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aethr import git
from aethr.base.disk import State
from aethr.base.errors import AethrError, DiskError
from aethr.base.records import (
    Attempt,
    AttemptStarted,
    Event,
    LoopEnded,
    LoopResult,
    Plan,
    RunStarted,
    Spent,
    StepFinished,
    StepResult,
    StepStarted,
    Subject,
    Usage,
)
from aethr.engine import checkpoint
from aethr.engine.checkpoint import Failure

OnKept = Callable[[str, bool], None]
"""Told what is on disk now: a text of whole lines, and whether it is all of the file or was added to it."""


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    ``file`` comes into being with the first finished step, or when the run stops. ``done`` are the
    steps of an earlier run that are being replayed: whatever happens meanwhile, none of them is lost.
    ``failed`` is what attempts of the current step were counted for that failed. ``attempt`` is one of an
    agent step that is under way, or that an earlier run left.
    """

    def __init__(
        self,
        plan: Plan,
        done: Sequence[StepResult],
        folder: Path,
        file: Path | None,
        on_kept: OnKept = lambda _text, _whole: None,
    ) -> None:
        self.results: list[StepResult] = []
        self.loops: list[LoopResult] = []
        self.subject: Subject | None = None
        self.failed: list[Usage] = []
        self.current = plan.steps[0].spec.id
        self.attempt = plan.earlier.attempt if plan.earlier else None
        self._iteration = 1
        self._plan = plan
        self._done = done
        self._folder = folder
        self._on_kept = on_kept
        self.file = file
        self._left: State | None = None
        self._seal: Callable[[str], str] = str

    def take(self, event: Event) -> None:
        """Note an event; a finished step, or an agent's attempt, is on disk when this returns.

        Raises ``DiskError``.
        """
        if isinstance(event, RunStarted):
            self.subject = event.subject
        elif isinstance(event, StepStarted):
            self.current, self._iteration = event.id, event.iteration
        elif isinstance(event, AttemptStarted):
            self._begin(event)
        elif isinstance(event, Spent):
            self.failed.append(event.usage)
        elif isinstance(event, LoopEnded):
            self.loops.append(event.loop)
        elif isinstance(event, StepFinished):
            self.results.append(event.result)
            self.failed.clear()  # they are in the step's own usage
            if not event.replayed:
                self._finish(event.result)

    def stopped(self, error: AethrError) -> Path | None:
        """Write the checkpoint of a run that this error stopped; None where the disk does not take it."""
        if self.attempt is not None and self._is_under_way():
            with suppress(AethrError):
                here = git.checkout(self._plan.root)
                self.attempt = self.attempt._replace(left=(here and here.head) or self.attempt.left)
        try:
            self._write(Failure(self.current, str(error), error.changed_files))
        except DiskError:
            return None
        return self.file

    def _begin(self, started: AttemptStarted) -> None:
        """Keep the tree from before the agent starts, so that whatever ends it, its edits can be shown.

        That of an earlier attempt, which this one goes on from, is kept already.
        """
        from aethr.snapshot import attempts

        earlier, before, file = self._plan.earlier, self.attempt, self._own_file()
        if before is None or before.baseline != started.baseline:
            attempts.keep(file, started.objects)
        lost = earlier.lost if before is not None and earlier is not None else ""
        self.attempt = Attempt(self.current, self._iteration, started.baseline, started.commit, lost)
        self._keep(checkpoint.attempted(self.attempt))

    def _is_under_way(self) -> bool:
        """Whether the attempt is of this run."""
        earlier = self._plan.earlier
        return earlier is None or self.attempt is not earlier.attempt

    def _finish(self, step: StepResult) -> None:
        over = self.attempt is not None and step.artifacts is not None
        if over:
            self.attempt = None
        self._keep(checkpoint.entry(self._plan, step))
        if over:
            from aethr.snapshot import attempts

            attempts.discard(self._own_file())

    def _keep(self, line: str) -> None:
        """One more line; the whole file where it is not as this run left it, or not written yet."""
        left, self._left = self._left, None  # until the line, with its seals, is on disk
        if self.file is not None and left is not None:
            line = self._seal(line)
            self._left = checkpoint.append(self.file, line, left)
            if self._left is not None:
                self._on_kept(line, False)
        if self._left is None:
            self._write(None)

    def _write(self, failure: Failure | None) -> None:
        steps = self.results if len(self.results) >= len(self._done) else self._done
        self._seal = _sealing(self._plan)
        text = checkpoint.dump(self._plan, steps, failure, self.attempt, self._seal)
        self._left = checkpoint.write(self._own_file(), text)
        self._on_kept(text, True)

    def _own_file(self) -> Path:
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        return self.file


def _sealing(plan: Plan) -> Callable[[str], str]:
    """What seals the lines of a new file, each in its turn."""
    if not plan.seal.keys:
        return str
    from aethr.engine.seal import Sealer

    return Sealer(plan.seal.keys).seal
