"""A checkpoint on its way from one attempt of a run to the next, through a cache that others may write to.

It travels in an envelope: what it is bound to, then the lines of the checkpoint, and after each step a seal
of all lines so far for each provider key of the run. Whoever can read those keys can spend them anyway; a
pull request of a fork cannot. An envelope that does not fit, or that no key of this attempt has sealed, is
ignored with its reason. Without any key nothing is carried; a placeholder for a local server is none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aethr import __version__, checkpoint
from aethr.disk import State
from aethr.errors import AethrError, UsageError

FILE = "checkpoint.sealed.jsonl"
SHORTEST_KEY = 20
"""In characters. What stands where a key is not needed (`EMPTY`, `sk-no-key-required`) anybody can guess."""
STALE_S = 2 * 24 * 3600
"""Age in seconds at which what an earlier run left on a self-hosted runner is removed."""

_PURPOSE = b"aethr checkpoint envelope 2\n"
_SEALS = '{"seals": '
"""How a line of seals begins, and no line of a checkpoint."""


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


def seal(text: str, binding: Binding, keys: Sequence[str]) -> str:
    """The envelope around whole lines of a checkpoint."""
    seals = [_Seal(binding, key) for key in keys]
    return _opening(binding) + text + _sealed(seals, text)


def unseal(envelope: str, binding: Binding, keys: Sequence[str]) -> str:
    """The lines up to the last seal of one of these keys: what comes after it may be cut, or forged.

    Raises ``EnvelopeError``; nothing unsealed is looked at any closer.
    """
    opening, *rest = envelope.split("\n")
    bound = _object(opening).get("binding")
    if not isinstance(bound, dict):
        raise EnvelopeError("not in the form that this version writes")
    differing = [name for name, value in binding._asdict().items() if bound.get(name) != value]
    if differing:
        raise EnvelopeError(f"made for another {' and another '.join(differing)}".replace("_", " "))
    ours = [_Seal(binding, key) for key in keys]
    lines: list[str] = []
    whole = 0
    for line in rest:
        if not line.startswith(_SEALS):
            lines.append(f"{line}\n")
            for mine in ours:
                mine.add(lines[-1])
        elif any(mine.is_in(line) for mine in ours):
            whole = len(lines)
    if not whole:
        raise EnvelopeError("not sealed with a key of this run")
    return "".join(lines[:whole])


class Carrier:
    """The folder that the cache takes from attempt to attempt."""

    def __init__(self, folder: Path | None, binding: Binding, keys: Sequence[str]) -> None:
        self._keys = tuple(key for key in keys if len(key) >= SHORTEST_KEY)
        self._file = folder / FILE if folder is not None and self._keys else None
        self._binding = binding
        self._carried: _Carried | None = None

    def take(self) -> str | None:
        """The checkpoint of an earlier attempt; None where there is none. Raises ``EnvelopeError``."""
        if self._file is None:
            return None
        try:
            if not self._file.is_file():
                return None
            if self._file.stat().st_size > checkpoint.MAX_BYTES:
                raise EnvelopeError("too large to be one")
            return unseal(self._file.read_bytes().decode("utf-8"), self._binding, self._keys)
        except (OSError, UnicodeDecodeError) as error:
            raise EnvelopeError("not readable") from error

    def put(self, file: Path) -> bool:
        """Seal a checkpoint file as far as it goes now; of one that only grew, what is new is written.

        False where there is nothing to seal with. Raises ``DiskError``.
        """
        if self._file is None:
            return False
        with file.open("rb") as source:
            status = os.fstat(source.fileno())
            known = self._carried if self._carried and self._carried.grew_into(status) else None
            source.seek(known.size if known else 0)
            more = source.read().decode()
        self._carried = None  # until it is written
        seals = known.seals if known else [_Seal(self._binding, key) for key in self._keys]
        lines = more + _sealed(seals, more)
        if known is None:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            left = checkpoint.write(self._file, _opening(self._binding) + lines)
        else:
            grown = checkpoint.append(self._file, lines, known.envelope)
            if grown is None:
                return self.put(file)
            left = grown
        size = (known.size if known else 0) + len(more.encode())
        self._carried = _Carried(status.st_ino, size, seals, left)
        return True

    def drop(self) -> None:
        """Leave nothing for a next attempt, and nothing of runs long gone on a machine that is used again.

        What cannot be removed stays: the run has ended, and this changes nothing in how.
        """
        if self._file is not None:
            _remove(self._file)
            _sweep(self._file.parent.parent)


class _Seal:
    """The seal of one key over all text so far."""

    def __init__(self, binding: Binding, key: str) -> None:
        own = hmac.new(os.fsencode(key), _PURPOSE, hashlib.sha256).digest()
        self._state = hmac.new(own, _opening(binding).encode(), hashlib.sha256)

    def add(self, text: str) -> str:
        self._state.update(text.encode())
        return self._state.hexdigest()

    def is_in(self, line: str) -> bool:
        """Whether this seal is among those of a line."""
        try:
            seals = _object(line).get("seals")
        except EnvelopeError:  # its writing was cut off
            return False
        mine = self._state.hexdigest().encode()
        theirs = seals if isinstance(seals, list) else []
        return any(hmac.compare_digest(mine, str(each).encode("utf-8", "replace")) for each in theirs)


class _Carried(NamedTuple):
    """What of a checkpoint file is in the file ``envelope``: its first ``size`` bytes, under these seals."""

    inode: int
    size: int
    seals: list[_Seal]
    envelope: State

    def grew_into(self, status: os.stat_result) -> bool:
        """A file that was written anew is another one."""
        return status.st_ino == self.inode and status.st_size >= self.size


def _opening(binding: Binding) -> str:
    return json.dumps({"binding": binding._asdict()}) + "\n"


def _sealed(seals: Sequence[_Seal], more: str) -> str:
    """The line that seals everything up to the end of ``more``."""
    return f"{_SEALS}{json.dumps([each.add(more) for each in seals])}}}\n"


def _sweep(folder: Path) -> None:
    for file in folder.glob(f"*/{FILE}"):
        with suppress(OSError):  # another job may be sweeping too
            if file.stat().st_mtime < time.time() - STALE_S:
                _remove(file)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
        file.parent.rmdir()


def _object(line: str) -> Mapping[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("not JSON") from error
    if not isinstance(document, dict):
        raise EnvelopeError("not in the form that this version writes")
    return document


def folder_of(environ: Mapping[str, str]) -> Path | None:
    """The folder that ``action.yml`` restores and saves."""
    named = environ.get("AETHR_ACTION_CARRY", "").strip()
    try:
        return Path(named).expanduser() if named else None
    except RuntimeError as error:
        raise UsageError(f"AETHR_ACTION_CARRY: {error}", "Name a folder of this machine.") from error
