"""``aethr run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aethr import engine
from aethr.base import sanitize
from aethr.base.errors import ExitCode
from aethr.base.options import RunOptions, build, from_environment
from aethr.base.records import Plan, RunResult, StepPrepared
from aethr.output import report_files, wording
from aethr.run import Prepared, Provided, execute, prepare, telling

if TYPE_CHECKING:
    from aethr.run.one_off import Promotion


def main(**given: Any) -> int:
    """Run the workflow and return the result's exit code. Raises ``AethrError``.

    ``given`` are the options on the command line, by the names of their fields.
    """
    options = build({**from_environment(os.environ), **given})
    reports = report_files.check(options.report)
    if options.pull_request is None:
        prepared = prepare(options, Path.cwd(), os.environ)
    else:
        prepared = _prepare_pull_request(options)
    if options.show_prompt:
        return _show_prompts(prepared.plan, options)
    from aethr.output.render import Display, make_renderer

    display = Display(stream=options.stream, quiet=options.quiet, verbose=options.verbose, json=options.json)
    for warning in prepared.warnings:
        sys.stderr.write(f"note: {sanitize.one_line(warning)}\n")
    outcome = execute(prepared, make_renderer(display, sys.stdout, sys.stderr, os.environ))
    with telling(prepared, outcome):
        if options.verbose and outcome.kept is not None:
            sys.stderr.write(outcome.kept.read_text(encoding="utf-8"))
        deliver(outcome.result, options, reports)
    if outcome.error is not None:
        raise outcome.error
    if prepared.promotion is not None:
        _promote(prepared.promotion, outcome.result.exit_code)
    return outcome.result.exit_code


def _prepare_pull_request(options: RunOptions) -> Prepared:
    import time

    from aethr.github import clone

    found = clone.open_pull_request(options, Path.cwd(), os.environ, time.sleep)
    prepared = prepare(
        options,
        Path.cwd(),
        os.environ,
        Provided(found.project, found.survey, found.pull_request),
    )
    return prepared._replace(warnings=(*found.notes, *prepared.warnings))


def deliver(result: RunResult, options: RunOptions, reports: Sequence[report_files.Target]) -> None:
    """The record on standard output and in files. Raises ``DiskError``, ``OSError``."""
    if options.json:
        from aethr.output import report

        sys.stdout.write(report.FORMATS[".json"].render(result))
        sys.stdout.flush()
    report_files.write(reports, result)


def _promote(promotion: Promotion, exit_code: ExitCode) -> None:
    """On standard error: standard output is the run's."""
    from aethr.run.one_off import COMPLETED

    path = sanitize.one_line(str(promotion.path))
    if exit_code not in COMPLETED:
        sys.stderr.write(f"note: {path} was not written, because of exit code {int(exit_code)}\n")
        return
    promotion.write()
    sys.stderr.write(f'Wrote {path}. From now on: aethr run "what to do"\n')


def _show_prompts(plan: Plan, options: RunOptions) -> int:
    prepared = list(engine.preview(plan, run_commands=options.run_commands))
    if options.json:
        import json

        shown = [
            {
                "id": sanitize.redact(each.id),
                "part": each.part,
                "parts": each.parts,
                "prompt_sha256": each.prompt_sha256,
                "prompt": each.prompt,
            }
            if each.skipped is None
            else {
                "id": sanitize.redact(each.id),
                "prompt_sha256": None,
                "prompt": None,
                "skipped": each.skipped,
            }
            for each in prepared
        ]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
        return 0
    ids = [step.spec.id for step in plan.steps]
    for each in prepared:
        part = f", {wording.part_of(each)}" if each.parts > 1 else ""
        _show_prompt(each, f"{ids.index(each.id) + 1}/{len(ids)}{part}")
    return 0


def _show_prompt(prepared: StepPrepared, number: str) -> None:
    """On a pipe the prompt's own bytes; a terminal gets them with control characters made visible."""
    if prepared.skipped is not None:
        sys.stdout.write(
            f"=== step {prepared.id} ({number}), not called: {sanitize.one_line(prepared.skipped)} ===\n"
        )
        return
    data = prepared.prompt.encode()
    header = (
        f"=== step {prepared.id} ({number}), {len(data)} bytes, prompt_sha256 {prepared.prompt_sha256} ===\n"
    )
    if sys.stdout.isatty():
        sys.stdout.write(sanitize.terminal(header + prepared.prompt))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(sanitize.redact(header).encode() + data)
    sys.stdout.buffer.flush()
