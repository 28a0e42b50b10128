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


@lru_cache
def _description() -> Any:
    """The description, with the limit of a comment that github.com really has: 262,144 bytes."""
    text = _FILE.read_text(encoding="utf-8")
    return json.loads(text.replace('"maxLength": 65536', '"maxLength": 262144'))
