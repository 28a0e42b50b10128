"""YAML text -> nodes that know where they stand; bounded, without recursion, without conversion.

Nodes are composed here from PyYAML's events, because ``yaml.compose`` recurses and ``yaml.load``
expands merge keys before anybody can count them. Marks come from the pure-Python scanner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import yaml

from aethr.config.mistakes import Lines, Mistake, quoted, visible
from aethr.records import Place

MAX_DEPTH = 50
MAX_NODES = 10_000
"""Both count a node again at each alias that stands for it."""

BROKEN = "broken"
"""The tag of a node about which a mistake has been told already."""

_PROBLEM = 120
_PREFIX = "tag:yaml.org,2002:"
_CONTROL_CHARACTER = "the text holds the control character {}"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Scalar(NamedTuple):
    """``tag`` is PyYAML's, without its prefix: ``str int float bool null timestamp merge``."""

    place: Place
    text: str
    tag: str
    size: int = 1
    height: int = 1


class Items(NamedTuple):
    """A YAML sequence. ``size`` counts all nodes in it with aliases expanded, ``height`` its levels."""

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


def compose(text: str, lines: Lines, empty: str) -> tuple[Node | None, list[Mistake]]:
    """The one document in ``text``, and what is wrong with it as YAML; no node when it cannot be used.

    ``empty`` is said of a file without a document.
    """
    composer = _Composer(lines)
    try:
        for event in _events(text, lines):
            composer.take(event)
    except _UnusableError as unusable:
        return None, [*composer.mistakes, unusable.mistake]
    if composer.root is None or (isinstance(composer.root, Scalar) and composer.root.tag == "null"):
        return None, [Mistake(Place(1, 1), empty)]
    return composer.root, composer.mistakes


class _UnusableError(Exception):
    """A mistake after which the rest of the text cannot be read."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.mistake = Mistake(place, message)


def _events(text: str, lines: Lines) -> Iterator[tuple[yaml.Event, str]]:
    """PyYAML's events, each scalar's with its resolved tag."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        char = quoted(chr(error.character))
        raise _UnusableError(lines.place(error.position), f"the character {char} is not allowed") from None
    try:
        while loader.check_event():
            event: yaml.Event = loader.get_event()  # type: ignore[no-untyped-call]  # the stubs have no types
            yield event, _tag(loader, event)
    except yaml.MarkedYAMLError as error:
        raise _unusable(error, lines) from None
    except (ValueError, OverflowError):
        # PyYAML lets these out: a %YAML version of 5,000 digits, an escape beyond Unicode.
        raise _UnusableError(
            _place(loader.get_mark(), lines), "not valid YAML: a number out of range"
        ) from None


def _tag(loader: yaml.SafeLoader, event: yaml.Event) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        return ""
    tag: str = loader.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # as above
    return tag.removeprefix(_PREFIX)


def _unusable(error: yaml.MarkedYAMLError, lines: Lines) -> _UnusableError:
    """PyYAML's error in one plain line; where something opened and never closed, at its opening."""
    problem, context = error.problem or "cannot be read", error.context or ""
    opening, place = _place(error.context_mark, lines), _place(error.problem_mark, lines)
    if context and any(end in problem for end in _NEVER_CLOSED):
        return _UnusableError(opening, "opened here and never closed")
    if "scanning a simple key" in context:
        place = opening
    inside = context in ("while parsing a flow sequence", "while parsing a flow mapping")
    since = f", in what opened on line {opening.line}" if inside else ""
    return _UnusableError(place, f"not valid YAML: {_plain(context, problem)}{since}")


def _place(mark: Any, lines: Lines) -> Place:
    """A mark's place by its index: PyYAML's own line count knows more line ends than editors do."""
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


def _plain(context: str, problem: str) -> str:
    found = (plain for known, plain in _PLAIN.items() if known in problem or known in context)
    return next(found, problem[:_PROBLEM].replace(r"'\x00'", "the end of the file"))


class _Open(NamedTuple):
    """A sequence or mapping whose end has not come yet."""

    place: Place
    mapping: bool
    anchor: str | None
    children: list[Node]


class _Composer:
    """Takes events one by one; ``root`` is the document once its end has come."""

    def __init__(self, lines: Lines) -> None:
        self.root: Node | None = None
        self.mistakes: list[Mistake] = []
        self._lines = lines
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._size = 0

    def take(self, tagged: tuple[yaml.Event, str]) -> None:
        event, tag = tagged
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, tag)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        if self.root is not None:
            raise _UnusableError(self._place(event), "a second document begins here; a file holds one")

    def _alias(self, event: yaml.AliasEvent) -> None:
        place, name = self._place(event), str(event.anchor)
        node = self._anchors.get(name)
        if node is None:
            reason = "stands inside of what it refers to" if name in self._anchors else "is not defined above"
            self._refuse(place, f"the alias {quoted('*' + name)} {reason}; quote a text that begins with *")
            node = Scalar(place, "", BROKEN)
        self._bound(place, node.size, node.height)
        self._add(node)

    def _scalar(self, event: yaml.ScalarEvent, tag: str) -> None:
        place = self._place(event)
        self._bound(place, 1, 1)
        self._anchor(event, place)
        if event.tag is not None:
            self._refuse_tag(event, place)
            tag = BROKEN
        elif bad := _unprintable(event.value):
            self._refuse(place, _CONTROL_CHARACTER.format(bad))
            tag = BROKEN
        self._add(self._named(event.anchor, Scalar(place, event.value, tag)))

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        place = self._place(event)
        self._bound(place, 1, 1)
        self._anchor(event, place)
        if event.tag is not None:
            self._refuse_tag(event, place)
        self._open.append(_Open(place, isinstance(event, yaml.MappingStartEvent), event.anchor, []))

    def _end(self) -> None:
        closed = self._open.pop()
        size = 1 + sum(child.size for child in closed.children)
        height = 1 + max((child.height for child in closed.children), default=0)
        node: Node
        if closed.mapping:
            node = Entries(closed.place, self._pairs(closed.children), size, height)
        else:
            node = Items(closed.place, tuple(closed.children), size, height)
        self._add(self._named(closed.anchor, node))

    def _pairs(self, children: list[Node]) -> tuple[tuple[Scalar, Node], ...]:
        """Keys and values by turns -> pairs, without the keys that cannot be used."""
        pairs: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._refuse(key.place, "a key must be text, not a list or mapping")
            elif key.tag == "merge":
                self._refuse(key.place, "merge keys (<<) are not supported; write the entries out")
            elif key.text in pairs:
                first = pairs[key.text][0].place.line
                self._refuse(key.place, f"duplicate key {quoted(key.text)}, first on line {first}")
            elif key.tag != BROKEN:
                pairs[key.text] = (key, value)
        return tuple(pairs.values())

    def _add(self, node: Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node

    def _bound(self, place: Place, size: int, height: int) -> None:
        self._size += size
        if self._size > MAX_NODES:
            raise _UnusableError(place, f"more than {MAX_NODES:,} values, counting those behind aliases")
        if len(self._open) + height > MAX_DEPTH:
            raise _UnusableError(place, f"nested deeper than {MAX_DEPTH} levels")

    def _anchor(self, event: yaml.NodeEvent, place: Place) -> None:
        """Note that the anchor exists; what it stands for is known at the node's end."""
        if event.anchor is None:
            return
        if event.anchor in self._anchors:
            self._refuse(place, f"the anchor {quoted('&' + event.anchor)} is defined a second time")
        self._anchors[event.anchor] = None

    def _named(self, anchor: str | None, node: Node) -> Node:
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        tag = str(event.tag)
        written = "!!" + tag.removeprefix(_PREFIX) if tag.startswith(_PREFIX) else tag
        self._refuse(place, f"YAML tags are not supported; remove {quoted(written)}")

    def _refuse(self, place: Place, message: str) -> None:
        self.mistakes.append(Mistake(place, message))

    def _place(self, event: yaml.Event) -> Place:
        return _place(event.start_mark, self._lines)


def scalar(text: str) -> Scalar | Mistake:
    """A text that stands in no file as a node; or what a file that held it would be refused for."""
    place = Place(1, 1)
    bad = _unprintable(text)
    return Mistake(place, _CONTROL_CHARACTER.format(bad)) if bad else Scalar(place, text, "str")


def _unprintable(text: str) -> str:
    """The first control character or lone surrogate of ``text``, escaped; an escape in quotes made it."""
    found = _CONTROL.search(text)
    return visible(found.group()) if found else ""
