"""What a model server streams: bytes in pieces of any size to JSON objects (pure).

Server-sent events after https://html.spec.whatwg.org/multipage/server-sent-events.html, and what stands in
their place on real servers: one JSON object a line, or one JSON body. What arrives decides, not its content
type. A line ends with CR, LF or CR LF and nothing else: U+0085, U+2028 and U+2029 may stand in a JSON string,
so ``str.splitlines``, and with it httpx's ``iter_lines``, would cut one in two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_EVENT = 16 << 20
"""In bytes, and thereby what a stream without line ends can make this process hold."""

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
"""What servers and the proxies before them send as data to keep a connection open: no words of an answer."""


class EventTooLongError(Exception):
    """An event, or a line that never ends, is longer than ``LONGEST_EVENT``."""


class UnreadableError(Exception):
    """Something came that is neither JSON nor a heartbeat: a part of the answer may be in it."""


class _Done(Exception):  # noqa: N818 - the stream's own end, not an error
    """``[DONE]``: what follows is not read."""


def objects(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[dict[str, Any]]:
    """Each JSON object, as soon as it is there; heartbeats and comments are left out.

    The data of an event named ``error`` comes as ``{"error": …}``. What the end of the body leaves
    unfinished is dropped. Bytes that are not UTF-8 are replaced. Raises ``EventTooLongError``,
    ``UnreadableError``.
    """
    reader = _Reader(longest)
    try:
        for line in lines(pieces, longest):
            yield from reader.take(line)
        yield from reader.end()
    except _Done:
        return


def lines(pieces: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[bytes]:
    """The lines without their ends, the last one with or without one. Raises ``EventTooLongError``."""
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
    """What has been read of an event, or of a JSON body that is longer than a line."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._name = ""
        self._data: list[bytes] = []
        self._body: list[bytes] = []
        self._size = 0
        self._read_any = False

    def take(self, line: bytes) -> Iterator[dict[str, Any]]:
        """The objects that end with this line."""
        self._size += len(line)
        _bound(self._size, self._longest)
        if self._body:
            self._body.append(line)
        elif not line:
            yield from self._event()
        elif line.lstrip()[:1] == b"<" and not self._read_any:
            raise UnreadableError("an HTML page")
        elif line.lstrip()[:1] in (b"{", b"["):
            yield from self._whole(line, self._body)
        else:
            field, _, value = line.partition(b":")
            field = field.strip().lower()
            if field == b"event":
                self._name = value.strip().decode("utf-8", "replace").lower()
            elif field == b"data" and self._data:
                self._data.append(value.removeprefix(b" "))
            elif field == b"data":
                yield from self._whole(value.removeprefix(b" "), self._data)

    def end(self) -> Iterator[dict[str, Any]]:
        """What the body ended with, where that is whole. The first half of a line means that it was cut."""
        found = _json(b"\n".join(self._body or self._data))
        if found is not _BROKEN:
            yield from _each(found, self._name)
        elif self._body and (len(self._body) > 1 or not self._read_any):
            raise _unreadable(self._body[0].decode("utf-8", "replace"))
        elif self._name == "error":
            yield from self._event()

    def _whole(self, text: bytes, otherwise: list[bytes]) -> Iterator[dict[str, Any]]:
        """One line is all of it in nearly every stream; what is not goes to ``otherwise``, to be continued.

        Nothing may follow a JSON object, so no longer text can begin with one.
        """
        found = _json(text)
        if found is _BROKEN:
            otherwise.append(text)
        else:
            self._size, self._read_any = 0, True
            yield from _each(found, self._name)

    def _event(self) -> Iterator[dict[str, Any]]:
        """The end of an event: its lines of data are JSON together, or each, or only keep the stream open."""
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        found = _json(b"\n".join(data))
        if found is not _BROKEN:
            yield from _each(found, name)
            return
        for line in data:
            yield from _each(_json(line), name, line)


def _each(found: Any, name: str, line: bytes = b"") -> Iterator[dict[str, Any]]:
    """The objects in ``found``: itself, or the members of a list. ``line`` is what was no JSON."""
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
    """What the text says, ``_BROKEN`` where it is not JSON. Raises ``_Done``."""
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
