"""Who saw what: the hosts and agents that prompts went to, with the files in them (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aethr.base.records import Receipt, RunResult, Sent
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted


class Recipient(NamedTuple):
    """A place that prompts went to: ``host``, ``model`` and ``agent`` as in ``Sent``.

    ``calls`` are requests, or runs of the agent. ``earlier_calls`` of them were made by earlier runs, whose
    answers were replayed or used again. ``bytes_sent`` are those of all prompts, ``files`` those in them.
    """

    host: str | None
    model: str
    agent: str | None
    calls: int
    earlier_calls: int
    bytes_sent: int
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return name_host(self)

    @property
    def reader(self) -> str:
        """The model, and the agent that calls it."""
        model = one_line(self.model, 200)
        return f"{one_line(self.agent, 60)} ({model})" if self.agent is not None else model

    @property
    def extent(self) -> str:
        """The number of files; an agent may have read more than its prompt has."""
        more = ", and what the agent read itself" if self.agent is not None else ""
        return counted(len(self.files), "file") + more

    @property
    def requests(self) -> str:
        """``3``, or ``3, 2 of them by an earlier run``."""
        said = f"{self.calls:,}"
        return f"{said}, {self.earlier_calls:,} of them by an earlier run" if self.earlier_calls else said


class SentCall(NamedTuple):
    """What a call sent, and the receipts of its context. ``is_earlier`` is True for one of an earlier run."""

    sent: Sequence[Sent]
    context: Sequence[Receipt]
    is_earlier: bool


def name_host(place: Sent | Recipient) -> str:
    """The host, or who chooses it."""
    if place.agent is not None:
        return f"chosen by {one_line(place.agent, 60)}"
    return one_line(place.host, 200) if place.host is not None else "not known to Aethr"


def find_recipients(result: RunResult) -> tuple[Recipient, ...]:
    """The recipients of a live run in order of first use; without one, nothing was sent.

    It counts what was sent and not what was answered: retries, fallbacks, the question for a missing verdict,
    and the call that the run stopped in.
    """
    found: dict[tuple[str, str | None, str | None], Recipient] = {}
    for call in list_calls(result):
        names = dict.fromkeys(each.path for each in call.context if each.path and each.bytes_sent)
        for each in call.sent:
            before = found.get(each[:3], Recipient(each.host, each.model, each.agent, 0, 0, 0, ()))
            found[each[:3]] = before._replace(
                calls=before.calls + each.calls,
                earlier_calls=before.earlier_calls + (each.calls if call.is_earlier else 0),
                bytes_sent=before.bytes_sent + each.bytes_sent,
                files=tuple(dict.fromkeys((*before.files, *filter(None, names)))),
            )
    return tuple(found.values())


def list_calls(result: RunResult) -> Iterator[SentCall]:
    """The calls of a run in order, the one that it stopped in last. Those of a mock send nothing."""
    for step in result.steps:
        sent = step.sent
        if result.is_live and not sent:  # a checkpoint of an older version does not say where prompts went
            agent = step.backend if step.artifacts is not None else None
            size = sum(each.bytes_sent for each in step.context)
            sent = (Sent(step.model or step.backend, None, agent, max(1, step.calls), size),)
        yield SentCall(sent, step.context, step.reused is not None or step.key in result.replayed)
    for stopped in result.unanswered:
        yield SentCall(stopped.sent, stopped.context, False)


def summarize(recipients: Sequence[Recipient]) -> str:
    """``api.openai.com``, or ``nobody`` if nothing was sent."""
    return capped(list(dict.fromkeys(each.name for each in recipients))) if recipients else "nobody"
