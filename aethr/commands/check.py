"""``aethr check``: is the workflow file right, what does it do, and what can it cost at most."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aethr import estimate, sanitize, workflow
from aethr.errors import ConfigError
from aethr.estimate import WorstCase
from aethr.records import Allowance, Gate, Plan, PlannedStep, Repeat, Scope
from aethr.terms import Terms


def main(paths: Sequence[str]) -> int:
    """Print the map of each workflow file. Raises ``ConfigError`` with the mistakes of all of them."""
    mistakes: list[str] = []
    for path in paths or (None,):
        try:
            plan = _plan(path)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for line in _map(plan):
            sys.stdout.write(sanitize.terminal(line) + "\n")
    if mistakes:
        raise ConfigError(mistakes)
    return 0


def _plan(path: str | None) -> Plan:
    """The plan of a mock run: what is checked does not depend on keys, or on whether git is there."""
    project = workflow.open_project(Path.cwd(), path, None)
    terms = Terms("mock", os.environ.get("AETHR_MODEL") or None, Gate(), Allowance())
    return workflow.plan(project, Scope(head_sha=None), terms, {})


def _map(plan: Plan) -> Iterator[str]:
    worst = estimate.worst_case(plan)
    calls = sum(each.calls for each in worst)
    steps = f"{len(plan.steps)} step{'s' if len(plan.steps) != 1 else ''}"
    yield f"{plan.workflow.origin}: {plan.workflow.name}, {steps}, at most {calls} calls"
    for number, step in enumerate(plan.steps, start=1):
        yield from _step(number, step)
    for command in workflow.commands(plan.workflow):
        yield f"  runs        {command}"
    for each in worst:
        yield f"  worst case  {_worst(each)}"


def _step(number: int, step: PlannedStep) -> Iterator[str]:
    spec = step.spec
    model = step.model.name if step.model else "no model"
    facts = [f"{spec.role}", model]
    facts += (
        [spec.backend + (" (edits the tree)" if step.edits_tree else "")] if spec.backend != "model" else []
    )
    facts += ["any command without asking"] if spec.unsafe_permissions else []
    facts += ["gives the verdict"] if spec.reviewing else []
    yield f"  {number}  {spec.id}: {', '.join(facts)}"
    if spec.context:
        yield f"     context: {', '.join(spec.context)}"
    if spec.history_visibility != "all":
        yield f"     sees of earlier steps: {spec.history_visibility}"
    if spec.repeat:
        yield f"     repeats: {_repeat(spec.repeat)}"


def _repeat(repeat: Repeat) -> str:
    conditions = ["the review passes"] if repeat.until_review_pass else []
    conditions += [f"the answer contains {repeat.until_contains!r}"] if repeat.until_contains else []
    conditions += [f"`{repeat.until_command_passes}` passes"] if repeat.until_command_passes else []
    return (
        f"back to {repeat.back_to} until {' and '.join(conditions)}, {repeat.max_iterations} passes at most"
    )


def _worst(each: WorstCase) -> str:
    cost = "cost unknown" if each.cost_usd is None else f"${each.cost_usd:.4f}"
    return (
        f"{each.model}: {each.calls} calls, about {each.input_tokens:,} tokens in, "
        f"{each.output_tokens:,} out, {cost}"
    )
