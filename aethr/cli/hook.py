"""``aethr hook``: review what is about to be committed or pushed."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from aethr import git, hook
from aethr.base import sanitize
from aethr.base.errors import AethrError, DiskError
from aethr.base.records import Event, RunStarted
from aethr.hook import HookOptions, Report
from aethr.output import report_files
from aethr.run import Prepared, Provided, execute, prepare, telling


def main(**given: Any) -> int:
    """Review the change of this stage, print a few lines, return the exit code. Raises ``AethrError``.

    ``given`` are the options on the command line, by the names of their fields.
    """
    options = hook.read(given, os.environ)
    try:
        reports = report_files.check(options.run.report)
        ready = _prepare(options)
    except AethrError as error:
        return _print(hook.report_failure(error, options))
    if isinstance(ready, Report):
        return _print(ready)
    prepared, head = ready

    def announce(event: Event) -> None:
        if isinstance(event, RunStarted):  # before the first call, which may take minutes
            _print(hook.announce(event, prepared.plan, head, prepared.warnings))

    outcome = execute(prepared, nullcontext(announce))
    with telling(prepared, outcome):
        if outcome.error is not None:
            report = hook.report_failure(outcome.error, options, outcome.result.steps)
        else:
            report = hook.report_result(outcome.result, options)
        notes = tuple(f"note: {sanitize.one_line(note)}" for note in outcome.notes)
        report = report._replace(lines=(*notes, *report.lines))
        try:
            report_files.write(reports, outcome.result)
        except DiskError as error:  # fails the hook, but the review is still printed
            lost = hook.report_failure(error, options)
            report = Report(report.code or lost.code, (*report.lines, *lost.lines))
        return _print(report)


def _prepare(options: HookOptions) -> tuple[Prepared, str] | Report:
    """The run and the line that says what it reviews, or the report where nothing can be reviewed."""
    cwd = Path.cwd()
    found = hook.find(cwd, os.environ)
    if found is None:
        return hook.report_nothing("a ref is deleted")
    survey = git.survey(found.checkout, found.scope)
    measure = hook.measure(survey)
    if measure.extent.files == 0:
        return hook.report_nothing(f"{found.what} is empty")
    run, project = hook.choose_workflow(options.run, found)
    prepared = prepare(run, cwd, os.environ, Provided(project, measure.survey), keeps_answers=True)
    if found.scope.kind == "range":  # its commits are ids, so only the names that they came from can move
        prepared = prepared._replace(plan=prepared.plan._replace(moved=partial(hook.moved, cwd, found)))
    head = hook.describe_change(found, measure)
    readable = hook.is_readable(measure, survey, project)
    return (prepared, head) if readable else hook.report_unreadable(head, options)


def _print(report: Report) -> int:
    sys.stdout.writelines(sanitize.runner(line) + "\n" for line in report.lines)
    sys.stdout.flush()
    return report.code
