"""The review protocol: what a reviewer is asked for, how its answer is read, what it decides. All pure.

``thinking`` takes off what is not the answer, ``rendered`` gives the lines that a person sees, ``findings``
(with ``places``) and ``status`` read them, ``answer`` puts that together; the verdict of a run is made here.
The readers are loaded when there is an answer to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from aethr.errors import ExitCode
from aethr.records import (
    CHANGES,
    SEVERITIES,
    Gate,
    LoopResult,
    Mode,
    Receipt,
    Review,
    ReviewStatus,
    StepResult,
    Visibility,
)

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


def is_nothing(review: Review) -> bool:
    """Whether a run ended because there was nothing to review."""
    nothing = nothing_changed()
    return (review.status, review.reason) == (nothing.status, nothing.reason)


def judge(
    results: Sequence[StepResult],
    reviewing: frozenset[str],
    mode: Mode,
    holds: Callable[[str], bool] | None = None,
    visibility: Mapping[str, Visibility] | None = None,
) -> Review:
    """The run's verdict over the latest answer of every reviewing step since the tree last changed.

    ``results`` are all finished steps in order, ``reviewing`` the ids of reviewing steps, ``holds`` says
    whether the tree has a path, ``visibility`` what each step is told of the steps before it (by default
    all). The worst of several verdicts counts, and ``reason`` is set whenever a pass could not be trusted.
    """
    counted = _counted(results, reviewing)
    if not counted and (skipped := _nothing_to_review(results)):
        return Review(reason=_left_out(skipped)) if _left_out(skipped) else nothing_changed()
    if mode == "mock":
        return Review(coverage=_coverage(counted), reason="mock mode: no model was called")
    if not counted:
        return _none(results, reviewing)
    parsed = [(result, read(result, holds)) for result in counted]
    status = _worst(review.status for _, review in parsed)
    reason = _distrust(parsed) or _unseen(results, counted, visibility or {}) or _hidden(results)
    reason = reason or _left_out([result for result in results if result.skipped is not None])
    if any(result.truncated for result in counted) and status == "pass":
        status = "none"
    found = [finding for _, review in parsed for finding in review.findings]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    unexplained = any(review.unexplained for _, review in parsed)
    return Review(status, tuple(found), _coverage(counted), reason, unexplained)


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


def exit_code(review: Review, loops: Sequence[LoopResult], gate: Gate) -> ExitCode:
    """What a completed run exits with: 1 the gate says no, 4 no review to trust, else 0."""
    if not gate.needs_review:
        return ExitCode.OK
    loops_alone = review == no_reviewer() and loops and not gate.require_review
    if is_nothing(review) or loops_alone:
        closed = gate.fail_on != "never" and any(loop.outcome != "satisfied" for loop in loops)
        return ExitCode.GATE if closed else ExitCode.OK
    if review.status == "none":
        return ExitCode.NOT_REVIEWED
    if gate.fail_on != "never" and _gate_closes(review, loops, gate):
        return ExitCode.GATE
    return ExitCode.NOT_REVIEWED if review.reason else ExitCode.OK


def as_recorded(review: Review, mode: Mode) -> Review:
    """What the record says of a verdict: one that a script was made to give is never to be relied on."""
    if mode != "scripted":
        return review
    reasons = ("scripted answers: no model was called", review.reason)
    return review._replace(reason="; ".join(filter(None, reasons)))


def nothing_changed() -> Review:
    """The review of an empty change: none took place, and none was needed."""
    return Review(reason="nothing changed")


def no_reviewer() -> Review:
    """The review of a workflow that has no reviewing step."""
    return Review(reason="the workflow has no reviewing step")


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
    if any(loop.outcome != "satisfied" for loop in loops):
        return True
    if review.unexplained:
        return True
    if review.status == "revise" and (gate.fail_on == "revise" or not review.findings):
        return True
    threshold = SEVERITIES.index(gate.fail_on) if gate.fail_on in SEVERITIES else -1
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


def _none(results: Sequence[StepResult], reviewing: frozenset[str]) -> Review:
    if any(result.id in reviewing and result.skipped is None for result in results):
        return Review(reason="the tree changed after the last review")
    if any(result.id in reviewing for result in results):
        return Review(reason="a step edited files, and no review was called: the change for it is empty")
    return no_reviewer()


def _worst(statuses: Iterable[ReviewStatus]) -> ReviewStatus:
    seen = set(statuses)
    return "revise" if "revise" in seen else "none" if "none" in seen else "pass"


def _distrust(parsed: Sequence[tuple[StepResult, Review]]) -> str | None:
    for result, review in parsed:
        if result.truncated:
            return f"the answer of step '{result.id}' was cut ({result.finish_reason})"
        if result.cut_prompt:
            return f"incomplete: step '{result.id}' was not read whole: {result.cut_prompt}"
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
            return f"incomplete: step '{result.id}' saw nothing of the change"
        rested_on += [result, result._replace(context=basis)]
    return _left_out(rested_on)


def _hidden(results: Iterable[StepResult]) -> str | None:
    """What a step changed, of which nothing could be shown to anybody."""
    for result in results:
        if result.artifacts is not None and result.artifacts.unseen:
            lines = "; ".join(result.artifacts.unseen)
            return f"incomplete: step '{result.id}' changed what cannot be shown: {lines}"
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
    if not names:
        return None
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"incomplete, not sent: {', '.join(names[:5])}{more}"


def _coverage(results: Sequence[StepResult]) -> float | None:
    receipts = [receipt for result in results for receipt in result.context]
    changed = sum(receipt.changed_lines for receipt in receipts)
    return sum(receipt.sent_lines for receipt in receipts) / changed if changed else None
