"""Context: what a workflow lets a model see. One table of sources, one budget per step, receipts.

A source is a function that yields fragments (``records.Fragment``), file by file; the packer decides what
fits, and where a large change is cut into parts. To add a source, write such a function and add a row to
``SOURCES``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from aethr.base.errors import UsageError
from aethr.base.records import (
    CHANGE,
    Block,
    Collected,
    Entry,
    Extent,
    Fragment,
    Gap,
    Piece,
    Remark,
    Source,
    StepSpec,
    View,
    changes_in,
    is_change,
    is_git_diff,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import counted, suggest
from aethr.context import evidence, paths
from aethr.context.changes import POINTER, git_diff, is_wide, latest_diff
from aethr.context.diffs import is_pointer
from aethr.context.files import Refusal, Tree, WorkTree, outline, tree_of
from aethr.context.files import holds as holds
from aethr.context.packer import LISTED, LISTING_CHARS, Packer, Share, by_density, by_place
from aethr.context.paths import refusal

GLOB_FILES = 50
"""At most this many files of one ``glob:`` source are read; the rest are listed as not sent."""

BINARY_SNIFF = 8000
"""A NUL in this many first bytes means binary, as in git (``buffer_is_binary`` in its xdiff-interface.c)."""


class SourceRow(NamedTuple):
    """A source as a workflow writes it: ``name``, or ``name:argument``. ``help`` is one line.

    ``argument`` says whether it takes one. ``runs`` marks a source that runs a program of the project,
    ``late`` one whose content is only known during a run.
    """

    name: str
    help: str
    read: Source
    argument: Literal["none", "optional", "required"] = "none"
    runs: bool = False
    late: bool = False


def collect(sources: tuple[str, ...], budget_chars: int, view: View) -> tuple[Block, ...]:
    """One block per source, in the given order, together within the budget in characters; nothing is cut.

    The change comes before every other source. The lines about missing content do not count towards the
    budget; their number is bounded. The same tree gives the same blocks. Raises ``UsageError`` for an unknown
    source and ``GitError`` for a repository that git cannot read. A missing or refused file is a line in its
    block.
    """
    [blocks] = _collect_whole(sources, budget_chars, view).parts
    return blocks


def _collect_whole(sources: tuple[str, ...], budget_chars: int, view: View) -> Collected:
    change = _pack(sources, budget_chars, view, Packer(budget_chars, by_density), of_change=True)
    if not change.keeps_all() and any(map(_has_more_context, sources)):
        view = view._replace(plain=True)
        change = _pack(sources, budget_chars, view, Packer(budget_chars, by_density), of_change=True)
    others = _pack(sources, budget_chars, view, Packer(budget_chars - change.size()), of_change=False)
    blocks = tuple(
        (change if is_change(source) else others).block(number, source)
        for number, source in enumerate(sources)
    )
    return Collected((blocks,), extent=_extent(sources, change))


def _pack(
    sources: Sequence[str], budget_chars: int, view: View, packer: Packer, *, of_change: bool
) -> Packer:
    """The packer with those of the sources that are a change, or with the others."""
    for number, source in enumerate(sources):
        if is_change(source) == of_change:
            row, argument = find(source)
            packer.take(number, row.read(argument, view, budget_chars))
    return packer


class Reader:
    """Reads the context of a run's steps.

    A change is read and cut once for all steps that read it, until a step edits the tree or a command of the
    project runs, which may. ``whole`` are the ids of the steps that get no parts, because an agent cannot be
    split. The lines of a change have numbers if a step reviews.
    """

    def __init__(self, steps: Sequence[StepSpec], whole: Container[str], most_parts: int) -> None:
        self._readers = [each for each in steps if changes_in(each.context) and each.id not in whole]
        self._most_parts = most_parts
        self._numbered = any(each.reviewing for each in steps)
        self._with_commands = {each.id for each in steps if any(find(name)[0].runs for name in each.context)}
        self._changes: dict[tuple[str, ...], tuple[object, _Change]] = {}
        self._rooms: dict[tuple[str, ...], int] = {}
        self._previews: dict[tuple[object, ...], Collected] = {}

    def collect(self, step: StepSpec, view: View) -> Collected:
        """The context of a step: what ``collect`` gives, or that for each part of the change.

        Raises ``UsageError`` and ``GitError`` as it does. A preview reads once what no step changes.
        """
        view = view._replace(numbered=self._numbered)
        late = any(find(source)[0].late for source in step.context)
        if not view.preview or late:
            return self._collect(step, view)
        key = (step.context, step.context_chars, step in self._readers, view._replace(history=()))
        if key not in self._previews:
            self._previews[key] = self._collect(step, view)
        return self._previews[key]

    def _collect(self, step: StepSpec, view: View) -> Collected:
        sources, budget = step.context, step.context_chars
        if step not in self._readers:
            return _collect_whole(sources, budget, view)
        names = tuple(source for source in sources if is_change(source))
        change = self._change(names, view)
        left = budget - min(change.size, change.room)
        others = _pack(sources, budget, view, Packer(left), of_change=False)
        shared = [None if is_change(source) else others.block(n, source) for n, source in enumerate(sources)]
        parts = tuple(
            tuple(block or part[names.index(sources[n])] for n, block in enumerate(shared))
            for part in change.parts
        )
        return Collected(parts, change.needed, change.extent)

    def _change(self, names: tuple[str, ...], view: View) -> _Change:
        """The change of these sources, cut for all steps that read them."""
        edits = sum(
            each.artifacts is not None or each.check is not None or each.id in self._with_commands
            for each in view.history
        )
        state = (edits, view.preview and any(find(name)[0].late for name in names), view.strict)
        kept = self._changes.get(names)
        if kept is not None and kept[0] == state and not view.again:
            return kept[1]
        certain = min(
            step.context_chars if all(map(is_change, step.context)) else step.context_chars // 2
            for step in self._readers
            if {*names} & {*step.context}
        )
        packer, parts, needed = self._cut(names, view, certain)
        if (needed > self._most_parts or not packer.keeps_all()) and any(map(_has_more_context, names)):
            packer, parts, needed = self._cut(names, view._replace(plain=True), certain)
        change = _Change(
            parts=tuple(
                tuple(packer.block(number, name, shares) for number, name in enumerate(names))
                for shares in parts
            ),
            needed=needed,
            room=packer.room,
            size=packer.size(),
            extent=_extent(names, packer),
        )
        if not view.again:
            self._changes[names] = state, change
        return change

    def _cut(
        self, names: tuple[str, ...], view: View, room: int
    ) -> tuple[Packer, Sequence[Sequence[Share]], int]:
        """These sources in parts, and how many parts they need. ``room`` is that of a small change."""
        packer = Packer(room * self._most_parts, by_place, room)
        for number in range(len(names)):
            packer.take(number, self._read(names, number, view, packer))
        return packer, *packer.cut(self._most_parts)

    def _read(self, names: tuple[str, ...], number: int, view: View, packer: Packer) -> Iterator[Fragment]:
        """The fragments of one of these sources. When they exceed the packer's room, it gets all of the room.

        A small change fits the room that is certain, so no other context is read for it.
        """
        row, argument = find(names[number])
        fragments = row.read(argument, view, packer.room)
        size = packer.size()
        for fragment in fragments:
            if isinstance(fragment, Entry):
                size += len(fragment.label) + len(fragment.header)
            elif isinstance(fragment, Piece):
                size += len(fragment.text or "")
            if size > packer.room:
                packer.room = self._measure_room(names, view)
                packer.budget = packer.room * self._most_parts
                yield fragment
                yield from fragments
                return
            yield fragment

    def _measure_room(self, names: tuple[str, ...], view: View) -> int:
        """The room in each step that reads one of these: what the other context leaves, at least half.

        What commands print is not known before; such a step keeps half of its budget for it.
        """
        if names not in self._rooms:
            rooms = []
            for step in self._readers:
                if {*names} & {*step.context}:
                    sources, budget = step.context, step.context_chars
                    left = 0
                    if not any(find(source)[0].runs for source in sources):
                        left = budget - _pack(sources, budget, view, Packer(budget), of_change=False).size()
                    rooms.append(max(budget // 2, left))
            self._rooms[names] = min(rooms)
        return self._rooms[names]


def _has_more_context(source: str) -> bool:
    """Whether a change can be shown with less context than this source asks for."""
    return is_git_diff(source) and is_wide(find(source)[1])


class _Change(NamedTuple):
    """A change that was cut: for each part a block of each source. ``size`` is that of everything."""

    parts: tuple[tuple[Block, ...], ...]
    needed: int
    room: int
    size: int
    extent: Extent | None


def _extent(sources: Sequence[str], packer: Packer) -> Extent | None:
    """The size of the change under review, if it is one of these sources."""
    return next((packer.extent(n) for n, source in enumerate(sources) if is_git_diff(source)), None)


def most_chars(sources: Sequence[str], budget_chars: int) -> int:
    """The most characters of these sources in a prompt: the budget, and the lines about the rest."""
    return budget_chars + LISTING_CHARS * len(sources)


def find(source: str) -> tuple[SourceRow, str]:
    """The row and the argument of a source as written in a workflow. Raises ``UsageError``."""
    name, colon, argument = source.partition(":")
    row = SOURCES.get(name)
    if row is None:
        raise UsageError(
            f"unknown context source {source!r}{suggest(name, SOURCES)}", f"Known: {', '.join(SOURCES)}."
        )
    if not argument and (row.argument == "required" or (colon and row.argument == "optional")):
        raise UsageError(f"context source {source!r} needs an argument", f"Write {name}:<{row.name}>.")
    if colon and row.argument == "none":
        raise UsageError(f"context source {name!r} takes no argument", f"Write {name}.")
    return row, argument


def _file(argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    for content in tree_of(view, argument).read([argument]):
        yield from _content(argument, 1, content)


def _glob(argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
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


def _tree(_argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    """The names of the project's files; a project so large that they do not fit misses nothing."""
    tree = tree_of(view)
    listing = tree.names(bool)
    names = listing.names
    if isinstance(tree, WorkTree):  # git lists files that have been deleted
        names = tuple(name for name in names if os.path.lexists(view.root / name))
    if names:
        text = "".join(f"{line}\n" for line in outline(names))
        yield Entry("file names", 1, label=f"[{counted(len(names), 'file')}]\n", extra=True)
        yield Piece(text, len(text.encode()))
    else:
        yield Remark("no files")
    if listing.cut:
        yield Remark("this folder has too many files; some are not listed")


def _up_to_cap(tree: Tree, names: Sequence[str]) -> Iterator[Fragment]:
    """Each file below a line with its name and length; folders, and files deleted meanwhile, do not count.

    The block lists some of the files over the cap and counts the rest: a record must not list a whole
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


def _content(name: str, order: int, content: bytes | Refusal, labelled: bool = False) -> Iterator[Fragment]:
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
    SourceRow(
        CHANGE,
        "the change under review; --diff says which; git_diff:<lines> and git_diff:function set the context",
        git_diff,
        "optional",
    ),
    SourceRow("latest_diff", "what the most recent implementation step changed", latest_diff, late=True),
    SourceRow("file", "file:<path>, one UTF-8 file of the project", _file, "required"),
    SourceRow("glob", "glob:<pattern>, matching UTF-8 files, sorted; ** works", _glob, "required"),
    SourceRow("tree", "the names of the project's files, sorted; large folders are counted", _tree),
    SourceRow(
        "command",
        "command:<words>, what a command of the project prints, and how it ends",
        evidence.source,
        "required",
        runs=True,
        late=True,
    ),
)

SOURCES: Mapping[str, SourceRow] = {row.name: row for row in _ROWS}
"""Every context source. Dispatch, help, docs and tests read this table."""
