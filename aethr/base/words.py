"""Forms that messages share: a number with its noun, the rest of a list, a place, the nearest name (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")

SHOWN = 10
"""How many items one line names before it only counts them."""

_COMPARED, _LONGEST = 1000, 60
"""The most names a word is compared with, and characters of each: both may come from a file."""


def counted(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``1,200 files``; ``many`` is the plural if it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rest(total: int, shown: int, one: str = "") -> str:
    """``and 3 more`` or ``and 3 more findings``; empty if a list shows all its items."""
    left = total - shown
    if left <= 0:
        return ""
    return f"and {counted(left, f'more {one}')}" if one else f"and {left:,} more"


def capped(items: Sequence[_Item], limit: int = SHOWN, show: Callable[[_Item], str] = str) -> str:
    """``a, b and 3 more``."""
    return " ".join(filter(None, (", ".join(map(show, items[:limit])), rest(len(items), limit))))


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
