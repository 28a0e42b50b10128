"""Pictures of the results, as SVG for any page.

``svg`` shows how much of what is allowed each figure uses; ``beside`` shows Aethr beside other tools, for the
README: ``python -m benchmarks.plot`` draws it anew from ``results.json``, as each complete run does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

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


# --- beside other tools --------------------------------------------------------------------------

FOLDER = Path(__file__).parent
ASKED = (
    ("startup", "`aethr --help`", "start: --help"),
    ("first-token", "first token", "first word of an answer"),
)
"""The row of the results, its figure for Aethr, and what that is."""
THEMES = {"light": ("#1f2328", "#0969da", "#afb8c1"), "dark": ("#f0f6fc", "#4493f8", "#4c5560")}
"""Text, the bar of Aethr, the bars of the others."""
_PEER = re.compile(r"peer (?P<tool>(?!aethr)\S+) (?P<version>[\d.]+): .*")


def beside(results: Mapping[str, Any], theme: str) -> str:
    """The seconds of Aethr and of other tools that do the same work, each with a bar."""
    text, own, other = THEMES[theme]
    lines = list(_list_times(results))
    slowest = max(seconds for _, seconds, _ in lines)
    height = 26 * len(lines) + 12
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">',
        "<title>Seconds to start, and to the first word of an answer, beside other tools</title>",
    ]
    for number, (name, seconds, is_own) in enumerate(lines):
        y, width = 26 * number + 8, max(2.0, 380 * seconds / slowest)
        weight = ' font-weight="600"' if is_own else ""
        drawn += [
            f'<text x="290" y="{y + 13}" fill="{text}" text-anchor="end"{weight}>{escape(name)}</text>',
            f'<rect x="300" y="{y}" width="{width:.1f}" height="17" fill="{own if is_own else other}"/>',
            f'<text x="{308 + width:.1f}" y="{y + 13}" fill="{text}"{weight}>{seconds:.2f} s</text>',
        ]
    return "\n".join([*drawn, "</svg>", ""])


def _list_times(results: Mapping[str, Any]) -> Iterator[tuple[str, float, bool]]:
    """A bar: its name, its seconds, and whether it is Aethr's."""
    figures = {row["name"]: row["figures"] for row in results["rows"]}
    for row, what, said in ASKED:
        for figure in figures[row]:
            if figure["what"] == what:
                yield f"Aethr, {said}", figure["value"], True
            elif found := _PEER.fullmatch(figure["what"]):
                yield f"{found['tool']} {found['version']}, {said}", figure["value"], False


def write_beside(results: Mapping[str, Any]) -> None:
    """Write the picture for each theme, if other tools were measured (``--peers``)."""
    for theme in THEMES if not all(is_own for _, _, is_own in _list_times(results)) else ():
        path = FOLDER / f"beside-{theme}.svg"
        path.write_text(beside(results, theme), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_beside(json.loads((FOLDER / "results.json").read_text(encoding="utf-8")))
