"""Where a finding points: places in any usual form, checked against the change and the tree (pure).

``src/app.py:42``, ``src/app.py#L42-L50``, ``"my file.py":3``, ``[app.py](src/app.py#L2)``,
``src/app.py (line 2)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from aethr.base.records import Lines, Quote, Whereabouts
from aethr.review.lines import Span


class Ground(NamedTuple):
    """What a finding is checked against: the paths of the change, and whether the tree has a path.

    ``shown`` has for a path the lines of the new version that its reviewer was sent, none if that is not
    known, or if it was sent all of them. ``quotes`` is the code that the answer quotes.
    """

    changed: frozenset[str] = frozenset()
    holds: Callable[[str], bool] = lambda _: False
    shown: Mapping[str, tuple[Lines, ...]] = MappingProxyType({})
    quotes: tuple[Quote, ...] = ()


class Location(NamedTuple):
    """A path as the reviewer wrote it, without quotes or emphasis, and a line number from 1.

    ``end`` is the last line of a range, after ``line``.
    """

    path: str
    line: int | None = None
    end: int | None = None


class Named(NamedTuple):
    """The place that a finding names, and its message."""

    location: Location | None
    message: str


# No two white spaces stand side by side here, whatever between them may be missing, and a space before a mark
# starts at the beginning of its run: a pattern that can share a run out in many ways tries all of them.
_NUMBER = r"\d{1,9}"
_SPACE = r"(?:(?<!\s)\s+)?"
_RANGE = rf"(?:\s*(?:[-–—]|to|\.\.\.?)\s*(?:L|lines?\s*)?(?P<end>{_NUMBER}))?"
_MORE = rf"(?:\s*(?:[-–—,:+&]|to|and|\.\.\.?)\s*(?:L|lines?\s*)?{_NUMBER})*"
_LINE = re.compile(
    rf"{_SPACE}(?::\s*(?:L|lines?\s*)?|#\s*L?|(?:[,;@]\s*)?(?:\(\s*)?(?:at\s+|on\s+|around\s+)?"
    r"(?<![^\W_])(?:lines?|ln\.?|L)\s*(?:[:#]\s*)?|\()"
    rf"(?P<line>{_NUMBER})(?:C\d+)?{_RANGE}{_MORE}(?:C\d+)?\s*\)?",
    re.IGNORECASE,
)
"""The line number, or the range, after a path; of a list the first number counts, a column is ignored."""
_LINE_FIRST = re.compile(
    rf"(?:lines?|ln\.?|L)\s*(?:[:#]\s*)?(?P<line>{_NUMBER}){_RANGE}{_MORE}\s*(?:of|in|from)\s+(?P<path>.+)",
    re.IGNORECASE,
)
_LEAD_IN = re.compile(r"(?:file|path|location|place|where|in|at|see)\b\s*(?::\s*)?", re.IGNORECASE)
_SEPARATOR = re.compile(rf"(?<!\s)\s+(?:—|–|--|-|→|->|=>|\|)\s+|{_SPACE}[—|]\s*|:\s+|{_SPACE}[—–]\s*$|:$")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "<": ">", "(": ")", "[": "]"}
_INSIDE = re.compile(
    rf"(?<![\w./:@+-])(?P<path>[\w.@+-]+(?:/[\w.@+-]+)*)(?::L?|#L|`?,? (?:on |at )?\(?(?:line|L) ?){_NUMBER}"
)
_SPLITS = 8
_LONGEST = 400
"""In characters: a place is shorter, and the patterns for one take quadratic time."""


def name_place(spans: Sequence[Span], ground: Ground) -> Named:
    """Split the text after a severity into place and message."""
    text = written(spans)
    linked, href = None, next((span.href for span in spans if span.text.strip()), "")
    if href and "://" not in href and len(href) <= 1000:
        from urllib.parse import unquote

        linked = read_location(unquote(href), ground)
    for location, rest in _candidates(text, ground):
        message = rest.strip().lstrip(":—–-|→, ").strip() or text
        # The target of a link may hold the line, or the folder, that its text lacks.
        lacks = linked is not None and location.line is None and linked.path.endswith(location.path)
        return Named(linked if lacks else location, message)
    for found in _INSIDE.finditer(text[:_LONGEST]):
        inside = read_location(found[0], ground)
        if inside is not None and re.search(r"[./]", inside.path):
            return Named(inside, text)
    return Named(linked if linked and linked.line else None, text)


def written(spans: Sequence[Span]) -> str:
    """A line's text with its code in backquotes, as the reviewer wrote it."""
    return "".join(
        f"`{span.text}`" if span.code and "`" not in span.text else span.text for span in spans
    ).strip()


def read_location(text: str, ground: Ground) -> Location | None:
    """The place that all of ``text`` names; None for other words (``General``, ``the tests``)."""
    if len(text) > _LONGEST:
        return None
    plain, quoted = _strip_decoration(text)
    if (first := _LINE_FIRST.fullmatch(plain)) is not None:
        plain, quoted = _strip_decoration(first["path"])
        return _locate(plain, first, ground) if _is_path(plain, ground, quoted=quoted) else None
    for match in _LINE.finditer(plain):
        if match.end() != len(plain):
            continue
        path, quoted_path = _strip_decoration(plain[: match.start()])
        if path and (
            _is_path(path, ground, quoted=quoted or quoted_path) or _may_hold_spaces(path, match[0])
        ):
            return _locate(path, match, ground)
    return Location(resolve(plain, ground)) if _is_path(plain, ground, quoted=quoted) else None


def _locate(path: str, match: re.Match[str], ground: Ground) -> Location:
    line, end = int(match["line"]), int(match["end"] or 0)
    return Location(resolve(path, ground), line or None, end if 0 < line < end else None)


def resolve(path: str, ground: Ground) -> str:
    """The path as the change has it if exactly one fits, or else as it was written."""
    plain = path.removeprefix("./")
    shorter = plain[2:] if plain[:2] in ("a/", "b/") else plain.lstrip("/")
    for candidate in (path, plain, shorter):
        if candidate in ground.changed:
            return candidate
    ending = [changed for changed in ground.changed if changed.endswith("/" + plain)]
    if len(ending) == 1 and not ground.holds(plain):
        return ending[0]
    return plain


def whereabouts(location: Location, ground: Ground) -> Whereabouts:
    """Whether the change has this place, or else the tree, or neither.

    In a file of the change, lines that its reviewer was not sent are those of the tree.
    """
    path, line, end = location
    if path in ground.changed:
        shown = ground.shown.get(path, ())
        last = end or line or 0
        inside = line is None or any(each.first <= last and line <= each.last for each in shown)
        return "change" if inside or not shown else "tree"
    return "tree" if ground.holds(path) else "nowhere"


def _candidates(text: str, ground: Ground) -> Iterator[tuple[Location, str]]:
    """The places that ``text`` can begin with, the most certain first, each with the text after it.

    Second are those to which no more of the text can belong: ``docs/a`` may start ``docs/a - b.md:2``.
    """
    splits = [
        (text[: match.start()], text[match.end() :])
        for match, _ in zip(_SEPARATOR.finditer(text), range(_SPLITS), strict=False)
    ]
    found = [
        (location, rest)
        for left, rest in [*splits, (text, "")]
        if (location := read_location(left, ground)) is not None
    ]
    yield from (each for each in found if each[0].path in ground.changed)
    whole = [each for each in found if " " not in each[0].path]
    yield from (each for each in whole if each[0].line is not None or "." in each[0].path.rpartition("/")[2])
    yield from (each for each in found if each[0].line is not None)
    yield from found


def _strip_decoration(text: str) -> tuple[str, bool]:
    """The text without surrounding white space, emphasis, quotes and lead-in; and whether it was quoted."""
    quoted = False
    while True:
        plain = (
            text.strip(" \t\u00a0*`~,;.").strip()
            if not text.strip().startswith(".")
            else text.strip(" \t*`~,;")
        )
        plain = _LEAD_IN.sub("", plain, count=1) if _LEAD_IN.match(plain) else plain
        quoted = quoted or "`" in text
        if len(plain) > 1 and _QUOTES.get(plain[0]) == plain[-1]:
            plain, quoted = plain[1:-1], quoted or plain[0] not in "(["
        if plain == text:
            return plain, quoted
        text = plain


def _may_hold_spaces(path: str, suffix: str) -> bool:
    """Whether ``src/a b.py:7`` is one name; ``x in src/b.py:7`` is a sentence."""
    if re.match(r"(?::L?|#L?)\d", suffix) is None or "`" in path or re.search("[—–]", path):
        return False
    first, *_, last = (*path.split(), "")
    return "/" in first or not re.search(r"[/.]", last)


def _is_path(text: str, ground: Ground, *, quoted: bool) -> bool:
    """Whether the text is a path. ``quoted``: the reviewer marked it as a name."""
    if not text or "`" in text or "\n" in text:
        return False
    if resolve(text, ground) in ground.changed:
        return True
    looks = "/" in text or re.search(r"\w\.\w", text) is not None or text.startswith(".")
    return (quoted and len(text.split()) <= 6) or (looks and " " not in text)
