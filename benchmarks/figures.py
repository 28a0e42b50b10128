"""The figures of a row: a value, its floor, and how they compare with what is to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class NotHere(Exception):  # noqa: N818 - it names what happened
    """What a row needs is not on this machine; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``score`` is what counts, the lower the better; ``kind`` says what it is:

    ``x``: the median over all rounds of value / floor of the same round; ``more``: that of value - floor;
    ``is``: the value itself. ``reach`` is the most that the score should be, None where nothing is asked.
    ``noise`` is the spread of the floor: the middle half of its values, as a part of their median.
    """

    what: str
    unit: str
    value: float
    floor: float | None
    score: float
    kind: Literal["x", "more", "is"]
    reach: float | None = None
    noise: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.reach is None or self.score <= self.reach


def ratio(
    what: str, values: Sequence[float], floors: Sequence[float], reach: float | None = None,
    unit: str = "s", note: str = "",
) -> Figure:  # fmt: skip
    """How many times its floor something takes."""
    score = statistics.median(value / floor for value, floor in zip(values, floors, strict=True))
    return Figure(what, unit, *_medians(values, floors), score, "x", reach, spread(floors), note)


def more(
    what: str, values: Sequence[float], floors: Sequence[float], reach: float | None = None,
    unit: str = "s", note: str = "",
) -> Figure:  # fmt: skip
    """How much something takes on top of its floor."""
    score = statistics.median(differences(values, floors))
    return Figure(what, unit, *_medians(values, floors), score, "more", reach, spread(floors), note)


def plain(
    what: str, values: Sequence[float], reach: float | None = None, unit: str = "s", note: str = ""
) -> Figure:
    """What something takes, without a floor; the noise is its own spread."""
    value = statistics.median(values)
    return Figure(what, unit, value, None, value, "is", reach, spread(values), note)


def differences(larger: Sequence[float], smaller: Sequence[float]) -> list[float]:
    """Round by round, what ``larger`` takes more."""
    return [more - less for more, less in zip(larger, smaller, strict=True)]


def spread(values: Sequence[float]) -> float:
    """(third quartile - first quartile) / median; 0 for a single value."""
    median = statistics.median(values)
    if len(values) < 2 or not median:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4)
    return (third - first) / median


def _medians(values: Sequence[float], floors: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.median(floors)
