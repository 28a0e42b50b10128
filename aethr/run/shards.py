"""Merge the records of shards into the record, outcome and exit code that one run would have had.

A record is taken only with the others of its plan. What no record has is missing, and makes the result
incomplete: a shard, or a part of the change that a step did not answer for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr import engine, review
from aethr.base import codec
from aethr.base.errors import ExitCode, UsageError
from aethr.base.options import MOST_SHARDS
from aethr.base.records import (
    Answer,
    Estimate,
    Gate,
    Mode,
    Need,
    RunResult,
    ShardPlan,
    ShardResult,
    StepResult,
    Unanswered,
)
from aethr.base.words import capped
from aethr.engine import checkpoint
from aethr.output import report
from aethr.review import Verdict


class ShardRecord(NamedTuple):
    """The record of a shard, and the name of its file. ``document`` is all of it, as JSON values."""

    name: str
    document: Mapping[str, object]
    task: str
    workflow: str
    mode: Mode
    steps: tuple[StepResult, ...]
    shard: ShardResult
    estimate: Estimate | None
    unanswered: tuple[Unanswered, ...] = ()


def load(name: str) -> ShardRecord:
    """The record of a shard in this file. Raises ``UsageError``."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(checkpoint.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise UsageError(f"{name}: cannot read the record: {reason}", "Check the path.") from error
    again = "Write it with `aethr run --shard I/N --report FILE.json`."
    if len(data) > checkpoint.MAX_BYTES:
        raise UsageError(f"{name}: not a record: larger than {checkpoint.MAX_BYTES >> 20} MiB", again)
    try:
        return parse(name, codec.an_object(codec.loads(data.decode()), "a record"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not the record of a shard: it is not UTF-8 text", again) from error
    except ValueError as error:
        raise UsageError(f"{name}: not the record of a shard: {error}", again) from error


def merge(
    records: Sequence[ShardRecord],
    gate: Gate,
    refused: Sequence[str] = (),
    answers: Sequence[Answer] = (),
    is_gone: Callable[[str], bool] = lambda _: False,
) -> RunResult:
    """The result of the run that these are the shards of, judged once, with this gate and these answers.

    ``refused`` has a line for each record that does not count, ``is_gone`` is that of a ``Plan``. Raises
    ``UsageError`` for records of different runs, and for two different ones of one shard.
    """
    shards = _by_number(records)
    first = next(iter(shards.values()))
    plans = (each.shard.plan for each in shards.values())
    plan = next((each for each in plans if each is not None), None)
    if plan is None:
        raise UsageError(f"{first.name}: the shard stopped before it had read the change", "Run it again.")
    order = [step.id for step in plan.steps]
    results = sorted(
        (step for each in shards.values() for step in each.steps),
        key=lambda result: (order.index(result.id), result.part),
    )
    missing = _list_missing(shards, first.shard.of, plan, results)
    doubts = dict.fromkeys(filter(None, map(_doubt, shards.values())))
    tree = {path for each in shards.values() for path in each.shard.tree}
    verdict = review.judge(
        results,
        frozenset(step.id for step in plan.steps if step.reviewing),
        first.mode,
        tree.__contains__,
        {step.id: step.history_visibility for step in plan.steps},
        "; ".join((*refused, *missing, *doubts)) or None,
        frozenset(step.id for step in plan.steps if step.verify_high),
        answers,
        is_gone,
    )
    if missing:
        verdict = _with_coverage_of_all(verdict, plan, results)
    recorded = review.as_recorded(verdict, first.mode)
    failed = [usage for each in shards.values() for usage in each.shard.failed]
    calls = sum(step.calls for step in results) + sum(bool(each.shard.failed) for each in shards.values())
    estimates = [each.estimate for each in shards.values() if each.estimate is not None]
    about = _add_up(need for each in estimates for need in each.about)
    most = _add_up(need for each in estimates for need in each.most)
    return RunResult(
        task=first.task,
        workflow=first.workflow,
        mode=first.mode,
        scope=plan.subject.scope,
        steps=tuple(each for each in results if each.skipped is None),
        loops=(),
        review=recorded.review,
        totals=engine.totals(results, failed)._replace(calls=calls),
        exit_code=review.exit_code(verdict, (), gate, first.mode),
        subject=plan.subject,
        skipped=tuple(engine.list_skipped(results)),
        outcome=recorded.outcome,
        excluded=tuple(engine.find_excluded(results)),
        estimate=Estimate(about, most) if estimates else None,
        closed=review.explain_gate(verdict, (), gate, first.mode),
        unanswered=tuple(call for each in shards.values() for call in each.unanswered),
    )


def parse(name: str, document: Mapping[str, object]) -> ShardRecord:
    """The record of a shard in the JSON values of a report. Raises ``ValueError`` with one line."""
    if document.get("schema") != report.SCHEMA:
        raise ValueError(f"its schema is {document.get('schema')!r}, not {report.SCHEMA}")
    if document.get("shard") is None:
        raise ValueError("it is the record of a whole run")
    shard = codec.whole_from_json(ShardResult, document["shard"], "'shard'")
    record = ShardRecord(
        name,
        document,
        codec.text(document, "task"),
        codec.text(document, "workflow"),
        codec.choice(document, "mode", checkpoint.MODES),
        (*map(codec.step_from_json, codec.sequence(document, "steps")), *shard.skipped),
        shard,
        codec.whole_from_json(Estimate, document["estimate"], "'estimate'")
        if document.get("estimate")
        else None,
        tuple(
            codec.whole_from_json(Unanswered, each, "an entry of 'unanswered'")
            for each in (codec.sequence(document, "unanswered") if "unanswered" in document else ())
        ),
    )
    plan = shard.plan
    if not 1 <= shard.number <= shard.of <= MOST_SHARDS:
        raise ValueError(f"'shard': there is no shard {shard.number} of {shard.of}")
    order = [step.id for step in plan.steps] if plan else []
    parts = len(plan.lines) if plan else 0
    results = {(step.id, step.part): step for step in record.steps}
    for step in record.steps:
        is_own = step.part in shard.parts and step.parts == parts and step.iteration == 1
        if step.id not in order or not is_own or step is not results[step.id, step.part]:
            raise ValueError(
                f"'steps': step '{step.id}', part {step.part} of {step.parts}, is not of this shard"
            )
    return record


def _by_number(records: Sequence[ShardRecord]) -> dict[int, ShardRecord]:
    """The record of each shard, in their order. The same record twice counts once."""
    shards: dict[int, ShardRecord] = {}
    planned = next((each for each in records if each.shard.plan is not None), records[0])
    for each in records:
        _require_same_run(planned, each)
        same = shards.setdefault(each.shard.number, each)
        if same.document != each.document:
            number = f"shard {each.shard.number} of {each.shard.of}"
            raise UsageError(
                f"{same.name} and {each.name} are two different records of {number}", "Give one of them."
            )
    return dict(sorted(shards.items()))


def _require_same_run(one: ShardRecord, other: ShardRecord) -> None:
    """Raises ``UsageError`` with the first difference, from the widest to the narrowest."""
    pairs: dict[str, tuple[object, object]] = {
        "number of shards": (one.shard.of, other.shard.of),
        "version of Aethr": (one.document.get("aethr"), other.document.get("aethr")),
        "mode": (one.mode, other.mode),
        "workflow": (one.workflow, other.workflow),
        "task": (one.task, other.task),
    }
    if (ours := one.shard.plan) is not None and (theirs := other.shard.plan) is not None:
        here, there = ours.subject.scope, theirs.subject.scope
        pairs |= {
            "HEAD": (here.head_sha, there.head_sha),
            "base": (here.base, there.base),
            "head": (here.head, there.head),
            "--diff": (here, there),
            "plan: its workflow or its change": (_without_note(ours), _without_note(theirs)),
        }
    for name, (a, b) in pairs.items():
        if a != b:
            raise UsageError(
                f"{one.name} and {other.name} are not of one run: each has another {name}",
                "Merge the shards of one run: the same task, workflow, change and N.",
            )


def _without_note(plan: ShardPlan) -> ShardPlan:
    """The plan without what the scope leaves out, which the merge lists for each shard."""
    return plan._replace(subject=plan.subject._replace(note=""))


def _add_up(needs: Iterable[Need]) -> tuple[Need, ...]:
    """The needs of each model together."""
    sums: dict[str, Need] = {}
    for each in needs:
        before = sums.get(each.model, Need(each.model))
        unknown = before.cost_usd is None or each.cost_usd is None
        sums[each.model] = Need(
            each.model,
            calls=before.calls + each.calls,
            input_tokens=before.input_tokens + each.input_tokens,
            output_tokens=before.output_tokens + each.output_tokens,
            cost_usd=None if unknown else (before.cost_usd or 0.0) + (each.cost_usd or 0.0),
        )
    return tuple(sums.values())


def _list_missing(
    shards: Mapping[int, ShardRecord], of: int, plan: ShardPlan, results: Sequence[StepResult]
) -> list[str]:
    """What no record has: shards, and parts of the change that a step did not answer for."""
    there = {number for number, each in shards.items() if each.shard.plan is not None}
    absent = [number for number in range(1, of + 1) if number not in there]
    gone = f"shard{'s' if len(absent) > 1 else ''} {capped(absent, 20)} of {of}"
    lines = [f"{gone} {'are' if len(absent) > 1 else 'is'} missing"] if absent else []
    parts = (review.list_missing_parts(step.id, len(plan.lines), results) for step in plan.steps)
    return [*lines, *filter(None, parts)]


def _doubt(record: ShardRecord) -> str | None:
    """Why a review of this shard's parts cannot be complete."""
    shard = record.shard
    stopped = shard.doubt and record.document.get("exit_code") != ExitCode.OK
    return f"shard {shard.number} of {shard.of} stopped: {shard.doubt}" if stopped else shard.doubt


def _with_coverage_of_all(verdict: Verdict, plan: ShardPlan, results: Iterable[StepResult]) -> Verdict:
    """The verdict, its coverage measured against all parts instead of those that were answered."""
    reviewing = [step.id for step in plan.steps if step.reviewing]
    whole = sum(plan.lines) * len(reviewing)
    there = sum(plan.lines[each.part - 1] for each in results if each.id in reviewing)
    coverage = verdict.review.coverage
    if coverage is None or not whole:
        return verdict
    return verdict._replace(review=verdict.review._replace(coverage=coverage * there / whole))
