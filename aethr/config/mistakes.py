"""A mistake in a workflow file, and how it is shown: place, message, suggestion, the line.

    .aethr.yaml:14:7: unknown backend 'opencod' (did you mean 'opencode'?)
        backend: opencod
                 ^

Text from the file is shown escaped, never interpreted.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aethr.base.errors import ConfigError
from aethr.base.records import Place
from aethr.base.sanitize import escape, redact, reveal_name
from aethr.base.words import rest, suggest

SHOWN = 100
"""At most this many mistakes are shown, and characters of a long line."""
INDENT = " " * 4

LINE_END = re.compile(r"\r\n|\n|\r")
_QUOTED = 60
_OPTIONS_LISTED = 16


class Mistake(NamedTuple):
    """``message`` is one line. ``word`` is the text found where one of ``options`` was expected."""

    place: Place
    message: str
    word: str = ""
    options: tuple[str, ...] = ()


class FileLines(NamedTuple):
    """A text's lines, as editors count them, and the index of each line's first character."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> FileLines:
        ends = list(LINE_END.finditer(text))
        starts = (0, *(end.end() for end in ends))
        stops = (*(end.start() for end in ends), len(text))
        return cls(tuple(text[a:b] for a, b in zip(starts, stops, strict=True)), starts)

    def place(self, index: int) -> Place:
        """The place of the character at ``index``, counted from 0."""
        line = bisect_right(self.starts, index)
        return Place(line, index - self.starts[line - 1] + 1)


def refusal(origin: str, lines: Sequence[str], mistakes: Iterable[Mistake]) -> ConfigError:
    """All mistakes as one error, in file order, without duplicates."""
    once = {(found.place.line, found.place.column, found.message): found for found in mistakes}
    ordered = [once[key] for key in sorted(once)]
    shown = [_render(origin, lines, found) for found in ordered[:SHOWN]]
    more = rest(len(ordered), len(shown), "mistake")
    return ConfigError([*shown, f"{visible(origin)}: {more}"] if more else shown)


def describe(mistake: Mistake) -> str:
    """The message with the nearest option, or with all of them if they are few."""
    message, options = visible(mistake.message), mistake.options
    near = suggest(mistake.word, options, quote) if options else ""
    if near or not options or len(options) > _OPTIONS_LISTED:
        return message + near
    several = "one of " if len(options) > 1 else ""
    return f"{message} (expected {several}{', '.join(map(quote, options))})"


def visible(text: str) -> str:
    """``text`` with keys redacted and unprintable characters (controls, bidi marks, line ends) escaped."""
    return "".join(c if c.isprintable() else escape(c) for c in reveal_name(redact(text)))


def quote(text: str) -> str:
    """``text`` in single quotes, escaped, shortened if it is long."""
    text = redact(text)
    return f"'{visible(text[:_QUOTED])}{'…' if len(text) > _QUOTED else ''}'"


def _render(origin: str, lines: Sequence[str], mistake: Mistake) -> str:
    place = mistake.place
    head = f"{visible(origin)}:{place.line}:{place.column}: {describe(mistake)}"
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if not line.strip():
        return head
    # The part of the line around the column, and a caret under that column.
    column = min(place.column - 1, len(redact(line[: place.column - 1])))
    line = redact(line).replace("\t", " ")
    start = max(0, column - SHOWN // 2) if len(line) > SHOWN else 0
    stop = start + SHOWN
    before = ("…" if start else "") + visible(line[start:column])
    after = visible(line[column:stop]) + ("…" if stop < len(line) else "")
    width = len(before)  # in columns of a terminal
    if not before.isascii():
        from unicodedata import category, east_asian_width  # only needed for an error

        width = sum(
            0 if category(char) in ("Mn", "Me") else 2 if east_asian_width(char) in "WF" else 1
            for char in before
        )
    return f"{head}\n{(INDENT + before + after).rstrip()}\n{INDENT}{' ' * width}^"
