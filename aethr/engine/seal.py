"""Seals: they show which lines of a checkpoint were written by a run with the same keys.

Each line of a sealed file is a JSON object whose last entry, ``seals``, is a list of HMACs in hexadecimal
digits: one for each provider key of the run, over all lines of the file up to this one, without their seals.
If a line is edited, added, removed in the middle or moved, its own seal and all seals after it no longer fit.
Only lines missing at the end go unnoticed. Whoever can read the keys could forge a seal, but could also
spend the keys.

A run record that leaves its machine, and the state of a pull request, are sealed as a whole: one HMAC for
each key over the record with its ``binding``, as JSON with sorted keys.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aethr.base import codec

_PURPOSE = b"aethr checkpoint seal 1\n"
_RECORD_PURPOSE = b"aethr record seal 1\n"
STATE_PURPOSE = b"aethr state seal 1\n"
"""A seal of one purpose never fits another, even with the same binding."""
SHORTEST_KEY = 20
"""In characters, of a key whose seal may come from elsewhere: anybody can guess a placeholder such as `EMPTY`
or `sk-no-key-required`."""
_SEALS = re.compile(r', "seals": \[("[0-9a-f]{64}"(?:, "[0-9a-f]{64}")*)\]\}\Z')


class Sealer:
    """Seals the lines of one file, in order, with each of ``keys``."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._states = [_state(key) for key in keys]

    def seal(self, line: str) -> str:
        """The line (a non-empty JSON object and a line break) with its seals."""
        body = line.removesuffix("}\n")
        for state in self._states:
            state.update(_covered(body))
        seals = ", ".join(f'"{state.hexdigest()}"' for state in self._states)
        return f'{body}, "seals": [{seals}]}}\n'


def seal_record(
    record: Mapping[str, object],
    keys: Iterable[str],
    binding: Mapping[str, str],
    purpose: bytes = _RECORD_PURPOSE,
) -> dict[str, Any]:
    """The record (``output.report.record``) with its ``binding`` and ``seals``, as a file holds it."""
    bound: Any = codec.loads(codec.dumps({**record, "binding": dict(binding)}))  # what a reader will see
    return {**bound, "seals": [_digest(bound, key, purpose) for key in keys]}


def find_record_doubt(
    document: Mapping[str, object],
    keys: Iterable[str],
    binding: Mapping[str, str],
    purpose: bytes = _RECORD_PURPOSE,
) -> str | None:
    """Why no key proves that a run with this binding wrote all of the record; None if one does."""
    if others := find_other_bindings(document.get("binding"), binding):
        return f"it was made for another {' and another '.join(others)}"
    found = document.get("seals")
    theirs = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    bound = {name: value for name, value in document.items() if name != "seals"}
    ours = [_digest(bound, key, purpose) for key in keys]
    if any(hmac.compare_digest(own.encode(), _encoded(each)) for own in ours for each in theirs):
        return None
    return "it is not sealed with a key of this run, or was edited"


def is_sealed(line: str) -> bool:
    """Whether a line, without its line break, holds a seal of any key."""
    return _SEALS.search(line) is not None


def count_sealed(lines: Iterable[str], keys: Iterable[str]) -> int:
    """How many of ``lines``, counted from the first, hold a seal by one of ``keys``; no line breaks."""
    states = [_state(key) for key in keys]
    count = 0
    for line in lines:
        found = _SEALS.search(line)
        if found is None:
            break
        for state in states:
            state.update(_covered(line[: found.start()]))
        ours = [state.hexdigest() for state in states]
        theirs = re.findall("[0-9a-f]{64}", found[1])
        if not any(hmac.compare_digest(own, each) for own in ours for each in theirs):
            break
        count += 1
    return count


def find_other_bindings(binding: object, expected: Mapping[str, str]) -> tuple[str, ...]:
    """The names of ``expected`` for which a checkpoint's ``binding`` has another value, or none."""
    bound = binding if isinstance(binding, dict) else {}
    return tuple(name.replace("_", " ") for name, value in expected.items() if bound.get(name) != value)


def folder_binding(root: Path) -> Mapping[str, str]:
    """What binds a checkpoint on this machine: its project's folder, as the SHA-256 of the path."""
    return {"project": hashlib.sha256(os.fsencode(root)).hexdigest()}


def _state(key: str, purpose: bytes = _PURPOSE) -> hmac.HMAC:
    own = hmac.new(os.fsencode(key), purpose, hashlib.sha256).digest()
    return hmac.new(own, digestmod=hashlib.sha256)


def _digest(bound: Mapping[str, object], key: str, purpose: bytes) -> str:
    state = _state(key, purpose)
    state.update(_encoded(json.dumps(bound, sort_keys=True)))
    return state.hexdigest()


def _covered(body: str) -> bytes:
    return _encoded(body) + b"}\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
