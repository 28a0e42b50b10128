"""What remains of a run: the table ``FORMATS`` of pure functions from a ``RunResult`` to text.

Everything in a result that a model, a file or a task brought in is untrusted, and is made safe for
the format it goes into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from aethr import __version__
from aethr.base import codec
from aethr.base.records import Extent, Finding, Receipt, RunResult, Severity
from aethr.base.sanitize import one_line, terminal
from aethr.output import wording
from aethr.output.markdown import bullets, findings_table, markdown_block, markdown_inline, steps_table
from aethr.output.sarif import sarif

SCHEMA = 1
ANNOTATIONS_PER_LEVEL = 10
"""A runner keeps that many annotations of each level for a step, and drops the others silently."""
ANNOTATION_CHARACTERS = 4000

_LEVELS: dict[Severity, str] = {"high": "error", "medium": "warning", "low": "notice"}


class FormatRow(NamedTuple):
    """One format: how a result is written in it, and what it is for."""

    render: Callable[[RunResult], str]
    summary: str


def record(result: RunResult) -> dict[str, Any]:
    """The run record as plain JSON values: the shape of ``--json``."""
    scope, review = result.scope, result.review
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
        },
        "change": extent._asdict() if (extent := _extent(result)) is not None else None,
        "steps": [codec.step_to_json(step) for step in result.steps],
        "skipped": [skipped._asdict() for skipped in result.skipped],
        "loops": [loop._asdict() for loop in result.loops],
        "outcome": result.outcome,
        "review": {**review._asdict(), "findings": [finding._asdict() for finding in review.findings]},
        "totals": result.totals._asdict(),
        "exit_code": int(result.exit_code),
        "checkpoint": result.checkpoint,
    }


def _extent(result: RunResult) -> Extent | None:
    return result.subject.extent if result.subject is not None else None


def json_text(result: RunResult) -> str:
    return codec.dumps(record(result))


def text(result: RunResult) -> str:
    """Plain lines: findings as ``path:line: [high] message``, verdict, what it took, then the answer."""
    lines = [
        f"Aethr: {one_line(result.workflow)}{_unreal(result)}",
        *_subject(result),
        *(wording.finding(found) for found in result.review.findings),
        *(f"not sent: {name}" for name in wording.not_sent(_receipts(result))),
        *(wording.loop(loop) for loop in result.loops),
        *(line.text for line in wording.closing(result)),
    ]
    if result.steps:
        last = result.steps[-1]
        lines += ["", f"== {one_line(last.id)} ==", terminal(last.content).strip("\n")]
    return "\n".join(lines) + "\n"


def markdown(result: RunResult) -> str:
    """A page for people: verdict, findings, the last answer, what was not sent, and what it took."""
    sections = (
        f"# Aethr: {markdown_inline(result.workflow)}{_unreal(result)}",
        f"**{markdown_inline(wording.verdict(result).text)}**",
        *map(markdown_inline, _subject(result)),
        findings_table(result.review.findings),
        _answer(result),
        _titled("Not sent to the model", bullets(wording.not_sent(_receipts(result)))),
        _titled("Loops", bullets(map(wording.loop, result.loops))),
        _titled("Steps", steps_table(result)),
        markdown_inline(wording.spent(result)),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def annotation_lines(result: RunResult) -> list[str]:
    """Findings as a GitHub runner's commands, most severe first, as many as it will show.

    A run without a model has none: its findings are about nothing.
    """
    if not result.is_live:
        return []
    lines: list[str] = []
    for severity, level in _LEVELS.items():
        found = [finding for finding in result.review.findings if finding.severity == severity]
        lines += [_annotation(level, finding) for finding in found[:ANNOTATIONS_PER_LEVEL]]
    return lines


FORMATS: Mapping[str, FormatRow] = MappingProxyType(
    {
        ".json": FormatRow(json_text, "the run record, for programs"),
        ".md": FormatRow(markdown, "a page for people"),
        ".sarif": FormatRow(sarif, "findings for code scanning (SARIF 2.1.0)"),
        ".txt": FormatRow(text, "plain lines, findings as path:line: message"),
    }
)


def _unreal(result: RunResult) -> str:
    return f" ({wording.UNREAL[result.mode]}, no model was called)" if not result.is_live else ""


def _subject(result: RunResult) -> tuple[str, ...]:
    """The line that says what the run read; and a line for each step that had nothing to read."""
    lines = [wording.subject(result.subject)] if result.subject is not None else []
    return (*lines, *map(wording.skipped, result.skipped))


def _receipts(result: RunResult) -> tuple[Receipt, ...]:
    """The receipts of all steps; a step that ran again, or several that saw the same, count once."""
    return tuple(dict.fromkeys(receipt for step in result.steps for receipt in step.context))


def _answer(result: RunResult) -> str:
    if not result.steps:
        return ""
    last = result.steps[-1]
    return f"## {markdown_inline(last.id)}\n\n{markdown_block(last.content)}"


def _titled(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _annotation(level: str, finding: Finding) -> str:
    properties = [f"title={command_property(f'Aethr: {finding.severity}')}"]
    if finding.path and finding.place != "nowhere":
        properties.insert(0, f"file={command_property(finding.path)}")
        if finding.line is not None:
            properties.insert(1, f"line={finding.line}")
    return f"::{level} {','.join(properties)}::{command_text(finding.message[:ANNOTATION_CHARACTERS])}"


def command_text(value: str) -> str:
    """The escapes of a runner's command (its source: ``ActionCommand.cs``)."""
    return terminal(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(value: str) -> str:
    return command_text(value).replace(":", "%3A").replace(",", "%2C")
