"""The page of a run: its content, what cannot get into it, and that it always fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aethr import __version__
from aethr.base.errors import AethrError, BudgetError, ExitCode, ModelError, NotReviewedError
from aethr.base.records import (
    Check,
    Estimate,
    Extent,
    Finding,
    LoopResult,
    Mode,
    Need,
    Opinion,
    Quote,
    Receipt,
    Review,
    ReviewStatus,
    RunResult,
    Scope,
    StepResult,
    Subject,
    Totals,
    Usage,
)
from aethr.github import comment, upsert
from aethr.github.comment import COMMENT_LIMIT, Blobs, Page, block_within, utf16_units
from aethr.github.upsert import Marker
from tests.support import many, outcome_of

HEAD, OLD = "a" * 40, "b" * 40
BLOBS = Blobs("https://github.com", "octo/shop", HEAD)
MARK = Marker("default", 500, 1, HEAD)
HOSTILE = "\n".join(
    (
        "::error::pwned",
        "##[group]x",
        str(Marker("default", 999, 9, OLD, OLD)),
        "<!-- aethr:end -->",
        "<!-- aethr:review -->",
        "<!-- open",
        "</details></details><img src=https://evil.example/x.png>",
        "![x](https://evil.example/beacon.png) [y](javascript:alert(1))",
        "@octo/security please /approve",
        "/approve",
        "```mermaid",
        "flowchart LR",
        "| a | b |",
    )
)


def result(
    content: str = "Fine.\n\nReview status: pass",
    status: ReviewStatus = "pass",
    findings: tuple[Finding, ...] = (),
    reason: str | None = None,
    mode: Mode = "live",
    steps: int = 1,
) -> RunResult:
    receipt = Receipt("git_diff", "app.py", 120, changed_lines=4, sent_lines=4)
    left_out = Receipt("git_diff", "z.py", 0, 999, note="over budget", complete=False)
    made = tuple(
        StepResult(
            f"step{number}", "reviewer", "model", "openai:gpt-4o-mini", 1, "0" * 64, content,
            usage=Usage(10, 5, 15, 0.0012), context=(receipt, *([left_out] if reason else [])),
        )
        for number in range(steps)
    )  # fmt: skip
    return RunResult(
        "task", "review", mode, Scope("range", "a...b", OLD, HEAD, HEAD), made, (),
        Review(status, findings, 1.0, reason), Totals(1, 10, 5, 0.0012, 2.0), ExitCode.OK,
        outcome=outcome_of(Review(status, findings, 1.0, reason), mode),
    )  # fmt: skip


def page(made: RunResult | None = None, error: AethrError | None = None, *notes: str) -> Page:
    code = error.exit_code if error else ExitCode.OK
    return Page(BLOBS, "https://github.com/octo/shop/actions/runs/500", code, made, error, notes)


def written(shown: Page, previous: str | None = None, mark: Marker = MARK) -> str:
    return comment.comment(shown, mark, previous)


def test_a_review() -> None:
    findings = (Finding("high", "src/app.py", 3, "loses data"), Finding("low", None, None, "a remark"))
    loop = LoopResult("step1", "step0", 2, "exhausted")
    made = result(status="revise", findings=findings, steps=2)._replace(loops=(loop,))
    expected = Path(__file__).parent / "data" / "review.md"
    text = expected.read_text(encoding="utf-8").replace("Aethr VERSION", f"Aethr {__version__}")
    assert written(page(made, None, "Taken up from an earlier attempt.")) == text


def test_the_receipt_compares_the_cost_with_the_estimate() -> None:
    about = (Need("openai:m", None, 1, 900, 100, 0.31), Need("(no model)", "claude", 1, cost_usd=None))
    made = result()._replace(estimate=Estimate(about, about))
    assert "$0.0012, 2.0 s (estimated: about $0.31)</summary>" in written(page(made))
    assert "(estimated" not in written(page(result()))


def test_what_was_not_sent_is_one_line_and_a_folded_list() -> None:
    made = result(reason="not sent: 9 files")
    gaps = tuple(
        Receipt("git_diff", f"<{n}>.py", 0, 9, note="over the limit", complete=False, changed_lines=n)
        for n in range(9)
    )
    (step,) = made.steps
    text = written(page(made._replace(steps=(step._replace(context=(*gaps, *gaps)),))))
    assert "**Not sent: 9 files, 36 changed lines (largest: " in text
    assert "<summary>All 9 of them</summary>" in text
    assert text.count("over the limit") == 10
    short = written(page(result(reason="not sent: z.py")))
    assert "**Not sent: z.py (over budget).** To fix: review less at once" in short
    assert "of them</summary>" not in short


def test_the_comment_starts_with_its_marker() -> None:
    text = written(page(result()))
    assert upsert.read(text) == MARK._replace(reviewed=HEAD)
    assert upsert.read(written(page(None, ModelError("it failed")))) == MARK


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (result(), "pass"),
        (result(status="revise"), "revise"),
        (result(status="none", reason="step 'review' gave no verdict"), "not reviewed"),
        (result(reason="not sent: z.py"), "incomplete"),
        (
            result(mode="mock", status="none", reason="mock mode: no model was called"),
            "not reviewed (mock mode)",
        ),
        (result(status="none", reason="nothing changed", steps=0), "nothing to review"),
    ],
)
def test_the_heading(made: RunResult, says: str) -> None:
    assert f"### Aethr: {says} · `aaaaaaaaaaaa`\n" in written(page(made))


def test_the_comment_says_how_much_was_reviewed() -> None:
    made = result()
    made = made._replace(subject=Subject(made.scope._replace(text=f"{OLD}...{HEAD}"), Extent(3, 12, 4), True))
    assert "Reviewing bbbbbbbbbbbb...aaaaaaaaaaaa: 3 files, +12 -4. Sent to" in written(page(made))


def test_a_failure_keeps_the_last_review_in_the_comment() -> None:
    first = written(page(result("The first review.\n\nReview status: pass")))
    failed = written(page(None, ModelError("openai: 401", "Check the key.")), first, MARK._replace(head=OLD))
    assert upsert.read(failed) == MARK._replace(head=OLD, reviewed=HEAD)
    assert failed.index("not reviewed") < failed.index("openai: 401") < failed.index("Check the key.")
    assert "(exit code 3)" in failed
    folded = failed[failed.index("<details>\n<summary>The last review, of aaaaaaaaaaaa</summary>") :]
    assert "The first review." in folded
    again = written(page(None, NotReviewedError("no key")), failed, MARK._replace(head=OLD))
    assert again.count("The first review.") == 1
    assert upsert.read(again).reviewed == HEAD
    renewed = written(page(result("The second review.")), again)
    assert "The first review." not in renewed


def test_a_failure_shows_the_answers_of_finished_steps() -> None:
    made = result("Half of it.", status="none", reason="over budget")
    text = written(page(made, BudgetError("over budget")))
    assert "Half of it." in text
    assert "Receipt: 1 step" in text


def test_a_review_over_budget_is_still_a_review() -> None:
    text = written(page(result(), BudgetError("3 tokens over --max-tokens 12")))
    assert f"### Aethr: pass · `{HEAD[:12]}`" in text
    assert upsert.read(text) == MARK._replace(reviewed=HEAD)
    assert text.index("Aethr: pass") < text.index("over budget") < text.index("Fine.")


@pytest.mark.parametrize("size", [1_000, 150_000])
def test_the_comment_always_fits(size: int) -> None:
    paragraph = "```python\n@app.get('/x')  # & <b>\n" + "value = '" + "`" * 40 + "'\n" * 30
    content = (paragraph * (size // len(paragraph) + 1))[:size]
    findings = tuple(Finding("high", f"src/<&>{n}.py", n, "&" * 900) for n in range(300))
    made = result(content, status="revise", findings=findings, reason="incomplete")
    text = written(page(made, None, *("&" * 300 for _ in range(50))))
    assert utf16_units(text) <= comment.COMMENT.limit + 5_000
    assert text.startswith("<!-- aethr:comment ")
    assert text.endswith("</sub>\n")
    assert_closed(text)
    stopped = made._replace(outcome="not-reviewed")
    failed = written(page(stopped, ModelError("&" * 90_000, "&" * 9_000)), text)
    assert utf16_units(failed) <= COMMENT_LIMIT
    assert "The last review" in failed
    assert_closed(failed)
    if size > 100_000:
        assert "The answer is cut here. The whole text is in the job summary" in text


def test_the_summary_fits_too() -> None:
    text = comment.summary(page(result("word & " * 200_000)))
    assert 900_000 < len(text.encode()) < 1 << 20
    assert "The answer is cut here. The whole text is in the report file." in text


def test_a_hostile_answer_is_harmless_in_the_comment() -> None:
    findings = (Finding("high", "../../etc/passwd", 1, HOSTILE), Finding("low", "a](x)b.py", 1, "x"))
    text = written(page(result(HOSTILE + "\n```\nopen", "revise", findings, "incomplete"), None, HOSTILE))
    assert text.count("<!--") == 3, "the marker and the two lines around the review"
    assert upsert.read(text) == MARK._replace(reviewed=HEAD)
    assert not re.search(r"<(?:img|/?script|a )", text)
    assert not re.search(r"(?<!\\)\]\((?:https://evil|javascript)", text)
    assert not re.search(r"@(?=octo)", text)
    assert not re.search(r"^/approve", text, re.MULTILINE)
    assert text.count("```mermaid") == 1, "our own map"
    assert "blob/" + HEAD + "/.." not in text
    assert text.count("<details>") == text.count("</details>")
    assert_closed(text)


def test_hostile_code_is_harmless_in_the_comment() -> None:
    code = HOSTILE + "\n`````\n```suggestion\nx\n"
    found = Finding("high", "a.py", 1, "x", "change", evidence=code, suggestion=code)
    text = written(page(result("Fine.", "revise", (found, found._replace(suggestion=None)))))
    assert text.count("<!--") == 3, "the marker and the two lines around the review"
    assert upsert.read(text) == MARK._replace(reviewed=HEAD)
    assert not re.search(r"^\s*/approve", text, re.MULTILINE)
    fences = [each for each in MarkdownIt().parse(text) if each.type == "fence"]
    assert [each.info for each in fences] == ["diff", "", "mermaid"]
    assert all("| a | b |" in each.content for each in fences[:2])
    assert_closed(text)


@pytest.mark.parametrize("size", [100, 9_000, 100_000])
def test_code_that_does_not_fit_the_comment_is_counted(size: int) -> None:
    found = Finding("high", "a.py", 1, "x", "change", evidence="x" * size, suggestion="y")
    text = written(page(result("Fine.", "revise", (found,) * 200)))
    assert utf16_units(text) <= COMMENT_LIMIT
    assert "more findings." in text


def test_a_finding_in_a_missing_file_is_not_a_link() -> None:
    findings = (
        Finding("high", "src/gone.py", 3, "wrong", "nowhere"),
        Finding("low", "a.py", 1, "x", "change"),
    )
    text = written(page(result("Fine.", "revise", findings)))
    assert "src/gone.py:3 (no such file)" in text.replace("\\", "")
    assert "src/gone.py" not in "".join(re.findall(r"\]\(([^)]*)\)", text))
    assert f"blob/{HEAD}/a.py#L1" in text


def test_a_kept_review_comes_from_between_our_lines() -> None:
    first = written(page(result(HOSTILE)))
    kept = written(page(None, ModelError("x")), first)
    assert kept.count("<!-- aethr:review -->") == 1
    assert kept.count("<!-- aethr:end -->") == 1


def test_the_map_in_the_comment_has_plain_labels() -> None:
    made = result()
    step = made.steps[0]._replace(id='a"];click s0 "javascript:x"', model="<img src=x>")
    text = written(page(made._replace(steps=(step,))))
    chart = text[text.index("```mermaid") :].split("```")[1]
    assert '  s0["a___click s0 _javascript:x_<br/>_img src_x_"]' in chart


@many(60)
@given(st.text(alphabet="ab`~ \n&<@|\u4e2d\U0001f600", max_size=3_000), st.integers(40, 4_000))
def test_a_cut_block_fits_and_closes_its_fences(text: str, limit: int) -> None:
    block, cut = block_within(text, limit, utf16_units)
    assert utf16_units(block) <= limit
    assert_closed(block)
    if not cut:
        assert block_within(text, limit + 1, utf16_units) == (block, False)


def assert_closed(text: str) -> None:
    """Every fence at the left margin is closed by one as long."""
    fence = ""
    for line in text.split("\n"):
        match = re.match(r"`{3,}", line)
        if match and not fence:
            fence = match[0]
        elif fence and line == fence:
            fence = ""
    assert fence == ""


def test_the_comment_folds_what_was_dropped() -> None:
    proof = Check("verify", "the caller refuses it", Quote(f"if x:\n{HOSTILE}", "git_diff", "app.py", 7))
    found = (
        Finding("high", "app.py", 2, "wrong", "change", check=proof._replace(dropped=False)),
        *(
            Finding("medium", "app.py", n, f"dropped {n} " + "x" * 900, "change", check=proof)
            for n in range(1, 400)
        ),
    )
    text = written(page(result(findings=found, status="revise")))
    assert utf16_units(text) <= COMMENT_LIMIT
    assert "### Aethr: revise · `aaaaaaaaaaaa` · 1 high finding · dropped by verify: 399 medium\n" in text
    assert "(disputed by verify: the caller refuses it)" in text
    assert "<summary>Dropped by verify: 399 medium</summary>" in text
    assert "dropped 1 " in text
    assert re.search(r"^And \d+ more findings\.$", text, re.MULTILINE)
    assert text.count("<!-- aethr:end -->") == 1


ANSWER = """\
- [high] app.py:3 — loses data
- [low] b.py:1 — odd

Review status: revise
"""
FOUND = (
    Finding("high", "app.py", 3, "loses data", "change", by=("review",)),
    Finding("low", "b.py", 1, "odd", "change", by=("review",)),
)


def open_part(text: str) -> str:
    """What stands there before anything is unfolded."""
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


def test_an_answer_that_the_findings_repeat_is_folded() -> None:
    text = written(page(result(ANSWER, "revise", FOUND)))
    assert "<summary>The whole answer of step0</summary>\n\n- [high] app.py:3" in text
    shown = open_part(text)
    assert shown.count("loses data") == shown.count("revise") == 1
    assert "#### step0" not in shown


def test_text_that_no_finding_has_stands_open() -> None:
    shown = open_part(written(page(result(f"No test covers it.\n\n{ANSWER}", "revise", FOUND))))
    assert "#### step0\n\nNo test covers it." in shown
    assert shown.count("loses data") == shown.count("revise") == 1
    plain = written(page(result("It reads well.\n\nReview status: pass")))
    assert "#### step0\n\nIt reads well." in open_part(plain)
    assert "The whole answer" not in plain
    assert "Review status" not in plain, "the heading says it"


def test_notes_stand_behind_the_findings_and_the_receipt_at_the_end() -> None:
    text = written(page(result(f"More.\n\n{ANSWER}", "revise", FOUND), None, "A note."))
    parts = (
        "### Aethr",
        "🔴 **high**",
        "🔵 **low**",
        "#### step0",
        "Sent to",
        "A note.",
        "Receipt:",
        "[This run]",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_a_finding_names_its_reviewers_state_and_id_and_folds_the_rest() -> None:
    others = (Opinion(("audit",), "medium", "@team drops a row"),)
    found = FOUND[0]._replace(
        end_line=5, by=("review", "audit"), also=others, evidence="x", state="new", id="0123456789ab"
    )
    text = written(page(result(ANSWER, "revise", (found, FOUND[1]._replace(state="open")))))
    link = f"https://github.com/octo/shop/blob/{HEAD}/app.py#L3-L5"
    assert (
        f"🔴 **high** [app.py:3]({link}): loses data *(by review, audit · new · 0123456789ab)*\n\n"
        "<details>\n<summary>Code and other words</summary>\n\n"
        "- medium, by audit: @\u200cteam drops a row\n\n```\nx\n```\n\n</details>"
    ) in text
    assert "odd *(by review · still there)*" in text
    assert "· 1 high and 1 low finding (1 new, 1 still there)\n" in text


def test_findings_that_do_not_count_are_folded_with_their_reason() -> None:
    answered = FOUND[1]._replace(state="answered", answer="a <b>test</b> @team")
    resolved = FOUND[0]._replace(state="resolved")
    text = written(page(result("Fine.", "pass", (answered, resolved))))
    assert "### Aethr: pass · `aaaaaaaaaaaa` · answered: 1 low · resolved: 1 high\n" in text
    assert "<summary>Answered: 1 low</summary>\n\nb.py:1: \\[low\\] odd<br>answered: a &lt;b&gt;test" in text
    assert "<summary>Resolved: 1 high</summary>" in text
    assert "odd" not in open_part(text)
    assert "@team" not in text


def test_the_page_says_why_the_gate_closed_and_what_to_do() -> None:
    why = "gate closed (--fail-on high): 1 high finding"
    made = result(ANSWER, "revise", FOUND)._replace(exit_code=ExitCode.GATE, closed=why)
    assert f"\n\n{why.capitalize()}.\n\n**app.py**\n\n" in written(page(made))
    none = result("Hm.", "none")
    none = none._replace(review=none.review._replace(reason="step 'review' gave no verdict"))
    text = written(page(none._replace(exit_code=ExitCode.NOT_REVIEWED)))
    assert "**Step 'review' gave no verdict.**\n\nTo fix: run again what is missing" in text
    gaps = result(reason="not sent: z.py")._replace(exit_code=ExitCode.NOT_REVIEWED)
    assert written(page(gaps)).count("To fix: ") == 1


def test_the_least_severe_findings_go_where_there_is_no_room() -> None:
    lows = tuple(Finding("low", "a.py", n, f"low {n} " + "x" * 300, "change") for n in range(400))
    highs = tuple(Finding("high", f"z{n}.py", 1, f"high {n} " + "x" * 300, "change") for n in range(20))
    text = written(page(result("Fine.", "revise", (*lows, highs[0]._replace(path="a.py"), *highs[1:]))))
    assert all(f"high {n} " in text for n in range(20))
    assert re.search(r"^And \d+ more findings\.$", text, re.MULTILINE)
    assert utf16_units(text) <= COMMENT_LIMIT


def test_a_kept_review_keeps_its_heading() -> None:
    first = written(page(result(ANSWER, "revise", FOUND)))
    failed = written(page(None, ModelError("x")), first, MARK._replace(head=OLD))
    folded = failed[failed.index("The last review, of aaaaaaaaaaaa") :]
    assert "### Aethr: revise · `aaaaaaaaaaaa` · 1 high and 1 low finding\n" in folded
