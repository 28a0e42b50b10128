"""A workflow as a map: its steps, loops as arcs, what each sees and may do, and the worst case of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aethr import context, estimate, workflow
from aethr.estimate import WorstCase
from aethr.output import columns, mermaid, wording
from aethr.records import Plan, PlannedStep, Receipt, Repeat, StepPrepared
from aethr.sanitize import one_line

_GUTTER = {"start": "╭▸", "within": "│ ", "end": "╰─", "alone": "↻ ", "outside": "  "}
_INDENT = 7


class Overview(NamedTuple):
    """A plan, its prompts as they would be now, and the worst case that follows from both."""

    plan: Plan
    prepared: Sequence[StepPrepared]
    worst: tuple[WorstCase, ...]

    @classmethod
    def of(cls, plan: Plan, prepared: Sequence[StepPrepared]) -> Overview:
        return cls(plan, prepared, estimate.worst_case(plan, prepared))


def lines(seen: Overview, width: int | None) -> Iterator[str]:
    """The map for a terminal of ``width`` columns (None: as wide as it gets)."""
    yield from columns.folded(_head(seen), width, 2)
    for number, prepared in enumerate(seen.prepared):
        yield from _step(seen.plan, number, prepared, width)
    for command in workflow.commands(seen.plan.workflow):
        yield from columns.folded(f"  runs the command: {one_line(command)}", width, 4)
    yield from columns.folded("  worst case, with every pass and the longest answers:", width, 4)
    for row in seen.worst:
        yield from columns.folded(f"    {_worst(row)}", width, 6)
    if len([row for row in seen.worst if row.agent is None]) > 1:
        yield from columns.folded(f"    {_total(seen.worst)}", width, 6)


def flowchart(plan: Plan) -> str:
    """The map as Mermaid: steps and loops."""
    ids = [step.spec.id for step in plan.steps]
    arcs = [
        mermaid.Arc(number, ids.index(repeat.back_to), f"until {_until(repeat)}, {_at_most(repeat)}")
        for number, step in enumerate(plan.steps)
        if (repeat := step.spec.repeat)
    ]
    return mermaid.flowchart([(one_line(step.spec.id), *_facts(step)) for step in plan.steps], arcs)


def _head(seen: Overview) -> str:
    calls = sum(row.calls for row in seen.worst if row.agent is None)
    agents = sum(row.calls for row in seen.worst if row.agent is not None)
    most = [wording.counted(calls, "call")] if calls else []
    most += [wording.counted(agents, "agent run")] if agents else []
    spec = seen.plan.workflow
    steps = wording.counted(len(seen.plan.steps), "step")
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
        back = f"back to {one_line(spec.repeat.back_to)} until {_until(spec.repeat)}"
        found.append(f"{back}, {_at_most(spec.repeat)}")
    return found


def _content(source: str, now: StepPrepared) -> str:
    """How much a source gives as of now, and what it leaves out."""
    receipts = [receipt for receipt in now.receipts if receipt.source == source]
    sent = [receipt for receipt in receipts if receipt.bytes_sent]
    said = [f"{wording.counted(len(sent), 'file')}, {_bytes(sent)}"] if sent else []
    said += [one_line(receipt.note) for receipt in receipts if receipt.note and not receipt.path]
    left_out = [receipt for receipt in receipts if receipt.path and not receipt.complete]
    said += [f"not sent: {wording.capped(wording.not_sent(left_out), 3)}"] if left_out else []
    said += ["counts as all of its budget below"] if context.find(source)[0].late else []
    return "; ".join(said) or "nothing"


def _bytes(receipts: Sequence[Receipt]) -> str:
    return wording.counted(sum(receipt.bytes_sent for receipt in receipts), "byte")


def _until(repeat: Repeat) -> str:
    conditions = ["the review passes"] if repeat.until_review_pass else []
    conditions += (
        [f"the answer contains '{one_line(repeat.until_contains, 60)}'"] if repeat.until_contains else []
    )
    conditions += [f"`{one_line(repeat.until_command_passes)}` passes"] if repeat.until_command_passes else []
    return " and ".join(conditions)


def _at_most(repeat: Repeat) -> str:
    return f"{wording.counted(repeat.max_iterations, 'pass', 'passes')} at most"


def _price(worst: Sequence[WorstCase]) -> str:
    """What all calls together cost at most, as far as it is known."""
    known = sum(row.cost_usd for row in worst if row.cost_usd is not None)
    if all(row.cost_usd is not None for row in worst):
        return wording.cost(known)
    return f"{wording.cost(known)} and what is not known" if known else "cost unknown"


def _worst(row: WorstCase) -> str:
    if row.agent is not None:
        runs = wording.counted(row.calls, "run")
        return (
            f"{one_line(row.model)} by {row.agent}: {runs}; its own calls and their cost are not known here"
        )
    tokens = f"about {row.input_tokens:,} tokens in, {row.output_tokens:,} out"
    return (
        f"{one_line(row.model)}: {wording.counted(row.calls, 'call')}, {tokens}, {wording.cost(row.cost_usd)}"
    )


def _total(worst: Sequence[WorstCase]) -> str:
    calls = [row for row in worst if row.agent is None]
    tokens_in, tokens_out = sum(r.input_tokens for r in calls), sum(r.output_tokens for r in calls)
    number = wording.counted(sum(row.calls for row in calls), "call")
    return f"together: {number}, about {tokens_in:,} tokens in, {tokens_out:,} out, {_price(worst)}"
