"""The figures of an evaluation, and whether they are good enough (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aethr.base.errors import ExitCode, UsageError
from aethr.base.records import SEVERITIES, Mode, Severity, Totals
from aethr.base.words import counted
from aethr.evaluation.scoring import Detection, Score, score
from aethr.evaluation.trials import Case, Evaluation

_Z = 1.959963984540054
"""The 97.5 % point of the normal distribution, for an interval of 95 %."""
_ROUNDING = 1e-9
_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(%?)", re.ASCII)


class Proportion(NamedTuple):
    """``part`` of ``of``. ``n`` of them are independent: the repeats of a case are not. 0: not known."""

    part: int = 0
    of: int = 0
    n: int = 0

    @property
    def value(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.part / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of 95 % for a share that was seen in ``n``; None if that is not known."""
        return wilson(self.part / self.of, self.n) if self.of and self.n else None


class Tagged(NamedTuple):
    """The cases with a tag."""

    tag: str
    recall: Proportion
    clean: Proportion


class Summary(NamedTuple):
    """The figures of all trials.

    ``recall`` is the share of expected defects that were found, ``by_severity`` by how severe they are
    expected to be. ``placed`` is the share at the right place of those found. ``clean`` is the share of
    clean trials that were let pass, ``alarms`` that with a false alarm; a trial without a verdict is neither.
    ``lower`` are the defects found as less severe, ``extras`` findings of cases with defects. The cases with
    one outcome in all repeats, and the findings that all repeats have, are of cases with several trials.
    ``planned`` is how many trials there were to be.
    """

    recall: Proportion
    by_severity: tuple[tuple[Severity, Proportion], ...]
    placed: Proportion
    clean: Proportion
    alarms: Proportion
    lower: int
    duplicates: int
    extras: int
    remarks: int
    beside: int
    same_outcome: Proportion
    same_findings: Proportion
    tags: tuple[Tagged, ...]
    trials: int
    planned: int
    failed: int
    not_reviewed: int
    incomplete: int
    totals: Totals


class Thresholds(NamedTuple):
    """Shares from 0 to 1; None: anything is good enough."""

    min_recall: float | None = None
    max_false: float | None = None


class Ruling(NamedTuple):
    """Whether the figures are good enough, and a line for each reason why they are not."""

    exit_code: ExitCode = ExitCode.OK
    reasons: tuple[str, ...] = ()


def wilson(share: float, n: int) -> tuple[float, float]:
    """The interval that has the true share with 95 %, if this share was seen in ``n`` independent cases.

    E. B. Wilson, Journal of the American Statistical Association 22 (1927), without continuity correction.
    Unlike the usual one it is never empty for a share of 0 or 1, nor does it leave 0 to 1.
    """
    spread = _Z * _Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return (max(0.0, middle - half) if share else 0.0), (min(1.0, middle + half) if share < 1 else 1.0)


def score_all(evaluation: Evaluation) -> tuple[Score, ...]:
    """A score for each trial, in the order of the cases and their repeats."""
    order = {case.name: number for number, case in enumerate(evaluation.cases)}
    trials = sorted(evaluation.trials, key=lambda trial: (order[trial.case], trial.number))
    return tuple(score(evaluation.cases[order[trial.case]], trial) for trial in trials)


def by_case(scores: Iterable[Score]) -> dict[str, list[Score]]:
    """The scores of each case that has any, by its name."""
    found: dict[str, list[Score]] = {}
    for each in scores:
        found.setdefault(each.case.name, []).append(each)
    return found


def summarize(evaluation: Evaluation) -> Summary:
    """The figures; the order of the trials does not matter."""
    scores = score_all(evaluation)
    tags = sorted({tag for each in scores for tag in each.case.tags})
    repeated = [each for each in by_case(scores).values() if len(each) > 1]
    roles = [each.role for own in scores for each in own.rated]
    outcomes = [each.trial.outcome for each in scores if each.trial.error is None]
    return Summary(
        recall=share_of_defects(scores, lambda each: each.is_found),
        by_severity=tuple((severity, _recall_of(severity, scores)) for severity in SEVERITIES),
        placed=share_of_defects(scores, lambda each: each.at_place, among=lambda each: each.is_found),
        clean=share_of_clean(scores, lambda each: each.is_right),
        alarms=share_of_clean(scores, lambda each: each.is_alarm),
        lower=sum(detection.is_lower for each in scores for detection in each.detections),
        duplicates=roles.count("duplicate"),
        extras=sum(len(each.having("extra")) for each in scores if not each.is_clean),
        remarks=roles.count("remark"),
        beside=roles.count("beside"),
        same_outcome=_share(len({_outcome(each) for each in own}) == 1 for own in repeated),
        same_findings=_share(
            len(trials) == len(own) for own in repeated for trials in _distinct(own)
        )._replace(n=0),
        tags=tuple(
            Tagged(
                tag,
                share_of_defects(own, lambda each: each.is_found),
                share_of_clean(own, lambda each: each.is_right),
            )
            for tag in tags
            if (own := [each for each in scores if tag in each.case.tags])
        ),
        trials=len(scores),
        planned=max(len(scores), len(evaluation.cases) * evaluation.about.repeat),
        failed=len(scores) - len(outcomes),
        not_reviewed=outcomes.count("not-reviewed"),
        incomplete=outcomes.count("incomplete"),
        totals=_sum_up([each.trial.totals for each in scores]),
    )


def share_of_defects(
    scores: Iterable[Score],
    holds: Callable[[Detection], bool],
    among: Callable[[Detection], bool] = lambda _: True,
) -> Proportion:
    """The share of the expected defects of all trials, or of those ``among`` them, for which this holds."""
    wanted = [
        (each.case.name, number, detection)
        for each in scores
        for number, detection in enumerate(each.detections)
        if among(detection)
    ]
    distinct = {(name, number) for name, number, _ in wanted}
    return Proportion(sum(holds(each) for *_, each in wanted), len(wanted), len(distinct))


def share_of_clean(scores: Iterable[Score], holds: Callable[[Score], bool]) -> Proportion:
    """The share of the trials of clean cases for which this holds."""
    clean = [each for each in scores if each.is_clean]
    return Proportion(sum(map(holds, clean)), len(clean), len({each.case.name for each in clean}))


def _recall_of(severity: Severity, scores: Iterable[Score]) -> Proportion:
    return share_of_defects(
        scores, lambda each: each.is_found, among=lambda each: each.expected.severity == severity
    )


def _share(holds: Iterable[bool]) -> Proportion:
    each = list(holds)
    return Proportion(sum(each), len(each), len(each))


def _outcome(score: Score) -> tuple[bool, ...]:
    """What repeats of a case may differ in: which defects were found, or whether it raised a false alarm."""
    found = (detection.is_found for detection in score.detections)
    return score.trial.counts, score.is_alarm, *found


def _distinct(scores: Sequence[Score]) -> list[set[int]]:
    """For each distinct finding of these trials, those that have it: by its ids, without one by its words."""
    groups: list[tuple[set[str], set[int]]] = []
    for number, own in enumerate(scores):
        for each in (rated.finding for rated in own.rated if rated.role != "set-aside"):
            names = set(each.every_id) or {f"{each.path}:{each.line}: {each.message}"}
            same = [group for group in groups if group[0] & names]
            groups = [group for group in groups if not group[0] & names]
            groups.append((names.union(*(one for one, _ in same)), {number}.union(*(had for _, had in same))))
    return [had for _, had in groups]


def _sum_up(totals: Sequence[Totals]) -> Totals:
    """The sum of each figure: None if one of them is unknown; of cached and thinking tokens if all are."""

    def whole(field: str) -> int | None:
        values = [getattr(each, field) for each in totals]
        return None if None in values else sum(values)

    def known(field: str) -> int | None:
        values = [value for each in totals if (value := getattr(each, field)) is not None]
        return sum(values) if values else None

    costs = [each.cost_usd for each in totals]
    return Totals(
        calls=sum(each.calls for each in totals),
        prompt_tokens=whole("prompt_tokens"),
        completion_tokens=whole("completion_tokens"),
        cost_usd=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
        seconds=math.fsum(each.seconds for each in totals),
        estimated=any(each.estimated for each in totals),
        cached_tokens=known("cached_tokens"),
        written_tokens=known("written_tokens"),
        reasoning_tokens=known("reasoning_tokens"),
    )


# --- thresholds --------------------------------------------------------------------------------


def read_thresholds(min_recall: str | None, max_false: str | None, cases: Sequence[Case]) -> Thresholds:
    """The thresholds of the command line, None where there is none.

    Raises ``UsageError`` for anything but a share, and where these cases cannot say whether it is kept.
    """
    given = Thresholds(_read_share("--min-recall", min_recall), _read_share("--max-false", max_false))
    if given.min_recall is not None and not any(case.expected for case in cases):
        raise UsageError("--min-recall: no case has a defect to find", "Add one, or leave the option out.")
    if given.max_false is not None and all(case.expected for case in cases):
        raise UsageError("--max-false: no case is clean", "Add one with `clean: true`, or leave it out.")
    return given


def _read_share(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    match = _SHARE.fullmatch(text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else -1
    if 0 <= value <= 1:
        return value
    raise UsageError(f"{option} {text}: not a share", "Give a number from 0 to 1, or a percentage: 80%.")


def rule(summary: Summary, thresholds: Thresholds, mode: Mode) -> Ruling:
    """Whether the figures keep the thresholds: exit code 0, 1, or 4 where the trials cannot say.

    A clean trial without a verdict might have raised an alarm, so it closes ``max_false`` if it would matter.
    """
    if thresholds == Thresholds():
        return Ruling()
    if mode == "mock":
        return Ruling(ExitCode.NOT_REVIEWED, ("no model was called, so the thresholds say nothing",))
    if summary.trials < summary.planned:
        ran = f"only {summary.trials:,} of {counted(summary.planned, 'run')}"
        return Ruling(ExitCode.NOT_REVIEWED, (f"{ran} ended, so the thresholds say nothing",))
    low, high = thresholds.min_recall, thresholds.max_false
    found, alarms = summary.recall.value, summary.alarms.value
    silent = summary.alarms.of - summary.alarms.part - summary.clean.part
    reasons = []
    if low is not None and found is not None and found < low - _ROUNDING:
        reasons.append(f"recall {100 * found:.4g} % is below --min-recall {100 * low:.4g} %")
    if high is not None and alarms is not None and alarms > high + _ROUNDING:
        reasons.append(f"false alarms {100 * alarms:.4g} % are above --max-false {100 * high:.4g} %")
    if reasons:
        return Ruling(ExitCode.GATE, tuple(reasons))
    if high is not None and (summary.alarms.part + silent) > (high + _ROUNDING) * summary.alarms.of:
        without = f"{counted(silent, 'clean run')} gave no verdict"
        return Ruling(ExitCode.NOT_REVIEWED, (f"{without}, so --max-false may not be kept",))
    return Ruling()
