"""``aethr answer``: what may stay, and why, as a list in the workflow file."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from aethr.base import codec, disk
from aethr.base.errors import UsageError
from aethr.base.records import SEVERITIES, Answer, Finding
from aethr.base.sanitize import one_line
from aethr.base.words import capped, suggest
from aethr.config import answer_block, nodes, workflow_file
from aethr.config.kinds import Text
from aethr.engine.checkpoint import MAX_BYTES
from aethr.output import wording
from aethr.review.answered import as_finding, covers
from aethr.workflow import planning


def main(
    place: str | None,
    reason: str | None,
    record: str | None,
    severity: str | None,
    message: str | None,
    config: str | None,
    remove: str | None,
    *,
    only_list: bool,
) -> int:
    """Add an answer to the workflow file, remove one, or list all. Raises ``AethrError``."""
    about = {"--reason": reason, "--record": record, "--severity": severity, "--message": message}
    actions = {"ID": place, "--list": only_list, "--remove": remove}
    chosen = [name for name, value in actions.items() if value]
    if len(chosen) != 1:
        both = f"{' and '.join(chosen)} exclude each other" if chosen else "which finding?"
        raise UsageError(both, "Give ID with --reason, or --list, or --remove ID.")
    if place is None and (extra := [name for name, value in about.items() if value is not None]):
        raise UsageError(f"{extra[0]} does not go with {chosen[0]}", "It says something about a new answer.")
    file = planning.find_file(Path.cwd(), config)
    text, origin = nodes.load(file, "no such file; `aethr init` writes one")
    words = planning.vocabulary()
    if only_list:
        _list(workflow_file.parse(text, origin, words).answers)
        return 0
    if remove is not None:
        _write(file, answer_block.remove(text, origin, remove.strip().lower(), words))
        sys.stdout.write(f"Removed the answer {one_line(remove)} from {one_line(origin)}.\n")
        return 0
    assert place is not None
    answer = _make_answer(place.strip().lower(), reason, record, severity, message)
    spec = workflow_file.parse(text, origin, words)
    for number, each in enumerate(spec.answers):
        if covers(each, as_finding(answer), lambda _: False):
            line = spec.places[f"answers.{number}"].line
            raise UsageError(
                f"{one_line(origin)}:{line}: this finding is answered",
                f"Edit its reason there: {each.reason}",
            )
    _write(file, answer_block.append(text, origin, answer, words))
    sys.stdout.write(f"Answered in {one_line(origin)}: {wording.finding(as_finding(answer))}\n")
    return 0


def _list(found: tuple[Answer, ...]) -> None:
    for each in found:
        said = wording.finding(as_finding(each))
        sys.stdout.write(f"{said}\n    {one_line(each.reason, 2000)}\n")


def _make_answer(
    place: str, reason: str | None, record: str | None, severity: str | None, message: str | None
) -> Answer:
    """The answer to a finding of a record, or to one that is described by hand. Raises ``UsageError``."""
    if reason is None:
        raise UsageError("--reason is missing", "Say why the finding may stay; reports show it.")
    _require("ID", workflow_file.PLACE_ID, place)
    if record is not None:
        if severity is not None or message is not None:
            raise UsageError(
                "--record and --severity or --message exclude each other", "The record has both of them."
            )
        found = _find_in_record(record, place)
    elif severity is not None and message is not None:
        found = Finding(next(each for each in SEVERITIES if each == severity), None, None, message)
    else:
        raise UsageError(
            "what does the finding say? Aethr keeps nothing between runs",
            "Give the record of the run, written with `--report FILE.json`: --record FILE.json.\n"
            "Or give both --severity and --message, as a report shows them.",
        )
    also = tuple(each for each in found.ids if each != place)
    answer = Answer(place, found.severity, " ".join(found.message.split()), reason.strip(), also)
    _require("--message", workflow_file.MESSAGE, answer.message)
    _require("--reason", workflow_file.REASON, answer.reason)
    return answer


def _require(name: str, kind: Text, value: str) -> None:
    if problem := workflow_file.problem_of(kind, value):
        raise UsageError(f"{name}: {problem}", "Correct it, and try again.")


def _find_in_record(name: str, place: str) -> Finding:
    """The finding of this id in a run record. Raises ``UsageError``."""
    again = "Write it with `aethr run --report FILE.json`."
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        document = codec.an_object(codec.loads(data.decode()), "a record")
        findings = [
            Finding(
                codec.choice(each, "severity", SEVERITIES),
                codec.optional_text(each, "path"),
                None,
                codec.text(each, "message"),
                id=codec.optional_text(each, "id"),
                ids=codec.texts(each, "ids") if "ids" in each else (),
            )
            for entry in codec.sequence(codec.mapping(document, "review"), "findings")
            for each in (codec.an_object(entry, "an entry of 'findings'"),)
        ]
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a run record: it is not UTF-8 text", again) from error
    except ValueError as error:
        raise UsageError(f"{name}: not a run record: {error}", again) from error
    own = [each for each in findings if place in each.every_id]
    if not own:
        ids = [each.id for each in findings if each.id]
        near = suggest(place, ids) or (f" (it has {capped(ids)})" if ids else "")
        raise UsageError(f"{name}: no finding has the id {place}{near}", "Reports print the id of each one.")
    if len(own) > 1:
        raise UsageError(
            f"{name}: {len(own)} findings have the id {place}",
            "\n  ".join(
                (
                    "Instead of --record give --severity and --message of the one that you mean:",
                    *map(wording.finding, own),
                )
            ),
        )
    return own[0]


def _write(file: Path, text: str) -> None:
    """Replace the file in one step, with its mode; a link stays one. Raises ``DiskError``."""
    with disk.failing_as(f"{file}: cannot be written"):
        target = file.resolve()
        disk.write(target, text, mode=stat.S_IMODE(target.stat().st_mode), durable=True)
