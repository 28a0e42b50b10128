"""A streaming parser for the output of ``git diff``: bytes in any chunks -> files -> hunks.

Nothing is lost: the joined headers and hunks are the input. Memory is bounded by one hunk of at most
``limit`` bytes. Every line of content begins with a space, ``+``, ``-`` or ``\\``, so any other line is git's
own (``diff.suppressBlankEmpty`` must be off: https://git-scm.com/docs/git-config).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count, groupby
from typing import NamedTuple

from aethr.base.records import Lines

_OPENS = re.compile(rb"\n(?=diff --(?:git|cc|combined) |@@|\* Unmerged path )")
_LOOKAHEAD = 24
"""This many bytes after a newline suffice to tell what its line opens."""

_CHANGED = re.compile(rb"\n[+-]")
"""One search for both signs takes half the time of two."""

_RANGES = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_RANGES_BYTES = 80
"""At most this many bytes of a hunk's first line come before its second ``@@``."""

HEAD = re.compile(r"@@ -[0-9,]+ \+([0-9]{1,15})(?:,([0-9]{1,15}))? @@")
"""The first line of a hunk as text, with the range of the new side."""

CONTEXT = 3
"""The lines of context around each change that git shows by default."""

_LINE = re.compile(rb"[^\n]+(?:\n\\[^\n]*)*\n?|\n")
"""A line of a hunk, with git's remark that no newline follows it."""

_GITLINK = re.compile(
    rb"\n(?:(?:new file |deleted file |new )?mode [0-7,]*160000|index \S+ 160000)(?=\n|\.\.)"
)
_FIELDS = re.compile(rb"\n(rename from|rename to|copy to|---|\+\+\+) ([^\n]*)")
_IDS = re.compile(rb"\nindex ([0-9a-f]+)\.\.([0-9a-f]+)")
_DIRTY = re.compile(rb"@@ -1 \+1 @@\n-Subproject commit ([0-9a-f]+)\n\+Subproject commit \1-dirty\n")
_FROM_THE_TOP = re.compile(rb"@@ -\S+ \+1(?:,\d+)? @@")
_POINTER = re.compile(rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v1\n(?:.*\n)*?oid ")
"""The beginning of a git-lfs pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
_OF_A_POINTER = re.compile(
    rb"(?:ext-.*\n)*(?:version https://(?:git-lfs|hawser)\.github\.com/spec/v1\n|oid sha256:[0-9a-f]{64}\n)"
    rb"(?:ext-.*\n|oid sha256:[0-9a-f]{64}\n|size \d+\n)*"
)
"""Some lines of a pointer and nothing else: all that a diff without context shows of one."""

_ESCAPED = re.compile(rb'\\([0-3][0-7]{2}|[abfnrtv"\\])')
_ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b'"': 34, b"\\": 92}


class Section(NamedTuple):
    """One file of a diff. ``header`` is everything before its first hunk, byte for byte.

    ``path`` is the file's name after the change (before it, for a deletion) and ``old_path`` its name
    before a rename, both unquoted; ``path`` is empty for text before the first file. ``binary`` is
    True if git only says that binary files differ, ``unmerged`` during a merge: git then shows nothing, or
    only the lines that differ from both sides.
    """

    header: bytes
    path: bytes
    old_path: bytes | None = None
    binary: bool = False
    unmerged: bool = False

    @property
    def deleted(self) -> bool:
        """Whether the change removes this file."""
        return b"\ndeleted file mode " in self.header

    @property
    def submodule(self) -> bool:
        """Whether this is a submodule: the diff shows its commit, not its files."""
        return _GITLINK.search(self.header) is not None

    @property
    def ids(self) -> tuple[str, str] | None:
        """The short ids before and after, zeros for a missing file; None without an ``index`` line."""
        found = _IDS.search(self.header)
        return (found[1].decode(), found[2].decode()) if found else None


class Hunk(NamedTuple):
    """One hunk of the last section. ``text`` is None if its ``size`` in bytes is over the limit.

    ``changed`` counts added and removed lines, ``added`` only added ones; ``nul`` says whether the hunk
    contains a NUL byte.
    """

    text: bytes | None
    size: int
    changed: int
    nul: bool
    added: int = 0

    @property
    def lines(self) -> Lines | None:
        """Its lines on the new side; None if it has none there."""
        ranges = _RANGES.match((self.text or b"")[:_RANGES_BYTES])
        if ranges is None or ranges[4] == b"0":
            return None
        first = int(ranges[3])
        return Lines(first, first + int(ranges[4] or 1) - 1)

    @property
    def dirty_submodule(self) -> bool:
        """Whether this shows a submodule at the same commit with uncommitted changes."""
        return self.text is not None and _DIRTY.fullmatch(self.text) is not None

    @property
    def pointer(self) -> bool:
        """Whether the new version is a git-lfs pointer: the diff does not show the file itself."""
        if self.text is None or (b"/spec/v1" not in self.text and b"oid sha256:" not in self.text):
            return False
        head, *lines = self.text.split(b"\n")
        new = b"".join(line[1:] + b"\n" for line in lines if line[:1] in (b" ", b"+"))
        if _OF_A_POINTER.fullmatch(new):
            return True
        return _FROM_THE_TOP.match(head) is not None and is_pointer(new)


class Row(NamedTuple):
    """A file of a change, before its content: a line of ``git diff --raw``.

    ``old_path`` is its name before a rename. ``modes`` are octal text, zeros where there is no file.
    """

    path: bytes
    old_path: bytes | None
    modes: tuple[str, ...]

    @property
    def names(self) -> tuple[bytes, ...]:
        """Every name that the file has in the change."""
        return (self.path,) if self.old_path is None else (self.old_path, self.path)

    @property
    def plain(self) -> bool:
        """Whether both sides are files that are not executable (not a link, not a submodule), or missing."""
        return set(self.modes) <= {"100644", "000000"} and self.modes != ("000000", "000000")

    @property
    def is_submodule(self) -> bool:
        return "160000" in self.modes


_ROW = re.compile(rb":([0-7]{6}) ([0-7]{6}) [0-9a-f]+ [0-9a-f]+ [A-Z][0-9]*\t([^\t\n]*)(?:\t([^\t\n]*))?")


def is_combined(raw: bytes) -> bool:
    """Whether ``git diff --raw`` lists files with two old versions: those whose merge is unfinished."""
    return raw.startswith(b"::") or b"\n::" in raw


def rows(raw: bytes) -> Iterator[Row]:
    """The files that ``git diff --raw`` lists."""
    for line in raw.split(b"\n"):
        row = _ROW.fullmatch(line)
        if line.startswith(b"::"):  # its merge is unfinished: it has more sides than two
            yield Row(unquote(line.rpartition(b"\t")[2]), None, ("000000", "000000"))
        elif row is not None:
            old, new = (unquote(row[3]), unquote(row[4])) if row[4] else (None, unquote(row[3]))
            yield Row(new, old, (row[1].decode(), row[2].decode()))


def parse(chunks: Iterable[bytes], limit: int) -> Iterator[Section | Hunk]:
    """The files of a diff, each followed by its hunks, in input order."""
    current: _Open | None = None
    for starts, fragment in _fragments(chunks):
        if current is None or starts:
            if current is not None:
                yield current.close()
            signs = len(fragment) - len(fragment.lstrip(b"@"))
            current = _Open(limit, columns=max(0, signs - 1))
        current.add(fragment)
    if current is not None:
        yield current.close()


def narrow(hunk: Hunk) -> Iterator[Hunk]:
    """The hunks that git prints with its three lines of context, of one with more.

    git names a function after ``@@``: only a first hunk that begins where the wide one does has that name. A
    hunk without more context, or whose lines are not known, stays as it is.
    """
    ranges = _RANGES.match(hunk.text or b"")
    head, _, body = (hunk.text or b"").partition(b"\n")
    lines = _LINE.findall(body)
    near = bytearray(len(lines))
    for at, line in enumerate(lines):
        if line[:1] in (b"+", b"-"):
            begin, end = max(0, at - CONTEXT), min(len(lines), at + CONTEXT + 1)
            near[begin:end] = b"\1" * (end - begin)
    if ranges is None or all(near) or not any(near):
        yield hunk
        return
    old, new = _first_lines(ranges)
    after = head[ranges.end() :]
    for is_near, group in groupby(zip(near, lines, strict=True), key=lambda each: each[0]):
        piece, old, new = _piece(old, new, b"".join(line for _, line in group), after)
        after = b""
        if is_near:
            yield piece


def split(hunk: Hunk, size: int) -> Iterator[Hunk]:
    """A hunk cut between lines; a piece is a ``@@`` line and at most ``size`` bytes or one line.

    A hunk that is not larger, or whose lines are not known, stays as it is. Lines that are the same on both
    sides are left out where they alone fill a piece.
    """
    ranges = _RANGES.match(hunk.text or b"")
    if hunk.text is None or hunk.size <= size or ranges is None:
        yield hunk
        return
    head, _, body = hunk.text.partition(b"\n")
    old, new = _first_lines(ranges)
    begin = 0
    while begin < len(body):
        end = body.rfind(b"\n", begin, begin + size) + 1 if begin + size < len(body) else len(body)
        if end <= begin:  # a line that is longer
            end = body.find(b"\n", begin) + 1 or len(body)
        while body.startswith(b"\\", end):  # it belongs to the line before it
            end = body.find(b"\n", end) + 1 or len(body)
        piece, old, new = _piece(old, new, body[begin:end], head[ranges.end() :])
        if piece.changed:
            yield piece
        begin = end


def _first_lines(ranges: re.Match[bytes]) -> tuple[int, int]:
    """The number of the next line on each side: git names the line before a side without lines."""
    old, new = (int(ranges[at]) + (ranges[at + 1] == b"0") for at in (1, 3))
    return old, new


def _piece(old: int, new: int, body: bytes, after: bytes) -> tuple[Hunk, int, int]:
    """Lines as a hunk that begins at these lines, and the numbers of the lines that follow it."""
    lines = b"\n" + body
    added, removed, same = (lines.count(b"\n" + sign) for sign in (b"+", b"-", b" "))
    numbers = (
        b"%d" % line if many == 1 else b"%d,%d" % (line - (not many), many)
        for line, many in ((old, same + removed), (new, same + added))
    )
    text = b"@@ -%b +%b @@%b\n" % (*numbers, after) + body
    hunk = Hunk(text, len(text), added + removed, b"\0" in body, added)
    return hunk, old + same + removed, new + same + added


def number(hunk: str) -> str:
    """A hunk with the line number of the new side in front of each line, or with blanks if it is not there.

    The numbers are aligned on the right, and one space follows them. A hunk without lines on the new side, or
    with other lines than its ``@@`` line announces, stays as it is.
    """
    head, _, body = hunk.partition("\n")
    ranges = HEAD.match(head)
    lines = body.split("\n")
    there = [line[:1] in (" ", "+") for line in lines]
    if ranges is None or not any(there) or sum(there) != int(ranges[2] or 1):
        return hunk
    numbers = count(int(ranges[1]))
    width = len(str(int(ranges[1]) + sum(there) - 1))
    numbered = (
        f"{next(numbers) if new else '':>{width}} {line}" if line else line
        for new, line in zip(there, lines, strict=True)
    )
    return "\n".join([head, *numbered])


def without_numbers(hunk: str) -> str:
    """The hunk of which ``number`` made this one, exactly; any other text stays as it is.

    The last number is as wide as all of them, and no line of git begins with a digit, so both cannot be
    mistaken for each other.
    """
    head, _, body = hunk.partition("\n")
    ranges = HEAD.match(head)
    if ranges is None:
        return hunk
    width = len(str(int(ranges[1]) + int(ranges[2] or 1) - 1))
    plain = "\n".join([head, *(line[width + 1 :] for line in body.split("\n"))])
    return plain if number(plain) == hunk else hunk


def is_pointer(content: bytes) -> bool:
    """Whether a file is a git-lfs pointer, which stands for a file stored elsewhere."""
    return _POINTER.match(content) is not None


def unquote(name: bytes) -> bytes:
    """The path that git printed as it is or, with C escapes, in double quotes."""
    if len(name) < 2 or not name.startswith(b'"') or not name.endswith(b'"'):
        return name
    return _ESCAPED.sub(_unescape, name[1:-1])


def _fragments(chunks: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Cut the input before each line that opens a section or a hunk; True marks such a cut.

    The last newline waits until enough follows to tell what its line opens, so no such line and no counted
    ``\\n+`` is ever split. An extra newline before the input, removed again, makes the first line match like
    any other.
    """
    tail, virtual = b"\n", 1
    for chunk in chain(chunks, [None]):
        data = tail + (chunk or b"")
        hold = -1 if chunk is None else data.rfind(b"\n", max(0, len(data) - _LOOKAHEAD))
        end = len(data) if hold < 0 else hold
        for starts, fragment in _cut(data, end):
            if len(fragment) > virtual:
                yield starts, fragment[virtual:]
            virtual = 0
        tail = data[end:]


def _cut(data: bytes, end: int) -> Iterator[tuple[bool, bytes]]:
    start, starts = 0, False
    for newline in _OPENS.finditer(data):
        if newline.start() >= end:
            break
        yield starts, data[start : newline.start() + 1]
        start, starts = newline.start() + 1, True
    if start < end:
        yield starts, data[start:end]


class _Open:
    """A section or a hunk while its bytes arrive.

    ``columns`` is the number of ``+``/``-`` columns, 0 for a section.
    """

    def __init__(self, limit: int, columns: int) -> None:
        self.limit = limit
        self.columns = columns
        self.fragments: list[bytes] = []
        self.size = 0
        self.changed = 0
        self.opening = b""
        self.plus = 0
        self.nul = False

    def add(self, fragment: bytes) -> None:
        self.size += len(fragment)
        if self.columns == 0 or self.size <= self.limit:
            self.fragments.append(fragment)
        else:
            self.fragments.clear()
        if self.columns > 0:
            if len(self.opening) < _RANGES_BYTES:
                self.opening += fragment[:_RANGES_BYTES]
            if self.columns == 1:
                self.changed += len(_CHANGED.findall(fragment))
            else:
                self.changed += _lines_with(b"+-", fragment, self.columns)
                self.plus += _lines_with(b"+", fragment, self.columns)
            self.nul = self.nul or b"\0" in fragment

    def close(self) -> Section | Hunk:
        if self.columns == 0:
            return _section(b"".join(self.fragments))
        text = b"".join(self.fragments) if self.size <= self.limit else None
        added = self.plus
        if ranges := _RANGES.match(self.opening):  # faster than another search through the lines
            longer = int(ranges[4] or 1) - int(ranges[2] or 1)
            added = max(0, min(self.changed, (self.changed + longer) // 2))
        return Hunk(text, self.size, self.changed, self.nul, added)


def _lines_with(signs: bytes, fragment: bytes, columns: int) -> int:
    """Lines of a combined diff with one of these signs in their first columns."""
    return len(re.findall(rb"\n {0,%d}[%b]" % (columns - 1, signs), fragment))


def _section(header: bytes) -> Section:
    first = header.partition(b"\n")[0]
    binary = b"\nBinary files " in header or b"\nGIT binary patch" in header
    for opening in (b"* Unmerged path ", b"diff --cc ", b"diff --combined "):
        if first.startswith(opening):
            return Section(header, unquote(first[len(opening) :]), binary=binary, unmerged=True)
    if not first.startswith(b"diff --git "):
        return Section(header, b"")
    names = first[len(b"diff --git ") :]
    same = _without_prefix(names[len(names) // 2 + 1 :])
    fields = dict(reversed(_FIELDS.findall(header)))
    old = fields.get(b"rename from")
    new = fields.get(b"rename to") or fields.get(b"copy to")
    path = unquote(new) if new else _side(fields, b"+++") or _side(fields, b"---") or same
    return Section(header, path, None if old is None else unquote(old), binary)


def _side(fields: Mapping[bytes, bytes], sign: bytes) -> bytes | None:
    """The name in a ``---`` or ``+++`` line. git appends a tab to a name with a space."""
    name = fields.get(sign)
    return None if name in (None, b"/dev/null") else _without_prefix(name.removesuffix(b"\t"))


def _without_prefix(name: bytes) -> bytes:
    plain = unquote(name)
    return plain[2:] if plain.startswith((b"a/", b"b/")) else plain


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([_ESCAPES[code] if code in _ESCAPES else int(code, 8)])
