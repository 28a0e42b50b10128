"""Everything that a finished (or failed) review leaves: comment, summary, annotations, outputs, report files.

The comment comes first, because its fate is part of the rest; the files are written whatever became of it. An
annotation is put on a line only where the diff shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple, TextIO

from aethr import git
from aethr.base import disk
from aethr.base.errors import MEANINGS, AethrError, ExitCode, UsageError
from aethr.base.records import Finding, RunResult, Survey
from aethr.base.sanitize import Redactor
from aethr.context.diffs import Section, parse
from aethr.github import commands, comment, upsert
from aethr.github.api import Api, ReadOnlyError, Sleep
from aethr.github.comment import Blobs, Page
from aethr.github.event import Change
from aethr.github.inputs import Inputs
from aethr.github.runner import Runner
from aethr.github.upsert import Marker, Place, Posted
from aethr.output import report, wording
from aethr.output import report_files as reports

_HUNK = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
MAX_HUNK_BYTES = 10_000_000
"""Of a larger hunk no line is known."""


class Shown(NamedTuple):
    """The lines of the new version that a diff shows, as ranges, by path from the repository's top."""

    ranges: Mapping[str, tuple[range, ...]]

    def holds(self, finding: Finding) -> bool:
        """Whether GitHub can show something beside this finding's line."""
        lines = self.ranges.get(finding.path or "", ())
        return finding.line is not None and any(finding.line in each for each in lines)


NONE = Shown({})


def shown(survey: Survey) -> Shown:
    """What the change of a range shows. Raises ``GitError``."""
    ranges: dict[str, list[range]] = {}
    path = ""
    for part in parse(git.diff(survey), MAX_HUNK_BYTES):
        if isinstance(part, Section):
            path = os.fsdecode(part.path)
            ranges.setdefault(path, [])
        elif part.text is not None and (match := _HUNK.match(part.text)):
            start, count = int(match[1]), int(match[2] or 1)
            ranges[path].append(range(start, start + count))
    return Shown({name: tuple(found) for name, found in ranges.items()})


def placed(result: RunResult, prefix: str, known: Shown) -> RunResult:
    """The result with each finding's path as the repository's top has it.

    A reviewer sees paths from the top in a diff and from the project's folder elsewhere: the diff decides.
    """
    findings = tuple(
        each._replace(path=_from_top(each.path, prefix, known)) for each in result.review.findings
    )
    return result._replace(review=result.review._replace(findings=findings))


def annotated(result: RunResult, known: Shown) -> RunResult:
    """The result with only those findings whose line the diff shows."""
    findings = tuple(each for each in result.review.findings if known.holds(each))
    return result._replace(review=result.review._replace(findings=findings))


def _from_top(path: str | None, prefix: str, known: Shown) -> str | None:
    if not path or not prefix or path in known.ranges:
        return path
    return f"{prefix}/{path}"


REPORTS = ("review.json", "review.md", "review.sarif")


class Job(NamedTuple):
    """What this step has been asked, and where it stands."""

    runner: Runner
    inputs: Inputs
    change: Change


class Done(NamedTuple):
    """What became of the review: a result, an error, or both where it stopped on the way.

    ``excused`` is True where no review could be expected: a fork's pull request without a key. ``shown``
    are the lines of the diff, ``secrets`` the values that must not be written anywhere.
    """

    result: RunResult | None = None
    error: AethrError | None = None
    excused: bool = False
    notes: tuple[str, ...] = ()
    shown: Shown = NONE
    secrets: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        if self.excused:
            return ExitCode.OK
        if self.error is not None:
            return self.error.exit_code
        assert self.result is not None
        return self.result.exit_code


class Delivered(NamedTuple):
    """What came of the comment, and the step's exit code."""

    exit_code: ExitCode
    posted: Posted | None = None
    error: AethrError | None = None


def deliver(job: Job, done: Done, log: TextIO, sleep: Sleep) -> Delivered:
    """Write everything; what fails keeps nothing else from being tried. Raises ``DiskError``, ``OSError``."""
    redact = Redactor(done.secrets).redact
    done = _redacted(done)
    page = Page(_blobs(job), job.runner.run_url, done.exit_code, done.result, done.error, done.notes)
    delivered = _post(job, page, done, sleep)
    if delivered.error is not None:
        page = page._replace(notes=(*page.notes, f"This is not on the pull request: {delivered.error}"))
    with ExitStack() as rest:  # done from below, each of them whatever became of those before
        rest.callback(_log, log, [redact(line) + "\n" for line in _log_lines(done, delivered)])
        rest.callback(commands.write_summary, job.runner.summary, redact(comment.summary(page)))
        rest.callback(_write_reports, job, done.result)
        rest.callback(commands.write_outputs, job.runner.output, _outputs(page, delivered))
    return delivered


def give_up(runner: Runner, error: AethrError, log: TextIO) -> ExitCode:
    """The end of a step that does not even know what to review: outputs, summary and a line in the log."""
    log.write(commands.annotation("error", "Aethr", f"{error} {error.fix}") + "\n")
    log.flush()
    commands.write_summary(runner.summary, comment.refusal(error))
    commands.write_outputs(runner.output, {"status": "not-reviewed", "exit-code": str(int(error.exit_code))})
    return error.exit_code


def _redacted(done: Done) -> Done:
    """Without the values of keys: escaped for Markdown, they would not be found any more."""
    redact = Redactor(done.secrets).redact
    if done.error is not None:
        done.error.redact(redact)
    return done._replace(notes=tuple(map(redact, done.notes)))


def _blobs(job: Job) -> Blobs:
    return Blobs(job.runner.server_url, job.runner.repository, job.change.head)


def _write_reports(job: Job, result: RunResult | None) -> None:
    """The report files of this use of the Action, and as outputs where they are. Raises ``DiskError``."""
    if result is None:
        return
    folder = job.runner.temp / "aethr-report" / job.inputs.comment_key
    paths = [folder / name for name in REPORTS]
    with disk.failing_as(f"{folder}: cannot be made", "Is RUNNER_TEMP a folder?"):
        folder.mkdir(parents=True, exist_ok=True)
    reports.write(map(reports.Target, paths), result)
    commands.write_outputs(job.runner.output, {"report": str(paths[0]), "sarif": str(paths[2])})


def _log(log: TextIO, lines: list[str]) -> None:
    log.writelines(lines)
    log.flush()


def _post(job: Job, page: Page, done: Done, sleep: Sleep) -> Delivered:
    """A token that may only read is no failure where GitHub gives no other."""
    if not job.inputs.comment or job.change.number is None:
        return Delivered(done.exit_code)
    try:
        return Delivered(done.exit_code, posted=_upsert(job, page, done, sleep))
    except AethrError as error:
        error.redact(Redactor(done.secrets).redact)
        excused = isinstance(error, ReadOnlyError) and job.change.outside
        return Delivered(done.exit_code if excused else done.exit_code or ExitCode.WORLD, error=error)


def _upsert(job: Job, page: Page, done: Done, sleep: Sleep) -> Posted:
    runner, number = job.runner, job.change.number
    assert number is not None
    if not job.inputs.token:
        raise UsageError("the input github-token is empty", "Leave it out, or set `comment: false`.")
    if not (job.inputs.token.isascii() and job.inputs.token.isprintable()):
        raise UsageError("the input github-token has a character that no token has", "Paste it in one line.")
    mark = Marker(job.inputs.comment_key, runner.run_id, runner.attempt, job.change.head)
    redact = Redactor(done.secrets).redact
    with Api(runner.api_url, job.inputs.token, sleep) as api:
        place = Place(runner.repository, number, runner.graphql_url)
        return upsert.upsert(api, place, mark, lambda previous: redact(comment.comment(page, mark, previous)))


def _log_lines(done: Done, delivered: Delivered) -> Iterator[str]:
    if done.result is not None:
        yield from report.annotation_lines(annotated(done.result, done.shown))
    for note in done.notes:
        yield commands.annotation("notice", "Aethr", note)
    if done.error is not None:
        level = "notice" if done.excused else "error"
        yield commands.annotation(
            level, f"Aethr: {MEANINGS[done.error.exit_code]}", f"{done.error} {done.error.fix}"
        )
    elif done.exit_code:
        assert done.result is not None
        said = " ".join(line.text for line in wording.closing(done.result))
        not_relied_on = done.exit_code == ExitCode.NOT_REVIEWED
        title = done.result.outcome.replace("-", " ") if not_relied_on else MEANINGS[done.exit_code]
        yield commands.annotation("error", f"Aethr: {title}", said)
    if delivered.error is not None:
        level = "notice" if delivered.exit_code == done.exit_code else "error"
        text = f"no comment on the pull request: {delivered.error} {delivered.error.fix}"
        yield commands.annotation(level, "Aethr", text)
    if delivered.posted is not None and delivered.posted.newer:
        yield commands.annotation(
            "notice", "Aethr", "a later run has written the comment already; it was left alone"
        )


def _outputs(page: Page, delivered: Delivered) -> dict[str, str]:
    result = page.result
    return {
        "status": page.outcome,
        "exit-code": str(int(delivered.exit_code)),
        "findings": str(len(result.review.findings) if result is not None else 0),
        "comment-url": delivered.posted.url if delivered.posted is not None else "",
        "checkpoint": (result.checkpoint or "") if result is not None else "",
    }
