"""YAML text -> ``WorkflowSpec``, or all its mistakes, each with its place; and the exact way back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from aethr.base import providers
from aethr.base.errors import ConfigError
from aethr.base.records import (
    PARTS,
    Answer,
    Instruction,
    ModelSpec,
    Place,
    Repeat,
    StepSpec,
    WorkflowSpec,
    is_git_diff,
)
from aethr.config import nodes
from aethr.config.kinds import Kind, Reading, read_document
from aethr.config.mistakes import Mistake, describe, quote, refusal
from aethr.config.nodes import MAX_BYTES, scalar
from aethr.config.schema import (
    ARGUMENT,
    COMMAND,
    CONTEXT_CHARS,
    DIFF_FORM,
    GUIDANCE,
    MESSAGE,
    MODELINE,
    PLACE_ID,
    REASON,
    STEP_ID,
    Vocabulary,
    context_source,
    document,
    json_schema,
    source_forms,
)
from aethr.git import tracking

__all__ = [
    "ARGUMENT",
    "COMMAND",
    "CONTEXT_CHARS",
    "DIFF_FORM",
    "GUIDANCE",
    "MAX_BYTES",
    "MESSAGE",
    "PLACE_ID",
    "REASON",
    "STEP_ID",
    "Vocabulary",
    "context_source",
    "json_schema",
    "load",
    "load_from_commit",
    "parse",
    "problem_of",
    "refuse",
    "source_forms",
]


def load(path: Path, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a file. Raises ``ConfigError`` with all mistakes, or for an unreadable file."""
    text, origin = nodes.load(path, "no such file; `aethr init` writes one")
    return parse(text, origin, vocabulary)


def load_from_commit(
    top: Path, tree: str, name: str, origin: str, vocabulary: Vocabulary
) -> WorkflowSpec | None:
    """The workflow in a plain file of a commit or tree, by its path from ``top``.

    Messages call it ``origin``. None if there is none: a link in a pull request could lead to any file of the
    runner. Raises ``ConfigError``, ``GitError``.
    """
    found = tracking.plain_file(top, tree, name)
    if found is None:
        return None
    size = tracking.sizes(top, [found.id]).get(found.id, 0)
    if size > MAX_BYTES:  # it is not read at all
        raise nodes.unreadable(origin, nodes.TOO_LARGE)
    return parse(nodes.decode(next(tracking.contents(top, [(found.id, size)])), origin), origin, vocabulary)


def parse(text: str, origin: str, vocabulary: Vocabulary) -> WorkflowSpec:
    """The workflow in a text; messages call it ``origin``. Raises ``ConfigError``."""
    if len(text) > MAX_BYTES:
        raise nodes.unreadable(origin, nodes.TOO_LARGE)
    empty = "the file is empty; `aethr init` writes a workflow"
    raw, reading, lines = read_document(text, origin, document(vocabulary), _check, empty)
    chars = _context_chars(raw, CONTEXT_CHARS)
    return WorkflowSpec(
        name=raw["workflow"],
        roles=raw["roles"],
        models={role: _make_model(model) for role, model in raw.get("models", {}).items()},
        steps=tuple(_make_step(step, chars) for step in raw["steps"]),
        origin=origin,
        parts=raw.get("limits", {}).get("parts", PARTS),
        places=reading.places,
        lines=lines,
        exclude=tuple(raw.get("exclude", ())),
        exclude_defaults=raw.get("exclude_defaults", True),
        instructions=tuple(
            Instruction(tuple(each["paths"]), each["text"]) for each in raw.get("instructions", ())
        ),
        answers=tuple(
            Answer(**{**each, "also": tuple(each.get("also", ()))}) for each in raw.get("answers", ())
        ),
        answers_by_author=raw.get("answers_by_author", False),
        hosts=tuple(raw.get("hosts", ())),
    )


def refuse(spec: WorkflowSpec, problems: Sequence[tuple[str, str]]) -> ConfigError:
    """The error for later problems, as (dotted path, message), at that path or its nearest parent."""
    mistakes = []
    for path, message in problems:
        known = path
        while known and known not in spec.places:
            known = known.rpartition(".")[0]
        mistakes.append(Mistake(spec.places.get(known, Place(1, 1)), message))
    return refusal(spec.origin, spec.lines, mistakes)


def problem_of(kind: Kind, text: str) -> str:
    """The mistake of a text that is to be a value of this kind, without its place; empty for a valid one."""
    node, reading = scalar(text), Reading("", {}, {}, [])
    if isinstance(node, Mistake):
        return describe(node)
    reading.value(kind, node)
    return describe(reading.mistakes[0]) if reading.mistakes else ""


# --- mistakes that involve several values ----------------------------------------------------------------


def _check(raw: dict[str, Any], reading: Reading) -> Iterator[Mistake]:
    """Undefined roles, duplicate ids, and loops that do not go back or share steps."""
    steps = [step or {} for step in raw.get("steps", ())]
    used = [(reading.keys[f"models.{name}"], name) for name in raw.get("models", ())]
    used += [
        (reading.places[f"steps.{number}.role"], step["role"])
        for number, step in enumerate(steps)
        if "role" in step
    ]
    for place, name in used:
        if "roles" in raw and name not in raw["roles"]:
            yield Mistake(place, f"undefined role {quote(name)}", name, tuple(raw["roles"]))
    first: dict[str, int] = {}
    for number, step in enumerate(steps):
        name = step.get("id")
        if name is not None and first.setdefault(name, number) != number:
            line = reading.places[f"steps.{first[name]}.id"].line
            yield Mistake(
                reading.places[f"steps.{number}.id"], f"duplicate step id '{name}', first on line {line}"
            )
    yield from _check_fallbacks(raw.get("models", {}), reading)
    yield from _check_loops(steps, reading)
    yield from _check_review(steps, reading)
    yield from _check_answer(steps, reading)
    yield from _check_verify(steps, reading)
    for number, instruction in enumerate(raw.get("instructions", ())):
        paths = (instruction or {}).get("paths", ())
        if paths and all(path and path.startswith("!") for path in paths):
            place = reading.places[f"instructions.{number}.paths"]
            yield Mistake(place, "only patterns with '!', which match no file; name files before them")


def _check_fallbacks(models: dict[str, dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """Models that are called a second time where the first call of them has just failed."""
    for role, model in models.items():
        seen = {providers.litellm_name(model["model"])} if model and "model" in model else set()
        for number, name in enumerate((model or {}).get("fallback", ())):
            if name is None:
                continue
            if (same := providers.litellm_name(name)) in seen:
                place = reading.places[f"models.{role}.fallback.{number}"]
                yield Mistake(place, f"fallback: {quote(name)} is called before; name each model once")
            seen.add(same)


def _check_review(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """Steps whose ``review`` contradicts what else they are to do."""
    for number, step in enumerate(steps):
        passes = step.get("repeat", {}).get("until_review_pass")
        if step.get("review") is True and "verify" in step:
            problem = "a step that verifies reviews does not review itself; remove 'review' or 'verify'"
        elif step.get("review") is False and passes and "verify" not in step:
            problem = "until_review_pass needs a review; remove 'review: false' or 'until_review_pass'"
        else:
            continue
        yield Mistake(reading.places[f"steps.{number}.review"], problem)


def _check_answer(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """Steps that cannot answer by the schema of a review."""
    for number, step in enumerate(steps):
        if step.get("answer") != "schema":
            continue
        if step.get("backend", "model") != "model":
            problem = f"'{step['backend']}' is an agent, which answers in text; remove 'answer'"
        elif "verify" in step:
            problem = "a step that verifies answers in text; remove 'answer'"
        elif _reviews(step) is False:
            problem = "only a review has a schema; add 'review: true', or remove 'answer'"
        else:
            continue
        yield Mistake(reading.places[f"steps.{number}.answer"], problem)


def _reviews(step: dict[str, Any]) -> bool | None:
    """Whether a step reviews, as in ``StepSpec.reviewing``; None if that is not known without its role."""
    if "verify" in step or step.get("review") is not None:
        return "verify" not in step and bool(step["review"])
    if step.get("repeat", {}).get("until_review_pass"):
        return True
    return step["role"] == "reviewer" if "role" in step else None


def _check_verify(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """What a verifying step cannot do, and steps that it cannot verify."""
    ids_known = all("id" in step for step in steps)
    numbers = {step["id"]: number for number, step in reversed(list(enumerate(steps))) if "id" in step}
    for number, step in enumerate(steps):
        place = f"steps.{number}"
        if "verify" not in step:
            if "verify_high" in step:
                yield Mistake(reading.keys[f"{place}.verify_high"], "verify_high needs the key 'verify'")
            continue
        if "backend" in step and step["backend"] != StepSpec._field_defaults["backend"]:
            agent = f"an agent cannot verify; remove '{step['backend']}' or 'verify'"
            yield Mistake(reading.places[f"{place}.backend"], agent)
        for at, name in enumerate(step["verify"]):
            where = reading.places[f"{place}.verify.{at}"]
            earlier = numbers.get(name)
            if name is None or (earlier is None and not ids_known):
                continue
            if earlier is None:
                reviews = [each for each in numbers if numbers[each] < number]
                yield Mistake(where, f"verify: unknown step {quote(name)}", name, tuple(reviews))
            elif (problem := _find_unverifiable(steps[earlier], step, later=earlier >= number)) is not None:
                yield Mistake(where, problem)


def _find_unverifiable(reviewed: dict[str, Any], step: dict[str, Any], *, later: bool) -> str | None:
    """Why ``step`` cannot verify ``reviewed``; None if it can."""
    name = reviewed["id"]
    if reviewed is step:
        return "verify: a step cannot verify itself"
    if later:
        return f"verify must name earlier steps; '{name}' comes later"
    if _reviews(reviewed) is False:
        return f"verify: the step '{name}' does not review"
    forms = [
        [each for each in one.get("context", ()) if each and is_git_diff(each)] for one in (reviewed, step)
    ]
    if forms[0] and forms[1] and set(forms[0]) != set(forms[1]):
        there, here = (", ".join(each) for each in forms)
        return f"verify: '{name}' reads {there} and this step {here}, so their parts differ; write the same"
    return None


def _check_loops(steps: list[dict[str, Any]], reading: Reading) -> Iterator[Mistake]:
    """Loops that do not go back, and loops that share a step with the previous one."""
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
                yield Mistake(place, f"back_to: unknown step {quote(back_to)}", back_to, tuple(numbers))
        elif start > end:
            yield Mistake(place, f"back_to must name this step or an earlier one; '{back_to}' comes later")
        else:
            if previous is not None and start <= previous[1]:
                verb = "encloses" if start <= previous[0] else "overlaps"
                first, last = (steps[number].get("id", f"number {number + 1}") for number in previous)
                other = f"the loop of step '{last}', which goes back to '{first}'"
                yield Mistake(place, f"this loop {verb} {other}; loops must not share steps")
            previous = (start, end)


# --- values -> records -----------------------------------------------------------------------------


def _context_chars(raw: dict[str, Any], default: int) -> int:
    chars: int = raw.get("limits", {}).get("context_chars", default)
    return chars


def _make_model(raw: dict[str, Any]) -> ModelSpec:
    given = {name: value for name, value in raw.items() if name not in ("model", "fallback")}
    return ModelSpec(raw["model"], **given, fallback=tuple(raw.get("fallback", ())))


def _make_step(raw: dict[str, Any], context_chars: int) -> StepSpec:
    """Keys and fields have the same names; missing keys get the record's default."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in raw.items()
        if name not in ("repeat", "limits")
    }
    return StepSpec(
        **given,
        context_chars=_context_chars(raw, context_chars),
        repeat=Repeat(**raw["repeat"]) if "repeat" in raw else None,
    )


WIDTH = 80
"""Text of one line is folded at the first space after this many characters. Other lines stay unchanged."""

_HEADER = "# Saved by `aethr run --save`. `aethr check` explains this file."


def text(spec: WorkflowSpec) -> str:
    """The whole file, with the comments at the head of the file of ``spec``; other comments are lost."""
    sizes = {step.context_chars for step in spec.steps}
    shared = sizes.pop() if len(sizes) == 1 else CONTEXT_CHARS
    other_parts = {} if spec.parts == PARTS else {"parts": spec.parts}
    models: dict[str, str | dict[str, Any]] = {}
    for role, model in spec.models.items():
        given = list_given(model)
        models[role] = {"model": given.pop("name"), **given} if len(given) > 1 else model.name
    sections: dict[str, Any] = {
        "workflow": spec.name,
        "roles": dict(spec.roles),
        "models": models,
        "hosts": list(spec.hosts),
        "steps": [_step_entry(step, shared) for step in spec.steps],
        "exclude": list(spec.exclude),
        **({} if spec.exclude_defaults else {"exclude_defaults": False}),
        "instructions": [{"paths": list(each.paths), "text": each.text} for each in spec.instructions],
        "limits": {**_limits(shared, CONTEXT_CHARS), **other_parts},
        **({"answers_by_author": True} if spec.answers_by_author else {}),
        "answers": [list_given(each) for each in spec.answers],
    }
    # YAML ends lines at more characters than editors do: a line with one of them may not be all comment.
    comments = takewhile(lambda line: line.startswith("#") and line.isprintable(), spec.lines)
    head = list(comments) or [MODELINE, _HEADER]
    dumped = (dump({key: value}) for key, value in sections.items() if value or value is False)
    return "\n".join(("\n".join((*head, "")), *dumped))


def dump(value: object) -> str:
    """JSON values as the lines of a file."""
    made = yaml.dump(value, None, _Dumper, allow_unicode=True, sort_keys=False, width=WIDTH)
    # PyYAML does not escape what editors do not show, such as bidi marks. `_style` puts such text in quotes.
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in made)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if char <= "\uffff" else f"\\U{ord(char):08x}"


def _step_entry(step: StepSpec, shared: int) -> dict[str, Any]:
    given = list_given(step)
    limits = _limits(given.pop("context_chars"), shared)
    if step.repeat:
        given["repeat"] = list_given(step.repeat)
    return {**given, **({"limits": limits} if limits else {})}


def _limits(size: int, default: int) -> dict[str, int]:
    return {} if size == default else {"context_chars": size}


def list_given(record: Any) -> dict[str, Any]:
    """The fields of a named tuple without defaults; keys of a file have the same names."""
    defaults = record._field_defaults
    return {
        name: value
        for name, value in record._asdict().items()
        if name not in defaults or value != defaults[name]
    }


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, with lists indented under their key, tabs in literal text, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's
        return True  # an anchor may be defined only once in a file, and each section is dumped by itself

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's
        super().increase_indent(flow, indentless=False)

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = True  # `_style` decides where
        return analysis


_NUMBER = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
"""A number to editors, which read YAML 1.2, but not to PyYAML."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, _style(value))


def _style(value: str) -> str | None:
    """Literal for several lines, folded for a long one, quoted if an editor may hide or change the text."""
    lines = value.removesuffix("\n").split("\n")
    if not all(line.replace("\t", " ").isprintable() for line in lines):
        return '"'
    if len(value) <= WIDTH and "\n" not in value:
        return '"' if _NUMBER.fullmatch(value) else None
    if value[0].isspace() or not lines[-1] or any(line[-1:].isspace() for line in lines):
        return '"'
    if len(lines) > 1:
        return "|"
    return '"' if "\t" in value else ">"


_Dumper.add_representer(str, _text)
