"""A run as a SARIF 2.1.0 log, for code scanning and reviewdog.

A result must have a place: GitHub refuses a whole file for one result without. So a finding that names
no file (or a path that is none of this project's) becomes a notification of the invocation, which
stays in the log and stops nothing. A run without a verdict to trust is an invocation that was not
successful; a run without a model has no results at all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from aethr import __version__
from aethr.base import codec
from aethr.base.records import RELIABLE, SEVERITIES, Finding, RunResult, Severity
from aethr.base.sanitize import one_line, terminal
from aethr.output import wording

SCHEMA_URI = "https://json.schemastore.org/sarif-2.1.0.json"
HOME = "https://github.com/aethr/action"

_LEVEL: dict[Severity, str] = {"high": "error", "medium": "warning", "low": "note"}
_MEANING: dict[Severity, str] = {
    "high": "Wrong, unsafe or loses data.",
    "medium": "Should not be merged like this.",
    "low": "A remark.",
}


def sarif(result: RunResult) -> str:
    """The log as JSON text."""
    placed = [finding for finding in result.review.findings if _has_place(finding)]
    run = {
        "tool": {"driver": _driver()},
        "automationDetails": {"id": f"aethr/{quote(_clean(result.workflow), safe='')}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The project root."}}},
        "invocations": [_invocation(result)],
        "results": _results(placed) if result.is_live else [],
    }
    return codec.dumps({"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]})


def _driver() -> dict[str, Any]:
    return {
        "name": "Aethr",
        "version": __version__,
        "semanticVersion": __version__,
        "informationUri": HOME,
        "rules": [
            {
                "id": f"aethr/{severity}",
                "name": f"{severity.capitalize()}Finding",
                "shortDescription": {"text": f"A reviewer's finding of {severity} severity."},
                "fullDescription": {"text": _MEANING[severity]},
                "help": {"text": "Written by a language model: check it before you act on it."},
                "defaultConfiguration": {"level": _LEVEL[severity]},
            }
            for severity in SEVERITIES
        ],
    }


def _results(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for finding in findings:
        fingerprint = _fingerprint(finding)
        seen[fingerprint] += 1
        results.append(
            {
                "ruleId": f"aethr/{finding.severity}",
                "ruleIndex": SEVERITIES.index(finding.severity),
                "level": _LEVEL[finding.severity],
                "message": {"text": _message(finding)},
                "locations": [{"physicalLocation": _location(finding)}],
                "partialFingerprints": {"aethrFinding/v1": f"{fingerprint}:{seen[fingerprint]}"},
            }
        )
    return results


def _location(finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.path), "uriBaseId": "%SRCROOT%"}}
    if finding.line is not None and finding.line >= 1:
        location["region"] = {"startLine": finding.line}
    return location


def _fingerprint(finding: Finding) -> str:
    """The same finding keeps its identity when lines move or it is quoted with other white space."""
    words = " ".join(finding.message.split()).lower()
    text = "\0".join((finding.severity, finding.path or "", words))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _has_place(finding: Finding) -> bool:
    """A file that is not there would be a result that code scanning can never close."""
    return finding.place != "nowhere" and _uri(finding.path) is not None


def _uri(path: str | None) -> str | None:
    """A path of the project as a relative URI; None for what is none."""
    if not path or path.startswith("/") or "\\" in path:
        return None
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    return "/".join(quote(_clean(part), safe="") for part in parts)


def _invocation(result: RunResult) -> dict[str, Any]:
    return {
        "executionSuccessful": result.outcome in RELIABLE,
        "exitCode": int(result.exit_code),
        "toolExecutionNotifications": list(_notifications(result)),
    }


def _notifications(result: RunResult) -> Iterable[dict[str, Any]]:
    yield _notification("note" if result.outcome in RELIABLE else "warning", wording.verdict(result).text)
    for finding in result.review.findings if result.is_live else ():
        if not _has_place(finding):
            yield _notification(_LEVEL[finding.severity], wording.finding(finding))


def _notification(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": text}}


def _message(finding: Finding) -> str:
    return terminal(finding.message).strip() or one_line(f"{finding.severity} finding")


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate has no bytes to quote."""
    return text.encode("utf-8", "replace").decode()
