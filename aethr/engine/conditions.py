"""The table of loop conditions: what a workflow may write under ``repeat`` beside its bounds.

A loop is satisfied once all of its conditions hold. To add a condition, add a field to ``records.Repeat`` and
a row here: the schema, the reference, the loop and the map of ``aethr check`` read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aethr.base.records import Repeat, ReviewStatus, StepResult
from aethr.base.sanitize import one_line
from aethr.config.kinds import Flag, Key, Text
from aethr.config.schema import COMMAND


class Ended(NamedTuple):
    """How the last step of a loop ended: with a result for each part of the change.

    ``answered`` are those of its latest pass with answers, empty if there is none; ``latest`` those of its
    latest pass. ``review`` gives the status of its reviews, or of those that it verifies; None if it was
    not called because there was nothing to review.
    """

    answered: Sequence[StepResult]
    latest: Sequence[StepResult]
    review: Callable[[], ReviewStatus | None]


class Condition(NamedTuple):
    """``key`` is its key in a workflow file, with the name of a field of ``Repeat``.

    ``holds`` takes the value from the file and how the loop's last step ended; ``words`` returns the text
    after "until". ``runs`` is True if the value is a command that runs after each pass of the step; its
    result is in ``StepResult.check``, for a step with parts in the last one.
    """

    key: Key
    holds: Callable[[Any, Ended], bool]
    words: Callable[[Any], str]
    runs: bool = False


def given(repeat: Repeat | None) -> Iterator[tuple[Condition, Any]]:
    """The conditions that a loop sets, each with its value."""
    for name, row in CONDITIONS.items() if repeat is not None else ():
        if value := getattr(repeat, name):
            yield row, value


def hold(repeat: Repeat, ended: Ended) -> bool:
    """Whether every condition holds: a command by the latest pass of the step, any other by its answers.

    Without an answer, only commands count. A cut answer meets no condition, because its end is unknown.
    """
    if any(result.truncated for result in ended.answered):
        return False
    return all(row.holds(value, ended) for row, value in given(repeat))


def until(repeat: Repeat) -> str:
    """The conditions in words, on one line, to follow "until"."""
    return " and ".join(row.words(value) for row, value in given(repeat))


_ROWS = (
    Condition(
        Key("until_review_pass", Flag(only_true=True), "Stop when this step's review passes.", True),
        lambda _, ended: ended.review() in ("pass", None),
        lambda _: "the review passes",
    ),
    Condition(
        Key("until_contains", Text(), "Stop when this step's answer has this text in it.", "ALL GREEN"),
        lambda text, ended: all(text in result.content for result in ended.answered),
        lambda text: f"the answer contains '{one_line(text, 60)}'",
    ),
    Condition(
        Key(
            "until_command_passes",
            COMMAND,
            "Stop when this command, run after this step without a shell, exits with 0.",
            "pytest -q",
        ),
        lambda _, ended: (check := ended.latest[-1].check) is not None and check.passed,
        lambda command: f"`{one_line(command)}` passes",
        runs=True,
    ),
)

CONDITIONS: Mapping[str, Condition] = {row.key.name: row for row in _ROWS}
"""Every loop condition, by its key."""
