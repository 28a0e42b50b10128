"""Calls that run at once: their threads, and the budget that they share.

A call is a generator, as in a run without threads. Each runs in a daemon thread of its own, which only hands
on what it yields: everything that depends on more than one call happens in the thread that takes these items.
A whole run is such a call too, where an evaluation makes several at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from aethr.base.errors import AethrError
from aethr.base.records import Allowance, Notice, StepEvent, Usage

SLICE_S = 0.2
"""The longest single wait: on Windows, Python notices Ctrl-C only between two waits."""


class Result(Protocol):
    """What a call returns."""

    @property
    def usage(self) -> Usage: ...


_Result = TypeVar("_Result", bound=Result)
Work: TypeAlias = Generator[StepEvent, None, _Result]


class Loan(NamedTuple):
    """What a call may spend. ``extend`` takes what its attempts used, and returns that of the next one."""

    allowance: Allowance
    extend: Callable[[Sequence[Usage]], Allowance]


class Purse:
    """What the calls of a batch may still spend of ``left``. Safe from any thread.

    ``shares`` is what each of them needs at most, as planned. A call that runs holds its share until it ends.
    What an attempt has used counts at once, and the next attempt needs the whole share again. Once
    ``cancelled`` is set, no call waits any more.
    """

    def __init__(self, left: Allowance, shares: Sequence[Allowance]) -> None:
        self.cancelled = threading.Event()
        self._left = left
        self._shares = shares
        self._used: dict[int, Sequence[Usage]] = {}
        self._held: dict[int, Allowance] = {}
        self._waiting = 0
        self._changed = threading.Condition()

    def admit(self, call: int) -> Loan | None:
        """What a call that starts may spend; None if it has to wait until another one ends.

        If no other call holds anything, it gets what is left, even if that is less than its share.
        """
        with self._changed:
            granted = None if self._waiting else self._grant(call)
        return Loan(granted, partial(self._extend, call)) if granted is not None else None

    def settle(self, call: int, used: Usage | None) -> None:
        """End a call whose attempts used so much together; None if it failed."""
        with self._changed:
            self._held.pop(call, None)
            if used is not None:
                self._used[call] = [used]
            self._changed.notify_all()

    def _extend(self, call: int, spent: Sequence[Usage]) -> Allowance:
        with self._changed:
            self._held.pop(call, None)  # or two calls would wait for each other
            self._used[call] = spent
            self._waiting += 1
            try:
                while (granted := self._grant(call)) is None and not self.cancelled.is_set():
                    self._changed.wait(SLICE_S)
            finally:
                self._waiting -= 1
                self._changed.notify_all()
            return granted or Allowance(0.0, 0)

    def _grant(self, call: int) -> Allowance | None:
        free, share = self._left, self._shares[call]
        for used in self._used.values():
            for usage in used:
                free = free.after(usage)
        for held in self._held.values():
            free = free.without(held)
        if not free.covers(share) and self._held:
            return None
        self._held[call] = share = free.at_most(share)
        return share


class Returned(Generic[_Result]):
    """The last item of a call that did not fail."""

    def __init__(self, result: _Result) -> None:
        self.result = result


def run(
    calls: Sequence[Callable[[Loan], Work[_Result]]], jobs: int, purse: Purse, check: Callable[[], None]
) -> Iterator[tuple[int, StepEvent | Returned[_Result]]]:
    """Run calls in threads, at most ``jobs`` at a time. What they yield and return comes with their number.

    They begin in order; ``check`` raises if no other one may begin. After a failure none does: those that run
    are finished, then the first failure in order is raised, after a ``Notice`` for each other one. If the
    caller stops, all are cancelled.
    """
    waiting, failed = deque(enumerate(calls)), dict[int, BaseException]()
    team = _Team[_Result](purse.cancelled)
    try:
        while waiting or team.running:
            try:
                while waiting and len(team.running) < jobs:
                    check()
                    number, call = waiting[0]
                    if (loan := purse.admit(number)) is None:
                        break
                    team.start(number, call(loan))
                    waiting.popleft()
            except (AethrError, RuntimeError) as error:
                failed[waiting[0][0]] = error
                waiting.clear()
            for number, item in team.take():
                if isinstance(item, BaseException):
                    failed[number] = item
                    waiting.clear()
                    purse.settle(number, None)
                    continue
                if isinstance(item, Returned):
                    purse.settle(number, item.result.usage)
                yield number, item
    finally:
        purse.cancelled.set()
    if failed:
        first, *others = sorted(failed)
        for number in others:
            why = str(failed[number]) or type(failed[number]).__name__
            yield number, Notice(f"this call failed too: {why}", "warning")
        raise failed[first]


class _Team(Generic[_Result]):
    """Threads, each with a call. ``running`` are the numbers of those whose end has not been taken yet."""

    def __init__(self, cancelled: threading.Event) -> None:
        self.running: set[int] = set()
        self._cancelled = cancelled
        self._items: deque[tuple[int, StepEvent | Returned[_Result] | BaseException]] = deque()
        self._arrived = threading.Condition()

    def start(self, number: int, work: Work[_Result]) -> None:
        """Raises ``RuntimeError`` if the system allows no more threads."""
        name = f"aethr-call-{number}"
        threading.Thread(target=self._run, args=(number, work), name=name, daemon=True).start()
        self.running.add(number)

    def take(self) -> Iterator[tuple[int, StepEvent | Returned[_Result] | BaseException]]:
        """The next item, with the number of its call, unless none comes for a moment.

        The last items of a call are its result or the error that it raised.
        """
        with self._arrived:
            if not self._items and self.running:
                self._arrived.wait(SLICE_S)
            if not self._items:
                return
            number, item = self._items.popleft()
        if isinstance(item, (Returned, BaseException)):
            self.running.discard(number)
        yield number, item

    def _run(self, number: int, work: Work[_Result]) -> None:
        try:
            with closing(work):
                while not self._cancelled.is_set():
                    self._put(number, next(work))
        except StopIteration as stop:
            self._put(number, Returned(stop.value))
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: whoever takes it raises it
            self._put(number, error)

    def _put(self, number: int, item: StepEvent | Returned[_Result] | BaseException) -> None:
        with self._arrived:
            self._items.append((number, item))
            self._arrived.notify()
