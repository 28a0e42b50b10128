"""``aethr merge``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from aethr import git
from aethr.base import options as table
from aethr.base.errors import UsageError
from aethr.base.records import Gate, RunFinished, RunStarted
from aethr.cli.run import deliver
from aethr.output import report_files
from aethr.output.render import Display, make_renderer
from aethr.run.shards import load, merge
from aethr.workflow import planning


def main(records: list[str], **given: Any) -> int:
    """Merge the records of shards with this project's answers, show the result and return its exit code.

    ``given`` are the options on the command line, by the names of their fields. Raises ``AethrError``.
    """
    options = table.build({**table.from_environment(os.environ, table.MERGE_OPTIONS), **given})
    table.check(options)
    reports = report_files.check(options.report)
    for target in reports:
        if any(
            Path(name).exists() and target.path.exists() and target.path.samefile(name) for name in records
        ):
            raise UsageError(f"--report {target.path}: it is one of the records", "Name another file.")
    fail_on = next(gate for gate in table.GATES if gate == options.fail_on)
    shards = [load(name) for name in records]
    cwd = Path.cwd()
    # Those of now: whoever answers a finding of shards merges them once more, which calls nothing.
    answers = planning.open_project(cwd, None, None).workflow.answers if planning.nearest(cwd) else ()
    here = git.checkout_if_any(cwd) if answers else None
    head = next((each.shard.plan.subject.scope.head for each in shards if each.shard.plan), None)
    gone = planning.find_gone(here.top if here else None, head)
    result = merge(shards, Gate(fail_on, options.require_review), (), answers, gone)
    display = Display(quiet=options.quiet, verbose=options.verbose, json=options.json)
    steps = len({step.id for step in result.steps})
    with make_renderer(display, sys.stdout, sys.stderr, os.environ) as show:
        show(RunStarted(result.workflow, result.task, result.mode, steps, result.subject))
        show(RunFinished(result))
    deliver(result, options, reports)
    return result.exit_code
