"""Records a run's events before they are shown, and keeps its finished steps on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base.disk import State
from aethr.base.errors import AethrError, DiskError
from aethr.base.records import (
    Attempt,
    AttemptStarted,
    Concurrent,
    Estimate,
    Event,
    Key,
    LoopEnded,
    LoopResult,
    Plan,
    Prompt,
    Receipt,
    RunFinished,
    RunResult,
    RunStarted,
    Sent,
    ShardPlan,
    Spent,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    Subject,
    Unanswered,
    Usage,
)
from aethr.engine import checkpoint, progress
from aethr.engine.checkpoint import Failure
from aethr.engine.steps import add_up_sent

OnKept = Callable[[str, bool], None]
"""Called with the complete lines that are now on disk; True if they are the whole file, False if appended."""


class _Running(NamedTuple):
    """A call that has not finished: what its failed attempts used, what it sent, and what its prompt has."""

    started: StepStarted
    failed: list[Usage]
    sent: list[Sent]
    context: list[Receipt]


class Recorder:
    """The finished steps and loops of a run so far, and the file that holds them.

    ``file`` is created with the first finished step, or when the run stops. ``done`` are the steps of an
    earlier run to replay; the file never loses one of them. ``attempt`` is the agent's attempt that is under
    way, or that an earlier run left. ``results`` are in the order in which they came, until the run ends or
    stops.
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
        self.estimate: Estimate | None = None
        self._prompts: dict[Key, Prompt] = {}
        self.attempt = plan.earlier.attempt if plan.earlier else None
        self._running: dict[int, _Running] = {}
        self._latest = StepStarted(plan.steps[0].spec.id, "", "", None, 1, 1, len(plan.steps))
        self._plan = plan
        self._done = done
        self._folder = folder
        self._on_kept = on_kept
        self.file = file
        self._left: State | None = None
        self._seal: Callable[[str], str] = str
        self._is_in_order = True
        self._lock = threading.RLock()
        self._stopped = False

    @property
    def failed(self) -> list[Usage]:
        """What the failed attempts of each call used that has no result."""
        kept = {step.key for step in self.results}
        calls = (call for _, call in sorted(self._running.items()))
        return [Usage.sum(call.failed) for call in calls if call.failed and call.started.key not in kept]

    def complete(self, result: RunResult) -> RunResult:
        """The result with what only the recorder knows: prompts, and calls without an answer of this run."""
        kept = {step.key for step in self.results}
        unanswered = (
            Unanswered(*call.started.key, tuple(call.context), add_up_sent(call.sent))
            for _, call in sorted(self._running.items())
            if call.sent and call.started.key not in kept
        )
        return result._replace(
            unanswered=tuple(unanswered),
            replayed=tuple(step.key for step in self._done),
            prompts=tuple(self._prompts.values()),
        )

    def take(self, event: Event) -> None:
        """Record an event; a finished step or an agent's attempt is on disk when this returns.

        Raises ``DiskError``.
        """
        number, event = (event.call, event.event) if isinstance(event, Concurrent) else (0, event)
        if isinstance(event, RunStarted):
            self.subject, self.shards, self.estimate = event.subject, event.shards, event.estimate
        elif isinstance(event, StepStarted):
            self._latest = event
            self._running[number] = _Running(event, [], [], [])
        elif isinstance(event, (StepPrepared, Sent, Spent)):
            self._follow(self._running[number], event)
        elif isinstance(event, AttemptStarted):
            self._begin_attempt(event)
        elif isinstance(event, LoopEnded):
            self.loops.append(event.loop)
        elif isinstance(event, StepFinished):
            if event.replayed:
                self.results.append(event.result)
            else:
                self.keep(event.result)
            self._running.pop(number, None)  # the step's own usage includes its failed attempts
        elif isinstance(event, RunFinished):
            self._sort()
            if not self._is_in_order:
                self._write(None)

    def _follow(self, call: _Running, event: StepPrepared | Sent | Spent) -> None:
        if isinstance(event, StepPrepared):
            call.context.extend(event.receipts)
            key = call.started.key
            self._prompts[key] = Prompt(key, event.prompt, event.change)
        elif isinstance(event, Sent):
            call.sent.append(event)
        else:
            call.failed.append(event.usage)

    def keep(self, step: StepResult) -> None:
        """Put a finished step on disk, unless it is there. Safe from any thread. Raises ``DiskError``."""
        with self._lock:
            on_disk = step in self.results and self._left is not None
            if on_disk or self._stopped:
                return
            others = [each for each in self.results if each.key != step.key]
            self._is_in_order = self._is_in_order and len(others) == len(self.results)
            self.results = [*others, step]
            ends_attempt = self.attempt is not None and step.artifacts is not None
            self.attempt = None if ends_attempt else self.attempt
            self._keep(checkpoint.step_line(self._plan, step))
            if ends_attempt:
                from aethr.snapshot import attempts

                attempts.discard(self._own_file())

    def stop(self, error: AethrError) -> Path | None:
        """Write the checkpoint of a run that this error stopped; None if there is none.

        If it cannot be written, that is the file as it was, with the steps that were kept before.
        """
        with self._lock:
            self._stopped = True
        self._sort()
        earlier = self._plan.earlier
        if self.attempt is not None and (earlier is None or self.attempt is not earlier.attempt):
            with suppress(AethrError):
                here = git.checkout(self._plan.root)
                self.attempt = self.attempt._replace(left=(here and here.head) or self.attempt.left)
        try:
            self._write(Failure(self._current.id, str(error), error.changed_files))
        except DiskError:
            return self.file if self.file is not None and self.file.is_file() else None
        return self.file

    @property
    def _current(self) -> StepStarted:
        """The first call in order that has not finished, or else the latest one."""
        return self._running[min(self._running)].started if self._running else self._latest

    def _sort(self) -> None:
        ordered = progress.in_order(self._plan, self.results)
        self._is_in_order = self._is_in_order and ordered == self.results
        self.results = ordered

    def _begin_attempt(self, started: AttemptStarted) -> None:
        """Keep the tree from before the agent starts, so that its edits can be shown however it ends.

        If it continues an earlier attempt, the tree from before that one is kept already.
        """
        from aethr.snapshot import attempts

        earlier, before, file = self._plan.earlier, self.attempt, self._own_file()
        if before is None or before.baseline != started.baseline:
            attempts.keep(file, started.objects)
        lost = earlier.lost if before is not None and earlier is not None else ""
        self.attempt = Attempt(
            self._current.id, self._current.iteration, started.baseline, started.commit, lost
        )
        self._keep(checkpoint.attempt_line(self.attempt))

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
        ordered = progress.in_order(self._plan, steps)
        # A call that still runs counts its failed attempts itself.
        failed = (*self._plan.failed, *(self.failed if failure is not None else ()))
        text = checkpoint.dump(self._plan, ordered, failure, self.attempt, self._seal, failed)
        self._left = checkpoint.write(self._own_file(), text)
        self._on_kept(text, True)

    def _own_file(self) -> Path:
        if self.file is None:
            self.file = checkpoint.create(self._folder, self._plan.workflow.name)
        return self.file
