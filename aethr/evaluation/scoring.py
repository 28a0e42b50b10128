"""What a review found of the defects of a case (pure). docs/evaluation.md has the rules for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple
from unicodedata import normalize

from aethr.base.records import SEVERITIES, Finding
from aethr.base.words import path_line
from aethr.evaluation.trials import Case, Expected, Trial, Where
from aethr.review import panel

NEAR = 3
"""A finding is at the right place up to this many lines before or after the lines of the place."""

Role = Literal["hit", "duplicate", "beside", "extra", "remark", "set-aside"]
"""What a finding is to a case.

It finds a defect (``hit``) that another finding has found better (``duplicate``); it says something else at
the place of a defect that was missed (``beside``), or anything else (``extra``; ``remark`` for a low one in a
clean case). Without a verdict it counts for nothing (``set-aside``), nor if it is not open.
"""

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[^\\W_])+")
"""Japanese and Chinese have no spaces between words, so that each letter is taken for one."""
_FAR = 1 << 20
"""The distance in lines of a finding without a line; no other one is larger."""
_RADIX = 1 << 40
"""More than the sum of any of the figures by which two assignments are compared."""


class Rated(NamedTuple):
    """A finding of a trial and its role. ``defect`` counts the expected ones from 0, None for no defect."""

    finding: Finding
    role: Role
    defect: int | None = None


class Detection(NamedTuple):
    """What became of an expected defect in a trial.

    ``by`` is the finding that hits it; None if it was missed, and ``missed`` says why. ``at_place`` is False
    if the finding names other lines of the file, or none.
    """

    expected: Expected
    by: Finding | None = None
    at_place: bool = False
    missed: str = ""

    @property
    def is_found(self) -> bool:
        return self.by is not None

    @property
    def is_lower(self) -> bool:
        """Whether it was found as less severe than it is."""
        return self.by is not None and _steps_down(self.by, self.expected) > 0


class Score(NamedTuple):
    """What a trial found: ``detections`` in the order of the case, ``rated`` with all findings by place."""

    case: Case
    trial: Trial
    detections: tuple[Detection, ...]
    rated: tuple[Rated, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to find."""
        return not self.case.expected

    @property
    def is_alarm(self) -> bool:
        """Whether it would have stopped a clean change.

        That is a high or medium finding, or the verdict ``revise`` without any finding.
        """
        if not self.is_clean or not self.trial.counts:
            return False
        roles = {each.role for each in self.rated}
        return "extra" in roles or (self.trial.outcome == "revise" and "remark" not in roles)

    @property
    def is_right(self) -> bool:
        """Whether it let a clean change pass: a trial without a verdict did not."""
        return self.is_clean and self.trial.counts and not self.is_alarm

    def having(self, *roles: Role) -> tuple[Finding, ...]:
        """The findings with one of these roles."""
        return tuple(each.finding for each in self.rated if each.role in roles)


class _Fit(NamedTuple):
    """How a finding fits a defect.

    ``gap`` is the number of lines between it and the nearest place, 0 if they overlap; None in another file.
    ``steps`` is by how many severities they differ.
    """

    says: bool
    gap: int | None
    steps: int

    @property
    def hits(self) -> bool:
        return self.says and self.gap is not None

    @property
    def is_near(self) -> bool:
        return self.gap is not None and self.gap <= NEAR


def score(case: Case, trial: Trial) -> Score:
    """What this trial found of the defects of the case; the order of its findings does not matter.

    A defect has at most one finding and a finding at most one defect: of all such assignments the one that
    finds most; then the one with most at the right place, with severities closest to the expected ones, with
    the fewest lines in between, and with the findings that come first by place.
    """
    found = sorted(trial.findings, key=_order)
    counts = [trial.counts and each.is_open for each in found]
    said = [_listen(each) for each in found]
    fits = [
        [
            _Fit(
                any(_says(own, word) for word in expected.words),
                _gap(each, expected.places, trial),
                abs(_steps_down(each, expected)),
            )
            for each, own in zip(found, said, strict=True)
        ]
        for expected in case.expected
    ]
    taken = assign(
        [[_weigh(fit, at) if counts[at] and fit.hits else None for at, fit in enumerate(row)] for row in fits]
    )
    rated = tuple(
        _rate(each, at, [row[at] for row in fits], taken) if counts[at] else Rated(each, "set-aside")
        for at, each in enumerate(found)
    )
    detections = tuple(
        Detection(expected, missed=_explain(expected, rated, row, trial))
        if at is None
        else Detection(expected, found[at], row[at].is_near)
        for expected, row, at in zip(case.expected, fits, taken, strict=True)
    )
    return Score(case, trial, detections, rated)


def _weigh(fit: _Fit, order: int) -> int:
    """The cost of a pair: place before far, then the nearer severity, the smaller distance, the order."""
    rank = (not fit.is_near) * _RADIX + fit.steps
    return (rank * _RADIX + (fit.gap or 0)) * _RADIX + order


def assign(costs: Sequence[Sequence[int | None]]) -> list[int | None]:
    """For each row a column of its own, or None: for as many rows as possible, then at the least cost.

    None is no possible pair. Each turn adds a row by the cheapest alternating path, so that the assignment is
    the cheapest one of its size.
    """
    taken: list[int | None] = [None] * len(costs)
    while path := _find_path(costs, taken):
        for row, column in path:
            taken[row] = column
    return taken


def _find_path(costs: Sequence[Sequence[int | None]], taken: Sequence[int | None]) -> list[tuple[int, int]]:
    """The pairs that the cheapest larger assignment changes; empty if there is none."""
    owners = {column: row for row, column in enumerate(taken) if column is not None}
    spent = {row: 0 for row, column in enumerate(taken) if column is None}
    reached: dict[int, tuple[int, int]] = {}  # for each column the least cost to it, and its row then
    waiting = list(spent)
    while waiting:
        row = waiting.pop(0)
        for column, cost in enumerate(costs[row]):
            if cost is None or column == taken[row]:
                continue
            total = spent[row] + cost
            if column in reached and reached[column][0] <= total:
                continue
            reached[column] = total, row
            if (owner := owners.get(column)) is not None:
                spent[owner] = total - (costs[owner][column] or 0)
                waiting.append(owner)
    free = [(total, column) for column, (total, _) in reached.items() if column not in owners]
    path: list[tuple[int, int]] = []
    end: int | None = min(free)[1] if free else None
    while end is not None:
        row = reached[end][1]
        path.append((row, end))
        end = taken[row]
    return path


def _rate(finding: Finding, at: int, fits: Sequence[_Fit], taken: Sequence[int | None]) -> Rated:
    """A finding that counts, by how it fits each defect, and which finding each of them has."""
    if at in taken:
        return Rated(finding, "hit", taken.index(at))
    for defect, fit in enumerate(fits):
        if fit.hits:
            return Rated(finding, "duplicate", defect)
    for defect, fit in enumerate(fits):
        if fit.is_near and taken[defect] is None:
            return Rated(finding, "beside", defect)
    return Rated(finding, "remark" if not fits and finding.severity == SEVERITIES[-1] else "extra")


def _explain(expected: Expected, rated: Sequence[Rated], fits: Sequence[_Fit], trial: Trial) -> str:
    """Why a defect was missed, as far as that is known."""
    if trial.error is not None:
        return f"the run failed: {trial.error}"
    if trial.outcome == "not-reviewed":
        return "not reviewed"
    fitting = list(zip(rated, fits, strict=True))
    hits = [each for each, fit in fitting if fit.hits]
    others = [each.finding for each, fit in fitting if fit.says and each.role == "extra"]
    if any(each.role == "hit" for each in hits):
        return "the finding that fits it is that of another defect"
    if hits:
        check = hits[0].finding.check
        by = f"dropped by {check.step}" if check and check.dropped else hits[0].finding.state
        return f"reported, but {by}"
    if expected.places[0].path in trial.excluded:
        return "a rule excludes its file"
    if expected.places[0].path in trial.missing:
        return "no prompt had all of its file"
    if any(fit.is_near and each.role == "beside" for each, fit in fitting):
        return "something else at the place"
    if others:
        path = others[0].path
        return "reported " + (f"for {path_line(path, others[0].line)}" if path else "without a file")
    return "not reported" + (", the review is incomplete" if trial.outcome == "incomplete" else "")


def _steps_down(finding: Finding, expected: Expected) -> int:
    """By how many severities the finding is lower than the defect; negative if it is higher."""
    return SEVERITIES.index(finding.severity) - SEVERITIES.index(expected.severity)


def _order(finding: Finding) -> tuple[str, int, int, int, str, str]:
    """By place, severity and words; equal only for equal findings."""
    rank = SEVERITIES.index(finding.severity)
    return finding.path or "", finding.line or 0, finding.end_line or 0, rank, finding.message, repr(finding)


def _gap(finding: Finding, places: Iterable[Where], trial: Trial) -> int | None:
    """The number of lines between a finding and the nearest of these places; None in any other file.

    A file may be called as it was before the change renamed it.
    """
    names = {finding.path, *(each.new for each in trial.renamed if each.old == finding.path)}
    gaps = []
    for place in places:
        if place.path not in names:
            continue
        if place.lines is None:
            gaps.append(0)
        elif finding.line is None:
            gaps.append(_FAR)
        else:
            first, last = sorted((finding.line, finding.end_line or finding.line))
            gaps.append(min(_FAR, max(0, place.lines.first - last, first - place.lines.last)))
    return min(gaps, default=None)


# --- words -------------------------------------------------------------------------------------


class _Said(NamedTuple):
    """Texts to look for words in: the stems of their words, between single spaces, and all characters."""

    stems: str
    characters: str


def _listen(finding: Finding) -> _Said:
    """What a finding says: its message, those that were merged with it, the code it quotes and suggests."""
    said = (finding.message, *(each.message for each in finding.also), finding.evidence, finding.suggestion)
    texts = [_fold(text) for text in said if text]
    return _Said("|".join(map(_stem, texts)), "\n".join(texts))


def _says(said: _Said, word: str) -> bool:
    """Whether it has this word, or these words one after the other, in any form that ``panel.stem`` knows.

    Of a word without letters and digits (``!=``), the characters themselves count.
    """
    folded = _fold(word)
    stems = _stem(folded)
    return stems in said.stems if stems.strip() else bool(folded) and folded in said.characters


def _fold(text: str) -> str:
    return normalize("NFKC", normalize("NFKC", text).casefold()).strip()


def _stem(folded: str) -> str:
    return f" {' '.join(map(panel.stem, _WORD.findall(folded)))} "
