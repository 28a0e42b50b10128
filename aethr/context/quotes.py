"""Finds lines that an answer quotes in the code of its prompt: a quotation counts only if it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aethr.base.records import Block, Quote, Shown
from aethr.context.diffs import HEAD, without_numbers
from aethr.context.files import split_base

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
    return next(iter(find_all(blocks, text, path, line)), None)


def find_all(
    blocks: Iterable[Block], text: str, path: str | None = None, line: int | None = None
) -> list[Quote]:
    """Every such place once, the first as from ``find``."""
    wanted = [each.strip() for each in text.split("\n") if each.strip()]
    if not wanted:
        return []
    found: dict[tuple[str, int | None, int | None], tuple[bool, int, Quote]] = {}
    for block in blocks:
        if block.source.partition(":")[0] not in QUOTED:
            continue
        is_old = split_base(block.source)[1]  # the lines of the version before the change are others
        for shown in block.shown:
            for run in _runs(shown, wanted):
                numbers = [] if is_old else [each.number for each in run if each.number is not None]
                first, last = (numbers[0], numbers[-1]) if numbers else (None, None)
                far = abs((line or 0) - (first or 0))
                quote = Quote(text, block.source, shown.path, first, last, _indent(run, text))
                found.setdefault((shown.path, first, last), (shown.path != path, far, quote))
    return [quote for _, _, quote in sorted(found.values(), key=lambda each: each[:2])]


def _runs(shown: Shown, wanted: Sequence[str]) -> Iterator[Sequence[CodeLine]]:
    """Every place in a file where these lines follow each other, empty lines apart.

    In a hunk, they may be those of the new version alone.
    """
    for text in shown.texts:
        if not all(line in text for line in wanted):
            continue
        every = list(read(text, shown.numbered))
        new = [each for each in every if each.number is not None]
        for lines in (every, new) if len(new) < len(every) else (every,):
            written = [at for at, each in enumerate(lines) if each.text.strip()]
            stripped = [lines[at].text.strip() for at in written]
            for at in range(len(written) - len(wanted) + 1):
                if stripped[at : at + len(wanted)] == wanted:
                    yield lines[written[at] : written[at + len(wanted) - 1] + 1]


def _indent(run: Sequence[CodeLine], text: str) -> str | None:
    """What every line of the text lacks in front to be the line of the new version, or None."""
    quoted = text.split("\n")
    written = [at for at, each in enumerate(quoted) if each.strip()]
    quoted = quoted[written[0] : written[-1] + 1]
    if len(quoted) != len(run) or any(each.number is None for each in run):
        return None
    pairs = [
        (own, each.text) for own, each in zip(quoted, run, strict=True) if own.strip() or each.text.strip()
    ]
    indent = pairs[0][1].removesuffix(pairs[0][0])
    fits = not indent.strip() and all(there == indent + own for own, there in pairs)
    return indent if fits else None


def number(text: str) -> str:
    """A whole file with the number of each line in front of it, aligned on the right, and one space."""
    lines = text.split("\n")
    last = len(lines) - (lines[-1] == "")
    width = len(str(last))
    numbered = [f"{at:>{width}} {line}" for at, line in enumerate(lines[:last], start=1)]
    return "\n".join([*numbered, *lines[last:]])


def read(text: str, numbered: bool = False) -> Iterator[CodeLine]:
    """The lines of a file, or of a hunk of a diff with numbers or without, as they are in the file.

    ``numbered`` says that ``number`` made the text, which is a file's.
    """
    if numbered:
        for line in text.split("\n"):
            at, _, code = line.lstrip(" ").partition(" ")
            if at:  # nothing follows the last newline
                yield CodeLine(code, int(at))
        return
    head, _, body = without_numbers(text).partition("\n")
    ranges = HEAD.match(head)
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
