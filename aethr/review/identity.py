"""The identity of a finding's place: it stays while the code there does, wherever edits move it (pure).

A reviewer words and grades one defect differently each time, so neither its words nor its severity count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

from aethr.base.records import (
    CHANGE,
    Finding,
    NamedFile,
    PlaceId,
    Quote,
    ReadFiles,
    StepResult,
    is_change,
)
from aethr.review.replacements import shorten

LETTERS = 3
"""A line with fewer letters and digits, such as ``} else {`` or ``@@``, tells no place from another."""

PATH_DIGITS, CODE_DIGITS = 4, 8

LINES, CHARACTERS = 200, 20_000
"""So much of the lines of a finding counts: the first of them, and of their text."""

PLACES, FILES = 1_000, 100
"""At most so many places and files are looked at for an answer; later findings have the id of their file."""


class FileCode(NamedTuple):
    """A file for ids: the text of each line with single spaces, and the text of the head of each line."""

    texts: Sequence[str] = ()
    heads: Sequence[str] = ()


def place_id(path: str, file: Sequence[str] = (), first: int | None = None, last: int | None = None) -> str:
    """Twelve hex digits for the lines ``first`` to ``last`` (default: ``first``), from 1, of ``file``.

    Four stand for the path and eight for the code: the text of the lines, and the nearest line above that is
    less indented and stands in the file once, such as the head of their function. White space does not count.
    So repeated lines have different ids in different functions, and share one within a function. A finding
    without a line, or with one that the file does not have, has the id of the file as a whole.
    """
    return _digest(path, PATH_DIGITS) + code_id(read_code(file), first, last)


def read_code(file: Sequence[str]) -> FileCode:
    """The lines of a file with their heads, in one pass."""
    texts = [" ".join(line.split()) for line in file]
    times = Counter(texts)
    heads: list[str] = []
    # The lines above that are less indented than all between: how far, and their text or their own head.
    depths: list[int] = []
    above: list[str] = []
    for line, text in zip(file, texts, strict=True):
        depth = _indentation(line)
        at = bisect_left(depths, depth)
        head = above[at - 1] if at else ""
        heads.append(head)
        if sum(map(str.isalnum, text)) >= LETTERS:
            del depths[at:], above[at:]
            depths.append(depth)
            above.append(text if times[text] == 1 else head)
    return FileCode(texts, heads)


def code_id(code: FileCode, first: int | None = None, last: int | None = None) -> str:
    """The last eight digits of ``place_id``, which stay when the file is renamed."""
    if first is None or not 1 <= first <= len(code.texts):
        return _digest("", CODE_DIGITS)
    own = code.texts[first - 1 : min(max(first, last or first), first - 1 + LINES)]
    text = "\n".join(filter(None, own))[:CHARACTERS]
    return _digest(f"{code.heads[first - 1]}\n{text}", CODE_DIGITS) if text else _digest("", CODE_DIGITS)


LONGEST = 20
"""In lines: ``has_lines`` looks for the ids of places of at most this length."""


def has_lines(code: FileCode, place: str) -> bool:
    """Whether some lines of a file have the code of this id, at most ``LONGEST`` of them."""
    wanted = place[PATH_DIGITS:]
    return any(
        code_id(code, first, last) == wanted
        for first in range(1, len(code.texts) + 1)
        for last in range(first, min(first + LONGEST, len(code.texts) + 1))
    )


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


def identify(findings: Iterable[Finding], result: StepResult) -> tuple[Finding, ...]:
    """The findings of this result, each with the id of its place.

    Removed lines have theirs from the quotation, all others from ``result.places``; without an entry there,
    as in the checkpoint of an earlier version, it is None.
    """
    ids = {each[:3]: each.id for each in result.places}
    old = _old_names(result)
    return tuple(
        each._replace(id=removed_id(old.get(each.path, each.path), removed))
        if each.path and (removed := _find_removed(each, result.quotes)) is not None
        else each._replace(id=ids.get((each.path, each.line, each.end_line)))
        for each in findings
    )


def find_places(findings: Iterable[Finding], result: StepResult, read: ReadFiles) -> tuple[PlaceId, ...]:
    """The id of each place that these findings of the result name; ``read`` reads the files under review.

    The path of an id is the one before the change, from the repository's top, so that a change that renames
    the file does not change it. Raises as ``read`` does.
    """
    source: dict[str, str] = {}
    for receipt in result.context:
        names = (receipt.path, receipt.old_path) if is_change(receipt.source) else ()
        source |= dict.fromkeys(filter(None, names), receipt.source)
    old = _old_names(result)
    spots = dict.fromkeys((each.path, each.line, each.end_line) for each in findings)
    ids = {spot: place_id(old.get(spot[0], spot[0] or "")) for spot in spots}
    of_file: dict[str, list[tuple[str | None, int | None, int | None]]] = {}
    for spot in islice(spots, PLACES):
        if spot[0]:
            of_file.setdefault(spot[0], []).append(spot)
    asked = [
        NamedFile(
            path,
            from_top=path in source,
            # What an agent edited, and what it looked at outside of the change, is on disk.
            on_disk=source.get(path, CHANGE if result.artifacts is None else "latest_diff") == "latest_diff",
        )
        for path in islice(of_file, FILES)
    ]
    for named, text in zip(asked, read(asked), strict=True):
        code, name = read_code(text.lines), old.get(named.path, text.path)
        for spot in of_file[named.path]:
            ids[spot] = _digest(name, PATH_DIGITS) + code_id(code, *spot[1:])
    return tuple(PlaceId(*spot, each) for spot, each in ids.items())


def _old_names(result: StepResult) -> Mapping[str | None, str]:
    """The names of renamed files before the change, by those after it."""
    of_change = (each for each in result.context if is_change(each.source))
    return {each.path: each.old_path for each in of_change if each.path and each.old_path}


def _find_removed(finding: Finding, quotes: Iterable[Quote]) -> str | None:
    """The lines that the finding quotes, if the change removes them and its file has them nowhere else."""
    if finding.evidence is None:
        return None
    own = [
        each
        for each in quotes
        if each.path == finding.path and is_change(each.source) and shorten(each.text) == finding.evidence
    ]
    return own[0].text if own and all(each.line is None for each in own) else None


def _indentation(line: str) -> int:
    text = line.expandtabs(8)
    return len(text) - len(text.lstrip())


def _digest(text: str, digits: int) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
