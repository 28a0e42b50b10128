"""The parts of a review as Markdown for GitHub: findings, what was not sent, the receipt (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from aethr.github.diagram import flowchart
from aethr.github.fit import Measure, rows_within
from aethr.output import wording
from aethr.output.markdown import markdown_inline
from aethr.records import Finding, Receipt, RunResult, StepResult


class Blobs(NamedTuple):
    """Where the files of one commit are on the server, for links."""

    server_url: str
    repository: str
    commit: str

    def link(self, path: str, line: int | None) -> str:
        name = "/".join(quote(part, safe="") for part in path.split("/"))
        anchor = f"#L{line}" if line is not None else ""
        return f"{self.server_url}/{self.repository}/blob/{self.commit}/{name}{anchor}"


def findings(found: Sequence[Finding], blobs: Blobs, limit: int, measure: Measure) -> str:
    """A table, most severe first; a last line says how many did not fit."""
    if not found:
        return ""
    head = "| Severity | Place | Finding |\n| --- | --- | --- |"
    rows = [_finding(each, blobs) for each in found]
    kept = rows_within(rows, limit - measure(head), measure)
    left = len(rows) - len(kept)
    more = f"\n\n{wording.counted(left, 'more finding')}." if left else ""
    return "\n".join((head, *kept)) + more


def not_sent(result: RunResult, limit: int, measure: Measure) -> str:
    """What the models did not get to see."""
    receipts = dict.fromkeys(receipt for step in result.steps for receipt in step.context)
    items = wording.not_sent(receipts)
    return f"**Not sent to the model:**\n\n{bullets(items, limit, measure)}" if items else ""


def receipt(result: RunResult, limit: int, measure: Measure) -> str:
    """Folded: steps, models, context, tokens, cost, the loops, and a map of the run."""
    head = "| Step | Model | Context | Tokens | Cost | Time |\n| --- | --- | --- | --- | --- | --- |"
    rows = rows_within([_step(step, result) for step in result.steps], limit // 2, measure)
    left = len(result.steps) - len(rows)
    more = f"\n\n{wording.counted(left, 'more step')}." if left else ""
    loops = bullets([wording.loop(loop) for loop in result.loops], limit // 4, measure)
    parts = ("\n".join((head, *rows)) + more, loops, flowchart(result))
    return folded(f"Receipt: {wording.spent(result)}", "\n\n".join(part for part in parts if part))


def bullets(items: Sequence[str], limit: int, measure: Measure) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    rows = [f"- {markdown_inline(item, 300)}" for item in items if item.strip()]
    kept = rows_within(rows, limit, measure)
    left = len(rows) - len(kept)
    return "\n".join((*kept, *([f"- and {left} more"] if left else [])))


def folded(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{body.strip()}\n\n</details>"


def _finding(found: Finding, blobs: Blobs) -> str:
    return f"| {found.severity} | {_place(found, blobs)} | {markdown_inline(found.message, 500)} |"


def _place(found: Finding, blobs: Blobs) -> str:
    """A link, if the path is, or can be, one of the repository."""
    if not found.path:
        return ""
    text = markdown_inline(wording.place_of(found), 200)
    parts = found.path.split("/")
    unsure = found.place == "nowhere" or any(part in ("", ".", "..") for part in parts)
    if unsure or len(found.path) > 400 or not _encodable(found.path):
        return text
    return f"[{text}]({blobs.link(found.path, found.line)})"


def _encodable(path: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in path)


def _step(step: StepResult, result: RunResult) -> str:
    again = f" (pass {step.iteration})" if step.iteration > 1 else ""
    cells = (
        markdown_inline(step.id + again, 80),
        markdown_inline(step.model or step.backend, 120),
        "<br>".join(_context(step.context)),
        wording.step_tokens(step),
        "mock" if result.mode == "mock" else markdown_inline(wording.step_cost(step)),
        wording.seconds(step.seconds),
    )
    return f"| {' | '.join(cells)} |"


def _context(receipts: Iterable[Receipt]) -> Iterator[str]:
    """One line for each source: how many files, and bytes sent."""
    sources: dict[str, list[Receipt]] = {}
    for each in receipts:
        sources.setdefault(each.source, []).append(each)
    for source, of_it in sources.items():
        files = sum(1 for each in of_it if each.path is not None and each.bytes_sent)
        sent = f"{wording.counted(files, 'file')}, {sum(each.bytes_sent for each in of_it):,} bytes"
        yield f"{markdown_inline(source, 100)}: {sent}"
