"""The block ``answers:`` at the end of a workflow file: one answer comes or goes, and nothing else changes.

The file is a text that somebody wrote, so it is edited as one. Each edit is read again: if it would change
any other value, it is refused.
"""

from __future__ import annotations

import re
from typing import NoReturn

from aethr.base.errors import ConfigError, UsageError
from aethr.base.records import Answer, WorkflowSpec
from aethr.base.words import suggest
from aethr.config import workflow_file
from aethr.config.mistakes import LINE_END, FileLines, visible
from aethr.config.schema import Vocabulary

_KEY = re.compile(r"""\s*(["']?)answers\1\s*:""")


def append(text: str, origin: str, answer: Answer, vocabulary: Vocabulary) -> str:
    """The text of a workflow file with one more answer at its end; all that it has stays as it is.

    Messages call the file ``origin``. Raises ``ConfigError``, and ``UsageError`` if the end is no place for
    it.
    """
    spec = workflow_file.parse(text, origin, vocabulary)
    place = spec.places.get("answers")
    if place is None:
        added, column = (
            workflow_file.dump({"answers": [workflow_file.list_given(answer)]}),
            spec.places[""].column,
        )
    else:
        _require_last_block(spec, answer)
        added, column = workflow_file.dump([workflow_file.list_given(answer)]), place.column
    ends: list[str] = LINE_END.findall(text) or ["\n"]
    lines = [" " * (column - 1) * bool(line) + line for line in added.split("\n")]
    begin = text if text.endswith(("\n", "\r")) else text + ends[-1]
    made = begin + ends[-1].join(lines)
    if problem := _find_change(made, spec, (*spec.answers, answer), vocabulary):
        _refuse(spec, f"the answer cannot be added at its end: {problem}", answer)
    return made


def remove(text: str, origin: str, place_id: str, vocabulary: Vocabulary) -> str:
    """The text of a workflow file without the answer of this id. Raises as ``append`` does."""
    spec = workflow_file.parse(text, origin, vocabulary)
    own = [number for number, each in enumerate(spec.answers) if each.id == place_id]
    if not own:
        near = suggest(place_id, [each.id for each in spec.answers])
        raise UsageError(f"{visible(origin)}: no answer {place_id}{near}", "`aethr answer --list` lists all.")
    starts = [spec.places[f"answers.{number}"].line for number in own]
    by_hand = f"Remove it by hand: it begins on line {starts[0]}."
    if len(own) > 1:
        raise UsageError(
            f"{visible(origin)}: {len(own)} answers have the id {place_id}, on lines "
            + " and ".join(map(str, starts)),
            "Remove by hand the one that you mean.",
        )
    lines, column = FileLines.of(text), spec.places["answers"].column
    first = starts[0] - 1
    while first and not re.match(rf" {{{column - 1}}}-", lines.texts[first]):
        first -= 1  # a dash can stand alone on its line
    end = first + 1
    while end < len(lines.texts) and re.match(rf" {{{column}}}|\s*$", lines.texts[end]):
        end += 1
    while not lines.texts[end - 1].strip():
        end -= 1
    gone = {*range(first, end)}
    if len(spec.answers) == 1:  # a key without a value is a mistake
        gone |= {max((n for n in range(first) if _KEY.match(lines.texts[n])), default=first)}
    stops = (*lines.starts[1:], len(text))
    made = "".join(
        text[start:stop]
        for number, (start, stop) in enumerate(zip(lines.starts, stops, strict=True))
        if number not in gone
    )
    rest = tuple(each for each in spec.answers if each.id != place_id)
    if problem := _find_change(made, spec, rest, vocabulary):
        raise UsageError(f"{visible(origin)}: the answer cannot be removed: {problem}", by_hand)
    return made


def _require_last_block(spec: WorkflowSpec, answer: Answer) -> None:
    """Refuse a block that another answer cannot be appended to."""
    place = spec.places["answers"]
    last = max((name for name in spec.places if name and "." not in name), key=spec.places.__getitem__)
    if last != "answers":
        _refuse(
            spec, f"'answers' is not the last key: '{last}' comes after it", answer, "Move it to the end."
        )
    if spec.lines[place.line - 1][place.column - 1 :][:1] != "-":
        _refuse(
            spec,
            "'answers' is not a list with a line for each '-'",
            answer,
            "Write it as one, without brackets.",
        )


def _refuse(spec: WorkflowSpec, problem: str, answer: Answer, fix: str = "") -> NoReturn:
    block = workflow_file.dump([workflow_file.list_given(answer)]).strip("\n").replace("\n", "\n  ")
    by_hand = (
        f"{fix or 'Add it'} Or add this under 'answers':" if fix else "Add this under 'answers' by hand:"
    )
    raise UsageError(f"{visible(spec.origin)}: {problem}", f"{by_hand}\n  {block}")


def _find_change(
    made: str, spec: WorkflowSpec, answers: tuple[Answer, ...], vocabulary: Vocabulary
) -> str | None:
    """What is wrong with an edited text that should differ from ``spec`` only in its answers."""
    try:
        found = workflow_file.parse(made, spec.origin, vocabulary)
    except ConfigError as error:
        return error.mistakes[0].partition("\n")[0]
    expected = spec._replace(answers=answers, places=found.places, lines=found.lines)
    return None if found == expected else "that would change what comes before it"
