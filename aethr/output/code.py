"""The change as a page shows it: its lines with numbers, signs, colours, and the findings below them (pure).

It shows what prompts had of the change, and nothing else: what was never sent is not there to be shown.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from aethr.base.records import Finding, RunResult
from aethr.base.sanitize import terminal
from aethr.context.diffs import without_numbers

LINES = 20_000
"""At most this many lines of the change are on a page: with 100,000 a browser takes long to open it."""
CHARACTERS = 4_000_000
LINE_CHARACTERS = 1_000
COLOURED = 300_000
"""This many characters are coloured: Pygments takes about a second for them."""
COLOURED_LINE = 200
"""Some expressions of Pygments take seconds for hostile lines of 500 characters. A hunk with a line over
this has no colour."""

_HEAD = re.compile(r"@@ -(\d{1,15})(?:,\d+)? \+(\d{1,15})(?:,\d+)? @@")

_NEW, _OLD = (" ", "+", ""), (" ", "-", "")
"""How the lines of each side begin. Some tools remove the space of an empty line."""

_LANGUAGES = {
    "bash": "bash sh zsh",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp",
    "csharp": "cs",
    "css": "css",
    "dart": "dart",
    "docker": "containerfile dockerfile",
    "elixir": "ex exs",
    "go": "go",
    "haskell": "hs",
    "html": "htm html vue",
    "ini": "cfg ini",
    "java": "java",
    "javascript": "cjs js jsx mjs",
    "json": "json",
    "kotlin": "kt kts",
    "lua": "lua",
    "make": "makefile mk",
    "perl": "pl pm",
    "php": "php",
    "powershell": "ps1",
    "python": "py pyi",
    "ruby": "rb",
    "rust": "rs",
    "scss": "scss",
    "sql": "sql",
    "swift": "swift",
    "terraform": "hcl tf",
    "toml": "toml",
    "typescript": "cts mts ts tsx",
    "xml": "xml",
    "yaml": "yaml yml",
    "zig": "zig",
}
_LEXERS = {suffix: lexer for lexer, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}
"""The names of Pygments' lexers by suffix, or by the whole name of a file, in lower case."""


_COLOURS = {
    "Comment": "c",
    "Keyword": "k",
    "Operator.Word": "k",
    "Name.Tag": "k",
    "Literal.String": "s",
    "Literal.Number": "n",
    "Name.Function": "f",
    "Name.Class": "f",
    "Name.Decorator": "f",
}
"""The class of each kind of token in the page's style."""


class NumberedFinding(NamedTuple):
    """A finding with the number by which a page links to it, from 1."""

    number: int
    found: Finding


class DiffLine(NamedTuple):
    """A line of a hunk: its sign, its numbers on both sides, its text as HTML, and the findings below it."""

    sign: str
    old: int | None
    new: int | None
    html: Markup
    findings: tuple[NumberedFinding, ...] = ()


class DiffHunk(NamedTuple):
    """``head`` is git's line with ``@@``; empty for text that is not a hunk, such as a new mode."""

    head: str
    lines: tuple[DiffLine, ...]


class DiffFile(NamedTuple):
    """A file of the change. ``apart`` are its findings whose line is not shown, ``hidden`` lines left out."""

    path: str
    hunks: tuple[DiffHunk, ...]
    apart: tuple[NumberedFinding, ...] = ()
    hidden: int = 0

    @property
    def findings(self) -> tuple[NumberedFinding, ...]:
        """Those that stand below their lines."""
        return tuple(each for hunk in self.hunks for line in hunk.lines for each in line.findings)

    @property
    def size(self) -> int:
        """How many lines it shows."""
        return sum(len(hunk.lines) for hunk in self.hunks)


def read_files(result: RunResult, findings: Iterable[NumberedFinding] = ()) -> tuple[DiffFile, ...]:
    """The files of the change in the order of the prompts, each as the last step saw it that saw it.

    Where there is no room for all, the files with findings come first.
    """
    beside: dict[str, list[NumberedFinding]] = {}
    for each in findings:
        if each.found.path and each.found.place != "nowhere":
            beside.setdefault(each.found.path, []).append(each)
    texts, reader = _last_texts(result), _Reader()
    files: dict[str, DiffFile] = {}
    for path in sorted(texts, key=lambda path: path not in beside):
        before = reader.hidden
        hunks = [hunk for text in texts[path] if (hunk := reader.read(path, text)).lines]
        files[path] = _place(path, hunks, beside.get(path, ()), reader.hidden - before)
    return tuple(files[path] for path in texts)


def _last_texts(result: RunResult) -> dict[str, list[str]]:
    """The hunks of each file, from the last turn whose prompts show it."""
    prompts = {prompt.key: prompt for prompt in result.prompts}
    found: dict[str, tuple[tuple[str, int], list[str]]] = {}
    keys = [*(step.key for step in result.steps), *(call.key for call in result.unanswered)]
    for key in keys:
        prompt = prompts.get(key)
        for shown in prompt.change if prompt is not None else ():
            turn = key[:2]
            if shown.path not in found or found[shown.path][0] != turn:
                found[shown.path] = turn, []
            found[shown.path][1].extend(shown.texts)
    return {path: texts for path, (_, texts) in found.items()}


def _place(
    path: str, hunks: Sequence[DiffHunk], findings: Iterable[NumberedFinding], hidden: int
) -> DiffFile:
    """The file with its findings: each below the last of its lines that is shown, or else apart."""
    shown = {line.new for hunk in hunks for line in hunk.lines if line.new is not None}
    below: dict[int, list[NumberedFinding]] = {}
    apart = []
    for each in findings:
        last = next((line for line in (each.found.end_line, each.found.line) if line in shown), None)
        if last is None:
            apart.append(each)
        else:
            below.setdefault(last, []).append(each)
    placed = []
    for hunk in hunks:
        lines = (
            line._replace(findings=tuple(below.pop(line.new, ()))) if line.new is not None else line
            for line in hunk.lines
        )
        placed.append(hunk._replace(lines=tuple(lines)))
    return DiffFile(path, tuple(placed), tuple(apart), hidden)


class _Reader:
    """Reads hunks as long as there is room for their lines, and colours them as long as there is for that.

    ``hidden`` are the lines that did not fit.
    """

    def __init__(self) -> None:
        self.hidden = 0
        self._lines, self._characters, self._coloured = LINES, CHARACTERS, COLOURED

    def read(self, path: str, text: str) -> DiffHunk:
        head, _, body = without_numbers(terminal(text)).partition("\n")
        ranges = _HEAD.match(head)
        if ranges is None:
            head, body = "", f"{head}\n{body}"
        lines = self._fit(body.removesuffix("\n").split("\n"))
        if ranges is None:
            return DiffHunk("", tuple(DiffLine("", None, None, show(line)) for line in lines))
        new = self._paint(path, [line[1:] for line in lines if line[:1] in _NEW])
        old = self._paint(path, [line[1:] for line in lines if line[:1] in _OLD])
        return DiffHunk(head, tuple(_number(lines, int(ranges[1]), int(ranges[2]), old, new)))

    def _fit(self, lines: Sequence[str]) -> Sequence[str]:
        """The first lines, as many as there is room for."""
        sizes = itertools.accumulate(min(len(line), LINE_CHARACTERS) for line in lines[: self._lines])
        ends = list(itertools.takewhile(lambda end: end <= self._characters, sizes))
        self._lines -= len(ends)
        self._characters -= ends[-1] if ends else 0
        self.hidden += len(lines) - len(ends)
        return lines[: len(ends)]

    def _paint(self, path: str, lines: Sequence[str]) -> Iterator[Markup]:
        """The lines as HTML. Colour that could not be right to the last character is left out."""
        code = "\n".join(lines)
        name = path.rpartition("/")[2].lower()
        lexer = _LEXERS.get(name.rpartition(".")[2])
        too_much = len(code) > self._coloured or any(len(line) > COLOURED_LINE for line in lines)
        if lexer is None or too_much or not code:
            return map(show, lines)
        self._coloured -= len(code)
        from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

        tokens = list(get_lexer_by_name(lexer, stripnl=False, ensurenl=False).get_tokens(code))
        if "".join(value for _, value in tokens) != code:
            return map(show, lines)
        painted = Markup("").join(
            Markup("\n").join(_mark(kind, piece) for piece in value.split("\n")) for kind, value in tokens
        )
        return map(Markup, painted.split("\n"))


def _number(
    lines: Iterable[str], old_at: int, new_at: int, old: Iterator[Markup], new: Iterator[Markup]
) -> Iterator[DiffLine]:
    for line in lines:
        match line[:1]:
            case "+":
                yield DiffLine("+", None, new_at, next(new))
                new_at += 1
            case "-":
                yield DiffLine("-", old_at, None, next(old))
                old_at += 1
            case " " | "":
                next(old)
                yield DiffLine(" ", old_at, new_at, next(new))
                old_at, new_at = old_at + 1, new_at + 1
            case _:  # git's own remark that no newline follows
                yield DiffLine("", None, None, show(line))


def show(line: str) -> Markup:
    """A line of code as HTML, cut if it is very long."""
    if len(line) <= LINE_CHARACTERS:
        return escape(line)
    more = f"… {len(line) - LINE_CHARACTERS:,} more characters"
    return Markup('{}<span class="cut">{}</span>').format(line[:LINE_CHARACTERS], more)


def _mark(kind: object, text: str) -> Markup:
    """A token with the class of its colour."""
    colour = next((_COLOURS[name] for name in _COLOURS if f"{kind}.".startswith(f"Token.{name}.")), None)
    return Markup('<span class="{}">{}</span>').format(colour, text) if colour else escape(text)
