"""Context: what a workflow lets a model see. One table of sources, one budget per step, receipts.

A source is a function that yields parts (``records.Part``), file by file; the packer decides what
fits. To add a source, write such a function and add a row to ``SOURCES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from aethr.base.errors import UsageError
from aethr.base.records import CHANGE, Block, Collect, Entry, Gap, Part, Piece, Remark, Source, View
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
"""At most this many files of one ``glob:`` source are read; the rest are listed as not sent."""

BINARY_SNIFF = 8000
"""A NUL in this many first bytes means binary, as in git (``buffer_is_binary`` in its xdiff-interface.c)."""


class SourceRow(NamedTuple):
    """A source as a workflow writes it: ``name``, or ``name:argument``. ``help`` is one line.

    ``runs`` marks a source that runs a program of the project, ``late`` one whose content is only
    known during a run.
    """

    name: str
    help: str
    read: Source
    takes_argument: bool = False
    runs: bool = False
    late: bool = False


def collect(sources: tuple[str, ...], budget_chars: int, view: View) -> tuple[Block, ...]:
    """One block per source, in the given order, together within the budget in characters.

    The lines about missing content do not count towards the budget; their number is bounded. The same tree
    gives the same blocks. Raises ``UsageError`` for an unknown source and ``GitError`` for a repository
    that git cannot read. A missing or refused file is a line in its block.
    """
    packer = Packer(budget_chars)
    for number, source in enumerate(sources):
        row, argument = find(source)
        packer.take(number, row.read(argument, view, budget_chars))
    return tuple(packer.block(number, source) for number, source in enumerate(sources))


def collector(sources: tuple[str, ...], budget_chars: int) -> Collect:
    """``collect`` with its sources bound. A preview reads sources that do not depend on a step once."""
    late = any(find(source)[0].late for source in sources)

    @lru_cache(1)
    def once(view: View) -> tuple[Block, ...]:
        return collect(sources, budget_chars, view)

    def collect_for(view: View) -> tuple[Block, ...]:
        if view.preview and not late:
            return once(view._replace(history=()))
        return collect(sources, budget_chars, view)

    return collect_for


def find(source: str) -> tuple[SourceRow, str]:
    """The row and the argument of a source as written in a workflow. Raises ``UsageError``."""
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
    # git lists links and submodules by name, but never folders: a match here means that the pattern leads
    # through a link or a submodule.
    folders = {argument[:at] for at, character in enumerate(argument) if character == "/"}
    wanted = re.compile("|".join([pattern.pattern, *map(re.escape, sorted(folders))]), pattern.flags)
    listing = tree.names(wanted.fullmatch)
    behind = min(folders.intersection(listing.names), default=None)
    matches = listing.names if behind is None else tuple(filter(pattern.fullmatch, listing.names))
    if behind is not None:
        yield Remark(f"not read: {reveal_name(behind)} is a link or another repository", complete=False)
    elif not matches:
        yield Remark("no file matches")
    yield from _up_to_cap(tree, matches)
    if listing.cut:
        yield Remark("this folder has too many files; some were not searched", complete=False)


def _up_to_cap(tree: Tree, names: Sequence[str]) -> Iterator[Part]:
    """Each file below a line with its name and length; folders, and files deleted meanwhile, do not count.

    Of the files over the cap a block lists some and counts the rest: a record must not list a whole
    repository.
    """
    files = 0
    over = f"over the cap of {GLOB_FILES} files"
    contents = tree.read(names)
    for order, name in enumerate(names):
        if files >= GLOB_FILES + LISTED:
            yield Remark(f"{len(names) - order:,} more files match, {over}", complete=False)
            return
        if files >= GLOB_FILES:
            files += 1
            yield Entry(reveal_name(name), order, withheld=over)
            continue
        content = next(contents)
        if not (isinstance(content, Refusal) and content.absent):
            files += 1
            yield from _content(name, order, content, labelled=True)


def _content(name: str, order: int, content: bytes | Refusal, labelled: bool = False) -> Iterator[Part]:
    """A whole file, or the reason why it is not sent."""
    shown = reveal_name(name)
    if isinstance(content, Refusal):
        yield Entry(shown, order, withheld=content.reason)
        return
    withheld = "binary" if b"\0" in content[:BINARY_SNIFF] else None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text, withheld = "", withheld or "not UTF-8 text"
    if withheld:
        yield Entry(shown, order, withheld=withheld)
        yield Piece(None, len(content))
        return
    label = f"[file: {shown}, {len(text.splitlines()):,} lines]\n" if labelled else ""
    revealed, count = reveal(text)
    yield Entry(shown, order, label=label if text else f"[file: {shown}, empty]\n")
    yield Piece(revealed, len(content), revealed=count)
    if is_pointer(content):
        yield Gap(POINTER)


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
"""Every context source. Dispatch, help, docs and tests read this table."""
