"""The report of a hook: a few plain lines, which pre-commit and prek show as a log (pure).

All untrusted text goes through ``sanitize`` here or in ``output.wording``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aethr import review
from aethr.base import edge
from aethr.base.errors import MEANINGS, AethrError, DiskError, ExitCode
from aethr.base.records import RELIABLE, Review, RunResult, StepResult
from aethr.base.sanitize import one_line
from aethr.base.words import capped, rest
from aethr.hook import HookChange, HookOptions, Measure
from aethr.output import wording

SHOWN = 50
"""Findings that are printed; a file of ``--report`` has all of them."""


class Report(NamedTuple):
    """The exit code, and the lines to print."""

    code: int
    lines: tuple[str, ...]


def report_nothing(why: str) -> Report:
    """Report that there is nothing to review."""
    return Report(ExitCode.OK, (f"Aethr: nothing to review: {why}; no model was called",))


def report_unreadable(head: str, options: HookOptions) -> Report:
    """Report a change whose files no model may see."""
    said = "NOT REVIEWED: no model may be sent any of it; no model was called"
    return _close(ExitCode.NOT_REVIEWED, (head, said), options)


def report_failure(error: AethrError, options: HookOptions, steps: Sequence[StepResult] = ()) -> Report:
    """Report a run that stopped or could not start.

    After a ``DiskError``, with the findings of the last of ``steps``, which may be stored nowhere else.
    """
    lines = tuple(edge.describe(error, verbose=options.run.verbose))
    if isinstance(error, DiskError) and steps and (said := review.read(steps[-1])).status != "none":
        lines = (*lines, f"The last answer could not be kept. It said: {said.status}", *_findings(said))
    if error.exit_code == ExitCode.NOT_REVIEWED:
        lines = (f"NOT REVIEWED: {error}", *lines[1:])
    return _close(error.exit_code, lines, options)


def report_result(result: RunResult, head: str, options: HookOptions) -> Report:
    """Report a complete run; a model's answer only as its findings."""
    names = dict.fromkeys(one_line(step.model, 80) for step in result.steps if step.model)
    models = f" ({', '.join(names)})" if names and result.is_live else ""
    receipts = tuple(dict.fromkeys(receipt for step in result.steps for receipt in step.context))
    lines = (
        head,
        wording.verdict(result).text,
        *_findings(result.review),
        *_listed("not sent: ", wording.not_sent(receipts)),
        *_listed("note: ", wording.remarks(receipts)),
        *(wording.loop(loop) for loop in result.loops),
        wording.spent(result) + models,
        *_fix(result),
    )
    return _close(result.exit_code, lines, options)


def describe_change(change: HookChange, measure: Measure) -> str:
    """``Aethr: the staged change: 3 files, +0 -12, only deletions``."""
    size = wording.size(measure.extent)
    return ", ".join(part for part in (f"Aethr: {change.what}: {size}", measure.only) if part)


def _findings(said: Review) -> Iterator[str]:
    found = said.findings
    yield from (wording.finding(each) for each in found[:SHOWN])
    if more := rest(len(found), SHOWN, "finding"):
        yield f"{more}; all are in a report: --report PATH"


def _listed(start: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        yield start + capped(items)


def _fix(result: RunResult) -> Iterator[str]:
    """How to get a complete review where there was none."""
    if result.outcome in RELIABLE:
        return
    if not result.is_live:
        yield "To fix: set AETHR_LIVE=1 and your provider's key, in the environment or in .env."
    elif any(step.truncated for step in result.steps):
        yield "To fix: raise max_tokens of the reviewer's model, or make the change smaller."
    elif any(not receipt.complete for step in result.steps for receipt in step.context):
        yield (
            "To fix: make the change smaller, or raise limits.context_chars. Put files that no model may see "
            "into a change of their own."
        )
    else:
        yield "To fix: try again, or use another model."


def _close(code: ExitCode, lines: tuple[str, ...], options: HookOptions) -> Report:
    """Add what the exit code means and, if it blocks, how to skip the review."""
    gate = f"--fail-on {options.run.fail_on}"
    if code == ExitCode.NOT_REVIEWED and options.lenient:
        return Report(ExitCode.OK, (*lines, "exit code 0 instead of 4, because of --if-not-reviewed=pass"))
    if code == ExitCode.OK:
        return Report(code, (*lines, f"exit code 0: {MEANINGS[code]}, and the gate is open ({gate})"))
    meaning = MEANINGS[code] + (f" ({gate})" if code == ExitCode.GATE else "")
    last = f"exit code {int(code)}: {meaning}. To skip the review: {options.bypass}"
    return Report(code, (*lines, last))
