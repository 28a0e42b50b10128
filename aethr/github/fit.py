"""Text within a limit that the other side sets, cut where a reader would cut it (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from aethr.output.markdown import markdown_block

Measure = Callable[[str], int]


def utf16_units(text: str) -> int:
    """Never less than the characters that GitHub counts in a comment."""
    return len(text.encode("utf-16-le", "replace")) // 2


def utf8_bytes(text: str) -> int:
    """What a runner counts in a job summary."""
    return len(text.encode("utf-8", "replace"))


class Room(NamedTuple):
    """How much may be written, in which unit, and where a reader finds the rest."""

    limit: int
    measure: Measure
    rest: str


def rows_within(rows: Sequence[str], limit: int, measure: Measure) -> tuple[str, ...]:
    """As many of the first rows as fit, a newline after each."""
    total = 0
    for number, row in enumerate(rows):
        total += measure(row) + 1
        if total > limit:
            return tuple(rows[:number])
    return tuple(rows)


def block_within(text: str, limit: int, measure: Measure) -> tuple[str, bool]:
    """``text`` as harmless Markdown within ``limit``, every fence closed; and whether it had to be cut."""
    block, count = markdown_block(text), len(text)
    while count and (size := measure(block)) > limit:
        count = max(0, min(count - 1, count * limit // size))
        block = markdown_block(_cut(text, count)) if count else ""
    return block, count < len(text)


def _cut(text: str, count: int) -> str:
    """At most ``count`` characters: to a paragraph's end in the last half, else a line's, else anywhere."""
    for end in ("\n\n", "\n"):
        found = text.rfind(end, count // 2, count)
        if found > 0:
            return text[:found]
    return text[:count]
