"""``aethr hook``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aethr import git, sanitize
from aethr.errors import AethrError, DiskError
from aethr.hook import change, ending, terms
from aethr.hook.change import Change
from aethr.hook.ending import Closing, Ending
from aethr.output import files
from aethr.records import RunResult
from aethr.run import execute, prepare


def main(given: Mapping[str, Any]) -> int:
    """Review what this stage is about; print a few lines, give the exit code. Raises ``UsageError``."""
    options = terms.read(given, os.environ)
    closing = Closing(options, ending.way_out(os.environ))
    try:
        ended = _review(closing)
    except AethrError as error:
        ended = ending.failed(error, closing)
    for line in ended.lines:
        sys.stdout.write(sanitize.runner(line) + "\n")
    return ended.code


def _review(closing: Closing) -> Ending:
    files.check(closing.options.run.report)
    found = change.find(Path.cwd(), os.environ)
    if found is None:
        return ending.nothing("a ref is deleted")
    return _review_change(found, closing)


def _review_change(found: Change, closing: Closing) -> Ending:
    cwd = Path.cwd()
    extent = change.measure(cwd, git.resolve_scope(cwd, found.diff))
    if extent.files == 0:
        return ending.nothing(f"{found.what} is empty")
    prepared = prepare(terms.for_change(closing.options.run, found, cwd), cwd, os.environ)
    head = ending.head(found, extent)
    if not extent.readable:
        return ending.unreadable(head, closing)
    outcome = execute(prepared, lambda _: None)
    if outcome.error is not None:
        ended = ending.failed(outcome.error, closing)
    else:
        ended = ending.finished(outcome.result, head, closing)
    notes = tuple(f"note: {sanitize.one_line(warning)}" for warning in prepared.warnings)
    return _reported(replace(ended, lines=(*notes, *ended.lines)), outcome.result, closing)


def _reported(ended: Ending, result: RunResult, closing: Closing) -> Ending:
    """The reports written; one that could not be fails a hook, and takes nothing from what is said."""
    try:
        files.write(closing.options.run.report, result)
    except DiskError as error:
        lost = ending.failed(error, closing)
        return Ending(ended.code or lost.code, (*ended.lines, *lost.lines))
    return ended
