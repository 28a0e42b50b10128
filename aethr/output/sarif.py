"""A run as a SARIF 2.1.0 log, for code scanning and reviewdog.

GitHub rejects the whole log if one result has no location. So a finding without a file of this project
becomes a notification of the invocation, which stays in the log. A run without a reliable verdict is an
invocation that was not successful. A run that called no model has no results.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
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
    run = {
        "tool": {"driver": _driver()},
        "automationDetails": {"id": f"aethr/{quote(_encodable(result.workflow), safe='')}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The project root."}}},
        "invocations": [
            {
                "executionSuccessful": result.outcome in RELIABLE,
                "exitCode": int(result.exit_code),
                "toolExecutionNotifications": _notifications(result),
            }
        ],
        "results": _results(result.review.findings) if result.is_live else [],
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
    for finding in filter(_has_place, findings):
        fingerprint = _fingerprint(finding)
        seen[fingerprint] += 1
        location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.path), "uriBaseId": "%SRCROOT%"}}
        if finding.line is not None and finding.line >= 1:
            location["region"] = {"startLine": finding.line}
        message = terminal(finding.message).strip() or one_line(f"{finding.severity} finding")
        results.append(
            {
                "ruleId": f"aethr/{finding.severity}",
                "ruleIndex": SEVERITIES.index(finding.severity),
                "level": _LEVEL[finding.severity],
                "message": {"text": message},
                "locations": [{"physicalLocation": location}],
                "partialFingerprints": {"aethrFinding/v1": f"{fingerprint}:{seen[fingerprint]}"},
            }
        )
    return results


def _fingerprint(finding: Finding) -> str:
    """The identity of a finding; it stays the same when lines move or its white space changes."""
    words = " ".join(finding.message.split()).lower()
    text = "\0".join((finding.severity, finding.path or "", words))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


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


def _notifications(result: RunResult) -> list[dict[str, Any]]:
    texts = [("note" if result.outcome in RELIABLE else "warning", wording.verdict(result).text)]
    if result.is_live:
        without_place = (finding for finding in result.review.findings if not _has_place(finding))
        texts += [(_LEVEL[finding.severity], wording.finding(finding)) for finding in without_place]
    return [{"level": level, "message": {"text": text}} for level, text in texts]


def _encodable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
