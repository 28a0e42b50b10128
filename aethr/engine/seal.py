"""Seals: which lines of a checkpoint were written by a run that had the same keys.

Each line of a sealed file is a JSON object whose last entry, ``seals``, is a list of HMACs in hexadecimal
digits: one for each provider key of the run, over all lines of the file up to this one, without their seals.
So a line that was edited, added, removed in the middle or moved breaks its own seal and those after it; only
lines at the end can be missing unnoticed. Whoever can read the keys can spend them anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_PURPOSE = b"aethr checkpoint seal 1\n"
_SEALS = re.compile(r', "seals": \[("[0-9a-f]{64}"(?:, "[0-9a-f]{64}")*)\]\}\Z')


class Sealer:
    """Seals the lines of one file, in their order, with each of ``keys``."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._states = [_state(key) for key in keys]

    def seal(self, line: str) -> str:
        """A line (a JSON object that is not empty, and its line break) with its seals."""
        body = line.removesuffix("}\n")
        for state in self._states:
            state.update(_covered(body))
        seals = ", ".join(f'"{state.hexdigest()}"' for state in self._states)
        return f'{body}, "seals": [{seals}]}}\n'


def is_sealed(line: str) -> bool:
    """Whether a line, without its line break, holds a seal, of whatever key."""
    return _SEALS.search(line) is not None


def count_sealed(lines: Iterable[str], keys: Iterable[str]) -> int:
    """How many of the first ``lines``, without line breaks, hold a seal of one of these keys."""
    states = [_state(key) for key in keys]
    count = 0
    for line in lines:
        found = _SEALS.search(line)
        if found is None:
            break
        for state in states:
            state.update(_covered(line[: found.start()]))
        theirs = re.findall("[0-9a-f]{64}", found[1])
        if not any(hmac.compare_digest(state.hexdigest(), each) for state in states for each in theirs):
            break
        count += 1
    return count


def differing(binding: object, expected: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what a checkpoint is bound to and this run is not: all, where it is bound to nothing."""
    bound = binding if isinstance(binding, dict) else {}
    return tuple(name.replace("_", " ") for name, value in expected.items() if bound.get(name) != value)


def folder_binding(root: Path) -> Mapping[str, str]:
    """What a checkpoint on this machine is bound to: the folder of its project, as a hash of its path."""
    return {"project": hashlib.sha256(os.fsencode(root)).hexdigest()}


def _state(key: str) -> hmac.HMAC:
    own = hmac.new(os.fsencode(key), _PURPOSE, hashlib.sha256).digest()
    return hmac.new(own, digestmod=hashlib.sha256)


def _covered(body: str) -> bytes:
    return body.encode("utf-8", "surrogatepass") + b"}\n"
