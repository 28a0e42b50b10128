"""A workflow or a run as a Mermaid flowchart, which GitHub draws (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

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
