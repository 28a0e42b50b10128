"""Answers in files: what was recorded plays back to the same record, and never to another prompt."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aethr.base import codec, options
from aethr.evaluation import cases, runs, schedule
from tests.evaluation.making import PAIR, PASS, REVISE, make_cases, name_of, write_files
from tests.evaluation.test_runs import ended, resume, states
from tests.live import KEY, LIVE_KEYS, Aethr, aethr, project, serving, temp
from tests.model_server import Reply, error, text
from tests.support import Repo

__all__ = ("aethr", "project", "temp")

NAMES = ("a1", "b2", "c3")


def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AETHR_LIVE")
    for name in LIVE_KEYS:
        monkeypatch.delenv(f"{name}_API_KEY")


def files_of(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): each.read_text(encoding="utf-8")
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def record_of(folder: Path, root: Path, environ: dict[str, str], **given: Any) -> str:
    """The record of an evaluation, without its times."""
    loaded = cases.read(cases.find([str(folder)], root))
    planned = schedule.prepare(
        options.build_eval(given), loaded, [each.case.name for each in loaded], root, environ
    )
    made = [each for each in runs.perform(planned) if isinstance(each, runs.EndedRun)]
    planned.common.folder.remove()
    record = codec.to_json(runs.record(planned, made))
    for trial in record["trials"]:
        trial["totals"]["seconds"] = 0
    del record["about"]["date"], record["about"]["seconds"]
    return json.dumps(record, default=str)


def without_verdict_at_first(body: dict[str, Any]) -> Reply | str:
    """Each review needs a second question; each repeat has another answer."""
    if "Think." in str(body):
        return "An idea."
    if "sum(prices)" in str(body):
        return f"What {name_of(body)} adds may be wrong."
    return REVISE


def test_a_recording_plays_back_to_the_same_record(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tapes = make_cases(project, *NAMES, workflow=PAIR), temp / "tapes"
    with serving(monkeypatch, always=without_verdict_at_first) as server:
        live = record_of(folder, project.root, dict(os.environ), record=str(tapes), repeat=2, jobs=3)
        assert len(server.bodies) == 18, "an idea, a review and a verdict for each run"
        without_model(monkeypatch)
        played = record_of(folder, project.root, dict(os.environ), replies=str(tapes), repeat=2, jobs=2)
        assert len(server.bodies) == 18
    assert played == live
    assert '"outcome": "revise"' in live
    assert files_of(tapes).keys() == {
        "recording.json",
        *(f"{name}/{number}.json" for name in NAMES for number in (1, 2)),
    }


def test_the_files_of_a_recording_are_the_same_each_time_and_tell_no_secret(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    leak = f"- [high] app.py:2 — off by one, with {KEY}\n\nReview status: revise\n"
    for name in ("one", "two"):
        with serving(monkeypatch, always=text(leak)):
            assert aethr("eval", str(folder), "--record", str(temp / name), "--jobs", "3").code == 0
    one, two = files_of(temp / "one"), files_of(temp / "two")
    assert one == two
    assert KEY not in str(one)
    assert str(temp.parent) not in str(one)
    assert '"- [high] app.py:2 — off by one, with [redacted]",\n' in one["a1/1.json"], "a line for each line"


def test_a_changed_case_is_named_and_not_played(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tapes = make_cases(project, *NAMES), temp / "tapes"
    with serving(monkeypatch, always=text(PASS)):
        aethr("eval", str(folder), "--record", str(tapes))
        without_model(monkeypatch)
        write_files(folder / "b2" / "head", {"app.py": "def total(prices):\n    return 1\n"})
        done = aethr("eval", str(folder), "--replies", str(tapes))
    assert done.code == 2
    assert "aethr: 1 of 3 runs failed; b2: the prompt of step 'review' is not the one" in done.err
    assert f"Record it again: aethr eval --record {tapes}" in done.err
    assert "--resume" not in done.err
    assert ended(done.out)["a1: pass"] == 1
    assert not states(temp)


def test_what_is_not_recorded_is_refused_before_anything_runs(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tapes = make_cases(project, *NAMES), temp / "tapes"
    with serving(monkeypatch, always=text(PASS)):
        aethr("eval", str(folder / "a1"), "--record", str(tapes))
        without_model(monkeypatch)
        done = aethr("eval", str(folder), "--replies", str(tapes), "--repeat", "2")
    assert (done.code, done.out) == (2, "")
    assert "nothing is recorded for a1 (2), b2 (1), b2 (2), c3 (1), c3 (2)" in done.err
    assert "no recording.json in it" in aethr("eval", str(folder), "--replies", str(folder)).err


def test_a_step_more_or_less_is_no_recording_of_this_workflow(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tapes = make_cases(project, "a1", workflow=PAIR), temp / "tapes"
    with serving(monkeypatch, always=text(PASS)):
        aethr("eval", str(folder), "--record", str(tapes))
        without_model(monkeypatch)
        tape = json.loads((tapes / "a1" / "1.json").read_text())
        (tapes / "a1" / "1.json").write_text(json.dumps({"answers": tape["answers"][:1]}))
        less = aethr("eval", str(folder), "--replies", str(tapes))
        extra = {**tape["answers"][0], "step": "another"}
        (tapes / "a1" / "1.json").write_text(json.dumps({"answers": [*tape["answers"], extra]}))
        more = aethr("eval", str(folder), "--replies", str(tapes))
    assert "no answer of step 'review' (pass 1, part 1) was recorded" in less.err
    assert "the answer of step 'another' (pass 1, part 1) was not asked for" in more.err
    assert less.code == more.code == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"answers": 1}',
        '{"answers": [1]}',
        '{"answers": [{"step": "review"}]}',
        "\xff",
        "[" * 9999,
    ],
)
def test_a_damaged_recording_is_one_line(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    folder, tapes = make_cases(project, "a1"), temp / "tapes"
    with serving(monkeypatch, always=text(PASS)):
        aethr("eval", str(folder), "--record", str(tapes))
        without_model(monkeypatch)
        (tapes / "a1" / "1.json").write_bytes(content.encode("latin-1"))
        done = aethr("eval", str(folder), "--replies", str(tapes))
        (tapes / "recording.json").write_bytes(content.encode("latin-1"))
        other = aethr("eval", str(folder), "--replies", str(tapes))
    assert (done.code, other.code) == (2, 2)
    assert f"{tapes / 'a1' / '1.json'}: not recorded answers: " in done.err
    assert f"{tapes / 'recording.json'}: not a recording: " in other.err
    assert "Traceback" not in done.err + other.err


def test_an_evaluation_that_stopped_continues_its_recording(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tapes, failing = make_cases(project, *NAMES, workflow=PAIR), temp / "tapes", ["b2"]

    def answer(body: dict[str, Any]) -> Reply | str:
        stops = name_of(body) in failing and "Think." not in str(body)
        return error(400, "no") if stops else REVISE

    with serving(monkeypatch, always=answer):
        done = aethr("eval", str(folder), "--record", str(tapes))
        assert done.code == 3
        failing.clear()
        assert aethr(*resume(done.err)).code == 0
        without_model(monkeypatch)
        played = aethr("eval", str(folder), "--replies", str(tapes))
    assert played.code == 0, played.err
    assert ended(played.out) == {f"{name}: revise": 1 for name in NAMES}


def test_nothing_else_is_overwritten_by_a_recording(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, "a1")
    with serving(monkeypatch, always=text(PASS)) as server:
        done = aethr("eval", str(folder), "--record", str(folder))
        assert done.code == 2
        assert "not empty, and not a recording" in done.err
        assert not server.requests
        assert not states(temp)


SCRIPT = """\
a1: {review: ["- [high] app.py:2 — off by one\\n\\nReview status: revise"]}
b2:
  - {review: ["Review status: pass"]}
  - {review: ["- [low] app.py:1 — a name\\n\\nReview status: revise"]}
c3: {review: ["I have no opinion."]}
"""


def test_a_scripted_reviewer_counts_like_a_real_one(aethr: Aethr, project: Repo, temp: Path) -> None:
    folder = make_cases(project, *NAMES)
    project.write("replies.yaml", SCRIPT)
    done = aethr("eval", str(folder), "--replies", "replies.yaml", "--repeat", "2")
    assert done.code == 0, done.err
    assert "the answers are played from files; no model is called" in done.err
    assert ended(done.out) == {
        "a1 (1 of 2): revise": 1,
        "a1 (2 of 2): revise": 1,
        "b2 (1 of 2): pass": 1,
        "b2 (2 of 2): revise": 1,
        "c3 (1 of 2): not-reviewed": 1,
        "c3 (2 of 2): not-reviewed": 1,
    }
    assert not states(temp)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("a1: {review: [x]}\n", "replies.yaml:1:1: no answers for the case 'b2'"),
        (f"{SCRIPT}d: {{review: [x]}}\n", "6:1: no case 'd'"),
        (SCRIPT.replace("c3: {review", "c3: {reviw"), "5:6: no step 'reviw' (did you mean 'review'?)"),
        (SCRIPT.replace("c3: {review", "c3: {reviw"), "5:5: no answers for the step 'review'"),
        (
            SCRIPT.replace('  - {review: ["Review status: pass"]}\n', ""),
            "3:3: answers to 1 of the 2 runs over 'b2'",
        ),
        (
            SCRIPT.replace('- {review: ["Review status: pass"]}', "- {}"),
            "3:5: no answers for the step 'review'",
        ),
        (SCRIPT.replace('"I have no opinion."', "{answer: x, changed: [a]}"), "changes no files"),
        ("[]", "expected a mapping"),
    ],
)
def test_a_mistake_in_a_script_is_shown_at_its_place(
    aethr: Aethr, project: Repo, script: str, said: str
) -> None:
    folder = make_cases(project, *NAMES)
    project.write("replies.yaml", script)
    done = aethr("eval", str(folder), "--replies", "replies.yaml", "--repeat", "2")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_an_answer_too_many_is_named_with_its_case(aethr: Aethr, project: Repo) -> None:
    folder = make_cases(project, "a1")
    project.write("replies.yaml", 'a1: {review: ["Review status: pass", "Review status: pass"]}\n')
    done = aethr("eval", str(folder), "--replies", "replies.yaml")
    assert done.code == 2
    assert "this answer was not asked for" in done.err
    assert "a1" in done.err


@pytest.mark.parametrize("setting", ["AETHR_LIVE", "AETHR_MODEL"])
def test_answers_are_played_whatever_the_environment_says(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    folder = make_cases(project, *NAMES)
    project.write("replies.yaml", SCRIPT)
    monkeypatch.setenv(setting, "1" if setting == "AETHR_LIVE" else "openai:gpt-4o-mini")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    done = aethr("eval", str(folder), "--replies", "replies.yaml")
    assert done.code == 0
    assert "no model is called" in done.err
