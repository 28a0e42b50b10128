"""Where a change that is too large for one prompt is cut: pure, and almost the same after an edit.

Neighbouring items are joined as long as they fit together, across the weakest boundary first. How strong a
boundary is follows from the name of the item after it alone. So an edit changes the part that it is in, and
another one only if a part no longer fits or two parts now fit together; a new file moves no boundary far from
it. On average the parts are more than two thirds full.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple


class Sized(NamedTuple):
    """Something that is sent completely or not at all, with its name and its size in characters."""

    name: str
    size: int


def cut(items: Sequence[Sized], room: int) -> list[range]:
    """The parts as ranges of ``items``, in order, which cover all of them.

    A part is larger than ``room`` only if it is a single item that is.
    """
    ends = list(range(1, len(items) + 1))  # of the part whose first item this is: the item after its last
    begins = list(range(len(items)))  # of the part whose last item this is: its first item
    sizes = [item.size for item in items]  # of the part whose first item this is
    strengths = [sha256(item.name.encode("utf-8", "surrogatepass")).digest() for item in items]
    for boundary in sorted(range(1, len(items)), key=strengths.__getitem__):
        before = begins[boundary - 1]
        if sizes[before] + sizes[boundary] <= room:
            sizes[before] += sizes[boundary]
            ends[before] = ends[boundary]
            begins[ends[boundary] - 1] = before
    parts, begin = [], 0
    while begin < len(items):
        parts.append(range(begin, ends[begin]))
        begin = ends[begin]
    return parts
