"""Takes a run's events before anybody shows them, and keeps its finished steps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aethr import checkpoint
from aethr.checkpoint import Failure
from aethr.disk import State
from aethr.errors import AethrError, DiskError
from aethr.records import (
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


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    ``file`` comes into being with the first finished step, or when the run stops. ``done`` are the
    steps of an earlier run that are being replayed: whatever happens meanwhile, none of them is lost.
    ``failed`` is what attempts of the current step were counted for that failed.
    """

    def __init__(self, plan: Plan, done: Sequence[StepResult], folder: Path, file: Path | None) -> None:
        self.results: list[StepResult] = []
        self.loops: list[LoopResult] = []
        self.subject: Subject | None = None
        self.failed: list[Usage] = []
        self.current = plan.steps[0].spec.id
        self._plan = plan
        self._done = done
        self._folder = folder
        self.file = file
        self._left: State | None = None

    def take(self, event: Event) -> None:
        """Note an event; a finished step is on disk when this returns. Raises ``DiskError``."""
        if isinstance(event, RunStarted):
            self.subject = event.subject
        elif isinstance(event, StepStarted):
            self.current = event.id
        elif isinstance(event, Spent):
            self.failed.append(event.usage)
        elif isinstance(event, LoopEnded):
            self.loops.append(event.loop)
        elif isinstance(event, StepFinished):
            self.results.append(event.result)
            self.failed.clear()  # they are in the step's own usage
            if not event.replayed:
                self._keep(event.result)

    def stopped(self, error: AethrError) -> Path | None:
        """Write the checkpoint of a run that this error stopped; None where the disk does not take it."""
        try:
            self._write(Failure(self.current, str(error), error.changed_files))
        except DiskError:
            return None
        return self.file

    def _keep(self, step: StepResult) -> None:
        """One more line; the whole file where it is not as this run left it, or not written yet."""
        if self.file is not None and self._left is not None:
            self._left = checkpoint.append(self.file, checkpoint.entry(self._plan, step), self._left)
        if self._left is None:
            self._write(None)

    def _write(self, failure: Failure | None) -> None:
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        steps = self.results if len(self.results) >= len(self._done) else self._done
        self._left = checkpoint.write(self.file, checkpoint.dump(self._plan, steps, failure))
