"""Finds lines that an answer quotes in the code of its prompt: a quotation counts only if it is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aethr.base.records import Block, Quote, Shown
from aethr.context.files import split_base

_HEAD = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")

QUOTED = ("git_diff", "latest_diff", "changed_files", "file", "glob")
"""The names of the sources that are code."""


class CodeLine(NamedTuple):
    """A line of code. ``number`` is that of the new version; None for a line that the change removes."""

    text: str
    number: int | None


def find(
    blocks: Iterable[Block], text: str, path: str | None = None, line: int | None = None
) -> Quote | None:
    """Where the lines of ``text`` stand in the code of a prompt, one after the other; None if nowhere.

    White space around a line does not count. Of several places, one in the file ``path`` is chosen, the
    nearest to ``line``.
    """
    wanted = [each.strip() for each in text.split("\n") if each.strip()]
    if not wanted:
        return None
    found: list[tuple[bool, int, Quote]] = []
    for block in blocks:
        if block.source.partition(":")[0] not in QUOTED:
            continue
        is_old = split_base(block.source)[1]  # the lines of the version before the change are others
        for shown in block.shown:
            for run in _runs(shown, wanted):
                numbers = [] if is_old else [each.number for each in run if each.number is not None]
                first, last = (numbers[0], numbers[-1]) if numbers else (None, None)
                far = abs((line or 0) - (first or 0))
                quote = Quote(text, block.source, shown.path, first, last)
                found.append((shown.path != path, far, quote))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _runs(shown: Shown, wanted: Sequence[str]) -> Iterator[Sequence[CodeLine]]:
    """Every place in a file where these lines follow each other, empty lines apart."""
    for text in shown.texts:
        lines = [each for each in read(text, shown.numbered) if each.text.strip()]
        stripped = [each.text.strip() for each in lines]
        for at in range(len(lines) - len(wanted) + 1):
            if stripped[at : at + len(wanted)] == wanted:
                yield lines[at : at + len(wanted)]


def number(text: str) -> str:
    """A whole file with the number of each line in front of it, aligned on the right, and one space."""
    lines = text.split("\n")
    last = len(lines) - (lines[-1] == "")
    width = len(str(last))
    numbered = [f"{at:>{width}} {line}" for at, line in enumerate(lines[:last], start=1)]
    return "\n".join([*numbered, *lines[last:]])


def read(text: str, numbered: bool = False) -> Iterator[CodeLine]:
    """The lines of a file, or of a hunk of a diff, as they are in the file.

    ``numbered`` says that ``number`` made the text.
    """
    if numbered:
        for line in text.split("\n"):
            at, _, code = line.lstrip(" ").partition(" ")
            if at:  # nothing follows the last newline
                yield CodeLine(code, int(at))
        return
    head, _, body = text.partition("\n")
    ranges = _HEAD.match(head)
    if ranges is None:
        for number, line in enumerate(text.split("\n"), start=1):
            yield CodeLine(line, number)
        return
    number = int(ranges[1])
    for line in body.split("\n"):
        if line[:1] == "-":
            yield CodeLine(line[1:], None)
        elif line[:1] in (" ", "+"):
            yield CodeLine(line[1:], number)
            number += 1
