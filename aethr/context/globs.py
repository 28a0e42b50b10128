"""Globs as regular expressions that are matched in linear time, whatever the path. Pure.

A change chooses its paths, so no pattern may backtrack. Each ``*`` but the last one of a part, and each
``**`` but the last one of a pattern, takes the first place where what follows it fits, and keeps it: a group
in a lookahead is atomic. No match is lost by that, for what comes later has a star before it and may begin
further on. Python's own ``fnmatch`` does the same (https://github.com/python/cpython/issues/84660).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count


def pattern(glob: str) -> re.Pattern[str]:
    """The whole paths that a glob matches: ``*`` and ``?`` stay within a part, ``**`` crosses parts."""
    return re.compile(_regex(glob, _groups()), re.DOTALL)


def any_of(globs: Iterable[str]) -> re.Pattern[str]:
    """The whole paths that one of the globs matches."""
    groups = _groups()
    return re.compile("|".join(_regex(glob, groups) for glob in globs), re.DOTALL)


def _groups() -> Iterator[str]:
    return (f"g{number}" for number in count())


def _regex(glob: str, groups: Iterator[str]) -> str:
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    runs: list[list[str]] = [[]]
    """The parts between two ``**``, which stand as good as once where they follow one another."""
    for part in parts:
        if part != "**":
            runs[-1].append(_part(part, groups))
        elif len(runs) == 1 or runs[-1]:
            runs.append([])
    first, *rest = runs
    if not rest:
        return "/".join(first)
    *inner, last = rest
    regex = "".join(f"{part}/" for part in first)
    regex += "".join(_first(r"(?:[^/]+/)*?" + "".join(f"{part}/" for part in run), groups) for run in inner)
    return regex + ("(?:[^/]+/)*" + "/".join(last) if last else ".+")


def _part(part: str, groups: Iterator[str]) -> str:
    """``*``, ``?`` and ``[...]`` of one path part; an unclosed ``[`` stands for itself."""
    elements = re.findall(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", part, re.DOTALL)
    runs = [""]
    for element in elements:
        if element.startswith("*"):
            runs.append("")
        else:
            runs[-1] += _element(element)
    first, *rest = runs
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(_first(f"[^/]*?{run}", groups) for run in inner) + f"[^/]*{last}"


def _first(regex: str, groups: Iterator[str]) -> str:
    """The first match of ``regex``, and no other one later."""
    name = next(groups)
    return f"(?=(?P<{name}>{regex}))(?P={name})"


def _element(element: str) -> str:
    if element == "?":
        return "[^/]"
    if len(element) > 2 and element.startswith("["):
        body = element[1:-1]
        negated = body[0] in "!^"
        members = re.sub(r"([\\\[\]&~|^])", r"\\\1", body[1:] if negated else body)
        regex = f"(?!/)[{'^' if negated else ''}{members}]"
        return regex if _compiles(regex) else re.escape(element)
    return re.escape(element)


def _compiles(regex: str) -> bool:
    try:
        re.compile(regex)
    except re.error:  # a range the wrong way round, such as [z-a]
        return False
    return True
