"""Records a run's events before they are shown, and keeps its finished steps on disk."""

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
    ShardPlan,
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
"""Called with the complete lines that are now on disk; True if they are the whole file, False if appended."""


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    ``file`` is created with the first finished step, or when the run stops. ``done`` are the steps of an
    earlier run to replay; the file never loses one of them. ``failed`` is the usage of failed attempts of the
    current step. ``attempt`` is the agent's attempt that is under way, or that an earlier run left.
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
        self.shards: ShardPlan | None = None
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
        """Record an event; a finished step or an agent's attempt is on disk when this returns.

        Raises ``DiskError``.
        """
        if isinstance(event, RunStarted):
            self.subject, self.shards = event.subject, event.shards
        elif isinstance(event, StepStarted):
            self.current, self._iteration = event.id, event.iteration
        elif isinstance(event, AttemptStarted):
            self._begin_attempt(event)
        elif isinstance(event, Spent):
            self.failed.append(event.usage)
        elif isinstance(event, LoopEnded):
            self.loops.append(event.loop)
        elif isinstance(event, StepFinished):
            self.results.append(event.result)
            self.failed.clear()  # the step's own usage includes them
            if not event.replayed:
                self._keep_step(event.result)

    def stop(self, error: AethrError) -> Path | None:
        """Write the checkpoint of a run that this error stopped; None if there is none.

        If it cannot be written, that is the file as it was, with the steps that were kept before.
        """
        earlier = self._plan.earlier
        if self.attempt is not None and (earlier is None or self.attempt is not earlier.attempt):
            with suppress(AethrError):
                here = git.checkout(self._plan.root)
                self.attempt = self.attempt._replace(left=(here and here.head) or self.attempt.left)
        try:
            self._write(Failure(self.current, str(error), error.changed_files))
        except DiskError:
            return self.file if self.file is not None and self.file.is_file() else None
        return self.file

    def _begin_attempt(self, started: AttemptStarted) -> None:
        """Keep the tree from before the agent starts, so that its edits can be shown however it ends.

        If it continues an earlier attempt, the tree from before that one is kept already.
        """
        from aethr.snapshot import attempts

        earlier, before, file = self._plan.earlier, self.attempt, self._own_file()
        if before is None or before.baseline != started.baseline:
            attempts.keep(file, started.objects)
        lost = earlier.lost if before is not None and earlier is not None else ""
        self.attempt = Attempt(self.current, self._iteration, started.baseline, started.commit, lost)
        self._keep(checkpoint.attempt_line(self.attempt))

    def _keep_step(self, step: StepResult) -> None:
        ends_attempt = self.attempt is not None and step.artifacts is not None
        if ends_attempt:
            self.attempt = None
        self._keep(checkpoint.step_line(self._plan, step))
        if ends_attempt:
            from aethr.snapshot import attempts

            attempts.discard(self._own_file())

    def _keep(self, line: str) -> None:
        """Append a line, or write the whole file if it is new or not as this run left it."""
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
        self._seal = str
        if self._plan.seal.keys:
            from aethr.engine.seal import Sealer

            self._seal = Sealer(self._plan.seal.keys).seal
        text = checkpoint.dump(self._plan, steps, failure, self.attempt, self._seal)
        self._left = checkpoint.write(self._own_file(), text)
        self._on_kept(text, True)

    def _own_file(self) -> Path:
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        return self.file
