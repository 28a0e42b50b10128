"""A checkpoint on its way from one attempt of a run to the next, through a cache that others may write to.

It travels in an envelope: what it is bound to, and a seal for each provider key of the run. Whoever can read
those keys can spend them anyway; a pull request of a fork cannot. An envelope that does not fit, or that no
key of this attempt has sealed, is ignored with its reason. Without any key nothing is carried.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr import __version__, checkpoint
from aethr.errors import AethrError

FILE = "checkpoint.json"
STALE_S = 2 * 24 * 3600
"""Age in seconds at which what an earlier run left on a self-hosted runner is removed."""

_PURPOSE = b"aethr checkpoint envelope 1\n"


class EnvelopeError(AethrError):
    """Why an envelope is not opened, in words that follow on "the checkpoint was"."""


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
    """The envelope around a checkpoint's text."""
    seals = [_seal(text, binding, key) for key in keys]
    return json.dumps({"binding": binding._asdict(), "checkpoint": text, "seals": seals})


def unseal(envelope: str, binding: Binding, keys: Sequence[str]) -> str:
    """The checkpoint's text. Raises ``EnvelopeError``; nothing unsealed is looked at any closer."""
    document = _document(envelope)
    bound, text, seals = document.get("binding"), document.get("checkpoint"), document.get("seals")
    if not isinstance(bound, dict) or not isinstance(text, str) or not isinstance(seals, list):
        raise EnvelopeError("not in the form that this version writes")
    differing = [name for name, value in binding._asdict().items() if bound.get(name) != value]
    if differing:
        raise EnvelopeError(f"made for another {' and another '.join(differing)}".replace("_", " "))
    ours = [_seal(text, binding, key) for key in keys]
    if not any(hmac.compare_digest(mine, str(theirs)) for mine in ours for theirs in seals):
        raise EnvelopeError("not sealed with a key of this run")
    return text


class Carrier:
    """The folder that the cache takes from attempt to attempt."""

    def __init__(self, folder: Path | None, binding: Binding, keys: Sequence[str]) -> None:
        self._file = folder / FILE if folder is not None and keys else None
        self._binding = binding
        self._keys = tuple(keys)

    def take(self) -> str | None:
        """The checkpoint of an earlier attempt; None where there is none. Raises ``EnvelopeError``."""
        if self._file is None or not self._file.is_file():
            return None
        try:
            if self._file.stat().st_size > checkpoint.MAX_BYTES:
                raise EnvelopeError("too large to be one")
            return unseal(self._file.read_text(encoding="utf-8"), self._binding, self._keys)
        except (OSError, UnicodeDecodeError) as error:
            raise EnvelopeError("not readable") from error

    def put(self, file: Path) -> bool:
        """Seal a checkpoint file; False where there is nothing to seal with. Raises ``DiskError``."""
        if self._file is None:
            return False
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        checkpoint.write(self._file, seal(file.read_text(encoding="utf-8"), self._binding, self._keys))
        return True

    def drop(self) -> None:
        """Leave nothing for a next attempt, and nothing of runs long gone on a machine that is used again."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            _sweep(self._file.parent.parent)


def _sweep(folder: Path) -> None:
    for file in folder.glob(f"*/{FILE}"):
        if file.stat().st_mtime < time.time() - STALE_S:
            file.unlink(missing_ok=True)


def _seal(text: str, binding: Binding, key: str) -> str:
    own = hmac.new(key.encode(), _PURPOSE, hashlib.sha256).digest()
    bound = json.dumps(binding._asdict(), sort_keys=True).encode()
    return hmac.new(own, bound + b"\n" + text.encode(), hashlib.sha256).hexdigest()


def _document(envelope: str) -> Mapping[str, Any]:
    try:
        document = json.loads(envelope)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("not JSON") from error
    if not isinstance(document, dict):
        raise EnvelopeError("not in the form that this version writes")
    return document


def folder_of(environ: Mapping[str, str]) -> Path | None:
    """The folder that ``action.yml`` restores and saves."""
    named = environ.get("AETHR_ACTION_CARRY", "").strip()
    return Path(named).expanduser() if named else None
