"""A review on demand: ``/aethr review`` in a comment on a pull request, by somebody who may push.

``/aethr answer ID REASON`` is reviewed likewise: what such comments say is decided in ``comment_answers``.

The run of an ``issue_comment`` has the repository's secrets, and the change may be anybody's. So it reads
commits only, checks out nothing and starts no program of the workflow; the base branch decides how; and the
head is the one that the pull request had when the command was written, whatever is pushed later. Its checks
are not shown on the pull request, so a commit status on that head says how it ended.

Rules: https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple, TextIO

from aethr.base.errors import MEANINGS, AethrError, ExitCode, UsageError
from aethr.base.outside import MOST, at, count, text
from aethr.base.records import RunResult
from aethr.base.sanitize import one_line
from aethr.git.fetch import Remote
from aethr.github import delivery, pull
from aethr.github.delivery import Job
from aethr.github.event import EventChange
from aethr.github.inputs import Inputs
from aethr.github.pull import Pull
from aethr.github.runner import Runner, annotation, write_outputs
from aethr.github.upsert import Api, ApiError, ReadOnlyError, Sleep
from aethr.output import wording

WORD = "/aethr"
REVIEW = "review"
ANSWER = "answer"

_ANSWER = re.compile(r"([0-9a-fA-F]{12})\s+(\S.*)")

_LOGIN = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""The name of a person; that of an App ends with ``[bot]``."""
_WRITERS = ("admin", "write")

LONGEST_DESCRIPTION = 140
"""GitHub's limit for the description of a commit status, in characters."""

State = Literal["pending", "success", "failure", "error"]


class CommentCommand(NamedTuple):
    """The first line of a comment, ``/aethr NAME REST``, as it was written: ``rest`` is untrusted text."""

    name: str
    rest: str = ""


def parse(body: str) -> CommentCommand | None:
    """The command of a comment; None for any other comment. Its lines may end with CR LF."""
    line = body.replace("\r", "\n").partition("\n")[0]
    word, name, rest = [*line.split(maxsplit=2), "", "", ""][:3]
    return CommentCommand(name, rest.rstrip()) if word == WORD and line.startswith(WORD) else None


class AnswerCommand(NamedTuple):
    """An answer to the finding of a place, as it was written: ``reason`` is untrusted text."""

    place: str
    reason: str


def read_answer(asked: CommentCommand) -> AnswerCommand | None:
    """The answer that a command gives; None for another command, or one without id or reason."""
    match = _ANSWER.fullmatch(asked.rest) if asked.name == ANSWER else None
    return AnswerCommand(match[1].lower(), match[2]) if match is not None else None


def may_write(api: Api, repository: str, user: object) -> bool:
    """Whether GitHub confirms that a comment's author, as an event or the API names one, may push.

    Never for a bot. ``author_association`` does not say it: private members are CONTRIBUTOR or NONE
    (https://github.com/actions/github-script/issues/643). Raises ``ApiError`` if GitHub does not answer.
    """
    login = text(at(user, "login"))
    if at(user, "type") not in (None, "User") or _LOGIN.fullmatch(login) is None:
        return False
    try:
        found = api.send("GET", f"/repos/{repository}/collaborators/{login}/permission").value
    except ApiError as error:
        if error.status == 404:  # "X is not a user"
            return False
        raise
    return at(found, "permission") in _WRITERS and at(found, "user", "type") in (None, "User")


class Order(NamedTuple):
    """A review that a comment asked for. ``notes`` are plain lines about how it is carried out.

    ``context`` is the name of the commit status; None without one. ``answer`` is the number of the comment if
    it answers a finding, and ``writer`` the login of somebody who may push.
    """

    change: EventChange
    writer: str
    answer: int | None = None
    context: str | None = None
    notes: tuple[str, ...] = ()


def accept(runner: Runner, inputs: Inputs, sleep: Sleep) -> Order | None:
    """The review that this run's comment asks for; None unless it is a command by somebody who may push.

    Raises ``UsageError`` for a command that cannot be carried out, ``ApiError`` and ``GitError`` for a server
    that does not answer.
    """
    comment, issue = at(runner.event, "comment"), at(runner.event, "issue")
    asked = parse(text(at(comment, "body")))
    number, written = count(at(issue, "number")), count(at(comment, "id"))
    on_a_pull = isinstance(at(issue, "pull_request"), dict) and 0 < number < MOST and 0 < written < MOST
    if asked is None or runner.event.get("action") != "created" or not on_a_pull:
        return None
    with delivery.open_api(runner, inputs, sleep) as api:
        if not may_write(api, runner.repository, at(comment, "user")):
            return None
        try:
            found = _find_pull(asked, api, runner.repository, number)
        except UsageError:
            _react(api, runner.repository, written, "confused")
            raise
        answer = written if asked.name == ANSWER else None
        if answer is None:
            _react(api, runner.repository, written, "eyes")
        then = None
        with suppress(ApiError):  # the list of a private fork, or of a server without one
            then = pull.head_at(api, found, text(at(comment, "created_at")))
        remote = Remote(f"{runner.server_url}/{runner.repository}", inputs.token)
        change = pull.change(found._replace(head=then or found.head), runner.workspace, remote)
        login = text(at(comment, "user", "login"))
        order = Order(change._replace(privileged=True), login, answer, _name_context(inputs))
        if then is None:
            order = _note(order, UNKNOWN)
        if not inputs.config_from_base:
            order = _note(order, "config-from: head has no effect here; the file of the base reviews.")
        return order if answer is not None else _say_pending(order, api, runner)


def accept_answer(order: Order, job: Job, refused: str | None, sleep: Sleep) -> Order:
    """Begin the review that an answer asked for. Raises ``UsageError`` for one that was ``refused``."""
    assert order.answer is not None
    with delivery.connect(job, sleep) as api:
        if refused is not None:
            _react(api, job.runner.repository, order.answer, "confused")
            raise UsageError(f"the answer does not count: {refused}")
        _react(api, job.runner.repository, order.answer, "eyes")
        return _say_pending(order, api, job.runner)


UNKNOWN = "GitHub does not say when this head was pushed: it may be newer than the command."


def _find_pull(asked: CommentCommand, api: Api, repository: str, number: int) -> Pull:
    """The pull request to review. Raises ``UsageError`` for another command, or a closed pull request."""
    is_review = asked.name == REVIEW and not asked.rest
    if not is_review and read_answer(asked) is None:
        said = one_line(f"{WORD} {asked.name} {asked.rest}".rstrip(), 100)
        forms = f"write `{WORD} {REVIEW}`, and nothing else, or `{WORD} {ANSWER} ID REASON` in a line"
        raise UsageError(f"`{said}` is not a command: {forms}")
    found = pull.read(api, repository, number)
    if not found.is_open:
        raise UsageError(f"pull request {number} is closed, so it is not reviewed")
    return found


def _react(api: Api, repository: str, comment: int, content: str) -> None:
    """Show the author of the command that it was read, if the token may."""
    with suppress(ApiError):
        path = f"/repos/{repository}/issues/comments/{comment}/reactions"
        api.send("POST", path, {"content": content}, reads=True)


def _note(order: Order, line: str) -> Order:
    return order._replace(notes=(*order.notes, line))


def _name_context(inputs: Inputs) -> str | None:
    """The name of the commit status: one for each comment, and none for a shard, which is not a verdict."""
    if inputs.run.shard is not None:
        return None
    return "aethr" if inputs.comment_key == "default" else f"aethr/{inputs.comment_key}"


def _say_pending(order: Order, api: Api, runner: Runner) -> Order:
    """Say on the head that it is being reviewed; without the right to do so, note that."""
    try:
        _set_status(order, api, runner, "pending", "reviewing, as a comment asked")
    except ReadOnlyError:
        why = "this token may not set one. Give the job `permissions: statuses: write`."
    except ApiError as error:  # such as a head that only a fork has
        why = f"{error}."
    else:
        return order
    return _note(order, f"There is no commit status: {why}")._replace(context=None)


def _set_status(order: Order, api: Api, runner: Runner, state: State, description: str) -> None:
    """Set the commit status of the head, in the base repository. Raises ``ApiError``."""
    if order.context is None:
        return
    body = {
        "state": state,
        "context": order.context,
        "description": one_line(description, LONGEST_DESCRIPTION),
        "target_url": runner.run_url,
    }
    path = f"/repos/{runner.repository}/statuses/{order.change.head}"
    api.send("POST", path, body, reads=True)


def find_later_push(order: Order, job: Job, sleep: Sleep) -> tuple[str, ...]:
    """A line about commits that were pushed after the command, if there are any."""
    assert order.change.number is not None
    try:
        with delivery.connect(job, sleep) as api:
            now = pull.read(api, job.runner.repository, order.change.number).head
    except AethrError:
        return ()
    if now == order.change.head:
        return ()
    said = f"this is about {order.change.head[:12]}, the head is {now[:12]} now"
    again = f"Write `{WORD} {REVIEW}` again to have them reviewed."
    return (f"Commits were pushed after the command and are not reviewed: {said}. {again}",)


Settle = Callable[["RunResult | None", ExitCode], ExitCode]


@contextmanager
def settling(order: Order, job: Job, log: TextIO, sleep: Sleep) -> Iterator[Settle]:
    """The block gets the function that says on the head how the review ended, and returns the exit code.

    A block that ends without that leaves an error there: a status must not stay pending. If it cannot be set
    the step fails, as it does for a comment that cannot be posted.
    """

    def settle(result: RunResult | None, exit_code: ExitCode) -> ExitCode:
        state, description = _describe_end(result, exit_code)
        try:
            with delivery.connect(job, sleep) as api:
                _set_status(order, api, job.runner, state, description)
        except AethrError as error:
            log.write(annotation("error", "Aethr", f"the commit status is still pending: {error}") + "\n")
            log.flush()
            exit_code = exit_code or ExitCode.WORLD
            write_outputs(job.runner.output, {"exit-code": str(int(exit_code))})
        return exit_code

    try:
        yield settle
    except BaseException:
        settle(None, ExitCode.WORLD)
        raise


def _describe_end(result: RunResult | None, exit_code: ExitCode) -> tuple[State, str]:
    """State and description of a finished review. Only a real, complete one is a success."""
    outcome = result.outcome if result is not None else "not-reviewed"
    words = outcome.replace("-", " ")
    if exit_code == ExitCode.GATE and result is not None:
        return "failure", f"{words}: {wording.summary(result.review.open)}"
    if exit_code == ExitCode.OK and outcome in ("pass", "revise") and result is not None:
        return "success", f"{words}: {wording.summary(result.review.open)}"
    if exit_code == ExitCode.OK:
        return ("success" if outcome == "nothing-to-review" else "error"), words
    meaning = MEANINGS[exit_code]
    return "error", words if meaning == words else f"{words}: {meaning}"
