"""Plain text laid out for the terminal in front of it, from 40 columns up; on a pipe lines stay whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

NARROWEST = 20
"""Narrower than this nothing is folded any more: a terminal folds as well."""


def width(stream: TextIO) -> int | None:
    """The columns of a terminal (``COLUMNS`` wins), None for anything else."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def folded(line: str, columns: int | None, indent: int = 0) -> Iterator[str]:
    """``line`` in lines of at most ``columns``, broken at spaces; those after the first are indented."""
    if columns is None or len(line) <= columns or columns - indent < NARROWEST:
        yield line
        return
    import textwrap

    margin = line[: len(line) - len(line.lstrip())]
    yield from textwrap.wrap(
        line.strip(), columns, initial_indent=margin, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def pairs(rows: Mapping[str, str], columns: int | None, margin: str = "") -> Iterator[str]:
    """A name and what is said of it, a row each; where that is too wide, each on a line of its own."""
    longest = max(map(len, rows), default=0)
    table = [f"{margin}{name:{longest}}  {said}" for name, said in rows.items()]
    if columns is None or max(map(len, table), default=0) <= columns:
        yield from table
        return
    for name, said in rows.items():
        yield f"{margin}{name}"
        yield from folded(f"{margin}    {said}", columns, len(margin) + 4)


def text(lines: Iterable[str]) -> str:
    """The lines as one text that ends with a newline."""
    return "".join(f"{line}\n" for line in lines)
