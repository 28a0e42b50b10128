"""Decisions by a path's name alone: does a pattern match it, may it be read, is it generated. Pure.

A change chooses its paths, so no pattern may backtrack: globs become regular expressions that match in linear
time. Each ``*`` except the last of a part, and each ``**`` except the last of a pattern, takes the first
place where the rest up to the next star fits, and keeps it, because a group in a lookahead is atomic. That
loses no match: the next star can skip whatever an earlier one did not. Python's own ``fnmatch`` does the same
(https://github.com/python/cpython/issues/84660).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import count
from pathlib import PurePosixPath, PureWindowsPath

from aethr.context.secretnames import is_secret


def pattern(glob: str) -> re.Pattern[str]:
    """A pattern for whole paths: ``*`` and ``?`` match within a part, ``**`` across parts."""
    return re.compile(regex(glob, _groups()), re.DOTALL)


def any_of(globs: Iterable[str]) -> re.Pattern[str]:
    """A pattern for whole paths that match one of the globs."""
    groups = _groups()
    return re.compile("|".join(regex(glob, groups) for glob in globs), re.DOTALL)


def _groups() -> Iterator[str]:
    return (f"g{number}" for number in count())


_ELEMENTS = re.compile(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
"""The elements of a part; an unclosed ``[`` is literal."""


def regex(
    glob: str,
    groups: Iterator[str],
    elements: re.Pattern[str] = _ELEMENTS,
    translate: Callable[[str], str] | None = None,
) -> str:
    """The regular expression of a glob. ``groups`` gives names of groups that it may use.

    Another syntax inside of a part has its own ``elements``, and ``translate`` for all of them but stars.
    """
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    runs: list[list[str]] = [[]]
    """The parts between two ``**``; several ``**`` in a row count as one."""
    for part in parts:
        if part != "**":
            runs[-1].append(_part(elements.findall(part), groups, translate or _element))
        elif len(runs) == 1 or runs[-1]:
            runs.append([])
    first, *rest = runs
    if not rest:
        return "/".join(first)
    *inner, last = rest
    made = "".join(f"{part}/" for part in first)
    made += "".join(_first(r"(?:[^/]+/)*?" + "".join(f"{part}/" for part in run), groups) for run in inner)
    return made + ("(?:[^/]+/)*" + "/".join(last) if last else ".+")


def _part(elements: Iterable[str], groups: Iterator[str], translate: Callable[[str], str]) -> str:
    """The elements of one path part, such as ``*``, ``?`` and ``[...]``."""
    runs = [""]
    for element in elements:
        if element.startswith("*"):
            runs.append("")
        else:
            runs[-1] += translate(element)
    first, *rest = runs
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(_first(f"[^/]*?{run}", groups) for run in inner) + f"[^/]*{last}"


def _first(regex: str, groups: Iterator[str]) -> str:
    """The first match of ``regex``, without backtracking to a later one."""
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
        try:
            re.compile(regex)
        except re.error:  # a reversed range, such as [z-a]
            return re.escape(element)
        return regex
    return re.escape(element)


GENERATED = (
    "*.lock", "*.lockb", "*.lockfile", "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml",
    "packages.lock.json", "go.sum", "*.min.js", "*.min.css", "*.js.map", "*.css.map", "*.pb.go", "*.pb.cc",
    "*.pb.h", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*.g.dart", "*.g.cs", "*.designer.cs", "*.snap",
    "*.generated.*", "*_generated.*",
)  # fmt: skip
"""Names of files that tools write; the first to be dropped when a context is over its budget."""

GENERATED_FOLDERS = frozenset(
    {"vendor", "vendored", "third_party", "node_modules", "dist", "__generated__", "__snapshots__"}
)


def is_generated(path: str) -> bool:
    """Whether, by its name, a tool and not a person writes this file."""
    *folders, name = path.casefold().split("/")
    return not GENERATED_FOLDERS.isdisjoint(folders) or _generated().fullmatch(name) is not None


def refusal(path: str) -> str | None:
    """Why a path named in a workflow may not be read, whatever is behind it; None if it may."""
    parts = PurePosixPath(path).parts + PureWindowsPath(path).parts
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return "not a path"
    if not path or "\0" in path:
        return "not a path"
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor:
        return "an absolute path; only files of the project are read"
    if ".." in parts:
        return "a path with '..'; only files of the project are read"
    # Other file systems accept other spellings: any case, dots and spaces at the end, the 8.3 name
    # (CVE-2014-9390), a stream (CVE-2019-1352).
    if any(part.casefold().rstrip(". ").partition(":")[0] in (".git", "git~1") for part in parts):
        return "inside of .git"
    if is_secret(path):
        return "a file that holds secrets"
    return None


@lru_cache
def _generated() -> re.Pattern[str]:
    return any_of(GENERATED)
