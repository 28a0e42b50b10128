"""The folder of an evaluation: what it is about, and the repository and the checkpoint of each run.

It is a temporary one, removed when the evaluation has ended, and kept when it stops before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from aethr.base import codec, disk
from aethr.base.errors import UsageError

FILE = "evaluation.json"
RUNS = "runs"
SCHEMA = 1


class Identity(NamedTuple):
    """What the results of an evaluation rest on. ``cases`` has the digest of each case by its name."""

    workflow: str
    task: str
    mode: str
    cases: Mapping[str, str]


class StateFolder(NamedTuple):
    """``key`` seals its checkpoints; ``changed`` are the cases that are not as they were when it stopped."""

    path: Path
    key: str
    changed: tuple[str, ...] = ()

    def place(self, case: str, number: int) -> Path:
        """The folder of the Nth run over a case."""
        digest = hashlib.sha256(case.encode("utf-8", "replace")).hexdigest()[:8]
        return self.path / RUNS / f"{case.rsplit('/', 1)[-1][:60]}-{digest}" / str(number)

    def remove(self) -> None:
        """Remove what an evaluation writes, and the folder if nothing else is in it."""
        shutil.rmtree(self.path / RUNS, ignore_errors=True)
        (self.path / FILE).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def create(identity: Identity) -> StateFolder:
    """A new folder. Raises ``DiskError``."""
    with disk.failing_as("the folder of the evaluation cannot be written"):
        path = Path(tempfile.mkdtemp(prefix="aethr-eval-", dir=os.environ.get("RUNNER_TEMP") or None))
        folder = StateFolder(path, os.urandom(16).hex())
        _write(folder, identity)
    return folder


def reopen(path: Path, identity: Identity) -> StateFolder:
    """The folder of an evaluation that stopped. The runs over a case that has changed are removed.

    Raises ``UsageError`` if it is of another workflow or task, or of a mock.
    """
    try:
        saved = codec.an_object(codec.loads((path / FILE).read_text(encoding="utf-8")), "it")
        if saved.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {saved.get('schema')!r}, not {SCHEMA}")
        key, then = codec.text(saved, "key"), codec.mapping(saved, "cases")
        said = {name: codec.text(saved, name) for name in ("workflow", "task", "mode")}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"--resume {path}: not the folder of an evaluation: {reason}", "Start over without --resume."
        ) from error
    changed = [name for name, value in said.items() if value != getattr(identity, name)]
    if changed:
        raise UsageError(
            f"--resume {path}: the {' and the '.join(changed)} changed since the evaluation stopped",
            "Undo that change, or start over without --resume.",
        )
    other = tuple(name for name, digest in identity.cases.items() if then.get(name, digest) != digest)
    folder = StateFolder(path, key, other)
    for name in other:
        shutil.rmtree(folder.place(name, 1).parent, ignore_errors=True)
    _write(
        folder,
        identity._replace(cases={**{name: str(each) for name, each in then.items()}, **identity.cases}),
    )
    return folder


def _write(folder: StateFolder, identity: Identity) -> None:
    with disk.failing_as(f"{folder.path / FILE}: cannot write"):
        text = codec.dumps({"schema": SCHEMA, "key": folder.key, **codec.to_json(identity)})
        disk.write(folder.path / FILE, text, mode=0o600)
