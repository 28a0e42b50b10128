"""The table of backends, which run the steps, and the two that call no model: the mock and the script.

To add one, add a file and a row; an agent: see ``AGENTS``. The mock gives the same answer to the same prompt,
in the form that the step's role asks for. With the scripted answers of ``--replies``, which test a workflow,
the conditions, loops and gate of a run are real, but the result is not a review. A file of them::

    implement: [Done., {answer: "Done again.", changed: [a.py]}]
    review: ["Review status: revise", "Review status: pass"]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aethr.agents import AGENTS, Agent
from aethr.base.errors import AethrError, ConfigError
from aethr.base.records import (
    NO_USAGE,
    Allowance,
    Artifacts,
    Backend,
    Completion,
    ModelSpec,
    Notice,
    Place,
    Request,
    RunResult,
    Share,
    TextDelta,
    share_nothing,
)
from aethr.base.words import path_line
from aethr.config import nodes
from aethr.config.kinds import (
    Key,
    ListOf,
    NamedOf,
    Reading,
    Record,
    Short,
    Text,
    read_document,
)
from aethr.config.mistakes import Mistake, quote, refusal

if TYPE_CHECKING:
    from aethr.llm.routes import Destination


class BackendRow(NamedTuple):
    """``build`` makes the backend from the environment; ``edits_tree`` is True if it changes files.

    ``share`` divides a budget between calls that run at once. ``find_address`` says where a model is called
    in this environment, without any secret; without it, no answer is used in a later run.
    ``find_destinations`` says where all of its calls may go; without it, ``hosts`` allows none.
    """

    name: str
    help: str
    build: Callable[[Mapping[str, str]], Backend]
    edits_tree: bool
    share: Share = share_nothing
    find_address: Callable[[ModelSpec, Mapping[str, str]], str] | None = None
    find_destinations: Callable[[ModelSpec, Mapping[str, str]], Iterable[Destination]] | None = None


def _build_model(environ: Mapping[str, str]) -> Backend:
    from aethr.llm.model import ModelBackend
    from aethr.llm.routes import route

    return ModelBackend(environ, route(environ))


def _share_model_budget(requests: Iterable[Request], left: Allowance) -> Sequence[Allowance]:
    from aethr.llm.spending import share

    return share(requests, left)


def _find_model_address(model: ModelSpec, environ: Mapping[str, str]) -> str:
    from aethr.llm import routes

    try:
        address = routes.address_of(model.name, routes.endpoint_of(model, environ))
    except AethrError:  # an estimate needs no key, and a run without one has been refused
        return ""
    return routes.public_address(address.geturl()) if address else ""


def _find_model_destination(model: ModelSpec, environ: Mapping[str, str]) -> Iterator[Destination]:
    from aethr.llm import routes

    yield routes.find_destination(model, environ)


def _make_row(agent: Agent) -> BackendRow:
    def build(environ: Mapping[str, str]) -> Backend:
        from aethr.agents.agent import AgentBackend

        return AgentBackend(agent, environ)

    def find_destinations(model: ModelSpec, environ: Mapping[str, str]) -> Iterable[Destination]:
        from aethr.agents import program

        return program.find_destinations(agent, model, environ)

    about = f"the {agent.name} CLI edits the working tree"
    return BackendRow(agent.name, about, build, edits_tree=True, find_destinations=find_destinations)


_TABLE = (
    BackendRow(
        "model",
        "a language model answers; nothing is edited",
        _build_model,
        False,
        _share_model_budget,
        _find_model_address,
        _find_model_destination,
    ),
    *map(_make_row, AGENTS.values()),
)

BACKENDS: Mapping[str, BackendRow] = {row.name: row for row in _TABLE}

FIRST_LINE = "Mock answer {digest}: no model was called."
PIECE = 24

_FILE = re.compile(r"^\+\+\+ (?:b/)?([^\t\n]+)", re.MULTILINE)
_FINDING = re.compile(r"^(\d+)\. \[(?:high|medium|low)\] ", re.MULTILINE)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)", re.MULTILINE)


class MockBackend:
    """The backend of every step in mock mode."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        content = answer(request)
        for start in range(0, len(content), PIECE):
            yield TextDelta(content[start : start + PIECE])
        return Completion(
            content=content,
            model=request.model.name if request.model is not None else "mock",
            finish_reason="stop",
            usage=NO_USAGE,
            transport="mock",
        )


def answer(request: Request) -> str:
    """The complete mock answer; it depends only on the prompt and the step's role."""
    digest = hashlib.sha256(request.prompt.encode("utf-8", "replace")).hexdigest()[:12]
    first = FIRST_LINE.format(digest=digest)
    if request.reviewing:
        where, file = "", _FILE.search(request.prompt)  # the first changed file in the prompt's diff
        if file is not None and (path := file[1].strip()) != "/dev/null":
            hunk = _HUNK.search(request.prompt, file.end())
            line = max(1, int(hunk[1])) if hunk is not None and len(hunk[1]) < 9 else 1
            where = f" {path_line(path, line)} —"
        body = f"- [low]{where} an example of a finding, made up by the mock.\n\nReview status: pass"
    elif request.verifying:
        stands = "".join(f"- {number}: stands\n" for number in _FINDING.findall(request.prompt))
        body = f"{stands}\nChecked: all"
    elif request.role == "planner":
        body = (
            "1. Read the task and the context.\n2. Make the smallest change that does it.\n3. Run the tests."
        )
    else:
        body = f"Here a live model would answer as {request.role}."
    return f"{first}\n\n{body}\n"


_REPLY = Record(
    "an answer",
    (
        Key("answer", Text("an answer as text"), "What the step answers.", "Done.", required=True),
        Key("changed", ListOf(Text("a file's path", one_line=True), "file"), "What it changed.", ["a.py"]),
    ),
)
REPLIES = NamedOf("step", ListOf(Short("answer", _REPLY), "answer", least=1))
"""The replies of one run."""


class Played(Backend, Protocol):
    """The backend of every step in a run whose answers are in a file."""

    def find_unused(self, result: RunResult) -> ConfigError | None:
        """The error for the first answer that this run did not ask for; None if it asked for all."""


class Reply(NamedTuple):
    """One answer. ``changed`` are the files that an agent's step changed; None if the file does not say."""

    answer: str
    changed: tuple[str, ...] | None = None


class Replies(NamedTuple):
    """The answers by step, in the order of its passes, and their places in the file, for error messages."""

    answers: Mapping[str, tuple[Reply, ...]]
    origin: str = "replies"
    places: Mapping[str, Place] = MappingProxyType({})
    lines: tuple[str, ...] = ()

    def refuse(self, step: str, number: int, message: str) -> ConfigError:
        """The error with ``message`` at answer ``number`` of ``step``, or at its first one."""
        place = self.places.get(f"{step}.{number}") or self.places.get(f"{step}.0", Place(1, 1))
        return refusal(self.origin, self.lines, [Mistake(place, message)])


def read_replies(
    path: Path, steps: Collection[str], editing: Collection[str], verifying: Collection[str] = ()
) -> Replies:
    """Read the replies to these steps from a file; ``editing`` are the steps that change files.

    ``verifying`` are those that are only called if a finding is open. Raises ``ConfigError`` with every
    mistake in it, or if the file cannot be read.
    """
    text, origin = nodes.load(path, "no such file")
    check = partial(check_steps, steps=steps, editing=editing, verifying=verifying)
    raw, reading, lines = read_document(text, origin, REPLIES, check)
    return Replies(to_answers(raw), origin, reading.places, lines)


def to_answers(raw: Mapping[str, Any]) -> Mapping[str, tuple[Reply, ...]]:
    """What ``REPLIES`` has read."""
    return {
        step: tuple(
            Reply(reply["answer"], tuple(reply["changed"]) if "changed" in reply else None)
            for reply in replies
        )
        for step, replies in raw.items()
    }


def check_steps(
    raw: Mapping[str, Any],
    reading: Reading,
    steps: Collection[str],
    editing: Collection[str],
    verifying: Collection[str],
) -> Iterator[Mistake]:
    """What does not fit the workflow's steps. Each needs an answer, unless it may have nothing to verify.

    ``raw`` is the value at the path of ``reading``.
    """
    for step, replies in raw.items():
        path = reading.below(step).path
        if step not in steps:
            yield Mistake(reading.keys[path], f"no step {quote(step)}", step, tuple(steps))
        elif step not in editing:
            changes = (f"{path}.{number}.changed" for number in range(len(replies or ())))
            for change in changes:
                if change in reading.keys:
                    yield Mistake(
                        reading.keys[change], f"the step '{step}' changes no files: no agent runs it"
                    )
    for step in steps:
        if step not in raw and step not in verifying:
            place = reading.places.get(reading.path, Place(1, 1)) if reading.path else Place(1, 1)
            yield Mistake(place, f"no answers for the step '{step}'")


UNNAMED = ("scripted-change",)
"""What an agent's step changed, if its answer does not say."""

_DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-before\n+after\n"


class Script(NamedTuple):
    """The backend of every step in a scripted run: a step's nth pass gets the nth of its replies.

    ``editing`` are the steps that change files. If a reply has no verdict and the review is asked for it once
    more, it gives the same reply again.
    """

    replies: Replies
    editing: frozenset[str]

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing: ``read_replies`` has checked the file."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        """Raises ``ConfigError`` for a pass without an answer."""
        step, answers = request.step, self.replies.answers.get(request.step, ())
        if request.iteration > len(answers):
            message = f"no answer for pass {request.iteration} of the step '{step}': it has {len(answers)}"
            raise self.replies.refuse(step, max(0, len(answers) - 1), message)
        reply = answers[request.iteration - 1]
        yield TextDelta(reply.answer)
        artifacts = None
        if step in self.editing:  # made up, with a diff, so that a step that reads `latest_diff` is complete
            changed = UNNAMED if reply.changed is None else reply.changed
            artifacts = Artifacts(changed, git_diff="".join(map(_DIFF.format, changed)))
        return Completion(
            content=reply.answer,
            model=request.model.name if request.model is not None else "",
            finish_reason="stop",
            usage=NO_USAGE,
            transport="scripted",
            artifacts=artifacts,
        )

    def find_unused(self, result: RunResult) -> ConfigError | None:
        """The error for the first answer that this run did not ask for; None if it asked for all."""
        if result.shard is not None and not result.steps:  # it had no part to answer for
            return None
        passes: dict[str, int] = {}
        for done in result.steps:
            passes[done.id] = max(done.iteration, passes.get(done.id, 0))
        spared = {skipped.step for skipped in result.skipped}
        for step, answers in self.replies.answers.items():
            last = passes.get(step, 0)
            if last < len(answers):
                ended = f"the run ended after {last}"
                if step in spared:
                    ended = "there was nothing to read, so it was not called"
                said = f"{len(answers)} for the step '{step}', and {ended}: this answer was not asked for"
                return self.replies.refuse(step, last, said)
        return None
