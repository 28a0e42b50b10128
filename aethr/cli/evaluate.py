"""``aethr eval``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base import edge, options, sanitize
from aethr.base.errors import AethrError, BudgetError, ExitCode, Terminated, UsageError
from aethr.base.options import EVAL_OPTIONS, EVALUATED_OPTIONS, EvalOptions
from aethr.base.records import SEVERITIES, Notice
from aethr.base.words import counted, two_columns
from aethr.evaluation import baseline, cases, runs, schedule, scorecard
from aethr.evaluation.cases import Loaded
from aethr.evaluation.runs import EndedRun
from aethr.evaluation.schedule import Schedule
from aethr.evaluation.scorecard import Scorecard
from aethr.evaluation.summary import Thresholds, read_thresholds, rule, summarize
from aethr.evaluation.trials import Evaluation, Trial
from aethr.output import report_files, wording
from aethr.output.report_files import Target
from aethr.run import resume


class _Measuring(NamedTuple):
    """How the runs are measured, which is known and checked before the first of them."""

    thresholds: Thresholds
    earlier: Evaluation | None
    reports: tuple[Target, ...]

    @classmethod
    def of(cls, wanted: EvalOptions, chosen: Sequence[Loaded]) -> _Measuring:
        """Raises ``UsageError``."""
        return cls(
            read_thresholds(wanted.min_recall, wanted.max_false, [each.case for each in chosen]),
            baseline.load(wanted.baseline) if wanted.baseline is not None else None,
            report_files.check(wanted.report, scorecard.FORMATS),
        )

    def deliver(self, evaluation: Evaluation, wanted: EvalOptions) -> ExitCode:
        """Score, show and write the reports; the exit code by the thresholds. Raises ``DiskError``."""
        ruling = rule(summarize(evaluation), self.thresholds, evaluation.about.mode)
        card = Scorecard(evaluation, self.earlier, ruling)
        sys.stdout.write(
            scorecard.json_text(card) if wanted.json else sanitize.terminal(scorecard.text(card))
        )
        sys.stdout.flush()
        report_files.write_texts(self.reports, lambda suffix: scorecard.FORMATS[suffix].render(card))
        return ruling.exit_code


def main(**given: Any) -> int:
    """Evaluate the workflow, and return the exit code. Raises ``AethrError``.

    ``given`` are the options on the command line, by the names of their fields.
    """
    wanted = options.build_eval({**options.from_environment(os.environ, EVALUATED_OPTIONS), **given})
    cwd = Path.cwd()
    if wanted.from_fix is not None or wanted.from_range is not None:
        return _make_cases(wanted, cwd)
    loaded = cases.read(cases.find(wanted.cases, cwd))
    chosen = _choose(loaded, wanted.tag)
    if wanted.list:
        return _list(chosen)
    measuring = _Measuring.of(wanted, chosen)
    planned = schedule.prepare(wanted, chosen, [each.case.name for each in loaded], cwd, os.environ)
    for note in planned.notes:
        sys.stderr.write(f"note: {sanitize.one_line(note, 500)}\n")
    try:
        ended = _perform(planned, wanted)
        error = runs.explain(planned, ended)
        code = ExitCode.OK
        if not isinstance(error, BudgetError):  # else there are runs that have not begun
            code = measuring.deliver(runs.record(planned, ended), wanted)
        if error is not None:
            raise error
    except (AethrError, KeyboardInterrupt, Terminated, OSError) as stop:
        raise _keep(planned, wanted, edge.as_error(stop)) from stop
    planned.common.folder.remove()
    return code


def _keep(planned: Schedule, wanted: EvalOptions, error: AethrError) -> AethrError:
    """The error that ends the evaluation, with the command that resumes it, if it has answers to keep."""
    if not planned.common.calls_models:
        planned.common.folder.remove()
        return error
    words = ["eval", *wanted.cases, *options.command_line(wanted, EVAL_OPTIONS)]
    folder = str(planned.common.folder.path)
    error.resume = sanitize.redact(resume.quote_command([*words, "--resume", folder], planned.variables))
    return error


def _make_cases(wanted: EvalOptions, cwd: Path) -> int:
    """A case from a fix, or the proposals of a range."""
    from aethr.evaluation import proposals

    severity = next(each for each in SEVERITIES if each == wanted.severity)
    return proposals.main(cwd, wanted.from_fix, wanted.from_range, Path(cwd, wanted.out), severity)


def _choose(loaded: Sequence[Loaded], tags: Sequence[str]) -> Sequence[Loaded]:
    """The cases that have one of these tags, or all."""
    known = {tag for each in loaded for tag in each.case.tags}
    for tag in tags:
        if tag not in known:
            raise UsageError(
                f"--tag {tag}: no case has it", f"Tags are: {', '.join(sorted(known)) or 'none'}."
            )
    return [each for each in loaded if not tags or {*tags} & {*each.case.tags}]


def _list(chosen: Sequence[Loaded]) -> int:
    rows = {}
    for each in chosen:
        what = counted(len(each.case.expected), "defect") if each.case.expected else "clean"
        rows[sanitize.one_line(each.case.name)] = sanitize.one_line(", ".join((what, *each.case.tags)))
    sys.stdout.write(two_columns(rows, sys.stdout))
    return ExitCode.OK


def _perform(planned: Schedule, wanted: EvalOptions) -> list[EndedRun]:
    """Make all runs, with a line for each that has ended: on standard error if the record is on the other."""
    ended: list[EndedRun] = []
    total, out = len(planned.entries), sys.stderr if wanted.json else sys.stdout
    for event in runs.perform(planned):
        if isinstance(event, Notice) and wanted.verbose:
            sys.stderr.write(f"note: {sanitize.one_line(event.text)}\n")
        if not isinstance(event, EndedRun):
            continue
        ended.append(event)
        if not wanted.quiet:
            out.write(f"{len(ended):>{len(str(total))}}/{total} {_describe(event.trial, wanted.repeat)}\n")
            out.flush()
    return ended


def _describe(trial: Trial, repeat: int) -> str:
    """``last-page: revise, 2 findings, 431 tokens, $0.0012, 3.2 s``."""
    name = sanitize.one_line(trial.case) + (f" ({trial.number} of {repeat})" if repeat > 1 else "")
    if trial.error is not None:
        return f"{name}: failed: {sanitize.one_line(trial.error, 500)}"
    totals = trial.totals
    parts = (
        trial.outcome,
        counted(len(trial.findings), "finding"),
        wording.tokens(totals.tokens, estimated=totals.estimated),
        wording.cost(totals.cost_usd, estimated=totals.estimated),
        wording.seconds(totals.seconds),
    )
    return f"{name}: {', '.join(parts)}"
