"""The report for a browser: one file without scripts, and with nothing to load (pure).

There are three walls. Each value that the template prints passes through ``terminal``, and Jinja escapes it.
The Markdown of an answer can make text elements only, without attributes. And the page's own policy lets the
browser load nothing, run nothing, and use no style but the one in its head, which it knows by its hash.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from aethr import __version__
from aethr.base.records import Finding, Receipt, RunResult
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import counted
from aethr.output import code, grouping, wording
from aethr.output.code import DiffFile, NumberedFinding
from aethr.output.recipients import find_recipients, list_calls, name_host, summarize

_FOLDER = Path(__file__).parent
TEXTS = 4_000_000
"""The characters of all prompts and answers that a page shows in full."""
MARKDOWN = 100_000
"""A longer answer is shown as it was written: parsing some texts takes quadratic time."""
PARAGRAPH = 20_000
ROWS = 1_000
"""The most files in a table."""
OPEN_LINES = 400
"""A file with more lines and without a finding is folded."""


class FileRow(NamedTuple):
    """What became of a file, or of a context source without files, in words."""

    name: str
    source: str
    sent: str
    to: str
    note: str
    is_whole: bool


class Excerpt(NamedTuple):
    """As much of a text as there is room for, and a line about the rest."""

    shown: str
    rest: str = ""


class StepView(NamedTuple):
    """A call, with its answer and its prompt; ``no_prompt`` says why the prompt is not here."""

    title: str
    facts: str
    notes: tuple[str, ...]
    answer: Excerpt
    prompt: Excerpt
    prompt_sha256: str = ""
    no_prompt: str = ""


def render(result: RunResult) -> str:
    """The whole page."""
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    numbered = itertools.starmap(NumberedFinding, enumerate(grouping.in_order(result.review.open), 1))
    findings = tuple(numbered)
    files = code.read_files(result, findings)
    recipients = find_recipients(result)
    rows = _list_files(result)
    return (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup(style),  # noqa: S704 - a file of the package
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            version=__version__,
            result=result,
            unreal=wording.UNREAL.get(result.mode, ""),
            verdict=wording.verdict(result).text,
            why=[line.text[:1].upper() + line.text[1:] for line in wording.why_not_passed(result)],
            subject=wording.subject(result.subject) if result.subject is not None else "",
            skipped=[*map(wording.skipped, result.skipped), *map(wording.loop, result.loops)],
            spent=wording.spent(result) + wording.expected_cost(result),
            findings=findings,
            beside={each.number for file in files for each in file.findings},
            reviewers=grouping.name_reviewers(result.review.open),
            aside=grouping.set_aside(result.review.findings),
            resolved=list(map(wording.resolution, result.review.resolved)),
            files=files,
            open_lines=OPEN_LINES,
            unseen=_explain_missing_change(result, files),
            said=_list_unsaid(result),
            recipients=recipients,
            seen_by=summarize(recipients),
            rows=rows[:ROWS],
            more_rows=len(rows) - ROWS,
            steps=_list_steps(result),
            wording=wording,
            grouping=grouping,
            one_line=one_line,
            code_of=_code_of,
        )
    )


@functools.cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_FOLDER),
        finalize=lambda value: terminal(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _code_of(found: Finding) -> list[tuple[str, Markup]]:
    """Sign and HTML of each line that a finding quotes or suggests."""
    return [(line[0].replace("|", " "), code.show(line[2:])) for line in wording.code_of(found)]


def _explain_missing_change(result: RunResult, files: Sequence[DiffFile]) -> str:
    """Why the page shows no change, or only a part of it; empty if it shows what was sent."""
    built = {prompt.key for prompt in result.prompts}
    lacking = [step for step in result.steps if step.key not in built]
    if not result.steps and not result.unanswered:
        return "No step was called, so nothing of the change was sent."
    if lacking and not result.prompts:
        return (
            "This report was made from records, which have receipts of what was sent but not the text. "
            "A report that `aethr run` writes shows the change and the prompts."
        )
    if lacking:
        return (
            f"{counted(len(lacking), 'answer')} came from a checkpoint, which does not have the prompts: "
            "what only they had of the change is not shown."
        )
    return "" if files else "No step was sent a change."


def _list_unsaid(result: RunResult) -> list[tuple[str, Markup]]:
    """What the last answers say beside their findings and their verdict, each below the name of its step."""
    said = []
    for step in result.last_answers:
        content = terminal(step.content).strip("\n")
        if beside := grouping.unsaid(content, result.review.findings, result.review.status):
            said.append((wording.title(step), show_markdown(beside)))
    return said


def show_markdown(text: str) -> Markup:
    """Untrusted Markdown as HTML with text elements only: no link, no image, no attribute but ``class``."""
    text = terminal(text)
    if len(text) > MARKDOWN or max(map(len, text.split("\n\n"))) > PARAGRAPH:
        return Markup("<pre>{}</pre>").format(text)
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    parser.disable(["autolink", "entity", "html_block", "html_inline", "image", "link", "reference"])
    tokens = parser.parse(text)
    _strip(tokens)
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - it escapes all text


def _strip(tokens: Iterable[Token]) -> None:
    """Remove all attributes. A heading becomes a paragraph, because the page has an outline of its own."""
    for token in tokens:
        token.attrs, token.info = {}, ""
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            token.attrs = {"class": "heading"} if token.nesting > 0 else {}
        _strip(token.children or ())


def _list_files(result: RunResult) -> list[FileRow]:
    """What every receipt names, and who saw it. What is missing or excluded comes first."""
    receipts: dict[tuple[str, str | None], list[Receipt]] = {}
    seen: dict[tuple[str, str | None], dict[str, None]] = {}
    for call in list_calls(result):
        hosts = dict.fromkeys(map(name_host, call.sent))
        for each in call.context:
            if each.empty:
                continue
            key = each.source, each.path
            receipts.setdefault(key, []).append(each)
            seen.setdefault(key, {}).update(hosts if each.bytes_sent else {})
    rows = (_describe_file(own, seen[key], result) for key, own in receipts.items())
    return sorted(rows, key=lambda row: (row.is_whole, row.name, row.source))


def _describe_file(receipts: Sequence[Receipt], hosts: Iterable[str], result: RunResult) -> FileRow:
    """The row of one file, or of what a source says as a whole, from all receipts of it."""
    most = max(receipts, key=lambda each: each.bytes_sent)
    notes = dict.fromkeys(each.note for each in receipts if each.note)
    note = "; ".join(notes)
    if most.excluded is not None:
        note = f"excluded by rule: {most.excluded}"
    elif not most.complete:
        note = f"not sent: {note}" if not most.bytes_sent else f"in part: {note}"
    return FileRow(
        name=one_line(most.path or f"({most.source})", 300),
        source=one_line(most.source, 100),
        sent=f"{most.bytes_sent:,}",
        to=", ".join(hosts)
        or ("nobody" if result.is_live or not most.bytes_sent else wording.UNREAL[result.mode]),
        note=one_line(note, 500),
        is_whole=most.complete and most.excluded is None,
    )


def _list_steps(result: RunResult) -> list[StepView]:
    """Every call with its answer and its prompt, as far as there is room for both."""
    prompts = {prompt.key: prompt.text for prompt in result.prompts}
    room = TEXTS

    def fit(text: str) -> Excerpt:
        nonlocal room
        shown = text[:room]
        room -= len(shown)
        left = len(text) - len(shown)
        return Excerpt(shown, f"{left:,} more characters are not on this page." if left else "")

    views = []
    for step in result.steps:
        prompt = prompts.get(step.key)
        no_prompt = "This report has no prompts." if not result.prompts else "It came from a checkpoint."
        views.append(
            StepView(
                wording.title(step) + wording.pass_note(step.iteration),
                f"{wording.actor(step)} · {wording.step_spent(step)}",
                tuple(one_line(note, 500) for note in step.notes),
                fit(step.content.strip("\n")),
                fit(prompt or ""),
                step.prompt_sha256,
                no_prompt if prompt is None else "",
            )
        )
    for stopped in result.unanswered:
        title = one_line(stopped.step, 60) + wording.pass_note(stopped.iteration)
        views.append(
            StepView(
                f"{title}, part {stopped.part}",
                "sent, and not answered",
                (),
                Excerpt(""),
                fit(prompts.get(stopped.key, "")),
            )
        )
    return views
