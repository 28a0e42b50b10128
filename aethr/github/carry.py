"""A checkpoint on its way from one attempt of a run to the next, through a cache that others may write to.

It is the checkpoint's own file, line for line, sealed (``aethr.seal``) and bound to the run of the Action.
Whoever can read the provider's keys can spend them anyway; a pull request of a fork cannot. What does not
fit, or what no key of this attempt has sealed, is ignored with its reason. Without any key nothing is
carried; a placeholder for a local server is not a key.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aethr import __version__
from aethr.base import disk
from aethr.base.disk import State
from aethr.base.errors import AethrError, UsageError
from aethr.base.records import Seal
from aethr.base.sanitize import redact
from aethr.engine import checkpoint
from aethr.engine.seal import count_sealed, find_other_bindings

FILE = "checkpoint.sealed.jsonl"
SHORTEST_KEY = 20
"""In characters. What stands where a key is not needed (`EMPTY`, `sk-no-key-required`) anybody can guess."""
STALE_S = 2 * 24 * 3600
"""Age in seconds at which what an earlier run left on a self-hosted runner is removed."""


class EnvelopeError(AethrError):
    """Why an envelope is not opened, in words that follow on "the checkpoint was ignored:"."""


class Binding(NamedTuple):
    """All that must be the same for a checkpoint to be taken up again. ``workflow`` is a hash of its text."""

    repository: str
    run: str
    job: str
    pull_request: str
    base: str
    head: str
    workflow: str
    aethr: str = __version__


def workflow_hash(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def seal_of(binding: Binding, keys: Iterable[str]) -> Seal:
    """What seals the checkpoint of this run; nothing where each key is too short."""
    bound = {name: redact(value) for name, value in binding._asdict().items()}
    return Seal(tuple(key for key in keys if len(key) >= SHORTEST_KEY), bound)


def unseal(text: str, seal: Seal) -> str:
    """The lines up to the last one that is sealed: what comes after it may be cut, or forged.

    Raises ``EnvelopeError``; nothing unsealed is looked at any closer.
    """
    *lines, _ = text.split("\n")
    if others := find_other_bindings(_binding(lines), seal.binding):
        raise EnvelopeError(f"made for another {' and another '.join(others)}")
    count = count_sealed(lines, seal.keys)
    if count < 2:  # the first line only says what the run was about
        raise EnvelopeError("not sealed with a key of this run")
    return "".join(f"{line}\n" for line in lines[:count])


class Carrier:
    """The folder that the cache takes from attempt to attempt."""

    def __init__(self, folder: Path | None, seal: Seal) -> None:
        self._file = folder / FILE if folder is not None and seal.keys else None
        self._seal = seal
        self._texts: list[str] = []
        self._left: State | None = None

    def take(self) -> str | None:
        """The checkpoint of an earlier attempt; None where there is none. Raises ``EnvelopeError``."""
        if self._file is None:
            return None
        try:
            if not self._file.is_file():
                return None
            if self._file.stat().st_size > checkpoint.MAX_BYTES:
                raise EnvelopeError("too large to be one")
            return unseal(self._file.read_bytes().decode("utf-8"), self._seal)
        except (OSError, UnicodeDecodeError) as error:
            raise EnvelopeError("not readable") from error

    def put(self, text: str, whole: bool) -> bool:
        """Keep what the checkpoint has got, as ``recorder.OnKept`` is told it; only what is new is written.

        False where there is nothing to seal with. Raises ``DiskError``.
        """
        if self._file is None:
            return False
        if whole:
            self._texts.clear()
        self._texts.append(text)
        left, self._left = self._left, None  # until it is written
        if not whole and left is not None:
            self._left = checkpoint.append(self._file, text, left)
        if self._left is None:
            with disk.failing_as(f"{self._file.parent}: cannot be made"):
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._left = checkpoint.write(self._file, "".join(self._texts))
        return True

    def drop(self) -> None:
        """Leave nothing for a next attempt, and nothing of runs long gone on a machine that is used again.

        What cannot be removed stays: the run has ended, and this changes nothing in how.
        """
        if self._file is not None:
            _remove(self._file)
            _sweep(self._file.parent.parent)


def _binding(lines: Sequence[str]) -> Mapping[str, object]:
    """What the first line says that the checkpoint is bound to."""
    try:
        document = json.loads(lines[0] if lines else "")
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("not JSON") from error
    bound = document.get("binding") if isinstance(document, dict) else None
    if not isinstance(bound, dict):
        raise EnvelopeError("not in the form that this version writes")
    return bound


def _sweep(folder: Path) -> None:
    for file in folder.glob(f"*/{FILE}"):
        with suppress(OSError):  # another job may be sweeping too
            if file.stat().st_mtime < time.time() - STALE_S:
                _remove(file)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
        file.parent.rmdir()


def folder_of(environ: Mapping[str, str]) -> Path | None:
    """The folder that ``action.yml`` restores and saves."""
    named = environ.get("AETHR_ACTION_CARRY", "").strip()
    try:
        return Path(named).expanduser() if named else None
    except RuntimeError as error:
        raise UsageError(f"AETHR_ACTION_CARRY: {error}", "Name a folder of this machine.") from error
