"""What a finished or failed review leaves: comment, summary, annotations, outputs, report files.

The comment comes first, because the rest says whether it was posted; the rest is written even if it was not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from aethr import git
from aethr.base import disk
from aethr.base.errors import MEANINGS, AethrError, ExitCode, UsageError
from aethr.base.records import UNSEALED, Check, Finding, RunResult, Seal, Survey
from aethr.base.sanitize import Redactor, redact_record
from aethr.context.diffs import Section, parse
from aethr.github import comment, reviews, upsert
from aethr.github.comment import Blobs, Page
from aethr.github.event import EventChange
from aethr.github.inputs import Inputs
from aethr.github.proposal import Proposal
from aethr.github.reviews import Beside
from aethr.github.runner import Runner, annotation, append, write_outputs
from aethr.github.upsert import TRIES, Api, ApiError, Marker, Posted, PullRequest, ReadOnlyError, See, Sleep
from aethr.output import report, wording
from aethr.output import report_files as reports
from aethr.run import kept
from aethr.run.kept import KeptState

_HUNK = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
UNPROCESSABLE = 422
"""The status for a comment that is too long, among others."""
NOTE_BYTES = 500
"""The room for a note about the state."""
MAX_HUNK_BYTES = 10_000_000
"""Lines of a larger hunk are not known."""


class ShownLines(NamedTuple):
    """Which lines of the new version a diff shows: ranges by path from the repository's top folder."""

    ranges: Mapping[str, tuple[range, ...]]

    def holds(self, finding: Finding) -> bool:
        """Whether GitHub can show something beside this finding's line."""
        lines = self.ranges.get(finding.path or "", ())
        return finding.line is not None and any(finding.line in each for each in lines)


NONE = ShownLines({})


def shown_lines(survey: Survey) -> ShownLines:
    """Read the diff for the lines it shows. Raises ``GitError``."""
    ranges: dict[str, list[range]] = {}
    path = ""
    for part in parse(git.diff(survey), MAX_HUNK_BYTES):
        if isinstance(part, Section):
            path = os.fsdecode(part.path)
            ranges.setdefault(path, [])
        elif part.text is not None and (match := _HUNK.match(part.text)):
            start, count = int(match[1]), int(match[2] or 1)
            ranges[path].append(range(start, start + count))
    return ShownLines({name: tuple(found) for name, found in ranges.items()})


def relocate(result: RunResult, folder: str, shown: ShownLines) -> RunResult:
    """The result with each finding's path from the repository's top; ``folder`` is the project's there.

    A reviewer sees paths from the top in a diff and from the project's folder elsewhere, so a path that the
    diff does not show is one of the project.
    """
    if folder == ".":
        return result

    def from_top(path: str) -> str:
        return path if path in shown.ranges else f"{folder}/{path}"

    def moved(check: Check | None) -> Check | None:
        return check and check._replace(quote=check.quote._replace(path=from_top(check.quote.path)))

    findings = tuple(
        each._replace(path=each.path and from_top(each.path), check=moved(each.check))
        for each in result.review.findings
    )
    return result._replace(review=result.review._replace(findings=findings))


REPORTS = ("review.json", "review.md", "review.sarif", "review.html")


class Job(NamedTuple):
    """What this step reviews, where, and with which inputs."""

    runner: Runner
    inputs: Inputs
    change: EventChange

    @property
    def report_folder(self) -> Path:
        return self.runner.temp / "aethr-report" / self.inputs.comment_key


class Done(NamedTuple):
    """The end of the review: a result, an error, or both if it stopped on the way.

    ``excused`` is True for a fork's pull request without a key, which cannot have a review. ``shown`` are the
    lines of the diff, ``secrets`` the values that must not be written anywhere. ``state`` is what the comment
    keeps for the next run, sealed with ``seal``; None if there is no key to do that. ``proposal`` is what the
    change proposes for the workflow.
    """

    result: RunResult | None = None
    error: AethrError | None = None
    excused: bool = False
    notes: tuple[str, ...] = ()
    shown: ShownLines = NONE
    secrets: tuple[str, ...] = ()
    state: KeptState | None = None
    seal: Seal = UNSEALED
    proposal: Proposal | None = None

    @property
    def exit_code(self) -> ExitCode:
        if self.excused:
            return ExitCode.OK
        if self.error is not None:
            return self.error.exit_code
        assert self.result is not None
        return self.result.exit_code


class Delivered(NamedTuple):
    """The step's exit code, the comment or why there is none, and why findings are not beside their lines."""

    exit_code: ExitCode
    posted: Posted | None = None
    error: AethrError | None = None
    note: str = ""


def connect(job: Job, sleep: Sleep, tries: int = TRIES) -> Api:
    """A connection to GitHub's API with the input github-token. Raises ``UsageError``, ``ApiError``."""
    return open_api(job.runner, job.inputs, sleep, tries)


def open_api(runner: Runner, inputs: Inputs, sleep: Sleep, tries: int = TRIES) -> Api:
    """The same before the change is known."""
    token = inputs.token
    if not token:
        raise UsageError("the input github-token is empty", "Leave it out: the job has its own.")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("the input github-token has a character that no token has", "Paste it in one line.")
    return Api(runner.api_url, token, sleep, tries=tries)


def find_pull_request(job: Job) -> PullRequest:
    """The pull request of this job, which has one."""
    assert job.change.number is not None
    return PullRequest(job.runner.repository, job.change.number, job.runner.graphql_url)


def read_comment(api: Api, job: Job, see: See) -> str | None:
    """The comment that an earlier run wrote, None without one; ``see`` gets all. Raises ``ApiError``."""
    return upsert.find_body(api, find_pull_request(job), job.inputs.comment_key, see)


def deliver(job: Job, done: Done, log: TextIO, sleep: Sleep) -> Delivered:
    """Write everything, also after a part of it failed. Raises ``DiskError``, ``OSError``."""
    redact = Redactor(done.secrets).redact
    # Keys go now: in text that is escaped for Markdown, they would not be found any more.
    if done.error is not None:
        done.error.redact(redact)
    done = done._replace(
        notes=tuple(map(redact, done.notes)),
        state=redact_record(done.state, redact),
        proposal=redact_record(done.proposal, redact),
    )
    if done.result is not None:
        done = done._replace(result=done.result._replace(review=redact_record(done.result.review, redact)))
    blobs = Blobs(job.runner.server_url, job.runner.repository, job.change.head)
    page = Page(blobs, job.runner.run_url, done.exit_code, done.result, done.error, done.notes)
    page = page._replace(proposal=done.proposal)
    delivered = _post(job, page, done, sleep)
    if delivered.error is not None:
        page = page._replace(notes=(*page.notes, f"This is not on the pull request: {delivered.error}"))
    lines = [redact(line) + "\n" for line in _log_lines(done, delivered)]
    with ExitStack() as rest:  # last in, first out; each runs even if an earlier one raised
        rest.callback(log.flush)
        rest.callback(log.writelines, lines)
        rest.callback(append, job.runner.summary, redact(comment.summary(page)))
        rest.callback(_write_reports, job, done.result)
        rest.callback(write_outputs, job.runner.output, outputs(page, delivered))
    return delivered


def outputs(page: Page, delivered: Delivered) -> dict[str, str]:
    """The outputs of the step, apart from the paths of its reports."""
    result = page.result
    return {
        "status": page.outcome,
        "exit-code": str(int(delivered.exit_code)),
        "findings": str(len(result.review.open) if result is not None else 0),
        "comment-url": delivered.posted.url if delivered.posted is not None else "",
        "checkpoint": (result.checkpoint or "") if result is not None else "",
    }


def give_up(runner: Runner, error: AethrError, log: TextIO) -> ExitCode:
    """Report a step that cannot start: outputs, summary and a line in the log."""
    log.write(annotation("error", "Aethr", f"{error} {error.fix}") + "\n")
    log.flush()
    append(runner.summary, comment.refusal(error))
    write_outputs(runner.output, {"status": "not-reviewed", "exit-code": str(int(error.exit_code))})
    return error.exit_code


def skip(runner: Runner) -> ExitCode:
    """End a step whose comment is not a command, without a line in the log."""
    said = "This comment is not a command of somebody who may push."
    append(runner.summary, f"### Aethr: skipped\n\n{said}\n")
    write_outputs(runner.output, {"status": "skipped", "exit-code": str(int(ExitCode.OK))})
    return ExitCode.OK


def _write_reports(job: Job, result: RunResult | None) -> None:
    """Write the report files, and their paths as outputs. Raises ``DiskError``."""
    if result is None:
        return
    folder = job.report_folder
    paths = [folder / name for name in REPORTS]
    with disk.failing_as(f"{folder}: cannot be made", "Is RUNNER_TEMP a folder?"):
        folder.mkdir(parents=True, exist_ok=True)
    reports.write([*map(reports.Target, paths)], result)
    write_outputs(job.runner.output, {"report": str(paths[0]), "sarif": str(paths[2])})


def _post(job: Job, page: Page, done: Done, sleep: Sleep) -> Delivered:
    """Post the comment. A token that can only read fails the step only where GitHub would give another."""
    if not job.inputs.comment or job.inputs.run.shard is not None or job.change.number is None:
        return Delivered(done.exit_code)
    runner = job.runner
    redact = Redactor(done.secrets).redact
    mark = Marker(job.inputs.comment_key, runner.run_id, runner.attempt, job.change.head)
    pull = find_pull_request(job)
    beside: Beside | None = None

    def build(page: Page, previous: str | None) -> str:
        """The comment, after the review: it has what is not beside its line."""
        nonlocal beside
        limit = job.inputs.max_inline
        if limit is None or done.result is None:
            beside = Beside()
        elif beside is None:  # the comment may have to be written twice
            beside = reviews.place(api, pull, mark, done.result, done.shown.ranges, limit)
        notes = (*page.notes, *([beside.note] if beside.note else []))
        return redact(comment.comment(page._replace(notes=notes, beside=beside.findings), mark, previous))

    try:
        with connect(job, sleep) as api:
            try:
                posted = upsert.upsert(
                    api, pull, mark, lambda previous: _add_state(page, done, build, previous)
                )
            except ApiError as error:
                if error.status != UNPROCESSABLE:
                    raise
                # A server with a lower limit: the page alone is within that of every version.
                lost = (
                    "GitHub refused the comment with the state for the next run, which asks everything again"
                )
                alone = page._replace(notes=(*page.notes, lost))
                posted = upsert.upsert(api, pull, mark, partial(build, alone))
        return Delivered(done.exit_code, posted, note=redact(beside.note) if beside is not None else "")
    except AethrError as error:
        error.redact(redact)
        excused = isinstance(error, ReadOnlyError) and job.change.outside
        return Delivered(done.exit_code if excused else done.exit_code or ExitCode.WORLD, error=error)


def _add_state(page: Page, done: Done, build: Callable[[Page, str | None], str], previous: str | None) -> str:
    """The comment with the state below it, and a note if not all answers fit.

    Without a key, a state that is there is kept as it is: a later run may have the key again.
    """
    text = build(page, previous)
    if done.state is None:
        return comment.add_state(text, comment.find_state(previous or ""))
    packed = kept.pack(done.state, done.seal, comment.measure_room(text) - NOTE_BYTES)
    count = len(done.state.answers)
    if packed.answers < count:
        note = (
            f"The comment has room for {packed.answers} of {count} answers: the next run asks for the others."
        )
        text = build(page._replace(notes=(*page.notes, note)), previous)
    return comment.add_state(text, packed.text)


def _log_lines(done: Done, delivered: Delivered) -> Iterator[str]:
    if done.result is not None and done.result.shard is None:  # a shard's findings come with the merge
        review = done.result.review
        on_the_diff = tuple(each for each in review.findings if done.shown.holds(each))
        yield from report.annotation_lines(done.result._replace(review=review._replace(findings=on_the_diff)))
    for note in done.notes:
        yield annotation("notice", "Aethr", note)
    if done.error is not None:
        level = "notice" if done.excused else "error"
        yield annotation(level, f"Aethr: {MEANINGS[done.error.exit_code]}", f"{done.error} {done.error.fix}")
    elif done.exit_code:
        assert done.result is not None
        said = ". ".join(line.text.rstrip(".") for line in wording.ending(done.result)) + "."
        not_relied_on = done.exit_code == ExitCode.NOT_REVIEWED
        title = done.result.outcome.replace("-", " ") if not_relied_on else MEANINGS[done.exit_code]
        yield annotation("error", f"Aethr: {title}", said)
    if delivered.note:
        yield annotation("notice", "Aethr", delivered.note)
    if delivered.error is not None:
        level = "notice" if delivered.exit_code == done.exit_code else "error"
        text = f"no comment on the pull request: {delivered.error} {delivered.error.fix}"
        yield annotation(level, "Aethr", text)
    if delivered.posted is not None and delivered.posted.newer:
        yield annotation("notice", "Aethr", "a later run has already written the comment; it was not changed")
