from __future__ import annotations

from collections.abc import Sequence

import pytest

from aethr import review
from aethr.base.records import CommandCheck, Repeat, StepResult
from aethr.engine import conditions
from aethr.engine.conditions import CONDITIONS, Ended

PASS = StepResult("review", "reviewer", "model", "openai:m", 1, "0" * 64, "DONE\n\nReview status: pass")
REVISE = PASS._replace(content="- [high] a.py:1 - wrong\n\nReview status: revise")
PASSED, FAILED = CommandCheck("make", True, "exit status 0"), CommandCheck("make", False, "exit status 2")
ALL = Repeat("review", 3, until_review_pass=True, until_contains="DONE", until_command_passes="make")


def hold(repeat: Repeat, answered: Sequence[StepResult], latest: Sequence[StepResult]) -> bool:
    reviews = [review.read(result) for result in answered]
    return conditions.hold(
        repeat, Ended(answered, latest, lambda: review.worst(reviews) if reviews else None)
    )


def test_repeat_has_exactly_the_fields_of_the_conditions() -> None:
    assert Repeat._fields == ("back_to", "max_iterations", *CONDITIONS)


def test_only_conditions_in_the_file_count() -> None:
    assert [row.key.name for row, _ in conditions.given(ALL)] == list(CONDITIONS)
    assert [value for _, value in conditions.given(Repeat("a", 2, until_contains="x"))] == ["x"]
    assert list(conditions.given(None)) == []


@pytest.mark.parametrize(
    ("result", "held"),
    [
        (PASS._replace(check=PASSED), True), (PASS._replace(check=FAILED), False), (PASS, False),
        (PASS._replace(check=PASSED, content="Review status: pass"), False),
        (REVISE._replace(check=PASSED, content=f"DONE {REVISE.content}"), False),
        (PASS._replace(check=PASSED, truncated=True), False),
    ],
)  # fmt: skip
def test_all_conditions_of_a_loop_must_hold(result: StepResult, held: bool) -> None:
    assert hold(ALL, [result], [result]) is held


def test_a_cut_answer_meets_no_condition_of_a_command() -> None:
    repeat = Repeat("review", 3, until_command_passes="make")
    cut = REVISE._replace(check=PASSED, truncated=True)
    assert not hold(repeat, [cut], [cut])


def test_a_condition_is_read_from_the_right_pass() -> None:
    latest = PASS._replace(content="", skipped="nothing changed", iteration=2)
    assert hold(ALL, [PASS._replace(check=FAILED)], [latest._replace(check=PASSED)])
    assert not hold(ALL, [PASS._replace(check=PASSED)], [latest._replace(check=FAILED)])
    assert hold(ALL, [], [latest._replace(check=PASSED)])
    assert not hold(ALL, [], [latest._replace(check=FAILED)])


def test_a_loop_is_described_on_one_line() -> None:
    repeat = ALL._replace(until_contains="two\nlines \x1b[31m")
    said = conditions.until(repeat)
    assert said.startswith("the review passes and the answer contains 'two")
    assert said.endswith("and `make` passes")
    assert said.isprintable()
