"""The figures of an evaluation, against a calculation by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aethr.base.errors import ExitCode, UsageError
from aethr.base.records import SEVERITIES, Lines, Severity, Totals
from aethr.evaluation.summary import (
    Proportion,
    Ruling,
    Thresholds,
    read_thresholds,
    rule,
    score_all,
    summarize,
    wilson,
)
from aethr.evaluation.trials import Basis, Case, Evaluation, Expected, Trial, Where
from tests.evaluation.support import DROPPED, finding, trial

ABOUT = Basis("0.2.0", "2026-11-30T08:00:00Z", "review", "a" * 64, ("openai:m",), "live", 3, 20.0)


def defect(severity: Severity, first: int = 12, word: str = "race") -> Expected:
    return Expected(severity, (Where("app/pages.py", Lines(first, first + 2)),), (word,))


def of(name: str, *severities: Severity, tags: tuple[str, ...] = ()) -> Case:
    expected = tuple(
        defect(each, at, word) for each, at, word in zip(severities, (12, 30), ("race", "leak"), strict=False)
    )
    return Case(name, Path(), expected, tags=tags)


HIT = finding("A race.", id="hit")
FAR = finding("A race.", 90, id="far")
LOW = finding("A race.", severity="low", id="hit")
TWICE = finding("Still a race.", 14, id="twice")
BESIDE = finding("Unclear.", id="hit")
PLACELESS = finding("A race.", None, id=None)
SECOND = finding("It leaks.", 31, "low", id="second")
TYPO = finding("A typo.", 70, "low", id="typo")
COST = Totals(2, 100, 10, 0.5, 1.5)

# Twelve cases, three runs each; the columns are the runs. What counts of each case is on its right:
#   found/expected (at the right place); same outcome; distinct findings, of which in all runs
RUNS: dict[Case, tuple[Trial, ...]] = {
    of("b1", "high", tags=("python",)): (trial(HIT), trial(HIT), trial(HIT)),  # 3/3 (3); same; 1, 1
    of("b2", "high"): (trial(HIT), trial(FAR), trial(outcome="pass")),  # 2/3 (1); not; 2, 0
    of("b3", "high"): (trial(LOW), trial(error="HTTP 500"), trial(BESIDE)),  # 1/3 (1); not; 1, 0
    of("b4", "medium"): (  # 2/3 (2); not; 2, 0: what was dropped is no finding, a duplicate is one
        trial(HIT._replace(check=DROPPED), outcome="pass"),
        trial(HIT, TWICE),
        trial(HIT),
    ),
    of("b5", "medium"): (trial(excluded=("app/pages.py",), outcome="nothing-to-review"),)
    * 3,  # 0/3; same; 0, 0
    of("b6", "medium"): (  # 1/3 (1); not; 1, 0
        trial(HIT, outcome="not-reviewed"),
        trial(HIT, outcome="incomplete"),
        trial(outcome="incomplete"),
    ),
    of("b7", "low", tags=("python", "sql")): (trial(PLACELESS),) * 3,  # 3/3 (0); same; 1, 1
    of("b8", "high", "low"): (trial(HIT, SECOND), trial(HIT, TYPO), trial(SECOND)),  # 4/6 (4); not; 3, 0
    of("c1", tags=("python",)): (trial(outcome="pass"),) * 3,  # 3 right; same; 0, 0
    of("c2"): (trial(TYPO, outcome="pass"), *(trial(outcome="pass"),) * 2),  # 3 right; same; 1, 0
    of("c3", tags=("sql",)): (trial(HIT), trial(HIT), trial(outcome="pass")),  # 1 right, 2 alarms; not; 1, 0
    of("c4"): (trial(error="HTTP 500"), trial(), trial(outcome="pass")),  # 1 right, 1 alarm; not; 0, 0
}
EVALUATION = Evaluation(
    ABOUT,
    tuple(RUNS),
    tuple(
        each._replace(case=case.name, number=number, totals=COST)
        for case, trials in RUNS.items()
        for number, each in enumerate(trials, 1)
    ),
)


def near(interval: tuple[float, float] | None) -> object:
    return pytest.approx(interval, abs=5e-5)


def test_the_figures_are_those_of_a_calculation_by_hand() -> None:
    found = summarize(EVALUATION)
    # 3 + 2 + 1 + 2 + 0 + 1 + 3 + 4 = 16 of 9 defects in 3 runs
    assert found.recall == Proportion(16, 27, 9)
    # Wilson with p = 16/27 = 0.59259, n = 9: z² / n = 3.84146 / 9 = 0.42683;
    # middle (0.59259 + 0.21341) / 1.42683 = 0.56489;
    # half sqrt(0.42683 · 0.59259 · 0.40741 + 0.42683² / 4) / 1.42683 = 0.38548 / 1.42683 = 0.27016
    assert found.recall.interval == near((0.29472, 0.83505))
    assert dict(found.by_severity) == {
        "high": Proportion(3 + 2 + 1 + 2, 12, 4),  # b1, b2, b3, b8
        "medium": Proportion(2 + 0 + 1, 9, 3),  # b4, b5, b6
        "low": Proportion(3 + 2, 6, 2),  # b7, b8
    }
    assert found.placed == Proportion(3 + 1 + 1 + 2 + 1 + 0 + 4, 16, 8)  # all defects but that of b5
    assert found.clean == Proportion(3 + 3 + 1 + 1, 12, 4)
    # p = 0.66667, n = 4: z² / n = 0.96036; middle (0.66667 + 0.48018) / 1.96036 = 0.58502;
    # half sqrt(0.96036 · 0.22222 + 0.23058) / 1.96036 = 0.66632 / 1.96036 = 0.33990
    assert found.clean.interval == near((0.24512, 0.92491))
    assert found.alarms == Proportion(2 + 1, 12, 4)  # c3, c4
    assert found.lower == 1  # b3
    assert found.duplicates == 1  # b4
    assert found.extras == 1  # the typo in b8
    assert found.remarks == 1  # the typo in c2
    assert found.beside == 1  # b3
    assert found.same_outcome == Proportion(5, 12, 12)  # b1, b5, b7, c1, c2
    assert found.same_findings == Proportion(1 + 1, 1 + 2 + 1 + 2 + 1 + 1 + 3 + 1 + 1, 0)  # b1, b7; of 13
    assert found.same_findings.interval is None
    assert (found.trials, found.planned) == (36, 36)
    assert (found.failed, found.not_reviewed, found.incomplete) == (2, 1, 2)
    assert found.totals == Totals(72, 3600, 360, 18.0, 54.0)


def test_a_tag_has_the_figures_of_its_cases() -> None:
    assert summarize(EVALUATION).tags == (
        ("python", Proportion(3 + 3, 6, 2), Proportion(3, 3, 1)),  # b1, b7; c1
        ("sql", Proportion(3, 3, 1), Proportion(1, 3, 1)),  # b7; c3
    )


def test_the_order_of_the_trials_does_not_matter() -> None:
    mixed = list(EVALUATION.trials)
    random.Random(7).shuffle(mixed)
    other = EVALUATION._replace(trials=tuple(mixed))
    assert summarize(other) == summarize(EVALUATION)
    assert score_all(other) == score_all(EVALUATION)


@pytest.mark.parametrize(
    ("part", "n", "interval"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_is_the_published_one(part: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(part / n, n) == near(interval)
    low, high = wilson(1 - part / n, n)
    assert (1 - high, 1 - low) == near(interval)


@pytest.mark.parametrize("n", [1, 2, 20, 10**9])
def test_nothing_and_all_are_ends_of_their_interval(n: int) -> None:
    assert wilson(0.0, n)[0] == 0.0
    assert wilson(1.0, n)[1] == 1.0
    assert wilson(0.0, n)[1] > 0
    assert wilson(1.0, n)[0] < 1


def test_an_interval_is_as_wide_as_the_cases_are_few_however_often_they_ran() -> None:
    once = Proportion(10, 20, 20).interval
    assert Proportion(30, 60, 20).interval == once
    assert once == near((0.29930, 0.70070))  # 0.5 ± z / (2 sqrt(20 + z²)) = 0.5 ± 0.20070


@pytest.mark.parametrize(
    ("evaluation", "trials"),
    [
        (EVALUATION._replace(cases=(), trials=()), 0),
        (EVALUATION._replace(trials=()), 0),
        (
            EVALUATION._replace(trials=tuple(each._replace(error="HTTP 500") for each in EVALUATION.trials)),
            36,
        ),
        (EVALUATION._replace(cases=EVALUATION.cases[:1], trials=EVALUATION.trials[:1]), 1),
    ],
    ids=["no cases", "no runs", "all failed", "one run"],
)
def test_an_evaluation_that_says_little_has_figures(evaluation: Evaluation, trials: int) -> None:
    found = summarize(evaluation)
    assert found.trials == trials
    assert found.recall.value == {0: None, 36: 0.0, 1: 1.0}[trials]
    assert found.clean.value == {0: None, 36: 0.0, 1: None}[trials]
    assert found.alarms.part == 0
    assert (found.same_outcome.value is None) == (trials < 36)


def test_a_figure_that_one_run_does_not_know_is_not_known() -> None:
    first, *others = EVALUATION.trials
    unknown = Totals(1, None, 5, None, 1.0, estimated=True, cached_tokens=7)
    found = summarize(EVALUATION._replace(trials=(first._replace(totals=unknown), *others))).totals
    assert (found.prompt_tokens, found.cost_usd, found.tokens) == (None, None, None)
    assert (found.calls, found.completion_tokens, found.cached_tokens) == (71, 355, 7)
    assert found.estimated


def test_findings_are_the_same_by_any_of_their_ids() -> None:
    """Of three reviewers with their own lines, other two are merged in each run."""
    case = of("b", "high")
    runs = (finding(ids=("a", "b")), finding(ids=("b", "c")), finding("Other words.", ids=("c",)))
    trials = tuple(trial(each, case="b", number=number) for number, each in enumerate(runs, 1))
    for order in (trials, trials[::-1]):
        assert summarize(Evaluation(ABOUT, (case,), order)).same_findings == Proportion(1, 1)


def test_a_run_that_failed_has_another_outcome_than_one_that_missed_everything() -> None:
    case = of("b", "high")
    trials = (trial(case="b", error="HTTP 500"), trial(case="b", number=2, outcome="pass"))
    assert summarize(Evaluation(ABOUT, (case,), trials)).same_outcome == Proportion(0, 1, 1)


# --- thresholds --------------------------------------------------------------------------------

FOUND = summarize(EVALUATION)  # recall 16/27 = 0.5926, false alarms 3/12, one clean run without a verdict


@pytest.mark.parametrize(
    ("thresholds", "ruling"),
    [
        (Thresholds(), Ruling()),
        (Thresholds(min_recall=0.59), Ruling()),
        (
            Thresholds(min_recall=0.6),
            Ruling(ExitCode.GATE, ("recall 59.26 % is below --min-recall 60 %",)),
        ),
        (
            Thresholds(max_false=0.24),
            Ruling(ExitCode.GATE, ("false alarms 25 % are above --max-false 24 %",)),
        ),
        (
            Thresholds(0.6, 0.24),
            Ruling(
                ExitCode.GATE,
                (
                    "recall 59.26 % is below --min-recall 60 %",
                    "false alarms 25 % are above --max-false 24 %",
                ),
            ),
        ),
        (Thresholds(max_false=4 / 12), Ruling()),
        (
            Thresholds(max_false=0.25),
            Ruling(ExitCode.NOT_REVIEWED, ("1 clean run gave no verdict, so --max-false may not be kept",)),
        ),
    ],
)
def test_thresholds_decide_the_exit_code(thresholds: Thresholds, ruling: Ruling) -> None:
    assert rule(FOUND, thresholds, "live") == ruling
    assert rule(FOUND, thresholds, "scripted") == ruling


def test_thresholds_say_nothing_about_a_mock_or_about_a_part() -> None:
    assert rule(FOUND, Thresholds(), "mock") == Ruling()
    assert rule(FOUND, Thresholds(0.1), "mock").exit_code == ExitCode.NOT_REVIEWED
    part = summarize(EVALUATION._replace(trials=EVALUATION.trials[:5]))
    assert rule(part, Thresholds(0.1), "live") == Ruling(
        ExitCode.NOT_REVIEWED, ("only 5 of 36 runs ended, so the thresholds say nothing",)
    )


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("0.8", 0.8),
        (".8", 0.8),
        ("80%", 0.8),
        ("80 %", 0.8),
        ("100%", 1.0),
        ("29%", 0.29),
    ],
)
def test_a_threshold_is_a_share_or_a_percentage(text: str, share: float) -> None:
    assert read_thresholds(text, text, EVALUATION.cases) == (share, share)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "80", "1.1", "101%", "nan", "inf", "1e-1", "٣%", "0x1", "0,8", "9" * 400, "%"]
)
def test_anything_else_is_refused(text: str) -> None:
    for option, given in (("--min-recall", (text, None)), ("--max-false", (None, text))):
        with pytest.raises(UsageError, match=f"^{option} ") as caught:
            read_thresholds(*given, EVALUATION.cases)
        assert caught.value.exit_code == ExitCode.USAGE


def test_a_threshold_that_no_case_can_decide_is_refused() -> None:
    buggy, clean = EVALUATION.cases[:8], EVALUATION.cases[8:]
    assert read_thresholds("80%", None, buggy) == (0.8, None)
    assert read_thresholds(None, "0", clean) == (None, 0.0)
    with pytest.raises(UsageError, match="--max-false: no case is clean"):
        read_thresholds(None, "0", buggy)
    with pytest.raises(UsageError, match="--min-recall: no case has a defect to find"):
        read_thresholds("80%", None, clean)
    assert read_thresholds(None, None, ()) == (None, None)


def test_the_severities_of_the_figures_are_all_that_there_are() -> None:
    assert [severity for severity, _ in FOUND.by_severity] == list(SEVERITIES)
