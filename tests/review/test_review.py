"""The review protocol: what an answer means, what the run's verdict is, what it exits with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aethr import review
from aethr.base.errors import ExitCode
from aethr.base.records import (
    Artifacts,
    FailOn,
    Finding,
    Gate,
    LoopResult,
    Receipt,
    Review,
    RunOutcome,
    StepResult,
)
from aethr.review import Verdict

CASES = sorted((Path(__file__).parents[1] / "data" / "review").glob("*.txt"))
HIGH = Finding("high", "a.py", 1, "wrong")
MEDIUM = Finding("medium", "a.py", 1, "no test")
LOW = Finding("low", "a.py", 1, "a remark")
REVIEW = frozenset({"review", "audit"})


def result(content: str, step: str = "review", **more: Any) -> StepResult:
    made = StepResult(step, "reviewer", "model", "m:x", 1, "0" * 64, content)
    return made._replace(**more)


def loop(outcome: str) -> LoopResult:
    return LoopResult("review", "implement", 3, outcome)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_golden_answers_are_read_as_stated(case: Path) -> None:
    text, expected = case.read_bytes().decode().split("=====\n")
    parsed = review.parse(text)
    shown = [parsed.status, *(f"{f.severity}|{f.path}|{f.line}|{f.message}" for f in parsed.findings)]
    assert shown == expected.splitlines()


def test_the_contract_itself_is_not_a_pass() -> None:
    assert review.parse(review.CONTRACT.replace("Review status: pass\n", "")).status != "pass"


@pytest.mark.parametrize(
    ("outcome", "said", "gate", "code"),
    [
        ("pass", Review("pass"), Gate(), ExitCode.OK),
        ("pass", Review("pass"), Gate("revise"), ExitCode.OK),
        ("pass", Review("pass", (LOW,)), Gate("low"), ExitCode.GATE),
        ("pass", Review("pass", (LOW,)), Gate("medium"), ExitCode.OK),
        ("revise", Review("revise", (HIGH,)), Gate(), ExitCode.OK),
        ("revise", Review("revise", (HIGH,)), Gate("revise"), ExitCode.GATE),
        ("revise", Review("revise", (HIGH,)), Gate("high"), ExitCode.GATE),
        ("revise", Review("revise", (MEDIUM,)), Gate("high"), ExitCode.OK),
        ("revise", Review("revise", (MEDIUM,)), Gate("revise"), ExitCode.GATE),
        ("revise", Review("revise", (LOW,), unexplained=True), Gate("high"), ExitCode.GATE),
        ("revise", Review("revise", unexplained=True), Gate("revise"), ExitCode.GATE),
        ("revise", Review("revise", (LOW,), unexplained=True), Gate(), ExitCode.OK),
        ("revise", Review("revise", (LOW,), unexplained=True), Gate(require_review=True), ExitCode.OK),
        ("revise", Review("revise", (HIGH,)), Gate(require_review=True), ExitCode.OK),
        ("not-reviewed", Review(reason="no verdict"), Gate(), ExitCode.OK),
        ("not-reviewed", Review(reason="no verdict"), Gate(require_review=True), ExitCode.NOT_REVIEWED),
        ("not-reviewed", Review(reason="no verdict"), Gate("low"), ExitCode.NOT_REVIEWED),
        ("incomplete", Review("pass", reason="not sent"), Gate("high"), ExitCode.NOT_REVIEWED),
        ("incomplete", Review("pass", (LOW,), reason="not sent"), Gate("low"), ExitCode.GATE),
        ("incomplete", Review("pass", reason="not sent"), Gate(require_review=True), ExitCode.NOT_REVIEWED),
        ("incomplete", Review("revise", (HIGH,), reason="not sent"), Gate("high"), ExitCode.GATE),
        ("incomplete", Review("none", (HIGH,), reason="no verdict"), Gate("high"), ExitCode.GATE),
        ("nothing-to-review", Review(reason="nothing changed"), Gate("high"), ExitCode.OK),
    ],
)
def test_the_exit_code_of_each_gate_and_verdict(
    outcome: RunOutcome, said: Review, gate: Gate, code: ExitCode
) -> None:
    assert review.exit_code(Verdict(said, outcome), (), gate) is code


@pytest.mark.parametrize(
    ("found", "unexplained", "ends", "fail_on", "why"),
    [
        ((HIGH,), False, "", "high", "1 high finding"),
        ((HIGH, MEDIUM, LOW, LOW), False, "", "high", "1 high finding"),
        ((HIGH, MEDIUM, MEDIUM, LOW), False, "", "revise", "1 high and 2 medium findings"),
        ((HIGH, HIGH, MEDIUM, LOW), False, "", "low", "2 high, 1 medium and 1 low finding"),
        ((LOW,), True, "", "high", "an unexplained revise"),
        ((), False, "stalled", "high", "a loop is unsatisfied"),
        ((HIGH,), True, "exhausted", "low", "1 high finding; an unexplained revise; a loop is unsatisfied"),
        ((MEDIUM,), False, "satisfied", "high", None),
        ((HIGH._replace(state="answered"), HIGH._replace(state="resolved")), False, "", "low", None),
        ((HIGH,), True, "exhausted", "never", None),
    ],
)
def test_a_closed_gate_says_why(
    found: tuple[Finding, ...], unexplained: bool, ends: str, fail_on: FailOn, why: str | None
) -> None:
    verdict = Verdict(Review("revise", found, unexplained=unexplained), "revise")
    loops, gate = [loop(ends)] if ends else [], Gate(fail_on)
    said = review.explain_gate(verdict, loops, gate)
    assert said == (f"gate closed (--fail-on {fail_on}): {why}" if why else "")
    assert (review.exit_code(verdict, loops, gate) is ExitCode.GATE) == bool(said)
    assert review.explain_gate(verdict, loops, gate, "mock") == ""


@pytest.mark.parametrize("outcome", ["exhausted", "stalled"])
def test_an_unsatisfied_loop_closes_every_gate_but_never(outcome: str) -> None:
    loops = [loop("satisfied"), loop(outcome)]
    for verdict in (Verdict(Review("pass"), "pass"), review.unreviewed("no verdict"), review.NO_REVIEWER):
        assert review.exit_code(verdict, loops, Gate("high")) is ExitCode.GATE
        assert review.exit_code(verdict, loops, Gate()) is ExitCode.OK


def test_a_workflow_with_only_loops_needs_no_review() -> None:
    loops = [loop("satisfied")]
    assert review.exit_code(review.NO_REVIEWER, loops, Gate("high")) is ExitCode.OK
    assert review.exit_code(review.NO_REVIEWER, loops, Gate("high", True)) is ExitCode.NOT_REVIEWED
    assert review.exit_code(review.unreviewed("moved"), loops, Gate("high")) is ExitCode.NOT_REVIEWED


def test_a_mock_answer_is_never_a_pass() -> None:
    verdict = review.judge([result("Review status: pass")], REVIEW, "mock")
    assert (verdict.outcome, verdict.review.status, verdict.review.findings) == ("not-reviewed", "none", ())
    assert "mock" in (verdict.review.reason or "")


@pytest.mark.parametrize("end", ["satisfied", "exhausted", "stalled"])
def test_the_loops_of_a_mock_do_not_close_the_gate(end: str) -> None:
    verdict = review.judge([result("Review status: pass")], REVIEW, "mock")
    assert review.exit_code(verdict, [loop(end)], Gate("high"), "mock") is ExitCode.NOT_REVIEWED


def test_a_cut_answer_is_never_a_pass() -> None:
    cut = result("Review status: pass", truncated=True, finish_reason="length")
    verdict = review.judge([cut], REVIEW, "live")
    assert (verdict.outcome, verdict.review.status) == ("not-reviewed", "none")
    assert verdict.review.reason == "the answer of step 'review' was cut (length)"


def test_the_worst_verdict_counts_and_findings_are_sorted() -> None:
    first = result("- [low] a.py:1 — a remark\nReview status: pass", "audit")
    second = result("- [high] a.py:1 — wrong\nReview status: revise")
    verdict = review.judge([first, second], REVIEW, "live")
    assert verdict.review.status == "revise"
    assert verdict.review.findings == (HIGH._replace(by=("review",)), LOW._replace(by=("audit",)))


PASS, REVISE, SILENT = "Review status: pass", "- [high] a.py:1 — wrong\nReview status: revise", "Hm."
CUT_OFF: dict[str, Any] = {"truncated": True, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([result(PASS), result(PASS, "audit")], "pass"),
        ([result(PASS), result(REVISE, "audit")], "revise"),
        ([result(PASS), result(SILENT, "audit")], "incomplete"),
        ([result(PASS), result(PASS, "audit", **CUT_OFF)], "incomplete"),
        ([result(REVISE), result(SILENT, "audit")], "incomplete"),
        ([result(REVISE, **CUT_OFF)], "incomplete"),
        ([result(REVISE, cut_prompt="1 of 2 tokens")], "incomplete"),
        ([result(SILENT, **CUT_OFF), result(SILENT, "audit")], "not-reviewed"),
        ([result("I cannot.", **CUT_OFF)], "not-reviewed"),
        ([result("", skipped="nothing changed")], "nothing-to-review"),
    ],
)
def test_the_first_outcome_that_applies_counts(answers: list[StepResult], outcome: RunOutcome) -> None:
    assert review.judge(answers, REVIEW, "live").outcome == outcome
    recorded = review.as_recorded(review.judge(answers, REVIEW, "scripted"), "scripted")
    assert recorded.outcome == (outcome if outcome == "nothing-to-review" else "not-reviewed")


@pytest.mark.parametrize("answers", [[result(PASS)], [result("", skipped="nothing changed")]])
def test_a_change_that_moved_was_not_reviewed(answers: list[StepResult]) -> None:
    verdict = review.judge(answers, REVIEW, "live", doubt="HEAD moved")
    assert verdict.review.reason == "HEAD moved"
    assert verdict.outcome == ("incomplete" if answers[0].skipped is None else "not-reviewed")


def test_only_the_latest_answer_of_a_reviewer_counts() -> None:
    results = [result("- [high] a.py:1 — wrong"), result("Review status: pass", iteration=2)]
    assert review.judge(results, REVIEW, "live") == Verdict(Review("pass"), "pass")


def test_a_review_before_the_last_edit_does_not_count() -> None:
    edit = result("done", "implement", artifacts=Artifacts(("a.py",)))
    verdict = review.judge([result("Review status: pass"), edit], REVIEW, "live")
    assert (verdict.outcome, verdict.review.reason) == (
        "not-reviewed",
        "the tree changed after the last review",
    )


def test_a_review_counts_after_a_step_without_edits() -> None:
    idle = result("nothing to do", "implement", artifacts=Artifacts())
    assert review.judge([result("Review status: pass"), idle], REVIEW, "live").outcome == "pass"


def test_a_pass_is_incomplete_if_files_were_not_sent() -> None:
    receipts = (
        Receipt("git_diff", "a.py", 10, changed_lines=3, sent_lines=3),
        Receipt("git_diff", "z.py", 0, 99, note="over budget", complete=False, changed_lines=1),
    )
    verdict = review.judge([result("Review status: pass", context=receipts)], REVIEW, "live")
    said = Review("pass", (), 0.75, "not sent: z.py (over budget)")
    assert verdict == Verdict(said, "incomplete")


CHANGED = Receipt("git_diff", "a.py", 10, changed_lines=3, sent_lines=3)
CUT = Receipt("git_diff", "z.py", 0, 99, note="over budget", complete=False, changed_lines=1)
GAP = Receipt("git_diff", None, 0, note="untracked: new.py", complete=False)
"""What a scope leaves out: not a file of the change, and still not seen."""


@pytest.mark.parametrize(
    ("seen", "read", "own", "reason"),
    [
        ("all", (CHANGED,), (), None),
        ("latest", (CHANGED,), (), None),
        ("summary", (CHANGED, CUT), (), "not sent: z.py (over budget)"),
        ("latest", (CHANGED, CUT), (), "not sent: z.py (over budget)"),
        ("none", (CHANGED,), (), "step 'review' saw nothing of the change"),
        ("none", (CHANGED, CUT), (CHANGED,), None),
        ("all", (CHANGED, GAP), (), "not sent: git_diff (untracked: new.py)"),
        ("latest", (GAP,), (), "not sent: git_diff (untracked: new.py)"),
        ("none", (GAP,), (), "step 'review' saw nothing of the change"),
        ("none", (CHANGED, GAP), (CHANGED,), None),
        ("all", (), (), None),
    ],
)
def test_a_review_covers_what_its_reviewer_saw(
    seen: Any, read: tuple[Receipt, ...], own: tuple[Receipt, ...], reason: str | None
) -> None:
    results = [result("It adds one.", "read", context=read), result("Review status: pass", context=own)]
    verdict = review.judge(results, REVIEW, "live", visibility={"review": seen})
    assert (verdict.review.status, verdict.review.reason) == ("pass", reason)
    assert verdict.outcome == ("incomplete" if reason else "pass")


def test_a_review_without_the_diff_of_an_edit_is_incomplete() -> None:
    edit = result("done", "implement", artifacts=Artifacts(("a.py",)))
    verdict = review.judge([edit, result("Review status: pass")], REVIEW, "live")
    assert verdict.review.reason == "step 'review' saw nothing of the change"


def test_what_a_long_loop_saw_is_found_quickly() -> None:
    results = [result("text", f"s{number}") for number in range(500)]
    results[0] = results[0]._replace(context=(CHANGED,))
    results.append(result("Review status: pass"))
    told: dict[str, Any] = {each.id: "latest" for each in results}
    assert review.judge(results, REVIEW, "live", visibility=told).outcome == "pass"
    assert review.judge(results, REVIEW, "live").outcome == "pass"


def test_a_long_list_of_files_not_sent_is_capped() -> None:
    receipts = tuple(Receipt("git_diff", f"{n}.py", 0, 1, note="x", complete=False) for n in range(7))
    verdict = review.judge([result("Review status: pass", context=receipts)], REVIEW, "live")
    assert verdict.review.reason == "not sent: 7 files (largest: 0.py, 1.py, 2.py): x"


def test_a_workflow_without_a_reviewing_step_is_named() -> None:
    assert review.judge([result("x", "plan")], frozenset(), "live") == review.NO_REVIEWER
    assert review.NO_REVIEWER.review.reason == "the workflow has no reviewing step"


def test_findings_are_compared_in_any_order() -> None:
    one = "- [high] a.py:1 — wrong\n- [low] b.py:2 — hm\nReview status: revise"
    other = "- [low] b.py:2 — hm\n- [high] a.py:1 — wrong\nReview status: revise"
    assert review.same_findings([review.parse(one)], [review.parse(other)])
    assert not review.same_findings([review.parse(one)], [review.parse(other.replace("hm", "other"))])


def test_the_text_of_a_deleted_file_is_not_missing_from_the_coverage() -> None:
    deleted = Receipt("git_diff", "old.py", 0, 900, note="deleted", changed_lines=90)
    sent = Receipt("git_diff", "a.py", 9, changed_lines=1, sent_lines=1)
    lost = Receipt("git_diff", "b.py", 0, 9, complete=False, changed_lines=3)
    for receipts, coverage in (((deleted, sent), 1.0), ((deleted, sent, lost), 0.25), ((deleted,), None)):
        verdict = review.judge([result("Review status: pass", context=receipts)], REVIEW, "live")
        assert verdict.review.coverage == coverage
