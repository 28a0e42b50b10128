"""YAML text -> ``WorkflowSpec``, or all mistakes in it together, each with its place and its line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aethr.config.kinds import MISSING, Kind, Reading
from aethr.config.mistakes import Lines, Mistake, quoted, refusal, told, visible
from aethr.config.schema import (
    CONTEXT_CHARS,
    Vocabulary,
    context_source,
    document,
    guidance,
    json_schema,
    step_id,
)
from aethr.config.yaml_nodes import Node, compose, scalar
from aethr.errors import ConfigError
from aethr.records import ModelSpec, Place, Repeat, StepSpec, WorkflowSpec

__all__ = [
    "CONTEXT_CHARS",
    "MAX_BYTES",
    "Vocabulary",
    "from_bytes",
    "json_schema",
    "load",
    "parse",
    "problem_of_id",
    "problem_of_source",
    "problem_of_text",
    "refuse",
]

MAX_BYTES = 128 * 1024
"""The size of the largest workflow file that is read."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def load(path: Path, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a file. Raises ``ConfigError`` for every mistake in it, or for the file itself."""
    origin = _shown(path)
    return from_bytes(_bytes(path, origin), origin, vocabulary)


def from_bytes(content: bytes, origin: str, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a file's bytes; ``origin`` is the name to show. Raises ``ConfigError``."""
    if len(content) > MAX_BYTES:
        raise _unreadable(origin, _TOO_LARGE)
    return parse(_decoded(content, origin), origin, vocabulary)


def parse(text: str, origin: str, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a text; ``origin`` is the file name to show. Raises ``ConfigError``."""
    if len(text) > MAX_BYTES:
        raise _unreadable(origin, _TOO_LARGE)
    text = text.removeprefix("\ufeff")
    lines = Lines.of(text)
    root, mistakes = compose(text, lines)
    reading = Reading(mistakes=mistakes)
    raw = MISSING if root is None else _read(root, vocabulary, reading)
    if reading.mistakes:
        raise refusal(origin, lines.texts, reading.mistakes)
    return _workflow(raw, origin, reading, lines)


def refuse(spec: WorkflowSpec, problems: Sequence[tuple[str, str]]) -> ConfigError:
    """Later refusals as (dotted path, message), at that path's place or the nearest one above it."""
    return refusal(
        spec.origin, spec.lines, [Mistake(_place(spec, path), message) for path, message in problems]
    )


def problem_of_id(text: str) -> str:
    """What a file would say of this step id, without a place; nothing for a good one."""
    return _problem(step_id(), text)


def problem_of_text(text: str) -> str:
    """The same of a role's text."""
    return _problem(guidance(), text)


def problem_of_source(text: str, vocabulary: Vocabulary) -> str:
    """The same of a context source."""
    return _problem(context_source(vocabulary), text)


def _problem(kind: Kind, text: str) -> str:
    node, reading = scalar(text), Reading()
    if isinstance(node, Mistake):
        return told(node)
    reading.value(kind, node)
    return told(reading.mistakes[0]) if reading.mistakes else ""


def _place(spec: WorkflowSpec, path: str) -> Place:
    while path and path not in spec.places:
        path = path.rpartition(".")[0]
    return spec.places.get(path, Place(1, 1))


# --- the file ----------------------------------------------------------------------------------

_TOO_LARGE = f"larger than {MAX_BYTES // 1024} KiB; a workflow file is a few lines of YAML"


def _shown(path: Path) -> str:
    """The path from the current folder where it lies below, as compilers print it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _unreadable(origin: str, reason: str) -> ConfigError:
    return ConfigError([f"{visible(origin)}: {reason}"])


def _bytes(path: Path, origin: str) -> bytes:
    """A regular file's content; never waits for a FIFO, never reads a device."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_dir():
            raise _unreadable(origin, "is a folder, not a workflow file")
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unreadable(origin, "is not a regular file")
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(origin, "no such file; `aethr init` writes one") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        reason = getattr(error, "strerror", None) or error
        raise _unreadable(origin, f"cannot be read: {visible(str(reason))}") from None


def _decoded(content: bytes, origin: str) -> str:
    """UTF-8 only. What is no text is not shown: a link could have led to anything."""
    if content.startswith(_UTF16):
        raise _unreadable(origin, "is UTF-16; save it as UTF-8")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise _unreadable(f"{origin}:{line}", "holds a NUL byte; save it as UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise _unreadable(f"{origin}:{line}", f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None


# --- what no single value can tell ----------------------------------------------------------------


def _read(root: Node, vocabulary: Vocabulary, reading: Reading) -> Any:
    """The document as plain values; every mistake is in ``reading``."""
    raw = reading.value(document(vocabulary), root)
    if raw is not MISSING:
        steps = [step or {} for step in raw.get("steps", ())]
        reading.mistakes.extend(_undefined_roles(raw, steps, reading))
        reading.mistakes.extend(_duplicate_ids(steps, reading))
        reading.mistakes.extend(_bad_loops(steps, reading))
    return raw


def _undefined_roles(raw: dict[str, Any], steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    if "roles" not in raw:
        return
    roles = tuple(raw["roles"])
    for name in raw.get("models", ()):
        if name not in raw["roles"]:
            yield Mistake(reading.keys[f"models.{name}"], f"undefined role {quoted(name)}", name, roles)
    for number, step in enumerate(steps):
        name = step.get("role")
        if name is not None and name not in raw["roles"]:
            place = reading.places[f"steps.{number}.role"]
            yield Mistake(place, f"undefined role {quoted(name)}", name, roles)


def _duplicate_ids(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for number, step in enumerate(steps):
        name = step.get("id")
        if name is not None and first.setdefault(name, number) != number:
            line = reading.places[f"steps.{first[name]}.id"].line
            yield Mistake(
                reading.places[f"steps.{number}.id"], f"duplicate step id '{name}', first on line {line}"
            )


def _bad_loops(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """Loops that do not go back, and loops that share a step with the one before."""
    numbers = {step["id"]: number for number, step in reversed(list(enumerate(steps))) if "id" in step}
    ids_known = all("id" in step for step in steps)
    previous: tuple[int, int] | None = None
    for end, step in enumerate(steps):
        back_to = step.get("repeat", {}).get("back_to")
        if back_to is None:
            continue
        place = reading.places[f"steps.{end}.repeat.back_to"]
        start = numbers.get(back_to)
        if start is None:
            if ids_known:
                yield Mistake(place, f"back_to names no step: {quoted(back_to)}", back_to, tuple(numbers))
        elif start > end:
            yield Mistake(place, f"back_to must name this step or an earlier one; '{back_to}' comes later")
        else:
            if previous is not None and start <= previous[1]:
                yield Mistake(place, _shared(steps, previous, start))
            previous = (start, end)


def _shared(steps: list[dict[str, Any]], other: tuple[int, int], start: int) -> str:
    verb = "encloses" if start <= other[0] else "overlaps"
    first, last = (steps[number].get("id", f"number {number + 1}") for number in other)
    return f"this loop {verb} the loop of step '{last}', which goes back to '{first}'; loops must be apart"


# --- values -> records -----------------------------------------------------------------------------


def _workflow(raw: dict[str, Any], origin: str, reading: Reading, lines: Lines) -> WorkflowSpec:
    chars = _context_chars(raw, CONTEXT_CHARS)
    return WorkflowSpec(
        name=raw["workflow"],
        roles=raw["roles"],
        models={role: _model(**model) for role, model in raw.get("models", {}).items()},
        steps=tuple(_step(step, chars) for step in raw["steps"]),
        origin=origin,
        places=reading.places,
        lines=lines.texts,
    )


def _context_chars(raw: dict[str, Any], default: int) -> int:
    chars: int = raw.get("limits", {}).get("context_chars", default)
    return chars


def _model(model: str, **settings: Any) -> ModelSpec:
    return ModelSpec(model, **settings)


def _step(raw: dict[str, Any], context_chars: int) -> StepSpec:
    """Keys and fields have the same names; what is left out takes the record's own default."""
    given = {name: value for name, value in raw.items() if name not in ("context", "repeat", "limits")}
    return StepSpec(
        **given,
        context_chars=_context_chars(raw, context_chars),
        context=tuple(raw.get("context", ())),
        repeat=Repeat(**raw["repeat"]) if "repeat" in raw else None,
    )
