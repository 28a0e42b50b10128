"""``aethr action``: a step of a GitHub workflow, from the runner's environment to comment and exit code."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aethr import git
from aethr.base import network, sanitize, secrecy
from aethr.base.errors import AethrError, DiskError, ExitCode, MissingKeyError, NotReviewedError, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import Checkout, Survey
from aethr.config import credentials
from aethr.engine import checkpoint
from aethr.git.fetch import Remote
from aethr.github import carry, delivery, event, inputs, runner
from aethr.github.carry import Binding, Carrier, EnvelopeError
from aethr.github.delivery import Done, Job
from aethr.github.inputs import Found
from aethr.output.render import Display, make_renderer
from aethr.run import Prepared, Show, execute, prepare


def main() -> int:
    """Review the change of this run's event, deliver the review, return the exit code.

    Raises ``AethrError``.
    """
    where = runner.read(os.environ)
    try:
        network.proxies(os.environ)  # git and the calls use them: report a mistake before either does
        job = Job(where, inputs.read(os.environ), event.change(where))
        if job.change.privileged and not job.inputs.allow_target:
            raise UsageError(
                "pull_request_target gives secrets and a token that may write to a run about anybody's code",
                "Use the event pull_request; if you know why not: `allow-pull-request-target: true`.",
            )
    except AethrError as error:
        error.redact(sanitize.redact)
        return delivery.give_up(where, error, sys.stdout)
    attempt = JobAttempt()
    done = _review(job, attempt)
    delivered = delivery.deliver(job, done, sys.stdout, time.sleep)
    finished = done.result is not None and done.error is None and delivered.exit_code == done.exit_code
    # Another attempt starts over, but after a closed gate it repeats the verdict without a call.
    closed = done.exit_code == ExitCode.GATE and (not done.result or done.result.outcome != "not-reviewed")
    if attempt.carrier is not None and finished and not closed:
        attempt.carrier.drop()
        runner.write_outputs(job.runner.output, {"resumable": "false"})
    return delivered.exit_code


@dataclass(slots=True)
class JobAttempt:
    """What this attempt of the job has so far: notes, and once they are known folder and carrier."""

    notes: list[str] = field(default_factory=list)
    carrier: Carrier | None = None
    folder: Path = Path()


def _review(job: Job, attempt: JobAttempt) -> Done:
    """Everything up to the result. An error, whenever it came, is part of what is returned."""
    hidden = secrecy.found_in(os.environ)
    try:
        cwd = inputs.working_directory(job.inputs, job.runner.workspace)
        here = git.checkout(cwd)
        if here is None:
            raise UsageError(
                f"{cwd} is not in a git repository", "Check the repository out before this step."
            )
        here = here._replace(top=here.top.resolve())
        remote = Remote(f"{job.runner.server_url}/{job.runner.repository}", job.inputs.token)
        survey = git.survey(here, event.resolve(here, job.change, remote))
        found = _find_project(job, here, remote)
        attempt.notes += found.notes
        prepared = _prepare(job, attempt, found, survey)
        shown = delivery.shown_lines(survey)
    except AethrError as error:
        lacks_key = isinstance(error, MissingKeyError) or isinstance(error.__cause__, MissingKeyError)
        if not (job.change.outside and lacks_key):
            return Done(error=error, notes=tuple(attempt.notes), secrets=hidden)
        excuse = NotReviewedError(
            "runs for pull requests of forks and of Dependabot get no secrets, so there is no key to review "
            "with",
            "Somebody who may push can review it from a branch of this repository.",
        )
        return Done(error=excuse, excused=True, notes=tuple(attempt.notes), secrets=hidden)
    attempt.notes += prepared.warnings
    outcome = execute(prepared, _show(prepared), partial(_carry, job, attempt))
    if outcome.error is not None:
        outcome.error.resume = ""  # a command for a machine that is gone in a minute
        if outcome.result.steps and prepared.plan.seal.keys:
            more = "*Re-run failed jobs* resumes after the last finished step."
            outcome.error.fix = f"{outcome.error.fix} {more}".strip()
    result = delivery.relocate(outcome.result, found.project.root.relative_to(here.top).as_posix(), shown)
    secrets = (*hidden, *prepared.plan.secrets)
    return Done(result, outcome.error, False, tuple(attempt.notes), shown, secrets)


def _find_project(job: Job, here: Checkout, remote: Remote) -> Found:
    """The project with its workflow, and in a partial clone the files that the workflow reads."""
    if job.change.privileged:
        event.refuse_checked_out_head(here, job.change)
    deciding = inputs.deciding_commit(job.inputs, job.change)
    event.fetch_files(here.top, remote, deciding, inputs.match_name(job.inputs))
    found = inputs.find_project(job.inputs, job.change, here)
    event.fetch_files(here.top, remote, job.change.head, inputs.match_sources(found.project, here.top))
    return found


def _prepare(job: Job, attempt: JobAttempt, found: Found, survey: Survey) -> Prepared:
    """The run, resumed from an earlier attempt's checkpoint if that fits."""
    environ = inputs.environment(job.inputs, found.project.workflow, os.environ)
    temp = job.runner.temp
    try:
        temp.mkdir(parents=True, exist_ok=True)
        attempt.folder = Path(tempfile.mkdtemp(prefix="aethr-", dir=temp))
    except OSError as error:
        raise DiskError(f"{temp}: cannot be written: {error.strerror}", "Is RUNNER_TEMP a folder?") from error
    binding = Binding(
        repository=job.runner.repository,
        run=str(job.runner.run_id),
        job=f"{job.runner.job} {job.inputs.comment_key}",
        pull_request=str(job.change.number or "none"),
        base=job.change.base or "none",
        head=job.change.head,
        workflow=hashlib.sha256(found.content.encode("utf-8", "replace")).hexdigest(),
    )
    models = (model.name for model in found.project.workflow.models.values())
    seal = carry.make_seal(binding, credentials.provider_keys(environ, models))
    attempt.carrier = Carrier(carry.find_folder(os.environ), seal)
    options = job.inputs.run._replace(checkpoint_dir=str(attempt.folder), config=None, preset=None)
    begin = partial(
        prepare, cwd=found.project.root, environ=environ, project=found.project, survey=survey, seal=seal
    )
    return _resume(job, attempt, attempt.carrier, options, begin) or begin(options)


def _resume(
    job: Job,
    attempt: JobAttempt,
    carrier: Carrier,
    options: RunOptions,
    begin: Callable[[RunOptions], Prepared],
) -> Prepared | None:
    """The run with the finished steps of an earlier attempt; None, with a note, where they do not fit."""
    file = attempt.folder / "resumed.jsonl"
    try:
        text = carrier.take()
        if text is None:
            return None
        checkpoint.write(file, text)
        prepared = begin(options._replace(resume_checkpoint=f"@{file}"))
    except (EnvelopeError, UsageError, NotReviewedError) as error:
        attempt.notes.append(f"The checkpoint of an earlier attempt was ignored: {error}.")
        file.unlink(missing_ok=True)
        return None
    if prepared.done:
        steps = ", ".join(dict.fromkeys(step.id for step in prepared.done))
        attempt.notes.append(f"Resumed from an earlier attempt, not called again: {steps}.")
        runner.write_outputs(job.runner.output, {"resumable": "true"})  # the carried file is still there
    return prepared


@contextmanager
def _show(prepared: Prepared) -> Iterator[Show]:
    """The log of a run. Its lines come from models and files, so the runner must not obey any of them."""
    renderer = make_renderer(Display(stream=prepared.options.stream), sys.stdout, sys.stderr, os.environ)
    with runner.stop_commands(sys.stdout), renderer as show:
        yield show


def _carry(job: Job, attempt: JobAttempt, text: str, whole: bool) -> None:
    """Carry the new lines of the checkpoint, so that even a killed job keeps its finished steps."""
    assert attempt.carrier is not None
    try:
        if attempt.carrier.put(text, whole):
            runner.write_outputs(job.runner.output, {"resumable": "true"})
    except (DiskError, OSError) as error:
        note = f"A later attempt cannot resume this one: {error}"
        attempt.notes += [note] if note not in attempt.notes else []
