"""The nouns of a rendered answer: lines, and the runs of one style that they are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["text", "heading", "item", "row"]


class Run(NamedTuple):
    """A piece of a line in one style. ``href`` is where a link leads."""

    text: str
    bold: bool = False
    code: bool = False
    href: str = ""


class Line(NamedTuple):
    """One line as it is read. Lines of one paragraph have the same ``block``.

    ``plain`` is False where a line may not be what the answer itself states: it is indented like code,
    folded away, inside an HTML element that can hide it, or too long to be parsed. ``depth`` counts the lists
    that an item is in. ``cells`` and ``header`` are those of a table's row, which is never plain.
    """

    runs: tuple[Run, ...]
    kind: Kind
    block: int
    plain: bool = True
    depth: int = 0
    cells: tuple[str, ...] = ()
    header: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)
