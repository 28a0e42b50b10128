"""The report of an evaluation, as text, page and record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from aethr.base.errors import ExitCode
from aethr.base.records import Totals
from aethr.evaluation.scorecard import FORMATS, Scorecard, json_text, lines, markdown, text
from aethr.evaluation.summary import Ruling
from aethr.evaluation.trials import Case, Evaluation
from tests.evaluation.support import DEFECT, finding, trial
from tests.evaluation.test_figures import ABOUT, EVALUATION, HIT, of

RULING = Ruling(ExitCode.GATE, ("recall 59.26 % is below --min-recall 60 %",))
EARLIER = EVALUATION._replace(
    about=ABOUT._replace(date="2026-10-01T08:00:00Z", models=("anthropic:n",)),
    trials=tuple(
        each._replace(findings=(), outcome="pass", error=None) if each.case in ("b1", "c3") else each
        for each in EVALUATION.trials
    ),
)
CARD = Scorecard(EVALUATION, ruling=RULING)
COMPARED = Scorecard(EVALUATION, EARLIER)


def test_the_text_says_what_happened_in_each_case_and_the_figures() -> None:
    assert (
        text(CARD)
        == """\
Aethr eval: review, 12 cases, 3 runs each (openai:m)
case    found  at place  extra
b1        3/3         3      0
b2        2/3         1      0
b3        1/3         1      0  failed 1/3
b4        2/3         2      0
b5        0/3         0      0
b6        1/3         1      0  not reviewed 1/3, incomplete 2/3
b7        3/3         0      0
b8        4/6         4      1
c1      clean         -      0
c2      clean         -      0
c3      clean         -      2  false alarm 2/3
c4      clean         -      0  failed 1/3, false alarm 1/3

Missed:
  b2: app/pages.py:12-14: [high]: not reported (1 of 3 runs)
  b3: app/pages.py:12-14: [high]: something else at the place (1 of 3 runs)
  b4: app/pages.py:12-14: [medium]: reported, but dropped by verify (1 of 3
    runs)
  b5: app/pages.py:12-14: [medium]: a rule excludes its file (3 of 3 runs)
  b6: app/pages.py:12-14: [medium]: not reported, the review is incomplete (1 of
    3 runs)
  b8: app/pages.py:30-32: [low]: not reported (1 of 3 runs)
  b8: app/pages.py:12-14: [high]: not reported (1 of 3 runs)

False alarms:
  c3: app/pages.py:13: [high] A race. (hit) (2 of 3 runs)
  c4: revise, without a finding (1 of 3 runs)

Without a verdict:
  b3, c4: HTTP 500 (1 of 3 runs)
  b6: not reviewed (1 of 3 runs)

recall                    59 % (16/27)      29 to 84 %, n = 9
  high                    67 % (8/12)       25 to 92 %, n = 4
  medium                  33 % (3/9)        6 to 79 %, n = 3
  low                     83 % (5/6)        24 to 99 %, n = 2
at the right place        75 % (12/16)      41 to 93 %, n = 8
clean changes passed      67 % (8/12)       25 to 92 %, n = 4
false alarms              25 % (3/12)       5 to 70 %, n = 4
same outcome in all runs  42 % (5/12)       19 to 68 %, n = 12
same findings in all runs 15 % (2/13)
1 found as less severe, 1 duplicate, 1 extra finding, 1 about something else at
    the place, 1 remark on clean changes
2 runs failed: counted as finding nothing and passing nothing
1 run gave no verdict: counted as finding nothing and passing nothing
2 runs incomplete: what they found is counted
36 runs, 72 calls, 3,960 tokens, $18.00, 54.0 s in runs, 20.0 s in all
recall 59.26 % is below --min-recall 60 %
"""
    )
    assert [line.text for line in lines(CARD) if line.tone == "bad"] == list(RULING.reasons)


def test_against_a_baseline_what_got_better_and_worse_comes_first() -> None:
    begin = text(COMPARED).split("\ncase ")[0]
    assert begin.startswith(
        """\
Aethr eval: review, 12 cases, 3 runs each (openai:m)
against the baseline of 2026-10-01T08:00:00Z:
note: models: anthropic:n then, openai:m now
better: 1
  b1: app/pages.py:12-14: found 0 % (0/3), now 100 % (3/3)
worse: 1
  c3: clean: passed 100 % (3/3), now 33 % (1/3)
the same: 11
recall                    48 % (13/27)      -> 59 % (16/27)
"""
    )
    page = markdown(COMPARED)
    order = (
        "## Against the baseline",
        "### Better: 1",
        "### Worse: 1",
        "The same: 11",
        "## Figures",
        "## Cases",
    )
    places = [page.index(each) for each in order]
    assert places == sorted(places)


def test_the_page_has_a_row_for_each_case_and_all_lists() -> None:
    page = markdown(CARD)
    assert "| b2 | 2/3 | 1 | 0 |  | \\$3.00 | 9\\.0 s |" not in page  # a run costs 0.5 and takes 1.5 s
    assert "| b2 | 2/3 | 1 | 0 |  | \\$1.50 | 4\\.5 s |" in page
    assert "| python | 100 % (6/6) | 100 % (3/3) |" in page
    assert re.findall("^## (.*)", page, re.MULTILINE) == [
        *("Figures", "Cases", "Tags", "Missed", "False alarms", "Without a verdict", "Found as less severe"),
        *("Found elsewhere in the file", "Something else at the place", "Extra findings", "Duplicates"),
        *("Remarks on clean changes", "Dropped or answered"),
    ]
    assert page.startswith("# Aethr eval: review, 12 cases")
    assert page.splitlines()[2] == "**recall 59.26 % is below --min-recall 60 %**"


def test_the_record_has_scores_figures_and_the_comparison() -> None:
    document: dict[str, Any] = json.loads(json_text(COMPARED._replace(ruling=RULING)))
    assert document["summary"]["recall"] == {
        "part": 16,
        "of": 27,
        "n": 9,
        "value": 16 / 27,
        "interval": pytest.approx([0.29472, 0.83505], abs=5e-5),
    }
    assert document["summary"]["by_severity"]["high"]["part"] == 8
    assert document["summary"]["tags"]["sql"]["clean"]["of"] == 3
    assert [each["case"] for each in document["comparison"]["better"]] == ["b1"]
    assert [each["case"] for each in document["comparison"]["worse"]] == ["c3"]
    assert document["comparison"]["before"]["recall"]["part"] == 13
    assert (document["exit_code"], document["reasons"]) == (1, list(RULING.reasons))
    first = document["scores"][0]
    assert (first["case"], first["number"], first["right"]) == ("b1", 1, True)
    assert first["defects"][0]["found"]
    assert first["findings"] == [
        {"role": "hit", "defect": 0, "finding": "app/pages.py:13: [high] A race. (hit)"}
    ]
    assert json.loads(json_text(CARD))["comparison"] is None


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("mock", "note: mock mode: no model was called, so these figures mean nothing"),
        ("scripted", "note: the answers were played back: no model was called"),
    ],
)
def test_a_report_without_a_model_says_so_at_the_beginning(mode: Any, said: str) -> None:
    card = CARD._replace(evaluation=EVALUATION._replace(about=ABOUT._replace(mode=mode)))
    assert text(card).splitlines()[1].startswith(said)
    assert "no cost" in text(card)
    assert said.removeprefix("note: ") in markdown(card)
    assert json.loads(json_text(card))["mode"] == mode


PLAIN = {"h1", "h2", "h3", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
HOSTILE = "<img src=x onerror=alert(1)> [a](http://x.y) @me #1 |`~\n## x\x1b[2J\u202e::error::x \ud800"


def hostile() -> Evaluation:
    """Everything untrusted is ``HOSTILE``."""
    bad = finding(HOSTILE, 13, path=HOSTILE, id=HOSTILE, evidence=HOSTILE, answer=HOSTILE)
    places = (DEFECT.places[0]._replace(path=HOSTILE),)
    buggy = Case(HOSTILE, Path(), (DEFECT._replace(places=places, words=("x",)),), HOSTILE, (HOSTILE,))
    clean = Case(HOSTILE * 2, Path(), tags=(HOSTILE,))
    trials = (
        trial(bad, bad._replace(line=80), bad._replace(state="answered"), case=buggy.name),
        trial(case=buggy.name, number=2, error=HOSTILE),
        trial(
            bad._replace(message="y", suggestion=None, evidence=None, answer=None), case=buggy.name, number=3
        ),
        trial(bad, bad._replace(severity="low"), case=clean.name),
        trial(case=clean.name, number=2, outcome="not-reviewed"),
    )
    about = ABOUT._replace(date=HOSTILE, workflow=HOSTILE, models=(HOSTILE,), aethr=HOSTILE)
    return Evaluation(about, (buggy, clean), trials)


@pytest.mark.parametrize("earlier", [None, EARLIER, hostile()], ids=["alone", "other", "hostile"])
def test_nothing_untrusted_is_interpreted(earlier: Evaluation | None) -> None:
    card = Scorecard(hostile(), earlier, Ruling(ExitCode.GATE, (HOSTILE,)))
    shown = text(card)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)
    assert "\n## x" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    page = markdown(card)
    page.encode()
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
    assert set(re.findall(r"<(\w+)", html)) <= PLAIN
    assert "x\x1b" not in page
    assert not re.search(r"@me|#1\b", page)
    document = json.loads(json_text(card))
    assert document["cases"][0]["name"] == HOSTILE
    assert "\x1b" not in json_text(card)


def test_a_terminal_never_gets_more_than_80_columns_in_the_table() -> None:
    names = ("a" * 200, "写" * 100, "é" * 40, "e\u0301" * 40, "b", "boundary/python-last-page-of-a-list")
    cases = tuple(Case(name, Path(), (DEFECT,) * 3) for name in names)
    trials = tuple(
        trial(case=case.name, number=number, outcome=outcome, error=error)
        for case in cases
        for number, (outcome, error) in enumerate(
            [("incomplete", None), ("not-reviewed", None), ("revise", "HTTP 500")], 1
        )
    )
    shown = text(Scorecard(Evaluation(ABOUT, cases, trials)))
    table = shown.split("\n\n")[0].splitlines()[1:]
    widths = [sum(2 if each == "写" else 0 if each == "\u0301" else 1 for each in line) for line in table]
    assert len(table) == 7
    assert max(widths) == 80
    assert (
        len({line.rindex("0  incomplete") - line.count("\u0301") + line.count("写") for line in table[1:]})
        == 1
    )


def test_without_cases_the_report_says_so() -> None:
    for card in (
        Scorecard(EVALUATION._replace(cases=(), trials=())),
        Scorecard(EVALUATION._replace(cases=(), trials=()), EARLIER),
    ):
        assert "0 cases" in text(card)
        assert "recall                    -\n" in text(card)
        assert "## Cases" not in markdown(card)
        assert json.loads(json_text(card))["summary"]["recall"]["value"] is None


def test_where_all_runs_failed_that_is_what_the_report_says() -> None:
    failed = tuple(each._replace(error="HTTP 500") for each in EVALUATION.trials)
    card = Scorecard(EVALUATION._replace(trials=failed))
    assert "36 runs failed: counted as finding nothing and passing nothing" in text(card)
    assert "recall                    0 % (0/27)        0 to 30 %, n = 9" in text(card)
    assert "clean changes passed      0 % (0/12)" in text(card)
    assert "false alarms              0 % (0/12)" in text(card)
    assert "## Missed" not in markdown(card)  # the same reason for each of them


def test_where_nothing_is_clean_the_share_of_clean_ones_is_not_known() -> None:
    buggy = EVALUATION._replace(cases=EVALUATION.cases[:8], trials=EVALUATION.trials[:24])
    assert "clean changes passed      -\n" in text(Scorecard(buggy))


def test_runs_that_are_missing_are_counted() -> None:
    part = EVALUATION._replace(trials=EVALUATION.trials[:5])
    assert "only 5 of 36 runs ended" in text(Scorecard(part))
    assert "only 5 of 36 runs ended" in markdown(Scorecard(part))


def test_one_run_each_has_no_agreement_and_says_no_runs() -> None:
    once = EVALUATION._replace(
        about=ABOUT._replace(repeat=1, seconds=0.0),
        trials=tuple(each for each in EVALUATION.trials if each.number == 1),
    )
    shown = text(Scorecard(once))
    assert shown.startswith("Aethr eval: review, 12 cases (openai:m)\n")
    assert "same outcome in all runs  -\n" in shown
    assert "same findings in all runs -\n" in shown
    assert "  b3: HTTP 500" not in shown
    assert "  c4: HTTP 500\n" in shown
    assert "in all," not in shown


def test_a_share_that_is_not_all_is_not_shown_as_all() -> None:
    cases = tuple(of(f"b{number:03}", "high") for number in range(300))
    for missed, said in ((1, "99 % (299/300)"), (299, "1 % (1/300)"), (0, "100 % (300/300)")):
        trials = tuple(
            trial(*(() if number < missed else (HIT,)), case=case.name) for number, case in enumerate(cases)
        )
        assert said in text(Scorecard(Evaluation(ABOUT._replace(repeat=1), cases, trials)))


def test_a_thousand_cases_have_a_thousand_rows_and_a_short_list() -> None:
    cases = tuple(of(f"b{number:04}", "high") for number in range(1000))
    trials = tuple(trial(case=case.name, outcome="pass") for case in cases)
    card = Scorecard(Evaluation(ABOUT._replace(repeat=1), cases, trials))
    shown = text(card)
    assert shown.count("    0/1         0      0\n") == 1000
    assert shown.count("not reported") == 20
    assert "  and 980 more; --report FILE.md has all" in shown
    assert markdown(card).count("not reported") == 1000


def test_a_cost_that_is_not_known_is_not_zero() -> None:
    first, *others = EVALUATION.trials
    card = Scorecard(EVALUATION._replace(trials=(first._replace(totals=Totals(1, 1, 1, None, 1.0)), *others)))
    assert "cost unknown" in text(card)
    assert "| b1 | 3/3 | 3 | 0 |  | cost unknown |" in markdown(card)


def test_a_format_is_chosen_by_its_suffix() -> None:
    assert {suffix: row.render(CARD) for suffix, row in FORMATS.items()} == {
        ".json": json_text(CARD),
        ".md": markdown(CARD),
        ".txt": text(CARD),
    }
