"""Untrusted text made safe for GitHub Markdown, tables of steps, charts of workflows (pure).

It works in two ways. First, it does not guess where code is: each fenced block is rewritten at the left
margin, with a fence longer than any inside, and closed; so what is code here is code on GitHub. Second, a
dangerous sequence elsewhere (a tag, a link, a mention, an entity) is broken by one zero-width character.
That works, and looks the same, whether a Markdown parser takes it for text or for code. Backslashes and
entities do not work: GitHub looks for mentions after it has resolved both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from aethr.base.records import RunResult
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import counted, rest
from aethr.output import wording

if TYPE_CHECKING:
    from aethr.output.recipients import Recipient

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
    r"|(?:[#!&]|GH-)(?=\d)"  # references, which notify the other issue; ! and & are GitLab's
    r"|/(?=(?:issues|pulls?|discussions|merge_requests|work_items|epics)/\d)"  # the same, as a URL
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


def fold(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    inert = escape(_REACHING.sub(rf"\g<0>{BREAK}", title))
    return f"<details>\n<summary>{inert}</summary>\n\n{body.strip()}\n\n</details>"


def count_rest(total: int, shown: int, one: str) -> str:
    """``And 3 more findings.``, below a list that does not show all; else empty."""
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
                markdown_inline(wording.model(step), 200),
                "<br>".join(context),
                wording.step_tokens(step),
                markdown_inline(wording.step_cost(step)) if result.is_live else result.mode,
                wording.seconds(step.seconds),
            )
        )
    return table(head, rows, "step", fitting)


def recipients_table(recipients: Iterable[Recipient], fitting: Fitting = tuple) -> str:
    """Who saw what: the hosts and agents that prompts went to, and how much; a line if nothing was sent."""
    rows = [
        (
            markdown_inline(each.name, 200),
            markdown_inline(each.reader, 300),
            markdown_inline(each.extent),
            f"{each.bytes_sent:,}",
            each.requests,
        )
        for each in recipients
    ]
    head = ("Host", "Model or agent", "Files", "Bytes of prompts", "Calls")
    return table(head, rows, "recipient", fitting) or "Nothing was sent to a model or an agent."


def bullets(items: Iterable[str], fitting: Fitting = tuple) -> str:
    """A list of plain lines; a last item counts those that did not fit."""
    rows = [f"- {markdown_inline(item, 500)}" for item in items if item.strip()]
    kept = fitting(rows)
    more = rest(len(rows), len(kept))
    return "\n".join((*kept, *([f"- {more}"] if more else [])))


def markdown_inline(text: str, limit: int = 1000) -> str:
    """One line that renders as ``text`` itself: for a table cell, a title or a list item."""
    line = one_line(text, limit)
    line = _REACHING.sub(rf"\g<0>{BREAK}", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
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
    return fence(dedented, language).split("\n")


def fence(lines: Iterable[str], language: str) -> str:
    """Lines as a block of code, without comments and bot commands, which act in raw text too."""
    body = [_COMMAND.sub(rf"\1{BREAK}", _COMMENT.sub(f"<{BREAK}", line)) for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join((fence + language, *body, fence))


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], one: str = "row", fitting: Fitting = tuple
) -> str:
    """A table of cells that are already Markdown; a line below counts the rows that did not fit."""
    if not rows:
        return ""
    titles, rule, *lines = (f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
    kept = fitting(lines)
    more = count_rest(len(lines), len(kept), one)
    return "\n".join((titles, rule, *kept)) + (f"\n\n{more}" if more else "")
