"""A workflow as a map: its steps, its loops as arcs, what each step sees and may do, what a run needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aethr import context, engine
from aethr.base import codec
from aethr.base.records import Plan, PlannedStep, Repeat, StepPrepared, changes_in, is_git_diff
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted, fold
from aethr.engine import conditions
from aethr.output import markdown, wording
from aethr.workflow import egress, estimate, planning

_GUTTER = {"start": "╭▸", "within": "│ ", "end": "╰─", "alone": "↻ ", "outside": "  "}
_INDENT = 7


def lines(plan: Plan, width: int | None, environ: Mapping[str, str]) -> Iterator[str]:
    """The map for a terminal of ``width`` columns; None does not fold lines. Prompts are as they are now.

    ``environ`` says which hosts are called.
    """
    prompts = list(engine.preview(plan))
    needs = estimate.estimate(plan, prompts)
    spec = plan.workflow
    head = f"{one_line(spec.origin)}: {one_line(spec.name)}, {counted(len(plan.steps), 'step')}"
    yield from fold(head, width, 2)
    if needs.most:
        yield from fold(f"  {wording.estimate(needs)}", width, 4)
    for number, step in enumerate(plan.steps):
        parts = [prepared for prepared in prompts if prepared.id == step.spec.id]
        yield from _draw_step(plan, number, parts, width)
    for text in _describe_instructions(plan, prompts):
        yield from fold(f"  {text}", width, 4)
    for command in planning.commands(plan.workflow):
        yield from fold(f"  runs the command: {one_line(command)}", width, 4)
    for text in egress.describe(spec, environ):
        yield from fold(f"  {text}", width, 4)
    cut = f", each change in {needs.late_parts} parts" if needs.late_parts > 1 else ""
    for title, models in (
        ("about, if every loop ends with its first pass and answers are of usual length:", needs.about),
        (f"at most, with every pass, every retry and the longest answers{cut}:", needs.most),
    ):
        if not models:
            continue
        yield from fold(f"  {title}", width, 4)
        for need in models:
            yield from fold(f"    {wording.need(need)}", width, 6)


def flowchart(plan: Plan) -> str:
    """The map as Mermaid: steps and loops."""
    ids = [step.spec.id for step in plan.steps]
    arcs = [
        markdown.Arc(number, ids.index(repeat.back_to), _describe_end(repeat))
        for number, step in enumerate(plan.steps)
        if (repeat := step.spec.repeat)
    ]
    return markdown.flowchart([(one_line(step.spec.id), *_describe_step(step)) for step in plan.steps], arcs)


def _draw_step(plan: Plan, number: int, parts: Sequence[StepPrepared], width: int | None) -> Iterator[str]:
    step = plan.steps[number]
    spec = step.spec
    head, below = _draw_gutter(plan, number)
    name = f"{number + 1:>2} {one_line(spec.id)}: {', '.join(_describe_step(step))}"
    first, *rest = fold(name, width and width - len(head) - 2, 5)
    yield f"  {head}{first}"
    for line in rest:
        yield f"  {below}{line}"
    details = [f"sees {one_line(source)}: {_describe_source(step, source, parts)}" for source in spec.context]
    if len(parts) > 1:
        details.append(f"runs for each of {len(parts)} parts of the change")
    details += _describe_model(step)
    if spec.history_visibility != "all":
        details.append(f"sees of earlier steps: {spec.history_visibility}")
    if spec.repeat:
        details.append(f"back to {one_line(spec.repeat.back_to)} {_describe_end(spec.repeat)}")
    for text in details:
        for line in fold(text, width and width - _INDENT, 2):
            yield f"  {below}   {line}"


def _draw_gutter(plan: Plan, number: int) -> tuple[str, str]:
    """What is left of a step's first line, and left of its others. Loops neither overlap nor nest."""
    ids = [step.spec.id for step in plan.steps]
    for end, step in enumerate(plan.steps):
        start = ids.index(step.spec.repeat.back_to) if step.spec.repeat else end + 1
        if start <= number <= end:
            if start == end:
                return _GUTTER["alone"], _GUTTER["outside"]
            place = "start" if number == start else "end" if number == end else "within"
            return _GUTTER[place], _GUTTER["outside" if number == end else "within"]
    return _GUTTER["outside"], _GUTTER["outside"]


def _describe_step(step: PlannedStep) -> Iterator[str]:
    spec = step.spec
    yield one_line(spec.role)
    yield one_line(step.model.name) if step.model else "no model"
    if step.edits_tree:
        yield f"{spec.backend} edits the tree"
        allowed = f", which allow {', '.join(spec.allow)}" if spec.allow else ""
        yield f"with{'out' if spec.unsafe_permissions else ''} its permission checks{allowed}"
    if spec.reviewing:
        yield "gives the verdict"
    if spec.answer == "schema":
        yield "answers by schema"
    if spec.verify:
        high = "" if spec.verify_high else ", disputes high ones"
        yield f"verifies {capped([one_line(name) for name in spec.verify])}{high}"


def _describe_model(step: PlannedStep) -> Iterator[str]:
    """What is not usual about the calls of its model: where they go, what they send, who else may answer."""
    if step.model is None:
        return
    if step.model.endpoint is not None:
        yield f"calls the address in {step.model.endpoint}"
    if step.edits_tree:
        return
    if step.model.reasoning_effort is not None:
        yield f"reasoning_effort: {step.model.reasoning_effort}"
    if step.model.options:
        yield f"options: {one_line(codec.line(dict(step.model.options)).strip(), 500)}"
    if step.model.fallback:
        yield f"fallback: {capped([one_line(name) for name in step.model.fallback])}"


def _describe_source(step: PlannedStep, source: str, parts: Sequence[StepPrepared]) -> str:
    """How much a source gives now, and what it does not send."""
    every = dict.fromkeys(receipt for part in parts for receipt in part.receipts)
    receipts = [receipt for receipt in every if receipt.source == source]
    sent = [receipt.bytes_sent for receipt in receipts if receipt.bytes_sent]
    said = [f"{counted(len(sent), 'file')}, {counted(sum(sent), 'byte')}"] if sent else []
    said += [one_line(receipt.note) for receipt in receipts if receipt.note and not receipt.path]
    excluded = [
        f"{one_line(each.path)} ({each.excluded})" for each in receipts if each.path and each.excluded
    ]
    said += [f"excluded by rule: {capped(excluded)}"] if excluded else []
    unsent = (receipt for receipt in receipts if receipt.path and not receipt.bytes_sent)
    said += wording.remarks(unsent) if source in step.about_change else ()
    left_out = [receipt for receipt in receipts if receipt.path and not receipt.complete]
    said += [wording.missing(left_out)] if left_out else []
    said += ["counts as all of its budget below"] if context.find(source)[0].late else []
    return "; ".join(said) or "nothing"


def _describe_instructions(plan: Plan, prompts: Sequence[StepPrepared]) -> Iterator[str]:
    """The patterns of each instruction, and how many files of the present change it is for."""
    receipts = dict.fromkeys(receipt for prepared in prompts for receipt in prepared.receipts)
    read = {source for step in plan.steps for source in changes_in(step.spec.context)}
    for each in plan.workflow.instructions:
        files = {receipt.path for receipt in receipts if plan.concerns(each, receipt)}
        said = f"{counted(len(files), 'file')} of the present change"
        if not any(map(is_git_diff, read)):
            said = "the change is only known during the run" if read else "no step reads a change"
        yield f"instruction for {one_line(', '.join(each.paths))}: {said}"


def _describe_end(repeat: Repeat) -> str:
    passes = counted(repeat.max_iterations, "pass", "passes")
    return f"until {conditions.until(repeat)}, {passes} at most"
