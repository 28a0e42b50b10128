"""``aethr action``: a step of a GitHub workflow, from the runner's environment to comment and exit code.

``aethr action merge`` is the step after the shards: what they left, instead of a run.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aethr import context, git, review
from aethr.base import network, sanitize, secrecy
from aethr.base.errors import AethrError, DiskError, ExitCode, MissingKeyError, NotReviewedError, UsageError
from aethr.base.options import RunOptions, read_shard
from aethr.base.providers import chain
from aethr.base.records import UNSEALED, Checkout, RunResult, Seal, Shard, Survey
from aethr.config import credentials
from aethr.engine import checkpoint
from aethr.engine.seal import SHORTEST_KEY
from aethr.git.fetch import Remote
from aethr.github import (
    artifacts,
    carry,
    command,
    comment,
    comment_answers,
    delivery,
    event,
    inputs,
    proposal,
    runner,
)
from aethr.github.artifacts import Origin
from aethr.github.carry import Binding, Carrier, EnvelopeError
from aethr.github.command import Order
from aethr.github.comment_answers import Judged, Rights
from aethr.github.delivery import Done, Job
from aethr.github.inputs import Found
from aethr.github.proposal import Proposal
from aethr.github.upsert import Api
from aethr.output import report
from aethr.output.render import Display, make_renderer
from aethr.run import Prepared, Provided, Show, execute, kept, prepare
from aethr.run.kept import KeptState, StateError
from aethr.run.shards import merge
from aethr.workflow import planning


def main(part: str = "review") -> int:
    """Review the change of this run's event, or merge its shards; deliver it and return the exit code.

    Raises ``AethrError``.
    """
    where = runner.read(os.environ)
    try:
        network.proxies(os.environ)  # git and the calls use them: report a mistake before either does
        environ = {**os.environ, "AETHR_RUN_SHARD": ""} if part == "merge" else os.environ
        given, order = inputs.read(environ), None
        if where.event_name == event.COMMENT:
            order = command.accept(where, given, time.sleep)
            if order is None:
                return delivery.skip(where)
        job = Job(where, given, order.change if order is not None else event.change(where))
        attempt = JobAttempt()
        if order is not None and order.answer is not None:
            order = _accept_answer(job, attempt, order, order.answer)
        if order is None and job.change.privileged and not given.allow_target:
            raise UsageError(
                "pull_request_target gives secrets and a token that may write to a run about anybody's code",
                "Use the event pull_request; if you know why not: `allow-pull-request-target: true`.",
            )
    except AethrError as error:
        error.redact(sanitize.redact)
        return delivery.give_up(where, error, sys.stdout)
    attempt.notes += order.notes if order is not None else ()
    act = _merge if part == "merge" else _review
    if order is None:
        return _deliver(job, attempt, _advance(job, attempt, act(job, attempt)))
    with command.settling(order, job, sys.stdout, time.sleep) as settle:
        done = _advance(job, attempt, act(job, attempt))
        done = done._replace(notes=(*done.notes, *command.find_later_push(order, job, time.sleep)))
        return settle(done.result, _deliver(job, attempt, done))


def _deliver(job: Job, attempt: JobAttempt, done: Done) -> ExitCode:
    done = done._replace(proposal=attempt.proposal)
    delivered = delivery.deliver(job, done, sys.stdout, time.sleep)
    if attempt.carrier is not None and delivered.exit_code == done.exit_code:
        _drop_finished(job, attempt.carrier, done)
    return delivered.exit_code


@dataclass(slots=True)
class JobAttempt:
    """What this attempt of the job has so far: notes, and once they are known folder and carrier.

    ``earlier`` is the state in the comment, sealed with ``seal``; None without a key. ``holds`` says whether
    the tree has a path. ``is_proven`` is False if the run rests on a checkpoint that nothing proves.
    ``setup`` is known before the review if an answer in a comment asked for it; ``judged`` has the answers in
    all comments. ``proposal`` is what the change proposes for the workflow, if anything.
    """

    notes: list[str] = field(default_factory=list)
    carrier: Carrier | None = None
    folder: Path = Path()
    earlier: KeptState | None = None
    seal: Seal = UNSEALED
    holds: Callable[[str], bool] = lambda _: True
    is_proven: bool = True
    setup: Setup | None = None
    judged: Judged | None = None
    proposal: Proposal | None = None


class Setup(NamedTuple):
    """The change and the project that reviews it, with the environment of its run.

    ``seal`` has the keys that prove results, and what those are bound to.
    """

    here: Checkout
    survey: Survey
    found: Found
    environ: Mapping[str, str]
    seal: Seal


def _review(job: Job, attempt: JobAttempt) -> Done:
    """Everything up to the result. An error, whenever it came, is part of what is returned."""
    hidden = secrecy.found_in(os.environ)
    try:
        setup = attempt.setup or _set_up(job, attempt)
        prepared = _prepare(job, attempt, setup)
        attempt.is_proven = bool(prepared.plan.seal.keys)
        if job.inputs.run.shard is not None and prepared.plan.is_live:
            _require_key(setup.seal, "seals its record for the merge")
        shown = delivery.shown_lines(setup.survey)
    except AethrError as error:
        return _stopped(job, attempt, error)
    attempt.notes += prepared.warnings
    outcome = execute(prepared, _show(prepared), partial(_carry, job, attempt))
    stop = outcome.error
    if stop is not None:
        stop.resume = ""  # a command for a machine that is gone in a minute
        if outcome.result.steps and prepared.plan.seal.keys:
            more = "*Re-run failed jobs* resumes after the last finished step."
            stop.fix = f"{stop.fix} {more}".strip()
    elif job.inputs.run.shard is not None:
        stop = _leave_record(job, attempt, outcome.result, prepared.plan.seal)
    result = delivery.relocate(outcome.result, _find_folder(setup), shown)
    secrets = (*hidden, *prepared.plan.secrets)
    return Done(result, stop, False, tuple(attempt.notes), shown, secrets)


def _merge(job: Job, attempt: JobAttempt) -> Done:
    """One result of the shards of this run, judged with this step's gate."""
    try:
        setup = attempt.setup or _set_up(job, attempt)
        terms = planning.read_terms(job.inputs.run, setup.environ, secrecy.found_in(setup.environ))
        if not terms.is_live:
            mock = NotReviewedError("a mock leaves no records to merge", "With a key, models are called.")
            return Done(error=mock, excused=not terms.gate.needs_review, notes=tuple(attempt.notes))
        _require_key(setup.seal, "the records of the shards are sealed with")
        with delivery.connect(job, time.sleep) as api:
            found = artifacts.collect(api, job.runner, job.inputs.comment_key, setup.seal)
        if not found.records:
            why = "\n".join(found.refused) or "this run has no record of a shard"
            raise NotReviewedError(why, "Re-run the shards that failed, and this job with them.")
        try:
            given = setup.found.project.workflow.answers
            gone = planning.find_gone(setup.survey.top, setup.survey.scope.head)
            result = merge(found.records, terms.gate, found.refused, given, gone)
        except UsageError as error:
            raise NotReviewedError(
                str(error), "Re-run all jobs, so that all shards review the same."
            ) from error
        shown = delivery.shown_lines(setup.survey)
    except AethrError as error:
        return _stopped(job, attempt, error)
    result = delivery.relocate(result, _find_folder(setup), shown)
    with runner.stop_commands(sys.stdout):
        sys.stdout.write(report.text(result))
    return Done(result, None, False, tuple(attempt.notes), shown, terms.secrets)


def _accept_answer(job: Job, attempt: JobAttempt, order: Order, written: int) -> Order:
    """Begin the review that an answer asked for, if that comment counts. Raises ``UsageError`` if not."""
    refused = None
    try:
        attempt.setup = _set_up(job, attempt, order.writer)
    except AethrError:  # the review meets it again, and reports it
        attempt.notes.clear()
    else:
        if not attempt.seal.keys or not job.inputs.comment:
            refused = comment_answers.UNSEALED
        elif attempt.judged is not None:
            refused = attempt.judged.find_refusal(written)
    return command.accept_answer(order, job, refused, time.sleep)


def _set_up(job: Job, attempt: JobAttempt, writer: str = "") -> Setup:
    """The setup, with the answers in comments after those of the workflow file. Raises ``AethrError``.

    ``writer`` is the login of somebody who may push, as GitHub has said already.
    """
    setup = _find_setup(job, attempt)
    _read_state(job, attempt, setup, writer)
    if attempt.judged is None:
        return setup
    attempt.notes += attempt.judged.notes
    project = setup.found.project
    given = (*project.workflow.answers, *attempt.judged.answers)
    project = project._replace(workflow=project.workflow._replace(answers=given))
    return setup._replace(found=setup.found._replace(project=project))


def _find_setup(job: Job, attempt: JobAttempt) -> Setup:
    """The change of the event in this checkout, and the workflow that decides. Raises ``AethrError``."""
    cwd = inputs.working_directory(job.inputs, job.runner.workspace)
    here = git.checkout(cwd)
    if here is None:
        raise UsageError(f"{cwd} is not in a git repository", "Check the repository out before this step.")
    here = here._replace(top=here.top.resolve())
    remote = Remote(f"{job.runner.server_url}/{job.runner.repository}", job.inputs.token)
    survey = git.survey(here, event.resolve(here, job.change, remote))
    found = _find_project(job, survey, remote)
    attempt.notes += found.notes
    if job.inputs.run.shard is None:  # the merge shows it
        try:
            attempt.proposal = proposal.find(job.inputs, job.change, survey, remote)
        except AethrError as error:
            attempt.notes.append(f"What this change does to the workflow is not known: {error}")
    workflow = found.project.workflow
    environ = inputs.environment(job.inputs, workflow, os.environ)
    shard = f" {job.inputs.run.shard}" if job.inputs.run.shard is not None else ""
    binding = Binding(
        repository=job.runner.repository,
        run=str(job.runner.run_id),
        job=f"{job.runner.job} {job.inputs.comment_key}{shard}",
        pull_request=str(job.change.number or "none"),
        base=job.change.base or "none",
        head=job.change.head,
        workflow=hashlib.sha256(found.content.encode("utf-8", "replace")).hexdigest(),
    )
    called = (each.name for model in workflow.models.values() for each in chain(model))
    keys = credentials.provider_keys(environ, called)
    return Setup(here, survey, found, environ, carry.make_seal(binding, keys))


def _read_state(job: Job, attempt: JobAttempt, setup: Setup, writer: str) -> None:
    """Read what earlier runs have left in the comment, and the answers in the other comments.

    What cannot be used is a note, not an error. If nothing can be read, the comment keeps its state: a new
    one would not know which answers were there before.
    """
    attempt.seal = kept.make_seal(
        setup.seal.keys,
        repository=job.runner.repository,
        pull_request=str(job.change.number),
        comment_key=job.inputs.comment_key,
    )
    attempt.holds = partial(context.holds, setup.found.project.root, setup.survey)
    if not job.inputs.comment or job.change.number is None:
        return
    comments = comment_answers.Collector()
    try:
        with delivery.connect(job, time.sleep, tries=2) as api:  # without it the review only asks more
            text = comment.find_state(delivery.read_comment(api, job, comments.see) or "")
            if attempt.seal.keys:
                attempt.earlier = _unpack(attempt, text)
                rights = _find_rights(job, setup, api, writer)
                attempt.judged = comment_answers.judge(comments.written, attempt.earlier, rights)
                attempt.earlier = attempt.judged.state
            elif comments.written:
                attempt.notes.append(comment_answers.ignore("all comments", comment_answers.UNSEALED))
    except AethrError as error:
        if attempt.seal.keys:
            attempt.notes.append(
                f"The comment of earlier reviews cannot be read, so all is asked again: {error}"
            )


def _unpack(attempt: JobAttempt, text: str) -> KeptState:
    """The state in the comment; an empty one, with a note, if it does not count."""
    try:
        return kept.unpack(text, attempt.seal) if text else KeptState()
    except StateError as error:
        attempt.notes.append(f"The state of earlier reviews in the comment is ignored: {error}.")
        return KeptState()


def _find_rights(job: Job, setup: Setup, api: Api, writer: str) -> Rights:
    """Who may answer in comments. Only a file of the base lets the author of the pull request do so."""
    decides_base = inputs.deciding_commit(job.inputs, job.change) == job.change.base
    is_allowed = decides_base and setup.found.project.workflow.answers_by_author
    ask = partial(command.may_write, api, job.runner.repository)
    return Rights("" if is_allowed else job.change.author, ask, writer)


def _advance(job: Job, attempt: JobAttempt, done: Done) -> Done:
    """The end of a review, compared with the reviews before it, and the state for those after it."""
    if attempt.earlier is None or job.inputs.run.shard is not None:
        return done
    result, state = done.result, attempt.earlier
    if result is not None and result.is_live and attempt.is_proven:
        result, state = kept.advance(state, result, job.change.head, attempt.holds)
    return done._replace(result=result, state=state, seal=attempt.seal)


def _require_key(seal: Seal, what: str) -> None:
    """Refuse shards without a key that proves their records, before the first call."""
    if not seal.keys:
        missing = MissingKeyError(f"no provider's key of at least {SHORTEST_KEY} characters, which {what}")
        raise NotReviewedError(str(missing), "Shards need one. Without it, leave `shard` out.") from missing


def _stopped(job: Job, attempt: JobAttempt, error: AethrError) -> Done:
    """What is left of a step that could not begin; a fork without a key is excused."""
    hidden, notes = secrecy.found_in(os.environ), tuple(attempt.notes)
    lacks_key = isinstance(error, MissingKeyError) or isinstance(error.__cause__, MissingKeyError)
    if not (job.change.outside and lacks_key):
        return Done(error=error, notes=notes, secrets=hidden)
    excuse = NotReviewedError(
        "runs for pull requests of forks and of Dependabot get no secrets, so there is no key to review with",
        "Somebody who may push can review it from a branch of this repository.",
    )
    return Done(error=excuse, excused=True, notes=notes, secrets=hidden)


def _find_folder(setup: Setup) -> str:
    """The project's folder in the repository."""
    return setup.found.project.root.relative_to(setup.here.top).as_posix()


def _leave_record(job: Job, attempt: JobAttempt, result: RunResult, seal: Seal) -> AethrError | None:
    """Leave the sealed record of a finished shard for the merge, or return why that failed."""
    assert job.inputs.run.shard is not None
    if not result.is_live:
        attempt.notes.append("A mock leaves no record, so there is nothing to merge.")
        return None
    shard = Shard(*read_shard(job.inputs.run.shard))
    origin = Origin(job.inputs.comment_key, shard, job.runner.attempt)
    try:
        file = artifacts.write(job.report_folder, result, seal, origin)
    except DiskError as error:
        return error
    names = {"artifact": str(origin)} if artifacts.takes_artifacts(job.runner.server_url) else {}
    runner.write_outputs(job.runner.output, {"record": str(file), **names})
    return None


def _find_project(job: Job, survey: Survey, remote: Remote) -> Found:
    """The project with its workflow, and in a partial clone the files that the workflow reads."""
    here = survey.checkout
    if job.change.privileged:
        event.refuse_checked_out_head(here, job.change, job.runner.sha)
    deciding = inputs.deciding_commit(job.inputs, job.change)
    event.fetch_files(here.top, remote, deciding, inputs.match_name(job.inputs))
    found = inputs.find_project(job.inputs, job.change, here)
    inputs.fetch_sources(found.project, survey, remote)
    return found


def _prepare(job: Job, attempt: JobAttempt, setup: Setup) -> Prepared:
    """The run, resumed from an earlier attempt's checkpoint if that fits."""
    temp = job.runner.temp
    try:
        temp.mkdir(parents=True, exist_ok=True)
        attempt.folder = Path(tempfile.mkdtemp(prefix="aethr-", dir=temp))
    except OSError as error:
        raise DiskError(f"{temp}: cannot be written: {error.strerror}", "Is RUNNER_TEMP a folder?") from error
    attempt.carrier = Carrier(carry.find_folder(os.environ), setup.seal)
    options = job.inputs.run._replace(checkpoint_dir=str(attempt.folder), config=None, preset=None)
    if options.shard is not None:
        options = options._replace(require_review=False)  # the gate is the merge's
    begin = partial(
        prepare,
        cwd=setup.found.project.root,
        environ=setup.environ,
        provided=Provided(setup.found.project, setup.survey, job.change.pull_request),
        seal=setup.seal,
        answers=attempt.earlier.answers if attempt.earlier is not None else (),
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


def _drop_finished(job: Job, carrier: Carrier, done: Done) -> None:
    """Drop the checkpoint of a finished, delivered review, so that another attempt starts over.

    It is kept where another attempt can repeat the result without a call: a review that closed the gate, and
    a shard with all of its verdicts, whose record the next step may fail to upload.
    """
    if done.result is None or done.error is not None:
        return
    shard = done.result.shard
    if shard is not None:
        reviewing = {step.id for step in shard.plan.steps if step.reviewing} if shard.plan else set()
        keep = all(
            review.read(step).status != "none" and not step.truncated and not step.cut_prompt
            for step in done.result.steps
            if step.id in reviewing
        )
    else:
        keep = done.exit_code == ExitCode.GATE and done.result.outcome != "not-reviewed"
    carrier.drop(keep)
    if not keep:
        runner.write_outputs(job.runner.output, {"resumable": "false"})
