"""Answers without a model: the mock, and the file of ``--replies``, which tests a workflow.

The mock gives the same answer to the same prompt, in the shape that the step's role asks for. What a run
makes of scripted answers is real: conditions, loops and the gate; what it gives is not a review. A file::

    implement: [Done., {answer: "Done again.", changed: [a.py]}]
    review: ["Review status: revise", "Review status: pass"]
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from aethr.base.errors import ConfigError
from aethr.base.records import (
    NO_USAGE,
    Artifacts,
    Completion,
    Notice,
    Place,
    Request,
    RunResult,
    TextDelta,
)
from aethr.base.words import path_line
from aethr.config import nodes
from aethr.config.kinds import (
    MISSING,
    Key,
    ListOf,
    NamedOf,
    Reading,
    Record,
    Short,
    Text,
)
from aethr.config.mistakes import Lines, Mistake, quote, refusal
from aethr.config.nodes import compose

FIRST_LINE = "Mock answer {digest}: no model was called."
PIECE = 24

_FILE = re.compile(r"^\+\+\+ (?:b/)?([^\t\n]+)", re.MULTILINE)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)", re.MULTILINE)


class MockBackend:
    """Stands in for every backend in mock mode."""

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
    """The whole mock answer; a function of the prompt and the step's role alone."""
    digest = hashlib.sha256(request.prompt.encode("utf-8", "replace")).hexdigest()[:12]
    first = FIRST_LINE.format(digest=digest)
    if request.reviewing:
        body = f"{_finding(request.prompt)}\n\nReview status: pass"
    elif request.role == "planner":
        body = (
            "1. Read the task and the context.\n2. Make the smallest change that does it.\n3. Run the tests."
        )
    else:
        body = f"Here a live model would answer as {request.role}."
    return f"{first}\n\n{body}\n"


def _finding(prompt: str) -> str:
    changed = _first_change(prompt)
    where = f" {changed} —" if changed else ""
    return f"- [low]{where} an example of a finding, made up by the mock."


def _first_change(prompt: str) -> str:
    """``path:line`` of the first changed file in a diff, as far as the prompt has one."""
    file = _FILE.search(prompt)
    if file is None or file.group(1).strip() == "/dev/null":
        return ""
    hunk = _HUNK.search(prompt, file.end())
    line = max(1, int(hunk.group(1))) if hunk is not None and len(hunk.group(1)) < 9 else 1
    return path_line(file.group(1).strip(), line)


_REPLY = Record(
    "an answer",
    (
        Key("answer", Text("an answer as text"), "What the step answers.", "Done.", required=True),
        Key("changed", ListOf(Text("a file's path", one_line=True), "file"), "What it changed.", ["a.py"]),
    ),
)
_DOCUMENT = NamedOf("step", ListOf(Short("answer", _REPLY), "answer", least=1))


class Reply(NamedTuple):
    """One answer. ``changed`` are the files of a step that edits the tree; None where nothing is said."""

    answer: str
    changed: tuple[str, ...] | None = None


class Replies(NamedTuple):
    """The answers by step, in the order of its passes; the rest is where they stand, for later refusals."""

    answers: Mapping[str, tuple[Reply, ...]]
    origin: str = "replies"
    places: Mapping[str, Place] = MappingProxyType({})
    lines: tuple[str, ...] = ()

    def refuse(self, step: str, number: int, message: str) -> ConfigError:
        """``message`` at the answer ``number`` of ``step``, or where there is none at the first one."""
        place = self.places.get(f"{step}.{number}") or self.places.get(f"{step}.0", Place(1, 1))
        return refusal(self.origin, self.lines, [Mistake(place, message)])


def read_replies(path: Path, steps: Collection[str], editing: Collection[str]) -> Replies:
    """The replies in a file for these steps, of which ``editing`` change files.

    Raises ``ConfigError`` for every mistake in it, or for the file itself.
    """
    origin = nodes.display_name(path)
    text = nodes.decode(nodes.read(path, origin, "no such file"), origin).removeprefix("\ufeff")
    lines = Lines.of(text)
    root, mistakes = compose(text, lines, "the file is empty")
    reading = Reading("", {}, {}, mistakes)
    raw = MISSING if root is None else reading.value(_DOCUMENT, root)
    if raw is not MISSING:
        reading.mistakes.extend(_misfits(raw, reading, steps, editing))
    if reading.mistakes:
        raise refusal(origin, lines.texts, reading.mistakes)
    answers = {step: tuple(map(_reply, replies)) for step, replies in raw.items()}
    return Replies(answers, origin, reading.places, lines.texts)


def _reply(raw: dict[str, Any]) -> Reply:
    return Reply(raw["answer"], tuple(raw["changed"]) if "changed" in raw else None)


def _misfits(
    raw: dict[str, Any], reading: Reading, steps: Collection[str], editing: Collection[str]
) -> Iterator[Mistake]:
    """What does not fit the workflow. Every step runs at least once, so each needs an answer."""
    for step, replies in raw.items():
        if step not in steps:
            yield Mistake(reading.keys[step], f"no step {quote(step)}", step, tuple(steps))
        elif step not in editing:
            changes = (f"{step}.{number}.changed" for number in range(len(replies or ())))
            for path in changes:
                if path in reading.keys:
                    yield Mistake(reading.keys[path], f"the step '{step}' changes no files: no agent runs it")
    for step in steps:
        if step not in raw:
            yield Mistake(Place(1, 1), f"no answers for the step '{step}'")


UNNAMED = ("scripted-change",)
"""What an agent's step has changed where its answer does not say."""

_DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-before\n+after\n"


class Script(NamedTuple):
    """Stands in for every backend: the answer to a step's nth pass is the nth of its replies.

    A review without a verdict is asked for it once more, and says the same again.
    """

    replies: Replies
    editing: frozenset[str]

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing: ``load`` has refused it."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        """Raises ``ConfigError`` for a pass without an answer."""
        reply = self._reply(request)
        yield TextDelta(reply.answer)
        return Completion(
            content=reply.answer,
            model=request.model.name if request.model is not None else "",
            finish_reason="stop",
            usage=NO_USAGE,
            transport="scripted",
            artifacts=_artifacts(reply) if request.step in self.editing else None,
        )

    def left_over(self, result: RunResult) -> ConfigError | None:
        """The refusal of a script of which this run did not ask for every answer."""
        passes = Counter(step.id for step in result.steps)
        spared = {skipped.step for skipped in result.skipped}
        for step, answers in self.replies.answers.items():
            if passes[step] < len(answers):
                ended = f"the run ended after {passes[step]}"
                if step in spared:
                    ended = "there was nothing to read, so it was not called"
                said = f"{len(answers)} for the step '{step}', and {ended}: this answer was not asked for"
                return self.replies.refuse(step, passes[step], said)
        return None

    def _reply(self, request: Request) -> Reply:
        step, answers = request.step, self.replies.answers[request.step]
        if request.iteration > len(answers):
            message = f"no answer for pass {request.iteration} of the step '{step}': it has {len(answers)}"
            raise self.replies.refuse(step, len(answers) - 1, message)
        return answers[request.iteration - 1]


def load(path: Path, steps: Collection[str], editing: Collection[str]) -> Script:
    """The script in a file for these steps, of which ``editing`` change files. Raises ``ConfigError``."""
    return Script(read_replies(path, steps, editing), frozenset(editing))


def _artifacts(reply: Reply) -> Artifacts:
    """Made up: nothing is edited. There is a diff, so that a step that reads ``latest_diff`` is complete."""
    changed = UNNAMED if reply.changed is None else reply.changed
    return Artifacts(changed, git_diff="".join(map(_DIFF.format, changed)))
