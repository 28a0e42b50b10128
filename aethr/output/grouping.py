"""The findings of a review as people read them, and what else an answer says (pure).

Only this module groups findings: the open ones by file, the others by why they do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import dropwhile
from types import MappingProxyType
from typing import NamedTuple

from aethr.base.records import SEVERITIES, Finding, ReviewStatus, Severity
from aethr.base.sanitize import one_line
from aethr.base.words import capped

SIGNS: Mapping[Severity, str] = MappingProxyType({"high": "🔴", "medium": "🟠", "low": "🔵"})
"""The sign of each severity; its word always stands beside it, because not everybody sees the colour."""
STATES: Mapping[str | None, str] = MappingProxyType({"new": "new", "open": "still there"})
"""What an open finding is, compared with the review before."""

_WORD = re.compile(r"[^\W_]+")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})\s")
_TEXT, _END = 7, 0
"""Below and above the levels of headings, 1 to 6."""


class Group(NamedTuple):
    """Findings that stand together under a name: that of their file, or why they do not count.

    ``name`` is None for open findings without a file of the project.
    """

    name: str | None
    findings: tuple[Finding, ...]


def by_severity(found: Iterable[Finding]) -> list[Finding]:
    """The most severe first, else in the order of the review. Where there is no room for all, the last go."""
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


def by_file(found: Iterable[Finding]) -> tuple[Group, ...]:
    """Findings by file, the most severe first, and the files by their worst finding."""
    groups: dict[str | None, list[Finding]] = {}
    for each in by_severity(found):
        groups.setdefault(each.path if each.place != "nowhere" else None, []).append(each)
    ranked = sorted(
        ((name or None, each) for name, each in groups.items()),
        key=lambda group: (SEVERITIES.index(group[1][0].severity), group[0] is None, group[0] or ""),
    )
    return tuple(
        Group(name, tuple(sorted(each, key=lambda one: (SEVERITIES.index(one.severity), one.line or 0))))
        for name, each in ranked
    )


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings of ``by_file``, for a list of lines that each name their file."""
    return tuple(each for group in by_file(found) for each in group.findings)


def set_aside(found: Sequence[Finding]) -> tuple[Group, ...]:
    """The findings that do not count, by why: ``dropped by verify``, ``answered``, ``resolved``."""
    closed = [each for each in found if not each.is_open]
    dropped = tuple(each for each in closed if each.is_dropped)
    steps = dict.fromkeys(one_line(each.check.step, 60) for each in dropped if each.check)
    rest = [each for each in closed if not each.is_dropped]
    groups = (
        Group(f"dropped by {capped(tuple(steps))}", dropped),
        *(
            Group(state, tuple(each for each in rest if each.state == state))
            for state in ("answered", "resolved")
        ),
    )
    return tuple(group for group in groups if group.findings)


def name_reviewers(found: Iterable[Finding]) -> frozenset[str]:
    """Everyone who found any of these, if it was more than one; else nobody has to be named."""
    names = frozenset(name for each in found for name in each.by)
    return names if len(names) > 1 else frozenset()


class _Said(NamedTuple):
    """The words of a finding, each text with a space at both ends. ``head`` may stand before its message."""

    head: frozenset[str]
    file: str
    message: str


def unsaid(content: str, findings: Iterable[Finding], status: ReviewStatus) -> str:
    """What of an answer neither these findings nor the ``status`` say: the text to show beside them.

    A ``revise`` stands for the worst of several answers, so it says the pass of another one.
    Nothing is left out on a guess: a line is said only if a finding has its words, in their order, and code
    only if each of its lines stands in an evidence or a suggestion. A heading goes with the text below it.
    """
    found = list(findings)
    said = [
        _read(severity, each.path or "", message)
        for each in found
        for severity, message in (
            (each.severity, each.message),
            *((other.severity, other.message) for other in each.also),
        )
    ]
    texts = (text for each in found for text in (each.evidence, each.suggestion) if text)
    code = {line.strip() for text in texts for line in text.split("\n")} - {""}
    lines = content.split("\n")
    verdict = ["review", "status", status]
    if status == "revise" and verdict not in map(_words, lines):
        verdict = ["review", "status", "pass"]
    kept: list[str | None] = []  # None stands for what is said
    at = 0
    while at < len(lines):
        end = _find_end(lines, at)
        if end > at + 1:
            block = lines[at:end]
            inner = {line.strip() for line in block[1:] if not _FENCE.match(line)} - {""}
            kept += [None] if inner and inner <= code else block
        else:
            words = _words(lines[at])
            is_said = words == verdict or lines[at].strip() in code or any(_holds(one, words) for one in said)
            kept.append(None if words and is_said else lines[at])
        at = end
    return _join(kept, bare_headings=not found)


def _read(severity: str, path: str, message: str) -> _Said:
    head = frozenset({severity, "line", "lines", *_words(path)})
    return _Said(head, _spaced(_words(path.rpartition("/")[2])), _spaced(_words(message)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _spaced(words: Iterable[str]) -> str:
    return f" {' '.join(words)} "


def _holds(said: _Said, words: Sequence[str]) -> bool:
    """Whether a line has only words of this finding: those of its message, after its place and severity."""
    line = _spaced(words)
    if line in said.message:
        return True
    if said.file.strip() and said.file not in line:
        return False
    rest = list(dropwhile(lambda word: word in said.head or word.isdigit(), words))
    return len(rest) < len(words) and (not rest or _spaced(rest) in said.message)


def _find_end(lines: Sequence[str], at: int) -> int:
    """The index behind the fenced block that begins here, or else behind this line."""
    opening = _FENCE.match(lines[at])
    if opening is None:
        return at + 1
    fence = opening[1]
    for end in range(at + 1, len(lines)):
        closing = lines[end].strip()
        if len(closing) >= len(fence) and not closing.strip(fence[0]):
            return end + 1
    return len(lines)


def _join(kept: Sequence[str | None], *, bare_headings: bool) -> str:
    """The lines that are left, with or without headings that have no text below; empty if no text is left."""
    below = _END
    lines: list[str] = []
    for line in reversed(kept):
        heading = _HEADING.match(line) if line is not None else None
        if line is None or (heading and below <= len(heading[1]) and not bare_headings):
            lines.append("")
            continue
        if heading:
            below = len(heading[1])
        elif _words(line):
            below = _TEXT
        lines.append(line)
    lines.reverse()
    first = next((at for at, line in enumerate(lines) if _words(line) or _FENCE.match(line)), len(lines))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines[first:])).rstrip()
