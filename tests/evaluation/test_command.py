"""``aethr eval`` from the command line to the exit code: scripted reviewers, thresholds, reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.making import make_cases
from tests.live import Aethr, aethr, project, temp
from tests.support import Repo

__all__ = ("aethr", "project", "temp")

HIT = "- [high] app.py:2 — off by one\\n\\nReview status: revise"
ALARM = "- [medium] app.py:1 — a bad name\\n\\nReview status: revise"
CALM = "Review status: pass"


def script(project: Repo, **said: str) -> tuple[str, ...]:
    """The arguments that play these answers."""
    lines = (f'{case}: {{review: ["{answer}"]}}\n' for case, answer in said.items())
    project.write("said.yaml", "".join(lines))
    return "--replies", "said.yaml"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 0, "recall"),
        (("--min-recall", "0.5"), 0, "recall"),
        (("--min-recall", "51%"), 1, "recall 50 % is below --min-recall 51 %"),
        (("--max-false", "0.5"), 0, "recall"),
        (("--max-false", "0.49"), 1, "false alarms 50 % are above --max-false 49 %"),
    ],
)
def test_thresholds_decide_the_exit_code(
    aethr: Aethr, project: Repo, words: tuple[str, ...], code: int, said: str
) -> None:
    folder = make_cases(project, "a1", "b2", "c3", "d4")  # a1 and c3 have a defect
    done = aethr("eval", str(folder), *script(project, a1=HIT, b2=CALM, c3=CALM, d4=ALARM), *words)
    assert done.code == code, done.err
    assert said in done.out


def test_a_threshold_that_no_case_decides_is_refused_before_a_run(aethr: Aethr, project: Repo) -> None:
    folder = make_cases(project, "a1", "b2")
    played = script(project, a1=HIT, b2=CALM)
    for case, words in (("a1", ("--max-false", "0")), ("b2", ("--min-recall", "1"))):
        done = aethr("eval", str(folder / case), *played, *words)
        assert (done.code, done.out) == (2, "")
    for words in (("--min-recall", "2"), ("--report", "x.pdf"), ("--baseline", "nowhere.json")):
        assert aethr("eval", str(folder), *played, *words).code == 2


def test_the_record_is_the_baseline_of_the_next_one(aethr: Aethr, project: Repo, temp: Path) -> None:
    folder = make_cases(project, "a1", "b2")
    kept = str(temp / "record.json")
    first = aethr("eval", str(folder), *script(project, a1=CALM, b2=CALM), "--report", kept)
    assert first.code == 0, first.err
    played = script(project, a1=HIT, b2=ALARM)
    page = temp / "page.md"
    second = aethr("eval", str(folder), *played, "--baseline", kept, "--json", "--report", str(page))
    assert second.code == 0, second.err
    assert json.loads(second.out)["trials"][0]["case"] == "a1"
    assert "1/2 a1: revise" in second.err, "standard output is the record's"
    assert "Better: 1" in page.read_text(encoding="utf-8")
    assert "Worse: 1" in page.read_text(encoding="utf-8")
    quiet = aethr("eval", str(folder), *played, "--quiet")
    assert "1/2 a1" not in quiet.out


@pytest.mark.parametrize("words", [("--from-fix", "HEAD"), ("--from-range", "HEAD~1..HEAD")])
def test_cases_are_refused_where_cases_are_made(aethr: Aethr, project: Repo, words: tuple[str, ...]) -> None:
    done = aethr("eval", "my-cases", *words)
    assert (done.code, done.out) == (2, "")
    assert f"{words[0]} makes cases, and takes none" in done.err


def test_a_verbose_evaluation_says_when_a_run_begins(aethr: Aethr, project: Repo) -> None:
    folder = make_cases(project, "a1", "b2")
    words = (str(folder), *script(project, a1=HIT, b2=CALM), "--jobs", "1")
    begun = [f"note: {name}: run 1 begins" for name in ("a1", "b2")]
    assert [line for line in aethr("eval", *words, "-v").err.splitlines() if "begins" in line] == begun
    assert "begins" not in aethr("eval", *words).err
