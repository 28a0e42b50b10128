"""The review protocol: what a reviewer is asked for, how its answer is read, what it decides.

All pure. The reader is tolerant of Markdown and strict about meaning: a pass is only what is plainly
said as one, outside of quotes and code, with no high or medium finding beside it (DESIGN 8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from aethr.errors import ExitCode
from aethr.records import (
    SEVERITIES,
    Finding,
    Gate,
    LoopResult,
    Mode,
    Receipt,
    Review,
    ReviewStatus,
    Severity,
    StepResult,
)

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

_STATUS = re.compile(r"review status\s*:\s*(pass|revise)", re.IGNORECASE)
_Fence: TypeAlias = tuple[str, int]
"""An open code fence, and the column where the content of its list item begins (0: it is in none)."""

_LINE_END = re.compile(r"\r\n?|\n")
_FENCE = re.compile(r"( {0,3}(?:(?:[-*+]|\d{1,9}[.)]) {1,4})*)(`{3,}|~{3,})(.*)")
_FINDING = re.compile(
    r"\s*(?:[-*+•]|\d{1,3}[.)])?\s*[*_`]*\\?\[\s*([A-Za-z]+)\s*\\?\][*_`]*\s*[:–—-]?\s*(.+)"
)
_SEPARATOR = re.compile(r"\s+(?:—|–|--|-)\s+")
_LOCATION = re.compile(r"(?P<path>.+?):L?(?P<line>\d{1,9})(?:[-–:]L?\d{1,9})*")
_COLON = re.compile(r"(?P<place>\S+?:L?\d{1,9}(?:[-–:]L?\d{1,9})*):?\s+(?P<message>.+)")

_SEVERITY: dict[str, Severity] = {
    "high": "high",
    "critical": "high",
    "blocker": "high",
    "severe": "high",
    "major": "high",
    "medium": "medium",
    "moderate": "medium",
    "low": "low",
    "minor": "low",
    "nit": "low",
    "info": "low",
}


def parse(text: str) -> Review:
    """Read one reviewer's answer.

    ``none`` is no verdict: neither a status line nor a finding. A pass beside a high or medium finding
    is ``revise``, and so are findings without a status line.
    """
    lines = list(_spoken(text))
    findings = tuple(finding for line in lines if (finding := _finding(line)) is not None)
    said = [word for line in lines if (word := _status(line)) is not None]
    status: ReviewStatus = said[-1] if said else ("revise" if findings else "none")
    if any(finding.severity != "low" for finding in findings):
        status = "revise"
    return Review(status=status, findings=findings)


def is_nothing(review: Review) -> bool:
    """Whether a run ended because there was nothing to review."""
    nothing = nothing_changed()
    return (review.status, review.reason) == (nothing.status, nothing.reason)


def judge(results: Sequence[StepResult], reviewing: frozenset[str], mode: Mode) -> Review:
    """The run's verdict over the latest answer of every reviewing step since the tree last changed.

    ``results`` are all finished steps in order, ``reviewing`` the ids of reviewing steps. The worst of
    several verdicts counts, and ``reason`` is set whenever a pass could not be trusted.
    """
    counted = _counted(results, reviewing)
    if not counted and (skipped := _nothing_to_review(results)):
        return Review(reason=_left_out(skipped)) if _left_out(skipped) else nothing_changed()
    if mode == "mock":
        return Review(coverage=_coverage(counted), reason="mock mode: no model was called")
    if not counted:
        return _none(results, reviewing)
    parsed = [(result, parse(result.content)) for result in counted]
    status = _worst(review.status for _, review in parsed)
    reason = _distrust(parsed) or _left_out([result for result in results if result.skipped is not None])
    if any(result.truncated for result in counted) and status == "pass":
        status = "none"
    findings = tuple(finding for _, review in parsed for finding in review.findings)
    ordered = tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
    return Review(status, ordered, _coverage(counted), reason)


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


def same_findings(one: str, other: str) -> bool:
    """Whether two answers of a reviewer name the same findings, whatever their order."""
    first, second = parse(one), parse(other)
    return set(first.findings) == set(second.findings) and first.status == second.status


def closed(text: str) -> str:
    """An answer with the code fence that it leaves open closed: what is put behind it is then no code."""
    fence: _Fence | None = None
    for line in _LINE_END.split(text):
        fence = _behind(line, fence)
    return text if fence is None else f"{text}\n{' ' * fence[1]}{fence[0]}"


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
    if review.status == "revise" and (gate.fail_on == "revise" or not review.findings):
        return True
    threshold = SEVERITIES.index(gate.fail_on) if gate.fail_on in SEVERITIES else -1
    return any(SEVERITIES.index(finding.severity) <= threshold for finding in review.findings)


def _counted(results: Sequence[StepResult], reviewing: frozenset[str]) -> tuple[StepResult, ...]:
    latest: dict[str, StepResult] = {}
    for result in results:
        if result.artifacts is not None and result.artifacts.changed_files:
            latest.clear()
        if result.id in reviewing and result.skipped is None:
            latest[result.id] = result
    return tuple(latest.values())


def _nothing_to_review(results: Sequence[StepResult]) -> tuple[StepResult, ...]:
    """The steps that were not called because nothing changed; none where a step has edited files since."""
    edited = any(result.artifacts is not None and result.artifacts.changed_files for result in results)
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
            return f"step '{result.id}' gave no verdict"
    return _left_out([result for result, _ in parsed])


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


def _spoken(text: str) -> Iterator[str]:
    """The answer's lines that are its own words: not in a code fence, not in a block quote."""
    fence: _Fence | None = None
    for line in _LINE_END.split(text):
        before, fence = fence, _behind(line, fence)
        code = fence is not None or (before is not None and _inside(line, before[1]))
        if not code and not line.lstrip().startswith(">"):
            yield line


def _behind(line: str, fence: _Fence | None) -> _Fence | None:
    """The fence that is open behind a line, given the one before it."""
    if fence is not None and _inside(line, fence[1]):
        return None if _closes(line, *fence) else fence
    return _opened(line)


def _opened(line: str) -> _Fence | None:
    match = _FENCE.fullmatch(line.expandtabs(4))
    if match is None or (match[2][0] == "`" and "`" in match[3]):
        return None
    return match[2], len(match[1]) if match[1].strip() else 0


def _inside(line: str, column: int) -> bool:
    """A list item, and with it a fence in it, ends where a line stands further left."""
    return not line.strip(" \t") or _indent(line) >= column


def _closes(line: str, fence: str, column: int) -> bool:
    plain = line.strip(" \t")
    return set(plain) == {fence[0]} and len(plain) >= len(fence) and _indent(line) <= column + 3


def _indent(line: str) -> int:
    wide = line.expandtabs(4)
    return len(wide) - len(wide.lstrip(" "))


def _status(line: str) -> ReviewStatus | None:
    """A status line's word. Indented like code it may still say ``revise``, but not ``pass``."""
    plain = re.sub(r"[*_`#]", "", line).strip().removeprefix("- ").rstrip(". ")
    match = _STATUS.fullmatch(plain)
    if match is None:
        return None
    if match[1].lower() == "revise":
        return "revise"
    return "pass" if _indent(line) < 4 else None


def _finding(line: str) -> Finding | None:
    match = _FINDING.fullmatch(line)
    severity = _SEVERITY.get(match[1].lower()) if match else None
    if match is None or severity is None:
        return None
    place, message = _parts(match[2].strip())
    finding = Finding(severity, None, None, message)
    return finding._replace(path=place[0], line=place[1]) if place else finding


def _parts(rest: str) -> tuple[tuple[str, int | None] | None, str]:
    """A finding's text as (path and line, message)."""
    split = _SEPARATOR.split(rest, maxsplit=1)
    if len(split) == 2 and (place := _place(split[0])) is not None:
        return place, split[1].strip()
    match = _COLON.fullmatch(rest)
    if match and (place := _place(match["place"])) is not None:
        return place, match["message"].strip()
    return None, rest


def _place(text: str) -> tuple[str, int | None] | None:
    """``path:line`` or a bare path; None for words that are neither (``General``, ``the tests``)."""
    quoted = "`" in text
    plain = text.strip("*_` ").replace("`", "").strip().removeprefix("./")
    if match := _LOCATION.fullmatch(plain):
        return match["path"], int(match["line"]) or None
    if quoted or (("/" in plain or "." in plain.strip(".")) and " " not in plain):
        return (plain, None) if plain else None
    return None
