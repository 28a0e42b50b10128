"""What remains of a run: the record, the page, the lines, SARIF, annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aethr import __version__
from aethr.base import codec
from aethr.base.errors import ExitCode
from aethr.base.records import (
    Extent,
    Finding,
    LoopResult,
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

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "data" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8")
)
examples = settings(max_examples=60)

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
    finding = Finding("high", text, 1, text)
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
                    "also": [],
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
                    "also": [],
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
                    "also": [],
                },
            ],
            "coverage": 4 / 13,
            "reason": "not sent: z.py (over budget)",
            "unexplained": False,
        },
        "totals": {
            "calls": 1,
            "prompt_tokens": 400,
            "completion_tokens": 31,
            "cost_usd": 0.0012,
            "seconds": 1.25,
            "estimated": False,
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
    assert list(report.FORMATS) == [".json", ".md", ".sarif", ".txt"]
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
        "Findings: 1 high, 1 medium, 1 low",
        "INCOMPLETE (revise on what was sent): not sent: z.py (over budget)",
        "1 step, 431 tokens, $0.0012, 1.2 s",
    ]


def test_the_markdown_report_has_its_parts_in_order() -> None:
    page = report.markdown(RESULT)
    parts = [
        "# Aethr: review-existing-diff\n",
        "**INCOMPLETE (revise on what was sent): not sent: z.py (over budget)**",
        "| high | src/a b.py:3 | wrong \\| &lt;b&gt; |",
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
    for result in (RESULT, nasty()):
        tokens = MarkdownIt("commonmark").enable("table").parse(report.markdown(result))
        kinds = [token.type for token in tokens]
        assert kinds.count("table_open") == 2
        inner = [child for token in tokens for child in token.children or ()]
        assert not {"image", "html_inline", "link_open"} & {child.type for child in inner}
        assert "html_block" not in kinds
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
        {"level": "warning", "message": {"text": "NOT REVIEWED: mock mode: no model was called"}}
    ]


def test_sarif_fingerprints_survive_moved_lines() -> None:
    def prints(*findings: Finding) -> list[str]:
        run = sarif(RESULT._replace(review=Review("revise", findings)))
        return [found["partialFingerprints"]["aethrFinding/v1"] for found in run["results"]]

    one, moved = Finding("high", "a.py", 3, "It  is wrong"), Finding("high", "a.py", 9, "it is wrong")
    assert prints(one) == prints(moved)
    assert prints(one)[0] != prints(one._replace(path="b.py"))[0]
    assert len(set(prints(one, moved))) == 2


odd = st.text(max_size=15) | st.sampled_from([NASTY, "a:b#c?d%e.py", "é/ü.py", "\ud800", "", " "])


@examples
@given(odd, odd, st.none() | st.integers(-1, 10))
def test_sarif_is_valid_for_any_finding(path: str, message: str, line: int | None) -> None:
    run = sarif(
        nasty(message)._replace(review=Review("revise", (Finding("low", path or None, line, message),)))
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
