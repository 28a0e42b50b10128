"""The formats of a report: the table ``FORMATS`` of pure functions from a ``RunResult`` to text.

Text that came from a model, a file or the task is untrusted; each format makes it safe for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from aethr import __version__
from aethr.base import codec
from aethr.base.records import RELIABLE, SEVERITIES, Finding, RunResult, Severity
from aethr.base.sanitize import one_line, terminal
from aethr.output import wording
from aethr.output.markdown import (
    bullets,
    fold,
    markdown_block,
    markdown_inline,
    recipients_table,
    steps_table,
)
from aethr.output.recipients import find_recipients, summarize

SCHEMA = 2
ANNOTATIONS_PER_LEVEL = 10
"""A runner keeps this many annotations of each level for a step, and silently drops the others."""
ANNOTATION_CHARACTERS = 4000

_COMMANDS: Mapping[Severity, str] = {"high": "error", "medium": "warning", "low": "notice"}
"""The runner's command for a finding."""

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
HOME = "https://github.com/aethr/action"

_LEVELS: Mapping[Severity, str] = {"high": "error", "medium": "warning", "low": "note"}
"""The level of a finding in SARIF."""
_MEANINGS: Mapping[Severity, str] = {
    "high": "Wrong in ordinary use, or a danger to data or security.",
    "medium": "Wrong in cases that will occur.",
    "low": "A remark.",
}
_SARIF_RULES = [
    {
        "id": f"aethr/{severity}",
        "name": f"{severity.capitalize()}Finding",
        "shortDescription": {"text": f"A reviewer's finding of {severity} severity."},
        "fullDescription": {"text": _MEANINGS[severity]},
        "help": {"text": "Written by a language model: check it before you act on it."},
        "defaultConfiguration": {"level": _LEVELS[severity]},
    }
    for severity in SEVERITIES
]


class FormatRow(NamedTuple):
    """A format: the function that writes a result in it, and what it is for."""

    render: Callable[[RunResult], str]
    summary: str


def record(result: RunResult) -> dict[str, Any]:
    """The run record as JSON values: the shape of ``--json``."""
    scope = result.scope
    subject = result.subject
    extent = subject.extent if subject is not None else None
    return {
        "schema": SCHEMA,
        "aethr": __version__,
        "task": result.task,
        "workflow": result.workflow,
        "mode": result.mode,
        "scope": {
            "diff": scope.text,
            "chosen": scope.chosen,
            "base": scope.base,
            "head": scope.head,
            "head_sha": scope.head_sha,
            "base_side": scope.base_side,
        },
        "change": {**extent._asdict(), "parts": subject.parts} if subject and extent else None,
        "steps": codec.to_json(result.steps),
        "skipped": codec.to_json(result.skipped),
        "loops": codec.to_json(result.loops),
        "outcome": result.outcome,
        "excluded": codec.to_json(result.excluded),
        "recipients": codec.to_json(find_recipients(result)),
        "unanswered": codec.to_json(result.unanswered),
        "review": codec.to_json(result.review),
        "totals": codec.to_json(result.totals),
        "estimate": codec.to_json(result.estimate),
        "exit_code": int(result.exit_code),
        "checkpoint": result.checkpoint,
        "shard": codec.to_json(result.shard),
    }


def json_text(result: RunResult) -> str:
    return codec.dumps(record(result))


def text(result: RunResult) -> str:
    """Plain lines: findings as ``path:line: [high] message``, with the code that each quotes indented below
    it, verdict, tokens and cost, the last answer. The lines of a file stand together, the worst file first.
    """
    lines = [
        f"Aethr: {one_line(result.workflow)}{_unreal(result)}",
        *_subject(result),
        *_findings(result.review.open),
        *(f"not sent: {name}" for name in wording.not_sent(result.receipts)),
        *(f"excluded by rule: {name}" for name in wording.excluded(result)),
        *(wording.loop(loop) for loop in result.loops),
        *(line.text for line in (*wording.set_aside(result), *wording.ending(result))),
    ]
    for last in result.last_answers:
        lines += ["", f"== {wording.title(last)} ==", terminal(last.content).strip("\n")]
    return "\n".join(lines) + "\n"


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    from aethr.output import grouping  # other formats start without it

    for found in grouping.in_order(findings):
        yield wording.finding(found)
        yield from (f"    {line}" for line in wording.code_of(found))


def html(result: RunResult) -> str:
    """A page for a browser, in one file: the change with the findings beside their lines, and the prompts."""
    from aethr.output import html_page  # the only format that needs Jinja2, Pygments and a Markdown parser

    return html_page.render(result)


def markdown(result: RunResult) -> str:
    """A page for people: verdict, findings by file, what else the last answer says, notes, steps and cost."""
    from aethr.output.page import answer, findings_by_file, set_aside  # other formats start without it

    sections = (
        f"# Aethr: {markdown_inline(result.workflow)}{_unreal(result)}",
        f"**{markdown_inline(wording.verdict(result).text)}**",
        *(markdown_inline(line.text[:1].upper() + line.text[1:]) for line in wording.why_not_passed(result)),
        findings_by_file(result.review.open),
        set_aside(result.review.findings),
        *(answer(last, result, markdown_block, "##") for last in result.last_answers),
        *map(markdown_inline, _subject(result)),
        _titled("Not sent to the model", bullets(wording.not_sent(result.receipts))),
        _titled("Excluded by rule", bullets(wording.excluded(result))),
        _titled("Loops", bullets(map(wording.loop, result.loops))),
        _titled("Steps", steps_table(result)),
        fold(f"Who saw what: {summarize(find_recipients(result))}", recipients_table(result)),
        markdown_inline(wording.spent(result)),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def sarif(result: RunResult) -> str:
    """A SARIF 2.1.0 log as JSON text, for code scanning and reviewdog.

    GitHub rejects the whole log if one result has no location. So a finding without a file of this project
    becomes a notification of the invocation, which stays in the log. A run without a reliable verdict is an
    invocation that was not successful. A run that called no model has no results.
    """
    notes = [("note" if result.outcome in RELIABLE else "warning", wording.verdict(result).text)]
    if result.is_live:
        without_place = (finding for finding in result.review.open if not _has_place(finding))
        notes += [(_LEVELS[finding.severity], wording.finding(finding)) for finding in without_place]
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
    for finding, fingerprint in zip(placed, _fingerprints(placed), strict=True):
        location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.path), "uriBaseId": "%SRCROOT%"}}
        if finding.line is not None and finding.line >= 1:
            location["region"] = {"startLine": finding.line}
            if finding.end_line is not None:
                location["region"]["endLine"] = finding.end_line
        fixes = _sarif_fixes(finding, location)
        if fixes and finding.evidence:  # then the evidence is these lines
            location["region"]["snippet"] = {"text": terminal(finding.evidence)}
        message = terminal(finding.message).strip() or one_line(f"{finding.severity} finding")
        results.append(
            {
                "ruleId": f"aethr/{finding.severity}",
                "ruleIndex": SEVERITIES.index(finding.severity),
                "level": _LEVELS[finding.severity],
                "message": {"text": message},
                "locations": [{"physicalLocation": location}],
                **({"partialFingerprints": fingerprint} if fingerprint else {}),
                **fixes,
            }
        )
        if not all(each.is_open for each in findings):
            results[-1]["suppressions"] = _suppressions(finding)
    return results


def _fingerprints(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """What identifies each finding in other logs: its first id, and the number of the finding there.

    Numbers follow lines and words, not severities, so that another grade does not exchange two findings. Code
    scanning compares only ``primaryLocationLineHash``. If that is missing, its upload computes one, which is
    the same for all findings of a line and changes with the lines below it.
    """
    order = sorted((each.line or 0, each.end_line or 0, each.message, at) for at, each in enumerate(findings))
    numbers: Counter[str] = Counter()
    found: list[dict[str, str]] = [{} for _ in findings]
    for *_, at in order:
        for place in findings[at].every_id[:1]:
            numbers[place] += 1
            name = f"{place}:{numbers[place]}"
            found[at] = {"aethrPlace/v1": name, "primaryLocationLineHash": name}
    return found


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


def annotation_lines(result: RunResult) -> list[str]:
    """Findings as commands for a GitHub runner, most severe first, as many as it shows.

    Empty if no model was called: the findings of a mock say nothing about the code.
    """
    lines: list[str] = []
    for severity, level in _COMMANDS.items() if result.is_live else ():
        found = [finding for finding in result.review.open if finding.severity == severity]
        for finding in found[:ANNOTATIONS_PER_LEVEL]:
            place = ""
            if finding.path and finding.place != "nowhere":
                place = f"file={command_property(finding.path)},"
                place += f"line={finding.line}," if finding.line is not None else ""
            title = command_property(f"Aethr: {severity}")
            message = command_text(finding.message[:ANNOTATION_CHARACTERS])
            lines.append(f"::{level} {place}title={title}::{message}")
    return lines


FORMATS: Mapping[str, FormatRow] = MappingProxyType(
    {
        ".html": FormatRow(html, "a page for a browser, with the change, the prompts and who saw what"),
        ".json": FormatRow(json_text, "the run record, for programs"),
        ".md": FormatRow(markdown, "a page for people"),
        ".sarif": FormatRow(sarif, "findings for code scanning (SARIF 2.1.0)"),
        ".txt": FormatRow(text, "plain lines, findings as path:line: message"),
    }
)


def _unreal(result: RunResult) -> str:
    return f" ({wording.UNREAL[result.mode]}, no model was called)" if not result.is_live else ""


def _subject(result: RunResult) -> tuple[str, ...]:
    """What the run read, and a line for each step that was not called."""
    lines = [wording.subject(result.subject)] if result.subject is not None else []
    return (*lines, *map(wording.skipped, result.skipped))


def _titled(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def command_text(value: str) -> str:
    """Escaped as the text of a runner's command (``ActionCommand.cs`` of the runner)."""
    return terminal(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(value: str) -> str:
    """Escaped as a property of a runner's command."""
    return command_text(value).replace(":", "%3A").replace(",", "%2C")
