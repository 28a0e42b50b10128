"""What remains of a run: the record, the page, the lines, SARIF, annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aethr import __version__
from aethr.base import codec
from aethr.base.errors import ExitCode
from aethr.base.records import (
    Check,
    Extent,
    Finding,
    LoopResult,
    Quote,
    Receipt,
    Review,
    RunResult,
    Scope,
    Skipped,
    StepResult,
    Subject,
    Totals,
    Usage,
)
from aethr.output import report
from tests.support import many

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "data" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8")
)
examples = many(60)

STEP = StepResult(
    id="review",
    role="reviewer",
    backend="model",
    model="openai:gpt-4o-mini",
    iteration=1,
    prompt_sha256="f" * 64,
    content="## Look\n\n- [high] a.py:3 — wrong\n\nReview status: revise\n",
    seconds=1.25,
    transport="litellm",
    usage=Usage(400, 31, 431, 0.0012),
    context=(
        Receipt("git_diff", "a.py", 120, 0, "a" * 64, changed_lines=4, sent_lines=4),
        Receipt("git_diff", "z.py", 0, 900, None, "over budget", complete=False, changed_lines=9),
    ),
)
FINDINGS = (
    Finding("high", "src/a b.py", 3, "wrong | <b>", end_line=5, by=("review",)),
    Finding("medium", None, None, "no tests"),
    Finding("low", "b.py", None, "typo"),
)
SCOPE = Scope("range", "main...HEAD", "b" * 40, "c" * 40, "c" * 40)
RESULT = RunResult(
    task="look",
    workflow="review-existing-diff",
    mode="live",
    scope=SCOPE,
    steps=(STEP,),
    loops=(LoopResult("review", "implement", 2, "exhausted"),),
    review=Review("revise", FINDINGS, 4 / 13, "not sent: z.py (over budget)"),
    totals=Totals(1, 400, 31, 0.0012, 1.25),
    exit_code=ExitCode.GATE,
    closed="gate closed (--fail-on low): 1 high, 1 medium and 1 low finding",
    subject=Subject(SCOPE, Extent(2, 9, 4), reviewed=True),
    skipped=(Skipped("tests", 1, "nothing changed"),),
    outcome="incomplete",
)
MOCK = RESULT._replace(
    mode="mock",
    review=Review(reason="mock mode: no model was called"),
    outcome="not-reviewed",
    exit_code=ExitCode.NOT_REVIEWED,
)
NASTY = (
    "\x1b[2J\x9b \u202e \ud800 `x` <!-- @team ![i](http://x/y) ::error::x\n::set-output name=a::b\n```\n| a"
)


def nasty(text: str = NASTY) -> RunResult:
    step = STEP._replace(
        id=text,
        role=text,
        model=text,
        content=text,
        context=(Receipt(text, text, 0, 0, None, text, False),),
    )
    finding = Finding("high", text, 1, text, evidence=text, suggestion=text)
    return RunResult(
        task=text,
        workflow=text,
        mode="live",
        scope=Scope(text=text),
        steps=(step,),
        loops=(LoopResult(text, text, 1, "stalled"),),
        review=Review("revise", (finding,), None, text),
        totals=Totals(),
        exit_code=ExitCode.OK,
        checkpoint=text,
    )


def test_the_record_has_the_documented_shape() -> None:
    record = report.record(RESULT)
    assert record == {
        "schema": 2,
        "aethr": __version__,
        "task": "look",
        "workflow": "review-existing-diff",
        "mode": "live",
        "scope": {
            "diff": "main...HEAD",
            "chosen": False,
            "base": "b" * 40,
            "head": "c" * 40,
            "head_sha": "c" * 40,
            "base_side": None,
        },
        "change": {"files": 2, "added": 9, "removed": 4, "parts": 1},
        "steps": [codec.to_json(STEP)],
        "skipped": [{"step": "tests", "iteration": 1, "reason": "nothing changed"}],
        "loops": [{"step": "review", "back_to": "implement", "iterations": 2, "outcome": "exhausted"}],
        "outcome": "incomplete",
        "excluded": [],
        "recipients": [
            {
                "host": None,
                "model": "openai:gpt-4o-mini",
                "agent": None,
                "calls": 1,
                "earlier_calls": 0,
                "bytes_sent": 120,
                "files": ["a.py"],
            }
        ],
        "unanswered": [],
        "review": {
            "status": "revise",
            "findings": [
                {
                    "severity": "high",
                    "path": "src/a b.py",
                    "line": 3,
                    "message": "wrong | <b>",
                    "place": None,
                    "end_line": 5,
                    "by": ["review"],
                    "id": None,
                    "state": None,
                    "evidence": None,
                    "suggestion": None,
                    "check": None,
                    "also": [],
                    "answer": None,
                    "ids": [],
                },
                {
                    "severity": "medium",
                    "path": None,
                    "line": None,
                    "message": "no tests",
                    "place": None,
                    "end_line": None,
                    "by": [],
                    "id": None,
                    "state": None,
                    "evidence": None,
                    "suggestion": None,
                    "check": None,
                    "also": [],
                    "answer": None,
                    "ids": [],
                },
                {
                    "severity": "low",
                    "path": "b.py",
                    "line": None,
                    "message": "typo",
                    "place": None,
                    "end_line": None,
                    "by": [],
                    "id": None,
                    "state": None,
                    "evidence": None,
                    "suggestion": None,
                    "check": None,
                    "also": [],
                    "answer": None,
                    "ids": [],
                },
            ],
            "coverage": 4 / 13,
            "reason": "not sent: z.py (over budget)",
            "unexplained": False,
            "unused": [],
            "resolved": [],
        },
        "totals": {
            "calls": 1,
            "prompt_tokens": 400,
            "completion_tokens": 31,
            "cost_usd": 0.0012,
            "seconds": 1.25,
            "estimated": False,
            "cached_tokens": None,
            "written_tokens": None,
            "reasoning_tokens": None,
        },
        "estimate": None,
        "exit_code": 1,
        "checkpoint": None,
        "shard": None,
    }
    assert record["steps"][0]["context"][1]["note"] == "over budget"
    assert record["steps"][0]["artifacts"] is None


def test_the_json_report_is_the_record_and_can_be_read() -> None:
    read = json.loads(report.FORMATS[".json"].render(RESULT))
    assert read == report.record(RESULT)
    assert codec.step_from_json(read["steps"][0]) == STEP


def test_every_format_is_deterministic_and_ends_its_line() -> None:
    assert list(report.FORMATS) == [".codequality", ".html", ".json", ".md", ".rdjson", ".sarif", ".txt"]
    for row in report.FORMATS.values():
        assert row.summary
        for result in (RESULT, MOCK, nasty(), RESULT._replace(steps=(), review=Review())):
            text = row.render(result)
            assert text == row.render(result)
            assert text.endswith("\n")
            assert not text.endswith("\n\n")
            text.encode("utf-8")


@pytest.mark.parametrize("suffix", list(report.FORMATS))
def test_no_format_contains_a_control_character(suffix: str) -> None:
    text = report.FORMATS[suffix].render(nasty())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


@pytest.mark.parametrize("suffix", list(report.FORMATS))
def test_every_format_says_that_a_run_is_a_mock(suffix: str) -> None:
    assert "mock" in report.FORMATS[suffix].render(MOCK)
    assert "mock" not in report.FORMATS[suffix].render(RESULT).replace('"mode": "live"', "")


def test_the_text_report_can_be_searched_by_line() -> None:
    assert report.text(RESULT).splitlines()[:11] == [
        "Aethr: review-existing-diff",
        "reviewing main...HEAD: 2 files, +9 -4",
        "tests: not called: nothing changed",
        "src/a b.py:3: [high] wrong | <b>",
        "[medium] no tests",
        "b.py: [low] typo",
        "not sent: z.py (over budget)",
        "loop review -> implement: exhausted after 2 passes",
        "INCOMPLETE (revise on what was sent): not sent: z.py (over budget); "
        "1 high, 1 medium and 1 low finding",
        "gate closed (--fail-on low): 1 high, 1 medium and 1 low finding",
        "1 step, 431 tokens, $0.0012, 1.2 s",
    ]


def test_the_markdown_report_has_its_parts_in_order() -> None:
    page = report.markdown(RESULT)
    parts = [
        "# Aethr: review-existing-diff\n",
        "**INCOMPLETE (revise on what was sent): not sent: z.py (over budget); "
        "1 high, 1 medium and 1 low finding**\n\n"
        "Gate closed (--fail-on low): 1 high, 1 medium and 1 low finding\n\n",
        "**src/a b.py**\n\n🔴 **high** src/a b.py:3: wrong \\| &lt;b&gt;\n\n",
        "**Without a file of the project**\n\n🟠 **medium**: no tests\n\n",
        "**b.py**\n\n🔵 **low** b.py: typo\n\n",
        "## review\n\n## Look\n\n- [high] a.py:3 — wrong",
        "## Not sent to the model\n\n- z.py (over budget)\n",
        "## Loops\n\n- loop review -&gt; implement: exhausted after 2 passes\n",
        "| review | openai:gpt-4o-mini | git\\_diff: 1 file, 120 bytes | 431 | \\$0.0012 | 1.2 s |",
        "1 step, 431 tokens, \\$0.0012, 1.2 s\n",
    ]
    places = [page.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
    assert "# Aethr: review-existing-diff (mock mode, no model was called)\n" in report.markdown(MOCK)


def test_the_markdown_report_renders_only_its_own_markup() -> None:
    for result, folds in ((RESULT, 1), (nasty(), 3)):
        tokens = MarkdownIt("commonmark").enable("table").parse(report.markdown(result))
        kinds = [token.type for token in tokens]
        assert kinds.count("table_open") == 2
        inner = [child for token in tokens for child in token.children or ()]
        assert not {"image", "html_inline", "link_open"} & {child.type for child in inner}
        html = [token.content for token in tokens if token.type == "html_block"]
        assert all(re.fullmatch(r"<details>\n<summary>[^<>\n]+</summary>\n", each) for each in html[::2])
        assert html[1::2] == ["</details>\n"] * folds
        assert not re.search(r"@\w", "".join(child.content for child in inner if child.type == "text"))


# --- SARIF ---------------------------------------------------------------------------------------


def sarif(result: RunResult) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(report.FORMATS[".sarif"].render(result))
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(log)
    run: dict[str, Any] = log["runs"][0]
    return run


def test_sarif_results_have_a_place_in_the_project() -> None:
    run = sarif(RESULT)
    first, second = run["results"]
    assert first["ruleId"] == run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == "aethr/high"
    assert (first["level"], second["level"]) == ("error", "note")
    assert first["message"] == {"text": "wrong | <b>"}
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/a%20b.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 3, "endLine": 5},
    }
    assert "region" not in second["locations"][0]["physicalLocation"]


def test_sarif_notifies_a_finding_without_a_place() -> None:
    invocation = sarif(RESULT)["invocations"][0]
    assert {"level": "warning", "message": {"text": "[medium] no tests"}} in invocation[
        "toolExecutionNotifications"
    ]
    assert invocation["exitCode"] == 1


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a//b", "./a"])
def test_sarif_takes_no_place_outside_the_project(path: str) -> None:
    run = sarif(RESULT._replace(review=Review("revise", (Finding("high", path, 1, "m"),))))
    assert run["results"] == []
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == 2


def test_a_finding_in_a_missing_file_is_marked() -> None:
    nowhere = Finding("high", "src/gone.py", 3, "wrong", "nowhere")
    result = RESULT._replace(review=Review("revise", (nowhere,)))
    run = sarif(result)
    assert run["results"] == []
    said = [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]
    assert "src/gone.py:3 (no such file): [high] wrong" in said
    assert report.annotation_lines(result) == ["::error title=Aethr%3A high::wrong"]
    assert "src/gone.py:3 (no such file)" in report.FORMATS[".txt"].render(result)
    assert "no such file" in report.FORMATS[".md"].render(result)
    assert json.loads(report.FORMATS[".json"].render(result))["review"]["findings"][0]["place"] == "nowhere"


def test_sarif_of_a_mock_has_no_results() -> None:
    mock = MOCK.review._replace(findings=FINDINGS)
    run = sarif(MOCK._replace(review=mock))
    assert run["results"] == []
    assert run["invocations"][0]["toolExecutionNotifications"] == [
        {
            "level": "warning",
            "message": {
                "text": "NOT REVIEWED: mock mode: no model was called; 1 high, 1 medium and 1 low finding"
            },
        }
    ]


def fingerprints(*findings: Finding) -> list[str]:
    run = sarif(RESULT._replace(review=Review("revise", findings)))
    found = [each["partialFingerprints"] for each in run["results"]]
    # Code scanning compares the second one only.
    assert [each["aethrPlace/v1"] for each in found] == [each["primaryLocationLineHash"] for each in found]
    return [each["aethrPlace/v1"] for each in found]


def test_sarif_fingerprints_are_the_ids_of_the_places() -> None:
    one = Finding("high", "a.py", 3, "It is wrong", id="0123456789ab")
    assert fingerprints(one) == ["0123456789ab:1"]
    assert fingerprints(one._replace(line=9, message="reworded", severity="low")) == fingerprints(one)
    assert fingerprints(one._replace(id="ba9876543210")) != fingerprints(one)


def test_sarif_numbers_the_findings_of_one_place_the_same_in_any_order_and_grade() -> None:
    early = Finding("low", "a.py", 3, "no test", id="0123456789ab")
    late, other = early._replace(line=9), early._replace(message="off by one", severity="high")
    assert fingerprints(other, early, late) == ["0123456789ab:2", "0123456789ab:1", "0123456789ab:3"]
    assert fingerprints(late, early._replace(severity="high"), other._replace(severity="low")) == [
        "0123456789ab:3",
        "0123456789ab:1",
        "0123456789ab:2",
    ]


def test_a_merged_finding_has_the_fingerprint_of_its_first_id() -> None:
    one = Finding("high", "a.py", 3, "wrong", "change", id="0" * 12, ids=("a" * 12, "0" * 12))
    assert fingerprints(one) == fingerprints(one._replace(id="a" * 12)) == [f"{'a' * 12}:1"]


def test_sarif_has_no_fingerprint_without_an_id() -> None:
    """The upload to code scanning then computes its own."""
    assert all("partialFingerprints" not in found for found in sarif(RESULT)["results"])


CODE = Finding(
    "high", "a.py", 3, "wrong", "change", 4, evidence="    if x:\n        y", suggestion="    y\n```"
)
QUOTED = Finding("low", "b.py", 7, "odd", "change", evidence="<!-- @team\n/approve\n```\n~~~~")


def with_findings(*findings: Finding) -> RunResult:
    return RESULT._replace(review=Review("revise", findings))


def test_the_record_holds_evidence_and_suggestion() -> None:
    found = report.record(with_findings(CODE))["review"]["findings"][0]
    assert (found["evidence"], found["suggestion"]) == (CODE.evidence, CODE.suggestion)


def test_a_suggestion_is_a_fix_of_whole_lines_in_sarif() -> None:
    [found] = sarif(with_findings(CODE))["results"]
    place = found["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 3, "endLine": 4, "snippet": {"text": CODE.evidence}}
    [change] = found["fixes"][0]["artifactChanges"]
    assert change["artifactLocation"] == place["artifactLocation"]
    assert change["replacements"] == [
        {"deletedRegion": {"startLine": 3, "endLine": 4}, "insertedContent": {"text": "    y\n```"}}
    ]


def test_an_empty_suggestion_removes_the_lines_in_sarif() -> None:
    [found] = sarif(with_findings(CODE._replace(suggestion="", end_line=None)))["results"]
    [change] = found["fixes"][0]["artifactChanges"]
    assert change["replacements"] == [{"deletedRegion": {"startLine": 3, "endLine": 4, "endColumn": 1}}]


def test_evidence_alone_is_not_a_fix_in_sarif() -> None:
    [found] = sarif(with_findings(QUOTED))["results"]
    assert "fixes" not in found
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}


def test_code_is_indented_below_its_finding_in_the_lines() -> None:
    text = report.FORMATS[".txt"].render(with_findings(CODE, QUOTED))
    code = ("    -     if x:", "    -         y", "    +     y", "    + ```")
    assert "\n".join(("a.py:3: [high] wrong", *code, "b.py:7: [low] odd", "    | <!-- @team")) in text
    assert not re.search(r"^(?:/approve|::)", text, re.MULTILINE)


def test_code_is_a_closed_block_in_the_page() -> None:
    text = report.FORMATS[".md"].render(with_findings(CODE, QUOTED))
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert [(each.info, each.content) for each in fences[:2]] == [
        ("diff", "-     if x:\n-         y\n+     y\n+ ```\n"),
        ("", "<\u200c!-- @team\n\u200c/approve\n```\n~~~~\n"),
    ]
    assert [each.markup for each in fences[:2]] == ["````", "````"]


@examples
@given(st.text(max_size=40) | st.sampled_from([NASTY, "```suggestion", "    ~~~", "\r", "a\nb"]))
def test_any_code_stays_in_its_block(text: str) -> None:
    found = Finding("high", "a.py", 1, "m", evidence=text, suggestion=text)
    sarif(with_findings(found))
    page = report.FORMATS[".md"].render(
        with_findings(found, Finding("low", "b.py", 1, "last", evidence="end"))
    )
    fences = [token for token in MarkdownIt().parse(page) if token.type == "fence"]
    assert [each.info for each in fences[:2]] == ["diff", ""]
    assert fences[1].content == "end\n"
    lines = report.FORMATS[".txt"].render(with_findings(found))
    assert len(re.findall(r"^\S+: \[", lines, re.MULTILINE)) == 1


odd = st.text(max_size=15) | st.sampled_from([NASTY, "a:b#c?d%e.py", "é/ü.py", "\ud800", "", " "])


@examples
@given(odd, odd, st.none() | st.integers(-1, 10))
def test_sarif_is_valid_for_any_finding(path: str, message: str, line: int | None) -> None:
    run = sarif(
        nasty(message)._replace(
            review=Review(
                "revise",
                (Finding("low", path or None, line, message, evidence=message, suggestion=message),),
            )
        )
    )
    for found in run["results"]:
        uri = found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[\w.~%-]+(/[\w.~%-]+)*", uri, re.ASCII)


# --- annotations ---------------------------------------------------------------------------------


def test_an_annotation_is_one_escaped_command() -> None:
    assert report.annotation_lines(RESULT) == [
        "::error file=src/a b.py,line=3,title=Aethr%3A high::wrong | <b>",
        "::warning title=Aethr%3A medium::no tests",
        "::notice file=b.py,title=Aethr%3A low::typo",
    ]
    evil = Finding("high", "a,b:c%.py\n::x::", 1, "50%\n::error::\r\x1b")
    (line,) = report.annotation_lines(RESULT._replace(review=Review("revise", (evil,))))
    assert line == (
        "::error file=a%2Cb%3Ac%25.py%0A%3A%3Ax%3A%3A,line=1,title=Aethr%3A high::50%25%0A::error::\\r\\x1b"
    )


def test_annotations_stop_at_the_limit_of_a_runner() -> None:
    many = tuple(Finding("high", "a.py", n, "x" * 9000) for n in range(1, 40))
    lines = report.annotation_lines(RESULT._replace(review=Review("revise", many)))
    assert len(lines) == 10
    assert max(map(len, lines)) < 4096


def test_a_mock_has_no_annotations() -> None:
    assert report.annotation_lines(MOCK._replace(review=Review("revise", FINDINGS))) == []


# --- what a verifying step dropped or disputed -----------------------------------------------------

PROOF = Check(
    "verify", "the caller refuses it", Quote("if not prices:\n    raise", "git_diff", "shop.py", 7, 8)
)
CHECKED = RESULT._replace(
    review=Review(
        "revise",
        (
            FINDINGS[0]._replace(check=PROOF._replace(dropped=False)),
            FINDINGS[1]._replace(check=PROOF),
            FINDINGS[2]._replace(check=PROOF),
        ),
    ),
    outcome="revise",
)


def test_a_page_folds_what_was_dropped_and_marks_what_is_disputed() -> None:
    page = report.markdown(CHECKED)
    assert "**Review status: revise; 1 high finding; dropped by verify: 1 medium, 1 low**" in page
    folded = page[page.index("<details>") : page.index("</details>")]
    assert "<summary>Dropped by verify: 1 medium, 1 low</summary>" in folded
    assert folded.count("dropped by verify: the caller refuses it (shop.py:7)") == 2
    assert folded.count("```\nif not prices:\n    raise\n```") == 2
    listed = page.replace(folded, "")
    assert "no tests" not in listed
    disputed = "wrong \\| &lt;b&gt; (disputed by verify: the caller refuses it)"
    assert f"🔴 **high** src/a b.py:3: {disputed}\n" in listed


def test_the_lines_say_what_was_dropped_and_what_is_disputed() -> None:
    lines = report.text(CHECKED).splitlines()
    assert "src/a b.py:3: [high] wrong | <b> (disputed by verify: the caller refuses it)" in lines
    assert "[medium] no tests; dropped by verify: the caller refuses it (shop.py:7)" in lines
    assert "Review status: revise; 1 high finding; dropped by verify: 1 medium, 1 low" in lines


def test_sarif_suppresses_what_was_dropped_so_that_code_scanning_closes_it() -> None:
    run = sarif(CHECKED)
    high, low = run["results"]
    assert high["suppressions"] == []
    [closed] = low["suppressions"]
    assert (closed["kind"], closed["status"]) == ("external", "accepted")
    assert closed["justification"].startswith("dropped by verify: the caller refuses it (shop.py:7)\nif not")
    said = [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]
    assert not any("no tests" in each for each in said)
    assert all("suppressions" not in each for each in sarif(RESULT)["results"])


def test_an_answered_finding_is_suppressed_and_a_resolved_one_is_gone_in_sarif() -> None:
    answered = FINDINGS[0]._replace(state="answered", answer="small lists only")
    resolved = FINDINGS[2]._replace(state="resolved")
    result = RESULT._replace(review=Review("pass", (answered, resolved)), outcome="pass")
    [closed] = sarif(result)["results"]
    assert closed["message"] == {"text": "wrong | <b>"}
    assert closed["suppressions"][0]["justification"] == "answered: small lists only"
    lines = report.text(result).splitlines()
    assert "src/a b.py:3: [high] wrong | <b>; answered: small lists only" in lines
    assert "b.py: [low] typo; resolved: it is no longer found" in lines
    assert "Review status: pass; answered: 1 high; resolved: 1 low" in lines


def test_only_open_findings_are_annotations() -> None:
    [line] = report.annotation_lines(CHECKED)
    assert line.startswith("::error file=src/a b.py,line=3,")


def test_a_hostile_check_controls_no_report() -> None:
    check = Check(NASTY, NASTY, Quote(f"{NASTY}\n</details>\n```", NASTY, NASTY, 1))
    findings = tuple(each._replace(check=check) for each in FINDINGS)
    hostile = RESULT._replace(review=Review("pass", findings), outcome="pass")
    page = report.markdown(hostile)
    tokens = MarkdownIt("commonmark").parse(page)
    assert [token.type for token in tokens].count("html_block") == 4  # its own two folds
    assert "<!-- " not in page
    shown = [child for token in tokens for child in (token.children or ()) if child.type != "code_inline"]
    assert not any("@team" in child.content or child.type == "image" for child in shown)
    for text in (row.render(hostile) for row in report.FORMATS.values()):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert len(sarif(hostile)["results"]) == 2
