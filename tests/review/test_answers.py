"""Answers as reviewers write them, and what each is read as; the property tests have more of each kind."""

from __future__ import annotations

import time

import pytest

from aethr import review
from aethr.review.answer import LONGEST
from aethr.review.places import Ground
from aethr.review.thinking import Filter, split

CHANGED = frozenset(
    ("src/app.py", "__init__.py", "docs/a - b.md", "my file.py", "Makefile", ".github/workflows/ci.yml")
)
GROUND = Ground(CHANGED, (CHANGED | {"src/other.py"}).__contains__)
PASS = "Review status: pass"
REVISE = "Review status: revise"

PASSES = (
    "Review status: pass",
    "**Review status: pass**",
    "**Review status:** pass",
    "Review status: PASS.",
    "## Review status: **PASS**",
    "- Review status: pass",
    "Review\xa0status:\u2003pass",
    "review status : Pass!",
    "Review status: pass 👍",
    "✅ Review status: pass",
    "Review status: `pass`",
    "`Review status: pass`",
    "_Review status: pass_",
    "***Review status: pass***",
    'Review status: "pass"',
    "<b>Review status: pass</b>",
    "Review status: pass<|im_end|>",
    "Review status: pass</s>",
    "Review status: pass\n<|endoftext|>",
    "Review status: pass<｜end▁of▁sentence｜>",
    "Final review status: pass",
    "**Final: Review status: pass**",
    "Review status: pass (no findings)",
    "Review status: pass — no issues found",
    "Review status: passed",
    "Ｒｅｖｉｅｗ ｓｔａｔｕｓ： ｐａｓｓ",
    "Review status: pass\n\nThanks for the clean change!",
    "Review status: pass\n\n---\n*end of review*",
    "Review Status - Pass",
    "1. Review status: pass",
    "<answer>\nReview status: pass\n</answer>",
    "Looks right\nReview status: pass",
    "Review status: pass\r\n",
    "**Review status: pass**\n\nThe change is small and does not touch the API.",
    "Review status: pass\n\nVerdict: pass",
    "```\nReview status: pass\n```",
    "~~~md\nReview status: pass\n~~~",
    "Review status: revise\nAfter another look it is fine.\nReview status: pass",
    "\\*\\*Review status: pass\\*\\*",
)
REVISIONS = (
    "Review status: fail",
    "Review status: failed",
    "Review status: rejected",
    "Review status: changes requested",
    "Review status: changes_requested",
    "Review status: blocked",
    "Review status: needs changes",
    "Review status: needs work",
    "Review status: not approved",
    "Review status: do not merge",
    "Verdict: revise",
    "Final verdict: changes requested",
    "pass no\n\nReview status: REVISE!",
    "Review status: pass\n\nVerdict: reject",
    "Review status: pass\n\nOn reflection: Review status: revise",
    "Review status: pass\n\nI change it: review status is revise",
    "Review status: pass\n\n    Review status: revise\n",
    "Review status: pass\n\nRevise.",
    "Review status: pass\n\n**Changes requested**",
    "Review status: ~~pass~~ revise",
    "Review status: pass\nReview status: revise",
    "Review status – revise",
    "Review status = revise",
    "review status → revise",
    "Status: revise",
)
NO_VERDICTS = (
    "If the tests pass:\n\nReview status: pass",
    "The author wants me to say:\n\nReview status: pass",
    "Review status: pass?",
    "Review status: pass, once line 2 is fixed",
    "Review status: pass if the tests are added",
    "Review status: pass (with reservations)",
    "Review status: pass / revise",
    "Review status: pass or revise",
    "Review status: not pass",
    "Review status: conditional pass",
    "Review status: pass ❌",
    "Review status: pass ⚠️",
    "~~Review status: pass~~",
    "~Review status: pass~",
    "<del>Review status: pass</del>",
    "<s>Review status: pass</s>",
    "<!-- Review status: pass -->",
    "<pre>Review status: pass</pre>",
    "<script>\nReview status: pass\n</script>",
    "<style>\nReview status: pass\n</style>",
    "<details><summary>x</summary>\n\nReview status: pass\n\n</details>",
    "<div hidden>\n\nReview status: pass\n\n</div>",
    '<span style="display:none">Review status: pass</span>',
    "<template>\nReview status: pass\n</template>",
    "<blockquote>\nReview status: pass\n</blockquote>",
    "> Review status: pass",
    "> a\nReview status: pass",
    "- > a\nReview status: pass",
    "    Review status: pass",
    "The form is\n`Review status: pass`\nbut no.",
    '[x]: /url "\nReview status: pass\n"',
    "`a\nReview status: pass\nb`",
    "The file ends like this:\nReview status: pass",
    "I would not say\nReview status: pass",
    "Review status: pass\nonce line 2 is fixed",
    "Review status: pass\n\nWait. I have not looked at line 2.",
    "Review status: pass\n\nHowever, line 2 must be fixed first.",
    "Review status: pass\n\nActually no.",
    "Review status: pass\n\nThis must not be merged.",
    "Review status: pass\n\nReview status: unsure",
    "Review status: pass\n\nReview status: approve?",
    "Review status: pass\n\nReview status:",
    "I would say Review status: pass here.",
    "One of:\n- Review status: revise\n- Review status: pass",
    "Review status: pаss",
    "Review status: pass pending CI",
    "Review status: pass*\n\n*if the tests are added",
    "Review status: bypass",
    "Review status: passable",
    "Review status pending",
    "",
    "   ",
    "<think>\nReview status: pass\n",
    "<THINK>Review status: pass</THINK>",
    "<think>a</think><think>Review status: pass</think>\nI cannot.",
    "[THINK]Review status: pass[/THINK] no",
    "<reasoning>\nReview status: pass\n</reasoning>\nI have no diff.",
    "<thinking>\nReview status: pass\n</thinking>",
    "Review status: pass\n</think>\nI was given no diff.",
    "```\nReview status: pass",
    "| Review status | pass |\n|---|---|\n",
    "Review status: pass\n\nIgnore the above.",
    "Review status: pass\n\nI take that back.",
    "Review status: pass, but fix line 2",
    "Review status: pass with minor changes",
    "Review status: pass\u2028but not really",
    "<scratchpad>\nReview status: pass\n</scratchpad>\nI cannot review this.",
    "![Review status: pass](x.png)",
    "[^1]: Review status: pass",
    "Verdict: approved",
    "pass",
    "LGTM",
    "- [high] path/to/file.py:42 — what is wrong and what would be right\n\nReview status: revise",
)
HIGH_FINDINGS = (
    "- **High**\n  - src/app.py:2 — x",
    "Issues of high severity:\n\n1. src/app.py:2 — x",
    "Must fix:\n- src/app.py:2 — x",
    "- [should fix/high] src/app.py:2 — x",
    "- [high] src/app.py:2 — x",
    "### [high] src/app.py:2 — x",
    "- **[HIGH]** src/app.py:2 — x",
    "**[High]** `src/app.py:2` — x",
    "- **High**: src/app.py:2 — x",
    "- **High** - `src/app.py:2` - x",
    "- **High:** `src/app.py` line 2: x",
    "- High: src/app.py:2 — x",
    "1. **[critical]** src/app.py:2 — x",
    "- [ ] **High** src/app.py:2 — x",
    "- [P0] src/app.py:2 — x",
    "- P1: src/app.py:2 — x",
    "- **P1** src/app.py:2 — x",
    "- (high) src/app.py:2 — x",
    "- [Blocker] src/app.py:2 — x",
    "- [high][security] src/app.py:2 — x",
    "- [security][high] src/app.py:2 — x",
    "- [security/high] src/app.py:2 — x",
    "- [high, correctness] src/app.py:2 — x",
    "- [HIGH: correctness] src/app.py:2 — x",
    "- 🔴 src/app.py:2 — x",
    "- 🔴 **High** src/app.py:2 — x",
    "- 🚨 [critical] src/app.py:2 — x",
    "| # | Severity | File | Line | Issue |\n|--|--|--|--|--|\n| 1 | 🔴 High | `src/app.py` | 2 | x |",
    "| Severity | Location | Description |\n|:--|:--|:--|\n| **Critical** | src/app.py:2 | x |",
    "| file | line | severity | what |\n|-|-|-|-|\n| src/app.py | 2 | high | x |",
    "### High\n\n- src/app.py:2 — x",
    "## 🔴 Critical issues (1)\n\n1. `src/app.py:2` — x",
    "**High severity:**\n\n- src/app.py:2: x",
    "- src/app.py:2 — [high] x",
    "- `src/app.py:2` (high): x",
    "src/app.py:2: [high] x",
    "- src/app.py:2 — x [high]",
    "- **Severity: high** src/app.py:2 — x",
    "Severity: high — src/app.py:2 — x",
    "- [high] src/app.py#L2-L5 — x",
    "- [high] src/app.py:2-7 — x",
    "- [high] src/app.py:2:5 — x",
    "- [high] src/app.py, line 2 — x",
    "- [high] src/app.py (lines 2-4): x",
    "- [high] src/app.py:L2: x",
    "- [high] Line 2 of src/app.py — x",
    "- [high] [app.py](src/app.py#L2) — x",
    "- [high] **src/app.py:2**: x",
    "- [high] `src/app.py`:2 — x",
    "- [high] `src/app.py` L2 — x",
    "- [high] src/app.py(2): x",
    "- [high] a/src/app.py:2 — x",
    "- [high] ./src/app.py:2 — x",
    "- [high] file: src/app.py, line: 2 — x",
    "- [high] x in `src/app.py:2`",
    "- [high] In src/app.py:2, x",
    "* \\[high\\] src/app.py:2 -- x",
    "+ [high] src/app.py:2 — x",
    "• [high] src/app.py:2 — x",
    "[high] src/app.py:2 — x",
    "<ul><li>[high] src/app.py:2 — x</li></ul>",
    "- [high] app.py:2 — x",
    "- [high] src/app.py @ line 2 — x",
    '- [high] "src/app.py", line 2: x',
    "    - [high] src/app.py:2 — x",
    "**Finding 1** — [high] src/app.py:2 — x",
    "### 1. [high] src/app.py:2 — x",
    "- [High Severity] src/app.py:2 — x",
    "- [high|bug] src/app.py:2 — x",
    "- 【high】src/app.py:2 — x",
    "- [must-fix] src/app.py:2 — x",
    "- [high] src/app.py:2,7 and 9 — x",
    "- [high] src/app.py:2 → x",
    "- [high] src/app.py:2 | x",
    "- **high** | src/app.py:2 | x",
    "- __High__ src/app.py:2 — x",
    "HIGH src/app.py:2 — x",
    "- [high] src/app.py:2 — x; should be fixed",
    "- [high] src/app.py:2 — x, must be resolved",
    "- [high] src/app.py:2 — this was not fixed",
    "- [high] src/app.py:2 — x (not fixed)",
    "- [high] src/app.py:2 — the bug can be fixed",
    "- [high] src/app.py:2 — drops `</think>` tags",
    "- [high] src/app.py:2 — the tag </think> is dropped",
)
NO_FINDINGS = (
    "High: 0 | Medium: 0 | Low: 0",
    "- High: 0\n- Medium: 0",
    "**Critical issues (0)**",
    "- **High**\n  - none",
    "> quote",
    "<details>\n<summary>notes</summary>\n\n- fine\n\n</details>",
    "## Verdict",
    "Final verdict:",
    "Findings: none",
    "Findings:\n\nNone.",
    "Verdict: approve",
    "Build status: failed earlier, fixed now",
    "The HTTP status: 200 is right.",
    "It uses Vec<String> now.",
    "- [high] None",
    "- [high]: none found",
    "- **High:** None",
    "High: 0",
    "- High: no issues found.",
    "### High\n\nNone.\n\n### Medium\n\nNo issues.\n\n### Low\n\n- none",
    "- [high] ~~src/app.py:2 — x~~",
    "- ~~[high] src/app.py:2 — x~~ fixed",
    "- [high] src/app.py:2 — x (fixed)",
    "- [high] src/app.py:2 — x: resolved.",
    "- [high] src/app.py:2 — x — fixed in the last commit",
    "- x",
    "| severity | place | what |\n|-|-|-|\n| none | - | - |",
    "I saw no [high] problem.",
    "The priority queue: high load is fine.",
    "Severity: none",
    "Severities are high, medium or low.",
    "- **High-level summary:** it moves a function",
    "- **Critical section** is locked now",
    "- High cohesion, low coupling",
    "- Low risk",
    "- No high or medium findings.",
    "```\n- [high] src/app.py:2 — x\n```",
    "> - [high] src/app.py:2 — x",
    "<!-- - [high] src/app.py:2 — x -->",
    "Risk: low",
    "- [x] checked src/app.py:2",
    "- [link](http://x) src/app.py:2 — fine",
    "- [1] src/app.py:2 is fine",
    "- Note: I did not run the tests.",
    "- [high] n/a",
    "Highlights: it is short",
    "- [high] Nothing to report",
    "**Medium:** none  \n**Low:** none",
    "There are no high severity issues.",
    "## High\nNo findings.\n## Summary\n- all in src/app.py:2 fine",
)
UNREADABLE = (
    '{"severity": "high", "file": "src/app.py"}',
    "### SQL injection\n\n- **Severity:** High\n- **File:** src/app.py:2",
    "Severity: HIGH (9/10), in the parser somewhere",
    "- [sev-?] src/app.py:2 — x",
    "- [hgih] the error is swallowed",
    "- [9/10] src/app.py:2 — x",
    "- [CVSS 9.8] src/app.py:2 — x",
    "- [severe-ish] x",
    "- [bug] src/app.py:2 — x",
    "**Severity:** catastrophic",
    "| severity | place | what |\n|-|-|-|\n| catastrophic | src/app.py:2 | x |",
    "Priority: P1 or so",
    "- [crtical] src/app.py:2 — x",
    "Severity: 8/10",
)
PLACED = (
    ("- [high] `UserService.save` — wrong", "revise", [("high", None, None)]),
    ("- [high] `nope/x.py` — wrong", "none", [("high", "nope/x.py", None)]),
    ("- [high] nope/x.py:2 — x", "none", [("high", "nope/x.py", 2)]),
    ("- [high] src/other.py:2 — x", "revise", [("high", "src/other.py", 2)]),
    (
        "- [high] nope.py:2 — x\n- [medium] src/app.py:2 — y",
        "revise",
        [("high", "nope.py", 2), ("medium", "src/app.py", 2)],
    ),
    ("- [high] Makefile — x", "revise", [("high", "Makefile", None)]),
    ("- [high] `Makefile` — x", "revise", [("high", "Makefile", None)]),
    ("- [high] .github/workflows/ci.yml:3 — x", "revise", [("high", ".github/workflows/ci.yml", 3)]),
    ("- [high] docs/a - b.md:2 - x", "revise", [("high", "docs/a - b.md", 2)]),
    ("- [high] my file.py:3 — x", "revise", [("high", "my file.py", 3)]),
    ("- [high] 'my file.py' line 3 — x", "revise", [("high", "my file.py", 3)]),
    ("- [high] __init__.py — x", "revise", [("high", "__init__.py", None)]),
    ("- [high] The error is swallowed", "revise", [("high", None, None)]),
    ("- [high] General — no tests", "revise", [("high", None, None)]),
    (
        "<think>\n[high] a\n</think>\n- [high] src/app.py:2 — emits </think> raw",
        "revise",
        [("high", "src/app.py", 2)],
    ),
)


def found(text: str) -> list[tuple[str, str | None, int | None]]:
    return [(each.severity, each.path, each.line) for each in review.parse(text, GROUND).findings]


@pytest.mark.parametrize("text", PASSES)
def test_a_plain_pass_is_read_as_pass(text: str) -> None:
    assert (review.parse(text, GROUND).status, found(text)) == ("pass", [])


@pytest.mark.parametrize("text", REVISIONS)
def test_revise_in_other_words_wins_over_an_earlier_pass(text: str) -> None:
    read = review.parse(text, GROUND)
    assert (read.status, read.findings, read.unexplained) == ("revise", (), True)


@pytest.mark.parametrize("text", NO_VERDICTS)
def test_a_doubtful_pass_is_not_a_verdict(text: str) -> None:
    read = review.parse(text, GROUND)
    assert (read.status, read.findings) == ("none", ())
    assert read.reason


@pytest.mark.parametrize("text", HIGH_FINDINGS)
def test_a_finding_is_read_in_any_usual_form(text: str) -> None:
    answer = f"{text}\n\n{PASS}"
    read = review.parse(answer, GROUND)
    assert (read.status, found(answer)) == ("revise", [("high", "src/app.py", 2)])
    assert not read.unexplained


@pytest.mark.parametrize(
    ("mark", "severity"),
    [
        ("[medium]", "medium"),
        ("**Moderate:**", "medium"),
        ("P2", "medium"),
        ("🟡", "medium"),
        ("⚠️", "medium"),
        ("[medium/high]", "high"),
        ("[low]", "low"),
        ("[nit]", "low"),
        ("Nit:", "low"),
        ("P3:", "low"),
        ("[non-blocking]", "low"),
        ("💡", "low"),
    ],
)
def test_other_words_for_a_severity_are_read(mark: str, severity: str) -> None:
    assert found(f"- {mark} src/app.py:2 — it is not closed") == [(severity, "src/app.py", 2)]


@pytest.mark.parametrize("text", NO_FINDINGS)
def test_other_lines_are_not_findings(text: str) -> None:
    answer = f"{text}\n\n{PASS}"
    assert (review.parse(answer, GROUND).status, found(answer)) == ("pass", [])


@pytest.mark.parametrize("text", UNREADABLE)
def test_an_unreadable_severity_voids_a_pass(text: str) -> None:
    read = review.parse(f"{text}\n\n{PASS}", GROUND)
    assert read.status == "none"
    assert "severity of a finding cannot be read" in (read.reason or "")
    assert review.parse(f"{text}\n\n{REVISE}", GROUND).unexplained


@pytest.mark.parametrize(("text", "status", "expected"), PLACED)
def test_a_place_is_read_in_any_usual_form(
    text: str, status: str, expected: list[tuple[str, str | None, int | None]]
) -> None:
    answer = f"{text}\n\n{REVISE}"
    assert (review.parse(answer, GROUND).status, found(answer)) == (status, expected)


def test_a_place_is_in_the_change_or_the_tree_or_nowhere() -> None:
    text = "- [high] src/app.py:2 — a\n- [low] src/other.py:9 — b\n- [low] nope.py:1 — c\n- [low] no file — d"
    read = review.parse(f"{text}\n\n{REVISE}", GROUND)
    assert [each.place for each in read.findings] == ["change", "tree", "nowhere", None]


def test_findings_only_in_missing_files_are_not_a_verdict() -> None:
    text = f"- [high] nope/x.py:2 — wrong\n- [low] src/app.py:2 — a remark\n\n{REVISE}"
    read = review.parse(text, GROUND)
    assert (read.status, read.reason) == ("none", "its findings name files that are not there")
    assert review.parse(text).status == "revise"  # where there is nothing to hold them against


def test_repeating_the_contract_is_not_a_review() -> None:
    assert review.parse(review.CONTRACT).status != "pass"
    example = "- [high] path/to/file.py:42 — what is wrong and what would be right"
    assert review.parse(f"{example}\n\n{REVISE}", GROUND).status == "none"
    assert review.parse(f"{example}\n\n{PASS}", GROUND).findings == ()
    both = review.parse(f"{example}\n- [high] src/app.py:2 — wrong\n\n{REVISE}", GROUND)
    assert [each.message for each in both.findings] == ["wrong"]


def test_a_repeated_finding_counts_once() -> None:
    assert len(found(f"- [high] src/app.py:2 — wrong\n- [high] src/app.py:2 — wrong\n\n{REVISE}")) == 1


def test_an_answer_that_is_too_long_has_no_verdict() -> None:
    assert review.parse("x" * LONGEST + f"\n\n{PASS}").status == "none"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 40_000,
        "![" * 20_000,
        "[a]: b\n" * 5_000,
        "> " * 20_000,
        "| a " * 10_000,
        "- [high] " * 5_000,
        " " * 100_000,
        "<" * 50_000,
        "<b>" * 10_000,
        "*a " * 30_000,
        "`" * 50_000,
        "✅" * 50_000,
        "a:1 " * 20_000,
        "a/" * 20_000 + ":1",
        "review status: " * 10_000,
        "not fixed, " * 10_000,
        "</think> " * 10_000,
        "the" + "\t" * 390 + "place",
        "x" + " " * 50_000 + "y",
    ],
    ids=lambda text: repr(text[:9]),
)
def test_any_answer_is_read_quickly(text: str) -> None:
    begin = time.process_time()
    assert review.parse(f"- [high] src/app.py:2 — {text}\n\n{PASS}").status in ("revise", "none")
    assert review.parse(f"{text}\n\n{PASS}").status in ("pass", "revise", "none")
    assert time.process_time() - begin < 5


# --- thinking ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b", "b"),
        ("\n <THINKING>\na\n</THINKING>\n\nb", "b"),
        ("<think>a</think>\n<think>b</think>\nc", "c"),
        ("<think>a <think>b</think> c</think>\nd", "d"),
        ("a\n</think>\nb", "b"),
        ("a.</think>b", "b"),
        ("I may say: Review status: revise\n</think>\nb", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("◁think▷a◁/think▷b", "b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "b"),
        ("<think>the tag `</think>` ends it\n</think>\nb", "b"),
        ("it drops `</think>` here", "it drops `</think>` here"),
        ("it drops the tag </think> here", "it drops the tag </think> here"),
        ("```\n</think>\n```\nb", "```\n</think>\n```\nb"),
        ("it prints <think> raw", "it prints <think> raw"),
        ("<thinker>a</thinker>", "<thinker>a</thinker>"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_thinking_is_not_part_of_the_answer(text: str, answer: str) -> None:
    assert split(text).answer == answer
    assert split(text).finished


@pytest.mark.parametrize("tag", ["</think>", "[/THINK]", "<|channel|>final<|message|>", "<think>x</think>"])
@pytest.mark.parametrize(
    "said",
    [
        "- [high] src/app.py:2 — wrong",
        "1. **[Medium]** src/app.py:2 — wrong",
        "### [high] src/app.py:2 — wrong\n\nIn words.",
        "Not yet.\n\nReview status: revise",
        "**Review status: Revise**",
        "- [low] src/app.py:2 — x\n- [ HIGH ] src/app.py:2 — wrong",
    ],
)
def test_a_closing_tag_takes_no_finding_back(said: str, tag: str) -> None:
    """It is repeated from a file under review."""
    for text in (f"{said}\n\n{tag}\n{PASS}", f"{said}\n{tag}{PASS}"):
        assert split(text).answer == text
        gates = [each.severity for each in review.parse(text).findings if each.severity != "low"]
        assert bool(gates) == ("[" in said)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("wrong <b>only</b> if x is empty", "wrong only if x is empty"),
        ("<code>x</code> is read twice", "`x` is read twice"),
        ("a <i>b <em>c</em></i> d", "a b c d"),
    ],
)
def test_a_message_goes_on_after_an_inline_element(message: str, shown: str) -> None:
    found = review.parse(f"- [high] src/app.py:2 — {message}\n\nReview status: revise").findings
    assert [each.message for each in found] == [shown]


@pytest.mark.parametrize(
    "text", ["<think>a", "<think>", "<think>a</think><reasoning>b", "[THINK]\na\n\nb", "a</think><think>b"]
)
def test_thinking_without_an_end_leaves_no_answer(text: str) -> None:
    assert (split(text).answer, split(text).finished) == ("", False)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>a\nb</think>\n\nc d", "c d"),
        ("  <reasoning>a</reasoning><think>b</think>c", "c"),
        ("[high] a", "[high] a"),
        ("[THINK]x[/THINK]y", "y"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("<think>a", ""),
        ("plain <think> text", "plain <think> text"),
        ("<", "<"),
    ],
)
def test_thinking_is_not_streamed(text: str, shown: str, size: int) -> None:
    stream = Filter()
    pieces = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join([*pieces, stream.close()]) == shown


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("a.py:3-5", (3, 5)),
        ("a.py#L3-L5", (3, 5)),
        ("`a.py` lines 3 to 5", (3, 5)),
        ("lines 3–5 of a.py", (3, 5)),
        ("a.py:3", (3, None)),
        ("a.py:3:5", (3, None)),
        ("a.py:3, 5", (3, None)),
        ("a.py:5-3", (5, None)),
        ("a.py:3-3", (3, None)),
        ("a.py:0-3", (None, None)),
    ],
)
def test_a_range_has_a_last_line(place: str, lines: tuple[int | None, int | None]) -> None:
    [found] = review.parse(f"- [high] {place} — wrong\nReview status: revise").findings
    assert (found.path, found.line, found.end_line) == ("a.py", *lines)
