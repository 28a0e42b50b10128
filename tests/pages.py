"""The fenced blocks of the Markdown pages, and the marks above them that say how each is tested.

A mark is an HTML comment on the line above the fence, so a reader of the page does not see it:

    <!-- run: WORLD -->      the commands run in a fresh repository, see ``tests/worlds.py``; behind ``;``
                             may stand ``answers: NAME``, ``agent: NAME`` and ``exit: CODE``
    <!-- needs: WHAT -->     the commands need what no test has: a key, a network, a program
    <!-- its output -->      what the block above prints; a line ``…`` stands for any lines
    <!-- file: NAME -->      a file: checked as what its name says, and there for the commands below it
                             in the same section
    <!-- part: WHAT -->      a piece of such a file, checked as a part of one
    <!-- example -->         text that shows a form, and is no output of a command
    <!-- first command -->, <!-- test command -->  the README's two, run by their own tests
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "cases" / "README.md",
)
ALLOWED = {
    "sh": {"run", "needs", "first command", "test command", "file"},
    "yaml": {"file", "part"},
    "json": {"file"},
    "text": {"its output", "example", "file"},
}
"""For each language that a block may have, the marks that it may have."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>\S*)\n(?P<text>.*?)^ *(?P=fence)$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``line`` is that of its fence, from 1; ``section`` the line of the heading above.

    ``kind`` is the word of its mark, ``about`` what stands behind the colon; both empty without a mark.
    """

    page: str
    section: int
    line: int
    language: str
    kind: str
    about: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        before = text[: match.start()].splitlines()
        mark = _MARK.fullmatch(before[-1].strip()) if before else None
        kind, _, about = mark[1].partition(": ") if mark else ("", "", "")
        headings = [number for number, line in enumerate(before, 1) if line.startswith("## ")]
        yield Block(
            page=str(page.relative_to(ROOT)),
            section=headings[-1] if headings else 0,
            line=len(before) + 1,
            language=match["language"],
            kind=kind,
            about=about,
            text=re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
        )


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def output_of(block: Block) -> Block | None:
    """The block that shows what this one prints, where the next one does."""
    following = BLOCKS[BLOCKS.index(block) + 1 :][:1]
    return next((each for each in following if each.page == block.page and each.kind == "its output"), None)


def files_for(block: Block) -> dict[str, str]:
    """The files of its section that stand above a block, by name."""
    return {
        each.about: each.text
        for each in of_kind("file")
        if (each.page, each.section) == (block.page, block.section) and each.line < block.line
    }
