"""Takes a run's events before anybody shows them, and keeps its finished steps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aethr import checkpoint
from aethr.checkpoint import Failure
from aethr.errors import AethrError, DiskError
from aethr.records import (
    Event,
    LoopEnded,
    LoopResult,
    Plan,
    Spent,
    StepFinished,
    StepResult,
    StepStarted,
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
        self.failed: list[Usage] = []
        self.current = plan.steps[0].spec.id
        self._plan = plan
        self._done = done
        self._folder = folder
        self.file = file
        self._begun = False

    def take(self, event: Event) -> None:
        """Note an event; a finished step is on disk when this returns. Raises ``DiskError``."""
        if isinstance(event, StepStarted):
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
        """One more line; the whole file where this run has not written it yet, or somebody has removed it."""
        if self._begun and self.file is not None and self.file.is_file():
            checkpoint.append(self.file, checkpoint.entry(self._plan, step))
        else:
            self._write(None)

    def _write(self, failure: Failure | None) -> None:
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        steps = self.results if len(self.results) >= len(self._done) else self._done
        checkpoint.write(self.file, checkpoint.dump(self._plan, steps, failure))
        self._begun = True
