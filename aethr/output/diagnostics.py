"""Findings in the formats of other programs: code scanning, reviewdog, GitLab (pure).

Only findings of a live run are listed, so that no program takes those of a mock for a review. Text that came
from a model is made safe for the place where the program shows it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from aethr import __version__
from aethr.base import codec
from aethr.base.records import RELIABLE, SEVERITIES, Finding, Lines, RunResult, Severity
from aethr.base.sanitize import one_line, terminal
from aethr.config import WORKFLOW_FILE
from aethr.output import wording
from aethr.output.markdown import BREAK, markdown_inline

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
HOME = "https://github.com/aethr/action"
SEVERITIES_PAGE = f"{HOME}/blob/main/docs/loops.md#the-review-protocol"

_HTML = re.compile(r"<(?=[A-Za-z/!?])|%(?=\{)")
"""GitLab shows a description as HTML, in which ``%{…}`` stands for a style."""

_LAST_LINE = 10_000_000
"""No reviewed file has more lines. reviewdog looks at each line of a range, and refuses the whole report for
a number of more than 32 bits."""


_FINGERPRINTS = ("aethrPlace/v1", "primaryLocationLineHash")
"""Code scanning compares only the second one. If it is missing, its upload computes one, which is the same
for all findings of a line and changes with the lines below it."""


class _Grade(NamedTuple):
    """What each format calls a severity, and what Aethr means by it."""

    sarif: str
    reviewdog: str
    gitlab: str
    meaning: str


_GRADES: Mapping[Severity, _Grade] = {
    "high": _Grade("error", "ERROR", "critical", "Wrong in ordinary use, or a danger to data or security."),
    "medium": _Grade("warning", "WARNING", "major", "Wrong in cases that will occur."),
    "low": _Grade("note", "INFO", "minor", "A remark."),
}
_SARIF_RULES = [
    {
        "id": f"aethr/{severity}",
        "name": f"{severity.capitalize()}Finding",
        "shortDescription": {"text": f"A reviewer's finding of {severity} severity."},
        "fullDescription": {"text": grade.meaning},
        "help": {"text": "Written by a language model: check it before you act on it."},
        "defaultConfiguration": {"level": grade.sarif},
    }
    for severity, grade in _GRADES.items()
]


def sarif(result: RunResult) -> str:
    """A SARIF 2.1.0 log as JSON text, for code scanning.

    GitHub rejects the whole log if one result has no location. So a finding without a file of this project
    becomes a notification of the invocation, which stays in the log. A run without a reliable verdict is an
    invocation that was not successful. A run that called no model has no results.
    """
    notes = [("note" if result.outcome in RELIABLE else "warning", wording.verdict(result).text)]
    if result.is_live:
        without_place = (finding for finding in result.review.open if not _has_place(finding))
        notes += [(_GRADES[finding.severity].sarif, wording.finding(finding)) for finding in without_place]
    present = [each for each in result.review.findings if each.state != "resolved"]
    run = {
        "tool": {
            "driver": {
                "name": "Aethr",
                "version": __version__,
                "semanticVersion": __version__,
                "informationUri": HOME,
                "rules": _SARIF_RULES,
            }
        },
        "automationDetails": {"id": f"aethr/{quote(_encodable(result.workflow), safe='')}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The project root."}}},
        "invocations": [
            {
                "executionSuccessful": result.outcome in RELIABLE,
                "exitCode": int(result.exit_code),
                "toolExecutionNotifications": [
                    {"level": level, "message": {"text": text}} for level, text in notes
                ],
            }
        ],
        "results": _sarif_results(present) if result.is_live else [],
    }
    return codec.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _sarif_results(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings with a place.

    Code scanning closes a suppressed result. If one result says whether it is suppressed, all of them have to
    (SARIF 2.1.0, 3.27.23).
    """
    placed = [finding for finding in findings if _has_place(finding)]
    results = []
    names = _numbered(placed, lambda finding: "".join(finding.every_id[:1]))
    for finding, name in zip(placed, names, strict=True):
        location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.path), "uriBaseId": "%SRCROOT%"}}
        if (lines := _lines(finding)) is not None:
            location["region"] = {"startLine": lines.first}
            if lines.last > lines.first:
                location["region"]["endLine"] = lines.last
        fixes = _sarif_fixes(finding, location)
        if fixes and finding.evidence:  # then the evidence is these lines
            location["region"]["snippet"] = {"text": terminal(finding.evidence)}
        message = terminal(finding.message).strip() or one_line(f"{finding.severity} finding")
        results.append(
            {
                "ruleId": f"aethr/{finding.severity}",
                "ruleIndex": SEVERITIES.index(finding.severity),
                "level": _GRADES[finding.severity].sarif,
                "message": {"text": message},
                "locations": [{"physicalLocation": location}],
                **({"partialFingerprints": dict.fromkeys(_FINGERPRINTS, name)} if name else {}),
                **fixes,
            }
        )
        if not all(each.is_open for each in findings):
            results[-1]["suppressions"] = _suppressions(finding)
    return results


def _numbered(findings: Sequence[Finding], identify: Callable[[Finding], str]) -> list[str]:
    """What identifies each finding in other reports: its identity, and its number among those that share it.

    Empty for a finding without an identity. Numbers follow lines and words, not severities, so that another
    grade does not exchange two findings.
    """
    order = sorted((each.line or 0, each.end_line or 0, each.message, at) for at, each in enumerate(findings))
    numbers: Counter[str] = Counter()
    names = [""] * len(findings)
    for *_, at in order:
        if identity := identify(findings[at]):
            numbers[identity] += 1
            names[at] = f"{identity}:{numbers[identity]}"
    return names


def _suppressions(finding: Finding) -> list[dict[str, str]]:
    if finding.is_open:
        return []
    justification = wording.why_closed(finding)
    if finding.is_dropped and finding.check is not None:
        justification += f"\n{terminal(finding.check.quote.text)}"
    return [{"kind": "external", "status": "accepted", "justification": justification}]


def _sarif_fixes(finding: Finding, location: Mapping[str, Any]) -> dict[str, Any]:
    """The suggestion as a fix. Without an end column, a region ends before the end of its last line."""
    region = location.get("region")
    if finding.suggestion is None or region is None:
        return {}
    replacement: dict[str, Any] = {"deletedRegion": dict(region)}
    if finding.suggestion:
        replacement["insertedContent"] = {"text": finding.suggestion}
    else:
        last = region.get("endLine", region["startLine"])
        replacement["deletedRegion"] = {"startLine": region["startLine"], "endLine": last + 1, "endColumn": 1}
    change = {"artifactLocation": location["artifactLocation"], "replacements": [replacement]}
    return {"fixes": [{"description": {"text": "As the reviewer suggests."}, "artifactChanges": [change]}]}


def rdjson(result: RunResult) -> str:
    """The open findings in the Reviewdog Diagnostic Format, as JSON text.

    reviewdog posts a message as Markdown. A range has no columns, which means whole lines: GitHub and GitLab
    apply a suggestion to those, and UTF-8 offsets do not matter. What has no place in the project is in
    ``notes``, which reviewdog does not read, as is the verdict.
    """
    notes = [wording.verdict(result).text]
    diagnostics = []
    for finding in result.review.open if result.is_live else ():
        if not _has_place(finding):
            notes.append(wording.finding(finding))
            continue
        location: dict[str, Any] = {"path": _encodable(finding.path or "")}
        diagnostic: dict[str, Any] = {
            "message": markdown_inline(wording.message(finding), 4000),
            "location": location,
            "severity": _GRADES[finding.severity].reviewdog,
            "code": {"value": f"aethr/{finding.severity}", "url": SEVERITIES_PAGE},
        }
        if (lines := _lines(finding)) is not None:
            location["range"] = {"start": {"line": lines.first}, "end": {"line": lines.last}}
            if finding.suggestion is not None:
                diagnostic["suggestions"] = [{"range": location["range"], "text": finding.suggestion}]
        diagnostics.append(diagnostic)
    source = {"name": "Aethr", "url": HOME}
    return codec.dumps({"source": source, "diagnostics": diagnostics, "notes": notes})


def code_quality(result: RunResult) -> str:
    """The open findings for GitLab's Code Quality report, as JSON text.

    A report without entries looks like a clean review, so one that is not reliable has an entry that says so.
    It is shown at the workflow file, as is a finding without a place: GitLab requires a path and a line.
    """
    entries = []
    if result.outcome not in RELIABLE:
        verdict = wording.verdict(result).text
        entries.append(_entry(verdict, "outcome", "major", f"aethr:{result.outcome}", WORKFLOW_FILE, 1))
    found = result.review.open if result.is_live else ()
    for finding, name in zip(found, _numbered(found, _identity), strict=True):
        path, lines, text = WORKFLOW_FILE, None, wording.finding(finding)
        if _has_place(finding):
            path, lines, text = _encodable(finding.path or ""), _lines(finding), wording.message(finding)
        grade = _GRADES[finding.severity].gitlab
        entries.append(_entry(text, finding.severity, grade, name, path, lines.first if lines else 1))
    return codec.dumps(entries)


def _entry(text: str, check: str, severity: str, fingerprint: str, path: str, line: int) -> dict[str, Any]:
    return {
        "description": _HTML.sub(rf"\g<0>{BREAK}", one_line(text, 2000)),
        "check_name": f"aethr/{check}",
        "fingerprint": fingerprint,
        "severity": severity,
        "location": {"path": path, "lines": {"begin": line}},
    }


def _identity(finding: Finding) -> str:
    """The id of a finding; without one, GitLab needs another name that stays the same."""
    words = f"{finding.path}\0{finding.message}".encode("utf-8", "replace")
    return (*finding.every_id, hashlib.sha256(words).hexdigest()[:12])[0]


def _lines(finding: Finding) -> Lines | None:
    """None if the finding names no line that a file can have."""
    if finding.line is None or not 1 <= finding.line <= _LAST_LINE:
        return None
    last = finding.end_line or finding.line
    return Lines(finding.line, last if finding.line <= last <= _LAST_LINE else finding.line)


def _has_place(finding: Finding) -> bool:
    """Whether code scanning can show the finding. It could never close one in a file that does not exist."""
    return finding.place != "nowhere" and _uri(finding.path) is not None


def _uri(path: str | None) -> str | None:
    """A path of the project as a relative URI; None for any other path."""
    if not path or path.startswith("/") or "\\" in path:
        return None
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    return "/".join(quote(_encodable(part), safe="") for part in parts)


def _encodable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
