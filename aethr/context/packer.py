"""Fits context into a budget, or a change into parts, with a receipt for each file.

While the sum is over the budget, the worst piece is dropped. In a change that is sent in one go, this is the
one with the fewest changed lines for its size; source is kept before tests, tests before the rest, and the
old text of deleted files comes last. Among other files it is the largest one, generated files first. The
header of a file counts with its first kept piece; a file without pieces is its header. Kept pieces stay in
their order.

The packer works on a stream, and ``_floor`` makes the result the same as sorting all pieces: a piece worse
than a dropped one can never be kept, because the sum only grows. So the budget bounds the memory, however
large the change is.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from aethr.base.records import (
    Block,
    Entry,
    Extent,
    Fragment,
    Gap,
    NewVersion,
    Piece,
    Receipt,
    Remark,
    Shown,
    is_change,
)
from aethr.base.words import counted
from aethr.context import parts
from aethr.context.exclusion import guides, importance, is_generated

LISTED = 50
"""At most this many files are listed as not sent at the end of a block; the receipts list all."""

NAME_CHARS = 200
"""Maximum length of a file's name in such a line."""

LISTING_CHARS = (LISTED + 10) * (NAME_CHARS + 100)
"""More than the lines about missing content have in one block."""

UNITS = 1_000
"""About how many units a file is cut into at most, so that millions of hunks take little memory."""

DELETED = 3
"""The importance of a deleted file, after those of ``exclusion.importance``."""

DELETED_TEXT = "deleted; its old text is not sent"

Rank: TypeAlias = tuple[int, ...]
"""Smaller is worse."""


class Item:
    """A file while its pieces arrive. ``kept`` maps a piece's number to the piece.

    For each piece, kept or not, ``chars`` has its length in characters, ``sizes`` its bytes as they were
    read, and ``changed`` the number of its changed lines. ``added`` and ``removed`` are sums.
    """

    __slots__ = (
        "added",
        "changed",
        "chars",
        "entry",
        "gaps",
        "importance",
        "kept",
        "number",
        "removed",
        "sizes",
        "source",
        "withheld",
    )

    def __init__(self, entry: Entry, source: int, number: int) -> None:
        self.entry = entry
        self.source = source
        self.number = number
        self.withheld = entry.withheld
        self.importance = DELETED if entry.deleted else importance(entry.path)
        self.kept: dict[int, Piece] = {}
        self.chars, self.sizes, self.changed = array("I"), array("I"), array("I")
        self.added = 0
        self.removed = 0
        self.gaps: list[str] = []

    @property
    def overhead(self) -> int:
        """Characters that count with the first kept piece."""
        return len(self.entry.label) + len(self.entry.header)

    @property
    def excluded(self) -> str | None:
        """The rule that excludes the file. What cannot be shown, such as a git-lfs pointer, is missing."""
        return None if self.gaps else self.entry.excluded

    @property
    def place(self) -> tuple[int, int]:
        return self.source, self.entry.order

    def cost(self) -> int:
        """The file's current share of the budget, in characters."""
        return sum(self.chars[number] for number in self.kept) + self.overhead * bool(self.kept)


def by_size(item: Item, number: int) -> Rank:
    """The rank of a piece of a file that is not a change."""
    generated = item.withheld is None and is_generated(item.entry.path)
    return (not generated, -item.chars[number], -item.source, -item.entry.order, -number)


def by_density(item: Item, number: int) -> Rank:
    """The rank of a piece of a change that is sent in one go."""
    density = 1000 * item.changed[number] // (item.chars[number] or 1)
    return (-item.importance, density, -item.chars[number], -item.source, -item.entry.order, -number)


def by_place(item: Item, number: int) -> Rank:
    """The rank of a piece of a change that is cut into parts: what belongs to the last ones goes first."""
    return (-item.importance, -item.source, -item.entry.order, -number)


class Share(NamedTuple):
    """The pieces of a file, by their numbers, that belong to one part.

    ``over`` says why those that are not kept are not sent; if ``sent`` is False, none of them is.
    """

    item: Item
    numbers: range
    over: str
    sent: bool = True

    @property
    def kept(self) -> list[Piece]:
        kept = self.item.kept
        return [kept[number] for number in self.numbers if number in kept] if self.sent and kept else []

    @property
    def changed(self) -> int:
        return sum(self.item.changed[self.numbers.start : self.numbers.stop])

    @property
    def size(self) -> int:
        return sum(self.item.sizes[self.numbers.start : self.numbers.stop])

    def cost(self) -> int:
        """Its share of the budget, in characters."""
        kept = self.kept
        return sum(len(piece.text or "") for piece in kept) + self.item.overhead * bool(kept)


class Packer:
    """Takes the fragments of one source after the other, then gives their blocks.

    ``budget`` is that of all together, ``room`` the maximum size of a piece (default: the budget), both in
    characters.
    """

    def __init__(
        self, budget: int, rank: Callable[[Item, int], Rank] = by_size, room: int | None = None
    ) -> None:
        self.budget = budget
        self.room = budget if room is None else room
        self._rank = rank
        self._items: list[Item] = []
        self._remarks: list[tuple[int, Remark]] = []
        self._heap: list[tuple[Rank, int, int]] = []
        self._floor: Rank | None = None
        self._total = 0

    def take(self, source: int, fragments: Iterable[Fragment]) -> None:
        """Add all fragments of the source with this number. An ``Entry`` comes before its pieces."""
        item: Item | None = None
        for fragment in fragments:
            if isinstance(fragment, Remark):
                self._remarks.append((source, fragment))
            elif isinstance(fragment, Entry):
                self._settle(item)
                item = Item(fragment, source, len(self._items))
                self._items.append(item)
            else:
                assert item is not None, "a fragment before the first entry"
                if isinstance(fragment, Piece):
                    self._add(item, fragment)
                elif isinstance(fragment, Gap):
                    item.gaps.append(fragment.note)
                else:
                    self._total -= item.cost()
                    item.kept.clear()
                    item.withheld = fragment.reason
        self._settle(item)

    def size(self) -> int:
        """The characters that count towards the budget."""
        return self._total

    def keeps_all(self) -> bool:
        """Whether no piece is lost, apart from withheld files and the old text of deleted ones."""
        return all(
            item.withheld is not None or item.entry.deleted or len(item.kept) == len(item.sizes)
            for item in self._items
        )

    def changed(self, names: Sequence[str], shares: Sequence[Share] | None = None) -> tuple[NewVersion, ...]:
        """The files of a change, or of one part of it. ``names`` are its sources, by their numbers."""
        return tuple(
            NewVersion(
                names[share.item.source],
                share.item.entry.name,
                tuple(piece.lines for piece in share.kept if piece.lines is not None),
            )
            for share in (self.all() if shares is None else shares)
            if share.item.entry.name is not None and share.item.withheld is None and not share.item.gaps
        )

    def extent(self, source: int) -> Extent | None:
        """The size of the change of the source with this number; None if there is none."""
        items = [item for item in self._items if item.source == source]
        if self._has_change(source, items) is None:
            return None
        return Extent(
            files=len({item.entry.path for item in items}),
            added=sum(item.added for item in items),
            removed=sum(item.removed for item in items),
        )

    def all(self) -> list[Share]:
        """All files in one part."""
        over = f"over the budget of {self.budget:,} characters"
        return [Share(item, range(len(item.sizes)), over) for item in self._items]

    def cut(self, most: int) -> tuple[list[list[Share]], int]:
        """The files in at most ``most`` parts, and the number of parts that all of them need.

        The last one lists what none of them has. A file that is larger than the room is cut between its
        pieces. The old text of a deleted file takes only what is left.
        """
        in_order = sorted(self._items, key=lambda item: (item.importance, *item.place))
        units = [unit for item in in_order for unit in self._units(item)]
        found = parts.cut([sized for _, sized in units], self.room) or [range(0)]
        cut = [_join(share for share, _ in units[part.start : part.stop]) for part in found[:most]]
        for part, shares in zip(found, cut, strict=False):
            left = self.room - sum(sized.size for _, sized in units[part.start : part.stop])
            for at, share in enumerate(shares):
                item = share.item
                if item.entry.deleted and len(item.kept) == len(item.sizes) and item.cost() <= left:
                    left -= item.cost()
                    shares[at] = share._replace(sent=True)
        over = f"over the limit of {most} parts"
        cut[-1] += [
            Share(share.item, share.numbers, over, sent=False)
            for part in found[most:]
            for share, _ in units[part.start : part.stop]
        ]
        return cut, len(found)

    def block(self, source: int, name: str, shares: Sequence[Share] | None = None) -> Block:
        """The prompt's block of the source with this number, called ``name``, with its files in ``shares``.

        By default these are all.
        """
        own = [share for share in (self.all() if shares is None else shares) if share.item.source == source]
        own.sort(key=lambda share: (share.item.place, share.numbers.start))
        remarks = [remark for number, remark in self._remarks if number == source]
        return Block(
            source=name,
            text=_text(own, remarks),
            receipts=(
                *(_receipt(name, share) for share in own),
                *(
                    Receipt(name, None, 0, note=each.text, complete=each.complete, empty=each.empty)
                    for each in remarks
                ),
            ),
            change=self._has_change(source, own) if is_change(name) else None,
            shown=tuple(
                Shown(
                    share.item.entry.path,
                    tuple(piece.text or "" for piece in share.kept),
                    share.item.entry.numbered,
                    guides(share.item.entry.path),
                )
                for share in own
                if share.kept
            ),
        )

    def _has_change(self, source: int, files: Sequence[object]) -> bool | None:
        """Whether there is a change to read; None if neither a file nor a remark decides that."""
        if files:
            return any(item.excluded is None for item in self._items if item.source == source)
        said = {each.change for number, each in self._remarks if number == source}
        return True if True in said else False if False in said else None

    def _settle(self, item: Item | None) -> None:
        """Finish a file. If it has no pieces, its header becomes its only piece."""
        if item is not None and not item.sizes and item.entry.header:
            header = item.entry.header
            item.entry = item.entry._replace(header="")
            self._add(item, Piece(header, len(header.encode())))

    def _add(self, item: Item, piece: Piece) -> None:
        number = len(item.sizes)
        item.chars.append(len(piece.text or ""))
        item.sizes.append(piece.size)
        item.changed.append(piece.changed)
        item.added += piece.added
        item.removed += piece.removed
        if item.withheld is not None or piece.text is None:
            return
        rank = self._rank(item, number)
        hopeless = len(piece.text) + item.overhead > self.room
        if hopeless or (self._floor is not None and rank < self._floor):
            return
        self._total += len(piece.text) + (0 if item.kept else item.overhead)
        item.kept[number] = piece
        heapq.heappush(self._heap, (rank, item.number, number))
        while self._total > self.budget:
            worst, owner_number, dropped = heapq.heappop(self._heap)
            owner = self._items[owner_number]
            if owner.kept.pop(dropped, None) is not None:  # None if its file has been withheld since
                self._total -= owner.chars[dropped] + (0 if owner.kept else owner.overhead)
                self._floor = worst if self._floor is None else max(self._floor, worst)

    def _units(self, item: Item) -> Iterator[tuple[Share, parts.Sized]]:
        """What of a file is not cut further: all of it, or each of its pieces if it is larger than the room.

        If a file has many pieces, these are runs of the same length.
        """
        everything = range(len(item.sizes))
        over = f"larger than the budget of {self.room:,} characters"
        size = item.overhead + sum(item.chars)
        name = item.entry.path
        if item.entry.deleted:
            yield Share(item, everything, DELETED_TEXT, sent=False), parts.Sized(name, 0)
        elif item.withheld is not None or size <= self.room:
            yield Share(item, everything, over), parts.Sized(name, 0 if item.withheld else size)
        else:
            run = 1 + len(item.sizes) // UNITS
            begin, size = 0, item.overhead
            for number, chars in enumerate(item.chars):
                fits = item.overhead + chars <= self.room
                if number > begin and (number % run == 0 or not fits or size + chars > self.room):
                    yield _unit(item, range(begin, number), size, over)
                    begin, size = number, item.overhead
                size += chars
                if not fits:
                    yield _unit(item, range(number, number + 1), 0, over)
                    begin, size = number + 1, item.overhead
            if begin < len(item.sizes):
                yield _unit(item, range(begin, len(item.sizes)), size, over)


def _unit(item: Item, numbers: range, size: int, over: str) -> tuple[Share, parts.Sized]:
    return Share(item, numbers, over), parts.Sized(f"{item.entry.path}\0{numbers.start}", size)


def _join(shares: Iterable[Share]) -> list[Share]:
    """Neighbouring pieces of a file as one share."""
    joined = []
    for _, group in groupby(shares, key=lambda share: share.item.number):
        first, *rest = group
        if rest:
            first = first._replace(numbers=range(first.numbers.start, rest[-1].numbers.stop))
        joined.append(first)
    return joined


def _text(shares: Sequence[Share], remarks: Sequence[Remark]) -> str:
    """The kept content in order, then what is missing, then the remarks; each on its own lines."""
    texts: list[str] = []
    unsent = []
    for share in shares:
        if not share.kept:
            unsent.append(share)
            continue
        if content := share.item.entry.label + _sent(share.item, share.kept):
            texts.append(content)
        if len(share.kept) < len(share.numbers):
            texts.append(f"[{_short(share.item.entry.path)}: {_lost(share)}]\n")
    texts += _missing("not sent", [share for share in unsent if share.item.excluded is None])
    texts += _missing("excluded by rule", [share for share in unsent if share.item.excluded is not None])
    texts += [f"[{remark.text}]\n" for remark in remarks]
    ended = (text if text.endswith("\n") else text + "\n" for text in texts[:-1])
    return "".join((*ended, *texts[-1:]))


def _sent(item: Item, kept: Sequence[Piece]) -> str:
    return item.entry.header + "".join(piece.text or "" for piece in kept) if kept else ""


def _lost(share: Share) -> str:
    kept = share.kept
    lost = share.changed - sum(piece.changed for piece in kept)
    count = len(share.numbers)
    over = DELETED_TEXT if share.item.entry.deleted else share.over
    return f"{count - len(kept)} of {count} hunks not sent, {counted(lost, 'changed line')}, {over}"


def _missing(said: str, shares: Sequence[Share]) -> list[str]:
    lines = []
    for share in shares[:LISTED]:
        amount = f", {share.size:,} bytes" if share.size and not share.item.excluded else ""
        if share.changed:
            amount = f", {counted(share.changed, 'changed line')}"
        lines.append(f"[{said}: {_short(share.item.entry.path)}{amount}, {_reason(share)}]\n")
    if rest := shares[LISTED:]:
        changed = sum(share.changed for share in rest)
        amount = f", {counted(changed, 'changed line')}" if changed else ""
        lines.append(f"[{said}: {len(rest):,} more files{amount}]\n")
    return lines


def _reason(share: Share) -> str:
    """Why nothing of a file is sent."""
    return share.item.withheld or (DELETED_TEXT if share.item.entry.deleted else share.over)


def _short(name: str) -> str:
    return name if len(name) <= NAME_CHARS else name[:NAME_CHARS] + "…"


def _receipt(source: str, share: Share) -> Receipt:
    item, kept = share.item, share.kept
    sent = _sent(item, kept).encode()
    header = 0 if kept else len(item.entry.header.encode())
    all_sent = len(kept) == len(share.numbers)
    return Receipt(
        source=source,
        path=item.entry.path,
        bytes_sent=len(sent),
        bytes_omitted=header + share.size - sum(piece.size for piece in kept),
        sha256=hashlib.sha256(sent).hexdigest() if kept else None,
        note=_note(share, kept),
        complete=item.excluded is not None
        or item.entry.extra
        or (
            item.entry.complete
            and item.withheld is None
            and not item.gaps
            and (all_sent or item.entry.deleted)
        ),
        changed_lines=share.changed,
        sent_lines=sum(piece.changed for piece in kept),
        added_lines=item.added if item.excluded else 0,
        excluded=item.excluded,
        lines=tuple(piece.lines for piece in kept if piece.lines is not None),
        old_path=item.entry.old_path,
    )


def _note(share: Share, kept: Sequence[Piece]) -> str | None:
    """The receipt's note; None if the file was sent unchanged."""
    item = share.item
    notes = [*([item.entry.note] if item.entry.note else []), *dict.fromkeys(item.gaps)]
    if not kept and (item.withheld or share.numbers):
        notes.append(_reason(share))
    elif len(kept) < len(share.numbers):
        notes.append(_lost(share))
    revealed = sum(piece.revealed for piece in kept)
    if revealed:
        notes.append(f"{revealed:,} invisible characters shown by their code")
    return "; ".join(notes) or None
