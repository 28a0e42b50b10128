"""Forms that messages share: a number with its noun, the rest of a list, a place, the nearest name, columns.

Text for a terminal is laid out for its width, from 40 columns up; lines for a pipe are not wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TextIO, TypeVar

_Item = TypeVar("_Item")

SHOWN = 10
"""How many items one line names before it only counts them."""

_COMPARED, _LONGEST = 1000, 60
"""The most names a word is compared with, and characters of each: both may come from a file."""
_NARROWEST = 20
"""Text is not wrapped to fewer columns than this: the terminal does that itself."""


def counted(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``1,200 files``; ``many`` is the plural if it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rest(total: int, shown: int, one: str = "") -> str:
    """``and 3 more`` or ``and 3 more findings``; empty if a list shows all its items."""
    left = total - shown
    if left <= 0:
        return ""
    return f"and {counted(left, f'more {one}')}" if one else f"and {left:,} more"


def capped(
    items: Sequence[_Item], limit: int = SHOWN, show: Callable[[_Item], str] = str, separator: str = ", "
) -> str:
    """``a, b and 3 more``."""
    return " ".join(filter(None, (separator.join(map(show, items[:limit])), rest(len(items), limit))))


def path_line(path: str, line: int | None) -> str:
    """``path:line`` as compilers write it, or the path alone."""
    return path if line is None else f"{path}:{line}"


def suggest(word: str, known: Iterable[str], quote: Callable[[str], str] = "'{}'".format) -> str:
    """`` (did you mean 'x'?)``, or nothing if no known name, and no part of one (``a-part``), is similar."""
    from difflib import get_close_matches  # only needed for an error

    names = {name[:_LONGEST].lower(): name for name in islice(known, _COMPARED)}
    parts = {part: name for key, name in names.items() for part in key.split("-")}
    near = get_close_matches(word[:_LONGEST].lower(), parts | names, n=1)
    return f" (did you mean {quote((parts | names)[near[0]])}?)" if near else ""


def terminal_width(stream: TextIO) -> int | None:
    """The number of columns of a terminal (``COLUMNS`` wins), None for anything else."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def fold(line: str, width: int | None, indent: int = 0) -> Iterator[str]:
    """``line`` wrapped at spaces to ``width`` columns; lines after the first are indented by ``indent``."""
    if width is None or len(line) <= width or width - indent < _NARROWEST:
        yield line
        return
    import textwrap

    margin = line[: len(line) - len(line.lstrip())]
    yield from textwrap.wrap(
        line.strip(), width, initial_indent=margin, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def two_columns(rows: Mapping[str, str], stream: TextIO, margin: str = "") -> str:
    """Names and their descriptions beside each other, or below each other if ``stream`` is too narrow."""
    width = terminal_width(stream)
    longest = max(map(len, rows), default=0)
    lines = [f"{margin}{name:{longest}}  {description}" for name, description in rows.items()]
    if width is not None and max(map(len, lines), default=0) > width:
        lines = []
        for name, description in rows.items():
            below = fold(f"{margin}    {description}", width, len(margin) + 4)
            lines += [f"{margin}{name}", *below]
    return "".join(f"{line}\n" for line in lines)
