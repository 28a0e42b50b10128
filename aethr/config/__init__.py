"""YAML text -> ``WorkflowSpec``, or all mistakes in it together, each with its place and its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aethr.config import files
from aethr.config.files import MAX_BYTES
from aethr.config.kinds import MISSING, Kind, Reading
from aethr.config.mistakes import Lines, Mistake, quoted, refusal, told
from aethr.config.schema import (
    ARGUMENT,
    COMMAND,
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
    "ARGUMENT",
    "COMMAND",
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


def load(path: Path, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a file. Raises ``ConfigError`` for every mistake in it, or for the file itself."""
    origin = files.shown(path)
    content = files.read(path, origin, "no such file; `aethr init` writes one")
    return from_bytes(content, origin, vocabulary)


def from_bytes(content: bytes, origin: str, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a file's bytes; ``origin`` is the name to show. Raises ``ConfigError``."""
    return parse(files.decoded(content, origin), origin, vocabulary)


def parse(text: str, origin: str, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a text; ``origin`` is the file name to show. Raises ``ConfigError``."""
    if len(text) > MAX_BYTES:
        raise files.unreadable(origin, files.TOO_LARGE)
    text = text.removeprefix("\ufeff")
    lines = Lines.of(text)
    root, mistakes = compose(text, lines, "the file is empty; `aethr init` writes a workflow")
    reading = Reading("", {}, {}, mistakes)
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
    node, reading = scalar(text), Reading("", {}, {}, [])
    if isinstance(node, Mistake):
        return told(node)
    reading.value(kind, node)
    return told(reading.mistakes[0]) if reading.mistakes else ""


def _place(spec: WorkflowSpec, path: str) -> Place:
    while path and path not in spec.places:
        path = path.rpartition(".")[0]
    return spec.places.get(path, Place(1, 1))


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
