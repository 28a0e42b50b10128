"""``WorkflowSpec`` -> YAML text, exact on the way back (``config.parse``)."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import yaml

from aethr.config.schema import CONTEXT_CHARS, MODELINE
from aethr.records import ModelSpec, StepSpec, WorkflowSpec

WIDTH = 80
"""Characters after which a text of one line is folded at the next space. Other lines stay as they are."""

_HEADER = "# Saved by `aethr run --save`. `aethr check` explains this file."


def text(spec: WorkflowSpec) -> str:
    """The whole file. Of the comments in the file of ``spec`` those at its head are kept."""
    sizes = {step.context_chars for step in spec.steps}
    shared = sizes.pop() if len(sizes) == 1 else CONTEXT_CHARS
    sections: dict[str, Any] = {
        "workflow": spec.name,
        "roles": dict(spec.roles),
        "models": {role: _model(model) for role, model in spec.models.items()},
        "steps": [_step(step, shared) for step in spec.steps],
        "limits": _limits(shared, CONTEXT_CHARS),
    }
    head = list(takewhile(_is_comment, spec.lines)) or [MODELINE, _HEADER]
    dumped = (
        yaml.dump({key: value}, None, _Dumper, allow_unicode=True, sort_keys=False, width=WIDTH)
        for key, value in sections.items()
        if value
    )
    made = "\n".join(("\n".join((*head, "")), *dumped))
    # PyYAML writes what an editor does not show, such as a bidi mark. `_style` has it in double quotes.
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in made)


def _is_comment(line: str) -> bool:
    """One that stays one: YAML ends a line at more characters than an editor does."""
    return line.startswith("#") and line.isprintable()


def _model(model: ModelSpec) -> str | dict[str, Any]:
    given = _given(model)
    return {"model": given.pop("name"), **given} if len(given) > 1 else model.name


def _step(step: StepSpec, shared: int) -> dict[str, Any]:
    given = _given(step)
    limits = _limits(given.pop("context_chars"), shared)
    if step.repeat:
        given["repeat"] = _given(step.repeat)
    return {**given, **({"limits": limits} if limits else {})}


def _limits(size: int, default: int) -> dict[str, int]:
    return {} if size == default else {"context_chars": size}


def _given(record: Any) -> dict[str, Any]:
    """The fields of a named tuple that are not at their default: keys of a file have the same names."""
    defaults = record._field_defaults
    return {
        name: value
        for name, value in record._asdict().items()
        if name not in defaults or value != defaults[name]
    }


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with lists indented under their key, and tabs in literal text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's
        super().increase_indent(flow, indentless=False)

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = True  # `_style` says where
        return analysis


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, _style(value))


def _style(value: str) -> str | None:
    """Literal for several lines, folded for a long one, quoted where an editor would hide or change it."""
    lines = value.removesuffix("\n").split("\n")
    if not all(line.replace("\t", " ").isprintable() for line in lines):
        return '"'
    if len(value) <= WIDTH and "\n" not in value:
        return None
    if value[0].isspace() or not lines[-1] or any(line[-1:].isspace() for line in lines):
        return '"'
    if len(lines) > 1:
        return "|"
    return '"' if "\t" in value else ">"


_Dumper.add_representer(str, _text)
