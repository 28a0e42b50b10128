"""Durations as people write them: ``90s``, ``1h30m``."""

from __future__ import annotations

import re

_UNITS = {"h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+)([hms])")


def parse(text: str) -> int:
    """A duration in seconds. Raises ``ValueError``, also for units in the wrong order or twice."""
    seconds, end, smallest = 0, 0, None
    for part in _PART.finditer(text):
        unit = _UNITS[part[2]]
        if part.start() != end or (smallest is not None and unit >= smallest):
            raise ValueError(f"not a duration: {text!r}")
        seconds += int(part[1]) * unit
        end, smallest = part.end(), unit
    if not text or end != len(text):
        raise ValueError(f"not a duration: {text!r}")
    return seconds


def show(seconds: int) -> str:
    """The shortest way to write a duration."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    shown = "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number)
    return shown or "0s"
