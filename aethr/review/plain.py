"""Answers plain enough to be read without a Markdown parser: most that follow the contract (pure).

The parser takes 60 ms and a hundred modules to load. A text without any of the marks that could hide, quote
or restructure a line is its own rendering, but for bullets, headings, bold words and code. A property test
holds every such text to what the parser makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aethr.review.lines import Kind, Line, Run

_SPECIAL = re.compile(
    "|".join(
        (
            r"[<&|~\\\x00]|[^\S \n]|__|``|!\[|\](?:[(:\[])",  # tags, entities, links, other white space
            r"(?:^|\n)(?: +[^ \n]|>|\d{1,9}[.)])| {2}\n",  # what is indented, quotes, numbered lists, breaks
            r"(?:^|\n)[-=*_+#` ]+(?:\n|\Z)|#\s*(?:\n|\Z)",  # rules, underlined headings, what is empty
            r"(?:^|\n)(?:#{1,6}|[-*+]) (?: |[-+#>]|\*(?!\*)|\d{1,9}[.)])",  # more than one mark in front
        )
    )
)
_BULLET = re.compile(r"[-*+] (?=\S)")
_HEADING = re.compile(r"#{1,6} (?=\S)")
_BOLD = re.compile(r"(?<!\S)\*\*([^\s*`](?:[^*`]*[^\s*`])?)\*\*(?=[\s:,.;!?)]|$)")
_CODE = re.compile(r"`([^`\s](?:[^`\n]*[^`\s])?)`")
_STYLED = re.compile(f"{_BOLD.pattern}|{_CODE.pattern}")
LONGEST = 20_000
"""In characters: the parser bounds longer paragraphs."""


def is_plain(text: str) -> bool:
    """Whether ``read_lines`` gives what the parser would."""
    if len(text) > LONGEST or _SPECIAL.search(text) is not None:
        return False
    rest = (_STYLED.sub("", _content(line)[1]) for line in text.split("\n"))
    return all("*" not in each and "`" not in each and "_" not in each for each in rest)


def read_lines(text: str) -> tuple[Line, ...]:
    return tuple(_lines(text))


def _lines(text: str) -> Iterator[Line]:
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
        yield Line(tuple(_runs(content)), kind, block, depth=depth)
        begins = kind == "heading"


def _content(line: str) -> tuple[Kind, str]:
    plain = line.strip()
    if bullet := _BULLET.match(plain):
        return "item", plain[bullet.end() :].strip()
    if heading := _HEADING.match(plain):
        return "heading", plain[heading.end() :].strip()
    return "text", plain


def _runs(content: str) -> Iterator[Run]:
    at = 0
    for match in _STYLED.finditer(content):
        if match.start() > at:
            yield Run(content[at : match.start()])
        yield Run(match[1], bold=True) if match[1] is not None else Run(match[2], code=True)
        at = match.end()
    if at < len(content):
        yield Run(content[at:])
