"""What reviewdog and GitLab are given: the findings of a live run, each at a place that they can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aethr.base.records import Check, Finding, Quote, Review, RunResult
from aethr.output import diagnostics
from tests.output.test_report import CODE, FINDINGS, MOCK, NASTY, RESULT, nasty, with_findings

MOST = 10_000_000

POSITION = {
    "type": "object",
    "required": ["line"],
    "properties": {"line": {"type": "integer", "minimum": 1, "maximum": MOST}},
    "additionalProperties": False,
}
RANGE = {
    "type": "object",
    "required": ["start", "end"],
    "properties": {"start": POSITION, "end": POSITION},
    "additionalProperties": False,
}
NAMED = {
    "type": "object",
    "required": ["url"],
    "properties": {"name": {"type": "string"}, "value": {"type": "string"}, "url": {"type": "string"}},
    "additionalProperties": False,
}
DIAGNOSTIC = {
    "type": "object",
    "required": ["message", "location", "severity", "code"],
    "properties": {
        "message": {"type": "string"},
        "location": {
            "type": "object",
            "required": ["path"],
            "properties": {"path": {"type": "string", "minLength": 1}, "range": RANGE},
            "additionalProperties": False,
        },
        "severity": {"enum": ["ERROR", "WARNING", "INFO"]},
        "code": NAMED,
        "suggestions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["range", "text"],
                "properties": {"range": RANGE, "text": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
RDJSON = {
    "type": "object",
    "required": ["source", "diagnostics", "notes"],
    "properties": {
        "source": NAMED,
        "diagnostics": {"type": "array", "items": DIAGNOSTIC},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": False,
}
"""The part of the Reviewdog Diagnostic Format that Aethr writes, and ``notes``, which reviewdog ignores.

Narrower than its schema, which takes any property and any number: reviewdog reads lines as 32 bits.
"""

CODE_QUALITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "minLength": 1},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1, "maximum": MOST}},
                    },
                },
            },
        },
        "additionalProperties": False,
    },
}
"""What GitLab requires of an entry. It stops at the first one that does not fit."""


def rdjson(result: RunResult) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(diagnostics.rdjson(result))
    jsonschema.Draft202012Validator(RDJSON).validate(read)
    return read


def code_quality(result: RunResult) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(diagnostics.code_quality(result))
    jsonschema.Draft202012Validator(CODE_QUALITY).validate(read)
    fingerprints = [each["fingerprint"] for each in read]
    assert len(set(fingerprints)) == len(fingerprints), "GitLab shows only one of those that share it"
    return read


# --- reviewdog -----------------------------------------------------------------------------------


def test_reviewdog_gets_each_finding_at_its_lines() -> None:
    first, second = rdjson(RESULT)["diagnostics"]
    assert first == {
        "message": "wrong \\| &lt;b&gt;",
        "location": {"path": "src/a b.py", "range": {"start": {"line": 3}, "end": {"line": 5}}},
        "severity": "ERROR",
        "code": {"value": "aethr/high", "url": diagnostics.SEVERITIES_PAGE},
    }
    assert second["location"] == {"path": "b.py"}, "a finding about a file has no lines"
    assert second["severity"] == "INFO"


def test_what_reviewdog_cannot_place_is_in_the_notes() -> None:
    gone = Finding("high", "src/gone.py", 3, "wrong", "nowhere")
    read = rdjson(with_findings(gone, FINDINGS[1]))
    assert read["diagnostics"] == []
    assert read["notes"][1:] == ["src/gone.py:3 (no such file): [high] wrong", "[medium] no tests"]


def test_a_suggestion_replaces_whole_lines() -> None:
    """Without columns, so that no offset depends on the encoding or the line ends of the file."""
    [found] = rdjson(with_findings(CODE))["diagnostics"]
    assert found["suggestions"] == [
        {"range": {"start": {"line": 3}, "end": {"line": 4}}, "text": CODE.suggestion}
    ]
    [removal] = rdjson(with_findings(CODE._replace(suggestion="", end_line=None)))["diagnostics"]
    assert removal["suggestions"] == [{"range": {"start": {"line": 3}, "end": {"line": 3}}, "text": ""}]


@pytest.mark.parametrize("text", ["wide = 'ä𐐀'", "a\r\nb", "last line, without a line end", "\n"])
def test_a_suggestion_arrives_as_it_was_written(text: str) -> None:
    [found] = rdjson(with_findings(CODE._replace(suggestion=text)))["diagnostics"]
    assert found["suggestions"][0]["text"] == text


@pytest.mark.parametrize("name", ["diagnostics.rdjson", "diagnostics.code_quality"])
def test_a_mock_or_a_script_has_no_finding(name: str) -> None:
    for mode in ("mock", "scripted"):
        result = MOCK._replace(mode=mode, review=MOCK.review._replace(findings=FINDINGS))
        if name == "diagnostics.rdjson":
            read = rdjson(result)
            assert read["diagnostics"] == []
            assert read["notes"][0].startswith("NOT REVIEWED")
        else:
            [entry] = code_quality(result)
            assert entry["check_name"] == "aethr/outcome"
            assert entry["description"].startswith("NOT REVIEWED")


def test_a_message_says_nothing_to_the_forge() -> None:
    """reviewdog posts it as Markdown, below a name of its own."""
    text = (
        "/approve @team see #12, !34, &56 and [x](http://y) <img src=http://z> https://a/-/merge_requests/7"
    )
    [found] = rdjson(with_findings(Finding("high", "a.py", 1, text)))["diagnostics"]
    html = MarkdownIt().render(f"**[aethr]** <sub>reported by reviewdog</sub><br>{found['message']}")
    assert "<a " not in html
    assert "<img" not in html
    for live in ("<br>/approve", "@team", "#12", "!34", "&amp;56", "/merge_requests/7"):
        assert live not in html


# --- GitLab --------------------------------------------------------------------------------------


def test_gitlab_gets_an_entry_for_each_finding_and_for_a_review_that_is_not_complete() -> None:
    outcome, first, second, third = code_quality(RESULT)
    assert outcome["description"].startswith("INCOMPLETE (revise on what was sent): not sent: z.py")
    assert outcome["location"] == {"path": ".aethr.yaml", "lines": {"begin": 1}}
    assert (first["severity"], second["severity"], third["severity"]) == ("critical", "major", "minor")
    assert first["location"] == {"path": "src/a b.py", "lines": {"begin": 3}}
    assert second["description"] == "[medium] no tests"
    assert second["location"] == outcome["location"], "GitLab requires a file"
    assert third["location"] == {"path": "b.py", "lines": {"begin": 1}}


def test_a_complete_review_without_findings_has_no_entry() -> None:
    assert code_quality(RESULT._replace(review=Review("pass"), outcome="pass")) == []


def test_a_fingerprint_is_the_id_of_the_place() -> None:
    one = Finding("high", "a.py", 3, "It is wrong", "change", id="0123456789ab")
    result = with_findings(one, one._replace(line=9))._replace(outcome="revise")
    assert [each["fingerprint"] for each in code_quality(result)] == ["0123456789ab:1", "0123456789ab:2"]
    moved = with_findings(one._replace(line=90, message="reworded"))._replace(outcome="revise")
    assert [each["fingerprint"] for each in code_quality(moved)] == ["0123456789ab:1"]


def test_a_description_is_no_markup() -> None:
    """GitLab shows it as HTML, with ``%{…}`` for styles."""
    [_, found] = code_quality(with_findings(Finding("low", "a.py", 1, "<img src=x> %{danger_start} a < b")))
    assert not {"<img", "%{"} & {found["description"][at : at + 4].rstrip("d") for at in range(60)}
    assert "a < b" in found["description"]


# --- both ----------------------------------------------------------------------------------------

PROVEN = Check("verify", "the caller refuses it", Quote("if x:", "git_diff", "a.py", 7, 8))


def test_only_open_findings_are_listed() -> None:
    kept, answered, dropped = (Finding("high", "a.py", n, f"finding {n}", "change") for n in (1, 2, 3))
    result = with_findings(kept, answered._replace(state="answered"), dropped._replace(check=PROVEN))
    assert [each["message"] for each in rdjson(result)["diagnostics"]] == ["finding 1"]
    assert [each["description"] for each in code_quality(result)[1:]] == ["finding 1"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a//b", "./a"])
def test_no_place_is_outside_the_project(path: str) -> None:
    result = with_findings(Finding("high", path, 1, "m"))
    assert rdjson(result)["diagnostics"] == []
    assert code_quality(result)[1]["location"]["path"] == ".aethr.yaml"


odd = st.text(max_size=15) | st.sampled_from([NASTY, "a:b#c?d%e.py", "é/ü.py", "\ud800", "", " ", "a\nb"])
line = st.none() | st.integers(-1, 3) | st.sampled_from([MOST, MOST + 1, 10**30])


@settings(max_examples=80)
@given(odd, odd, line, line, st.none() | odd)
def test_any_finding_is_one_that_both_can_read(
    path: str, message: str, first: int | None, last: int | None, suggestion: str | None
) -> None:
    found = Finding(
        "low", path or None, first, message, end_line=last, evidence=message, suggestion=suggestion
    )
    result = nasty(message)._replace(review=Review("revise", (found, found, *FINDINGS)))
    for each in rdjson(result)["diagnostics"]:
        lines = each["location"].get("range")
        assert lines is None or lines["start"]["line"] <= lines["end"]["line"]
        assert "\n" not in each["message"]
    assert len(code_quality(result)) == 1 + 2 + len(FINDINGS)


def test_the_reports_are_files_by_their_suffix(tmp_path: Path) -> None:
    from aethr.output import report_files

    names = [str(tmp_path / name) for name in ("gl.codequality", "review.rdjson")]
    report_files.write(report_files.check(names), RESULT)
    quality, diagnostic = (json.loads(Path(name).read_text(encoding="utf-8")) for name in names)
    assert len(quality) == 4
    assert len(diagnostic["diagnostics"]) == 2
