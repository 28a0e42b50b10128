"""``aethr action``: one step of a GitHub workflow, from the runner's environment to comment and exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base import network, sanitize, secrecy
from aethr.base.errors import (
    AethrError,
    DiskError,
    ExitCode,
    MissingKeyError,
    NotReviewedError,
    UsageError,
)
from aethr.base.options import RunOptions
from aethr.base.records import Survey
from aethr.config import credentials
from aethr.engine import checkpoint
from aethr.git.fetch import Remote
from aethr.github import (
    carry,
    commands,
    delivery,
    event,
    inputs,
    project,
    runner,
)
from aethr.github.carry import Binding, Carrier, EnvelopeError
from aethr.github.delivery import Done, Job, Shown
from aethr.github.project import Found
from aethr.output.render import Display, make_renderer
from aethr.run import Outcome, Prepared, Show, execute, prepare


def main() -> int:
    """Review the change of this run's event, say so everywhere, give the exit code. Raises ``AethrError``."""
    where = runner.read(os.environ)
    try:
        job = _job(where)
    except AethrError as error:
        error.redact(sanitize.redact)
        return delivery.give_up(where, error, sys.stdout)
    attempt = Attempt()
    done = _review(job, attempt)
    delivered = delivery.deliver(job, done, sys.stdout, time.sleep)
    if attempt.carrier is not None:
        _settle(job, attempt.carrier, done, posted=delivered.exit_code == done.exit_code)
    return delivered.exit_code


@dataclass(slots=True)
class Attempt:
    """What an attempt has got to: its folder and carrier once there are some, and what there is to tell."""

    notes: list[str] = field(default_factory=list)
    carrier: Carrier | None = None
    folder: Path = Path()


class Ready(NamedTuple):
    """A run that may begin, and what its result has to be read with."""

    prepared: Prepared
    shown: Shown
    prefix: str


def _job(where: runner.Runner) -> Job:
    network.proxies(os.environ)  # git and the calls use them: what is wrong there is said before either
    job = Job(where, inputs.read(os.environ), event.change(where))
    if job.change.privileged and not job.inputs.allow_target:
        raise UsageError(
            "pull_request_target gives secrets and a token that may write to a run about anybody's code",
            "Use the event pull_request; if you know why not: `allow-pull-request-target: true`.",
        )
    return job


def _review(job: Job, attempt: Attempt) -> Done:
    """Everything up to the result; an error is part of it, whenever it came."""
    hidden = secrecy.found_in(os.environ)
    try:
        ready = _ready(job, attempt)
    except AethrError as error:
        excused = job.change.outside and _lacks_key(error)
        shown_error = _no_secrets() if excused else error
        return Done(error=shown_error, excused=excused, notes=tuple(attempt.notes), secrets=hidden)
    attempt.notes += ready.prepared.warnings
    outcome = execute(ready.prepared, _screen(ready.prepared), partial(_carry_on, job, attempt))
    if outcome.error is not None:
        _say_how_to_go_on(outcome, carried=bool(ready.prepared.plan.seal.keys))
    result = delivery.placed(outcome.result, ready.prefix, ready.shown)
    secrets = (*hidden, *ready.prepared.plan.secrets)
    return Done(result, outcome.error, False, tuple(attempt.notes), ready.shown, secrets)


def _ready(job: Job, attempt: Attempt) -> Ready:
    cwd = project.working_directory(job.inputs, job.runner.workspace)
    here = git.checkout(cwd)
    if here is None:
        raise UsageError(f"{cwd} is in no git repository", "Check the repository out before this step.")
    top = here.top.resolve()
    here = here._replace(top=top)
    remote = Remote(f"{job.runner.server_url}/{job.runner.repository}", job.inputs.token)
    survey = git.survey(here, event.resolved(here, job.change, remote))
    if job.change.privileged:
        event.refuse_checked_out_head(here, job.change)
    event.fetch_files(top, remote, project.deciding(job.inputs, job.change), project.named(job.inputs))
    found = project.find(job.inputs, job.change, here)
    event.fetch_files(top, remote, job.change.head, project.read_by(found.project, top))
    attempt.notes += found.notes
    prepared = _prepared(job, attempt, found, survey)
    prefix = found.project.root.relative_to(top).as_posix()
    return Ready(prepared, delivery.shown(survey), "" if prefix == "." else prefix)


def _prepared(job: Job, attempt: Attempt, found: Found, survey: Survey) -> Prepared:
    """The run, taken up from an earlier attempt's checkpoint where that fits."""
    environ = inputs.environment(job.inputs, found.project.workflow, os.environ)
    attempt.folder = _folder(job.runner.temp)
    models = (model.name for model in found.project.workflow.models.values())
    seal = carry.seal_of(_binding(job, found.content), credentials.provider_keys(environ, models))
    attempt.carrier = Carrier(carry.folder_of(os.environ), seal)
    options = job.inputs.run._replace(checkpoint_dir=str(attempt.folder), config=None, preset=None)
    begin = partial(
        prepare, cwd=found.project.root, environ=environ, project=found.project, survey=survey, seal=seal
    )
    return _resumed(job, attempt, options, begin) or begin(options)


def _resumed(
    job: Job, attempt: Attempt, options: RunOptions, begin: Callable[[RunOptions], Prepared]
) -> Prepared | None:
    assert attempt.carrier is not None
    try:
        text = attempt.carrier.take()
        if text is None:
            return None
        file = attempt.folder / "resumed.jsonl"
        checkpoint.write(file, text)
        prepared = begin(options._replace(resume_checkpoint=f"@{file}"))
    except (EnvelopeError, UsageError, NotReviewedError) as error:
        attempt.notes.append(f"The checkpoint of an earlier attempt was ignored: {error}.")
        (attempt.folder / "resumed.jsonl").unlink(missing_ok=True)
        return None
    if prepared.done:
        steps = ", ".join(dict.fromkeys(step.id for step in prepared.done))
        attempt.notes.append(f"Taken up from an earlier attempt, not called again: {steps}.")
        commands.write_outputs(job.runner.output, {"resumable": "true"})  # what was carried is still there
    return prepared


@contextmanager
def _screen(prepared: Prepared) -> Iterator[Show]:
    """The log of a run. Its lines come from models and files: the runner must not obey any of them."""
    renderer = make_renderer(Display(stream=prepared.options.stream), sys.stdout, sys.stderr, os.environ)
    with commands.quoted(sys.stdout), renderer as show:
        yield show


def _carry_on(job: Job, attempt: Attempt, text: str, whole: bool) -> None:
    """Carry what the checkpoint has got, so that even a killed job leaves its finished steps."""
    assert attempt.carrier is not None
    try:
        if attempt.carrier.put(text, whole):
            commands.write_outputs(job.runner.output, {"resumable": "true"})
    except (DiskError, OSError) as error:
        note = f"A next attempt cannot go on from here: {error}"
        attempt.notes += [note] if note not in attempt.notes else []


def _settle(job: Job, carrier: Carrier, done: Done, *, posted: bool) -> None:
    """What is finished, and could be said, is not kept: a next attempt starts afresh.

    Where a review closed the gate, the next attempt says the same again, without a call.
    """
    if done.result is None or done.error is not None or not posted:
        return
    if done.exit_code != ExitCode.GATE or done.result.outcome == "not-reviewed":
        carrier.drop()
        commands.write_outputs(job.runner.output, {"resumable": "false"})


def _binding(job: Job, content: str) -> Binding:
    change, where = job.change, job.runner
    return Binding(
        repository=where.repository,
        run=str(where.run_id),
        job=f"{where.job} {job.inputs.comment_key}",
        pull_request=str(change.number or "none"),
        base=change.base or "none",
        head=change.head,
        workflow=carry.workflow_hash(content),
    )


def _folder(temp: Path) -> Path:
    try:
        temp.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="aethr-", dir=temp))
    except OSError as error:
        raise DiskError(f"{temp}: cannot be written: {error.strerror}", "Is RUNNER_TEMP a folder?") from error


def _lacks_key(error: AethrError) -> bool:
    return isinstance(error, MissingKeyError) or isinstance(error.__cause__, MissingKeyError)


def _no_secrets() -> AethrError:
    return NotReviewedError(
        "runs for pull requests of forks and of Dependabot get no secrets, so there is no key to review with",
        "Somebody who may push can review it from a branch of this repository.",
    )


def _say_how_to_go_on(outcome: Outcome, *, carried: bool) -> None:
    """The command that the desk prints means nothing on a machine that is gone in a minute."""
    assert outcome.error is not None
    outcome.error.resume = ""
    if outcome.result.steps and carried:
        more = "*Re-run failed jobs* goes on after the last finished step."
        outcome.error.fix = f"{outcome.error.fix} {more}".strip()
