"""``aethr hook``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aethr import git
from aethr.base import sanitize
from aethr.base.errors import AethrError, DiskError
from aethr.base.records import RunResult
from aethr.hook import change, ending, policy
from aethr.hook.ending import Closing, Ending
from aethr.output import report_files
from aethr.run import Outcome, Prepared, execute, prepare, telling


class Ready(NamedTuple):
    """A review that may begin, the line that says of what, and where its reports go."""

    prepared: Prepared
    head: str
    reports: tuple[report_files.Target, ...]


def main(**given: Any) -> int:
    """Review the change of this stage, print a few lines, return the exit code. Raises ``AethrError``.

    ``given`` are the options on the command line, by the names of their fields.
    """
    options = policy.read(given, os.environ)
    closing = Closing(options, ending.way_out(os.environ))
    try:
        ready = _ready(closing)
    except AethrError as error:
        ready = ending.failed(error, closing)
    if isinstance(ready, Ending):
        return _print(ready)
    outcome = execute(ready.prepared, nullcontext(lambda _: None))
    with telling(ready.prepared, outcome):
        return _print(_ended(ready, outcome, closing))


def _ready(closing: Closing) -> Ready | Ending:
    """What to run, or how it ends where there is nothing to."""
    reports = report_files.check(closing.options.run.report)
    cwd = Path.cwd()
    found = change.find(cwd, os.environ)
    if found is None:
        return ending.nothing("a ref is deleted")
    survey = git.survey(found.checkout, found.scope)
    measure = change.measure(survey)
    if measure.extent.files == 0:
        return ending.nothing(f"{found.what} is empty")
    options, project = policy.for_change(closing.options.run, found)
    prepared = prepare(options, cwd, os.environ, project, survey)
    if found.scope.kind == "range":  # by ids; the names that they come from may be others meanwhile
        prepared = prepared._replace(plan=prepared.plan._replace(moved=partial(change.moved, cwd, found)))
    head = ending.head(found, measure)
    return Ready(prepared, head, reports) if measure.readable else ending.unreadable(head, closing)


def _ended(ready: Ready, outcome: Outcome, closing: Closing) -> Ending:
    if outcome.error is not None:
        ended = ending.failed(outcome.error, closing, outcome.result.steps)
    else:
        ended = ending.finished(outcome.result, ready.head, closing)
    notes = tuple(f"note: {sanitize.one_line(warning)}" for warning in ready.prepared.warnings)
    return _reported(ended._replace(lines=(*notes, *ended.lines)), outcome.result, ready.reports, closing)


def _reported(
    ended: Ending, result: RunResult, reports: Iterable[report_files.Target], closing: Closing
) -> Ending:
    """The reports written; one that could not be fails a hook, and takes nothing from what is said."""
    try:
        report_files.write(reports, result)
    except DiskError as error:
        lost = ending.failed(error, closing)
        return Ending(ended.code or lost.code, (*ended.lines, *lost.lines))
    return ended


def _print(ended: Ending) -> int:
    sys.stdout.writelines(sanitize.runner(line) + "\n" for line in ended.lines)
    sys.stdout.flush()
    return ended.code
