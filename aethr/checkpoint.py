"""The checkpoint: what a run has finished, on disk after every step, and whether it still fits.

A file holds the task, the parts of the workflow that the finished steps rested on, and the results.
It holds no key (results are redacted before they get here). It is written with mode 0600, atomically:
a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from aethr import __version__, codec
from aethr.errors import DiskError, UsageError
from aethr.records import Mode, Plan, StepResult

SCHEMA = 1
MAX_BYTES = 64 << 20
_BACK_TO: Mapping[Mode, str] = {
    "live": "Set AETHR_LIVE=1 to go on live.",
    "mock": "Unset AETHR_LIVE and AETHR_MODEL.",
    "scripted": "Give the script again with --replies.",
}
MODES = tuple(_BACK_TO)

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""Maybe half of a surrogate pair: no text, so it could neither be sent nor written."""

_AFRESH = "Start afresh without --resume-checkpoint."


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the run that wrote the checkpoint stopped, and what its failed step had already changed."""

    step: str
    error: str
    changed_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint. ``contract`` maps a step id to what its result rested on (``contract``).

    The seed form, a bare array of results, has no task and no contract: ``None`` and empty.
    """

    steps: tuple[StepResult, ...]
    task: str | None = None
    mode: Mode | None = None
    diff: str | None = None
    head_sha: str | None = None
    contract: Mapping[str, Mapping[str, object]] | None = None
    failure: Failure | None = None


def create(folder: Path, workflow: str) -> Path:
    """A new, empty, private file for a run's checkpoint. Raises ``DiskError``."""
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in workflow)[:40]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=f"aethr-{name}-", suffix=".json", dir=folder)
    except OSError as error:
        raise DiskError(
            f"{folder}: cannot write a checkpoint: {error.strerror}",
            "Free some space, or name another folder with --checkpoint-dir.",
        ) from error
    os.close(handle)
    return Path(path)


def dump(plan: Plan, steps: Sequence[StepResult], failure: Failure | None = None) -> str:
    """The checkpoint of a run of ``plan`` that has finished ``steps``, as JSON text."""
    document = {
        "schema": SCHEMA,
        "aethr": __version__,
        "task": plan.task,
        "workflow": plan.workflow.name,
        "mode": plan.mode,
        "scope": {"diff": plan.scope.text, "head_sha": plan.scope.head_sha},
        "contract": contract(plan, {step.id for step in steps}),
        "steps": [codec.step_to_json(step) for step in steps],
        "failure": asdict(failure) if failure else None,
    }
    return codec.dumps(document)


def write(path: Path, text: str) -> None:
    """Replace the file's content in one step, on disk before this returns. Raises ``DiskError``."""
    part = path.with_name(path.name + ".part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DiskError(
            f"{path}: cannot write the checkpoint: {error.strerror}",
            "Free some space, or name another folder with --checkpoint-dir.",
        ) from error


def load(text: str) -> Checkpoint:
    """``@FILE`` or JSON text as a checkpoint. Raises ``UsageError`` with what is wrong with it."""
    where = text[1:] if text.startswith("@") else "--resume-checkpoint"
    document = _json(_read(Path(where)) if text.startswith("@") else text, where)
    try:
        if isinstance(document, list):
            return Checkpoint(_numbered(codec.step_from_seed(item) for item in document))
        return _checkpoint(document)
    except ValueError as error:
        raise UsageError(f"{where}: not a checkpoint of this Aethr: {error}", _AFRESH) from error


def contract(plan: Plan, ids: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the result of each finished step rests on: a change in any of it makes the result stale."""
    wanted = set(ids)
    return {
        step.spec.id: {
            "role": step.spec.role,
            "role text": step.guidance,
            "context": list(step.spec.context),
            "history_visibility": step.spec.history_visibility,
            "repeat": asdict(step.spec.repeat) if step.spec.repeat else None,
        }
        for step in plan.steps
        if step.spec.id in wanted
    }


def match(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """The checkpoint, its results ready to replay in ``plan``. Raises ``UsageError`` where it does not fit.

    Models and steps that have not run may differ: that is how one mends a failure. Order and passes are
    checked while replaying.
    """
    _same_run(checkpoint, plan)
    specs = {step.spec.id: step.spec for step in plan.steps}
    _same_contract(checkpoint, contract(plan, specs))
    unknown = [step.id for step in checkpoint.steps if step.id not in specs]
    if unknown:
        raise UsageError(f"the checkpoint has a step '{unknown[0]}' that the workflow has not", _AFRESH)
    steps = tuple(
        replace(step, role=step.role or specs[step.id].role, backend=step.backend or specs[step.id].backend)
        for step in checkpoint.steps
    )
    return replace(checkpoint, steps=steps)


def _same_run(checkpoint: Checkpoint, plan: Plan) -> None:
    if checkpoint.task not in (None, plan.task):
        raise UsageError(
            "the checkpoint is of another task", "Leave TASK out to go on with the checkpoint's own."
        )
    if checkpoint.mode is not None and checkpoint.mode != plan.mode:
        raise UsageError(
            f"the checkpoint is of a {checkpoint.mode} run, and this one is {plan.mode}",
            _BACK_TO[checkpoint.mode],
        )
    if checkpoint.diff not in (None, plan.scope.text):
        raise UsageError(
            f"the checkpoint is of --diff {checkpoint.diff}, and this run of --diff {plan.scope.text}",
            _AFRESH,
        )


def _same_contract(checkpoint: Checkpoint, now: Mapping[str, Mapping[str, object]]) -> None:
    for step_id, then in (checkpoint.contract or {}).items():
        if step_id not in now:
            raise UsageError(f"the checkpoint has a step '{step_id}' that the workflow has not", _AFRESH)
        changed = [name for name, value in now[step_id].items() if then.get(name) != value]
        if changed:
            raise UsageError(
                f"step '{step_id}' is finished in the checkpoint, and its {' and '.join(changed)} "
                "changed since then",
                "Undo that change to go on, or start afresh without --resume-checkpoint.",
            )


def _checkpoint(document: object) -> Checkpoint:
    if not isinstance(document, dict):
        raise ValueError("neither an object nor an array of step results")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {document.get('schema')!r}, not {SCHEMA}")
    steps = codec.sequence(document, "steps")
    scope = codec.mapping(document, "scope")
    contracts = codec.mapping(document, "contract")
    failure = document.get("failure")
    return Checkpoint(
        steps=tuple(codec.step_from_json(step) for step in steps),
        task=codec.text(document, "task"),
        mode=codec.choice(document, "mode", MODES),
        diff=codec.text(scope, "diff"),
        head_sha=codec.optional_text(scope, "head_sha"),
        contract={name: codec.mapping(contracts, name) for name in contracts},
        failure=_failure(failure) if failure is not None else None,
    )


def _failure(value: object) -> Failure:
    if not isinstance(value, dict):
        raise ValueError("'failure' is not an object")
    files = codec.sequence(value, "changed_files")
    return Failure(codec.text(value, "step"), codec.text(value, "error"), tuple(str(name) for name in files))


def _numbered(steps: Iterable[StepResult]) -> tuple[StepResult, ...]:
    """The seed form does not count passes: the nth result of a step is of its nth pass."""
    seen: dict[str, int] = {}
    numbered = []
    for step in steps:
        seen[step.id] = seen.get(step.id, 0) + 1
        numbered.append(replace(step, iteration=seen[step.id]))
    return tuple(numbered)


def _json(text: str, where: str) -> object:
    try:
        document = json.loads(text)
        if _HALF.search(text):
            document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
        return document
    except json.JSONDecodeError as error:
        what = "it is empty" if not text.strip() else f"it is not JSON, or cut short (line {error.lineno})"
        raise UsageError(f"{where}: not a checkpoint: {what}", _AFRESH) from error
    except (RecursionError, ValueError) as error:
        what = "it is nested too deeply, or has a number too long"
        raise UsageError(f"{where}: not a checkpoint: {what}", _AFRESH) from error


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: not a checkpoint: not a regular file", _AFRESH)
        if status.st_size > MAX_BYTES:
            raise UsageError(f"{path}: not a checkpoint: larger than {MAX_BYTES >> 20} MiB", _AFRESH)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a checkpoint: not UTF-8 text", _AFRESH) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        fix = "Check the path after the @."
        raise UsageError(f"{path}: cannot read the checkpoint: {reason}", fix) from error
