"""How findings are grouped, and what of an answer stands beside them."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.records import SEVERITIES, Check, Finding, Opinion, Quote
from aethr.output import grouping
from tests.support import many

HIGH = Finding("high", "shop/pay.py", 3, "a refund of 0 pays out everything", "change", by=("review",))
LOW = Finding("low", "shop/pay.py", 9, "the name says nothing", "change", by=("review",))
ANSWER = """\
- [high] shop/pay.py:3 — a refund of `0` pays out **everything**
- [low] shop/pay.py:9 — the name says nothing

Review status: revise
"""


def test_findings_stand_by_file_and_files_by_their_worst_finding() -> None:
    found = [
        Finding("low", "a.py", 9, "1"),
        Finding("medium", "b.py", 2, "2"),
        Finding("low", "b.py", 1, "3"),
        Finding("high", "z.py", 5, "4"),
        Finding("high", None, None, "5"),
        Finding("medium", "gone.py", 1, "6", "nowhere"),
        Finding("medium", "a.py", 3, "7"),
        Finding("low", "z.py", 2, "8"),
    ]
    for seed in range(20):
        random.Random(seed).shuffle(found)
        groups = [(name, "".join(each.message for each in here)) for name, here in grouping.by_file(found)]
        assert groups == [("z.py", "48"), (None, "56"), ("a.py", "71"), ("b.py", "23")]


def test_findings_that_do_not_count_stand_by_why() -> None:
    check = Check("verify", "no", Quote("x", "git_diff", "a.py"))
    dropped = HIGH._replace(check=check, state="answered")
    disputed = HIGH._replace(check=check._replace(dropped=False))
    answered, resolved = LOW._replace(state="answered"), LOW._replace(state="resolved")
    new, known = HIGH._replace(state="new"), LOW._replace(state="open")
    groups = grouping.set_aside([resolved, new, answered, dropped, known, disputed])
    assert groups == (
        ("dropped by verify", (dropped,)),
        ("answered", (answered,)),
        ("resolved", (resolved,)),
    )
    assert grouping.set_aside([new, known, disputed]) == ()


def test_reviewers_are_named_where_there_are_several() -> None:
    assert grouping.name_reviewers([HIGH, LOW]) == frozenset()
    assert grouping.name_reviewers([HIGH, LOW._replace(by=("audit",))]) == {"review", "audit"}


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        f"## Findings\n\n### High\n\n{ANSWER}",
        ANSWER.replace("- [high] shop/pay.py:3 — ", "1. **High** `pay.py` (line 3): "),
        ANSWER.replace("0` pays out", "0`\n  pays out"),
        f"{ANSWER}\n---\n",
        "Review status: revise",
    ],
)
def test_an_answer_that_the_findings_repeat_leaves_nothing(answer: str) -> None:
    assert grouping.unsaid(answer, [HIGH, LOW], "revise") == ""


@pytest.mark.parametrize(
    "more",
    [
        "No test calls `refund` without an amount.",
        "- [high] shop/other.py:3 — a refund of 0 pays out everything",
        "- [medium] shop/pay.py:3 — a refund of 0 pays out everything",
        "- [high] shop/pay.py:3 — everything pays out a refund of 0",
        "Review status: pass",
        "## Notes\n\nNothing else.",
        "```\nrm -rf /\n```",
        "    refund(0)",
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ],
)
def test_text_that_no_finding_has_is_left(more: str) -> None:
    assert grouping.unsaid(f"{ANSWER}\n{more}\n", [HIGH, LOW], "revise").strip() == more.strip()
    assert grouping.unsaid(f"{more}\n\n{ANSWER}", [HIGH, LOW], "revise").strip() == more.strip()


def test_a_heading_stays_with_the_text_below_it() -> None:
    answer = f"# Review\n\n## Findings\n\n{ANSWER}\n## Notes\n\n### Tests\n\nThere are none.\n\n## End\n"
    left = grouping.unsaid(answer, [HIGH, LOW], "revise")
    assert left.replace("\n\n", "\n").split("\n") == ["# Review", "## Notes", "### Tests", "There are none."]


def test_a_heading_is_all_that_an_answer_without_findings_may_say() -> None:
    assert grouping.unsaid("# All good\n\nReview status: pass", [], "pass") == "# All good"


def test_the_pass_of_one_part_is_said_by_the_verdict_on_all() -> None:
    said = "Review status: pass"
    assert [grouping.unsaid(said, [HIGH], status) for status in ("revise", "pass", "none")] == ["", "", said]
    assert grouping.unsaid("Review status: revise", [HIGH], "pass") == "Review status: revise"


def test_quoted_code_is_said_by_evidence_and_suggestion() -> None:
    coded = HIGH._replace(evidence="    if x:\n        y", suggestion="    y")
    code = "      if x:\n          y\n\n  ```suggestion\n      y\n  ```\n"
    answer = ANSWER.replace("- [low]", f"{code}- [low]")
    assert grouping.unsaid(answer, [coded, LOW], "revise") == ""
    assert "```suggestion\n      y" in grouping.unsaid(answer, [HIGH, LOW], "revise")
    assert "z = 1" in grouping.unsaid(
        answer.replace("      y\n  ```", "      y\n      z = 1\n  ```"), [coded], "revise"
    )


def test_the_words_of_a_merged_finding_are_said_too() -> None:
    other = Opinion(("audit",), "medium", "0 is taken for the whole amount")
    answer = "- [medium] shop/pay.py:3 — 0 is taken for the whole amount\n\nReview status: revise"
    assert grouping.unsaid(answer, [HIGH], "revise") == answer.split("\n")[0]
    assert grouping.unsaid(answer, [HIGH._replace(also=(other,))], "revise") == ""


WORDS = st.lists(
    st.sampled_from(["a", "refund", "of", "0", "pays", "high", "no", "```", "\n", "- "]), max_size=20
)


@many(200)
@given(WORDS)
def test_only_words_of_a_finding_are_left_out(words: list[str]) -> None:
    answer = " ".join(words)
    left = grouping.unsaid(answer, [HIGH], "revise")
    gone = set(re.findall(r"\w+", answer)) - set(re.findall(r"\w+", left))
    assert gone <= {"high", *HIGH.message.split()}
    assert grouping.unsaid(left, [HIGH], "revise") == left


def test_every_severity_has_a_sign_of_its_own() -> None:
    assert list(grouping.SIGNS) == list(SEVERITIES)
    assert len(set(grouping.SIGNS.values())) == len(SEVERITIES)
