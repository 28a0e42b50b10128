"""A YAML file -> text -> nodes with their places; bounded, values not converted.

PyYAML's own composer has no bounds and stops at the first mistake, so this module builds the nodes from the
events of its loader. Places come from its pure-Python scanner.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from aethr.base.errors import ConfigError
from aethr.base.records import Place
from aethr.config.mistakes import FileLines, Mistake, quote, visible

MAX_BYTES = 128 * 1024
"""The size of the largest file that is read."""

TOO_LARGE = f"larger than {MAX_BYTES // 1024} KiB; a few lines of YAML are expected"

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def load(path: Path, absent: str) -> tuple[str, str]:
    """The text of a file, and its name for messages: relative to the current folder if it is inside.

    Never waits for a FIFO, never reads a device. ``absent`` is the message for a missing file. Raises
    ``ConfigError``.
    """
    try:
        origin = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        origin = str(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_dir():
            raise unreadable(origin, "is a folder, not a file")
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise unreadable(origin, "is not a regular file")
            return decode(file.read(MAX_BYTES + 1), origin), origin
    except FileNotFoundError:
        raise unreadable(origin, absent) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        reason = getattr(error, "strerror", None) or error
        raise unreadable(origin, f"cannot be read: {visible(str(reason))}") from None


def decode(content: bytes, origin: str) -> str:
    """The text, which must be UTF-8. Other bytes are not shown: a link may lead to any file."""
    if len(content) > MAX_BYTES:
        raise unreadable(origin, TOO_LARGE)
    if content.startswith(_UTF16):
        raise unreadable(origin, "is UTF-16; save it as UTF-8")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise unreadable(f"{origin}:{line}", "contains a NUL byte; save it as UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise unreadable(f"{origin}:{line}", f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None


def unreadable(origin: str, reason: str) -> ConfigError:
    return ConfigError([f"{visible(origin)}: {reason}"])


MAX_DEPTH = 50
MAX_NODES = 10_000
"""Both count a node again for each alias of it."""

BROKEN = "broken"
"""The tag of a node whose mistake is already reported."""

_PROBLEM = 120
_PREFIX = "tag:yaml.org,2002:"
_CONTROL_CHARACTER = "the text contains the control character {}"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Scalar(NamedTuple):
    """``tag`` is PyYAML's, without its prefix: ``str int float bool null timestamp merge``."""

    place: Place
    text: str
    tag: str
    size: int = 1
    height: int = 1


class Items(NamedTuple):
    """A YAML sequence. ``size`` counts its nodes with aliases expanded, ``height`` its levels."""

    place: Place
    nodes: tuple[Node, ...]
    size: int
    height: int


class Entries(NamedTuple):
    """A YAML mapping, each key once."""

    place: Place
    pairs: tuple[tuple[Scalar, Node], ...]
    size: int
    height: int


Node: TypeAlias = Scalar | Items | Entries


def compose(text: str, lines: FileLines, empty: str) -> tuple[Node | None, list[Mistake]]:
    """The document in ``text`` and its mistakes as YAML; no node if it cannot be used.

    ``empty`` is the message for a file without a document.
    """
    try:
        composer = _Composer(text, lines)
    except yaml.reader.ReaderError as error:
        char = quote(chr(error.character))
        return None, [Mistake(lines.place(error.position), f"the character {char} is not allowed")]
    try:
        root = composer.document()
    except _UnusableError as unusable:
        return None, [*composer.mistakes, unusable.mistake]
    except yaml.MarkedYAMLError as error:
        return None, [*composer.mistakes, _unusable(error, lines)]
    except (ValueError, OverflowError):
        # PyYAML does not catch these: a %YAML version of 5,000 digits, an escape beyond Unicode.
        place = _place(composer.get_mark(), lines)
        return None, [*composer.mistakes, Mistake(place, "not valid YAML: a number out of range")]
    if root is None or (isinstance(root, Scalar) and root.tag == "null"):
        return None, [Mistake(Place(1, 1), empty)]
    return root, composer.mistakes


class _UnusableError(Exception):
    """A mistake after which the rest of the text cannot be read."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.mistake = Mistake(place, message)


def _unusable(error: yaml.MarkedYAMLError, lines: FileLines) -> Mistake:
    """PyYAML's error in plain words; for something that is never closed, the place is its opening."""
    problem, context = error.problem or "cannot be read", error.context or ""
    opening, place = _place(error.context_mark, lines), _place(error.problem_mark, lines)
    if context and any(end in problem for end in _NEVER_CLOSED):
        return Mistake(opening, "opened here and never closed")
    if "scanning a simple key" in context:
        place = opening
    inside = context in ("while parsing a flow sequence", "while parsing a flow mapping")
    since = f", in what opened on line {opening.line}" if inside else ""
    found = (plain for known, plain in _PLAIN.items() if known in problem or known in context)
    plain = next(found, problem[:_PROBLEM].replace(r"'\x00'", "the end of the file"))
    return Mistake(place, f"not valid YAML: {plain}{since}")


def _place(mark: Any, lines: FileLines) -> Place:
    """A mark's place, from its index: PyYAML counts more characters as line ends than editors do."""
    return lines.place(mark.index if mark is not None else 0)


_NEVER_CLOSED = ("end of stream", "got '<stream end>'", "unexpected document separator")
_PLAIN = {
    "found character '\\t'": "a tab where only spaces may stand",
    "cannot start any token": "a text that begins with this character must be in quotes",
    "mapping values are not allowed": "a second ': ' here; put the text in quotes or check the indentation",
    "could not find expected ':'": "expected ': ' after a key",
    "expected <block end>": "the indentation does not fit the lines above",
    "scanning an alias": "a text that begins with * must be in quotes",
    "scanning an anchor": "a text that begins with & must be in quotes",
    "found '<stream end>'": "the file ends where a value is expected",
    "expected '<document start>'": "this stands after the end of the workflow",
    "found unknown escape character": "unknown escape after \\; in single quotes \\ is an ordinary character",
}


class _Composer(yaml.SafeLoader):
    """A loader of nodes with their places that collects mistakes. It recurses at most ``MAX_DEPTH`` deep."""

    def __init__(self, text: str, lines: FileLines) -> None:
        super().__init__(text)
        self.mistakes: list[Mistake] = []
        self._lines = lines
        self._named: dict[str, Node | None] = {}
        self._size = 0

    def document(self) -> Node | None:
        """The document, None if there is none. Raises ``_UnusableError`` and PyYAML's errors."""
        root = None
        while not self.check_event(yaml.StreamEndEvent):
            event = self._next()
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    place = _place(event.start_mark, self._lines)
                    raise _UnusableError(place, "a second document begins here; a file holds one")
                root = self._node(1)
        return root

    def _next(self) -> Any:
        return self.get_event()  # type: ignore[no-untyped-call]  # the stubs have no types

    def _node(self, level: int) -> Node:
        event = self._next()
        place = _place(event.start_mark, self._lines)
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            found = self._named.get(name)
            if found is None:
                reason = (
                    "stands inside of what it refers to" if name in self._named else "is not defined above"
                )
                self._refuse(
                    place, f"the alias {quote('*' + name)} {reason}; quote a text that begins with *"
                )
                found = Scalar(place, "", BROKEN)
            self._bound(place, found.size, level - 1 + found.height)
            return found
        self._bound(place, 1, level)
        if event.anchor is not None:
            if event.anchor in self._named:
                self._refuse(place, f"the anchor {quote('&' + event.anchor)} is defined a second time")
            self._named[event.anchor] = None  # an alias inside of the node is refused
        if event.tag is not None:
            written = event.tag.replace(_PREFIX, "!!", 1) if event.tag.startswith(_PREFIX) else event.tag
            self._refuse(place, f"YAML tags are not supported; remove {quote(written)}")
        node = (
            self._scalar(event, place)
            if isinstance(event, yaml.ScalarEvent)
            else self._collection(event, place, level)
        )
        if event.anchor is not None:
            self._named[event.anchor] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        bad = _unprintable(event.value)
        if bad and event.tag is None:  # a tag has been refused already
            self._refuse(place, _CONTROL_CHARACTER.format(bad))
        if bad or event.tag is not None:
            return Scalar(place, event.value, BROKEN)
        tag: str = self.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # as above
        return Scalar(place, event.value, tag.removeprefix(_PREFIX))

    def _collection(self, event: yaml.CollectionStartEvent, place: Place, level: int) -> Items | Entries:
        children: list[Node] = []
        while not self.check_event(yaml.CollectionEndEvent):
            children.append(self._node(level + 1))
        self._next()
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(place, tuple(children), size, height)
        pairs: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._refuse(key.place, "a key must be text, not a list or mapping")
            elif key.tag == "merge":
                self._refuse(key.place, "merge keys (<<) are not supported; write the entries out")
            elif key.text in pairs:
                first = pairs[key.text][0].place.line
                self._refuse(key.place, f"duplicate key {quote(key.text)}, first on line {first}")
            elif key.tag != BROKEN:
                pairs[key.text] = (key, value)
        return Entries(place, tuple(pairs.values()), size, height)

    def _bound(self, place: Place, size: int, level: int) -> None:
        self._size += size
        if self._size > MAX_NODES:
            raise _UnusableError(place, f"more than {MAX_NODES:,} values, counting those behind aliases")
        if level > MAX_DEPTH:
            raise _UnusableError(place, f"nested deeper than {MAX_DEPTH} levels")

    def _refuse(self, place: Place, message: str) -> None:
        self.mistakes.append(Mistake(place, message))


def scalar(text: str) -> Scalar | Mistake:
    """A node for text from the command line, or the mistake if a file may not contain that text."""
    place = Place(1, 1)
    bad = _unprintable(text)
    return Mistake(place, _CONTROL_CHARACTER.format(bad)) if bad else Scalar(place, text, "str")


def _unprintable(text: str) -> str:
    """The first control character or lone surrogate, escaped; it came from an escape in quotes."""
    found = _CONTROL.search(text)
    return visible(found.group()) if found else ""
