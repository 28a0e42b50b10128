"""Plain text laid out for the width of a terminal, from 40 columns up; lines for a pipe are not wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

NARROWEST = 20
"""Text is not wrapped to fewer columns than this: the terminal does that itself."""


def width(stream: TextIO) -> int | None:
    """The number of columns of a terminal (``COLUMNS`` wins), None for anything else."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def folded(line: str, columns: int | None, indent: int = 0) -> Iterator[str]:
    """``line`` wrapped at spaces to ``columns``; lines after the first are indented by ``indent``."""
    if columns is None or len(line) <= columns or columns - indent < NARROWEST:
        yield line
        return
    import textwrap

    margin = line[: len(line) - len(line.lstrip())]
    yield from textwrap.wrap(
        line.strip(), columns, initial_indent=margin, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def pairs(rows: Mapping[str, str], columns: int | None, margin: str = "") -> Iterator[str]:
    """Names and their descriptions in two columns, or below each other if a row would be too wide."""
    longest = max(map(len, rows), default=0)
    table = [f"{margin}{name:{longest}}  {description}" for name, description in rows.items()]
    if columns is None or max(map(len, table), default=0) <= columns:
        yield from table
        return
    for name, description in rows.items():
        yield f"{margin}{name}"
        yield from folded(f"{margin}    {description}", columns, len(margin) + 4)


def text(lines: Iterable[str]) -> str:
    """The lines as one text, each with a newline at its end."""
    return "".join(f"{line}\n" for line in lines)
