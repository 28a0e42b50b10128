"""The packer: which pieces of a step's context fit its budget, and a receipt for each file.

The rule: while the sum is over the budget, drop the worst piece: generated files first, then the
largest, among equals the last. A piece larger than the whole budget is dropped at once. A file's header
counts with its first kept piece; a file without pieces is its header. Kept pieces stay in their order.

The packer works on a stream, and ``_floor`` makes the result the same as sorting all pieces: a piece worse
than a dropped one can never be kept, because the sum only grows. So the budget bounds the memory, however
large the change is.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from typing import TypeAlias

from aethr.base.records import CHANGE, CHANGES, Block, Entry, Extent, Gap, Part, Piece, Receipt, Remark
from aethr.context.exclusion import is_generated

LISTED = 50
"""At most this many files are listed as not sent at the end of a block; the receipts list all."""

NAME_CHARS = 200
"""Maximum length of a file's name in such a line."""

Rank: TypeAlias = tuple[bool, int, int, int, int]
"""Smaller is worse: (not generated, -characters, -source, -order of the file, -number of the piece)."""


class Item:
    """A file while its pieces arrive. ``kept`` maps a piece's number to the piece."""

    __slots__ = (
        "added",
        "changed",
        "entry",
        "gaps",
        "generated",
        "kept",
        "pieces",
        "removed",
        "size",
        "source",
        "withheld",
    )

    def __init__(self, entry: Entry, source: int, withheld: str | None, *, generated: bool) -> None:
        self.entry = entry
        self.source = source
        self.withheld = withheld
        self.generated = generated
        self.kept: dict[int, Piece] = {}
        self.pieces = 0
        self.size = 0
        self.changed = 0
        self.added = 0
        self.removed = 0
        self.gaps: list[str] = []

    @property
    def overhead(self) -> int:
        """Characters that count with the first kept piece."""
        return len(self.entry.label) + len(self.entry.header)

    def cost(self) -> int:
        """The file's current share of the budget, in characters."""
        return sum(len(piece.text or "") for piece in self.kept.values()) + self.overhead * bool(self.kept)

    def rank(self, number: int, piece: Piece) -> Rank:
        return (not self.generated, -len(piece.text or ""), -self.source, -self.entry.order, -number)


class Packer:
    """Takes the parts of one source after the other, then builds each source's block."""

    def __init__(self, budget_chars: int) -> None:
        self.budget_chars = budget_chars
        self._items: list[Item] = []
        self._remarks: list[tuple[int, Remark]] = []
        self._heap: list[tuple[Rank, int]] = []
        self._floor: Rank | None = None
        self._total = 0

    def take(self, source: int, parts: Iterable[Part]) -> None:
        """Add all parts of the source with this number. An ``Entry`` comes before its pieces."""
        item: Item | None = None
        for part in parts:
            if isinstance(part, Remark):
                self._remarks.append((source, part))
            elif isinstance(part, Entry):
                self._settle(item)
                generated = part.withheld is None and is_generated(part.path)
                item = Item(part, source, part.withheld, generated=generated)
                self._items.append(item)
            else:
                assert item is not None, "a part before the first entry"
                if isinstance(part, Piece):
                    self._add(item, part)
                elif isinstance(part, Gap):
                    item.gaps.append(part.note)
                else:
                    self._total -= item.cost()
                    item.kept.clear()
                    item.withheld = part.reason
        self._settle(item)

    def block(self, source: int, name: str) -> Block:
        """The prompt's block of the source with this number, called ``name``."""
        items = sorted((item for item in self._items if item.source == source), key=lambda i: i.entry.order)
        remarks = [remark for number, remark in self._remarks if number == source]
        over = f"over the budget of {self.budget_chars} characters"
        # Whether there is a change; None if neither a file nor a remark decides that.
        said: set[bool | None] = {_excluded(item) is None for item in items}
        said = said or {remark.change for remark in remarks}
        change = True if True in said else False if False in said else None
        extent = Extent(
            files=len({item.entry.path for item in items}),
            added=sum(item.added for item in items),
            removed=sum(item.removed for item in items),
        )
        return Block(
            source=name,
            text=_text(items, remarks, over),
            receipts=(
                *(_receipt(name, item, over) for item in items),
                *(Receipt(name, None, 0, note=each.text, complete=each.complete) for each in remarks),
            ),
            change=change if name in CHANGES else None,
            extent=extent if name == CHANGE and change is not None else None,
        )

    def _settle(self, item: Item | None) -> None:
        """Finish a file. If it has no pieces, its header becomes its only piece."""
        if item is not None and item.pieces == 0 and item.entry.header:
            header = item.entry.header
            item.entry = item.entry._replace(header="")
            self._add(item, Piece(header, len(header.encode())))

    def _add(self, item: Item, piece: Piece) -> None:
        number = item.pieces
        item.pieces += 1
        item.size += piece.size
        item.changed += piece.changed
        item.added += piece.added
        item.removed += piece.removed
        if item.withheld is not None or piece.text is None:
            return
        rank = item.rank(number, piece)
        hopeless = len(piece.text) + item.overhead > self.budget_chars
        if hopeless or (self._floor is not None and rank < self._floor):
            return
        self._total += len(piece.text) + (0 if item.kept else item.overhead)
        item.kept[number] = piece
        heapq.heappush(self._heap, (rank, len(self._items) - 1))
        while self._total > self.budget_chars:
            worst, index = heapq.heappop(self._heap)
            owner = self._items[index]
            dropped = owner.kept.pop(-worst[-1], None)
            if dropped is not None:  # None if its file has been withheld since
                self._total -= len(dropped.text or "") + (0 if owner.kept else owner.overhead)
                self._floor = worst if self._floor is None else max(self._floor, worst)


def _text(items: list[Item], remarks: list[Remark], over: str) -> str:
    """The kept content in order, then what is missing, then the remarks; each on its own lines."""
    texts: list[str] = []
    for item in items:
        if item.kept and (content := item.entry.label + _sent(item)):
            texts.append(content)
        if item.kept and len(item.kept) < item.pieces:
            texts.append(f"[{_short(item.entry.path)}: {_lost(item)}, {over}]\n")
    dropped = [item for item in items if not item.kept]
    texts += _missing("not sent", [item for item in dropped if _excluded(item) is None], over)
    texts += _missing("excluded by rule", [item for item in dropped if _excluded(item) is not None], over)
    texts += [f"[{remark.text}]\n" for remark in remarks]
    ended = (text if text.endswith("\n") else text + "\n" for text in texts[:-1])
    return "".join((*ended, *texts[-1:]))


def _sent(item: Item) -> str:
    return item.entry.header + "".join(piece.text or "" for piece in item.kept.values()) if item.kept else ""


def _lost(item: Item) -> str:
    lost = item.changed - sum(piece.changed for piece in item.kept.values())
    return f"{item.pieces - len(item.kept)} of {item.pieces} hunks not sent, {lost:,} changed lines"


def _excluded(item: Item) -> str | None:
    """The rule that excludes a file. What cannot be shown of one, such as a git-lfs pointer, is missing."""
    return None if item.gaps else item.entry.excluded


def _missing(said: str, items: list[Item], over: str) -> list[str]:
    lines = []
    for item in items[:LISTED]:
        amount = f", {item.size:,} bytes" if item.size and not item.entry.excluded else ""
        if item.changed:
            amount = f", {item.changed:,} changed lines"
        lines.append(f"[{said}: {_short(item.entry.path)}{amount}, {item.withheld or over}]\n")
    if rest := items[LISTED:]:
        changed = sum(item.changed for item in rest)
        amount = f", {changed:,} changed lines" if changed else ""
        lines.append(f"[{said}: {len(rest):,} more files{amount}]\n")
    return lines


def _short(name: str) -> str:
    return name if len(name) <= NAME_CHARS else name[:NAME_CHARS] + "…"


def _receipt(source: str, item: Item, over: str) -> Receipt:
    sent = _sent(item).encode()
    header = 0 if item.kept else len(item.entry.header.encode())
    return Receipt(
        source=source,
        path=item.entry.path,
        bytes_sent=len(sent),
        bytes_omitted=header + item.size - sum(piece.size for piece in item.kept.values()),
        sha256=hashlib.sha256(sent).hexdigest() if item.kept else None,
        note=_note(item, over),
        complete=_excluded(item) is not None
        or (
            item.entry.complete and item.withheld is None and not item.gaps and len(item.kept) == item.pieces
        ),
        changed_lines=item.changed,
        sent_lines=sum(piece.changed for piece in item.kept.values()),
        added_lines=item.added,
        excluded=_excluded(item),
    )


def _note(item: Item, over: str) -> str | None:
    """The receipt's note; None if the file was sent unchanged."""
    notes = [*([item.entry.note] if item.entry.note else []), *dict.fromkeys(item.gaps)]
    if not item.kept and (item.withheld or item.pieces):
        notes.append(item.withheld or over)
    elif len(item.kept) < item.pieces:
        notes.append(f"{_lost(item)}, {over}")
    revealed = sum(piece.revealed for piece in item.kept.values())
    if revealed:
        notes.append(f"{revealed:,} invisible characters shown by their code")
    return "; ".join(notes) or None
