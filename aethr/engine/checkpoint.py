"""The checkpoint: what a run has finished, on disk after every step, and whether it still fits.

A file is lines of JSON: the run (its task, mode and scope), then each finished step with the parts of the
workflow that its result rests on, an agent's attempt that is under way or failed, and at the end why the run
stopped. It holds no key, because results are redacted before they get here, and has mode 0600. It is created
atomically and grows by one line a step, so that what a run writes grows with what it did. Only its last line
can be incomplete. In a live run each line carries its seals (``aethr.engine.seal``).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aethr import __version__
from aethr.base import codec, disk, providers
from aethr.base.errors import UsageError
from aethr.base.options import SCOPES
from aethr.base.records import (
    Attempt,
    Mode,
    Plan,
    Receipt,
    Scope,
    Seal,
    StepResult,
    Usage,
    changes_in,
    is_git_diff,
)
from aethr.base.sanitize import redact, redact_record

SCHEMA = 3
WITHOUT_PARTS = 2
"""The schema of lines by versions that did not cut a change; Aethr still reads them."""
ONE_DOCUMENT = 1
"""The schema of files by earlier versions, which are one JSON object; Aethr still reads them."""
MAX_BYTES = 64 << 20
_BACK_TO: Mapping[Mode, str] = {
    "live": "Add --live.",
    "mock": "Add --mock.",
    "scripted": "Give the script again with --replies.",
}
MODES = tuple(_BACK_TO)

_EARLIER: Mapping[str, object] = {
    "exclude": [],
    "exclude_defaults": True,
    "instructions": [],
    "verify": [],
    "verify_high": False,
    "review": None,
    "answer": "text",
}
"""For steps of earlier versions, which saw all of a change (no less than the defaults show), verified
nothing, reviewed by role and loop alone, and answered in text."""

_START_OVER = "Start over without --resume-checkpoint."
_ROOM = "Free some space, or name another folder with --checkpoint-dir."


class Failure(NamedTuple):
    """Why the run that wrote the checkpoint stopped, and what its failed step had already changed."""

    step: str
    error: str
    changed_files: tuple[str, ...] = ()


class Checkpoint(NamedTuple):
    """A loaded checkpoint. ``contract`` maps a step id to what its result rested on (``contract``).

    ``attempt`` is an agent's attempt that did not finish. ``cut`` is True if the last line is incomplete, so
    that its step runs again. In the seed form, a bare array of results, task, scope and contract are None.
    ``gate`` says whether a review was required: only then does a step check what the scope leaves out.
    ``held`` are the lines of the file, each with the name of what it holds; earlier forms have none.
    ``failed`` is what each call used that failed.
    """

    steps: tuple[StepResult, ...]
    task: str | None = None
    mode: Mode | None = None
    scope: Scope | None = None
    gate: bool = False
    contract: Mapping[str, Mapping[str, object]] | None = None
    failure: Failure | None = None
    attempt: Attempt | None = None
    cut: bool = False
    held: tuple[tuple[str, str], ...] = ()
    failed: tuple[Usage, ...] = ()


def check(folder: str) -> None:
    """Refuse a folder that cannot hold a checkpoint, before the first call. Raises ``UsageError``.

    ``create`` makes a folder that does not exist yet.
    """
    path = Path(folder)
    above = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(
            f"--checkpoint-dir {folder}: no checkpoint can be written there", "Name a folder that is yours."
        )


def create(folder: Path, workflow: str) -> Path:
    """The path for a new checkpoint in ``folder``; makes the folder, not the file. Raises ``DiskError``.

    ``write`` creates the file with all of its text, so a run that is killed leaves no empty checkpoint.
    """
    workflow = redact(workflow)
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in workflow)[:40]
    with disk.failing_as(f"{folder}: cannot write a checkpoint", _ROOM):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"aethr-{name}-{os.urandom(4).hex()}.jsonl"


def dump(
    plan: Plan,
    steps: Iterable[StepResult],
    failure: Failure | None = None,
    attempt: Attempt | None = None,
    seal: Callable[[str], str] = str,
    failed: Iterable[Usage] = (),
) -> str:
    """The checkpoint of a run of ``plan`` that has finished ``steps``, as lines of JSON.

    ``attempt`` is an agent's attempt that did not finish. ``seal`` gets each line in turn and adds its seals.
    ``failed`` is what each call used that failed.
    """
    head: dict[str, object] = {
        "schema": SCHEMA,
        "aethr": __version__,
        "task": plan.task,
        "workflow": redact(plan.workflow.name),
        "mode": plan.mode,
        "gate": plan.gate.needs_review,
        "scope": {
            "diff": redact(plan.scope.text),
            "chosen": plan.scope.chosen,
            "base": plan.scope.base,
            "head": plan.scope.head,
            "head_sha": plan.scope.head_sha,
            "base_side": plan.scope.base_side,
        },
    }
    if used := [codec.to_json(each) for each in failed]:
        head["failed"] = used
    if plan.seal.keys:  # they tie the seals to this file: no line of it fits into another one
        head |= {"binding": dict(plan.seal.binding), "file": os.urandom(16).hex()}
    lines = [codec.line(head), *(step_line(plan, step) for step in steps)]
    lines += [attempt_line(attempt)] if attempt else []
    lines += [codec.line({"failure": failure._asdict()})] if failure else []
    return "".join(seal(line) for line in lines)


def step_line(plan: Plan, step: StepResult) -> str:
    """The line of a finished step."""
    step = redact_record(step, redact)
    return codec.line({"step": codec.to_json(step), "contract": contract(plan, [step.id])[step.id]})


def attempt_line(attempt: Attempt) -> str:
    """The line of an agent's attempt. It counts until a step that edits the tree has finished."""
    return codec.line({"attempt": codec.to_json(redact_record(attempt, redact))})


def write(path: Path, text: str) -> disk.State:
    """Write a complete checkpoint to ``path``, atomically, and flush it to disk. Raises ``DiskError``.

    An existing file is replaced; if it is a link, the link is replaced and not its target.
    """
    with disk.failing_as(f"{path}: cannot write the checkpoint", _ROOM):
        return disk.write(path, text, mode=0o600, durable=True)


def append(path: Path, line: str, left: disk.State) -> disk.State | None:
    """Append a line to the checkpoint and flush it to disk: all of it or nothing. Raises ``DiskError``.

    Returns None if the file is no longer in the state ``left``: then write the complete file.
    """
    with disk.failing_as(f"{path}: cannot write the checkpoint", _ROOM):
        return disk.append(path, line, left)


def load(text: str) -> Checkpoint:
    """The checkpoint of ``@FILE``, or of the text itself. Raises ``UsageError`` that says what is wrong."""
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path}: not a checkpoint: not a regular file", _START_OVER)
            if status.st_size > MAX_BYTES:
                raise UsageError(f"{path}: not a checkpoint: larger than {MAX_BYTES >> 20} MiB", _START_OVER)
            content = decode(path.read_bytes())
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not a checkpoint: not UTF-8 text", _START_OVER) from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a path"
            fix = "Check the path after the @."
            raise UsageError(f"{path}: cannot read the checkpoint: {reason}", fix) from error
        return parse(content, text[1:])
    if not text.lstrip().startswith(("{", "[")) and os.path.lexists(text):
        raise UsageError(f"--resume-checkpoint {text}: a file name needs an @ before it", f"Write @{text}.")
    return parse(text, "--resume-checkpoint")


def parse(text: str, where: str) -> Checkpoint:
    """The text of a checkpoint; ``where`` names it in errors. Raises ``UsageError``."""
    text = text.replace("\r\n", "\n")
    first, _, rest = text.partition("\n")
    try:
        head: object = None
        with suppress(ValueError):  # one document, as in earlier forms, may have many lines
            head = codec.loads(first)
        if isinstance(head, dict) and head.get("schema") != ONE_DOCUMENT:
            return _from_lines(head, first, rest)
        document = codec.loads(text)
        if isinstance(document, list):  # the seed form has no passes: the nth result of a step is its nth
            passes: dict[str, int] = {}
            steps = []
            for step in map(codec.step_from_seed, document):
                passes[step.id] = passes.get(step.id, 0) + 1
                steps.append(step._replace(iteration=passes[step.id]))
            return Checkpoint(tuple(steps))
        whole = codec.an_object(document, "a checkpoint")
        run = _run(whole, ONE_DOCUMENT)
        contracts, failure = codec.mapping(whole, "contract"), whole.get("failure")
        return run._replace(
            steps=tuple(codec.step_from_json(step) for step in codec.sequence(whole, "steps")),
            contract={name: codec.mapping(contracts, name) for name in contracts},
            failure=_failure(failure) if failure is not None else None,
        )
    except ValueError as error:
        raise UsageError(f"{where}: not a checkpoint of this Aethr: {error}", _START_OVER) from error


def decode(data: bytes) -> str:
    """The text of a file of lines; if its last line is cut inside a character, without that character.

    The first line cannot be cut: the file is created with it. Raises ``UnicodeDecodeError``.
    """
    return codecs.getincrementaldecoder("utf-8")().decode(data, final=b"\n" not in data)


def contract(plan: Plan, ids: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the results of these steps rest on: if any of it changes, the result is stale.

    The keys are step ids as results have them, that is, redacted.
    """
    wanted = set(ids)
    found: dict[str, dict[str, object]] = {}
    for step in plan.steps:
        step_id = redact(step.spec.id)
        if step_id not in wanted:
            continue
        reads_diff = any(map(is_git_diff, step.spec.context))
        instructions = plan.workflow.instructions if changes_in(step.spec.context) else ()
        rests_on: dict[str, object] = {
            "role": step.spec.role,
            "role text": step.guidance,
            "context": list(step.spec.context),
            "exclude": list(plan.workflow.exclude) if reads_diff else [],
            "exclude_defaults": plan.workflow.exclude_defaults or not reads_diff,
            "instructions": [codec.to_json(each) for each in instructions],
            "history_visibility": step.spec.history_visibility,
            "repeat": step.spec.repeat._asdict() if step.spec.repeat else None,
            "verify": list(step.spec.verify),
            "verify_high": step.spec.verify_high,
            "review": step.spec.review,
            "answer": step.spec.answer,
        }
        found[step_id] = redact_record(rests_on, redact)
    return found


def digest(plan: Plan, parts: Iterable[Iterable[Receipt]]) -> str:
    """The SHA-256 that is the same in all shards of one run: of its task, workflow, scope and parts.

    ``parts`` are the receipts of the files in each part. Models may differ, as in a resumed run.
    """
    rests_on = {
        "aethr": __version__,
        "task": plan.task,
        "mode": plan.mode,
        "workflow": plan.workflow.name,
        "steps": contract(plan, [redact(step.spec.id) for step in plan.steps]),
        "scope": codec.to_json(plan.scope),
        "parts": [[codec.to_json(receipt) for receipt in receipts] for receipts in parts],
    }
    return hashlib.sha256(codec.line(rests_on).encode()).hexdigest()


def unproven(checkpoint: Checkpoint, seal: Seal) -> str | None:
    """Why the seals do not prove that runs with this run's keys wrote all of it; None if they do."""
    if checkpoint.contract is None:
        seed = "the checkpoint is a plain list of answers, which does not prove a review"
        return seed if checkpoint.steps else None
    if not checkpoint.held:
        return "the checkpoint is of an earlier version of Aethr, which sealed nothing"
    lines = [line for line, _ in checkpoint.held]
    names = [f"{name} of the checkpoint" for _, name in checkpoint.held]
    if not seal.keys:
        return f"{names[0]} cannot be proven: this run has no provider key that could have sealed it"
    from aethr.engine.seal import count_sealed, find_other_bindings, is_sealed

    if not is_sealed(lines[0]):
        return f"{names[0]} is not sealed"
    if others := find_other_bindings(json.loads(lines[0]).get("binding"), seal.binding):
        return f"{names[0]} was made for another {' and another '.join(others)}"
    count = count_sealed(lines, seal.keys)
    if count == len(lines):
        return None
    if count == 0:
        return f"{names[0]} was sealed with another key than this run has, or its first line was edited"
    if not is_sealed(lines[count]):
        return f"{names[count]} is not sealed"
    return f"{names[count]} does not fit its seal: it, or a line before it, was edited, moved or removed"


def match(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """The checkpoint, its results ready to replay in ``plan``. Raises ``UsageError`` if it does not fit.

    Models and steps that have not run may differ: that is how you fix a failure. But the model that gave a
    result must have its reasoning effort and options still, as long as it is one of the step's. The replay
    checks the order of the steps and their passes.
    """
    _require_same_run(checkpoint, plan)
    planned = {redact(step.spec.id): step for step in plan.steps}
    specs = {name: step.spec for name, step in planned.items()}
    then = checkpoint.contract or {}
    for step_id in [*then, *(step.id for step in checkpoint.steps)]:
        if step_id not in specs:
            raise UsageError(
                f"the checkpoint has a step '{step_id}' that the workflow does not have", _START_OVER
            )
    for step_id, now in contract(plan, then).items():
        past = {**_EARLIER, **then[step_id]}
        _require_same(step_id, [name for name, value in now.items() if past.get(name) != value])
    for step in checkpoint.steps if then else ():
        for model in () if planned[step.id].edits_tree else providers.called(planned[step.id]):
            if model.name == step.model:
                own = redact_record({name: getattr(model, name) for name in _SENT}, redact)
                _require_same(step.id, [name for name in _SENT if own[name] != getattr(step, name)])
    steps = tuple(
        step._replace(
            id=specs[step.id].id,
            role=step.role or specs[step.id].role,
            backend=step.backend or specs[step.id].backend,
        )
        for step in checkpoint.steps
    )
    return checkpoint._replace(steps=steps)


_SENT = ("reasoning_effort", "options")
"""What a result says about the model that gave it."""


def _require_same(step_id: str, changed: Sequence[str]) -> None:
    if changed:
        raise UsageError(
            f"step '{step_id}' is finished in the checkpoint, and its {' and '.join(changed)} "
            "changed since then",
            "Undo that change to resume, or start over without --resume-checkpoint.",
        )


def _require_same_run(checkpoint: Checkpoint, plan: Plan) -> None:
    if checkpoint.task not in (None, plan.task):
        raise UsageError(
            "the checkpoint is of another task", "Leave TASK out to resume with the checkpoint's own."
        )
    if checkpoint.mode is not None and checkpoint.mode != plan.mode:
        raise UsageError(
            f"the checkpoint is of a {checkpoint.mode} run, and this one is {plan.mode}",
            _BACK_TO[checkpoint.mode],
        )
    if checkpoint.scope is not None and checkpoint.scope.text != redact(plan.scope.text):
        raise UsageError(
            f"the checkpoint is of --diff {checkpoint.scope.text}, and this run of --diff {plan.scope.text}",
            "Leave --diff out to resume it.",
        )


def _from_lines(head: Mapping[str, object], first: str, rest: str) -> Checkpoint:
    run = _run(head, SCHEMA, WITHOUT_PARTS)
    steps: list[StepResult] = []
    contracts: dict[str, Mapping[str, object]] = {}
    held = [(first, "the first line")]
    *lines, last = rest.split("\n")
    try:
        codec.loads(last)
        cut = False
    except ValueError:
        cut = bool(last.strip())
    for number, line in enumerate(lines if cut else [*lines, last], start=1):
        if not line.strip():
            continue
        record = codec.an_object(codec.loads(line, number), f"line {number + 1}")
        held.append((line, f"line {number + 1}"))
        if record.get("failure") is not None:
            run = run._replace(failure=_failure(record["failure"]))
            continue
        if record.get("attempt") is not None:
            run = run._replace(attempt=codec.whole_from_json(Attempt, record["attempt"], "'attempt'"))
            continue
        step = codec.step_from_json(record.get("step"))
        if step.check is not None:  # its command ran after the step itself was kept
            steps = [each for each in steps if each != step._replace(check=None)]
        steps.append(step)
        if steps[-1].artifacts is not None:
            run = run._replace(attempt=None)
        contracts[steps[-1].id] = codec.mapping(record, "contract")
        held[-1] = line, f"step '{steps[-1].id}'"
    if len(held) > 1:
        held[0] = first, held[1][1]  # a doubt about the first line is one about everything after it
    return run._replace(steps=tuple(steps), contract=contracts, cut=cut, held=tuple(held))


def _run(head: Mapping[str, object], *schemas: int) -> Checkpoint:
    """What both forms say about the run itself.

    The commits of its scope may no longer be in the repository. Earlier files had no ``chosen``, no ``gate``
    and no ``base_side``.
    """
    if head.get("schema") not in schemas:
        raise ValueError(f"its schema is {head.get('schema')!r}, not {SCHEMA}")
    saved = codec.mapping(head, "scope")
    text = codec.text(saved, "diff")
    word = next((word for word in SCOPES if word == text), None)
    scope = Scope(
        kind=word or ("range" if ".." in text else "revision"),
        text=text,
        base=codec.optional_text(saved, "base"),
        head=codec.optional_text(saved, "head"),
        head_sha=codec.optional_text(saved, "head_sha"),
        chosen=codec.optional_flag(saved, "chosen"),
        base_side=codec.optional_text(saved, "base_side"),
    )
    task, mode = codec.text(head, "task"), codec.choice(head, "mode", MODES)
    gate = codec.optional_flag(head, "gate")
    used = codec.sequence(head, "failed") if "failed" in head else ()
    failed = tuple(codec.whole_from_json(Usage, each, "an entry of 'failed'") for each in used)
    return Checkpoint(steps=(), task=task, mode=mode, scope=scope, gate=gate, failed=failed)


def _failure(value: object) -> Failure:
    failure = codec.an_object(value, "'failure'")
    files = codec.sequence(failure, "changed_files")
    return Failure(
        codec.text(failure, "step"), codec.text(failure, "error"), tuple(str(name) for name in files)
    )
