"""The table of loop conditions: what a workflow may write under ``repeat`` beside its bounds.

A loop is satisfied once all of its conditions hold. To add a condition, add a field to ``records.Repeat`` and
a row here: the schema, the reference, the loop and the map of ``aethr check`` read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aethr import review
from aethr.base.records import Repeat, StepResult
from aethr.base.sanitize import one_line
from aethr.config.kinds import Flag, Key, Text
from aethr.config.schema import COMMAND


class Condition(NamedTuple):
    """``key`` is its key in a workflow file, with the name of a field of ``Repeat``.

    ``holds`` takes the value from the file and a finished step, or a part of one; ``words`` returns the text
    after "until". ``runs`` is True if the value is a command that runs after each pass of the step; its
    result is in ``StepResult.check``, for a step with parts in the last one.
    """

    key: Key
    holds: Callable[[Any, StepResult], bool]
    words: Callable[[Any], str]
    runs: bool = False


def given(repeat: Repeat | None) -> Iterator[tuple[Condition, Any]]:
    """The conditions that a loop sets, each with its value."""
    for name, row in CONDITIONS.items() if repeat is not None else ():
        if value := getattr(repeat, name):
            yield row, value


def hold(repeat: Repeat, answered: Sequence[StepResult], latest: Sequence[StepResult]) -> bool:
    """Whether every condition holds: a command by the ``latest`` pass of the step, any other by its answers.

    Both have a result for each part of the change. ``answered`` is the latest pass with answers; if it is
    empty, only commands count. A cut answer meets no condition, because its end is unknown.
    """
    if any(result.truncated for result in answered):
        return False
    return all(
        row.holds(value, result)
        for row, value in given(repeat)
        for result in (latest[-1:] if row.runs else answered)
    )


def until(repeat: Repeat) -> str:
    """The conditions in words, on one line, to follow "until"."""
    return " and ".join(row.words(value) for row, value in given(repeat))


_ROWS = (
    Condition(
        Key("until_review_pass", Flag(only_true=True), "Stop when this step's review passes.", True),
        lambda _, result: review.read(result).status == "pass",
        lambda _: "the review passes",
    ),
    Condition(
        Key("until_contains", Text(), "Stop when this step's answer has this text in it.", "ALL GREEN"),
        lambda text, result: text in result.content,
        lambda text: f"the answer contains '{one_line(text, 60)}'",
    ),
    Condition(
        Key(
            "until_command_passes",
            COMMAND,
            "Stop when this command, run after this step without a shell, exits with 0.",
            "pytest -q",
        ),
        lambda _, result: result.check is not None and result.check.passed,
        lambda command: f"`{one_line(command)}` passes",
        runs=True,
    ),
)

CONDITIONS: Mapping[str, Condition] = {row.key.name: row for row in _ROWS}
"""Every loop condition, by its key."""
