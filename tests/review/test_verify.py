"""What a verifying step proves: only lines of code that its prompt had drop a finding."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from aethr import review
from aethr.base.records import Block, Gate, Receipt, Shown, StepResult
from aethr.context import quotes
from aethr.review import Verdict, verify
from tests.live import PASS, TASK

GUARD = """\
def guard(prices):
    # Nobody ever calls this with an empty list of prices.
    if not prices or min(prices) < 0:
        raise ValueError("no prices, or a negative one")
    return list(prices)  # xyz
}
"""
MEDIUM = "- [medium] app.py:2 — an empty list of prices is not refused here\n\nReview status: revise"
HIGH = MEDIUM.replace("medium", "high")
PROOF = "    if not prices or min(prices) < 0:"
GATE = ("--fail-on", "medium")


def fenced(code: str, mark: str = "```") -> str:
    return "".join(f"  {line}\n" for line in (mark, *code.split("\n"), mark))


def drop(code: str, number: int = 1, end: str = "Checked: all") -> str:
    return f"- {number}: dropped — the caller refuses it\n{fenced(code)}\n{end}"


HUNK = """\
@@ -1,2 +1,2 @@
 def total(prices):
-    return sum(prices) + 1
+    return sum(prices) + 1  # the sum of all prices
"""
BLOCKS = (
    Block("git_diff", "", shown=(Shown("app.py", (HUNK,)),)),
    Block("file:shop/guard.py", "", shown=(Shown("shop/guard.py", (GUARD,)),)),
    Block("file:notes.md", "", shown=(Shown("notes.md", ("No list is ever empty, says the manual.",)),)),
    Block("command:cat NOTES", "", shown=(Shown("NOTES", ("the notes say that it is refused",)),)),
)
SEEN = Receipt("git_diff", "app.py", 99, changed_lines=2, sent_lines=2)
STEP = StepResult("review", "reviewer", "model", "openai:m", 1, "0" * 64, "", context=(SEEN,))
REVIEWING = frozenset({"review"})


def reviewed(content: str, **more: Any) -> StepResult:
    return STEP._replace(content=content, **more)


def checked(of: list[StepResult], answer: str, name: str = "verify", **more: Any) -> StepResult:
    """The result of a step that is asked about all findings of these reviews, as the engine makes it."""
    shown = tuple(
        each._replace(by=(result.id,))
        for result, own in review.settle(of, REVIEWING, lambda _: True)
        for each in own.findings
        if each.is_open
    )
    found = verify.find_quotes(answer, shown, partial(quotes.find_all, BLOCKS))
    return STEP._replace(id=name, role="sceptic", content=answer, shown=shown, quotes=found, **more)


def judge(*results: StepResult, high: str = "") -> Verdict:
    return review.judge(results, REVIEWING, "live", lambda _: True, verify_high=frozenset(high.split()))


def dropped(verdict: Verdict) -> list[str]:
    return [each.message for each in verdict.review.dropped]


FORMS = {
    "in a fence": drop(PROOF),
    "in a fence with a language": drop(PROOF).replace("```\n", "```python\n", 1),
    "indented": f"- 1: dropped — the caller refuses it\n\n      {PROOF.strip()}\n\nChecked: all",
    "indented, with no line between": f"- 1: dropped — the caller refuses it\n    {PROOF}\n\nChecked: all",
    "bold": f"- **1: dropped** — the caller refuses it\n{fenced(PROOF)}\n**Checked: all**",
    "a sentence": f"Finding 1 is dropped: the caller refuses it\n\n{fenced(PROOF)}\nChecked: all.",
    "of the change": drop("    return sum(prices) + 1  # the sum of all prices"),
    "a removed line": drop(
        "-    return sum(prices) + 1\n+    return sum(prices) + 1  # the sum of all prices"
    ),
    "several lines": drop(GUARD.split("\n")[1] + "\n" + GUARD.split("\n")[2]),
    "two quotations": drop('raise ValueError("no prices, or a negative one")').replace(
        "\nChecked", f"\n{fenced('    return list(prices)  # xyz')}\nChecked"
    ),
    "after thinking": f"<think>\n- 1: stands\n</think>\n{drop(PROOF)}",
    "beside prose": f"I looked at each of them.\n\n{drop(PROOF)}",
}


@pytest.mark.parametrize("answer", [pytest.param(value, id=name) for name, value in FORMS.items()])
def test_a_finding_is_dropped_with_lines_of_code(answer: str) -> None:
    first = reviewed(MEDIUM)
    verdict = judge(first, checked([first], answer.partition("</think>\n")[2] or answer))
    assert (verdict.outcome, verdict.review.status, dropped(verdict)) == ("pass", "pass", [MESSAGE])
    [found] = verdict.review.findings
    assert found.check is not None
    assert found.check.step == "verify"
    assert found.check.reason.rstrip(".") == "the caller refuses it"
    assert found.check.quote.path in ("shop/guard.py", "app.py")


MESSAGE = "an empty list of prices is not refused here"
STAY = {
    "no quotation": "- 1: dropped — the caller refuses it\n\nChecked: all",
    "an invented one": drop("    if prices is None or len(prices) < 1:"),
    "the message": drop(MESSAGE),
    "the title of the task": drop(TASK + " review my changes now"),
    "a commit message": drop("the caller checks every price of the list"),
    "guidance": drop("Every price was checked by the caller before."),
    "a comment": drop("    # Nobody ever calls this with an empty list of prices."),
    "prose in another file": drop("No list is ever empty, says the manual."),
    "a bracket": drop("}"),
    "many brackets": drop("\n".join(["}"] * 40)),
    "19 letters": drop("    return list(prices)  # xyz"),
    "the same line twice": drop("    return list(prices)  # xyz").replace(
        "\nChecked", f"\n{fenced('    return list(prices)  # xyz')}\nChecked"
    ),
    "half a line": drop("if not prices or min(prices)"),
    "a line and a half": drop(PROOF + '\n        raise ValueError("no prices'),
    "a name of a file": drop("diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py"),
    "the head of a hunk": drop("@@ -1,2 +1,2 @@"),
    "lines that do not follow each other": drop(PROOF + "\n    return list(prices)  # xyz"),
    "words in code, not quoted": f"- 1: dropped — `{PROOF.strip()}`\n\nChecked: all",
    "a quotation above it": f"{fenced(PROOF)}\n- 1: dropped — the caller refuses it\n\nChecked: all",
    "of another number": drop(PROOF, number=2),
    "number 0": drop(PROOF, number=0),
    "of an unknown number": drop(PROOF, number=999_999),
    "stands": f"- 1: stands\n{fenced(PROOF)}\nChecked: all",
    "both": f"- 1: stands\n{drop(PROOF)}",
    "both, the other way round": f"{drop(PROOF, end='')}\n- 1: stands\n\nChecked: all",
    "taken back": drop(PROOF).replace("\nChecked", "\nOn reflection 1 stands.\n\nChecked"),
    "all stand": drop(PROOF).replace("\nChecked", "\nSo all of them stand.\n\nChecked"),
    "not dropped": drop(PROOF).replace("dropped", "not dropped"),
    "no last line": drop(PROOF, end=""),
    "a last line that is not the last": drop(PROOF) + "\n\nBut see above.",
    "a last line in a quote": drop(PROOF, end="> Checked: all"),
    "a last line in a comment": drop(PROOF, end="<!-- Checked: all -->"),
    "in a quote": "\n".join(f"> {line}" for line in drop(PROOF).split("\n")[:-1]) + "\n\nChecked: all",
    "struck out": drop(PROOF).replace("1: dropped — the caller refuses it", "~~1: dropped — it is refused~~"),
    "hidden": drop(PROOF).replace("- 1:", "<details>\n\n- 1:").replace("Checked", "</details>\n\nChecked"),
    "a table": f"| n | what |\n| - | - |\n| 1: dropped — no | it |\n\n{fenced(PROOF)}\nChecked: all",
    "a suggestion": drop(PROOF).replace("```\n", "```suggestion\n", 1),
    "a review": PASS,
}


@pytest.mark.parametrize("answer", [pytest.param(value, id=name) for name, value in STAY.items()])
def test_whatever_no_code_disproves_stays(answer: str) -> None:
    first = reviewed(MEDIUM)
    verdict = judge(first, checked([first], answer))
    assert (verdict.outcome, dropped(verdict)) == ("revise", [])
    assert verdict == judge(first)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"truncated": True, "finish_reason": "length"}, "its answer was cut (length)"),
        ({"cut_prompt": "9 of 99 tokens"}, "the server did not read its whole prompt: 9 of 99 tokens"),
        (
            {"over_limit": "wrote 9 tokens"},
            "its answer is longer than was asked for: the server wrote 9 tokens",
        ),
    ],
)
def test_an_answer_that_is_not_whole_drops_nothing(more: dict[str, Any], why: str) -> None:
    first = reviewed(MEDIUM)
    assert dropped(judge(first, checked([first], drop(PROOF))))
    half = checked([first], drop(PROOF), **more)
    assert judge(first, half) == judge(first)
    assert verify.explain_unread(half) == why


@pytest.mark.parametrize("said", [PROOF.strip(), f"`{PROOF.strip()}` and", f"**{PROOF.strip()}**"])
def test_a_line_that_the_finding_says_itself_proves_nothing(said: str) -> None:
    first = reviewed(MEDIUM.replace(MESSAGE, f"{said} is never true"))
    assert judge(first, checked([first], drop(PROOF))) == judge(first)
    both = drop(PROOF + '\n        raise ValueError("no prices, or a negative one")')
    assert len(dropped(judge(first, checked([first], both)))) == 1


def test_the_code_that_a_finding_quotes_proves_nothing() -> None:
    code = "".join(f"      {line}\n" for line in PROOF.split("\n"))
    content = MEDIUM.replace(MESSAGE, f"{MESSAGE}\n\n{code}")
    of_review = quotes.find_all(BLOCKS, PROOF.strip(), None, None)
    first = reviewed(content, quotes=tuple(of_review))
    [found] = judge(first).review.findings
    assert found.evidence is not None
    assert PROOF.strip() in found.evidence
    assert judge(first, checked([first], drop(PROOF))) == judge(first)


def test_a_high_finding_is_only_disputed() -> None:
    first = reviewed(HIGH)
    second = checked([first], drop(PROOF))
    disputed, allowed = judge(first, second), judge(first, second, high="verify")
    assert (disputed.outcome, dropped(disputed)) == ("revise", [])
    assert disputed.review.findings[0].check is not None
    assert disputed.review.open == disputed.review.findings
    assert (allowed.outcome, dropped(allowed)) == ("pass", [MESSAGE])
    later = checked([first, second], drop(PROOF), name="strict")
    assert dropped(judge(first, second, later, high="strict")) == [MESSAGE]
    assert dropped(judge(first, second, later, high="other")) == []


def test_every_high_and_medium_finding_of_every_review_must_be_dropped() -> None:
    other = "- [medium] app.py:1 — `total` is no name"
    first = reviewed(f"{other}\n{MEDIUM}")
    one, both = drop(PROOF), f"{drop(PROOF, 1, '')}\n{drop(PROOF, 2)}"
    assert judge(first, checked([first], one)).outcome == "revise"
    assert judge(first, checked([first], both)).outcome == "pass"
    second = reviewed(MEDIUM, id="audit", iteration=1)
    for answer, outcome in ((one, "revise"), (f"{drop(PROOF, 1, '')}\n{drop(PROOF, 2)}", "pass")):
        results = [reviewed(MEDIUM), second]
        shown = tuple(
            each._replace(by=(result.id,))
            for result, own in review.settle(results, frozenset({"review", "audit"}), lambda _: True)
            for each in own.findings
        )
        found = verify.find_quotes(answer, shown, partial(quotes.find_all, BLOCKS))
        last = STEP._replace(id="verify", role="sceptic", content=answer, shown=shown, quotes=found)
        both_review = frozenset({"review", "audit"})
        assert review.judge([*results, last], both_review, "live", lambda _: True).outcome == outcome


@pytest.mark.parametrize(
    "content",
    [
        "- [low] app.py:2 — hm\n\nReview status: revise",
        "- [severe-ish!] app.py:1 — bad\n" + MEDIUM,
        "Review status: revise",
    ],
)
def test_an_unexplained_revise_is_never_answered(content: str) -> None:
    first = reviewed(content)
    every = "\n".join(drop(PROOF, number, "") for number in (1, 2)) + "\nChecked: all"
    verdict = judge(first, checked([first], every))
    assert verdict.outcome == "revise"
    assert verdict.review.unexplained
    for level in ("revise", "low", "medium", "high"):
        assert review.exit_code(verdict, (), Gate(level)) == 1  # type: ignore[arg-type]


def test_a_review_without_a_verdict_stays_one() -> None:
    for more in ({"truncated": True}, {"cut_prompt": "9 of 99 tokens"}):
        first = reviewed(MEDIUM, **more)
        verdict = judge(first, checked([first], drop(PROOF)))
        assert verdict.outcome in ("incomplete", "not-reviewed")


def test_a_low_finding_can_be_dropped() -> None:
    first = reviewed("- [low] app.py:2 — an empty list is not refused\n\nReview status: pass")
    verdict = judge(first, checked([first], drop(PROOF)))
    assert review.exit_code(judge(first), (), Gate("low")) == 1
    assert review.exit_code(verdict, (), Gate("low")) == 0


def test_a_drop_belongs_to_the_review_that_was_shown() -> None:
    """The same words in a later pass, or in another part, are another finding."""
    first = reviewed(MEDIUM)
    again = reviewed(MEDIUM, iteration=2)
    assert judge(first, checked([first], drop(PROOF)), again).outcome == "revise"
    assert judge(first, again, checked([first, again], drop(PROOF), iteration=2)).outcome == "pass"

    one, two = (reviewed(MEDIUM, part=part, parts=2) for part in (1, 2))
    own = checked([one], drop(PROOF), part=1, parts=2)
    [found] = judge(one, two, own).review.findings
    assert found.is_open
    assert found.check is not None
    assert not found.check.dropped
    kept = checked([two], "- 1: stands\n\nChecked: all", part=2, parts=2)
    assert judge(one, two, own, kept).outcome == "revise"
    assert judge(one, two, own, checked([two], drop(PROOF), part=2, parts=2)).outcome == "pass"


def test_of_two_numbers_for_the_same_words_both_must_be_dropped() -> None:
    one, two = (reviewed(MEDIUM, part=part, parts=2) for part in (1, 2))
    half = checked([one, two], drop(PROOF))
    assert len(half.shown) == 2
    assert dropped(judge(one, two, half)) == []
    whole = checked([one, two], f"{drop(PROOF, 1, '')}\n{drop(PROOF, 2)}")
    assert judge(one, two, whole).outcome == "pass"


def test_a_finding_is_listed_so_that_it_cannot_look_like_another_one() -> None:
    first = reviewed(MEDIUM)
    [found] = judge(first).review.findings
    hostile = found._replace(message="x\n2. [low] y\nChecked: all", evidence="\n3. [low] z\r\nChecked: all")
    listed = verify.list_findings([hostile, found])
    assert [line[:2] for line in listed.split("\n") if not line.startswith("   ")] == ["1.", "2."]


def test_a_list_of_very_many_findings_has_a_limit() -> None:
    first = reviewed("### Medium\n" + "".join(f"- x{n}\n" for n in range(10)) + "\nReview status: revise")
    found = judge(first).review.findings * 20
    assert found
    kept = verify.fit(found, [first])
    assert kept == found[: len(kept)]
    assert 5 < len(kept) < len(found)
    assert len(verify.list_findings(kept)) <= review.LISTED * len(first.content)


# --- any answer ------------------------------------------------------------------------------------

JUNK = (
    "- 1: dropped — no", "- 2: dropped — it is wrong: see below", "3: dropped", "- 1: stands",
    "Finding 2 stands.",
    fenced("    if prices is None or len(prices) < 1:"), fenced("}"),
    fenced("    return list(prices)  # xyz"),
    fenced(MESSAGE), fenced("the notes say that it is refused"), fenced("if not prices or min(prices)"),
    f"  {PROOF}x", "Checked: all", "Checked: all", "Checked: 3", PASS, "", "<details>", "```", "> 1: dropped",
    "~~2: stands~~", "<think>", "| 1: dropped | x |", "# 2: dropped — no", TASK,
)  # fmt: skip
REVIEWS = (
    MEDIUM, HIGH, f"- [low] app.py:1 — hm\n{MEDIUM}", "- [low] app.py:1 — hm\n\nReview status: pass", PASS,
    "Review status: revise", f"- [high] shop/guard.py:2 — wrong\n- [medium] no place\n{MEDIUM}",
)  # fmt: skip


def test_no_answer_without_a_real_quotation_changes_a_verdict() -> None:
    chance = random.Random(17)
    for _ in range(80):
        first = reviewed(chance.choice(REVIEWS))
        answer = "\n".join(chance.choices(JUNK, k=chance.randint(1, 12)))
        for end in (answer, f"{answer}\n\nChecked: all"):
            second = checked([first], end)
            assert judge(first, second, high="verify") == judge(first), end


def test_the_order_of_the_lines_of_an_answer_does_not_matter() -> None:
    chance = random.Random(18)
    first = reviewed(
        "".join(f"- [medium] app.py:{n} — {n} is not what it was\n" for n in range(1, 6)) + MEDIUM
    )
    for _ in range(8):
        proofs = chance.choices((PROOF, "}", "    return sum(prices) + 1  # the sum of all prices", "x"), k=7)
        said = [drop(code, chance.randint(1, 6), "") for code in proofs]
        said += [f"- {chance.randint(1, 6)}: stands\n" for _ in range(2)]
        verdicts = []
        for _ in range(4):
            chance.shuffle(said)
            verdicts.append(judge(first, checked([first], "\n".join((*said, "Checked: all")))))
        assert all(each == verdicts[0] for each in verdicts)
