"""Records in words: every line that a run says about itself, for terminals and reports alike (pure).

All parts that come from outside pass through ``sanitize``; a line here is safe to write anywhere that
takes plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from aethr.base.records import (
    SEVERITIES,
    Artifacts,
    Event,
    Extent,
    Finding,
    LoopEnded,
    LoopResult,
    Mode,
    Notice,
    Receipt,
    Review,
    RunFinished,
    RunResult,
    RunStarted,
    Skipped,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    Subject,
)
from aethr.base.sanitize import one_line
from aethr.base.words import SHOWN, capped, counted, path_line, rest
from aethr.review import NO_REVIEWER

Tone = Literal["plain", "note", "warning", "tool", "good", "bad"]

MOCK = "mock mode: no model is called; set AETHR_LIVE=1 for a real review"
SCRIPTED = "scripted answers: no model is called, and this is not a review"
UNREAL: Mapping[Mode, str] = {"mock": "mock mode", "scripted": "scripted answers"}
"""What a run that calls no model is called."""


_SCOPES: Mapping[str, str] = {
    "worktree": "unstaged changes",
    "staged": "staged changes",
    "head": "changes since the last commit, without new files",
    "all": "changes since the last commit, with new files",
    "revision": "changes since {}",
    "range": "{}",
}
"""What a scope is called, by its kind; with the words of ``--diff`` in it."""
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")


class Line(NamedTuple):
    """One plain line, and how it is meant."""

    text: str
    tone: Tone = "plain"

    @property
    def labelled(self) -> str:
        """The line behind the word for how it is meant, where there is one."""
        return f"{self.tone}: {self.text}" if self.tone in ("note", "warning") else self.text


def narrate(event: Event, *, verbose: bool = False) -> tuple[Line, ...]:
    """What there is to say about an event, besides a step's header and its answer."""
    match event:
        case RunStarted():
            return (*_subject_line(event), *unreal(event))
        case StepPrepared():
            return _prepared(event, verbose)
        case Notice():
            return (Line(one_line(event.text, 500), "plain" if event.kind == "info" else event.kind),)
        case StepFinished():
            return _finished(event)
        case LoopEnded():
            return (_loop_line(event.loop),)
        case RunFinished():
            return closing(event.result)
        case _:
            return ()


def unreal(started: RunStarted) -> tuple[Line, ...]:
    """What every output of a run says that calls no model, also a quiet one."""
    said = {"mock": MOCK, "scripted": SCRIPTED}.get(started.mode)
    return (Line(said, "note"),) if said else ()


def subject(read: Subject) -> str:
    """What a run reads: ``reviewing unstaged changes: 3 files, +12 -4``."""
    scope, verb = read.scope, "reviewing" if read.reviewed else "reading"
    what = _SCOPES[scope.kind].format(_ID.sub(r"\1", one_line(scope.text, 200)))
    if read.extent is None:
        return f"{verb} {what}: nothing" + (f" ({one_line(read.note)})" if read.note else "")
    return f"{verb} {what}: {size(read.extent)}" + (
        ", with no commit before it" if scope.without_base else ""
    )


def size(extent: Extent) -> str:
    """``3 files, +12 -4``."""
    return f"{counted(extent.files, 'file')}, +{extent.added:,} -{extent.removed:,}"


def place(step: StepStarted) -> str:
    """``2/3``, and the pass where a loop is in its second or later one."""
    again = f", pass {step.iteration}" if step.iteration > 1 else ""
    return f"{step.number}/{step.total}{again}"


def actor(step: StepStarted | StepResult) -> str:
    """Who answers: the role, and the model or else the backend."""
    return f"{one_line(step.role, 40)} · {one_line(step.model or step.backend, 80)}"


def closing(result: RunResult) -> tuple[Line, ...]:
    """The end of a run: loops have been told; findings, verdict, and what it took.

    A scripted run can end well, so that it is not a review comes last of all.
    """
    ends = (verdict(result), Line(spent(result)))
    return (*_findings_line(result.review), *(reversed(ends) if result.mode == "scripted" else ends))


def verdict(result: RunResult) -> Line:
    """The outcome in one line. What was not reviewed, or not whole, says so in capitals, with the reason.

    Nobody misses the review of a workflow that has no reviewing step.
    """
    review = result.review
    status = review.status if review.status != "none" else ""
    reason = one_line(review.reason or "there is no verdict", 500)
    match result.outcome:
        case "nothing-to-review":
            return Line(f"Nothing to review: {reason}")
        case "not-reviewed" if review == NO_REVIEWER.review:
            return Line(f"No review: {reason}")
        case "not-reviewed":
            return Line(f"NOT REVIEWED: {reason}" + (f" (they say: {status})" if status else ""), "bad")
        case "incomplete":
            on_the_rest = f" ({status} on what was sent)" if status else ""
            return Line(f"INCOMPLETE{on_the_rest}: {reason}", "bad")
        case _:
            return Line(f"Review status: {result.outcome}", "good" if result.outcome == "pass" else "bad")


def doubts(result: RunResult) -> tuple[Line, ...]:
    """What even a quiet run must say: what may close a gate and is not what its last answer ends with."""
    last = result.steps[-1].content.rstrip() if result.steps else ""
    said = verdict(result)
    return (
        *(_loop_line(ended) for ended in result.loops if ended.outcome != "satisfied"),
        *([said] if said.tone == "bad" and not last.endswith(said.text) else []),
    )


def spent(result: RunResult) -> str:
    """``2 steps, 431 tokens, $0.0012, 12.3 s``; a run that called no model says so first."""
    totals, unreal = result.totals, UNREAL.get(result.mode)
    parts = (
        counted(len(result.steps), "step"),
        tokens(totals.tokens, estimated=totals.estimated),
        "no cost" if unreal else cost(totals.cost_usd, estimated=totals.estimated),
        seconds(totals.seconds),
    )
    return (f"{unreal}, no model was called: " if unreal else "") + ", ".join(parts)


def step_spent(step: StepResult) -> str:
    counts = tokens(step.usage.total_tokens, estimated=step.usage.estimated)
    return f"{counts} · {step_cost(step)} · {seconds(step.seconds)}"


def step_tokens(step: StepResult) -> str:
    """The figure alone, for a table: ``431``, ``about 431``, ``unknown``."""
    number, about = step.usage.total_tokens, "about " if step.usage.estimated else ""
    return "unknown" if number is None else f"{about}{number:,}"


def step_cost(step: StepResult) -> str:
    return cost(step.usage.cost_usd, estimated=step.usage.estimated)


def summary(findings: Sequence[Finding]) -> str:
    """``1 high, 2 low``, or ``none``."""
    counts = [(name, sum(finding.severity == name for finding in findings)) for name in SEVERITIES]
    return ", ".join(f"{count} {name}" for name, count in counts if count) or "none"


def finding(found: Finding) -> str:
    """``path:line: [high] message``, as compilers write it; without a path it starts at the bracket."""
    where = place_of(found)
    return f"{where}: " * bool(where) + f"[{found.severity}] {one_line(found.message, 2000)}"


def place_of(found: Finding) -> str:
    """``path:line``, marked where no such file is there; empty where the finding names none."""
    if not found.path:
        return ""
    where = path_line(one_line(found.path, 300), found.line)
    return f"{where} (no such file)" if found.place == "nowhere" else where


def skipped(step: Skipped) -> str:
    again = f" (pass {step.iteration})" if step.iteration > 1 else ""
    return f"{one_line(step.step)}{again}: not called: {one_line(step.reason, 500)}"


def loop(ended: LoopResult) -> str:
    passes = counted(ended.iterations, "pass", "passes")
    path = f"{one_line(ended.step, 60)} -> {one_line(ended.back_to, 60)}"
    return f"loop {path}: {ended.outcome} after {passes}"


def not_sent(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """Each thing that the reader of a prompt did not get, or only in part: ``z.py (over budget)``."""
    return tuple(
        f"{one_line(receipt.path or receipt.source)} "
        f"({'in part: ' if receipt.bytes_sent else ''}{one_line(receipt.note or 'not sent')})"
        for receipt in receipts
        if not receipt.complete
    )


def remarks(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """What there is to know about things that were sent: ``a.py: 2 invisible characters shown …``."""
    return tuple(
        f"{one_line(receipt.path or receipt.source)}: {one_line(receipt.note, 500)}"
        for receipt in receipts
        if receipt.complete and receipt.note
    )


def tokens(number: int | None, *, estimated: bool = False) -> str:
    """``431 tokens``, ``about 431 tokens``; None is unknown, never zero."""
    if number is None:
        return "tokens unknown"
    return ("about " if estimated else "") + counted(number, "token")


def cost(usd: float | None, *, estimated: bool = False) -> str:
    """Dollars to the cent, small amounts to two significant figures; None is unknown, never zero."""
    if usd is None:
        return "cost unknown"
    if 0 < usd < 0.0001:
        return "under $0.0001"
    about = "about " if estimated and usd else ""
    return about + (f"${usd:,.2f}" if usd == 0 or usd >= 0.01 else f"${usd:.4f}")


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def _prepared(event: StepPrepared, verbose: bool) -> tuple[Line, ...]:
    lines: list[Line] = []
    if missing := not_sent(event.receipts):
        lines.append(Line(f"not sent: {capped(missing)}", "warning"))
    notes = remarks(event.receipts)
    lines += [Line(note, "note") for note in notes[:SHOWN]]
    if more := rest(len(notes), SHOWN, "note"):
        lines.append(Line(more, "note"))
    if verbose:
        size = f"{len(event.prompt):,} characters"
        lines.append(Line(f"prompt: {size}, sha256 {one_line(event.prompt_sha256)}", "note"))
    return tuple(lines)


def _finished(event: StepFinished) -> tuple[Line, ...]:
    step = event.result
    if event.replayed:
        again = f" (pass {step.iteration})" if step.iteration > 1 else ""
        return (Line(f"{one_line(step.id)}{again}: from the checkpoint"),)
    if step.skipped is not None:
        return (Line(f"not called: {one_line(step.skipped, 500)}"),)
    lines = [Line(one_line(note, 500), "note") for note in step.notes]
    if step.truncated:
        lines.append(Line(f"the answer was cut ({one_line(step.finish_reason)})", "warning"))
    if step.artifacts is not None:
        lines += _changed(step.artifacts)
    return tuple(lines)


def _changed(artifacts: Artifacts) -> Iterator[Line]:
    names = [one_line(name) for name in artifacts.changed_files]
    if names:
        yield Line(f"changed: {capped(names)}")
    elif not artifacts.unseen and not artifacts.generated:
        yield Line("changed: nothing")
    yield from (
        Line(f"changed and not reviewed: {one_line(line, 500)}", "warning") for line in artifacts.unseen
    )
    yield from (Line(f"changed: {one_line(line, 500)}", "note") for line in artifacts.generated)


def _subject_line(started: RunStarted) -> tuple[Line, ...]:
    return (Line(subject(started.subject)),) if started.subject is not None else ()


def _loop_line(ended: LoopResult) -> Line:
    return Line(loop(ended), "plain" if ended.outcome == "satisfied" else "warning")


def _findings_line(review: Review) -> tuple[Line, ...]:
    return (Line(f"Findings: {summary(review.findings)}"),) if review.findings else ()
