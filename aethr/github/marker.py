"""The first line of our comment: whose it is, which run wrote it, and what its review is of (pure).

It is no proof of anything: anybody can copy it. Who wrote the comment is asked of GitHub.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(
    r"<!-- aethr:comment key=([A-Za-z0-9._-]{1,60}) run=([0-9]{1,18}) attempt=([0-9]{1,9})"
    r" head=([0-9a-f]{40,64}) reviewed=([0-9a-f]{40,64}|none) -->"
)


LATER_RUNS = 10**9
"""All of github.com starts fewer runs in the 30 days in which a run can be repeated; it is at 2*10**10."""
MOST_ATTEMPTS = 1000


class Marker(NamedTuple):
    """``reviewed`` is the commit whose review the comment holds; None where it holds none."""

    key: str
    run: int
    attempt: int
    head: str
    reviewed: str | None = None

    def __str__(self) -> str:
        return (
            f"<!-- aethr:comment key={self.key} run={self.run} attempt={self.attempt}"
            f" head={self.head} reviewed={self.reviewed or 'none'} -->"
        )

    def is_older_than(self, other: Marker) -> bool:
        """Runs are numbered in the order of their start; a repeated one keeps its number.

        Not by so much that ``other`` can be of no run that exists: somebody has edited it.
        """
        if other.run - self.run > LATER_RUNS or other.attempt > MOST_ATTEMPTS:
            return False
        return (self.run, self.attempt) < (other.run, other.attempt)


def read(body: str) -> Marker | None:
    """The marker on a comment's first line."""
    match = _LINE.fullmatch(body.split("\n", 1)[0].rstrip("\r"))
    if match is None:
        return None
    key, run, attempt, head, reviewed = match.groups()
    return Marker(key, int(run), int(attempt), head, None if reviewed == "none" else reviewed)
