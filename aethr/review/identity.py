"""The identity of a finding's place: it stays while the code there does, wherever edits move it (pure).

A reviewer words and grades one defect differently each time, so neither its words nor its severity count.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

LETTERS = 3
"""A line with fewer letters and digits, such as ``} else {`` or ``@@``, tells no place from another."""

PATH_DIGITS, CODE_DIGITS = 4, 8


def place_id(path: str, file: Sequence[str] = (), first: int | None = None, last: int | None = None) -> str:
    """Twelve hex digits for the lines ``first`` to ``last`` (default: ``first``), from 1, of ``file``.

    Four stand for the path and eight for the code: the text of the lines, and the nearest line above that is
    less indented and stands in the file once, such as the head of their function. White space does not count.
    So repeated lines have different ids in different functions, and share one within a function. A finding
    without a line, or with one that the file does not have, has the id of the file as a whole.
    """
    return _digest(path, PATH_DIGITS) + code_id(file, first, last)


def code_id(file: Sequence[str], first: int | None = None, last: int | None = None) -> str:
    """The last eight digits of ``place_id``, which stay when the file is renamed."""
    if first is None or not 1 <= first <= len(file):
        return _digest("", CODE_DIGITS)
    own = file[first - 1 : max(first, last or first)]
    text = "\n".join(filter(None, (" ".join(line.split()) for line in own)))
    return _digest(f"{_find_head(file, first)}\n{text}", CODE_DIGITS) if text else _digest("", CODE_DIGITS)


def removed_id(path: str, removed: str) -> str:
    """The id of lines that the change removes: they have no place in the new version, only their text."""
    text = "\n".join(filter(None, (" ".join(line.split()) for line in removed.split("\n"))))
    return _digest(path, PATH_DIGITS) + _digest(f"-\n{text}", CODE_DIGITS)


def is_same_code(one: str, other: str) -> bool:
    """Whether two ids are of the same code, perhaps in a file that was renamed between them.

    The ids of whole files have no code to compare.
    """
    return one[PATH_DIGITS:] == other[PATH_DIGITS:] and has_code(one)


def has_code(place: str) -> bool:
    """Whether an id is of lines, not of a file as a whole."""
    return place[PATH_DIGITS:] != _digest("", CODE_DIGITS)


def _find_head(file: Sequence[str], first: int) -> str:
    stripped = [line.strip() for line in file]
    depth = _indentation(file[first - 1])
    for number in range(first - 2, -1, -1):
        text = stripped[number]
        if sum(map(str.isalnum, text)) < LETTERS or _indentation(file[number]) >= depth:
            continue
        depth = _indentation(file[number])
        if stripped.count(text) == 1:
            return " ".join(text.split())
    return ""


def _indentation(line: str) -> int:
    text = line.expandtabs(8)
    return len(text) - len(text.lstrip())


def _digest(text: str, digits: int) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
