"""Converts values from outside (JSON, numbers, headers) so that no later code fails on them. Pure.

Python's own conversions raise more than one expects: 4,301 digits in JSON are a ``ValueError`` that is not a
``JSONDecodeError``; ``float`` of 401 digits is an ``OverflowError``; deep nesting is a ``RecursionError``;
and ``"²".isdigit()`` is true, though ``float`` refuses it.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any

MOST = 1 << 53
"""No real count is larger, and all JSON readers read the same integers up to it."""

_BEYOND = 10**18
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""May be half of a surrogate pair, which can be neither sent nor written."""
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_FOR_EVER_S = 1e9
_LONGEST_HEADER = 100


def json_value(data: bytes | str, *, unique: bool = False) -> Any:
    """The value of JSON in UTF-8, half surrogate pairs in it replaced.

    ``unique`` refuses an object that has a key twice. Raises ``ValueError`` with one line, and no other
    error.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
        if _HALF.search(text):
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
            value = json.loads(whole.decode("utf-16-le", "replace"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON (line {error.lineno}, column {error.colno})") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(
            "nested too deeply, or with a number too long" + ", or a key twice" * unique
        ) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def at(value: object, *keys: str) -> Any:
    """The value at a path of keys through nested JSON objects; None if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def text(value: object) -> str:
    """A string; empty for any other value."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """A count, at most ``MOST``; 0 for anything that is not a finite number."""
    return count_if_any(value) or 0


def count_if_any(value: object) -> int | None:
    """``count``, but None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(min(max(value, -MOST), MOST))


def number(value: object) -> float | None:
    """A finite number; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        finite = float(value)
    except OverflowError:
        return None
    return finite if math.isfinite(finite) else None


def amount(value: Any) -> float | None:
    """A price, a cost or a size: a number from 0 and below 10**18; None for any other value."""
    finite = number(value)
    return value if finite is not None and 0 <= finite < _BEYOND else None


def retry_after_s(header: str) -> float | None:
    """The seconds that a ``Retry-After`` asks for, in either form (RFC 9110, 10.2.3), or None.

    Some servers send fractions of a second, which the RFC does not allow.
    """
    plain = header.strip()
    if _SECONDS.fullmatch(plain):
        return min(float(plain), _FOR_EVER_S)
    if len(plain) > _LONGEST_HEADER or not plain.isascii():
        return None
    from email.utils import parsedate_to_datetime  # httpx loads it too

    try:
        return max(0.0, parsedate_to_datetime(plain).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
