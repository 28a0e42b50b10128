"""The review protocol: what a reviewer is asked, how its answer is read, and what it decides. All pure.

``thinking`` removes what precedes the answer, ``lines`` or ``rendered`` gives the lines that a person sees,
``findings`` (with ``places``) and ``answer`` read them. This module makes the verdict of a run.
The readers are imported when there is an answer to read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from aethr.base.errors import ExitCode
from aethr.base.records import (
    RELIABLE,
    SEVERITIES,
    Answer,
    Finding,
    Gate,
    Lines,
    LoopResult,
    Mode,
    PlaceId,
    Quote,
    ReadFiles,
    Receipt,
    Review,
    ReviewStatus,
    RunOutcome,
    RunResult,
    ShardResult,
    StepResult,
    Visibility,
    is_change,
)
from aethr.base.words import capped, counted

if TYPE_CHECKING:
    from aethr.review.answer import Find
    from aethr.review.lines import Code, Line
    from aethr.review.places import Ground

CONTRACT = """\
First list your findings, most severe first, each in exactly this form:
- [high] path/to/file.py:42-43 — what is wrong, when it happens, and what would be right
The severity is high (wrong in ordinary use, or a danger to data or security), medium (wrong in cases that
will occur) or low (a remark). Name the path relative to the project root, and the line, or the first and the
last line, of the new version. If it helps, add code below the finding, indented like this:

      the lines that it is about, exactly as they stand

  ```suggestion
  the lines to put in place of exactly these
  ```

Do not list what the change fixes, what it did not cause, what a linter or formatter settles, or what is
missing but may be defined outside of what you see. If there is nothing to list, leave the list out.
Then, if it helps, a few sentences.
The very last line is one of these two, alone on its line:
Review status: pass
Review status: revise
Pass means: no high and no medium finding."""


class Verdict(NamedTuple):
    """All reviews of a run as one, and its outcome, which says whether the review is reliable."""

    review: Review
    outcome: RunOutcome


ALL_EXCLUDED = "all of the change is excluded by rule"
"""Why nothing is reviewed of a change whose files are all excluded."""
NOTHING_CHANGED = Verdict(Review(reason="nothing changed"), "nothing-to-review")
"""There was no review, and none was needed."""
NOTHING_OPEN = "no finding is open"
"""Why a verifying step is not called for a part of the change: nothing is missing then."""
_SCRIPTED = "scripted answers: no model was called"
LISTED = 3
"""A list of findings has at most so many times the bytes of the answers that they are from."""
NO_REVIEWER = Verdict(Review(reason="the workflow has no reviewing step"), "not-reviewed")


def judge(
    results: Sequence[StepResult],
    reviewing: frozenset[str],
    mode: Mode,
    holds: Callable[[str], bool] | None = None,
    visibility: Mapping[str, Visibility] | None = None,
    doubt: str | None = None,
    verify_high: frozenset[str] = frozenset(),
    answers: Sequence[Answer] = (),
    is_gone: Callable[[str], bool] = lambda _: False,
) -> Verdict:
    """The run's verdict over the latest answer of every reviewing step since the tree last changed.

    ``results`` are all finished steps in order, ``reviewing`` the ids of reviewing steps. ``holds`` says
    whether the tree has a path, ``visibility`` which earlier steps each step can see (by default all),
    ``doubt`` why no review of the run can be complete, ``verify_high`` which verifying steps may drop high
    findings, ``is_gone`` whether the tree has no file any more with the path of a place id. The worst of
    several verdicts counts. ``reason`` is set for every outcome except ``revise`` and ``pass``.
    """
    latest = _latest_reviews(results, reviewing)
    skipped = [result for result in results if result.skipped not in (None, NOTHING_OPEN)]
    if not latest and skipped and not any(map(_edits, results)):
        missed = doubt or _list_missing(skipped)
        excluded = any(each.excluded for result in skipped for each in result.context)
        nothing = Verdict(Review(reason=ALL_EXCLUDED), "nothing-to-review") if excluded else NOTHING_CHANGED
        return unreviewed(missed) if missed else nothing
    if mode == "mock":
        return unreviewed("mock mode: no model was called", _coverage(latest))
    if not latest:
        return unreviewed(doubt) if doubt else _explain_no_review(results, reviewing)
    parsed = settle(results, reviewing, holds, verify_high)
    covered = apply_answers([own for _, own in parsed], answers, is_gone)
    parsed = [(of, own) for (of, _), own in zip(parsed, covered, strict=True)]
    stated = {own.status for _, own in parsed}
    found = [[each._replace(by=(of.id,)) for each in own.findings] for of, own in parsed]
    review = Review(
        status=worst(own for _, own in parsed),
        findings=merge(found, list(dict.fromkeys(of.id for of, _ in parsed))),
        coverage=_coverage(latest),
        reason=doubt
        or _find_bad_answer(parsed)
        or _find_unseen(results, latest, visibility or {})
        or _list_missing(skipped),
        unexplained=any(own.unexplained for _, own in parsed),
        unused=_find_unused(answers, [each for of_one in found for each in of_one], latest, is_gone),
    )
    if stated == {"none"}:
        return Verdict(review, "not-reviewed")
    if review.reason:
        return Verdict(review, "incomplete")
    return Verdict(review, "revise" if review.status == "revise" else "pass")


def merge(answers: Iterable[Sequence[Finding]], steps: Sequence[str] = ()) -> tuple[Finding, ...]:
    """The findings of these answers, each defect once, the most severe first: see ``panel.merge``."""
    there = [findings for findings in answers if findings]
    if len(there) > 1:
        from aethr.review import panel

        return panel.merge(there, steps)
    return tuple(sorted(chain(*there), key=lambda finding: SEVERITIES.index(finding.severity)))


def parse(text: str, ground: Ground | None = None) -> Review:
    """Read one answer: see ``answer.parse``."""
    from aethr.review import answer

    return answer.parse(text, ground or answer.NO_GROUND)


def find_quotes(text: str, ground: Ground, find: Find) -> tuple[Quote, ...]:
    """The code that an answer quotes, where ``find`` finds it: see ``answer.find_quotes``."""
    from aethr.review import answer

    return answer.find_quotes(text, ground, find)


def read_lines(text: str, quotes: Iterable[Quote] = ()) -> tuple[Line, ...]:
    """The lines of an answer as a person sees them: see ``answer.read_lines``."""
    from aethr.review import answer

    return answer.read_lines(text, frozenset(quote.text for quote in quotes))


def code_below(lines: Sequence[Line], at: int) -> tuple[Code, ...]:
    """The code that an answer quotes below one of its lines: see ``quoted.code_below``."""
    from aethr.review import quoted

    return tuple(quoted.code_below(lines, at))


def close_blocks(text: str) -> str:
    """An answer with its last open block closed: see ``answer.close_blocks``."""
    from aethr.review import answer

    return answer.close_blocks(text)


def settle(
    results: Sequence[StepResult],
    reviewing: frozenset[str],
    holds: Callable[[str], bool] | None = None,
    verify_high: frozenset[str] = frozenset(),
) -> list[tuple[StepResult, Review]]:
    """The latest reviews of these steps, with what verifying steps have proved against their findings.

    The arguments are those of ``judge``.
    """
    reviews = [(result, read(result, holds)) for result in _latest_reviews(results, reviewing)]
    if any(result.shown for result in results):
        from aethr.review import verify

        reviews = list(verify.settle(reviews, results, verify_high))
    # What a cut answer would have ended with is not known, so its pass does not count.
    return [
        (of, own._replace(status="none") if of.truncated and own.status == "pass" else own)
        for of, own in reviews
    ]


def apply_answers(
    reviews: Sequence[Review], answers: Sequence[Answer], is_gone: Callable[[str], bool]
) -> Sequence[Review]:
    """The reviews, with what these answers cover: see ``answered.settle``."""
    if not answers or not any(own.findings for own in reviews):
        return reviews
    from aethr.review import answered as rule

    return rule.settle(reviews, answers, is_gone)


def _find_unused(
    answers: Sequence[Answer],
    findings: Sequence[Finding],
    results: Sequence[StepResult],
    is_gone: Callable[[str], bool],
) -> tuple[str, ...]:
    """The answers that cover nothing in a file that was reviewed: see ``answered.find_unused``."""
    if not answers:
        return ()
    from aethr.review import answered as rule

    receipts = [each for result in results for each in result.context]
    return tuple(dict.fromkeys(rule.find_unused(answers, findings, receipts, is_gone)))


def conclude(review: Review, findings: Iterable[Finding]) -> Review:
    """The review with these findings; an explained ``revise`` with no open high or medium one is a pass."""
    found = tuple(findings)
    explained = review.status == "revise" and not review.unexplained
    gates = any(each.is_open and each.severity != "low" for each in found)
    status: ReviewStatus = "pass" if explained and not gates else review.status
    return review._replace(findings=found, status=status)


def worst(reviews: Iterable[Review]) -> ReviewStatus:
    """The status of several reviews together: a pass only if each of them is one."""
    stated = {each.status for each in reviews}
    return "revise" if "revise" in stated else "none" if stated != {"pass"} else "pass"


def read(result: StepResult, holds: Callable[[str], bool] | None = None) -> Review:
    """A step's own review; with ``holds``, its places are checked against its change and the tree."""
    receipts = () if holds is None else result.context
    own = parse(result.content[result.verdict_from :], ground(receipts, holds, result.quotes))
    if not own.findings:
        return own
    from aethr.review import identity

    return own._replace(findings=identity.identify(own.findings, result))


def find_places(result: StepResult, holds: Callable[[str], bool], files: ReadFiles) -> tuple[PlaceId, ...]:
    """The id of each place that the findings of a review name: see ``identity.find_places``."""
    if not (found := read(result, holds).findings):
        return ()
    from aethr.review import identity

    return identity.find_places(found, result, files)


def ground(
    receipts: Iterable[Receipt], holds: Callable[[str], bool] | None, quotes: tuple[Quote, ...] = ()
) -> Ground:
    """What an answer's findings are checked against: the receipts of its prompt, the tree, its quotations."""
    from aethr.review.places import Ground

    shown: dict[str, tuple[Lines, ...]] = {}
    complete = set()
    for each in receipts:
        if each.path and is_change(each.source):
            shown[each.path] = (*shown.get(each.path, ()), *each.lines)
        elif each.path and each.bytes_sent:
            complete.add(each.path)
    for path in complete & shown.keys():
        shown[path] = ()
    return Ground(frozenset(shown), holds or (lambda _: False), shown, quotes)


def exit_code(verdict: Verdict, loops: Sequence[LoopResult], gate: Gate, mode: Mode = "live") -> ExitCode:
    """The exit code of a completed run: 1 if the gate closes, 4 if there is no reliable review, else 0.

    Scripted answers close the gate as real ones do. The answers of a mock, and how its loops end, do not.
    """
    if not gate.needs_review:
        return ExitCode.OK
    if explain_gate(verdict, loops, gate, mode):
        return ExitCode.GATE
    loops_alone = verdict == NO_REVIEWER and loops and not gate.require_review
    return ExitCode.OK if verdict.outcome in RELIABLE or loops_alone else ExitCode.NOT_REVIEWED


def explain_gate(verdict: Verdict, loops: Sequence[LoopResult], gate: Gate, mode: Mode = "live") -> str:
    """Why the gate closes: ``gate closed (--fail-on high): 1 high finding``; empty if it is open.

    At a `revise` without a reason, and at an unsatisfied loop, every gate closes.
    """
    if mode == "mock" or gate.fail_on == "never":
        return ""
    levels = SEVERITIES[: SEVERITIES.index("medium" if gate.fail_on == "revise" else gate.fail_on) + 1]
    reasons = (
        count_findings(each for each in verdict.review.open if each.severity in levels),
        "an unexplained revise" if verdict.review.unexplained else "",
        "a loop is unsatisfied" if any(loop.outcome != "satisfied" for loop in loops) else "",
    )
    said = "; ".join(filter(None, reasons))
    return f"gate closed (--fail-on {gate.fail_on}): {said}" if said else ""


def count_findings(findings: Iterable[Finding]) -> str:
    """``1 high and 2 low findings``; empty if there is none."""
    counts = Counter(each.severity for each in findings)
    said = [f"{counts[name]:,} {name}" for name in SEVERITIES if counts[name]]
    if not said:
        return ""
    last = next(counts[name] for name in reversed(SEVERITIES) if counts[name])
    several = ", ".join(said[:-1])
    return " and ".join(filter(None, (several, said[-1]))) + (" finding" if last == 1 else " findings")


def as_recorded(verdict: Verdict, mode: Mode) -> Verdict:
    """The verdict as the run record holds it: that of scripted answers is never a reliable review."""
    if mode != "scripted" or verdict.outcome == "nothing-to-review":
        return verdict
    reason = "; ".join(filter(None, (_SCRIPTED, verdict.review.reason)))
    return Verdict(verdict.review._replace(reason=reason), "not-reviewed")


def outcome_of_script(result: RunResult) -> RunOutcome:
    """The outcome that a run with scripted answers would have if a model had given them."""
    said = result.review
    if result.mode != "scripted" or said.status == "none":
        return result.outcome
    return "incomplete" if said.reason != _SCRIPTED else "revise" if said.status == "revise" else "pass"


def as_shard(verdict: Verdict, shard: ShardResult) -> Verdict:
    """The verdict as the record of a shard holds it: its findings, and that this is not a verdict."""
    parts = len(shard.plan.lines) if shard.plan else 0
    share = name_parts(shard.parts, parts) if shard.parts else f"none of the {counted(parts, 'part')}"
    name = f"shard {shard.number} of {shard.of}, {share}"
    reason = "; ".join(filter(None, (name, shard.doubt, "`aethr merge` gives the verdict")))
    return Verdict(verdict.review._replace(status="none", reason=reason), "not-reviewed")


def unreviewed(reason: str, coverage: float | None = None) -> Verdict:
    """The verdict of a run without a review."""
    return Verdict(Review(coverage=coverage, reason=reason), "not-reviewed")


def same_findings(one: Iterable[Review], other: Iterable[Review]) -> bool:
    """Whether the reviews of two passes, of all parts, have the same statuses and open findings."""
    return _sum_up(one) == _sum_up(other)


def _sum_up(reviews: Iterable[Review]) -> tuple[set[ReviewStatus], set[Finding]]:
    """The statuses of all of these, and what is open and where, each defect once."""
    every = list(reviews)
    found = {
        each._replace(place=None, evidence=None, suggestion=None, check=None, id=None, also=(), ids=())
        for each in merge([own.open for own in every])
    }
    return {each.status for each in every}, found


def _latest_reviews(results: Sequence[StepResult], reviewing: frozenset[str]) -> tuple[StepResult, ...]:
    """The latest answer of each reviewing step since the tree last changed, or one for each part of it."""
    latest: dict[str, list[StepResult]] = {}
    for result in results:
        if _edits(result):
            latest.clear()
        if result.id in reviewing and result.skipped is None:
            parts = latest.setdefault(result.id, [])
            if parts and parts[-1].iteration != result.iteration:
                parts.clear()
            parts.append(result)
    return tuple(result for parts in latest.values() for result in parts)


def _edits(result: StepResult) -> bool:
    return result.artifacts is not None and result.artifacts.edited


def _explain_no_review(results: Sequence[StepResult], reviewing: frozenset[str]) -> Verdict:
    skipped = [result.skipped for result in results if result.id in reviewing]
    if None in skipped:
        return unreviewed("the tree changed after the last review")
    if skipped:
        return unreviewed("a step edited files, and no review was called: the change for it is empty")
    return NO_REVIEWER


def _find_bad_answer(parsed: Sequence[tuple[StepResult, Review]]) -> str | None:
    """Why not every part of the change has a complete answer with a verdict."""
    results = [result for result, _ in parsed]
    for result in results:
        if missing := list_missing_parts(result.id, result.parts, results):
            return missing
    for result, review in parsed:
        name = _name(result)
        if result.truncated:
            return f"the answer of {name} was cut ({result.finish_reason})"
        if result.cut_prompt:
            return f"the server did not read the whole prompt of {name}: {result.cut_prompt}"
        if review.status == "none":
            return f"{name} gave no verdict" + (f": {review.reason}" if review.reason else "")
    return None


def list_missing_parts(step: str, parts: int, results: Sequence[StepResult]) -> str | None:
    """Which of the parts of the change a step has no answer for among ``results``; None if it has all."""
    there = {each.part for each in results if each.id == step and each.parts == parts}
    missing = [part for part in range(1, parts + 1) if part not in there]
    return f"step '{step}' did not review {name_parts(missing, parts)}" if missing else None


def name_parts(numbers: Sequence[int], parts: int) -> str:
    """``parts 2, 5 of 5``."""
    return f"part{'s' if len(numbers) > 1 else ''} {capped(numbers, 20)} of {parts:,}"


def _name(result: StepResult) -> str:
    return f"step '{result.id}'" + (f", part {result.part} of {result.parts}" if result.parts > 1 else "")


def _find_unseen(
    results: Sequence[StepResult], latest: Sequence[StepResult], visibility: Mapping[str, Visibility]
) -> str | None:
    """What part of the change the reviewers did not see, in their own context or in the steps before.

    An agent, which gets the change in one piece, must have been sent all of it, too.
    """
    for result in results:
        if result.artifacts is not None and result.artifacts.unseen:
            lines = "; ".join(result.artifacts.unseen)
            return f"step '{result.id}' changed what cannot be shown: {lines}"
    called = [result for result in results if result.skipped is None]
    is_changed = any(_change_in(each) or _edits(each) for each in called)
    seen = [each._replace(context=_change_in(each)) for each in called if each.artifacts is not None]
    for result in latest:
        basis = _basis(called, called.index(result), visibility)
        if is_changed and not basis:
            return f"{_name(result)} saw nothing of the change"
        seen += [result, result._replace(context=basis)]
    return _list_missing(seen)


def _basis(
    called: Sequence[StepResult], at: int, visibility: Mapping[str, Visibility]
) -> tuple[Receipt, ...]:
    """The change as a step saw it: in its own context, or else in that of the steps that it can see."""
    found = _change_in(called[at])
    while not found:
        seen = visibility.get(called[at].id, "all")
        begin = _begin_of_turn(called, at)
        if seen == "none" or begin == 0:
            break
        at = begin - 1
        visible = called[_begin_of_turn(called, at) if seen == "latest" else 0 : begin]
        found = tuple(receipt for each in visible for receipt in _change_in(each))
        if seen != "latest":
            break
    return found


def _begin_of_turn(called: Sequence[StepResult], at: int) -> int:
    """The index of the first part of the turn that the result at this index belongs to."""
    while at > 0 and (called[at - 1].id, called[at - 1].iteration) == (called[at].id, called[at].iteration):
        at -= 1
    return at


def _change_in(result: StepResult) -> tuple[Receipt, ...]:
    """The files of the change that a step was sent, and its gaps, also those that are not a file."""
    of_change = (each for each in result.context if is_change(each.source))
    return tuple(each for each in of_change if each.path or not each.complete)


def _list_missing(results: Iterable[StepResult]) -> str | None:
    """What these steps should have been sent and were not, or only in part, as one line."""
    missing = describe_missing(receipt for result in results for receipt in result.context)
    return f"not sent: {missing}" if missing else None


def describe_missing(receipts: Iterable[Receipt]) -> str:
    """The incomplete ones of these in a few words, by reason: ``z.py (over budget); a.png, b.png (binary)``.

    If many files have the same reason, they are counted, and the largest are named.
    """
    groups: dict[str, list[Receipt]] = {}
    for receipt in dict.fromkeys(receipts):
        if not receipt.complete:
            groups.setdefault(reason_missing(receipt), []).append(receipt)
    partial = [reason for reason, group in groups.items() if group[0].sent_lines]
    if len(partial) > FEW:
        groups["in part"] = [receipt for reason in partial for receipt in groups.pop(reason)]
    described = []
    for reason, group in sorted(groups.items(), key=lambda each: -sum(map(_lost_lines, each[1]))):
        by_size = sorted(group, key=lambda each: (-_lost_lines(each), -each.bytes_omitted))
        names = list(dict.fromkeys(each.path or each.source for each in by_size))
        if len(names) <= FEW:
            described.append(f"{', '.join(names)} ({reason})")
            continue
        lines = sum(map(_lost_lines, group))
        size = counted(len(names), "file") + (f", {counted(lines, 'changed line')}" if lines else "")
        described.append(f"{size} (largest: {', '.join(names[:FEW])}): {reason}")
    return capped(described, 5, separator="; ")


FEW = 3
"""At most this many missing files with one reason are named; more are counted."""


def reason_missing(receipt: Receipt) -> str:
    """Why it was not sent: ``binary``, or ``in part: over budget`` if some of its lines were."""
    return ("in part: " if receipt.sent_lines else "") + (receipt.note or "not sent")


def _lost_lines(receipt: Receipt) -> int:
    return receipt.changed_lines - receipt.sent_lines


def _coverage(results: Sequence[StepResult]) -> float | None:
    """The share of the changed lines that was sent, without what is not missed: old text of deleted files."""
    receipts = [each for result in results for each in result.context if each.excluded is None]
    sent = sum(receipt.sent_lines for receipt in receipts)
    missing = sum(each.changed_lines - each.sent_lines for each in receipts if not each.complete)
    return sent / (sent + missing) if sent + missing else None
