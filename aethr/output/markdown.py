"""Untrusted text made safe for GitHub Markdown, tables of findings and steps, charts of workflows (pure).

Two ideas carry it. First, structure is not guessed but set: each fenced block is written anew at the
left margin, with a fence longer than any inside, and closed; so what is code here is code on GitHub.
Second, everywhere else a dangerous sequence (a tag, a link, a mention, an entity) is broken by one
character without width, which works, and looks the same, whether a reader of Markdown takes the place
for text or for code. Backslashes and entities would not do: GitHub looks for mentions after it has
resolved both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from aethr.base.records import Finding, Receipt, RunResult, StepResult
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import counted, rest
from aethr.output import wording

STEPS = 30
"""More steps than this are no map any more."""

_PLAIN = re.compile(r"[^A-Za-z0-9 ,._/:-]")
_LONGEST = 120


class Arc(NamedTuple):
    """A way back from one step to an earlier one (or itself), by their positions."""

    start: int
    end: int
    label: str


def flowchart(steps: Sequence[Sequence[str]], arcs: Sequence[Arc], direction: str = "LR") -> str:
    """A fenced block: each step as a box of these lines, in their order, and the arcs dotted.

    Empty without a step, or with too many. Any text may be in a line or a label.
    """
    if not steps or len(steps) > STEPS:
        return ""
    return "\n".join(("```mermaid", f"flowchart {direction}", *_lines(steps, arcs), "```"))


def _lines(steps: Sequence[Sequence[str]], arcs: Sequence[Arc]) -> Iterator[str]:
    for number, said in enumerate(steps):
        yield f'  s{number}["{"<br/>".join(_plain(line) for line in said)}"]'
    for one, following in pairwise(range(len(steps))):
        yield f"  s{one} --> s{following}"
    for arc in arcs:
        yield f'  s{arc.start} -. "{_plain(arc.label)}" .-> s{arc.end}'


def _plain(text: str) -> str:
    """Mermaid reads quotes, brackets, entities and Markdown in a label: only plain characters get there."""
    return _PLAIN.sub("_", text[:_LONGEST])


def run_flowchart(result: RunResult) -> str:
    """A fenced Mermaid block; empty for a run without steps, or with too many."""
    latest = {step.id: step for step in result.steps}
    order = {step_id: number for number, step_id in enumerate(latest)}
    arcs = [
        Arc(order[loop.step], order[loop.back_to], f"{_passes(loop.iterations)}, {loop.outcome}")
        for loop in result.loops
        if loop.step in order and loop.back_to in order
    ]
    return flowchart([(step.id[:40], step.model or step.backend) for step in latest.values()], arcs)


def _passes(number: int) -> str:
    return f"{number} pass{'es' if number != 1 else ''}"


Fitting = Callable[[Sequence[str]], Sequence[str]]
"""Those of the first lines for which there is room."""

BREAK = "\u200c"
"""ZERO WIDTH NON-JOINER: not a letter, not white space, kept by ``terminal``."""

_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(\S*)")
_INFO = re.compile(r"[A-Za-z0-9][\w+#.-]{0,29}")
# Languages that GitHub draws, or offers to apply, instead of showing them as code.
_DRAWN = frozenset({"geojson", "math", "mermaid", "stl", "suggestion", "topojson"})

_COMMAND = re.compile(r"^(\s*)(?=/[A-Za-z][\w-]*(?![\w/-]))")
_COMMENT = re.compile(r"<(?=!--)")
_REACHES = (
    r"@(?=\w)"  # mentions, mail addresses
    r"|(?:#|GH-)(?=\d)"  # cross-references, which notify the other side
    r"|/(?=(?:issues|pull|discussions)/\d)"  # the same, as the address of a page
    r"|ftp(?=://)"  # the one scheme besides http and https that GitHub links by itself
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


def findings_table(
    found: Iterable[Finding],
    link: Callable[[Finding], str | None] = lambda _: None,
    fitting: Fitting = tuple,
) -> str:
    """The findings, most severe first. ``link`` gives the address of a finding's place, where it has one."""
    rows = []
    for each in found:
        place, address = markdown_inline(wording.place_of(each)), link(each)
        linked = f"[{place}]({address})" if address else place
        rows.append((each.severity, linked, markdown_inline(each.message)))
    return _table(("Severity", "Place", "Finding"), rows, "finding", fitting)


def steps_table(result: RunResult, fitting: Fitting = tuple) -> str:
    """What each step was sent, and what it took."""
    head = ("Step", "Model", "Context", "Tokens", "Cost", "Time")
    return _table(head, [_step(step, result) for step in result.steps], "step", fitting)


def bullets(items: Iterable[str], fitting: Fitting = tuple) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    rows = [f"- {markdown_inline(item, 500)}" for item in items if item.strip()]
    kept = fitting(rows)
    more = rest(len(rows), len(kept))
    return "\n".join((*kept, *([f"- {more}"] if more else [])))


def markdown_inline(text: str, limit: int = 1000) -> str:
    """One line of ``text`` that renders as itself: for a table cell, a title, a list item."""
    line = one_line(text, limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _REACHING.sub(rf"\g<0>{BREAK}", line)
    line = _SPECIAL.sub(r"\\\1", line)
    line = _LIST_LIKE.sub(r"\1\\\2", line)
    return _COMMAND.sub(rf"\1{BREAK}", line)


def markdown_block(text: str) -> str:
    """Markdown that keeps headings, lists, tables, emphasis and code, and can do nothing else.

    No HTML, image, mention or bot command comes out of it; a link shows its address; nothing stays
    open. The result ends with a newline; put an empty line before and after it. Applying it twice
    changes nothing.
    """
    out: list[str] = []
    lines = terminal(text).split("\n")
    index = 0
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if opening is None:
            out.append(_prose(lines[index]))
            index += 1
            continue
        end = _closing(lines, index + 1, opening[2])
        _separate(out)
        out += _fenced(lines[index + 1 : end], opening)
        index = end + 1
        if index < len(lines) and lines[index].strip():
            out.append("")
    return "\n".join(out).strip("\n") + "\n"


def _separate(out: list[str]) -> None:
    if out and out[-1].strip():
        out.append("")


def _closing(lines: list[str], start: int, fence: str) -> int:
    """The line that closes ``fence``, or one past the last where none does."""
    closes = re.compile(rf"[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    return next((at for at in range(start, len(lines)) if closes.match(lines[at])), len(lines))


def _fenced(code: list[str], opening: re.Match[str]) -> list[str]:
    indent, info = opening[1], opening[3]
    language = info if _INFO.fullmatch(info) and info.lower() not in _DRAWN else ""
    body = [_code(line[len(indent) :] if line.startswith(indent) else line.lstrip(" \t")) for line in code]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *body, fence]


def _code(line: str) -> str:
    """A line of a code block: no comment for a reader of the raw text, no command for a bot."""
    return _COMMAND.sub(rf"\1{BREAK}", _COMMENT.sub(f"<{BREAK}", line))


def _prose(line: str) -> str:
    return _COMMAND.sub(rf"\1{BREAK}", _DANGER.sub(rf"\g<0>{BREAK}", line))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], one: str, fitting: Fitting) -> str:
    """A table of cells that are Markdown already; a last line counts the rows that do not fit."""
    if not rows:
        return ""
    titles, rule, *lines = (f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
    kept = fitting(lines)
    more = rest(len(lines), len(kept), one)
    return "\n".join((titles, rule, *kept)) + (f"\n\n{more.capitalize()}." if more else "")


def _step(step: StepResult, result: RunResult) -> tuple[str, ...]:
    again = f" (pass {step.iteration})" if step.iteration > 1 else ""
    return (
        markdown_inline(step.id + again, 80),
        markdown_inline(step.model or step.backend, 120),
        "<br>".join(_context(step.context)),
        wording.step_tokens(step),
        markdown_inline(wording.step_cost(step)) if result.is_live else result.mode,
        wording.seconds(step.seconds),
    )


def _context(receipts: Iterable[Receipt]) -> Iterator[str]:
    """One line for each source: how many files, and bytes sent."""
    sources: dict[str, list[Receipt]] = {}
    for each in receipts:
        sources.setdefault(each.source, []).append(each)
    for source, of_it in sources.items():
        files = sum(1 for each in of_it if each.path is not None and each.bytes_sent)
        sent = f"{counted(files, 'file')}, {sum(each.bytes_sent for each in of_it):,} bytes"
        yield f"{markdown_inline(source, 100)}: {sent}"
