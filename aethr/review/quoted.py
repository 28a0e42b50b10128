"""The code that an answer quotes below its lines (pure).

Quoted code may look like anything: a heading, a finding, a status. Fenced blocks are code to every reader of
Markdown. Indented lines often are not, because a list is above them. So they are found in the source, and
where code has found them in the prompt (``StepResult.quotes``), they are not read as words of the answer.
Other indented lines are read as Markdown has them, but never count for a pass.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from aethr.review.lines import Code, Line

LONGEST = 60
"""In lines: nobody quotes more."""
_MOST = 300
"""How many indented blocks of an answer are looked at."""

_MARGINS = (0, 2, 3, 4, 6)
"""By how much Markdown can make one indent code below an item."""

_BLANK = re.compile(r"\s*\Z")
_FENCE = re.compile(r"\s*(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,9}[.)])\s")
_OWNER = re.compile(rf"{_ITEM.pattern}|#{{1,6}}\s|\W{{0,9}}[\[(【]|\W{{0,9}}\w{{1,30}}\W{{0,9}}:|.*\w:\d")
"""A line that code can belong to: an item, a heading, or what may be a finding."""
_STATUS = re.compile(r"\breview[\s_-]*(?:status|verdict|decision|result|outcome)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\s*(\d{1,7})(?: ?[:|] ?| |\Z)")


class _Owner(NamedTuple):
    """A line that code can belong to: its number and its indentation."""

    number: int
    depth: int


class Scan(NamedTuple):
    """The lines of an answer, and what of them is indented below an item, a heading or a finding.

    ``indented`` are the numbers of such lines, ``blocks`` what may be code among them, where a part of a
    block may be one, too.
    """

    lines: tuple[str, ...]
    indented: frozenset[int] = frozenset()
    blocks: tuple[Code, ...] = ()

    def without(self, texts: Container[str]) -> Scan:
        """The source with empty lines instead of the blocks that are one of these texts.

        The last word on the status stays, wherever it stands: it may be against a pass.
        """
        lines, gone = list(self.lines), []
        last = max((number for number, line in enumerate(lines) if _STATUS.search(line)), default=-1)
        for block in self.blocks:
            if not block.first <= last <= block.last and any(text in texts for text in block.readings):
                lines[block.first : block.last + 1] = [""] * (block.last + 1 - block.first)
                gone.append(block)
        blank = {number for block in gone for number in range(block.first, block.last + 1)}
        return self._replace(lines=tuple(lines), indented=self.indented - blank)


def scan(text: str) -> Scan:
    """Find the indented lines of an answer."""
    lines = tuple(re.sub(r"\r\n?", "\n", text).split("\n"))
    indented: set[int] = set()
    blocks: list[Code] = []
    begun, above = -1, 0  # the owner above, and the indentation of the line above
    for number, owner in _below_owners(lines):
        depth = _indentation(lines[number])
        indented.add(number)
        # What is indented by less than four may be the finding's words, with code below them.
        after_words = above < owner.depth + 4 and (depth >= owner.depth + 4 or not lines[number - 1].strip())
        if (owner.number != begun or after_words) and len(blocks) < _MOST:
            blocks += _block(lines, number, owner.depth)
        begun, above = owner.number, depth
    return Scan(lines, frozenset(indented), tuple(blocks))


def _below_owners(lines: Sequence[str]) -> Iterator[tuple[int, _Owner]]:
    """The numbers of the lines outside of fences that are indented below an owner, and that owner."""
    fence = ""
    owner: _Owner | None = None
    for number, line in enumerate(lines):
        depth, mark = _indentation(line), _FENCE.match(line)
        if fence:
            ends = mark is not None and mark["fence"].startswith(fence) and _BLANK.match(line, mark.end())
            fence = "" if ends else fence
        elif mark:
            fence = mark["fence"]
        elif _BLANK.match(line):
            continue
        elif owner and depth >= owner.depth + (4 if _ITEM.match(line) else 2):
            yield number, owner
        elif _OWNER.match(line) and not _STATUS.search(line):
            owner = _Owner(number, depth)
        elif _STATUS.search(line) or (owner and _ITEM.match(lines[owner.number])):
            owner = None


def attach(lines: Sequence[Line], codes: Iterable[Code]) -> tuple[Line, ...]:
    """The lines, each with the code that comes before the next one."""
    below: dict[int, list[Code]] = {}
    placed = [at for at, line in enumerate(lines) if line.at >= 0]
    starts = [lines[at].at for at in placed]
    for code in sorted(codes, key=lambda each: (each.first, -each.last)):
        if above := bisect_left(starts, code.first):
            below.setdefault(placed[above - 1], []).append(code)
    return tuple(
        line._replace(code=tuple(below[at])) if at in below else line for at, line in enumerate(lines)
    )


def code_below(lines: Sequence[Line], at: int, end: int | None = None) -> Iterator[Code]:
    """The code that belongs to ``lines[at]``: below it, in its list item or under its heading.

    That of ``lines[end]`` belongs to something else.
    """
    own = lines[at]
    yield from own.code
    for number in range(at + 1, len(lines) if end is None else end):
        line = lines[number]
        inside = line.depth > own.depth or (line.kind == "text" and line.depth == own.depth)
        if not inside or line.kind in ("heading", "row") or _STATUS.search(line.text):
            break
        yield from line.code


def read_code(lines: Sequence[str], first: int, last: int, margins: Sequence[int] = (0,)) -> Code:
    """The code that lines of an answer can be; Markdown's part of the indentation is one of the margins."""
    plain, prefix = dedent(lines)
    kinds = {"\n".join(plain): tuple(prefix[each:] for each in margins if not prefix[:each].strip(" "))}
    numbered = strip_numbers(plain)
    for stripped in (numbered, strip_signs(plain), numbered and strip_signs(numbered)):
        if stripped:
            code, own = dedent(stripped)
            kinds.setdefault("\n".join(code), (own,))
    return Code(tuple(kinds), first, last, indents=tuple(kinds.values()))


def strip_numbers(lines: Sequence[str]) -> list[str] | None:
    """The lines without the line numbers in front; None if they have none, or not one after the other."""
    found = [_NUMBER.match(line) for line in lines]
    numbers = [int(each[1]) for each in found if each is not None]
    width = max((each.end(1) for each in found if each is not None), default=0)
    rest = [line for line, each in zip(lines, found, strict=True) if each is None]
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    if any(line[:width].strip() for line in rest):
        return None
    return [
        line[each.end() :] if each is not None else line[width + 1 :]
        for line, each in zip(lines, found, strict=True)
    ]


def strip_signs(lines: Sequence[str]) -> list[str] | None:
    """The lines of a diff without their signs; None if they are not those of a diff."""
    signs = {line[:1] for line in lines}
    return [line[1:] for line in lines] if signs <= {"+", "-", " ", ""} and signs & {"+", "-"} else None


def _block(lines: Sequence[str], first: int, owner: int) -> Iterator[Code]:
    """The lines from this one on that are indented as deep; nothing if they are too many."""
    last, depth = first, _indentation(lines[first])
    for number in range(first + 1, min(len(lines), first + LONGEST + 1)):
        line = lines[number]
        if _BLANK.match(line):
            continue
        if _indentation(line) < depth or _FENCE.match(line):
            break
        last = number
    if last - first < LONGEST:
        yield read_code(lines[first : last + 1], first, last, [owner + more for more in _MARGINS])


def _indentation(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())


def dedent(lines: Sequence[str]) -> tuple[list[str], str]:
    """The lines without the empty ones around them and the white space that all begin with; and that."""
    written = [at for at, line in enumerate(lines) if line.strip()]
    if not written:
        return [], ""
    kept = [line if line.strip() else "" for line in lines[written[0] : written[-1] + 1]]
    common = min((line[: len(line) - len(line.lstrip())] for line in kept if line), key=len)
    while not all(line.startswith(common) for line in kept if line):
        common = common[:-1]
    return [line[len(common) :] for line in kept], common
