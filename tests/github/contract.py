"""Every exchange with the API against GitHub's own descriptions of it.

``data/github_api.json`` is of REST, ``data/github_graphql.json`` of GraphQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft7Validator

_DATA = Path(__file__).parent / "data"
_TOKEN = re.compile(r"\.{3}|[A-Za-z_]\w*|[0-9]+|[{}()\[\]:$!=,]")
_SCALARS: Mapping[str, type] = {"String": str, "ID": str, "BigInt": str, "Boolean": bool, "Int": int}


def check(exchange: Mapping[str, Any]) -> None:
    """``method``, ``path``, ``body`` of a request, ``status`` and ``answer``. Raises ``ValidationError``.

    An operation that is not described fails too.
    """
    parts = urlsplit(exchange["path"])
    if parts.path == "/graphql":
        _check_graphql(exchange)
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


def _check_graphql(exchange: Mapping[str, Any]) -> None:
    """A query of fields that the schema has, and an answer with these fields; errors come with status 200."""
    kind, *tokens = _TOKEN.findall(exchange["body"]["query"])
    variables = {}
    if tokens[0] == "(":
        declared = " ".join(tokens[1 : tokens.index(")")])
        variables = dict(re.findall(r"\$ (\w+) : (\w+(?: !)?)", declared))
        tokens = tokens[tokens.index(")") + 1 :]
    given = exchange["body"].get("variables", {})
    assert set(given) == set(variables)
    for name, value in given.items():
        _check_scalar(value, variables[name].replace(" ", ""))
    value = exchange["answer"]
    data = value.get("data") if exchange["status"] == 200 else None
    assert data is not None or exchange["status"] != 200 or value["errors"]
    _check_fields(kind.capitalize(), iter(tokens[1:]), [] if data is None else [data])


def _check_fields(kind: str, tokens: Iterator[str], values: list[Any]) -> None:
    """The fields up to the next ``}``, in the query and in each of the values."""
    names, name = set(), next(tokens)
    while name != "}":
        names.add(name)
        field = _graphql()[kind][name]
        following = next(tokens)
        if following == "(":
            asked, depth = [], 1
            while depth:
                token = next(tokens)
                depth += (token in "({") - (token in ")}")
                asked += [token] if depth == 1 else []
            args = set(re.findall(r"(\w+) :", " ".join(asked)))
            assert args <= set(field["args"])
            assert {arg for arg, of in field["args"].items() if of.endswith("!")} <= args
            following = next(tokens)
        found = [value[name] for value in values]
        inner = field["type"].strip("[]!")
        if following == "{":
            listed = field["type"].startswith("[")
            below = [each for value in found for each in value] if listed else found
            _check_fields(inner, tokens, below)
            following = next(tokens)
        else:
            for value in found:
                _check_scalar(value, field["type"])
        name = following
    assert all(set(value) == names for value in values)


def _check_scalar(value: Any, kind: str) -> None:
    assert isinstance(value, _SCALARS[kind.rstrip("!")]) or (value is None and not kind.endswith("!")), value


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
    """The description, with the limit of a comment that github.com really has: 262,144 bytes."""
    text = (_DATA / "github_api.json").read_text(encoding="utf-8")
    return json.loads(text.replace('"maxLength": 65536', '"maxLength": 262144'))


@lru_cache
def _graphql() -> Any:
    return json.loads((_DATA / "github_graphql.json").read_text(encoding="utf-8"))
