"""What a rendered answer consists of: lines, and the spans of one style within them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["text", "heading", "item", "row"]


class Span(NamedTuple):
    """A piece of a line in one style. ``href`` is the target of a link."""

    text: str
    bold: bool = False
    code: bool = False
    href: str = ""


class Line(NamedTuple):
    """One line as a reader sees it. Lines of one paragraph have the same ``block``.

    ``plain`` is False if the answer itself may not state the line: it is indented like code, inside an HTML
    element that can hide it, or too long to be parsed. ``depth`` is the number of lists that an item is in.
    ``cells`` and ``header`` belong to the row of a table, which is never plain.
    """

    spans: tuple[Span, ...]
    kind: Kind
    block: int
    plain: bool = True
    depth: int = 0
    cells: tuple[str, ...] = ()
    header: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)
