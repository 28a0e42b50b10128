"""The formats of a report: the table ``FORMATS`` of pure functions from a ``RunResult`` to text.

Text that came from a model, a file or the task is untrusted; each format makes it safe for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from aethr import __version__
from aethr.base import codec
from aethr.base.records import Finding, RunResult, Severity
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

    found = find_recipients(result)
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
        fold(f"Who saw what: {summarize(found)}", recipients_table(found)),
        markdown_inline(wording.spent(result)),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


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


def _diagnostics(name: Literal["code_quality", "rdjson", "sarif"]) -> Callable[[RunResult], str]:
    """The function of that name in ``diagnostics``, without which other formats start."""

    def render(result: RunResult) -> str:
        from aethr.output import diagnostics

        text: str = getattr(diagnostics, name)(result)
        return text

    return render


FORMATS: Mapping[str, FormatRow] = MappingProxyType(
    {
        ".codequality": FormatRow(_diagnostics("code_quality"), "findings for GitLab's Code Quality report"),
        ".html": FormatRow(html, "a page for a browser, with the change, the prompts and who saw what"),
        ".json": FormatRow(json_text, "the run record, for programs"),
        ".md": FormatRow(markdown, "a page for people"),
        ".rdjson": FormatRow(_diagnostics("rdjson"), "findings for reviewdog (Reviewdog Diagnostic Format)"),
        ".sarif": FormatRow(_diagnostics("sarif"), "findings for code scanning (SARIF 2.1.0)"),
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
