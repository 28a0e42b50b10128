"""Reads findings in the forms in which reviewers write them (pure).

A severity counts only where it is *marked*: in brackets, in bold, before a colon or a dash, in a column of a
table, in the heading above, as P0 to P3, or as a coloured sign. A word within a sentence does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aethr.base.records import SEVERITIES, Finding, Severity
from aethr.review.lines import Code, Line, Span
from aethr.review.places import Ground, name_place, read_location, whereabouts, written
from aethr.review.quoted import code_below

_SEVERITY: dict[str, Severity] = {
    **dict.fromkeys(
        (
            "high", "highest", "critical", "crit", "blocker", "blocking", "severe", "serious", "major",
            "fatal", "urgent", "p0", "p1", "sev0", "sev1", "s0", "s1",
        ),
        "high",
    ),
    **dict.fromkeys(
        ("medium", "med", "mid", "moderate", "normal", "warning", "warn", "p2", "sev2", "s2"), "medium"
    ),
    **dict.fromkeys(
        (
            "low", "lowest", "minor", "trivial", "nit", "nits", "nitpick", "nitpicking", "info",
            "informational", "information", "note", "optional", "suggestion", "style", "cosmetic", "remark",
            "hint", "tip", "nonblocking", "p3", "p4", "p5", "sev3", "sev4", "s3", "s4",
        ),
        "low",
    ),
}  # fmt: skip
_WEAK = frozenset((
    "normal", "information", "note", "optional", "suggestion", "style", "hint", "tip", "warning", "warn",
    "info", "urgent", "serious",
))  # fmt: skip
"""Words that often begin a sentence: before a colon they are a severity only if a place follows."""
_COMPANIONS = frozenset((
    "severity", "priority", "prio", "risk", "impact", "level", "issue", "issues", "finding", "findings",
    "bug", "problem", "concern", "class", "of", "with",
))  # fmt: skip
_SIGNS: dict[str, Severity] = {
    **dict.fromkeys("🔴🟥🛑⛔🚨❌‼", "high"),
    **dict.fromkeys("🟠🟧🟡🟨⚠", "medium"),
    **dict.fromkeys("🟢🟩🔵🟦⚪⬜💡ℹ", "low"),
}
_SURE_SIGNS = frozenset("🔴🟥🟠🟧🟡🟨🟢🟩🔵🟦")
"""Signs that are a severity even if no place follows."""

_LABEL = r"(?:severity|priority|prio|sev)"
_LABELLED = re.compile(rf"\W*{_LABEL}\s*(?:level|rating)?[\"']?\s*[:=]\s*", re.IGNORECASE)
_COUNT = re.compile(r"\(?\d+\)?(?:\s*[|,;·].*)?")
"""``High: 0 | Medium: 1``: a summary, not a finding."""
_PHRASES = (
    ("must-fix", "critical"),
    ("must fix", "critical"),
    ("should-fix", "medium"),
    ("should fix", "medium"),
    ("nice-to-have", "low"),
    ("nice to have", "low"),
    ("non-blocking", "nonblocking"),
    ("non blocking", "nonblocking"),
)
_STATUS = re.compile(r"\W*(?:final\W+)?review\W*status\b", re.IGNORECASE)
_BRACKET = re.compile(r"[\[(【{⟦]\s*([^\[\]()【】{}⟦⟧]{1,40}?)\s*[\])】}⟧]")
_CATEGORY = re.compile(r"\s*\[[^\[\]]{1,40}\](?!\()")
"""In brackets of its own after the severity: ``[high] [security]``."""
_SEPARATOR = re.compile(r"\s*(?::|—|–|\||=>|->|→|-(?=\s))\s*")
_PREFIX = re.compile(
    r"(?:[\s>•‣▪◦·*#-]|\d{1,3}[.):]\s|\[[ xX✓✔]\]\s|\(?#?\d{1,3}\)\s|"
    r"(?:finding|issue|problem|bug|comment|defect|item)s?\s*#?\d{0,3}\s*[:.)—–-]\s*)+",
    re.IGNORECASE,
)
_ROW_NUMBER = re.compile(r"#?\d{0,3}|no\.?|id")
_NEGATION = re.compile(r"\b(?:no|none|nothing|not|n/a|without|zero)\b", re.IGNORECASE)
_NOUN = r"(?:issue|finding|problem|concern|bug|defect|remark|comment|severity|vulnerabilit(?:y|ie))s?"
_NONE = re.compile(
    r"(?:none|nil|nothing|n\s*/\s*a|not applicable|zero|0|no|clean|empty|[-–—]+"
    r"|(?:there (?:are|is|were)|i (?:found|see|saw|have|had|noticed)|we found|found|has)?\s*"
    rf"(?:none|no|nothing|zero|0|not any)\s+(?:\w+[ -]){{0,5}}?{_NOUN})"
    r"(?:\s*(?:of (?:this|that|high|medium|low) (?:kind|severity)|to (?:report|note|mention)|here|worth \w+"
    r"|(?:was|were|are|is)?\s*(?:found|identified|detected|noted|seen|reported|observed)"
    r"|in this (?:change|diff|review|part|commit|pull request)|at this (?:severity|level)|at all|left))*"
)
_FIXED = r"(?:fixed|resolved|addressed|done|corrected)"
_TOLD_FIXED = re.compile(
    r".*(?:[:;,(\[—–→]|\s-|->|=>|✅|✓|✔)\s*(?:(?:this|that|it|which)\s+)?"
    rf"(?:(?:is|was|has been|have been|now|already|since|got)\s+)*{_FIXED}"
    r"(?:\s+(?:now|already|in (?:this|that|the) (?:\w+ )?(?:pass|change|commit|version|revision|diff|round)"
    r"|in (?:pass|commit|round) \w+))?\s*[.!)\]✅✓✔\s]*",
    re.IGNORECASE | re.DOTALL,
)
_FIXED_FIRST = re.compile(rf"(?:✅|✓|✔)?\s*[\[(]?{_FIXED}[\])]?\s*(?::|—|–|-\s)", re.IGNORECASE)


class Unread(NamedTuple):
    """A line that is marked as a finding but whose severity cannot be read."""

    text: str


Read: TypeAlias = Finding | Unread


class _Marked(NamedTuple):
    """A severity and the spans after it. ``sure`` is False if it counts only together with a place."""

    severity: Severity | None
    rest: tuple[Span, ...]
    sure: bool = True


def read_findings(lines: Sequence[Line], ground: Ground) -> Iterator[tuple[Read, tuple[Code, ...]]]:
    """Every finding of an answer with the code below it, in order.

    Those that the answer calls fixed are left out, and so is "none".
    """
    marked = list(_read_marked(lines, ground))
    ends = [at for at, _ in marked[1:]] + [len(lines)]
    for (at, read), end in zip(marked, ends, strict=False):
        yield read, tuple(code_below(lines, at, end))


def _read_marked(lines: Iterable[Line], ground: Ground) -> Iterator[tuple[int, Read]]:
    """Every finding, with the number of its line."""
    section: Severity | None = None
    first_block = depth = 0
    for at, line in enumerate(lines):
        if _STATUS.match(line.text):
            continue
        if line.kind == "row" and (row := _read_row(line, ground)) is not None:
            yield at, row
            continue
        title = _read_title(line)
        if title is not None or line.kind == "heading":
            section, first_block, depth = title, line.block + 1, line.depth
        marked = None if title is not None else _find_mark(line)
        if marked is None and section and title is None and _belongs(line, first_block, depth, ground):
            marked = _Marked(section, line.spans)
        if marked is not None and (read := _make_finding(marked, ground)) is not None:
            yield at, read


def is_none(text: str) -> bool:
    """Whether these words say that there is nothing to report."""
    if len(text) > 200:
        return False
    plain = " ".join(re.sub(r"[*_`.!✅✓✔🎉]", " ", text).casefold().split()).strip(" :,;()")
    return not plain or _NONE.fullmatch(plain) is not None


def _make_finding(marked: _Marked, ground: Ground) -> Read | None:
    """None if the words after the severity are not a finding, or are the example of the contract."""
    text = written(marked.rest)
    if is_none(text) or (marked.severity and _COUNT.fullmatch(text)):
        return None
    location, message = name_place(marked.rest, ground)
    if marked.severity is None:
        return Unread(text)
    is_fixed = _TOLD_FIXED.fullmatch(message[-300:]) or _FIXED_FIRST.match(message)
    is_example = "what is wrong, when it happens" in text.casefold() or (
        "path/to/file.py:42" in text and not ground.holds("path/to/file.py")
    )
    if not (marked.sure or location) or is_fixed or is_example:
        return None
    if location is None:
        return Finding(marked.severity, None, None, message)
    place = whereabouts(location, ground) if ground.changed else None
    if place == "nowhere" and location.line is None and "/" not in location.path:
        return Finding(marked.severity, None, None, text)  # `UserService.save` is not a file
    return Finding(marked.severity, location.path, location.line, message, place, location.end)


# --- where a severity is marked ----------------------------------------------------------------


def _find_mark(line: Line) -> _Marked | None:
    """The severity at the beginning of a line, or after its place; a word counts before a coloured sign."""
    spans = _strip_prefix(line.spans)
    text = _text(spans)
    sign = text[:1]
    if sign in _SIGNS:
        spans = _strip_prefix(_after(spans, len(text) - len(text[1:].lstrip("\ufe0f \t"))))
    worded = _read_label(spans) or _read_brackets(spans) or _read_bold(spans) or _read_first_word(spans)
    if worded is not None or sign not in _SIGNS or not spans:
        return worded
    return _Marked(_SIGNS[sign], spans, sure=sign in _SURE_SIGNS and line.kind in ("item", "heading"))


def _read_label(spans: Sequence[Span]) -> _Marked | None:
    """``Severity: high — src/app.py:2 — …``; a label followed by anything else is unread."""
    text = _text(spans)
    label = _LABELLED.match(text)
    if label is None:
        return None
    value = re.compile(r"[\w-]*").match(text, label.end())
    assert value is not None
    severity = _severity_of(value[0])
    rest = _trim_separators(_after(spans, value.end()))
    if severity is None or name_place(rest, Ground()).location is None:
        return _Marked(None, _after(spans, label.end()))
    return _Marked(severity, rest)


def _read_brackets(spans: Sequence[Span]) -> _Marked | None:
    """``[high]``, ``[high/security]`` or ``[security][high]``, at the beginning or right after a place."""
    text = _text(spans)
    at = 0
    while (match := _BRACKET.match(text, at)) is not None:
        severity = _severity_of(match[1])
        if severity is not None:
            end = match.end()
            while (category := _CATEGORY.match(text, end)) is not None:
                end = category.end()
            return _Marked(severity, _trim_separators(_after(spans, end)))
        at = match.end()
        at += len(text[at:]) - len(text[at:].lstrip(" :*"))
    first = _BRACKET.match(text)
    if first is not None and text[0] in "[【⟦{" and not spans[0].href:
        rest = _after(spans, at)
        numbered = re.fullmatch(r"[xX✓✔ ]?|\^?\d+", first[1].strip()) is not None
        if not numbered and (_hints_at_severity(first[1]) or name_place(rest, Ground()).location is not None):
            return _Marked(None, rest)
    return _read_later_brackets(spans)


def _read_later_brackets(spans: Sequence[Span]) -> _Marked | None:
    """``src/app.py:2 — [high] …``, ``src/app.py:2 (high): …``, ``src/app.py:2: … [high]``."""
    text = _text(spans)
    for match in _BRACKET.finditer(text):
        severity = _severity_of(match[1])
        if severity is None:
            continue
        before = text[: match.start()].rstrip(" :—–-*_|")
        at_end = not text[match.end() :].strip(" .*_`")
        location = read_location(before, Ground())
        if location is None and not (at_end and name_place(spans, Ground()).location is not None):
            continue
        rest = (*_before(spans, match.start()), *_after(spans, match.end()))
        return _Marked(severity, _trim_separators(rest))
    return None


def _read_bold(spans: Sequence[Span]) -> _Marked | None:
    """``**High** src/app.py:2 — …``, ``**High (security):** …``, ``**Security – High** …``."""
    bold: list[Span] = []
    for span in spans:
        if not span.bold:
            break
        bold.append(span)
    words = _text(bold)
    if not words.strip() or len(words) > 60:
        return None
    for value in re.split(r"\s*[:/,|()–—]\s*|\s-\s", words):
        severity = _severity_of(value)
        if severity is not None:
            rest = _trim_separators(_after(spans, len(words)))
            return _Marked(severity, rest, sure=value.casefold().strip(" _") not in _WEAK) if rest else None
    return None


def _read_first_word(spans: Sequence[Span]) -> _Marked | None:
    """``High: src/app.py:2 — …``, ``P1 src/app.py:2 — …``."""
    text = _text(spans)
    separator = _SEPARATOR.search(text[:80])
    value = text[: separator.start()] if separator else text
    severity = _severity_of(value)
    if severity is not None and separator:
        rest = _after(spans, separator.end())
        return _Marked(severity, rest, sure=value.casefold().strip(" _*") not in _WEAK) if rest else None
    level = re.match(r"(?:\*\*)?(?:P[0-4]|SEV-?[0-4])\b", text)
    if level is not None:
        rest = _trim_separators(_after(spans, level.end()))
        if name_place(rest, Ground()).location is not None:
            return _Marked(_severity_of(level[0].strip("*")), rest)
    if (worded := re.match(r"\W*(high|medium|low|critical)\b(?=\W)", text, re.IGNORECASE)) is not None:
        rest = _trim_separators(_after(spans, worded.end()))
        location, _ = name_place(rest, Ground())
        if (
            location is not None
            and location.line is not None
            and read_location(_text(rest)[:200].split(" ")[0], Ground())
        ):
            return _Marked(_severity_of(worded[1]), rest)
    return None


# --- sections and tables -----------------------------------------------------------------------


def _read_title(line: Line) -> Severity | None:
    """The severity that a heading, a bold line or a line with a colon at its end gives to the lines below."""
    spans = _strip_prefix(line.spans)
    text = _text(spans)
    is_label = line.kind != "row" and (
        all(span.bold or not span.text.strip() for span in spans) or text.endswith(":")
    )
    if not (line.kind == "heading" or is_label) or len(text) > 60:
        return None
    plain = re.sub(r"\(\s*\d+\s*\)|\d+\s*$|[:*_`]", " ", "".join(char for char in text if char not in _SIGNS))
    words = plain.replace("\ufe0f", "").strip()
    severity = _severity_of(words)
    if severity is None:
        return None
    return None if words.casefold() in _WEAK and line.kind != "heading" else severity


def _belongs(line: Line, first_block: int, depth: int, ground: Ground) -> bool:
    """Whether a line below such a title is a finding: an item, the first paragraph, or one with a place."""
    if line.kind == "item":
        return line.depth <= depth + 1
    if line.kind != "text" or line.depth > depth:
        return False
    if line.block == first_block and not _NEGATION.search(line.text):
        return True
    location, _ = name_place(line.spans, ground)
    return location is not None and location.line is not None


def _read_row(line: Line, ground: Ground) -> Read | None:
    """A row of a table that has a column for the severity, or whose first cell is a severity."""
    header = [cell.casefold().strip(" *_`") for cell in line.header]
    cells = [cell.strip() for cell in line.cells]
    columns = [n for n, cell in enumerate(header) if re.search(_LABEL, cell) or cell in ("level", "class")]
    if header and cells and not columns and _severity_of(cells[0].strip("[]() *_")):
        columns = [0]
    if not columns or columns[0] >= len(cells):
        return None
    at = columns[0]
    value = "".join(char for char in cells[at] if char not in _SIGNS).replace("\ufe0f", "").strip("[]() *_`")
    sign = next((_SIGNS[char] for char in cells[at] if char in _SIGNS), None)
    severity = _severity_of(value) or (sign if not value else None)
    others = [(header[n] if n < len(header) else "", cell) for n, cell in enumerate(cells) if n != at]
    if severity is None and is_none(value):
        return None
    return _make_finding(_Marked(severity, (Span(_join_cells(others)),)), ground)


def _join_cells(cells: Sequence[tuple[str, str]]) -> str:
    """The other cells of a row as the text of a finding: the place first, without row numbers."""
    path = line = ""
    others: list[str] = []
    for name, cell in cells:
        if re.search(r"\b(?:place|file|path|location|where)\b", name) and not path:
            path = cell
        elif re.fullmatch(r"lines?|ln|l|line (?:no|number)s?\.?|line\(s\)", name) and re.search(r"\d", cell):
            line = ":" + (re.search(r"\d+", cell) or [""])[0]
        elif not _ROW_NUMBER.fullmatch(cell.casefold()) and name not in ("#", "id", "no", "no."):
            others.append(cell)
    if not path:
        path = next((cell for cell in others if (found := read_location(cell, Ground())) and found.line), "")
        others = [cell for cell in others if cell != path]
    place = path if read_location(path + line, Ground()) is None else path + line
    return " — ".join(filter(None, (place, *others)))


# --- words -------------------------------------------------------------------------------------


def _severity_of(words: str) -> Severity | None:
    """The severity that a few marked words name, the higher of two; None for any other words."""
    plain = words.casefold()
    for phrase, word in _PHRASES:
        plain = plain.replace(phrase, word)
    parts = re.findall(r"\w+", plain.replace("_", " "))
    found = [_SEVERITY[part] for part in parts if part in _SEVERITY]
    if not found or len(parts) > 6 or not {"no", "not", "confidence", "effort"}.isdisjoint(parts):
        return None
    alone = re.split(r"\s*[/,:|&+]\s*|\s+-\s+|\s+to\s+|\s+(?:and|or)\s+", plain.strip(" *_`-–—:."))
    named: list[Severity] = []
    for each in alone:  # `high`, `high severity`, `severity high`, `medium-high`
        words_of_one = re.split(r"[\s_-]+", each.strip(" *_`."))
        levels = [_SEVERITY.get(word) for word in words_of_one if word and word not in _COMPANIONS]
        if None not in levels:
            named += [level for level in levels if level is not None]
    return min(named, key=SEVERITIES.index) if named else None


def _hints_at_severity(words: str) -> bool:
    """Whether unknown words in brackets contain a severity, or a word that is close to one."""
    from difflib import get_close_matches

    plain = words.casefold().strip()
    if re.search(r"\d\s*/\s*\d|\bcvss\b|\bsev|prior|\bp\d|\bs\d\b|urgen", plain):
        return True
    parts = re.findall(r"[a-z]+", plain)
    if any(part in _SEVERITY for part in parts):
        return True
    return any(get_close_matches(part, ("high", "medium", "critical", "blocker"), 1, 0.74) for part in parts)


# --- spans --------------------------------------------------------------------------------------


def _text(spans: Sequence[Span]) -> str:
    return "".join(span.text for span in spans)


def _strip_prefix(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans without bullets, numbers, check boxes and "Finding 1:" at the beginning."""
    match = _PREFIX.match(_text(spans))
    return _after(spans, match.end()) if match else tuple(spans)


def _after(spans: Sequence[Span], at: int) -> tuple[Span, ...]:
    """The spans from a position in the text on, without leading white space."""
    kept: list[Span] = []
    for span in spans:
        text = span.text[at:] if at > 0 else span.text
        at -= len(span.text)
        if not kept:
            text = text.lstrip()
        if text:
            kept.append(span._replace(text=text))
    return tuple(kept)


def _before(spans: Sequence[Span], at: int) -> tuple[Span, ...]:
    kept = []
    for span in spans:
        if at > 0:
            kept.append(span._replace(text=span.text[:at]))
        at -= len(span.text)
    return tuple(kept)


def _trim_separators(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans without the separators between a severity and what follows."""
    text = _text(spans)
    return _after(spans, len(text) - len(text.lstrip(" \t:—–-|*")))
