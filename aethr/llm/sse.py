"""Server-sent events: bytes in pieces of any size to the data of each event (pure).

After https://html.spec.whatwg.org/multipage/server-sent-events.html: a line ends with CR, LF or CR LF; an
event ends with an empty line; one that the end of the stream leaves unfinished is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LONGEST_EVENT = 16 << 20
"""In bytes, and thereby what a stream without line ends can make this process hold."""

_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class EventTooLongError(Exception):
    """An event, or a line that never ends, is longer than ``LONGEST_EVENT``."""


def events(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[str]:
    """The data of each event, its lines joined by LF; events without data are left out.

    Bytes that are not UTF-8 are replaced. Raises ``EventTooLongError``.
    """
    data: list[bytes] = []
    held = 0
    for line in lines(pieces, longest):
        if not line:
            if data:
                yield b"\n".join(data).decode("utf-8", "replace")
            data, held = [], 0
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
            held += len(line)
            _bound(held, longest)


def lines(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[bytes]:
    """The lines without their ends; what follows the last end is dropped. Raises ``EventTooLongError``."""
    rest = bytearray()
    first = True
    after_cr = False
    for piece in pieces:
        if after_cr and piece[:1] == b"\n":
            piece = piece[1:]  # noqa: PLW2901 - the second half of a CR LF
            after_cr = False
        if not piece:
            continue
        after_cr = piece[-1:] == b"\r"
        *whole, last = _END.split(piece)
        for end in whole:
            rest += end
            _bound(len(rest), longest)
            yield bytes(rest).removeprefix(_BOM) if first else bytes(rest)
            first = False
            rest.clear()
        rest += last
        _bound(len(rest), longest)


def _bound(size: int, longest: int) -> None:
    if size > longest:
        raise EventTooLongError(f"an event is longer than {longest:,} bytes")
