"""A run as a Mermaid flowchart: its steps in their order, and the loops that ran (pure)."""

from __future__ import annotations

from aethr.output import mermaid
from aethr.records import RunResult


def flowchart(result: RunResult) -> str:
    """A fenced Mermaid block; empty for a run without steps, or with too many."""
    latest = {step.id: step for step in result.steps}
    order = {step_id: number for number, step_id in enumerate(latest)}
    arcs = [
        mermaid.Arc(order[loop.step], order[loop.back_to], f"{_passes(loop.iterations)}, {loop.outcome}")
        for loop in result.loops
        if loop.step in order and loop.back_to in order
    ]
    return mermaid.flowchart([(step.id[:40], step.model or step.backend) for step in latest.values()], arcs)


def _passes(number: int) -> str:
    return f"{number} pass{'es' if number != 1 else ''}"
