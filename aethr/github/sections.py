"""The parts of a review as Markdown for GitHub: findings, what was not sent, the receipt (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from aethr.github.diagram import flowchart
from aethr.github.fit import Measure, rows_within
from aethr.output import wording
from aethr.output.markdown import Fitting, bullets, findings_table, steps_table
from aethr.records import Finding, RunResult


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
    return findings_table(found, partial(_address, blobs), _within(limit, measure))


def not_sent(result: RunResult, limit: int, measure: Measure) -> str:
    """What the models did not get to see."""
    receipts = dict.fromkeys(receipt for step in result.steps for receipt in step.context)
    items = wording.not_sent(receipts)
    return f"**Not sent to the model:**\n\n{listed(items, limit, measure)}" if items else ""


def receipt(result: RunResult, limit: int, measure: Measure) -> str:
    """Folded: steps, models, context, tokens, cost, the loops, and a map of the run."""
    steps = steps_table(result, _within(limit // 2, measure))
    loops = listed([wording.loop(loop) for loop in result.loops], limit // 4, measure)
    parts = (steps, loops, flowchart(result))
    return folded(f"Receipt: {wording.spent(result)}", "\n\n".join(part for part in parts if part))


def listed(items: Sequence[str], limit: int, measure: Measure) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    return bullets(items, _within(limit, measure))


def folded(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{body.strip()}\n\n</details>"


def _within(limit: int, measure: Measure) -> Fitting:
    return partial(rows_within, limit=limit, measure=measure)


def _address(blobs: Blobs, found: Finding) -> str | None:
    """A link, if the path is, or can be, one of the repository."""
    path = found.path or ""
    unsure = found.place == "nowhere" or any(part in ("", ".", "..") for part in path.split("/"))
    return None if unsure or len(path) > 400 or not _encodable(path) else blobs.link(path, found.line)


def _encodable(path: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in path)
