"""The review protocol: what a reviewer is asked for, how its answer is read, what it decides. All pure.

``thinking`` takes off what is not the answer, ``rendered`` gives the lines that a person sees, ``findings``
(with ``places``) and ``status`` read them, ``answer`` puts that together; the verdict of a run is made here.
The readers are loaded when there is an answer to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aethr.base.errors import ExitCode
from aethr.base.records import (
    CHANGES,
    RELIABLE,
    SEVERITIES,
    Gate,
    LoopResult,
    Mode,
    Receipt,
    Review,
    RunOutcome,
    StepResult,
    Visibility,
)
from aethr.base.words import capped

if TYPE_CHECKING:
    from aethr.review.places import Ground

CONTRACT = """\
First list your findings, one a line, most severe first, each in exactly this form:
- [high] path/to/file.py:42 — what is wrong and what would be right
The severity is high (wrong, unsafe or loses data), medium (should not be merged like this) or low (a remark).
Name the path relative to the project root and a line of the new version. Without findings, list none.
Then, if it helps, a few sentences.
The very last line is one of these two, alone on its line:
Review status: pass
Review status: revise
Pass means: no high and no medium finding."""


class Verdict(NamedTuple):
    """What the reviews of a run come to: all of them as one, and whether that can be relied on."""

    review: Review
    outcome: RunOutcome


NOTHING_CHANGED = Verdict(Review(reason="nothing changed"), "nothing-to-review")
"""No review took place, and none was needed."""
NO_REVIEWER = Verdict(Review(reason="the workflow has no reviewing step"), "not-reviewed")


def judge(
    results: Sequence[StepResult],
    reviewing: frozenset[str],
    mode: Mode,
    holds: Callable[[str], bool] | None = None,
    visibility: Mapping[str, Visibility] | None = None,
    doubt: str | None = None,
) -> Verdict:
    """The run's verdict over the latest answer of every reviewing step since the tree last changed.

    ``results`` are all finished steps in order, ``reviewing`` the ids of reviewing steps, ``holds`` says
    whether the tree has a path, ``visibility`` what each step is told of the steps before it (by default
    all), ``doubt`` why no review of the run can be complete. The worst of several verdicts counts, and
    ``reason`` is set for every outcome but ``revise`` and ``pass``.
    """
    counted = _counted(results, reviewing)
    if not counted and (skipped := _nothing_to_review(results)):
        missed = doubt or _left_out(skipped)
        return unreviewed(missed) if missed else NOTHING_CHANGED
    if mode == "mock":
        return unreviewed("mock mode: no model was called", _coverage(counted))
    if not counted:
        return unreviewed(doubt) if doubt else _none(results, reviewing)
    parsed = [(result, read(result, holds)) for result in counted]
    # The end of a cut answer is not known, so its pass is none.
    stated = {"none" if of.truncated and said.status == "pass" else said.status for of, said in parsed}
    found = sorted(
        (finding for _, said in parsed for finding in said.findings),
        key=lambda finding: SEVERITIES.index(finding.severity),
    )
    review = Review(
        status="revise" if "revise" in stated else "none" if "none" in stated else "pass",
        findings=tuple(found),
        coverage=_coverage(counted),
        reason=doubt
        or _distrust(parsed)
        or _hidden(results)
        or _unseen(results, counted, visibility or {})
        or _left_out([result for result in results if result.skipped is not None]),
        unexplained=any(said.unexplained for _, said in parsed),
    )
    if stated == {"none"}:
        return Verdict(review, "not-reviewed")
    if review.reason:
        return Verdict(review, "incomplete")
    return Verdict(review, "revise" if review.status == "revise" else "pass")


def parse(text: str, ground: Ground | None = None) -> Review:
    """Read one answer, see ``answer.parse``."""
    from aethr.review import answer

    return answer.parse(text, ground or answer.NO_GROUND)


def closed(text: str) -> str:
    """An answer with the block that it leaves open closed, see ``answer.closed``."""
    from aethr.review import answer

    return answer.closed(text)


def read(result: StepResult, holds: Callable[[str], bool] | None = None) -> Review:
    """A step's own review; with ``holds`` its places are held against its change, and the tree."""
    said = result.content[result.verdict_from :]
    return parse(said) if holds is None else parse(said, ground(result.context, holds))


def ground(receipts: Iterable[Receipt], holds: Callable[[str], bool]) -> Ground:
    """What the findings of an answer can be held against, by the receipts of its prompt."""
    from aethr.review.places import Ground

    changed = (each.path for each in receipts if each.source in CHANGES and each.path)
    return Ground(frozenset(changed), holds)


def exit_code(verdict: Verdict, loops: Sequence[LoopResult], gate: Gate, mode: Mode = "live") -> ExitCode:
    """What a completed run exits with: 1 the gate closes, 4 no review to rely on, else 0.

    The answers of a script close the gate as real ones would; those of a mock, and the ends of its loops,
    mean nothing.
    """
    if not gate.needs_review:
        return ExitCode.OK
    if mode != "mock" and _gate_closes(verdict.review, loops, gate):
        return ExitCode.GATE
    loops_alone = verdict == NO_REVIEWER and loops and not gate.require_review
    return ExitCode.OK if verdict.outcome in RELIABLE or loops_alone else ExitCode.NOT_REVIEWED


def as_recorded(verdict: Verdict, mode: Mode) -> Verdict:
    """What the record says of a verdict: one that a script was made to give is never to be relied on."""
    if mode != "scripted" or verdict.outcome == "nothing-to-review":
        return verdict
    reasons = ("scripted answers: no model was called", verdict.review.reason)
    return Verdict(verdict.review._replace(reason="; ".join(filter(None, reasons))), "not-reviewed")


def unreviewed(reason: str, coverage: float | None = None) -> Verdict:
    """The verdict of a run in which no review took place."""
    return Verdict(Review(coverage=coverage, reason=reason), "not-reviewed")


def same_findings(one: StepResult, other: StepResult) -> bool:
    """Whether two answers of a reviewer name the same findings, whatever their order."""
    first, second = read(one), read(other)
    return set(first.findings) == set(second.findings) and first.status == second.status


def missing(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """Each thing a prompt's reader did not get, as ``path (why)``."""
    return tuple(
        f"{receipt.path or receipt.source} ({receipt.note or 'not sent'})"
        for receipt in receipts
        if not receipt.complete
    )


def _gate_closes(review: Review, loops: Sequence[LoopResult], gate: Gate) -> bool:
    """A ``revise`` that its findings do not explain closes every gate but ``never``, as an open loop does."""
    if gate.fail_on == "never":
        return False
    if review.unexplained or any(loop.outcome != "satisfied" for loop in loops):
        return True
    threshold = SEVERITIES.index("medium" if gate.fail_on == "revise" else gate.fail_on)
    return any(SEVERITIES.index(finding.severity) <= threshold for finding in review.findings)


def _counted(results: Sequence[StepResult], reviewing: frozenset[str]) -> tuple[StepResult, ...]:
    latest: dict[str, StepResult] = {}
    for result in results:
        if result.artifacts is not None and result.artifacts.edited:
            latest.clear()
        if result.id in reviewing and result.skipped is None:
            latest[result.id] = result
    return tuple(latest.values())


def _nothing_to_review(results: Sequence[StepResult]) -> tuple[StepResult, ...]:
    """The steps that were not called because nothing changed; none where a step has edited files since."""
    edited = any(result.artifacts is not None and result.artifacts.edited for result in results)
    return () if edited else tuple(result for result in results if result.skipped is not None)


def _none(results: Sequence[StepResult], reviewing: frozenset[str]) -> Verdict:
    if any(result.id in reviewing and result.skipped is None for result in results):
        return unreviewed("the tree changed after the last review")
    if any(result.id in reviewing for result in results):
        return unreviewed("a step edited files, and no review was called: the change for it is empty")
    return NO_REVIEWER


def _distrust(parsed: Sequence[tuple[StepResult, Review]]) -> str | None:
    for result, review in parsed:
        if result.truncated:
            return f"the answer of step '{result.id}' was cut ({result.finish_reason})"
        if result.cut_prompt:
            return f"step '{result.id}' was not read whole: {result.cut_prompt}"
        if review.status == "none":
            return f"step '{result.id}' gave no verdict" + (f": {review.reason}" if review.reason else "")
    return None


def _unseen(
    results: Sequence[StepResult], counted: Sequence[StepResult], visibility: Mapping[str, Visibility]
) -> str | None:
    """What of the change the reviews do not rest on: a reviewer may know it from the steps before alone."""
    called = [result for result in results if result.skipped is None]
    is_there = any(_change_in(each) or (each.artifacts and each.artifacts.edited) for each in called)
    rested_on = []
    for result in counted:
        basis = _basis(called, called.index(result), visibility)
        if is_there and not basis:
            return f"step '{result.id}' saw nothing of the change"
        rested_on += [result, result._replace(context=basis)]
    return _left_out(rested_on)


def _hidden(results: Iterable[StepResult]) -> str | None:
    """What a step changed, of which nothing could be shown to anybody."""
    for result in results:
        if result.artifacts is not None and result.artifacts.unseen:
            lines = "; ".join(result.artifacts.unseen)
            return f"step '{result.id}' changed what cannot be shown: {lines}"
    return None


def _basis(
    called: Sequence[StepResult], at: int, visibility: Mapping[str, Visibility]
) -> tuple[Receipt, ...]:
    """The change as a step saw it: its own context, else that of the steps which it was told of."""
    own = _change_in(called[at])
    seen = visibility.get(called[at].id, "all")
    if own or seen == "none" or at == 0:
        return own
    if seen == "latest":
        return _basis(called, at - 1, visibility)
    return tuple(receipt for each in called[:at] for receipt in _change_in(each))


def _change_in(result: StepResult) -> tuple[Receipt, ...]:
    return tuple(each for each in result.context if each.source in CHANGES and each.path)


def _left_out(results: Iterable[StepResult]) -> str | None:
    """What these steps should have been sent, or told of, and were not."""
    names = tuple(dict.fromkeys(name for result in results for name in missing(result.context)))
    return f"not sent: {capped(names, 5)}" if names else None


def _coverage(results: Sequence[StepResult]) -> float | None:
    receipts = [receipt for result in results for receipt in result.context]
    changed = sum(receipt.changed_lines for receipt in receipts)
    return sum(receipt.sent_lines for receipt in receipts) / changed if changed else None
