"""Context: what a workflow lets a model see. One table of sources, one budget a step, receipts.

A source is a function that yields parts (``records.Part``), file by file; the packer decides what
fits. A new source is one such function and one row of ``SOURCES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from aethr.base.errors import UsageError
from aethr.base.records import (
    CHANGE,
    Block,
    Collect,
    Entry,
    Gap,
    Part,
    Piece,
    Remark,
    Source,
    View,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import suggest
from aethr.context import evidence, paths
from aethr.context.changes import POINTER, git_diff, latest_diff
from aethr.context.diffs import is_pointer
from aethr.context.files import Refusal, Tree, tree_of
from aethr.context.files import holds as holds
from aethr.context.packer import LISTED, Packer
from aethr.context.paths import refusal

GLOB_FILES = 50
"""Files of one ``glob:`` source that are read; the rest are named as not sent."""

BINARY_SNIFF = 8000
"""Bytes in which a NUL means binary, as in git."""


class SourceRow(NamedTuple):
    """A source as a workflow writes it: ``name``, or ``name:argument``. ``help`` is one line.

    ``runs`` is True for a source that runs a program of the project, ``late`` for one whose content is
    known only while a run is on.
    """

    name: str
    help: str
    read: Source
    takes_argument: bool = False
    runs: bool = False
    late: bool = False


def collect(sources: tuple[str, ...], budget_chars: int, view: View) -> tuple[Block, ...]:
    """One block for each source, in their order, together within the budget in characters.

    Lines that Aethr adds about what is missing are outside of the budget, and bounded. The same tree
    gives the same blocks. Raises ``UsageError`` for an unknown source, ``GitError`` for a repository
    that git cannot read; what is merely absent or refused is a line in its block.
    """
    packer = Packer(budget_chars)
    for number, source in enumerate(sources):
        row, argument = find(source)
        packer.take(number, row.read(argument, view, budget_chars))
    return tuple(packer.block(number, source) for number, source in enumerate(sources))


def collector(sources: tuple[str, ...], budget_chars: int) -> Collect:
    """``collect`` with its sources bound. A preview reads once what depends on no step: nothing changes."""
    late = any(find(source)[0].late for source in sources)

    @lru_cache(1)
    def once(view: View) -> tuple[Block, ...]:
        return collect(sources, budget_chars, view)

    def collected(view: View) -> tuple[Block, ...]:
        if view.preview and not late:
            return once(view._replace(history=()))
        return collect(sources, budget_chars, view)

    return collected


def find(source: str) -> tuple[SourceRow, str]:
    """The row and the argument that a source in a workflow names. Raises ``UsageError``."""
    name, colon, argument = source.partition(":")
    row = SOURCES.get(name)
    if row is None:
        raise UsageError(
            f"unknown context source {source!r}{suggest(name, SOURCES)}", f"Known: {', '.join(SOURCES)}."
        )
    if row.takes_argument and not argument:
        raise UsageError(f"context source {source!r} needs an argument", f"Write {name}:<{row.name}>.")
    if colon and not row.takes_argument:
        raise UsageError(f"context source {name!r} takes no argument", f"Write {name}.")
    return row, argument


def _file(argument: str, view: View, _budget_chars: int, /) -> Iterator[Part]:
    for content in tree_of(view, argument).read([argument]):
        yield from _content(argument, 1, content)


def _glob(argument: str, view: View, _budget_chars: int, /) -> Iterator[Part]:
    refused = refusal(argument)
    if refused is not None:
        yield Remark(f"not read: {refused}", complete=False)
        return
    tree = tree_of(view)
    pattern = paths.pattern(argument)
    # A link or a submodule is listed by its own name, as no folder that has files is.
    folders = {argument[:at] for at, character in enumerate(argument) if character == "/"}
    wanted = re.compile("|".join([pattern.pattern, *map(re.escape, sorted(folders))]), pattern.flags)
    listing = tree.names(wanted.fullmatch)
    behind = min(folders.intersection(listing.names), default=None)
    matches = listing.names if behind is None else tuple(filter(pattern.fullmatch, listing.names))
    if behind is not None:
        yield Remark(f"not read: {reveal_name(behind)} is a link or another repository", complete=False)
    elif not matches:
        yield Remark("no file matches")
    yield from _matched(tree, matches)
    if listing.cut:
        yield Remark("this folder has too many files to look at all of them", complete=False)


def _matched(tree: Tree, names: Sequence[str]) -> Iterator[Part]:
    """Each file under a line with its name and length; a folder, or a file deleted meanwhile, is none."""
    files = 0
    contents = tree.read(names)
    for order, name in enumerate(names):
        if files == GLOB_FILES:
            yield from _over_the_cap(names, order)
            return
        content = next(contents)
        if not (isinstance(content, Refusal) and content.absent):
            files += 1
            yield from _content(name, order, content, labelled=True)


def _over_the_cap(names: Sequence[str], first: int) -> Iterator[Part]:
    """The names that a block shows; the rest is a number, or every record would list a whole repository."""
    over = f"over the cap of {GLOB_FILES} files"
    for order, name in enumerate(names[first : first + LISTED], start=first):
        yield Entry(reveal_name(name), order, withheld=over)
    more = len(names) - first - LISTED
    if more > 0:
        yield Remark(f"{more:,} more files match, {over}", complete=False)


def _content(name: str, order: int, content: bytes | Refusal, labelled: bool = False) -> Iterator[Part]:
    """One file, whole, or the reason why it is not sent."""
    shown = reveal_name(name)
    if isinstance(content, Refusal):
        yield Entry(shown, order, withheld=content.reason)
        return
    text = _text(content)
    if text is None:
        kind = "binary" if b"\0" in content[:BINARY_SNIFF] else "not UTF-8 text"
        yield Entry(shown, order, withheld=kind)
        yield Piece(None, len(content))
        return
    label = f"[file: {shown}, {len(text.splitlines()):,} lines]\n" if labelled else ""
    revealed, count = reveal(text)
    yield Entry(shown, order, label=label if text else f"[file: {shown}, empty]\n")
    yield Piece(revealed, len(content), revealed=count)
    if is_pointer(content):
        yield Gap(POINTER)


def _text(content: bytes) -> str | None:
    if b"\0" in content[:BINARY_SNIFF]:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


_ROWS = (
    SourceRow(CHANGE, "the change under review; --diff says which", git_diff),
    SourceRow("latest_diff", "what the most recent implementation step changed", latest_diff, late=True),
    SourceRow("file", "file:<path>, one UTF-8 file of the project", _file, takes_argument=True),
    SourceRow("glob", "glob:<pattern>, matching UTF-8 files, sorted; ** works", _glob, takes_argument=True),
    SourceRow(
        "command",
        "command:<words>, what a command of the project prints, and how it ends",
        evidence.source,
        takes_argument=True,
        runs=True,
        late=True,
    ),
)

SOURCES: Mapping[str, SourceRow] = {row.name: row for row in _ROWS}
"""Every context source there is. Dispatch, help, docs and tests read this table."""
