"""Context: what a workflow lets a model see. One table of sources, one budget per step, receipts.

A source is a function that yields fragments (``records.Fragment``), file by file; the packer decides what
fits, and where a large change is cut into parts. To add a source, write such a function and add a row to
``SOURCES``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

from aethr.base.errors import UsageError
from aethr.base.records import (
    CHANGE,
    Block,
    Collected,
    Entry,
    Extent,
    Fragment,
    NewVersion,
    Piece,
    Remark,
    Source,
    StepSpec,
    View,
    changes_in,
    is_change,
    is_git_diff,
)
from aethr.base.sanitize import reveal_name
from aethr.base.words import counted, suggest
from aethr.config import WORKFLOW_FILE
from aethr.context import background, evidence, paths
from aethr.context.changes import git_diff, is_wide, latest_diff
from aethr.context.files import Refusal, Tree, WorkTree, git_tree, outline, show, split_base, tree_of
from aethr.context.files import holds as holds
from aethr.context.packer import LISTED, LISTING_CHARS, Packer, Share, by_density, by_place
from aethr.context.paths import refusal

GLOB_FILES = 50
"""At most this many files of one ``glob:`` source are read; the rest are listed as not sent."""


class Claim(IntEnum):
    """When a source gets its share of the budget: those of a lower claim come first, and take what they need.

    A change is cut into parts for the room that ``NAMED`` and ``INTENT`` leave; the others get what a part
    leaves. ``FILES`` is read for each part, once it is known what of the change the part shows.
    """

    CHANGE = 0
    NAMED = 1
    INTENT = 2
    REST = 3
    FILES = 4


class SourceRow(NamedTuple):
    """A source as a workflow writes it: ``name``, or ``name:argument``. ``help`` is one line.

    ``argument`` says whether it takes one. ``runs`` marks a source that runs a program of the project,
    ``late`` one whose content is only known during a run.
    """

    name: str
    help: str
    read: Source
    claim: Claim = Claim.NAMED
    argument: Literal["none", "optional", "required"] = "none"
    runs: bool = False
    late: bool = False

    @property
    def about_change(self) -> bool:
        """Whether it says more about a change, is nothing without one, and is never missed."""
        return self.claim > Claim.NAMED


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
    change = _pack(sources, view, Packer(budget_chars, by_density), Claim.CHANGE)
    if not change.keeps_all() and any(map(_has_more_context, sources)):
        view = view._replace(plain=True)
        change = _pack(sources, view, Packer(budget_chars, by_density), Claim.CHANGE)
    blocks = {n: change.block(n, source) for n, source in enumerate(sources) if is_change(source)}
    if view.again:
        return Collected((tuple(blocks.values()),), extent=_extent(sources, change))
    changed = change.changed(sources) if blocks else None
    others, _ = _fill(sources, view._replace(changed=changed), budget_chars - change.size(), *_OTHERS)
    blocks |= others
    return Collected((tuple(blocks[n] for n in range(len(sources))),), extent=_extent(sources, change))


_OTHERS = (Claim.NAMED, Claim.INTENT, Claim.REST, Claim.FILES)


def _fill(sources: Sequence[str], view: View, left: int, *claims: Claim) -> tuple[dict[int, Block], int]:
    """The blocks of the sources with these claims, by their numbers, and what of the room they leave."""
    blocks: dict[int, Block] = {}
    for claim in claims:
        packer = _pack(sources, view, Packer(left), claim)
        blocks |= {n: packer.block(n, each) for n, each in enumerate(sources) if find(each)[0].claim == claim}
        left -= packer.size()
    return blocks, left


def _pack(sources: Sequence[str], view: View, packer: Packer, claim: Claim) -> Packer:
    """The packer with those of the sources that have this claim."""
    for number, source in enumerate(sources):
        row, argument = find(source)
        if row.claim == claim:
            packer.take(number, row.read(argument, view, packer.budget))
    return packer


class Reader:
    """Reads the context of a run's steps.

    A change is read and cut once for all steps that read it, until a step edits the tree or a command of the
    project runs, which may. ``whole`` are the ids of the steps that get no parts, because an agent cannot be
    split. The lines of a change have numbers if a step reviews.
    """

    def __init__(self, steps: Sequence[StepSpec], whole: Container[str], most_parts: int) -> None:
        self._readers = [each for each in steps if changes_in(each.context) and each.id not in whole]
        self._numbered = any(each.reviewing for each in steps)  # a reviewer names lines
        self._most_parts = most_parts
        self._with_commands = {each.id for each in steps if any(find(name)[0].runs for name in each.context)}
        self._changes: dict[tuple[str, ...], tuple[object, _Change]] = {}
        self._rooms: dict[tuple[str, ...], int] = {}
        self._previews: dict[tuple[object, ...], Collected] = {}
        self._about: dict[tuple[object, ...], tuple[dict[int, Block], int]] = {}

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
        if view.again:
            return Collected(tuple(part.blocks for part in change.parts), change.needed, change.extent)
        largest = min(change.size, change.room)
        named, left = _fill(sources, view, budget - largest, Claim.NAMED)
        intent, left = self._read_about(sources, view, left, Claim.INTENT)
        parts = []
        for part in change.parts:
            own = {n: part.blocks[names.index(each)] for n, each in enumerate(sources) if is_change(each)}
            about_part = view._replace(changed=part.changed)
            room = left + largest - part.size
            rest, _ = self._read_about(sources, about_part, room, Claim.REST, Claim.FILES)
            blocks = {**own, **named, **intent, **rest}
            parts.append(tuple(blocks[n] for n in range(len(sources))))
        return Collected(tuple(parts), change.needed, change.extent)

    def _read_about(
        self, sources: tuple[str, ...], view: View, left: int, *claims: Claim
    ) -> tuple[dict[int, Block], int]:
        """What ``_fill`` gives, read once for all steps until the change is another one."""
        key = (self._count_edits(view), sources, view.changed, left, claims)
        if key not in self._about:
            self._about[key] = _fill(sources, view, left, *claims)
        return self._about[key]

    def _count_edits(self, view: View) -> int:
        """How many finished steps may have edited the tree."""
        return sum(
            each.artifacts is not None or each.check is not None or each.id in self._with_commands
            for each in view.history
        )

    def _change(self, names: tuple[str, ...], view: View) -> _Change:
        """The change of these sources, cut for all steps that read them."""
        edits = self._count_edits(view)
        state = (edits, view.preview and any(find(name)[0].late for name in names), view.strict)
        kept = self._changes.get(names)
        if kept is not None and kept[0] == state and not view.again:
            return kept[1]
        certain = min(
            step.context_chars // 2 if any(map(_needs_room, step.context)) else step.context_chars
            for step in self._readers
            if {*names} & {*step.context}
        )
        packer, parts, needed = self._cut(names, view, certain)
        if (needed > self._most_parts or not packer.keeps_all()) and any(map(_has_more_context, names)):
            packer, parts, needed = self._cut(names, view._replace(plain=True), certain)
        change = _Change(
            parts=tuple(_make_part(packer, names, shares) for shares in parts),
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
                        _, left = _fill(sources, view, budget, Claim.NAMED, Claim.INTENT)
                    rooms.append(max(budget // 2, left))
            self._rooms[names] = min(rooms)
        return self._rooms[names]


def _has_more_context(source: str) -> bool:
    """Whether a change can be shown with less context than this source asks for."""
    return is_git_diff(source) and is_wide(find(source)[1])


class _Part(NamedTuple):
    """A part of a change: a block of each source, its files, and its size in characters."""

    blocks: tuple[Block, ...]
    changed: tuple[NewVersion, ...]
    size: int


class _Change(NamedTuple):
    """A change that was cut. ``size`` is that of everything."""

    parts: tuple[_Part, ...]
    needed: int
    room: int
    size: int
    extent: Extent | None


def _make_part(packer: Packer, names: Sequence[str], shares: Sequence[Share]) -> _Part:
    blocks = tuple(packer.block(number, name, shares) for number, name in enumerate(names))
    return _Part(blocks, packer.changed(names, shares), sum(share.cost() for share in shares))


def _needs_room(source: str) -> bool:
    """Whether a change is cut so that this source has room beside it."""
    return find(source)[0].claim in (Claim.NAMED, Claim.INTENT)


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
    path, on_base = split_base(argument)
    base = view.scope.base_side
    if on_base and (base is None or view.scope.without_base_side):
        yield Remark(f"no {reveal_name(path)} on the base side: nothing comes before this change")
        return
    tree = git_tree(view.root, base, path) if on_base else tree_of(view, path)
    for content in tree.read([path]):
        if on_base and isinstance(content, Refusal) and content.absent:
            yield Remark(f"no file {reveal_name(path)} on the base side, {(base or '')[:12]}")
        else:
            yield from show(argument, 1, content)


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
    listing = tree.names(WORKFLOW_FILE.__ne__)  # `--save` writes that one, and must not change the prompts
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
            yield from show(name, order, content, labelled=True)


_ROWS = (
    SourceRow(
        CHANGE,
        "the change under review; --diff says which; git_diff:<lines> and git_diff:function set the context",
        git_diff,
        Claim.CHANGE,
        "optional",
    ),
    SourceRow(
        "latest_diff",
        "what the most recent implementation step changed",
        latest_diff,
        Claim.CHANGE,
        late=True,
    ),
    SourceRow(
        "changed_files",
        "the new version of each changed file, as far as the change leaves room",
        background.changed_files,
        Claim.FILES,
    ),
    SourceRow("commits", "the messages of the commits of the change", background.commits, Claim.INTENT),
    SourceRow(
        "pull_request",
        "number, title and text of the pull request; in the Action, and with `--pull-request`",
        background.pull_request,
        Claim.INTENT,
    ),
    SourceRow(
        "guidance",
        "AGENTS.md, CLAUDE.md, CONTRIBUTING.md and copilot-instructions.md before the change",
        background.guidance,
        Claim.REST,
    ),
    SourceRow(
        "file",
        "file:<path>, one UTF-8 file of the project; file:<path>@base, before the change",
        _file,
        argument="required",
    ),
    SourceRow("glob", "glob:<pattern>, matching UTF-8 files, sorted; ** works", _glob, argument="required"),
    SourceRow("tree", "the names of the project's files, sorted; large folders are counted", _tree),
    SourceRow(
        "command",
        "command:<words>, what a command of the project prints, and how it ends",
        evidence.source,
        argument="required",
        runs=True,
        late=True,
    ),
)

SOURCES: Mapping[str, SourceRow] = {row.name: row for row in _ROWS}
"""Every context source. Dispatch, help, docs and tests read this table."""
