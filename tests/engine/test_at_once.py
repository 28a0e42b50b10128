"""Calls that run at once: which do, in what order they end, what is kept, and the budget that they share."""

from __future__ import annotations

import io
import queue
import random
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path

import pytest

from aethr import engine
from aethr.base.errors import ModelError
from aethr.base.records import (
    Allowance,
    Block,
    Collected,
    CommandCheck,
    Completion,
    Concurrent,
    Event,
    Plan,
    Repeat,
    Request,
    RunFinished,
    RunResult,
    StepFinished,
    StepPrepared,
    StepSpec,
    StepStarted,
    TextDelta,
    Usage,
)
from aethr.engine import checkpoint, progress
from aethr.engine.at_once import Purse
from aethr.output import report
from aethr.output.render import Display, make_renderer
from aethr.run.recorder import Recorder
from tests.support import make_plan, said

PASS = "Review status: pass"
SIZE = 5


class Gated:
    """A backend whose calls for a part each wait at a gate, so that the test decides which ends next."""

    def __init__(self, fail: Iterable[str] = (), *, waits: bool = True) -> None:
        self._waits = waits
        self.gates: dict[str, threading.Event] = {}
        self.running = self.most = 0
        self._fail = frozenset(fail)
        self._lock = threading.Lock()

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def gate(self, name: str) -> threading.Event:
        with self._lock:
            return self.gates.setdefault(name, threading.Event())

    def open(self) -> None:
        """Let every call end."""
        self._waits = False
        for gate in self.gates.values():
            gate.set()

    def complete(self, request: Request) -> Generator[TextDelta, None, Completion]:
        name = f"{request.step} {request.prompt.partition('PART ')[2][:1]}"
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        yield TextDelta(f"some of {name}")
        assert not self._waits or name.endswith(" ") or self.gate(name).wait(30), name
        with self._lock:
            self.running -= 1
        if name in self._fail:
            raise ModelError(f"{name} is down")
        return said(f"the answer to {name}\n\n{PASS}")


def review(name: str, role: str = "reviewer", **more: object) -> StepSpec:
    return StepSpec(name, role, 1000, ("git_diff",), **{"history_visibility": "none", **more})


def parts(_: object, count: int = SIZE) -> Collected:
    blocks = tuple((Block("git_diff", f"PART {n}", change=True),) for n in range(1, count + 1))
    return Collected(blocks, count)


def plan_of(backend: Gated, *steps: StepSpec, jobs: int = 8, count: int = SIZE, **more: object) -> Plan:
    steps = steps or (review("a"),)
    collect = {step.id: partial(parts, count=count) for step in steps if step.context}
    return make_plan(steps, backend, collect, jobs=jobs, **more)


def name_of(event: StepStarted | StepPrepared) -> str:
    return f"{event.id} {event.part}"


def play(
    plan: Plan,
    backend: Gated,
    order: Sequence[str],
    see: Callable[[Event], None] = lambda _: None,
    **more: object,
) -> RunResult:
    """Run to the end. Once all that can run do, the gates are opened in this order, one after each end."""
    left = list(order)
    prepared = 0
    for event in engine.run(plan, clock=lambda: 0.0, **more):
        see(event)
        inner = event.event if isinstance(event, Concurrent) else event
        prepared += isinstance(inner, StepPrepared)
        ended = isinstance(inner, StepFinished)
        first = isinstance(inner, StepPrepared) and prepared == min(plan.jobs, len(order))
        if left and (ended or first):
            backend.gate(left.pop(0)).set()
        if isinstance(event, RunFinished):
            return event.result
    raise AssertionError("it did not finish")


def outputs(plan: Plan, backend: Gated, order: Sequence[str], file: Path) -> tuple[str, str, str]:
    """Record, plain output and checkpoint of a run whose calls end in this order."""
    out = io.StringIO()
    recorder = Recorder(plan, (), file.parent, file)
    with make_renderer(Display(verbose=True), out, io.StringIO(), {}) as show:

        def see(event: Event) -> None:
            recorder.take(event)
            show(event)

        result = play(plan, backend, order, see, keep=recorder.keep)
    return report.FORMATS[".json"].render(result), out.getvalue(), file.read_text()


@pytest.mark.parametrize("seed", range(6))
def test_record_output_and_checkpoint_do_not_depend_on_who_ends_first(tmp_path: Path, seed: int) -> None:
    steps = (review("a"), review("b"), StepSpec("last", "writer", 1000))
    names = [f"{step} {part}" for step in "ab" for part in range(1, SIZE + 1)]
    alone, at_once = Gated(waits=False), Gated()
    expected = outputs(plan_of(alone, *steps, jobs=1), alone, [], tmp_path / "alone.jsonl")
    order = random.Random(seed).sample(names, len(names))
    found = outputs(plan_of(at_once, *steps, jobs=10), at_once, order, tmp_path / "at_once.jsonl")
    for one, other in zip(found, expected, strict=True):
        assert one == other
    assert (alone.most, at_once.most) == (1, len(names))


def loop(back_to: str, **more: object) -> Repeat:
    return Repeat(**{"back_to": back_to, "max_iterations": 2, "until_contains": "never", **more})


@pytest.mark.parametrize(
    ("steps", "together"),
    [
        ((review("a"), review("b"), review("c")), ["a b c"]),
        ((review("a"), review("b", history_visibility="all"), review("c")), ["a", "b", "c"]),
        ((review("a"), review("b", role="worker"), review("c")), ["a", "b", "c"]),
        ((review("a"), review("b", repeat=loop("a")), review("c")), ["a b", "a b", "c"]),
        ((review("a"), review("b", repeat=loop("b")), review("c")), ["a", "b", "b", "c"]),
    ],
)
def test_neighbouring_reviews_that_see_no_answers_run_at_once_within_a_loop(
    steps: tuple[StepSpec, ...], together: list[str]
) -> None:
    """As many calls run at once as the gates of one group hold back; the next group needs them all."""
    backend = Gated(waits=False)
    groups: list[list[str]] = [[]]
    for event in engine.run(plan_of(backend, *steps, count=2), clock=lambda: 0.0):
        if isinstance(event, Concurrent) and isinstance(event.event, StepStarted):
            if event.call == 0:
                groups.append([])
            groups[-1].append(event.event.id)
    assert [" ".join(dict.fromkeys(group)) for group in groups[1:]] == together
    assert all(len(group) == 2 * len(set(group)) for group in groups[1:])


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_more_than_jobs_run_and_they_begin_in_order(jobs: int) -> None:
    backend = Gated()
    began: list[int] = []

    def see(event: Event) -> None:
        inner = event.event if isinstance(event, Concurrent) else event
        if isinstance(inner, StepStarted):
            began.append(inner.part)

    order = [f"a {part}" for part in range(1, SIZE + 1)]
    if jobs > 1:
        order[:2] = reversed(order[:2])
    play(plan_of(backend, jobs=jobs), backend, order, see)
    assert began == [1, 2, 3, 4, 5]
    assert backend.most == jobs


def test_a_finished_part_is_on_disk_before_anything_else_happens(tmp_path: Path) -> None:
    """Here the run stands still, as if its output were blocked; the calls end, and are kept."""
    backend, file = Gated(), tmp_path / "own.jsonl"
    plan = plan_of(backend)
    recorder = Recorder(plan, (), tmp_path, file)
    kept = threading.Semaphore(0)

    def keep(result: object) -> None:
        recorder.keep(result)
        kept.release()

    events = engine.run(plan, clock=lambda: 0.0, keep=keep)
    while not (isinstance(event := next(events), Concurrent) and backend.running == SIZE):
        recorder.take(event)
    for part in (4, 2, 5):
        backend.gate(f"a {part}").set()
        assert kept.acquire(timeout=30)
    assert [step.part for step in checkpoint.load(f"@{file}").steps] == [4, 2, 5]
    events.close()
    backend.open()

    rest = Gated()
    done = checkpoint.load(f"@{file}").steps
    result = play(plan_of(rest), rest, ["a 3", "a 1"], done=done)
    assert sorted(rest.gates) == ["a 1", "a 3"]
    assert [step.part for step in result.steps] == [1, 2, 3, 4, 5]


def test_after_a_failure_the_calls_that_run_are_finished_and_no_other_begins(tmp_path: Path) -> None:
    backend = Gated(fail=["a 2", "a 3"])
    plan = plan_of(backend, jobs=4, count=8)
    recorder = Recorder(plan, (), tmp_path, tmp_path / "own.jsonl")
    out = io.StringIO()

    def see(event: Event) -> None:
        recorder.take(event)
        show(event)
        if isinstance(event, Concurrent) and isinstance(event.event, TextDelta) and backend.running == 4:
            backend.gate("a 3").set()
            for thread in [each for each in threading.enumerate() if each.name == "aethr-call-2"]:
                thread.join(30)
            for part in (4, 2, 1):
                backend.gate(f"a {part}").set()

    with make_renderer(Display(), out, io.StringIO(), {}) as show, pytest.raises(ModelError) as failed:
        play(plan, backend, [], see, keep=recorder.keep)
    assert str(failed.value) == "a 2 is down"
    assert backend.most == 4
    assert sorted(backend.gates) == ["a 1", "a 2", "a 3", "a 4"]
    file = recorder.stop(failed.value)
    assert [(step.id, step.part) for step in checkpoint.load(f"@{file}").steps] == [("a", 1), ("a", 4)]
    shown = [line for line in out.getvalue().splitlines() if line.startswith(("==", "the answer"))]
    assert [line.partition(" of 8")[0] for line in shown] == [
        "== a (1/1, part 1",
        "the answer to a 1",
        "== a (1/1, part 2",
        "== a (1/1, part 3",
        "== a (1/1, part 4",
        "the answer to a 4",
    ]


def test_a_run_that_is_stopped_cancels_its_calls_and_keeps_those_that_ended(tmp_path: Path) -> None:
    backend, requests = Gated(), []
    complete = backend.complete

    def remember(request: Request) -> Generator[TextDelta, None, Completion]:
        requests.append(request)
        return complete(request)

    backend.complete = remember  # type: ignore[method-assign]
    plan = plan_of(backend, jobs=4)
    recorder = Recorder(plan, (), tmp_path, tmp_path / "own.jsonl")

    def see(event: Event) -> None:
        recorder.take(event)
        if isinstance(event, Concurrent) and isinstance(event.event, StepFinished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(plan, backend, ["a 3"], see, keep=recorder.keep)
    assert all(request.cancelled() for request in requests)
    backend.open()
    file = recorder.stop(ModelError("interrupted"))
    recorder.keep(checkpoint.load(f"@{file}").steps[0]._replace(part=1))  # too late
    loaded = checkpoint.load(f"@{file}")
    assert ([step.part for step in loaded.steps], loaded.failure.step) == ([3], "a")


def test_a_command_of_a_loop_runs_once_after_all_parts_and_again_if_it_was_killed(tmp_path: Path) -> None:
    ran: list[int] = []

    def check() -> CommandCheck:
        ran.append(backend.running)
        return CommandCheck("make test", passed=True, ended="it passed")

    def checked(backend: Gated) -> Plan:
        repeat = loop("a", until_contains=None, until_command_passes="make test")
        plan = plan_of(backend, review("a", repeat=repeat))
        return plan._replace(steps=(plan.steps[0]._replace(check=check),))

    backend, file = Gated(), tmp_path / "own.jsonl"
    plan = checked(backend)
    recorder = Recorder(plan, (), tmp_path, file)
    names = [f"a {part}" for part in (3, 5, 1, 2, 4)]
    result = play(plan, backend, names, recorder.take, keep=recorder.keep)
    assert (ran, result.loops[0].outcome) == ([0], "satisfied")
    assert [step.check is not None for step in result.steps] == [False] * 4 + [True]
    assert file.read_text() == checkpoint.dump(plan, result.steps)

    killed = [step._replace(check=None) for step in result.steps]
    again = list(engine.run(plan, killed, clock=lambda: 0.0))[-1]
    assert (ran, again.result) == ([0, 0], result)


def test_a_call_waits_until_its_share_is_free() -> None:
    purse = Purse(Allowance(tokens=100), [Allowance(tokens=40)] * 4)
    first, second = purse.admit(0), purse.admit(1)
    assert first is not None
    assert second is not None
    assert purse.admit(2) is None
    purse.settle(0, Usage.of(10, 5))
    third = purse.admit(2)
    assert third is not None
    assert third.allowance.tokens == 40
    purse.settle(1, Usage.of(20, 20))
    purse.settle(2, Usage.of(15, 15))
    last = purse.admit(3)  # nothing else runs, so it gets what is left
    assert last is not None
    assert last.allowance.tokens == 15


def test_two_retries_at_once_do_not_wait_for_each_other_for_ever() -> None:
    purse = Purse(Allowance(tokens=100), [Allowance(tokens=40)] * 3)
    loans = [purse.admit(0), purse.admit(1)]
    granted: queue.Queue[tuple[int, Allowance]] = queue.Queue()
    used = Usage.of(20, 15)

    def extend(number: int) -> None:
        loan = loans[number]
        assert loan is not None
        granted.put((number, loan.extend([used])))

    for number in range(2):
        threading.Thread(target=extend, args=(number,), daemon=True).start()
    winner, allowance = granted.get(timeout=30)
    assert (allowance.tokens, granted.empty(), purse.admit(2)) == (30, True, None)
    purse.settle(winner, Usage.of(30, 20))
    assert granted.get(timeout=30) == (1 - winner, Allowance(tokens=15))


def test_a_call_that_waits_for_its_share_ends_with_the_run() -> None:
    purse = Purse(Allowance(tokens=50), [Allowance(tokens=40), Allowance(tokens=10)])
    loans = [purse.admit(0), purse.admit(1)]
    assert loans[0] is not None
    purse.cancelled.set()
    assert loans[0].extend([Usage.of(20, 15)]) == Allowance(0.0, 0)


def test_results_whose_step_has_a_redacted_name_stay_in_the_order_in_which_they_came() -> None:
    steps = (StepSpec("a", "worker", 1000), StepSpec("b", "worker", 1000, repeat=loop("a")))
    plan = plan_of(Gated(waits=False), *steps)
    results = list(list(engine.run(plan, clock=lambda: 0.0))[-1].result.steps)
    redacted = [step._replace(id=step.id.replace("a", "[redacted]")) for step in results]
    assert [step.key for step in results] == [("a", 1, 1), ("b", 1, 1), ("a", 2, 1), ("b", 2, 1)]
    assert progress.in_order(plan, redacted) == redacted
