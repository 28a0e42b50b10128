"""Takes a run's events before anybody shows them, and keeps its finished steps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aethr import checkpoint
from aethr.checkpoint import Failure
from aethr.errors import DiskError
from aethr.records import Event, LoopEnded, LoopResult, Plan, StepFinished, StepResult, StepStarted


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    The file comes into being with the first finished step, or when the run stops. ``done`` are the
    steps of an earlier run that are being replayed: whatever happens meanwhile, none of them is lost.
    """

    def __init__(self, plan: Plan, done: Sequence[StepResult], folder: Path, file: Path | None) -> None:
        self.results: list[StepResult] = []
        self.loops: list[LoopResult] = []
        self.current = plan.steps[0].spec.id
        self._plan = plan
        self._done = done
        self._folder = folder
        self._file = file

    def take(self, event: Event) -> None:
        """Note an event; a finished step is on disk when this returns. Raises ``DiskError``."""
        if isinstance(event, StepStarted):
            self.current = event.id
        elif isinstance(event, LoopEnded):
            self.loops.append(event.loop)
        elif isinstance(event, StepFinished):
            self.results.append(event.result)
            if not event.replayed:
                self._write(None)

    def stopped(self, failure: Failure) -> Path | None:
        """Write the checkpoint of a run that stopped; None where the disk does not take it."""
        try:
            self._write(failure)
        except DiskError:
            return None
        return self._file

    def kept(self) -> str | None:
        """Where the checkpoint is, None where none was written."""
        return str(self._file) if self._file else None

    def discard(self) -> None:
        """Remove the checkpoint of a run that completed."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _write(self, failure: Failure | None) -> None:
        if self._file is None:
            self._file = checkpoint.create(self._folder, self._plan.workflow.name)
        steps = self.results if len(self.results) >= len(self._done) else self._done
        checkpoint.write(self._file, checkpoint.dump(self._plan, steps, failure))
