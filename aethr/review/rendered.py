"""What a person sees of an answer: the lines of its rendered Markdown, without the markup (pure).

A CommonMark parser finds the blocks, so that text does not count if a page shows it as code, as a quote,
struck out or not at all. It reads https://spec.commonmark.org/0.31.2/ with GitHub's tables and strikethrough.
Raw HTML is read only as far as it can hide something.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aethr.review.lines import Code, Kind, Line, Span, is_plain, read_plain
from aethr.review.quoted import Scan, attach, read_code, scan

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_NESTING = 100
_MOST_CHARACTERS = 20_000
_MOST_BRACKETS = 200
"""A paragraph with more is not parsed: finding links in it takes quadratic time."""

_SHOWN = frozenset((
    "a", "answer", "article", "b", "big", "body", "br", "center", "div", "em", "final", "final_answer",
    "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "html", "i", "ins", "li", "main", "mark", "ol",
    "output", "p", "response", "result", "review", "section", "small", "span", "strong", "sub", "sup",
    "table", "tbody", "td", "th", "thead", "tr", "u", "ul", "wbr",
))  # fmt: skip
"""Elements that show their text. An attribute may hide it, so only elements without attributes count."""

_CODE = frozenset(("code", "kbd", "samp", "tt", "var"))
_STRUCK = frozenset(("del", "s", "strike"))
_LITERAL = frozenset((
    "iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title", "xmp",
))  # fmt: skip
"""Tags that GitHub shows as text: https://github.github.com/gfm/#disallowed-raw-html-extension-"""

_VOID = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
    "track", "wbr",
))  # fmt: skip
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "details", "dialog", "dir", "div",
    "dl", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "html", "li", "main", "nav", "ol", "p", "pre", "search", "section", "summary", "table",
    "tbody", "td", "th", "thead", "tr", "ul",
))  # fmt: skip
"""Elements that begin a line; the end of an inline element does not close them."""

_KNOWN = _SHOWN | _CODE | _STRUCK | _VOID | _BLOCKS | {"q", "select", "svg", "template", "object", "head"}
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9_-]*)(.*?)/?>", re.DOTALL)
_HARMLESS = re.compile(r"\s*(?:align\s*=\s*[\"']?\w+[\"']?)?\s*", re.IGNORECASE)
_TEXT = frozenset(("text", "text_special", "code_inline", "softbreak", "hardbreak"))
_PARAGRAPH = "(a paragraph of Markdown)"
_OPEN_ENDED = re.compile(r"<[A-Za-z/!?]")


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # takes 60 ms, so only if there is an answer to parse

    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    parser.core.ruler.enableOnly(["normalize", "block"])  # blocks are parsed below, with limits
    return parser


@functools.cache
def _html_parser() -> MarkdownIt:
    """For a block of HTML, where only tags, entities and line ends are markup."""
    from markdown_it import MarkdownIt

    return MarkdownIt("zero", {"html": True}).enable(["html_inline", "entity", "newline"])


def read_lines(text: str, quoted: Container[str] = frozenset()) -> tuple[Line, ...]:
    """The lines of an answer, in order. Indented code that is one of the texts ``quoted`` is not read."""
    return read_plain(text) if is_plain(text) else parse_lines(text, quoted)


def parse_lines(text: str, quoted: Container[str] = frozenset()) -> tuple[Line, ...]:
    """The lines of an answer as the parser finds them, with the code below each."""
    source = scan(text)
    words = source.without(quoted)
    page = _Page(words)
    lines = list(page.lines())
    if page.broken:
        lines = [line._replace(plain=False) for line in lines]
    return attach(lines, (*source.blocks, *page.fences))


class _Page:
    """Goes once through the blocks of a text.

    ``broken`` is True once a tag or a fence has no end: a reader takes what follows for a part of it, so no
    line of the page can be trusted. ``fences`` are the fenced blocks.
    """

    def __init__(self, source: Scan) -> None:
        self.broken = False
        self.fences: list[Code] = []
        self._source = source
        self._environment: dict[str, Any] = {}
        self._tokens = _parser().parse("\n".join(source.lines), self._environment)
        self._html = _Elements()
        self._block = 0
        self._rows = range(0)  # the lines of the source that the block is written in
        self._breaks = 0  # the ends of lines that were read of it

    def lines(self) -> Iterator[Line]:
        quotes = depth = 0
        kind: Kind = "text"
        header: tuple[str, ...] = ()
        cells: list[str] = []
        for token in self._tokens:
            if token.type.startswith("blockquote_"):
                quotes += token.nesting
            elif token.type.startswith(("bullet_list_", "ordered_list_")):
                depth += token.nesting
            elif token.type in _KINDS:
                kind = _KINDS[token.type]
            if token.type == "tr_open":
                cells = []
            elif token.type == "thead_close":
                header = tuple(cells)
            elif token.type == "inline" and kind == "row":
                self._rows = range(*token.map or (0, 0))
                cells.append(" ".join(line.text for line in self._read_paragraph(token.content, kind, depth)))
            elif token.type in ("inline", "html_block", "code_block", "fence", "tr_close"):
                lines = self._read_block(token, kind, depth, cells, header)
                if not quotes:  # a quote is not the reviewer's own, but its tags affect what follows
                    yield from lines
                kind = "text"

    def _read_block(
        self, token: Token, kind: Kind, depth: int, cells: Sequence[str], header: tuple[str, ...]
    ) -> list[Line]:
        self._rows = range(*token.map) if token.map else self._rows
        if token.type == "fence":
            self._read_fence(token, kind)
            return []
        self._block += 1
        if token.type == "tr_close":
            at = self._rows[0] if self._rows else -1
            row = Line((Span(" | ".join(cells)),), "row", self._block, plain=False, at=at)
            return [row._replace(cells=tuple(cells), header=header)]
        if token.type == "code_block":  # indented, perhaps by mistake: it never counts for a pass
            return self._unparsed(token.content, "item", depth)
        return self._read_paragraph(token.content, kind, depth, in_html=token.type == "html_block")

    def _read_fence(self, token: Token, kind: Kind) -> None:
        """Keep the code. Below a line, a fence without an end was meant to have one: who knows where."""
        first, last = self._rows[0], self._rows[-1]
        end = self._source.lines[last].lstrip(" \t>")
        closed = first < last and end.startswith(token.markup) and not end.strip(token.markup[0] + " \t")
        self.broken = self.broken or not (closed or kind == "item")
        text = token.content.removesuffix("\n")
        if token.info.casefold().split()[:1] == ["suggestion"]:
            self.fences.append(Code((text,), first, last, suggestion=True))
        else:
            self.fences.append(read_code(text.split("\n"), first, last))

    def _read_paragraph(self, content: str, kind: Kind, depth: int, *, in_html: bool = False) -> list[Line]:
        """The lines of a paragraph, a heading, a cell or a block of HTML."""
        if len(content) > _MOST_CHARACTERS or content.count("[") > _MOST_BRACKETS:
            self.broken = self.broken or in_html
            return self._unparsed(content, kind, depth)
        lines: list[Line] = []
        spans: list[Span] = []
        plain = True
        self._breaks = begun = 0
        if not in_html:
            self._html.begin_paragraph()
        for span in self._parse_spans(content, in_html=in_html):
            if span.text != "\n":
                spans.append(span)
                plain = plain and self._html.plain
                continue
            if any(each.text.strip() for each in spans):
                lines.append(Line(tuple(spans), kind, self._block, plain, depth, at=begun))
                kind = "text" if kind == "item" else kind
            spans, plain, begun = [], True, self._breaks
        if any(each.text.strip() for each in spans):
            lines.append(Line(tuple(spans), kind, self._block, plain, depth, at=begun))
        self._html.end_block(paragraph=not in_html)
        return self._place(lines, content)

    def _place(self, lines: Sequence[Line], content: str) -> list[Line]:
        """The lines, each with its place in the source; a line that is indented below another is not plain.

        A code span may hide the end of a line: then only the first place is known.
        """
        sure = self._breaks == content.rstrip("\n").count("\n") and len(self._rows) > self._breaks
        doubtful = not sure and not self._source.indented.isdisjoint(self._rows)
        placed = []
        for line in lines:
            at = self._rows[line.at] if self._rows and (sure or line.at == 0) else -1
            plain = line.plain and not doubtful and at not in self._source.indented
            placed.append(line._replace(at=at, plain=plain))
        return placed

    def _unparsed(self, content: str, kind: Kind, depth: int) -> list[Line]:
        first = self._rows[0] if self._rows else 0
        return [
            Line((Span(line.strip()),), kind, self._block, plain=False, depth=depth, at=at)
            for at, line in enumerate(content.split("\n"), start=first)
            if line.strip()
        ]

    def _parse_spans(self, content: str, *, in_html: bool) -> Iterator[Span]:
        """The visible spans; one that is a line break ends a line."""
        tokens: list[Token] = []
        parser = _html_parser() if in_html else _parser()
        parser.inline.parse(content, parser, self._environment, tokens)
        bold = struck = 0
        href = ""
        crossed_out = _find_struck(tokens)
        for at, token in enumerate(tokens):
            text = self._visible_text(token, in_html=in_html)
            was_bold = bold
            if token.type.startswith(("strong_", "em_")):
                bold += token.nesting if token.type.startswith("strong_") else 0
                text = token.markup.strip("*")  # keeps the name __init__.py, which is bold in Markdown
            elif token.type.startswith("s_"):
                struck += token.nesting
            elif token.type.startswith("link_"):
                href = str(token.attrGet("href") or "")
            is_bold = bool(bold or was_bold) or self._html.has("b", "strong")
            is_code = token.type == "code_inline" or self._html.has(*_CODE)
            for number, piece in enumerate(text.split("\n")):
                if number:
                    yield Span("\n")
                if piece and not struck and at not in crossed_out:
                    yield Span(piece, is_bold, is_code, href)

    def _visible_text(self, token: Token, *, in_html: bool) -> str:
        if token.type.endswith("break"):
            self._breaks += 1
            return "\n"
        if token.type == "html_inline":
            self._breaks += token.content.count("\n")
            seen = self._html.tag(token.content, in_html=in_html)
            self.broken = self.broken or seen.startswith(("<?", "<!"))
            return seen
        if token.type not in ("text", "text_special", "code_inline"):
            return ""
        self.broken = self.broken or (in_html and _OPEN_ENDED.search(token.content) is not None)
        return token.content


def _find_struck(tokens: Sequence[Token]) -> frozenset[int]:
    """The indices of the tokens between ``<del>`` and ``</del>`` if there is only text between them."""
    inside: set[int] = set()
    tags = [(at, token.content.lower()) for at, token in enumerate(tokens) if token.type == "html_inline"]
    for (start, opening), (end, closing) in itertools.pairwise(tags):
        nested = {token.type for token in tokens[start + 1 : end]} <= _TEXT
        if nested and any((opening, closing) == (f"<{name}>", f"</{name}>") for name in _STRUCK):
            inside.update(range(start, end))
    return frozenset(inside)


_KINDS: dict[str, Kind] = {
    "heading_open": "heading",
    "heading_close": "text",
    "list_item_open": "item",
    "list_item_close": "text",
    "tr_open": "row",
}


class _Elements:
    """The open HTML elements, closed as a browser closes them; in case of doubt, nothing is plain."""

    def __init__(self) -> None:
        self._open: list[tuple[str, bool]] = []

    @property
    def plain(self) -> bool:
        return all(shown for _, shown in self._open)

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self._open)

    def tag(self, content: str, *, in_html: bool) -> str:
        """Open or close the element of a tag, and return what is seen in its place, often nothing."""
        match = _TAG.fullmatch(content)
        if match is None:  # a comment is not seen; some renderers show the other forms as text
            return "" if content.startswith("<!--") else " ".join(content.split())
        closing, name, attributes = bool(match[1]), match[2].lower(), match[3]
        unknown = name not in _KNOWN and name not in _LITERAL
        if unknown and not in_html:
            return content  # List<String> is code, even if HTML takes it for a tag
        seen = name in _BLOCKS or name == "br"
        if closing:
            seen = (self._close(name) and seen) or name in ("br", "p")
        elif name not in _VOID and (in_html or name not in _LITERAL):
            shown = name in _SHOWN | _CODE and _HARMLESS.fullmatch(attributes) is not None
            if name in _BLOCKS:
                self._close("p")
            self._open.append((name, shown))
        if name in _LITERAL:
            return content
        if name in ("td", "th"):
            return " | "
        return "\n" if seen else ""

    def begin_paragraph(self) -> None:
        self._open.append((_PARAGRAPH, True))

    def end_block(self, *, paragraph: bool) -> None:
        """Close what ends with a block. In some renderers, an open element that hides text stays open."""
        self._open = [("?", False) if name in _STRUCK else (name, shown) for name, shown in self._open]
        marks = [n for n, (name, _) in enumerate(self._open) if name == _PARAGRAPH]
        if paragraph and marks:
            inside = self._open[marks[-1] + 1 :]
            left = [each if each[0] in _BLOCKS else ("?", False) for each in inside]
            self._open[marks[-1] :] = [
                each for each, (_, shown) in zip(left, inside, strict=True) if each[0] in _BLOCKS or not shown
            ]

    def _close(self, name: str) -> bool:
        """Close such an element and all inside it. False if none is open."""
        for at in reversed(range(len(self._open))):
            if self._open[at][0] == name:
                self._open[at:] = [each for each in self._open[at:] if each[0] == "?"]
                return True
            if (name not in _BLOCKS or name == "p") and self._open[at][0] in _BLOCKS | {_PARAGRAPH}:
                return False
        return False
