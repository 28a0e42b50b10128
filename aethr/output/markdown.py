"""Untrusted text made safe for GitHub Markdown, findings, tables of steps, charts of workflows (pure).

It works in two ways. First, it does not guess where code is: each fenced block is rewritten at the left
margin, with a fence longer than any inside, and closed; so what is code here is code on GitHub. Second, a
dangerous sequence elsewhere (a tag, a link, a mention, an entity) is broken by one zero-width character.
That works, and looks the same, whether a Markdown parser takes it for text or for code. Backslashes and
entities do not work: GitHub looks for mentions after it has resolved both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from aethr.base.records import SEVERITIES, Finding, RunResult, StepResult
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import capped, counted, rest
from aethr.output import grouping, wording

STEPS = 30
"""A chart of more steps would be too large to read."""

_PLAIN = re.compile(r"[^A-Za-z0-9 ,._/:-]")
_LONGEST = 120


class Arc(NamedTuple):
    """An arrow from one step back to an earlier one or itself, by their positions."""

    start: int
    end: int
    label: str


def flowchart(steps: Sequence[Sequence[str]], arcs: Sequence[Arc]) -> str:
    """A fenced Mermaid block: each step is a box with its lines, each arc a dotted arrow.

    Empty without steps, or with more than ``STEPS``. Lines and labels may be untrusted.
    """
    if not steps or len(steps) > STEPS:
        return ""
    chart = ["```mermaid", "flowchart LR"]
    for number, lines in enumerate(steps):
        chart.append(f'  s{number}["{"<br/>".join(_plain(line) for line in lines)}"]')
    chart += [f"  s{one} --> s{following}" for one, following in pairwise(range(len(steps)))]
    chart += [f'  s{arc.start} -. "{_plain(arc.label)}" .-> s{arc.end}' for arc in arcs]
    return "\n".join((*chart, "```"))


def _plain(text: str) -> str:
    # Mermaid interprets quotes, brackets, entities and Markdown in a label.
    return _PLAIN.sub("_", text[:_LONGEST])


def run_flowchart(result: RunResult) -> str:
    """The steps and loops of a run as a chart; empty for a run without steps, or with too many."""
    latest = {step.id: step for step in result.steps}
    order = {step_id: number for number, step_id in enumerate(latest)}
    arcs = [
        Arc(
            order[loop.step],
            order[loop.back_to],
            f"{counted(loop.iterations, 'pass', 'passes')}, {loop.outcome}",
        )
        for loop in result.loops
        if loop.step in order and loop.back_to in order
    ]
    return flowchart([(step.id[:40], step.model or step.backend) for step in latest.values()], arcs)


Fitting = Callable[[Sequence[str]], Sequence[str]]
"""Gives the first of these lines, as many as there is room for."""

BREAK = "\u200c"
"""ZERO WIDTH NON-JOINER: not a letter, not white space, kept by ``terminal``."""

_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(\S*)")
_INFO = re.compile(r"[A-Za-z0-9][\w+#.-]{0,29}")
# GitHub renders these languages, or offers to apply them, instead of showing them as code.
_DRAWN = frozenset({"geojson", "math", "mermaid", "stl", "suggestion", "topojson"})

_COMMAND = re.compile(r"^(\s*)(?=/[A-Za-z][\w-]*(?![\w/-]))")
_COMMENT = re.compile(r"<(?=!--)")
_REACHES = (
    r"@(?=\w)"  # mentions, email addresses
    r"|(?:#|GH-)(?=\d)"  # references, which notify the other issue
    r"|/(?=(?:issues|pull|discussions)/\d)"  # the same, as a URL
    r"|ftp(?=://)"  # besides http and https, the only scheme that GitHub links
)
_REACHING = re.compile(_REACHES, re.IGNORECASE)
_DANGER = re.compile(
    r"<(?=[A-Za-z/!?])"  # raw HTML, comments, <scheme:…>
    r"|\](?=[(\[:])"  # links, images, references and their definitions
    r"|&(?=#|(?!(?:amp|lt|gt|quot|nbsp);)[A-Za-z]\w*;)"  # entities that could spell any of these
    rf"|{_REACHES}",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"([\\`*_\[\]~|$#])")
_LIST_LIKE = re.compile(r"^(\d*)([-+=.)])")


def findings_by_file(
    found: Sequence[Finding],
    link: Callable[[Finding], str | None] = lambda _: None,
    fitting: Fitting = tuple,
    code_fitting: Fitting = tuple,
) -> str:
    """The findings by file, the most severe first, with their code folded below each.

    ``link`` gives the URL of a finding's place, or None. Where there is no room for all, the least severe are
    only counted, and ``code_fitting`` decides whose code is shown.
    """
    reviewers = grouping.name_reviewers(found)
    ordered: list[Finding] = []
    texts: list[str] = []
    for group in grouping.by_file(found):
        lines = [_finding(each, link, reviewers) for each in group.findings]
        title = markdown_inline(group.name or "Without a file of the project", 300)
        lines[0] = f"**{title}**\n\n{lines[0]}"  # its worst one, so none is kept without it
        ordered += group.findings
        texts += lines
    ranked = sorted(range(len(texts)), key=lambda at: SEVERITIES.index(ordered[at].severity))
    kept = ranked[: len(fitting([texts[at] for at in ranked]))]
    details = {at: folded for at in kept if (folded := _details(ordered[at]))}
    shown = dict(zip(details, code_fitting(list(details.values())), strict=False))
    out = [part for at in sorted(kept) for part in (texts[at], shown.get(at, "")) if part]
    if hidden := len(details) - len(shown):
        out.append(f"The code of {counted(hidden, 'finding')} is not shown here.")
    return "\n\n".join(filter(None, (*out, _count_rest(len(ranked), len(kept), "finding"))))


def _finding(found: Finding, link: Callable[[Finding], str | None], reviewers: Container[str]) -> str:
    """One line: sign, severity, place, message, who says so and who disputes it, state and id."""
    place, url = markdown_inline(wording.place_of(found)), link(found)
    place = f"[{place}]({url})" if url else place
    by = [markdown_inline(name, 60) for name in found.by if name in reviewers]
    marks = (
        f"by {capped(by)}" if by else "",
        grouping.STATES.get(found.state, ""),
        markdown_inline(found.id or "", 60),
    )
    said = (
        f"{grouping.SIGNS[found.severity]} **{found.severity}**" + (f" {place}:" if place else ":"),
        markdown_inline(found.message),
        markdown_inline(wording.dispute(found), 1100),
        f"*({' · '.join(filter(None, marks))})*" if any(marks) else "",
    )
    return " ".join(filter(None, said))


def _details(found: Finding) -> str:
    """What others wrote about the same defect, its code, and a suggestion as a diff; folded."""
    others = [f"{each.severity}, by {capped(each.by)}: {one_line(each.message)}" for each in found.also]
    lines = [line.removeprefix("| ") for line in wording.code_of(found)]
    has_code = bool(found.evidence or found.suggestion is not None)
    code = _fence(lines, "" if found.suggestion is None else "diff") if has_code else ""
    names = ("code" if found.suggestion is None else "suggestion",) if code else ()
    title = " and ".join((*names, *(["other words"] if others else [])))
    body = "\n\n".join(filter(None, (bullets(others), code)))
    return fold(title.capitalize(), body) if body else ""


def set_aside(found: Sequence[Finding], fitting: Fitting = tuple) -> str:
    """The findings that do not count, folded by why: each with its reason, and the code that proves it."""
    folds = []
    for group in grouping.set_aside(found):
        items = []
        for each in group.findings:
            said = f"{markdown_inline(wording.finding(each))}<br>{markdown_inline(wording.why_closed(each))}"
            code = (
                _fence(terminal(each.check.quote.text).split("\n"), "")
                if each.is_dropped and each.check
                else ""
            )
            items.append(f"{said}\n\n{code}\n")
        kept = fitting(items)
        body = "\n".join((*kept, _count_rest(len(items), len(kept), "finding")))
        name = f"{group.name}: {wording.summary(group.findings)}"
        folds.append(fold(name[:1].upper() + name[1:], body))
    return "\n\n".join(folds)


def answer(step: StepResult, result: RunResult, show: Callable[[str], str], level: str = "####") -> str:
    """What an answer says beside its findings and its verdict; below it all of the answer, folded.

    ``show`` makes a text safe, as much of it as there is room for. An answer with nothing more is not folded.
    """
    content, name = terminal(step.content).strip("\n"), wording.title(step)
    beside = grouping.unsaid(content, result.review.findings, result.review.status)
    titled = f"{level} {markdown_inline(name, 80)}\n\n{show(beside)}" if beside else ""
    without_verdict = grouping.unsaid(content, (), result.review.status)
    folded = fold(f"The whole answer of {name}", show(content)) if without_verdict != beside else ""
    return "\n\n".join(filter(None, (titled.strip("\n"), folded)))


def fold(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    inert = escape(_REACHING.sub(rf"\g<0>{BREAK}", title))
    return f"<details>\n<summary>{inert}</summary>\n\n{body.strip()}\n\n</details>"


def _count_rest(total: int, shown: int, one: str) -> str:
    more = rest(total, shown, one)
    return f"{more.capitalize()}." if more else ""


def steps_table(result: RunResult, fitting: Fitting = tuple) -> str:
    """What each step was sent, and its tokens, cost and time."""
    head = ("Step", "Model", "Context", "Tokens", "Cost", "Time")
    rows = []
    for step in result.steps:
        context = []
        for source in dict.fromkeys(each.source for each in step.context):
            receipts = [each for each in step.context if each.source == source]
            files = sum(1 for each in receipts if each.path is not None and each.bytes_sent)
            sent = f"{counted(files, 'file')}, {sum(each.bytes_sent for each in receipts):,} bytes"
            context.append(f"{markdown_inline(source, 100)}: {sent}")
        rows.append(
            (
                markdown_inline(wording.title(step) + wording.pass_note(step.iteration), 120),
                markdown_inline(step.model or step.backend, 120),
                "<br>".join(context),
                wording.step_tokens(step),
                markdown_inline(wording.step_cost(step)) if result.is_live else result.mode,
                wording.seconds(step.seconds),
            )
        )
    return _table(head, rows, "step", fitting)


def bullets(items: Iterable[str], fitting: Fitting = tuple) -> str:
    """A list of plain lines; a last item counts those that did not fit."""
    rows = [f"- {markdown_inline(item, 500)}" for item in items if item.strip()]
    kept = fitting(rows)
    more = rest(len(rows), len(kept))
    return "\n".join((*kept, *([f"- {more}"] if more else [])))


def markdown_inline(text: str, limit: int = 1000) -> str:
    """One line that renders as ``text`` itself: for a table cell, a title or a list item."""
    line = one_line(text, limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _REACHING.sub(rf"\g<0>{BREAK}", line)
    line = _SPECIAL.sub(r"\\\1", line)
    line = _LIST_LIKE.sub(r"\1\\\2", line)
    return _COMMAND.sub(rf"\1{BREAK}", line)


def markdown_block(text: str) -> str:
    """Markdown that keeps only headings, lists, tables, emphasis and code.

    It contains no HTML, image, mention or bot command; a link shows its URL; every code block is closed.
    The result ends with a newline; put an empty line before and after it. Applying it twice changes nothing.
    """
    out: list[str] = []
    lines = terminal(text).split("\n")
    index = 0
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if opening is None:
            out.append(_COMMAND.sub(rf"\1{BREAK}", _DANGER.sub(rf"\g<0>{BREAK}", lines[index])))
            index += 1
            continue
        fence = opening[2]
        closes = re.compile(rf"[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
        end = next((at for at in range(index + 1, len(lines)) if closes.match(lines[at])), len(lines))
        if out and out[-1].strip():
            out.append("")
        out += _rewrite_fence(lines[index + 1 : end], opening)
        index = end + 1
        if index < len(lines) and lines[index].strip():
            out.append("")
    return "\n".join(out).strip("\n") + "\n"


def _rewrite_fence(code: list[str], opening: re.Match[str]) -> list[str]:
    """The block at the left margin."""
    indent, info = opening[1], opening[3]
    language = info if _INFO.fullmatch(info) and info.lower() not in _DRAWN else ""
    dedented = (line[len(indent) :] if line.startswith(indent) else line.lstrip(" \t") for line in code)
    return _fence(dedented, language).split("\n")


def _fence(lines: Iterable[str], language: str) -> str:
    """Lines as a block of code, without comments and bot commands, which act in raw text too."""
    body = [_COMMAND.sub(rf"\1{BREAK}", _COMMENT.sub(f"<{BREAK}", line)) for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join((fence + language, *body, fence))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], one: str, fitting: Fitting) -> str:
    """A table of cells that are already Markdown; a line below counts the rows that did not fit."""
    if not rows:
        return ""
    titles, rule, *lines = (f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
    kept = fitting(lines)
    more = _count_rest(len(lines), len(kept), one)
    return "\n".join((titles, rule, *kept)) + (f"\n\n{more}" if more else "")
