"""The kinds of values in a workflow file. Each kind reads a node, and describes itself as JSON Schema.

Reading does not stop at a mistake: it records the mistake, and ``MISSING`` takes the value's place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from aethr.base.records import Place
from aethr.config.mistakes import FileLines, Mistake, quote, refusal
from aethr.config.nodes import BROKEN, Entries, Items, Node, Scalar, compose

MISSING: Any = None
"""The value of a node with a mistake; None is never a valid value."""

_NOT_TEXT = {
    "bool": "the true/false value {}",
    "int": "the number {}",
    "float": "the number {}",
    "timestamp": "the date {}",
    "null": "nothing",
    "merge": "the merge key {}",
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_LONGEST_NUMBER = 40


class Reading(NamedTuple):
    """The current ``path`` in the document, and the places and mistakes found so far.

    A path is dotted (``steps.2.repeat.back_to``), list positions count from 0, and the document is the empty
    path. ``places`` has the place of each value, ``keys`` that of each key.
    """

    path: str
    places: dict[str, Place]
    keys: dict[str, Place]
    mistakes: list[Mistake]

    def below(self, name: str | int) -> Reading:
        """The same reading, one level deeper."""
        path = f"{self.path}.{name}" if self.path else str(name)
        return Reading(path, self.places, self.keys, self.mistakes)

    def value(self, kind: Kind, node: Node) -> Any:
        """The value of the node at this path, or ``MISSING``."""
        self.places[self.path] = node.place
        if isinstance(node, Scalar) and node.tag == BROKEN:
            return MISSING
        return kind.read(node, self)

    def entry(self, key: Scalar, kind: Kind, node: Node) -> Any:
        """The value of one entry of the mapping at this path."""
        below = self.below(key.text)
        self.keys[below.path] = key.place
        return below.value(kind, node)

    def refuse(self, place: Place, problem: Problem | str) -> Any:
        if isinstance(problem, str):
            problem = Problem(problem)
        self.mistakes.append(Mistake(place, problem.message, problem.word, problem.options))
        return MISSING


def read_document(
    text: str,
    origin: str,
    kind: Kind,
    check: Callable[[Any, Reading], Iterable[Mistake]],
    empty: str = "the file is empty",
) -> tuple[Any, Reading, tuple[str, ...]]:
    """The value of a YAML text, its reading, and its lines. Messages call it ``origin``.

    ``check`` finds mistakes that involve several values. Raises ``ConfigError`` with all mistakes.
    """
    text = text.removeprefix("\ufeff")
    lines = FileLines.of(text)
    root, mistakes = compose(text, lines, empty)
    reading = Reading("", {}, {}, mistakes)
    value = MISSING if root is None else reading.value(kind, root)
    if value is not MISSING:
        mistakes.extend(check(value, reading))
    if mistakes:
        raise refusal(origin, lines.texts, mistakes)
    return value, reading, lines.texts


class Problem(NamedTuple):
    """A mistake without its place; see ``Mistake``."""

    message: str
    word: str = ""
    options: tuple[str, ...] = ()


class Kind(Protocol):
    def schema(self) -> dict[str, Any]: ...

    def read(self, node: Node, out: Reading) -> Any: ...


class Text(NamedTuple):
    """Text that is not blank. ``problem`` checks it further, ``limits`` is the same check as schema."""

    noun: str = "text"
    one_line: bool = False
    problem: Callable[[str], Problem | None] | None = None
    limits: Mapping[str, Any] = MappingProxyType({"pattern": r"\S"})

    def schema(self) -> dict[str, Any]:
        return {"type": "string", **self.limits}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Scalar) or node.tag in _NOT_TEXT:
            return out.refuse(node.place, f"expected {self.noun}, got {_got(node)}{_quotes(node)}")
        if not node.text.strip():
            return out.refuse(node.place, f"expected {self.noun}, got an empty text")
        if self.one_line and "\n" in node.text:
            return out.refuse(node.place, f"expected {self.noun} on one line")
        problem = self.problem(node.text) if self.problem else None
        return out.refuse(node.place, problem) if problem else node.text


class Choice(NamedTuple):
    """One of several names."""

    noun: str
    names: tuple[str, ...]

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}

    def read(self, node: Node, out: Reading) -> Any:
        text = Text(f"a {self.noun}").read(node, out)
        if text is MISSING or text in self.names:
            return text
        return out.refuse(node.place, Problem(f"unknown {self.noun} {quote(text)}", text, self.names))


class Flag(NamedTuple):
    """True or false; with ``only_true`` only true is valid."""

    only_true: bool = False

    def schema(self) -> dict[str, Any]:
        return {"const": True} if self.only_true else {"type": "boolean"}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Scalar) or node.tag != "bool":
            return out.refuse(node.place, f"expected true or false, got {_got(node)}")
        value = node.text.lower() in ("true", "yes", "on")
        if self.only_true and not value:
            return out.refuse(node.place, "can only be true; otherwise remove the key")
        return value


class Number(NamedTuple):
    """A finite number from ``low`` (or above it) to ``high``."""

    low: int
    high: int
    whole: bool = False
    above_low: bool = False

    def schema(self) -> dict[str, Any]:
        low = "exclusiveMinimum" if self.above_low else "minimum"
        return {"type": "integer" if self.whole else "number", low: self.low, "maximum": self.high}

    def read(self, node: Node, out: Reading) -> Any:
        noun = "a whole number" if self.whole else "a number"
        if not isinstance(node, Scalar) or node.tag not in ("int", "float"):
            return out.refuse(node.place, f"expected {noun}, got {_got(node)}")
        value = _number(node)
        if value is None or not math.isfinite(value):
            return out.refuse(node.place, f"expected {noun} in plain decimal digits, got {quote(node.text)}")
        if self.whole and value != int(value):
            return out.refuse(node.place, f"expected a whole number, got {quote(node.text)}")
        fits = self.low < value if self.above_low else self.low <= value
        if not fits or value > self.high:
            low = f"above {self.low} and at most" if self.above_low else f"from {self.low} to"
            return out.refuse(node.place, f"must be {low} {self.high}, got {quote(node.text)}")
        return int(value) if self.whole else float(value)


class ListOf(NamedTuple):
    """A list; an item with a mistake becomes ``MISSING``. ``noun`` names an item."""

    item: Kind
    noun: str
    least: int = 0

    def schema(self) -> dict[str, Any]:
        bound = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.item.schema(), **bound}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Items):
            return out.refuse(node.place, f"expected a list, got {_got(node)}")
        if len(node.nodes) < self.least:
            return out.refuse(node.place, f"needs at least one {self.noun}")
        return [out.below(number).value(self.item, item) for number, item in enumerate(node.nodes)]


class NamedOf(NamedTuple):
    """A mapping from names that the user chooses; ``noun`` is what they name."""

    noun: str
    item: Kind
    least: int = 0

    def schema(self) -> dict[str, Any]:
        bound = {"minProperties": self.least} if self.least else {}
        names = {"propertyNames": {"pattern": r"\S"}}
        return {"type": "object", "additionalProperties": self.item.schema(), **names, **bound}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Entries):
            return out.refuse(node.place, f"expected a mapping, got {_got(node)}")
        if len(node.pairs) < self.least:
            return out.refuse(node.place, f"needs at least one {self.noun}")
        name = Text(f"the name of a {self.noun}", one_line=True)
        values = {}
        for key, value in node.pairs:
            name.read(key, out)
            values[key.text] = out.entry(key, self.item, value)
        return values


class Json(NamedTuple):
    """A mapping of any values that JSON has, each of the type that YAML reads.

    ``refused`` has the keys that it may not have, each with the reason, or with those below it. It has at
    most ``values`` values, ``levels`` levels, and ``characters`` in keys and texts.
    """

    refused: Mapping[str, str | Mapping[str, str]] = MappingProxyType({})
    values: int = 200
    levels: int = 8
    characters: int = 8192

    def schema(self) -> dict[str, Any]:
        whole = [name for name, reason in self.refused.items() if isinstance(reason, str)]
        within = {
            name: {"type": "object", "propertyNames": {"not": {"enum": list(below)}}}
            for name, below in self.refused.items()
            if not isinstance(below, str)
        }
        return {"type": "object", "propertyNames": {"not": {"enum": whole}}, "properties": within}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Entries):
            return out.refuse(node.place, f"expected a mapping, got {_got(node)}")
        if node.size > self.values:
            return out.refuse(node.place, f"more than {self.values} values")
        if node.height > self.levels:
            return out.refuse(node.place, f"nested deeper than {self.levels} levels")
        if _count_characters(node) > self.characters:
            return out.refuse(node.place, f"more than {self.characters:,} characters")
        return self._read_entries(node, out, self.refused)

    def _read_entries(
        self, node: Entries, out: Reading, refused: Mapping[str, str | Mapping[str, str]]
    ) -> Mapping[str, Any]:
        values = {}
        for key, value in node.pairs:
            reason = refused.get(key.text, {})
            if isinstance(reason, str):
                out.refuse(key.place, f"{quote(key.text)} cannot be an option: {reason}")
            elif reason and not isinstance(value, Entries):
                out.refuse(value.place, f"expected a mapping, got {_got(value)}")
            else:
                values[key.text] = self._read_value(value, out.below(key.text), reason)
        return values

    def _read_value(self, node: Node, out: Reading, refused: Mapping[str, str | Mapping[str, str]]) -> Any:
        out.places[out.path] = node.place
        if isinstance(node, Entries):
            return self._read_entries(node, out, refused)
        if isinstance(node, Items):
            return [self._read_value(item, out.below(n), {}) for n, item in enumerate(node.nodes)]
        if node.tag in ("null", BROKEN):
            return None
        if node.tag == "bool":
            return Flag().read(node, out)
        if node.tag not in ("int", "float"):
            return node.text if node.tag == "str" else Text().read(node, out)
        value = _number(node)
        if value is None or not math.isfinite(value):
            return out.refuse(
                node.place, f"expected a number in plain decimal digits, got {quote(node.text)}"
            )
        return value


class Key(NamedTuple):
    """One key of the file. ``default`` is the value without the key; None means that there is no default."""

    name: str
    kind: Kind
    description: str
    example: Any
    required: bool = False
    default: Any = None

    def schema(self) -> dict[str, Any]:
        default = {} if self.default is None else {"default": self.default}
        return {
            **self.kind.schema(),
            "description": self.description,
            "examples": [self.example],
            **default,
        }


class Record(NamedTuple):
    """A mapping with these keys and no others, including at least one of ``one_of``."""

    noun: str
    keys: tuple[Key, ...]
    one_of: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        required = [key.name for key in self.keys if key.required]
        choice = {"anyOf": [{"required": [name]} for name in self.one_of]} if self.one_of else {}
        return {
            "type": "object",
            "properties": {key.name: key.schema() for key in self.keys},
            **({"required": required} if required else {}),
            **choice,
            "additionalProperties": False,
        }

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Entries):
            return out.refuse(node.place, f"expected {self.noun} as a mapping, got {_got(node)}")
        known = {key.name: key for key in self.keys}
        values = {}
        for name, value in node.pairs:
            if name.text in known:
                values[name.text] = out.entry(name, known[name.text].kind, value)
            else:
                out.refuse(name.place, Problem(f"unknown key {quote(name.text)}", name.text, tuple(known)))
        for key in self.keys:
            if key.required and key.name not in values:
                out.refuse(node.place, f"{self.noun} needs the key '{key.name}'")
        if self.one_of and not any(name in values for name in self.one_of):
            out.refuse(node.place, f"{self.noun} needs {' or '.join(map(quote, self.one_of))}")
        return {name: value for name, value in values.items() if value is not MISSING}


class Short(NamedTuple):
    """A record, or the value of its key ``key`` alone."""

    key: str
    record: Record

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self._key().kind.schema(), self.record.schema()]}

    def read(self, node: Node, out: Reading) -> Any:
        if isinstance(node, Entries):
            return self.record.read(node, out)
        value = self._key().kind.read(node, out)
        return MISSING if value is MISSING else {self.key: value}

    def _key(self) -> Key:
        return next(key for key in self.record.keys if key.name == self.key)


def _count_characters(node: Node) -> int:
    if isinstance(node, Entries):
        return sum(len(key.text) + _count_characters(value) for key, value in node.pairs)
    return sum(map(_count_characters, node.nodes)) if isinstance(node, Items) else len(node.text)


def _got(node: Node) -> str:
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Entries):
        return "a mapping"
    if not node.text.strip() and node.tag == "str":
        return "an empty text"
    return _NOT_TEXT.get(node.tag, "the text {}").format(quote(node.text))


def _quotes(node: Node) -> str:
    """How to write a value as text if YAML reads it as something else."""
    if isinstance(node, Scalar) and node.tag != "null":
        return "; put it in quotes"
    if isinstance(node, Entries) and node.pairs and node.pairs[0][0].place == node.place:
        return "; put a text with ': ' in quotes"
    return ""


def _number(node: Scalar) -> float | None:
    """The value of a decimal number; None for hexadecimal, octal, sexagesimal and very long ones."""
    text = node.text
    if len(text) > _LONGEST_NUMBER:
        return None
    if node.tag == "int":
        return int(text.replace("_", "")) if _WHOLE.fullmatch(text) else None
    return (
        None
        if ":" in text
        else float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    )
