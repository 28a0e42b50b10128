"""The lines of a rendered answer, and how to read them from one that needs no Markdown parser (pure).

Most answers that follow the contract need none. Importing the parser takes 60 ms and a hundred modules. A
text without any mark that could hide, quote or restructure a line renders as itself, except for bullets,
headings, bold words and code. A property test compares such texts with what the parser makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["text", "heading", "item", "row"]

_SPECIAL = re.compile(
    "|".join(
        (
            r"[<&|~\\\x00]|[^\S \n]|__|``|!\[|\](?:[(:\[])",  # tags, entities, links, other white space
            r"(?:^|\n)(?: +[^ \n]|>|\d{1,9}[.)])| {2}\n",  # indents, quotes, numbered lists, breaks
            r"(?:^|\n)[-=*_+#` ]+(?:\n|\Z)|#\s*(?:\n|\Z)",  # rules, underlined and empty lines
            r"(?:^|\n)(?:#{1,6}|[-*+]) (?: |[-+#>]|\*(?!\*)|\d{1,9}[.)])",  # two marks at the beginning
        )
    )
)
_BULLET = re.compile(r"[-*+] (?=\S)")
_HEADING = re.compile(r"#{1,6} (?=\S)")
_BOLD = re.compile(r"(?<!\S)\*\*([^\s*`](?:[^*`]*[^\s*`])?)\*\*(?=[\s:,.;!?)]|$)")
_CODE = re.compile(r"`([^`\s](?:[^`\n]*[^`\s])?)`")
_STYLED = re.compile(f"{_BOLD.pattern}|{_CODE.pattern}")
LONGEST = 20_000
"""In characters: the parser has a limit for longer paragraphs."""


class Span(NamedTuple):
    """A piece of a line in one style. ``href`` is the target of a link."""

    text: str
    bold: bool = False
    code: bool = False
    href: str = ""


class Code(NamedTuple):
    """Lines of an answer that may be code, below one of its lines.

    ``readings`` are the texts that they can be, the most literal first: without the indentation that all
    lines have, without line numbers in front, without the signs of a diff. ``indents`` has for each of them
    what may have been the code's own of that indentation. ``first`` and ``last`` are the numbers of the lines
    in the answer's source, from 0. A ``suggestion`` is a fenced block with this info; its reading has its
    indentation.
    """

    readings: tuple[str, ...]
    first: int
    last: int
    suggestion: bool = False
    indents: tuple[tuple[str, ...], ...] = ()


class Line(NamedTuple):
    """One line as a reader sees it. Lines of one paragraph have the same ``block``.

    ``plain`` is False if the answer itself may not state the line: it is indented like code, inside an HTML
    element that can hide it, or too long to be parsed. ``depth`` is the number of lists that an item is in.
    ``cells`` and ``header`` belong to the row of a table, which is never plain. ``at`` is the number of the
    line in the answer's source, from 0, or -1 where that is not known. ``code`` follows it, before the next
    line.
    """

    spans: tuple[Span, ...]
    kind: Kind
    block: int
    plain: bool = True
    depth: int = 0
    cells: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    at: int = -1
    code: tuple[Code, ...] = ()

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


def is_plain(text: str) -> bool:
    """Whether ``read_plain`` gives the same lines as the parser."""
    if len(text) > LONGEST or _SPECIAL.search(text) is not None:
        return False
    rest = (_STYLED.sub("", _content(line)[1]) for line in text.split("\n"))
    return all("*" not in each and "`" not in each and "_" not in each for each in rest)


def read_plain(text: str) -> tuple[Line, ...]:
    """The lines of a plain text."""
    lines = []
    block = depth = 0
    begins = True
    for line in text.split("\n"):
        if not line.strip():
            begins, depth = True, 0
            continue
        kind, content = _content(line)
        if kind != "text" or begins:
            block += 1
        if kind == "item":
            depth = 1
        elif kind == "heading":
            depth = 0
        lines.append(Line(tuple(_split_spans(content)), kind, block, depth=depth))
        begins = kind == "heading"
    return tuple(lines)


def _content(line: str) -> tuple[Kind, str]:
    plain = line.strip()
    if bullet := _BULLET.match(plain):
        return "item", plain[bullet.end() :].strip()
    if heading := _HEADING.match(plain):
        return "heading", plain[heading.end() :].strip()
    return "text", plain


def _split_spans(content: str) -> Iterator[Span]:
    at = 0
    for match in _STYLED.finditer(content):
        if match.start() > at:
            yield Span(content[at : match.start()])
        yield Span(match[1], bold=True) if match[1] is not None else Span(match[2], code=True)
        at = match.end()
    if at < len(content):
        yield Span(content[at:])
