"""A workflow as a map: its steps, loops as arcs, what each sees and may do, and what a run of it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aethr import context
from aethr.base.records import Plan, PlannedStep, Receipt, Repeat, StepPrepared
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted
from aethr.engine import conditions
from aethr.output import columns, markdown, wording
from aethr.workflow import estimate, planning
from aethr.workflow.estimate import Estimate, Need

_GUTTER = {"start": "╭▸", "within": "│ ", "end": "╰─", "alone": "↻ ", "outside": "  "}
_INDENT = 7


class Overview(NamedTuple):
    """A plan, its prompts as they would be now, and what a run needs by both."""

    plan: Plan
    prepared: Sequence[StepPrepared]
    needs: Estimate

    @classmethod
    def of(cls, plan: Plan, prepared: Sequence[StepPrepared]) -> Overview:
        return cls(plan, prepared, estimate.estimate(plan, prepared))


def lines(seen: Overview, width: int | None) -> Iterator[str]:
    """The map for a terminal of ``width`` columns (None: as wide as it gets)."""
    yield from columns.folded(_head(seen), width, 2)
    for number, prepared in enumerate(seen.prepared):
        yield from _step(seen.plan, number, prepared, width)
    for command in planning.commands(seen.plan.workflow):
        yield from columns.folded(f"  runs the command: {one_line(command)}", width, 4)
    for title, needs in (
        ("about, if every loop ends with its first pass and answers are of usual length:", seen.needs.about),
        ("at most, with every pass, every retry and the longest answers:", seen.needs.most),
    ):
        yield from columns.folded(f"  {title}", width, 4)
        for need in needs:
            yield from columns.folded(f"    {_need(need)}", width, 6)
        called = [need for need in needs if need.agent is None]
        if len(called) > 1:
            yield from columns.folded(f"    together: {_figures(called)}", width, 6)


def flowchart(plan: Plan) -> str:
    """The map as Mermaid: steps and loops."""
    ids = [step.spec.id for step in plan.steps]
    arcs = [
        markdown.Arc(
            number, ids.index(repeat.back_to), f"until {conditions.until(repeat)}, {_at_most(repeat)}"
        )
        for number, step in enumerate(plan.steps)
        if (repeat := step.spec.repeat)
    ]
    return markdown.flowchart([(one_line(step.spec.id), *_facts(step)) for step in plan.steps], arcs)


def _head(seen: Overview) -> str:
    calls = sum(need.calls for need in seen.needs.most if need.agent is None)
    agents = sum(need.calls for need in seen.needs.most if need.agent is not None)
    most = [counted(calls, "call")] if calls else []
    most += [counted(agents, "agent run")] if agents else []
    spec = seen.plan.workflow
    steps = counted(len(seen.plan.steps), "step")
    return f"{one_line(spec.origin)}: {one_line(spec.name)}, {steps}, at most {' and '.join(most)}"


def _step(plan: Plan, number: int, now: StepPrepared, width: int | None) -> Iterator[str]:
    step = plan.steps[number]
    head, below = _gutter(plan, number)
    name = f"{number + 1:>2} {one_line(step.spec.id)}: {', '.join(_facts(step))}"
    first, *rest = columns.folded(name, width and width - len(head) - 2, 5)
    yield f"  {head}{first}"
    for line in rest:
        yield f"  {below}{line}"
    for text in _details(step, now):
        for line in columns.folded(text, width and width - _INDENT, 2):
            yield f"  {below}   {line}"


def _gutter(plan: Plan, number: int) -> tuple[str, str]:
    """What stands left of a step's first line, and of the lines below it. Loops neither overlap nor nest."""
    ids = [step.spec.id for step in plan.steps]
    for end, step in enumerate(plan.steps):
        start = ids.index(step.spec.repeat.back_to) if step.spec.repeat else end + 1
        if start <= number <= end:
            if start == end:
                return _GUTTER["alone"], _GUTTER["outside"]
            place = "start" if number == start else "end" if number == end else "within"
            return _GUTTER[place], _GUTTER["outside" if number == end else "within"]
    return _GUTTER["outside"], _GUTTER["outside"]


def _facts(step: PlannedStep) -> Iterator[str]:
    spec = step.spec
    yield one_line(spec.role)
    yield one_line(step.model.name) if step.model else "no model"
    if step.edits_tree:
        yield f"{spec.backend} edits the tree"
        yield f"with{'out' if spec.unsafe_permissions else ''} its permission checks"
    if spec.reviewing:
        yield "gives the verdict"


def _details(step: PlannedStep, now: StepPrepared) -> list[str]:
    spec = step.spec
    found = [f"sees {one_line(source)}: {_content(source, now)}" for source in spec.context]
    if spec.history_visibility != "all":
        found.append(f"sees of earlier steps: {spec.history_visibility}")
    if spec.repeat:
        back = f"back to {one_line(spec.repeat.back_to)} until {conditions.until(spec.repeat)}"
        found.append(f"{back}, {_at_most(spec.repeat)}")
    return found


def _content(source: str, now: StepPrepared) -> str:
    """How much a source gives as of now, and what it leaves out."""
    receipts = [receipt for receipt in now.receipts if receipt.source == source]
    sent = [receipt for receipt in receipts if receipt.bytes_sent]
    said = [f"{counted(len(sent), 'file')}, {_bytes(sent)}"] if sent else []
    said += [one_line(receipt.note) for receipt in receipts if receipt.note and not receipt.path]
    left_out = [receipt for receipt in receipts if receipt.path and not receipt.complete]
    said += [f"not sent: {capped(wording.not_sent(left_out), 3)}"] if left_out else []
    said += ["counts as all of its budget below"] if context.find(source)[0].late else []
    return "; ".join(said) or "nothing"


def _bytes(receipts: Sequence[Receipt]) -> str:
    return counted(sum(receipt.bytes_sent for receipt in receipts), "byte")


def _at_most(repeat: Repeat) -> str:
    return f"{counted(repeat.max_iterations, 'pass', 'passes')} at most"


def _need(need: Need) -> str:
    if need.agent is not None:
        runs = counted(need.calls, "run")
        return (
            f"{one_line(need.model)} by {need.agent}: {runs}; its own calls and their cost are not known here"
        )
    return f"{one_line(need.model)}: {_figures([need])}"


def _figures(needs: Sequence[Need]) -> str:
    """Calls, tokens and cost of all of them, the last as far as it is known."""
    calls = counted(sum(need.calls for need in needs), "call")
    tokens = f"{sum(need.input_tokens for need in needs):,} tokens in"
    tokens += f", {sum(need.output_tokens for need in needs):,} out"
    known = [need.cost_usd for need in needs if need.cost_usd is not None]
    cost = wording.cost(sum(known) if known else None)
    return f"{calls}, {tokens}, {cost}" + (" and what is not known" if 0 < len(known) < len(needs) else "")
