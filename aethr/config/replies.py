"""The file of ``--replies``: for each step of a workflow what it answers, one answer a pass.

implement: [Done., {answer: "Done again.", changed: [a.py]}]
review: ["Review status: revise", "Review status: pass"]
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from aethr.config import files
from aethr.config.kinds import MISSING, Key, ListOf, NamedOf, Reading, Record, Short, Text
from aethr.config.mistakes import Lines, Mistake, quoted, refusal
from aethr.config.yaml_nodes import compose
from aethr.errors import ConfigError
from aethr.records import Place

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


def load(path: Path, steps: Collection[str], editing: Collection[str]) -> Replies:
    """The replies in a file for these steps, of which ``editing`` change files.

    Raises ``ConfigError`` for every mistake in it, or for the file itself.
    """
    origin = files.shown(path)
    text = files.decoded(files.read(path, origin, "no such file"), origin).removeprefix("\ufeff")
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
            yield Mistake(reading.keys[step], f"no step {quoted(step)}", step, tuple(steps))
        elif step not in editing:
            changes = (f"{step}.{number}.changed" for number in range(len(replies or ())))
            for path in changes:
                if path in reading.keys:
                    yield Mistake(reading.keys[path], f"the step '{step}' changes no files: no agent runs it")
    for step in steps:
        if step not in raw:
            yield Mistake(Place(1, 1), f"no answers for the step '{step}'")
