"""Every exchange with the API against GitHub's own description of it (``data/github_api.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft7Validator

_FILE = Path(__file__).parent / "data" / "github_api.json"


def check(exchange: Mapping[str, Any]) -> None:
    """``method``, ``path``, ``body`` of a request, ``status`` and ``answer``. Raises ``ValidationError``.

    An operation that is not described fails too; GraphQL has no such description.
    """
    parts = urlsplit(exchange["path"])
    if parts.path == "/graphql":
        return
    operation = _operation(exchange["method"], parts.path)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _validate(int(value) if value.isdigit() else value, operation["query"][name])
    if operation["body"] is None:
        assert exchange["body"] is None
    elif exchange["status"] != 422:
        _validate(exchange["body"], operation["body"])
    if exchange["status"] in (200, 201):
        _validate(exchange["answer"], operation["answers"][str(exchange["status"])])


def _operation(method: str, path: str) -> Any:
    for template, operations in _description()["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return operations[method.lower()]
    raise AssertionError(f"GitHub describes no {method} {path}")


def _validate(value: Any, schema: Any) -> None:
    Draft7Validator({**schema, "definitions": _description()["definitions"]}).validate(value)


def example(method: str, path: str, status: int) -> Any:
    """The smallest answer that fits the description: what it requires, with empty values."""
    return _example(_operation(method, path)["answers"][str(status)])


def _example(schema: Any) -> Any:
    if "$ref" in schema:
        return _example(_description()["definitions"][schema["$ref"].rpartition("/")[2]])
    for choices in ("allOf", "anyOf", "oneOf"):
        if choices in schema:
            return _example(schema[choices][0])
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        return None
    properties = schema.get("properties", {})
    values: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}
    required = schema.get("required", ())
    return values[kind] if kind in values else {name: _example(properties[name]) for name in required}


@lru_cache
def _description() -> Any:
    return json.loads(_FILE.read_text(encoding="utf-8"))
