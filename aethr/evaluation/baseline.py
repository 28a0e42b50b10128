"""An evaluation as JSON and back, and two of them case by case (pure, but for ``load``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base import codec
from aethr.base.errors import UsageError
from aethr.base.records import Mode
from aethr.base.words import capped, path_line
from aethr.evaluation.scoring import Score
from aethr.evaluation.summary import Proportion, Summary, by_case, score_all, share_of_clean, summarize
from aethr.evaluation.trials import Basis, Case, Evaluation, Expected, Trial

SCHEMA = 1
MAX_BYTES = 64 << 20
_MOST = 1e15
"""No real cost or time is larger, so that a sum of them is a number."""


class _WrittenCase(NamedTuple):
    """A case as a record keeps it: without its folder."""

    name: str
    expected: tuple[Expected, ...] = ()
    message: str = ""
    tags: tuple[str, ...] = ()
    sha256: str = ""


class Shift(NamedTuple):
    """How a defect, or a clean case, did then and now: the share of its runs of which ``what`` holds."""

    case: str
    place: str
    what: str
    before: Proportion
    now: Proportion


class Comparison(NamedTuple):
    """Two evaluations, as far as they can be compared.

    ``better`` and ``worse`` are in the order of the cases, ``same`` counts the defects and clean cases that
    are in neither. ``before`` and ``now`` are the figures of the cases that both have. ``notes`` say what
    differs besides, and what is not compared.
    """

    better: tuple[Shift, ...]
    worse: tuple[Shift, ...]
    same: int
    before: Summary
    now: Summary
    notes: tuple[str, ...]


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The record as JSON values. Scores are not in it: they follow from the trials, by the rules of now."""
    written = [
        _WrittenCase(*(getattr(case, name) for name in _WrittenCase._fields)) for case in evaluation.cases
    ]
    return {
        "schema": SCHEMA,
        **codec.to_json(evaluation.about),
        "cases": [codec.to_json(case) for case in written],
        "trials": codec.to_json(evaluation.trials),
    }


def load(name: str) -> Evaluation:
    """The record in this file. Raises ``UsageError`` for anything else."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise UsageError(f"--baseline {name}: cannot be read: {reason}", "Check the path.") from error
    again = "Write it with `aethr eval --report FILE.json`."
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        return from_json(codec.loads(data.decode()))
    except UnicodeDecodeError as error:
        raise UsageError(f"--baseline {name}: it is not UTF-8 text", again) from error
    except ValueError as error:
        raise UsageError(f"--baseline {name}: not the record of an evaluation: {error}", again) from error


def from_json(value: object) -> Evaluation:
    """The evaluation of a record. Raises ``ValueError`` with one line for anything of another shape."""
    document = codec.an_object(value, "a record")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"'schema': expected {SCHEMA}")
    about = codec.from_json(Basis, document, "a record")
    cases = tuple(
        Case(folder=Path(), **codec.from_json(_WrittenCase, each, "a case")._asdict())
        for each in codec.sequence(document, "cases")
    )
    trials = tuple(codec.from_json(Trial, each, "a trial") for each in codec.sequence(document, "trials"))
    names = {case.name for case in cases}
    if about.repeat < 1:
        raise ValueError("'repeat': expected a whole number from 1")
    if len(names) < len(cases):
        raise ValueError("'cases': a name stands twice")
    if not all(expected.places and expected.words for case in cases for expected in case.expected):
        raise ValueError("'expected': a defect has no place, or no words")
    if not all(trial.case in names and 1 <= trial.number <= about.repeat for trial in trials):
        raise ValueError("'trials': one is of no case, or has a number above 'repeat'")
    if len({(trial.case, trial.number) for trial in trials}) < len(trials):
        raise ValueError("'trials': one stands twice")
    sums = [number or 0 for trial in trials for number in (trial.totals.seconds, trial.totals.cost_usd)]
    if max(about.seconds, *sums, 0) > _MOST:
        raise ValueError("'totals': a number out of range")
    return Evaluation(about, cases, trials)


def compare(now: Evaluation, before: Evaluation) -> Comparison:
    """What got better and what got worse since ``before``.

    Both are scored by the expectations of now, so that better words in ``expect.yaml`` improve neither. A
    case with another change, or that one of them has not run, is not compared.
    """
    old = {case.name: case for case in before.cases}
    ran = {trial.case for trial in now.trials} & {trial.case for trial in before.trials}
    both = tuple(case for case in now.cases if case.name in ran and not _is_other(case, old[case.name]))
    names = {case.name for case in both}
    sides = [
        Evaluation(each.about, both, tuple(trial for trial in each.trials if trial.case in names))
        for each in (before, now)
    ]
    then, today = (by_case(score_all(side)) for side in sides)
    better: list[Shift] = []
    worse: list[Shift] = []
    same = 0
    for name in today:
        for was, found in zip(_measure(then[name]), _measure(today[name]), strict=True):
            changed = [
                Shift(name, one.place, one.what, one.share, other.share)
                for one, other in zip(was, found, strict=True)
                if one.share.value != other.share.value
            ]
            same += not changed
            for each in changed[:1]:
                (better if (each.now.value or 0) > (each.before.value or 0) else worse).append(each)
    return Comparison(
        tuple(better),
        tuple(worse),
        same,
        summarize(sides[0]),
        summarize(sides[1]),
        (*_describe_settings(now.about, before.about), *_describe_cases(now, old, ran)),
    )


def _is_other(case: Case, old: Case) -> bool:
    return bool(case.sha256 and old.sha256) and case.sha256 != old.sha256


class _Measured(NamedTuple):
    place: str
    what: str
    share: Proportion


def _measure(scores: Sequence[Score]) -> Iterator[list[_Measured]]:
    """For each defect, or for a clean case, what its runs are compared by, the weightiest first."""
    case = scores[0].case
    if not case.expected:
        yield [_Measured("clean", "passed", share_of_clean(scores, lambda each: each.is_right))]
    for number, expected in enumerate(case.expected):
        detections = [each.detections[number] for each in scores]
        found = sum(each.is_found for each in detections)
        placed = sum(each.at_place for each in detections)
        yield [
            _Measured(name_place(expected), "found", Proportion(found, len(scores), 1)),
            _Measured(name_place(expected), "at the right place", Proportion(placed, len(scores), 1)),
        ]


def name_place(expected: Expected) -> str:
    """``app/pages.py:12-14``: the defect's own place. The path is untrusted."""
    path, lines = expected.places[0]
    place = path_line(path, lines.first if lines else None)
    return f"{place}-{lines.last}" if lines and lines.last != lines.first else place


def _describe_settings(now: Basis, before: Basis) -> Iterator[str]:
    """What else differs between two evaluations, in a line each."""
    modes: Mapping[Mode, str] = {
        "mock": "a mock, whose figures mean nothing",
        "scripted": "with answers that were played back",
        "live": "live",
    }
    if now.workflow != before.workflow:
        yield f"the workflow was {before.workflow}, and is {now.workflow}"
    elif now.workflow_sha256 != before.workflow_sha256:
        yield "the workflow file has changed"
    if now.models != before.models:
        names = (capped(each) if each else "none" for each in (before.models, now.models))
        yield "models: {} then, {} now".format(*names)
    if now.aethr != before.aethr:
        yield f"Aethr {before.aethr} then, {now.aethr} now"
    if now.mode != before.mode or now.mode == "mock":
        yield f"the baseline is {modes[before.mode]}; this evaluation is {modes[now.mode]}"
    if now.repeat != before.repeat:
        yield f"runs of each case: {before.repeat:,} then, {now.repeat:,} now"


def _describe_cases(now: Evaluation, old: Mapping[str, Case], ran: set[str]) -> Iterator[str]:
    """Which cases are not compared and why, and which have other expectations."""
    known = {case.name for case in now.cases}
    shared = [case for case in now.cases if case.name in old]
    named = {
        "not compared, only in the baseline": [name for name in old if name not in known],
        "not compared, not in the baseline": [case.name for case in now.cases if case.name not in old],
        "not compared, not run both times": [case.name for case in shared if case.name not in ran],
        "not compared, another change": [case.name for case in shared if _is_other(case, old[case.name])],
        "other expectations, those of now count for both": [
            case.name for case in shared if _asks(case) != _asks(old[case.name])
        ],
    }
    for reason, names in named.items():
        if names:
            yield f"{reason}: {capped(names)}"


def _asks(case: Case) -> Counter[Expected]:
    """What is expected, whatever ``why`` says and in whichever order."""
    return Counter(each._replace(why="", words=tuple(sorted(each.words))) for each in case.expected)
