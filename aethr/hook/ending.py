"""What a hook says at its end, in a few plain lines: pre-commit and prek show it as a log (pure).

Everything that comes from outside goes through ``sanitize`` here or in ``output.wording``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from aethr import review
from aethr.base import edge
from aethr.base.errors import MEANINGS, AethrError, DiskError, ExitCode
from aethr.base.records import RELIABLE, Review, RunResult, StepResult
from aethr.base.sanitize import one_line
from aethr.base.words import capped, rest
from aethr.hook.change import Change, Measure
from aethr.hook.policy import HookOptions
from aethr.output import wording

SHOWN = 50
"""Findings that are printed; a report has them all."""


class Ending(NamedTuple):
    """The exit code, and the lines to print."""

    code: int
    lines: tuple[str, ...]


class Closing(NamedTuple):
    """What the last line rests on: the options, and what a person would type to go on without a review."""

    options: HookOptions
    way_out: str


def way_out(environ: Mapping[str, str]) -> str:
    """How this commit or push is made without the hook."""
    pushing, ranged = "PRE_COMMIT_REMOTE_NAME" in environ, "PRE_COMMIT_TO_REF" in environ
    command = "git push" if pushing else "" if ranged else "git commit"
    if environ.get("PRE_COMMIT"):
        return f"SKIP=aethr-review {command}".rstrip()
    return f"{command or 'git commit'} --no-verify"


def nothing(why: str) -> Ending:
    """There is nothing to review, so nothing was called."""
    return Ending(ExitCode.OK, (f"Aethr: nothing to review: {why}; no model was called",))


def unreadable(head: str, closing: Closing) -> Ending:
    """No file of the change is one that a model may be sent."""
    said = "NOT REVIEWED: no model may be sent any of it; no model was called"
    return _ended(ExitCode.NOT_REVIEWED, (head, said), closing)


def failed(error: AethrError, closing: Closing, steps: Sequence[StepResult] = ()) -> Ending:
    """The run stopped, or never began. An answer that no disk took, the last of ``steps``, is said here."""
    lines = tuple(edge.describe(error, verbose=closing.options.run.verbose))
    if isinstance(error, DiskError) and steps:
        lines = (*lines, *_unkept(steps[-1]))
    if error.exit_code == ExitCode.NOT_REVIEWED:
        lines = (f"NOT REVIEWED: {error}", *lines[1:])
    return _ended(error.exit_code, lines, closing)


def finished(result: RunResult, head: str, closing: Closing) -> Ending:
    """The run came to its end. Never a model's whole answer."""
    receipts = tuple(dict.fromkeys(receipt for step in result.steps for receipt in step.context))
    lines = (
        head,
        wording.verdict(result).text,
        *_findings(result.review),
        *_listed("not sent: ", wording.not_sent(receipts)),
        *_listed("note: ", wording.remarks(receipts)),
        *(wording.loop(loop) for loop in result.loops),
        wording.spent(result) + _models(result),
        *_remedy(result),
    )
    return _ended(result.exit_code, lines, closing)


def head(change: Change, measure: Measure) -> str:
    """``Aethr: the staged change: 3 files, +0 -12, only deletions``."""
    size = wording.size(measure.extent)
    return ", ".join(part for part in (f"Aethr: {change.what}: {size}", measure.only) if part)


def _findings(said: Review) -> Iterator[str]:
    found = said.findings
    yield from (wording.finding(each) for each in found[:SHOWN])
    if more := rest(len(found), SHOWN, "finding"):
        yield f"{more}; all are in a report: --report PATH"


def _unkept(step: StepResult) -> Iterator[str]:
    said = review.read(step)
    if said.status != "none":
        yield f"The last answer could not be kept. It said: {said.status}"
        yield from _findings(said)


def _listed(start: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        yield start + capped(items)


def _models(result: RunResult) -> str:
    names = dict.fromkeys(one_line(step.model, 80) for step in result.steps if step.model)
    return f" ({', '.join(names)})" if names and result.is_live else ""


def _remedy(result: RunResult) -> Iterator[str]:
    """How the review that did not take place, or not of everything, can take place."""
    if result.outcome in RELIABLE:
        return
    if not result.is_live:
        yield "To fix: set AETHR_LIVE=1 and your provider's key, in the environment or in .env."
    elif any(step.truncated for step in result.steps):
        yield "To fix: raise max_tokens of the reviewer's model, or make the change smaller."
    elif any(not receipt.complete for step in result.steps for receipt in step.context):
        yield (
            "To fix: make the change smaller, or raise limits.context_chars; what no model may be sent "
            "goes into a change of its own."
        )
    else:
        yield "To fix: try again, or with another model."


def _ended(code: ExitCode, lines: tuple[str, ...], closing: Closing) -> Ending:
    """Add what the exit code means, and where it blocks how to go on without a review."""
    options = closing.options
    gate = f"--fail-on {options.run.fail_on}"
    if code == ExitCode.NOT_REVIEWED and options.lenient:
        return Ending(ExitCode.OK, (*lines, "exit code 0 in place of 4, because of --if-not-reviewed=pass"))
    if code == ExitCode.OK:
        return Ending(code, (*lines, f"exit code 0: {MEANINGS[code]}, and the gate is open ({gate})"))
    meaning = MEANINGS[code] + (f" ({gate})" if code == ExitCode.GATE else "")
    last = f"exit code {int(code)}: {meaning}. To go on without a review: {closing.way_out}"
    return Ending(code, (*lines, last))
