"""Events that devices send, and which of them are late.

A device sends its events as JSON; ``at`` is the moment in UTC, such as ``2026-03-01T12:00:00Z``. Newer devices send
fractions of a second too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

MOMENTS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ")
"""The forms of a timestamp, the common one first."""

LATE_AFTER_S = 15 * 60
"""An event that is older than this when it arrives is late, in seconds."""


class BadEventError(ValueError):
    """What a device sent is not an event."""


@dataclass(frozen=True)
class Event:
    """``at`` is in seconds since 1970, UTC."""

    device: str
    kind: str
    at: float

    def age(self, now: float) -> float:
        """Its age in seconds at this moment."""
        return now - self.at


def parse_moment(text: str) -> float:
    """A moment in seconds since 1970. Raises ``BadEventError``."""
    for form in MOMENTS:
        try:
            return datetime.strptime(text, form).timestamp()
        except ValueError:
            continue
    raise BadEventError(f"not a timestamp: {text!r}")


def parse(line: str) -> Event:
    """An event from its JSON. Raises ``BadEventError``."""
    try:
        raw = json.loads(line)
        return Event(str(raw["device"]), str(raw["kind"]), parse_moment(raw["at"]))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadEventError(f"not an event: {error}") from error


def late(lines: Iterable[str], now: float) -> Iterator[Event]:
    """The events that arrived too late to alert anybody."""
    for line in lines:
        event = parse(line)
        if event.age(now) > LATE_AFTER_S:
            yield event
