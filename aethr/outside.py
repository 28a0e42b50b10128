"""Values that come from outside (JSON, numbers, headers) as ones that nothing later falls over. Pure.

Python's own conversions raise more than they seem to: 4,301 digits in JSON are a ``ValueError`` that is not a
``JSONDecodeError``; ``float`` of 401 digits is an ``OverflowError``; deep nesting is a ``RecursionError``;
and ``"²".isdigit()`` is true, though ``float`` refuses it.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any
from urllib.parse import urlsplit

MOST = 1 << 53
"""No count comes near it, and every JSON reader agrees on the integers up to it."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""Maybe half of a surrogate pair: no text, so it could neither be sent nor written."""
_DIGITS = re.compile(r"[0-9]{1,15}")
_LONGEST_HEADER = 100


def json_value(data: bytes | str) -> Any:
    """The value of JSON in UTF-8, half surrogate pairs in it replaced.

    Raises ``ValueError`` with one line, and nothing else.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text)
        if _HALF.search(text):
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
            value = json.loads(whole.decode("utf-16-le", "replace"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON (line {error.lineno}, column {error.colno})") from error
    except (RecursionError, ValueError) as error:
        raise ValueError("nested too deeply, or with a number too long") from error
    return value


def count(value: object) -> int:
    """A count as it was sent, but never beyond ``MOST``; 0 for what is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return int(min(max(value, -MOST), MOST))


def number(value: object) -> float | None:
    """A finite number; None for what is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        finite = float(value)
    except OverflowError:
        return None
    return finite if math.isfinite(finite) else None


def retry_after_s(header: str) -> float | None:
    """The seconds that a ``Retry-After`` asks for, in either form (RFC 9110, 10.2.3); None for neither."""
    text = header.strip()
    if _DIGITS.fullmatch(text):
        return float(text)
    if len(text) > _LONGEST_HEADER or not text.isascii():
        return None
    from email.utils import parsedate_to_datetime  # httpx loads it too

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None


def is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    """Whether this is a URL of plain characters with a host (but for ``file``) and a port that can be one."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and (bool(parts.hostname) or parts.scheme == "file") and port != 0
