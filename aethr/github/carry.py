"""Carry a checkpoint from one attempt of a run to the next, through a cache that others can write to.

It is the checkpoint's file, line for line, sealed with the provider's keys (``aethr.engine.seal``) and bound
to the run of the Action. Whoever can read those keys can spend them anyway; a pull request of a fork cannot
read them. A checkpoint of another run, or one that no key of this attempt sealed, is ignored with its reason.
Without a key nothing is carried; a placeholder for a local server is not a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
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
from aethr.engine.seal import SHORTEST_KEY, count_sealed, find_other_bindings

FILE = "checkpoint.sealed.jsonl"
STALE_S = 2 * 24 * 3600
"""Seconds after which the file of an earlier run is removed from a self-hosted runner."""


class EnvelopeError(AethrError):
    """Why a carried checkpoint is not used, in words that follow "the checkpoint was ignored:"."""


class Binding(NamedTuple):
    """What has to be the same for a checkpoint to be resumed. ``workflow`` is a hash of its text."""

    repository: str
    run: str
    job: str
    pull_request: str
    base: str
    head: str
    workflow: str
    aethr: str = __version__


def make_seal(binding: Binding, keys: Iterable[str]) -> Seal:
    """The seal for the checkpoint of this run, without the keys that are too short."""
    bound = {name: redact(value) for name, value in binding._asdict().items()}
    return Seal(tuple(key for key in keys if len(key) >= SHORTEST_KEY), bound)


def unseal(text: str, seal: Seal) -> str:
    """The lines up to the last sealed one; later lines may be cut or forged. Raises ``EnvelopeError``."""
    *lines, _ = text.split("\n")
    try:
        document = json.loads(lines[0] if lines else "")
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("not JSON") from error
    binding = document.get("binding") if isinstance(document, dict) else None
    if not isinstance(binding, dict):
        raise EnvelopeError("not in the format of this version")
    if others := find_other_bindings(binding, seal.binding):
        raise EnvelopeError(f"made for another {' and another '.join(others)}")
    count = count_sealed(lines, seal.keys)
    if count < 2:  # the first line only says what the run was about
        raise EnvelopeError("not sealed with a key of this run")
    return "".join(f"{line}\n" for line in lines[:count])


class Carrier:
    """The checkpoint's file in the folder that the cache keeps between attempts."""

    def __init__(self, folder: Path | None, seal: Seal) -> None:
        self._file = folder / FILE if folder is not None and seal.keys else None
        self._seal = seal
        self._texts: list[str] = []
        self._left: State | None = None

    def take(self) -> str | None:
        """Read the checkpoint of an earlier attempt, if there is one. Raises ``EnvelopeError``."""
        if self._file is None:
            return None
        try:
            if not self._file.is_file():
                return None
            if self._file.stat().st_size > checkpoint.MAX_BYTES:
                raise EnvelopeError("too large for a checkpoint")
            return unseal(checkpoint.decode(self._file.read_bytes()), self._seal)
        except (OSError, UnicodeDecodeError) as error:
            raise EnvelopeError("not readable") from error

    def put(self, text: str, whole: bool) -> bool:
        """Write new lines of the checkpoint; with ``whole`` they replace the earlier ones (``OnKept``).

        Returns False without a folder or a key. Raises ``DiskError``.
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

    def drop(self, keep: bool = False) -> None:
        """Remove the checkpoint, and those that old runs left on a self-hosted runner, as far as possible.

        With ``keep``, only the old ones.
        """
        if self._file is None:
            return
        if not keep:
            _remove(self._file)
        for file in self._file.parent.parent.glob(f"*/{FILE}"):
            with suppress(OSError):  # another job may remove it at the same time
                if file.stat().st_mtime < time.time() - STALE_S:
                    _remove(file)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
        file.parent.rmdir()


def find_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder that ``action.yml`` restores and saves."""
    named = environ.get("AETHR_ACTION_CARRY", "").strip()
    try:
        return Path(named).expanduser() if named else None
    except RuntimeError as error:
        raise UsageError(f"AETHR_ACTION_CARRY: {error}", "Name a folder of this machine.") from error
