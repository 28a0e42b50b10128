"""The record of an evaluation, and two of them case by case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base import codec
from aethr.base.errors import UsageError
from aethr.evaluation import baseline
from aethr.evaluation.baseline import Shift
from aethr.evaluation.scorecard import FORMATS, Scorecard, json_text
from aethr.evaluation.summary import Proportion
from aethr.evaluation.trials import Evaluation, Renamed
from tests.evaluation.support import finding, trial
from tests.evaluation.test_figures import ABOUT, EVALUATION, FAR, HIT, TYPO, of
from tests.support import many

FULL = EVALUATION._replace(
    trials=(
        EVALUATION.trials[0]._replace(
            renamed=(Renamed("a", "b"),), missing=("\u202e.py",), findings=(HIT, finding("\x1b[2J é 🎉"))
        ),
        *EVALUATION.trials[1:],
    )
)


def written(evaluation: Evaluation = FULL) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(codec.dumps(baseline.to_json(evaluation)))
    return document


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json_text(Scorecard(FULL)), encoding="utf-8")
    assert baseline.load(str(file)) == FULL


def test_a_record_does_not_say_where_the_cases_are() -> None:
    here = FULL._replace(cases=tuple(case._replace(folder=Path("/home/me")) for case in FULL.cases))
    assert written(here) == written(FULL)


def test_fields_of_a_newer_version_are_ignored_and_those_of_an_older_one_have_defaults() -> None:
    document = written()
    document["more"] = document["cases"][0]["folder"] = document["trials"][0]["more"] = {"x": 1}
    for each in document["trials"]:
        del each["renamed"], each["excluded"]
    del document["cases"][0]["sha256"]
    assert baseline.from_json(document).cases == FULL.cases


def change(document: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    at: Any = document
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    key = int(last) if last.isdigit() else last
    if value is KeyError:
        del at[key]
    else:
        at[key] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema", 2, "'schema': expected 1"),
        ("schema", KeyError, "'schema': expected 1"),
        ("workflow", KeyError, "'workflow' is missing"),
        ("workflow", 5, "'workflow': expected text, found the number 5"),
        ("mode", "dream", "'mode': expected one of mock, scripted, live"),
        ("models", "openai:m", "'models': expected an array"),
        ("repeat", 0, "'repeat': expected a whole number from 1"),
        ("repeat", 1.5, "'repeat': expected a whole number"),
        ("cases", {}, "'cases': expected an array"),
        ("cases.0", "b1", "a case: expected an object"),
        ("cases.1.name", "b1", "'cases': a name stands twice"),
        ("cases.0.expected.0.severity", "huge", "'severity': expected one of high, medium, low"),
        ("cases.0.expected.0.places", [], "'expected': a defect has no place"),
        ("cases.0.expected.0.words", [], "'expected': a defect has no place, or no words"),
        ("cases.0.expected.0.places.0.lines.first", -1, "'first': expected a whole number from 0"),
        ("trials.0.case", "else", "'trials': one is of no case"),
        ("trials.0.number", 4, "'trials': one is of no case, or has a number above 'repeat'"),
        ("trials.0.number", 2, "'trials': one stands twice"),
        ("trials.0.outcome", "great", "'outcome': expected one of"),
        ("trials.0.findings.0.line", "3", "'line': expected a whole number"),
        ("trials.0.findings.0.message", None, "'message': expected text, found null"),
        ("trials.0.totals.cost_usd", float("nan"), "'cost_usd': expected a number from 0"),
        ("trials.0.totals.cost_usd", 1e300, "'totals': a number out of range"),
        ("trials.0.totals.seconds", -0.5, "'seconds': expected a number from 0"),
        ("seconds", 1e300, "'totals': a number out of range"),
    ],
)
def test_a_mistake_in_a_record_is_one_clear_line(path: str, value: object, said: str, tmp_path: Path) -> None:
    document = written()
    change(document, path, value)
    file = tmp_path / "record.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        baseline.load(str(file))
    assert f"record.json: not the record of an evaluation: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON, or cut short (line 1)"),
        (b"[]", "a record: expected an object, found an array"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"schema": 1' + b"0" * 5000 + b"}", "a number too long"),
        (b"\xff", "it is not UTF-8 text"),
        (b'{"schema": 1, "task": "review", "mode": "live"}', "is missing"),
    ],
)
def test_a_file_that_is_no_record_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=r"^--baseline ") as caught:
        baseline.load(str(file))
    assert said in str(caught.value)
    assert "--report FILE.json" in caught.value.fix


@pytest.mark.parametrize("name", ["missing.json", ".", "\0"])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        baseline.load(f"{tmp_path}/{name}")


def find_paths(value: object, way: str = "") -> Iterator[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield f"{way}{key}"
        yield from find_paths(each, f"{way}{key}.")


SMALL = EVALUATION._replace(cases=EVALUATION.cases[:4], trials=EVALUATION.trials[:12])
PATHS = list(find_paths(written(SMALL)))


@many(120)
@given(
    st.sampled_from(PATHS),
    st.sampled_from(
        (KeyError, None, True, -1, 0, 1 << 60, 1e300, "", "b2", "\ud800", [], [[]], {}, {"a": {}})
    ),
)
def test_any_other_value_in_a_record_is_refused_in_one_line_or_makes_a_report(
    path: str, value: object
) -> None:
    document = written(SMALL)
    change(document, path, value)
    try:
        earlier = baseline.from_json(codec.loads(json.dumps(document)))
    except ValueError as error:
        lines = str(error).splitlines()
    else:
        lines = ["read"]
        for row in FORMATS.values():
            assert row.render(Scorecard(SMALL, earlier))
            assert row.render(Scorecard(earlier, SMALL))
    assert len(lines) == 1


# --- two evaluations ---------------------------------------------------------------------------


def evaluate(**runs: tuple[Any, ...]) -> Evaluation:
    """One of cases of these names with these trials: ``b…`` has a high defect, ``c…`` is clean."""
    cases = tuple(of(name, *(("high",) if name[0] == "b" else ())) for name in runs)
    trials = tuple(
        each._replace(case=name, number=number)
        for name, own in runs.items()
        for number, each in enumerate(own, 1)
    )
    return Evaluation(ABOUT._replace(repeat=max(map(len, runs.values()))), cases, trials)


PASSED = trial(outcome="pass")


def test_what_got_better_and_worse_is_told_case_by_case() -> None:
    before = evaluate(
        b1=(PASSED,), b2=(trial(HIT),), b3=(trial(FAR),), b4=(trial(HIT),), c1=(trial(HIT),), c2=(PASSED,)
    )
    now = evaluate(
        b1=(trial(HIT),),
        b2=(PASSED,),
        b3=(trial(HIT),),
        b4=(trial(HIT, TYPO),),
        c1=(PASSED,),
        c2=(trial(HIT),),
    )
    none, all_of_it = Proportion(0, 1, 1), Proportion(1, 1, 1)
    found = baseline.compare(now, before)
    assert found.better == (
        Shift("b1", "app/pages.py:12-14", "found", none, all_of_it),
        Shift("b3", "app/pages.py:12-14", "at the right place", none, all_of_it),
        Shift("c1", "clean", "passed", none, all_of_it),
    )
    assert found.worse == (
        Shift("b2", "app/pages.py:12-14", "found", all_of_it, none),
        Shift("c2", "clean", "passed", all_of_it, none),
    )
    assert found.same == 1
    assert found.notes == ()
    assert (found.before.recall, found.now.recall) == (Proportion(3, 4, 4), Proportion(3, 4, 4))
    back = baseline.compare(before, now)
    assert [each.case for each in back.better] == ["b2", "c2"]
    assert [each.case for each in back.worse] == ["b1", "b3", "c1"]


def test_the_two_defects_of_a_case_are_told_apart() -> None:
    case = of("b8", "high", "low")
    runs = [trial(each, case="b8") for each in (HIT, finding("It leaks.", 31))]
    before, now = (Evaluation(ABOUT, (case,), (each,)) for each in runs)
    found = baseline.compare(now, before)
    assert [each.place for each in found.better] == ["app/pages.py:30-32"]
    assert [each.place for each in found.worse] == ["app/pages.py:12-14"]


def test_a_run_that_failed_is_worse_than_one_that_found_it() -> None:
    before, now = evaluate(b1=(trial(HIT),)), evaluate(b1=(trial(HIT, error="HTTP 500"),))
    assert [each.case for each in baseline.compare(now, before).worse] == ["b1"]


def test_the_shares_count_where_one_was_repeated_more_often() -> None:
    before, now = evaluate(b1=(trial(HIT),)), evaluate(b1=(trial(HIT), PASSED))
    found = baseline.compare(now, before)
    assert [(each.before, each.now) for each in found.worse] == [(Proportion(1, 1, 1), Proportion(1, 2, 1))]
    assert found.notes == ("runs of each case: 1 then, 2 now",)


def test_the_same_evaluation_is_the_same() -> None:
    found = baseline.compare(EVALUATION, EVALUATION)
    assert (found.better, found.worse, found.notes) == ((), (), ())
    assert found.same == 9 + 4  # defects and clean cases
    assert found.before == found.now


def test_what_cannot_be_compared_is_named_and_not_compared() -> None:
    before = evaluate(b1=(trial(HIT),), b2=(trial(HIT),), b3=(trial(HIT),), b4=(trial(HIT),))
    now = evaluate(b1=(PASSED,), b3=(PASSED,), b4=(), b5=(PASSED,))
    before = before._replace(cases=tuple(each._replace(sha256="one") for each in before.cases))
    now = now._replace(
        cases=tuple(each._replace(sha256="two" if each.name == "b3" else "one") for each in now.cases)
    )
    found = baseline.compare(now, before)
    assert [each.case for each in found.worse] == ["b1"]
    assert (found.same, found.better) == (0, ())
    assert found.before.recall == Proportion(1, 1, 1)
    assert found.notes == (
        "not compared, only in the baseline: b2",
        "not compared, not in the baseline: b5",
        "not compared, not run both times: b4",
        "not compared, another change: b3",
    )


def test_other_expectations_count_for_both() -> None:
    """Better words in ``expect.yaml`` do not make a model look better than the one before."""
    before = now = evaluate(b1=(trial(finding("A data hazard.")),))
    case = now.cases[0]
    more = case.expected[0]._replace(words=("race", "hazard"))
    now = now._replace(cases=(case._replace(expected=(more,)),))
    found = baseline.compare(now, before)
    assert (found.better, found.worse, found.same) == ((), (), 1)
    assert found.before.recall == found.now.recall == Proportion(1, 1, 1)
    assert found.notes == ("other expectations, those of now count for both: b1",)
    reworded = now._replace(cases=(case._replace(expected=(case.expected[0]._replace(why="For people."),)),))
    assert baseline.compare(reworded, before).notes == ()


def test_what_else_differs_is_named() -> None:
    before = evaluate(b1=(trial(HIT),))
    about = before.about._replace(
        aethr="0.3.0", workflow_sha256="b" * 64, models=("openai:m", "anthropic:n"), mode="mock", repeat=3
    )
    assert baseline.compare(before, before._replace(about=about)).notes == (
        "the workflow file has changed",
        "models: openai:m, anthropic:n then, openai:m now",
        "Aethr 0.3.0 then, 0.2.0 now",
        "the baseline is a mock, whose figures mean nothing; this evaluation is live",
        "runs of each case: 3 then, 1 now",
    )
    renamed = before._replace(about=before.about._replace(workflow="other", models=()))
    assert baseline.compare(before, renamed).notes == (
        "the workflow was other, and is review",
        "models: none then, openai:m now",
    )


def test_nothing_in_common_compares_nothing() -> None:
    found = baseline.compare(evaluate(b1=(PASSED,)), evaluate(b2=(PASSED,)))
    assert (found.better, found.worse, found.same) == ((), (), 0)
    assert found.now.recall.value is None
