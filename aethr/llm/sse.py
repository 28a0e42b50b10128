"""Read the stream of a model server: bytes in pieces of any size to JSON objects (pure).

Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), and what real servers
send in their place: one JSON object per line, or one JSON body. The data decides, not its content type. Only
CR, LF and CR LF end a line: U+0085, U+2028 and U+2029 may stand in a JSON string, which ``str.splitlines``,
and with it httpx's ``iter_lines``, would cut in two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_EVENT = 16 << 20
"""In bytes: a stream without line ends must not fill the memory."""

_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"
_DONE = "[DONE]"
_BROKEN = object()
_SHOWN = 200
_HEARTBEATS = ("ping", "pong", "heartbeat", "keepalive", "keep-alive", "keep_alive")
_HEARTBEAT = re.compile(
    r"[\s:.*-]*"
    r"((?:openrouter\s+)?(?:ping|pong|heart[\s_-]?beat|keep[\s_-]?alive|processing|connected|waiting|queued"
    r"|loading|thinking|working|ok|noop))?"
    r"[\s:.*…!-]*",
    re.IGNORECASE,
)
"""Data that servers and proxies send to keep a connection open; it is not a part of an answer."""


class EventTooLongError(Exception):
    """An event or a line is longer than ``LONGEST_EVENT``."""


class UnreadableError(Exception):
    """Data that is neither JSON nor a heartbeat arrived: it may be a part of the answer."""


class _Done(Exception):  # noqa: N818 - the stream's own end, not an error
    """``[DONE]`` arrived: nothing after it is read."""


def objects(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[dict[str, Any]]:
    """Yield each JSON object as soon as it is complete, without heartbeats and comments.

    The data of an event named ``error`` becomes ``{"error": …}``. An unfinished object at the end of the
    body is dropped. Bytes that are not UTF-8 are replaced. Raises ``EventTooLongError``, ``UnreadableError``.
    """
    reader = _Reader(longest)
    try:
        for line in lines(pieces, longest):
            yield from reader.take(line)
        yield from reader.end()
    except _Done:
        return


def lines(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[bytes]:
    """The lines without their ends; the last one may lack its end. Raises ``EventTooLongError``."""
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
    if rest:
        yield bytes(rest).removeprefix(_BOM) if first else bytes(rest)


class _Reader:
    """The part read so far of an event, or of a JSON body of several lines."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._name = ""
        self._data: list[bytes] = []
        self._body: list[bytes] = []
        self._size = 0
        self._read_any = False

    def take(self, line: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that end with this line."""
        self._size += len(line)
        _bound(self._size, self._longest)
        if self._body:
            self._body.append(line)
        elif not line:
            yield from self._end_event()
        elif line.lstrip()[:1] == b"<" and not self._read_any:
            raise UnreadableError("an HTML page")
        elif line.lstrip()[:1] in (b"{", b"["):
            yield from self._take_line(line, self._body)
        else:
            field, _, value = line.partition(b":")
            field = field.strip().lower()
            if field == b"event":
                self._name = value.strip().decode("utf-8", "replace").lower()
            elif field == b"data" and self._data:
                self._data.append(value.removeprefix(b" "))
            elif field == b"data":
                yield from self._take_line(value.removeprefix(b" "), self._data)

    def end(self) -> Iterator[dict[str, Any]]:
        """Yield the last object if it is complete. Half a line at the end means that the body was cut."""
        found = _json(b"\n".join(self._body or self._data))
        if found is not _BROKEN:
            yield from _each(found, self._name)
        elif self._body and (len(self._body) > 1 or not self._read_any):
            raise _unreadable(self._body[0].decode("utf-8", "replace"))
        elif self._name == "error":
            yield from self._end_event()

    def _take_line(self, text: bytes, otherwise: list[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the objects of a line, or keep it in ``otherwise`` until the next line continues it.

        In nearly every stream an object is one line. A longer JSON text cannot begin with a complete object.
        """
        found = _json(text)
        if found is _BROKEN:
            otherwise.append(text)
        else:
            self._size, self._read_any = 0, True
            yield from _each(found, self._name)

    def _end_event(self) -> Iterator[dict[str, Any]]:
        """End an event: its lines of data are JSON together, or each by itself, or heartbeats."""
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        found = _json(b"\n".join(data))
        if found is not _BROKEN:
            yield from _each(found, name)
            return
        for line in data:
            yield from _each(_json(line), name, line)


def _each(found: Any, name: str, line: bytes = b"") -> Iterator[dict[str, Any]]:
    """The objects in ``found``: itself, or the members of a list. ``line`` is the text if it is not JSON."""
    if isinstance(found, dict):
        yield found if name != "error" or found.get("error") else {"error": found}
    elif isinstance(found, list):
        for each in found:
            yield from _each(each, name)
    elif isinstance(found, str) or found is _BROKEN:
        text = found if isinstance(found, str) else line.decode("utf-8", "replace")
        if name == "error":
            yield {"error": text}
        elif name not in _HEARTBEATS and not _HEARTBEAT.fullmatch(text):
            raise _unreadable(text)


def _json(text: bytes) -> Any:
    """The value of a JSON text, ``_BROKEN`` if it is not JSON. Raises ``_Done``."""
    plain = text.decode("utf-8", "replace").strip()
    if plain.upper() == _DONE:
        raise _Done
    try:
        return json.loads(plain, strict=False)
    except (ValueError, RecursionError):
        return _BROKEN


def _unreadable(text: str) -> UnreadableError:
    return UnreadableError(f"broken JSON in the answer: {text[:_SHOWN]}")


def _bound(size: int, longest: int) -> None:
    if size > longest:
        raise EventTooLongError(f"an event is longer than {longest:,} bytes")
