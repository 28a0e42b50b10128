"""A run as a Mermaid flowchart: its steps in their order, and the loops that ran (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from aethr.records import RunResult, StepResult

STEPS = 30
"""More steps than this are no map any more."""

_PLAIN = re.compile(r"[^A-Za-z0-9 ._/:-]")


def flowchart(result: RunResult) -> str:
    """A fenced Mermaid block; empty for a run without steps, or with too many."""
    latest = {step.id: step for step in result.steps}
    if not latest or len(latest) > STEPS:
        return ""
    return "\n".join(("```mermaid", "flowchart LR", *_lines(result, latest), "```"))


def _lines(result: RunResult, latest: dict[str, StepResult]) -> Iterator[str]:
    names = {step_id: f"s{number}" for number, step_id in enumerate(latest)}
    for step_id, step in latest.items():
        yield f'  {names[step_id]}["{_label(step)}"]'
    nodes = tuple(names.values())
    for one, following in pairwise(nodes):
        yield f"  {one} --> {following}"
    for loop in result.loops:
        if loop.step in names and loop.back_to in names:
            passes = f"{loop.iterations} pass{'es' if loop.iterations != 1 else ''}, {loop.outcome}"
            yield f'  {names[loop.step]} -. "{passes}" .-> {names[loop.back_to]}'


def _label(step: StepResult) -> str:
    """Mermaid reads quotes, brackets, entities and Markdown in a label: only plain characters get there."""
    who = step.model or step.backend
    return f"{_plain(step.id, 40)}<br/>{_plain(who, 60)}"


def _plain(text: str, limit: int) -> str:
    return _PLAIN.sub("_", text[:limit])
