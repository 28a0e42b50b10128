"""What the code below a finding is worth: its evidence, its place, and what it suggests instead (pure).

Evidence is code that stands in the reviewer's prompt. A suggestion is kept only if the evidence is whole
lines of the new version of the file, so that it is certain which lines it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aethr.base.records import Finding, Quote
from aethr.base.sanitize import REDACTED, reveal
from aethr.review.lines import Code
from aethr.review.places import Ground, Location, whereabouts
from aethr.review.quoted import dedent, strip_numbers, strip_signs

EVIDENCE_LINES = 20
EVIDENCE_CHARACTERS = 2_000
SUGGESTION_CHARACTERS = 10_000
"""A longer one is not kept: cut, it would be another one."""
_ADDED = re.compile(r"\+")
_SHOWN = re.compile(r"\\(?:x[0-9a-f]{2}|u\{[0-9a-f]+\})")
"""As prompts show an invisible character (``sanitize.escape``)."""


def check(finding: Finding, codes: Sequence[Code], ground: Ground) -> Finding:
    """The finding with what the code below it proves.

    If the evidence stands at only one place of the finding's file, and not at its line, the line is wrong.
    """
    proven = [
        (code, kind, places)
        for code in codes
        for kind, text in enumerate(code.readings[: 0 if code.suggestion else None])
        if (places := [quote for quote in ground.quotes if quote.text == text])
    ]
    if not proven:
        return finding
    own = [each for each in proven if any(quote.path == finding.path for quote in each[2])]
    code, kind, places = (own or proven)[0]
    text = code.readings[kind]
    quote = _choose(finding, places)
    if quote is None or quote.line is None:
        return finding._replace(evidence=_shorten(text))
    text = _indent(text, quote.indent or "")
    if not _holds(quote, finding):
        finding = _move(finding, quote, ground)
    suggested = [each.readings[0] for each in codes if each.suggestion]
    new = _replace(code, kind, quote, suggested[0]) if len(suggested) == 1 else None
    if new is not None and new != text and not _is_altered(text + new):
        finding = _move(finding, quote, ground)._replace(suggestion=new)
    return finding._replace(evidence=_shorten(text))


def _shorten(text: str) -> str:
    """The first lines of the evidence, as many as a report shows."""
    cut = "\n".join(text.split("\n")[:EVIDENCE_LINES])[:EVIDENCE_CHARACTERS]
    return cut if cut == text else f"{cut}\n[…]"


def _is_altered(text: str) -> bool:
    """Whether the code in the file may be another one: a key is replaced, or an invisible character shown."""
    return REDACTED in text or _SHOWN.search(text) is not None or reveal(text)[1] > 0


def _indent(text: str, indent: str) -> str:
    return "\n".join(indent + line if line.strip() else line for line in text.split("\n"))


def _choose(finding: Finding, places: Sequence[Quote]) -> Quote | None:
    """The place that the finding is about: the one at its line, or else the only one in its file."""
    own = list({(each.line, each.end_line): each for each in places if each.path == finding.path}.values())
    here = [each for each in own if _holds(each, finding)]
    return here[0] if here else own[0] if len(own) == 1 else None


def _holds(quote: Quote, finding: Finding) -> bool:
    """Whether both have a line in common."""
    if finding.line is None or quote.line is None or quote.end_line is None:
        return False
    return quote.line <= (finding.end_line or finding.line) and finding.line <= quote.end_line


def _move(finding: Finding, quote: Quote, ground: Ground) -> Finding:
    """The finding at the lines of the quotation."""
    one_line = quote.line == quote.end_line
    place = Location(quote.path, quote.line, None if one_line else quote.end_line)
    return finding._replace(
        line=place.line,
        end_line=place.end,
        place=whereabouts(place, ground) if ground.changed else finding.place,
    )


def _replace(code: Code, kind: int, quote: Quote, suggested: str) -> str | None:
    """What replaces the quoted lines, indented as the file is; None if that is not certain."""
    if quote.indent is None or len(suggested) > SUGGESTION_CHARACTERS:
        return None
    evidence, lines = code.readings[kind], suggested.split("\n")
    if kind > 0 and strip_numbers(code.readings[0].split("\n")):
        lines = strip_numbers(dedent(lines)[0]) or lines
    if (unsigned := strip_signs(lines)) is not None and (kind > 0 or any(map(_ADDED.match, lines))):
        if any(line.startswith("-") for line in lines) or (kind == 0 and not _ADDED.match(evidence)):
            return None  # a diff, or lines that begin with such a sign
        lines = unsigned if kind > 0 else lines
    new = "\n".join(lines)
    lacks = _lacks(code.indents[kind], quote.indent, dedent(lines)[1]) if new.strip() else ""
    return None if lacks is None else _indent(new, lacks)


def _lacks(own: Sequence[str], indent: str, suggested: str) -> str | None:
    """What the lines of a suggestion lack in front, as far as the evidence above it lacks the same.

    ``own`` is the indentation that the evidence may have been written with, ``indent`` that of its lines in
    the file, ``suggested`` that of the suggestion. None if it is not certain.
    """
    if not indent:
        return ""
    if len(own) == 1:
        return indent.removesuffix(own[0]) if indent.endswith(own[0]) else None
    everything, nothing = indent in own, "" in own  # of the indentation was written
    if everything and suggested and (suggested == indent or not nothing):
        return ""
    return indent if nothing and not suggested else None
