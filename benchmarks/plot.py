"""A picture of the results: how much of what is allowed each figure uses, as SVG for any page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from benchmarks.figures import Figure

WIDTH, LABELS, LINE, BAR = 960, 470, 22, 12
LIMIT = 2.0
"""A bar ends here, with an arrow: so many times what is allowed."""
TEXT, GOOD, BAD, GRID = "#7b838c", "#2f9e5b", "#d9622b", "#9aa1a8"
"""Tones between black and white, to be read on both."""


def svg(figures: Iterable[tuple[str, Figure]]) -> str:
    """A bar for each figure that has a reach; a line is the reach. With each comes its row's name."""
    asked = [(row, figure) for row, figure in figures if figure.reach]
    height = LINE * (len(asked) + 2)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img">'
    )
    title = "<title>Score of each figure as a part of the most that it should be</title>"
    return "\n".join([head, title, *_scale(height), *_bars(asked), "</svg>", ""])


def _scale(height: int) -> Iterator[str]:
    for part, label in (
        (0.0, "0"),
        (0.5, "half"),
        (1.0, "all that is allowed"),
        (1.5, "1.5 times"),
        (LIMIT, "2 times"),
    ):
        x, dash = _x(part), "" if part == 1 else ' stroke-dasharray="2 4"'
        yield f'<line x1="{x}" y1="{LINE}" x2="{x}" y2="{height - 6}" stroke="{GRID}"{dash}/>'
        yield _text(x, LINE - 8, label, "middle")


def _bars(asked: Iterable[tuple[str, Figure]]) -> Iterator[str]:
    for number, (row, figure) in enumerate(asked):
        y = LINE * (number + 1) + 6
        part = max(0.0, figure.score / (figure.reach or 1))
        end = _x(min(part, LIMIT))
        colour = GOOD if figure.holds else BAD
        yield _text(LABELS - 8, y + BAR - 2, f"{row}: {figure.what.replace('`', '')}", "end")
        yield f'<rect x="{LABELS}" y="{y}" width="{end - LABELS:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        if part > LIMIT:
            yield _text(end + 4, y + BAR - 2, f"▸ {part:.1f}", "start")


def _x(part: float) -> float:
    return round(LABELS + part / LIMIT * (WIDTH - LABELS - 50), 1)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{TEXT}" text-anchor="{anchor}">{escape(text)}</text>'
