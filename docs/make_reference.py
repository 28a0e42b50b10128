"""Prints docs/workflow-reference.md, from the table that validates a workflow file.

    python docs/make_reference.py > docs/workflow-reference.md

A test compares the page with what this prints.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from aethr.config import schema
from aethr.context import SOURCES
from aethr.workflow import planning
from aethr.workflow.backends import BACKENDS

Schema = dict[str, Any]

HEAD = """\
# Reference of the workflow file

<!-- Printed by docs/make_reference.py from aethr/config/schema.py; change it there. -->

Every key of `.aethr.yaml`; `aethr schema` prints the same as JSON Schema. [The guide](workflow-file.md)
explains them. Any other key is a mistake, and so is a key that is given twice.
"""

NAMED = "NAME"
"""Stands in a path for a name that the user chooses."""


def page() -> str:
    """The whole page, as Markdown."""
    root = schema.document(planning.vocabulary()).schema()
    return "\n".join([HEAD, *_record("The file", root), *_names()]) + "\n"


def _record(path: str, record: Schema) -> Iterator[str]:
    """A mapping's keys as a table, then the mappings below it."""
    yield f"## {path if ' ' in path else f'`{path}`'}\n"
    yield "| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |"
    required = record.get("required", ())
    for name, key in record["properties"].items():
        default = "required" if name in required else _code(key["default"]) if "default" in key else ""
        example = ", ".join(map(_code, key.get("examples", ())))
        yield _row(f"`{name}`", _type(key), default, _plain(key.get("description", "")), example)
    yield ""
    if "anyOf" in record:
        names = ", ".join(f"`{name}`" for choice in record["anyOf"] for name in choice["required"])
        yield f"At least one of {names} is required; all that are given must hold.\n"
    for name, key in record["properties"].items():
        for inner, below in _below(key):
            yield from _record(f"{'' if ' ' in path else path + '.'}{name}{inner}", below)


def _below(key: Schema) -> Iterator[tuple[str, Schema]]:
    """The mappings with keys of their own inside of a value, each with the rest of its path."""
    if "properties" in key and key.get("additionalProperties") is False:
        yield "", key
    for choice in key.get("anyOf", ()):
        yield from _below(choice)
    if isinstance(key.get("items"), dict):
        yield from ((f"[]{inner}", found) for inner, found in _below(key["items"]))
    if isinstance(key.get("additionalProperties"), dict):
        yield from ((f".{NAMED}{inner}", found) for inner, found in _below(key["additionalProperties"]))


def _type(key: Schema) -> str:
    if "type" not in key and "anyOf" in key:
        return ", or ".join(_type(choice) for choice in key["anyOf"])
    if "const" in key:
        return _code(key["const"])
    if "enum" in key:
        return "one of " + ", ".join(map(_code, key["enum"]))
    simple = {"string": "text", "boolean": "`true` or `false`", "integer": "whole number", "number": "number"}
    match key["type"]:
        case "array":
            return f"list: {_type(key['items'])}"
        case "object" if isinstance(key.get("additionalProperties"), dict):
            return f"mapping from names, each to: {_type(key['additionalProperties'])}"
        case kind:
            return simple.get(kind, "mapping") + _range(key)


def _range(key: Schema) -> str:
    if "maximum" not in key or key["maximum"] >= 2**31 - 1:
        return f" from {key['minimum']:,}" if key.get("minimum", -1) >= 0 else ""
    low = f"above {key['exclusiveMinimum']:,}" if "exclusiveMinimum" in key else f"from {key['minimum']:,}"
    return f" {low} to {key['maximum']:,}"


_ARGUMENTS = {"none": "", "optional": "[:…]", "required": ":…"}


def _names() -> Iterator[str]:
    yield "## Context sources\n\n| source | gives |\n| --- | --- |"
    for source in SOURCES.values():
        yield _row(f"`{source.name}{_ARGUMENTS[source.argument]}`", _plain(source.help))
    yield "\n[Context](context.md) says more.\n"
    yield "## Backends\n\n| backend | runs the step as |\n| --- | --- |"
    for backend in BACKENDS.values():
        yield _row(f"`{backend.name}`", _plain(backend.help))
    yield "\n[Agents](agents.md) says more."


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    """A sentence whose words are neither HTML nor emphasis; what it has in backticks is code."""
    words = text.split("`")
    words[::2] = (word.replace("&", "&amp;").replace("<", "&lt;").replace("*", r"\*") for word in words[::2])
    return "`".join(words)


def _code(value: object) -> str:
    """A value as one would write it in YAML, in one line."""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    sys.stdout.write(page())
