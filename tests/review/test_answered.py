"""What an answer covers: the same defect at the same place, never a more severe one, never another one."""

from __future__ import annotations

import random
from itertools import product

import pytest

from aethr import review
from aethr.base.records import (
    SEVERITIES,
    Answer,
    Check,
    Finding,
    Gate,
    PlaceId,
    Quote,
    Receipt,
    Review,
    Severity,
    StepResult,
)
from aethr.review import Verdict
from aethr.review.answered import covers, find_repeated, find_unused, settle
from aethr.review.identity import place_id
from aethr.review.panel import merge
from tests.review.test_panel import DIFFERENT, SAME

CODE = ("def total(prices):", "    return sum(prices) + 1")
HERE = place_id("app.py", CODE, 2)
MESSAGE = "the total is off by one"
ANSWER = Answer(HERE, "medium", MESSAGE, "the caller subtracts it")
FOUND = Finding("medium", "app.py", 2, MESSAGE, id=HERE)


def stays(_: str) -> bool:
    return False


def goes(_: str) -> bool:
    return True


def test_the_same_finding_is_covered_in_other_words_and_if_it_is_less_severe() -> None:
    assert covers(ANSWER, FOUND, stays)
    assert covers(ANSWER, FOUND._replace(message="The total is off by 1: it is one too high"), stays)
    assert covers(ANSWER, FOUND._replace(severity="low", line=9), stays)


def test_a_more_severe_one_another_place_and_no_place_are_not() -> None:
    assert not covers(ANSWER, FOUND._replace(severity="high"), stays)
    assert not covers(ANSWER, FOUND._replace(id=place_id("app.py", CODE, 1)), stays)
    assert not covers(ANSWER, FOUND._replace(id=None), stays)


def test_code_of_a_renamed_file_is_covered_and_a_copy_in_another_file_is_not() -> None:
    moved = FOUND._replace(id=place_id("shop/app.py", CODE, 2))
    assert covers(ANSWER, moved, goes)
    assert not covers(ANSWER, moved, stays)
    assert not covers(ANSWER, moved._replace(severity="high"), goes)


def test_an_answer_for_a_whole_file_does_not_move_and_needs_nearly_the_same_words() -> None:
    message = (
        "No test covers what parse_port does with an empty string, a negative number or a port over 65535"
    )
    whole = ANSWER._replace(id=place_id("app.py"), message=message)
    same = FOUND._replace(id=whole.id, line=None, message=f"Missing: {message.replace('or a', 'and a')}")
    assert covers(whole, same, stays)
    partly = "No test covers what parse_port does with an empty string"
    assert covers(ANSWER._replace(message=message), FOUND._replace(message=partly), stays)
    assert not covers(whole, same._replace(message=partly), stays)
    assert not covers(whole, same._replace(id=place_id("other.py")), goes)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_defect_on_the_same_lines_is_not_covered(one: str, other: str) -> None:
    for answered, found in ((one, other), (other, one)):
        assert not covers(ANSWER._replace(message=answered), FOUND._replace(message=found), stays)


def test_no_set_of_answers_covers_what_none_of_them_says() -> None:
    """Over every severity, place and message: each covered finding has an answer of its own."""
    seeded = random.Random(18)
    places = (HERE, place_id("app.py", CODE, 1), place_id("b.py", CODE, 2), place_id("app.py"))
    pairs = [*SAME, *DIFFERENT]
    for _ in range(60):
        messages = [text for pair in seeded.sample(pairs, 3) for text in pair]
        answers = [
            Answer(seeded.choice(places), seeded.choice(SEVERITIES), seeded.choice(messages), "r")
            for _ in range(4)
        ]
        found = [
            Finding(severity, "app.py", 10 * number, message, id=place)
            for severity, message, (number, place) in product(SEVERITIES, messages, enumerate(places, 1))
        ]
        [review] = settle([Review("revise", tuple(found))], answers, stays)
        for each in review.findings:
            if each.state == "answered":
                own = [a for a in answers if a.id == each.id and covers(a, each, stays)]
                assert any(SEVERITIES.index(a.severity) <= SEVERITIES.index(each.severity) for a in own)
                # Two that the panel calls different defects do not share an answer.
                assert not any({a.message, each.message} == set(pair) for a in own[:1] for pair in DIFFERENT)


# --- the verdict -------------------------------------------------------------------------------


def judge(*findings: str, answers: tuple[Answer, ...] = (ANSWER,), status: str = "revise") -> Verdict:
    content = "\n".join((*findings, "", f"Review status: {status}"))
    seen = Receipt("git_diff", "app.py", 99, changed_lines=2, sent_lines=2)
    places = (PlaceId("app.py", 2, None, HERE),)
    result = StepResult("review", "reviewer", "model", "m", 1, "", content, context=(seen,), places=places)
    return review.judge([result], frozenset({"review"}), "live", lambda _: True, answers=answers)


LINE = f"- [medium] app.py:2 — {MESSAGE}"


def test_a_revise_whose_findings_are_all_answered_is_a_pass() -> None:
    verdict = judge(LINE)
    assert verdict.outcome == verdict.review.status == "pass"
    assert [each.answer for each in verdict.review.findings if each.state == "answered"] == [
        "the caller subtracts it"
    ]
    assert verdict.review.open == verdict.review.dropped == ()
    for level in ("revise", "low", "medium", "high"):
        assert review.exit_code(verdict, (), Gate(level)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("severity", ["high", "medium", "low"])
def test_one_that_is_not_answered_still_gates(severity: Severity) -> None:
    other = f"- [{severity}] app.py:2 — prices may be empty, and nobody says what then"
    verdict = judge(LINE, other)
    assert [each.severity for each in verdict.review.open] == [severity]
    assert verdict.outcome == ("pass" if severity == "low" else "revise")
    assert review.exit_code(verdict, (), Gate(severity)) == 1


WIDE = place_id("app.py", CODE, 1, 2)


@pytest.mark.parametrize(
    ("other", "is_open"),
    [
        (f"- [medium] app.py:1-2 — {MESSAGE}", False),
        (f"- [low] app.py:1-2 — {MESSAGE}", False),
        (f"- [high] app.py:1-2 — {MESSAGE}", True),
        ("- [low] app.py:1-2 — prices may be empty, and nobody says what then", True),
    ],
)
def test_an_answer_covers_what_other_reviewers_say_of_the_same_defect_on_other_lines(
    other: str, is_open: bool
) -> None:
    verdict = judge_panel(LINE, other)
    assert bool(verdict.review.open) == is_open
    assert verdict.review.unused == ()


def test_an_answer_with_the_ids_of_all_reviewers_covers_what_one_of_them_says() -> None:
    other = f"- [medium] app.py:1-2 — {MESSAGE}"
    assert judge_panel(other).review.open
    assert not judge_panel(other, answers=(ANSWER._replace(also=(WIDE,)),)).review.open
    assert judge_panel(other, answers=(ANSWER._replace(also=(place_id("b.py", CODE, 1, 2),)),)).review.open


def judge_panel(*said: str, answers: tuple[Answer, ...] = (ANSWER,)) -> Verdict:
    """The verdict on reviewers who each say one of these."""
    seen = Receipt("git_diff", "app.py", 99, changed_lines=2, sent_lines=2)
    places = (PlaceId("app.py", 2, None, HERE), PlaceId("app.py", 1, 2, WIDE))
    results = [
        StepResult(
            f"review{number}", "reviewer", "model", "m", 1, "", f"{finding}\n\nReview status: revise",
            context=(seen,), places=places,
        )
        for number, finding in enumerate(said)
    ]  # fmt: skip
    steps = frozenset(each.id for each in results)
    return review.judge(results, steps, "live", lambda _: True, answers=answers)


def test_an_unexplained_revise_is_never_answered() -> None:
    assert judge(LINE, "- [severe-ish!] app.py:1 — bad").outcome == "revise"
    assert judge().outcome == "revise"


def test_an_answer_does_not_make_a_review_complete() -> None:
    result = StepResult("review", "reviewer", "model", "m", 1, "", f"{LINE}\n\nReview status: revise")
    cut = result._replace(truncated=True, places=(PlaceId("app.py", 2, None, HERE),))
    verdict = review.judge([cut], frozenset({"review"}), "live", lambda _: True, answers=(ANSWER,))
    assert verdict.outcome in ("incomplete", "not-reviewed")


def test_an_answer_that_covers_nothing_of_a_reviewed_file_is_told() -> None:
    gone = ANSWER._replace(id=place_id("app.py", CODE, 1))
    assert judge(LINE, answers=(ANSWER, gone)).review.unused == (gone.id,)
    assert judge(LINE, answers=(ANSWER._replace(id=place_id("b.py")),)).review.unused == ()
    partly = Receipt("git_diff", "app.py", 9, complete=False)
    whole = partly._replace(complete=True)
    assert list(find_unused((gone,), (), (whole, partly), stays)) == []
    assert list(find_unused((gone,), (), (whole._replace(excluded="lock file"),), stays)) == []
    renamed = whole._replace(path="new.py", old_path="app.py")
    assert list(find_unused((gone,), (), (renamed,), stays)) == [gone.id]


def test_of_one_defect_that_two_found_both_must_be_answered() -> None:
    answered = FOUND._replace(state="answered", answer="why", by=("a",))
    worse = FOUND._replace(severity="high", message=f"{MESSAGE}!", by=("b",))
    for pair in ([[answered], [worse]], [[worse], [answered]]):
        [one] = merge(pair)
        assert one.is_open
        assert one.answer is None
    low = FOUND._replace(severity="low", message=f"{MESSAGE}!", by=("b",))
    assert merge([[answered], [low]])[0].is_open
    [both] = merge([[answered], [low._replace(state="answered", answer="why")]])
    assert not both.is_open


def test_a_dropped_finding_stays_dropped() -> None:
    check = Check("verify", "no", Quote("x", "git_diff", "app.py", 2))
    [own] = settle([Review("revise", (FOUND._replace(check=check),))], (ANSWER,), stays)
    assert (len(own.dropped), len(own.open)) == (1, 0)


def test_answers_that_say_no_more_than_another_one() -> None:
    other = ANSWER._replace(message="prices may be empty, and nobody says what then")
    assert list(find_repeated((ANSWER, other))) == []
    assert list(find_repeated((ANSWER, other, ANSWER))) == [(2, 0)]
    assert list(find_repeated((ANSWER, ANSWER._replace(severity="high")))) == [(0, 1)]
