"""Takes a run's events before anybody shows them, and keeps its finished steps on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

OnKept = Callable[[str, bool], None]
"""Told what is on disk now: a text of whole lines, and whether it is all of the file or was added to it."""


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    ``file`` comes into being with the first finished step, or when the run stops. ``done`` are the
    steps of an earlier run that are being replayed: whatever happens meanwhile, none of them is lost.
    ``failed`` is what attempts of the current step were counted for that failed.
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
        self._plan = plan
        self._done = done
        self._folder = folder
        self._on_kept = on_kept
        self.file = file
        self._left: State | None = None
        self._seal: Callable[[str], str] = str

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
                self._keep(checkpoint.entry(self._plan, event.result))

    def stopped(self, error: AethrError) -> Path | None:
        """Write the checkpoint of a run that this error stopped; None where the disk does not take it."""
        try:
            self._write(Failure(self.current, str(error), error.changed_files))
        except DiskError:
            return None
        return self.file

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
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        steps = self.results if len(self.results) >= len(self._done) else self._done
        self._seal = _sealing(self._plan)
        text = checkpoint.dump(self._plan, steps, failure, self._seal)
        self._left = checkpoint.write(self.file, text)
        self._on_kept(text, True)


def _sealing(plan: Plan) -> Callable[[str], str]:
    """What seals the lines of a new file, each in its turn."""
    if not plan.seal.keys:
        return str
    from aethr.seal import Sealer

    return Sealer(plan.seal.keys).seal
