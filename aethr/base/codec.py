"""Step results to JSON and back: the shape that the run record and the checkpoint share.

What a file holds follows from the annotations in ``records``, so a new field of a step is added only there.
Reading is strict: a value of the wrong type raises ``ValueError`` with one line that says where it is and
what was expected. Unknown keys are ignored, so that files of a newer Aethr can be read.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aethr.base.records import Artifacts, StepResult, Usage
from aethr.base.sanitize import HIDDEN

_Word = TypeVar("_Word", bound=str)
_Value = TypeVar("_Value")

# Valid in a JSON string, but not in UTF-8 (surrogates) or harmful for a terminal (the others).
_ESCAPED = re.compile(f"[{HIDDEN}]")
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""May be half of a surrogate pair, which UTF-8 cannot encode: it could be neither sent nor written."""


def dumps(value: object) -> str:
    """JSON text, two spaces of indentation, keys in their order, a newline at the end.

    Lossless and not only ASCII, but without characters that UTF-8 cannot encode or a terminal would obey.
    Raises ``ValueError`` for NaN and infinities.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    return _ESCAPED.sub(_escape, text) + "\n"


def line(value: object) -> str:
    """JSON text as from ``dumps``, but on one line."""
    return _ESCAPED.sub(_escape, json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n"


def _escape(match: re.Match[str]) -> str:
    """As JSON escapes it: a character above U+FFFF takes two escapes."""
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def loads(text: str, above: int = 0) -> object:
    """The JSON value of a text that has this many lines ``above`` it. Raises ``ValueError`` of one line."""
    if not text.strip():
        raise ValueError("it is empty")
    try:
        document = json.loads(text)
        if _HALF.search(text):
            document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
        return document
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON, or cut short (line {above + error.lineno})") from error
    except (RecursionError, ValueError) as error:
        raise ValueError("it is nested too deeply, or has a number too long") from error


def to_json(value: Any) -> Any:
    """A value as the run record and the checkpoint hold it: a record's keys are the names of its fields."""
    if hasattr(value, "_asdict"):
        return {name: to_json(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: to_json(each) for name, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, tuple) else value


def step_from_json(value: object) -> StepResult:
    """A step from the result of ``to_json``. Raises ``ValueError`` for anything of another shape."""
    return from_json(StepResult, value, "a step")


def from_json(kind: type[_Value], value: object, name: str) -> _Value:
    """A record of this type from the result of ``to_json``, where a field with a default may be missing.

    ``name`` is its name in a ``ValueError``, for anything of another shape.
    """
    found: _Value = _record(kind, an_object(value, name))
    return found


def whole_from_json(kind: type[_Value], value: object, name: str) -> _Value:
    """``from_json``, but no field may be missing."""
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined] # of a NamedTuple
    found: _Value = _record(kind, an_object(value, name), frozenset(fields))
    return found


def step_from_seed(value: object) -> StepResult:
    """A step result of the seed form: ``step_id``, ``content``; maybe ``metadata``, ``artifacts``, ``usage``.

    Without metadata, role and backend are empty, and the caller fills them in. An empty ``artifacts`` is a
    step that changed nothing.
    """
    data = an_object(value, "a step")
    metadata, usage, artifacts = (
        {name: each for name, each in mapping(data, key).items() if each is not None}
        if data.get(key) is not None
        else {}
        for key in ("metadata", "usage", "artifacts")
    )
    return StepResult(
        id=text(data, "step_id"),
        role=optional_text(metadata, "role") or "",
        backend=optional_text(metadata, "backend") or "",
        model=optional_text(metadata, "model"),
        iteration=1,
        prompt_sha256="",
        content=text(data, "content"),
        usage=_record(Usage, usage, frozenset()),
        artifacts=_record(Artifacts, artifacts, frozenset()) if artifacts else None,
    )


def an_object(value: object, name: str) -> dict[str, object]:
    """``value`` as an object; an error calls it ``name``."""
    if isinstance(value, dict):
        return value
    raise _mistake(name, "an object", value)


def text(data: Mapping[str, object], key: str) -> str:
    return _typed(data, key, str, "text")


def optional_text(data: Mapping[str, object], key: str) -> str | None:
    return None if data.get(key) is None else text(data, key)


def choice(data: Mapping[str, object], key: str, words: Sequence[_Word]) -> _Word:
    """One of ``words``."""
    value = _required(data, key, "text")
    for word in words:
        if value == word:
            return word
    raise _mistake(key, f"one of {', '.join(words)}", value)


def optional_flag(data: Mapping[str, object], key: str) -> bool:
    return data.get(key) is not None and _flag(data, key)


def sequence(data: Mapping[str, object], key: str) -> list[object]:
    return _typed(data, key, list, "an array")


def mapping(data: Mapping[str, object], key: str) -> dict[str, object]:
    return an_object(_required(data, key, "an object"), f"'{key}'")


_ALWAYS = frozenset(
    {
        *("finish_reason", "truncated", "seconds", "calls", "transport", "usage", "context", "notes"),
        *("prompt_tokens", "completion_tokens", "total_tokens"),
        *("bytes_omitted", "complete", "changed_lines", "sent_lines"),
        *("changed_files", "diff_stat", "git_diff"),
    }
)
"""Fields with a default that every version has written: a file without them is damaged, not old."""

_LEAST = {"iteration": 1, "part": 1, "parts": 1}
"""The minimum of a whole number if it is not 0."""

_hints = functools.cache(get_type_hints)


def _record(kind: Any, data: Mapping[str, object], always: frozenset[str] = _ALWAYS) -> Any:
    """Read a named tuple of this type from ``data``, each field by its annotation.

    A field with a default, or that can be None, may be missing unless it is in ``always``.
    """
    values = {}
    for name, hint in _hints(kind).items():
        if name in data or name in always:
            values[name] = _field(hint, data, name)
        elif name not in kind._field_defaults:
            values[name] = None if NoneType in get_args(hint) else _field(hint, data, name)
    return kind(**values)


def _field(hint: Any, data: Mapping[str, object], name: str) -> Any:
    arguments = get_args(hint)
    if NoneType in arguments:
        return None if name in data and data[name] is None else _field(arguments[0], data, name)
    if hint in _READERS:
        return _READERS[hint](data, name)
    if get_origin(hint) is Literal:
        return choice(data, name, arguments)
    if get_origin(hint) is tuple:  # of records
        entry = f"an entry of '{name}'"
        return tuple(_record(arguments[0], an_object(each, entry)) for each in sequence(data, name))
    return _record(hint, mapping(data, name))


def texts(data: Mapping[str, object], key: str) -> tuple[str, ...]:
    items = sequence(data, key)
    for item in items:
        if not isinstance(item, str):
            raise _mistake(key, "an array of text", item)
    return tuple(map(str, items))


def _counts(data: Mapping[str, object], key: str) -> tuple[int, ...]:
    return tuple(_count({key: each}, key) for each in sequence(data, key))


def _flag(data: Mapping[str, object], key: str) -> bool:
    return _typed(data, key, bool, "true or false")


def _count(data: Mapping[str, object], key: str) -> int:
    least = _LEAST.get(key, 0)
    expected = f"a whole number from {least}"
    value = _required(data, key, expected)
    # No real count is near 2**53, up to which all JSON readers read the same integer.
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 53:
        return value
    raise _mistake(key, expected, value)


def _amount(data: Mapping[str, object], key: str) -> float:
    value = _required(data, key, "a number from 0")
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return value
    if isinstance(value, int):
        return float(_count(data, key))
    raise _mistake(key, "a number from 0", value)


_READERS: Mapping[Any, Callable[[Mapping[str, object], str], Any]] = {
    str: text,
    bool: _flag,
    int: _count,
    float: _amount,
    tuple[str, ...]: texts,
    tuple[int, ...]: _counts,
    Mapping[str, Any]: mapping,
}
"""The function that reads a field, by its annotation."""


def _typed(data: Mapping[str, object], key: str, kind: type[_Value], expected: str) -> _Value:
    value = _required(data, key, expected)
    if isinstance(value, kind):
        return value
    raise _mistake(key, expected, value)


def _required(data: Mapping[str, object], key: str, expected: str) -> object:
    if key not in data:
        raise ValueError(f"'{key}' is missing; expected {expected}")
    return data[key]


def _mistake(name: str, expected: str, value: object) -> ValueError:
    where = name if " " in name or name.startswith("'") else f"'{name}'"
    kinds = {NoneType: "null", bool: "true or false", str: "text", list: "an array", dict: "an object"}
    found = kinds.get(type(value), "a number out of range")
    if isinstance(value, int | float) and type(value) not in kinds and -(1 << 53) < value < 1 << 53:
        found = f"the number {value}"
    return ValueError(f"{where}: expected {expected}, found {found}")
