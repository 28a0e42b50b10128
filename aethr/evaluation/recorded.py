"""The answers of a live evaluation in files, to play them back without a model.

A recording is a folder with ``recording.json``, and ``CASE/N.json`` for the Nth run over each case. An answer
is found by its step, pass, part, and question (2 is the one for a missing verdict), and is played only to the
prompt that it was given to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base import codec, disk, edge, sanitize
from aethr.base.errors import ConfigError, UsageError
from aethr.base.records import (
    AttemptStarted,
    Backend,
    Completion,
    Notice,
    Request,
    RunResult,
    Sent,
    Spent,
    TextDelta,
    Thinking,
    Usage,
)
from aethr.base.words import capped

MANIFEST = "recording.json"
SCHEMA = 1
MOST_BYTES = 64 << 20

_USUAL = codec.to_json(Completion("", "", ""))
"""The fields of an answer that a file need not have."""

Key = tuple[str, int, int, int]
"""The step, the pass, the part and the question of an answer."""


class Recorded(NamedTuple):
    """An answer. ``spent`` is what each attempt used that failed before it."""

    key: Key
    prompt_sha256: str
    completion: Completion
    spent: tuple[Usage, ...] = ()


class Recordings(NamedTuple):
    """A folder with answers. ``model`` and ``task`` are those of the evaluation that was recorded."""

    folder: Path
    model: str | None
    task: str

    def play(self, case: str, number: int) -> Player:
        """The backend of the Nth run over a case. Raises ``UsageError``."""
        return Player(self.folder, case, number)


def open_recordings(folder: Path, chosen: Sequence[str], repeat: int) -> Recordings:
    """A recording of all runs over the ``chosen`` cases. Raises ``UsageError`` if one is missing."""
    found = _read_manifest(folder)
    wanted = [(name, number) for name in chosen for number in range(1, repeat + 1)]
    lost = [f"{name} ({number})" for name, number in wanted if not _tape_of(folder, name, number).is_file()]
    if lost:
        raise UsageError(
            f"--replies {folder}: nothing is recorded for {capped(lost, 10)}",
            f"Record it: aethr eval --record {folder}, with the same cases and --repeat.",
        )
    return found


def start_recording(folder: Path, model: str | None, task: str) -> None:
    """Make the folder of a recording, or take over that of an earlier one. Raises ``UsageError``."""
    is_free = not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not (folder / MANIFEST).is_file():
        raise UsageError(
            f"--record {folder}: not empty, and not a recording", "Name a new folder, or an empty one."
        )
    with disk.failing_as(f"{folder}: cannot record"):
        folder.mkdir(parents=True, exist_ok=True)
        about = {"schema": SCHEMA, "model": model, "task": task}
        disk.write(folder / MANIFEST, sanitize.redact(codec.dumps(about)))


def _read_manifest(folder: Path) -> Recordings:
    try:
        about = codec.an_object(codec.loads(_read_text(folder / MANIFEST)), "it")
        if about.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {about.get('schema')!r}, not {SCHEMA}")
        return Recordings(folder, codec.optional_text(about, "model"), codec.text(about, "task"))
    except FileNotFoundError:
        raise UsageError(
            f"--replies {folder}: no {MANIFEST} in it", "Name a folder that --record has made."
        ) from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{folder / MANIFEST}: not a recording: {error}", "Record it again.") from error


def _read_text(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _tape_of(folder: Path, case: str, number: int) -> Path:
    return folder.joinpath(*case.split("/"), f"{number}.json")


def _digest(request: Request) -> str:
    """The SHA-256 of a prompt, wherever the repository is."""
    prompt = request.prompt.replace(str(request.root), ".")
    return hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()


class Tape:
    """The file with the answers of one run. It is on disk after each answer; a resumed run continues it."""

    def __init__(self, folder: Path, case: str, number: int, secrets: tuple[str, ...], resumed: bool) -> None:
        self._path = _tape_of(folder, case, number)
        self._redactor = sanitize.Redactor(secrets)
        self._asked: dict[tuple[str, int, int], int] = {}
        self._answers = dict(_read_tape(self._path)) if resumed and self._path.is_file() else {}
        if not resumed:
            self._path.unlink(missing_ok=True)

    def take(self, request: Request, completion: Completion, spent: Sequence[Usage]) -> Completion:
        """Keep an answer; return it as it was kept, without keys and without the folder of this run.

        Raises ``DiskError``.
        """

        def clean(text: str) -> str:
            return sanitize.redact(self._redactor.redact(text.replace(str(request.root), ".")))

        completion = sanitize.redact_record(completion, clean)
        turn = (request.step, request.iteration, request.part)
        question = self._asked[turn] = self._asked.get(turn, 0) + 1
        for later in [key for key in self._answers if key[:3] == turn and key[3] > question]:
            del self._answers[later]
        key = (*turn, question)
        self._answers[key] = Recorded(key, _digest(request), completion, tuple(spent))
        with disk.failing_as(f"{self._path}: cannot record"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            disk.write(self._path, codec.dumps({"answers": [*map(_to_json, self._answers.values())]}))
        return completion


def _to_json(answer: Recorded) -> Mapping[str, object]:
    """Only what is not a default, and the content in lines, so that a diff of two recordings is readable."""
    step, iteration, part, question = answer.key
    said = codec.to_json(answer.completion)
    unusual = {name: value for name, value in said.items() if value != _USUAL[name]}
    return {
        "step": step,
        "pass": iteration,
        "part": part,
        "question": question,
        "prompt_sha256": answer.prompt_sha256,
        **{name: value for name, value in unusual.items() if name != "content"},
        **({"spent": codec.to_json(answer.spent)} if answer.spent else {}),
        "content": answer.completion.content.split("\n"),
    }


def _read_tape(path: Path) -> Mapping[Key, Recorded]:
    try:
        document = codec.an_object(codec.loads(_read_text(path)), "it")
        answers = [codec.an_object(each, "an answer") for each in codec.sequence(document, "answers")]
        return {answer.key: answer for answer in map(_from_json, answers)}
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: not recorded answers: {error}", "Record them again.") from error


def _from_json(data: Mapping[str, Any]) -> Recorded:
    where = codec.whole_from_json(_Where, {**data, "pass_": data.get("pass")}, "an answer")
    content = "\n".join(codec.texts(data, "content"))
    spent = codec.sequence(data, "spent") if "spent" in data else ()
    return Recorded(
        (where.step, where.pass_, where.part, where.question),
        codec.text(data, "prompt_sha256"),
        codec.whole_from_json(Completion, {**_USUAL, **data, "content": content}, "an answer"),
        tuple(codec.whole_from_json(Usage, each, "an entry of 'spent'") for each in spent),
    )


class _Where(NamedTuple):
    step: str
    pass_: int
    part: int
    question: int


class Shared:
    """A backend of all runs, which is checked and warmed up once, before the first of them.

    Its answers go to the tape of a run, if there is one. Once ``stopped``, nothing more is sent.
    """

    def __init__(
        self, backend: Backend, tape: Tape | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._backend = backend
        self._tape = tape
        self._stopped = stopped

    def preflight(self, requests: Sequence[Request]) -> None:
        """It was done."""

    def warm(self, requests: Sequence[Request]) -> None:
        """It was done."""

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Sent | Spent | AttemptStarted | Notice, None, Completion]:
        spent: list[Usage] = []
        cancelled = request.cancelled
        watched = request._replace(cancelled=lambda: cancelled() or self._stopped())
        with edge.ending(self._backend.complete(watched)) as call:
            while True:
                try:
                    event = next(call)
                except StopIteration as stop:
                    completion: Completion = stop.value
                    return self._tape.take(request, completion, spent) if self._tape else completion
                if isinstance(event, Spent):
                    spent.append(event.usage)
                yield event


class Player:
    """The backend of every step in the Nth run over a case: it gives the answers that were recorded."""

    def __init__(self, folder: Path, case: str, number: int) -> None:
        self._path = _tape_of(folder, case, number)
        self._again = f"Record it again: aethr eval --record {folder}"
        self._answers = _read_tape(self._path)
        self._asked: dict[tuple[str, int, int], int] = {}

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Spent, None, Completion]:
        """Raises ``UsageError`` if no answer to this prompt was recorded."""
        turn = (request.step, request.iteration, request.part)
        question = self._asked[turn] = self._asked.get(turn, 0) + 1
        answer = self._answers.get((*turn, question))
        if answer is None:
            pass_ = f"pass {request.iteration}, part {request.part}"
            raise UsageError(f"no answer of step '{request.step}' ({pass_}) was recorded", self._again)
        if answer.prompt_sha256 != _digest(request):
            raise UsageError(
                f"the prompt of step '{request.step}' is not the one that the recorded answer is to",
                self._again,
            )
        for usage in answer.spent:
            yield Spent(usage)
        yield TextDelta(answer.completion.content)
        return answer.completion

    def find_unused(self, result: RunResult) -> ConfigError | None:
        """The error for the first recorded answer that this run did not ask for; None if it asked for all."""
        asked = {(step.id, step.iteration, step.part) for step in result.steps}
        for step, iteration, part, _ in self._answers:
            if (step, iteration, part) not in asked:
                unused = f"the answer of step '{step}' (pass {iteration}, part {part}) was not asked for"
                return ConfigError([f"{self._path}: {unused}"])
        return None
