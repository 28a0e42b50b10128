"""``aethr eval`` against a server: every case is run, within a budget, and nothing is asked twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import shlex
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.making import (
    CLEAN,
    DEFECT,
    PAIR,
    PASS,
    REVISE,
    WORKFLOW,
    make_case,
    make_cases,
    name_of,
    per_case,
    write_files,
)
from tests.live import KEY, Aethr, aethr, project, serving, temp
from tests.model_server import Reply, error, text
from tests.support import Repo

__all__ = ("aethr", "project", "temp")

NAMES = ("a1", "b2", "c3", "d4", "e5", "f6")


def resume(stderr: str) -> list[str]:
    """The words of the resume command that was printed."""
    words = shlex.split(stderr.split("To resume from the last finished step:\n")[1].splitlines()[0])
    return words[words.index("eval") :]


def ended(out: str) -> Counter[str]:
    """How each case ended, by the lines that show it."""
    return Counter(
        line.split(" ", 1)[1].split(", ")[0].strip() for line in out.splitlines() if "/" in line[:6]
    )


def states(temp: Path) -> list[Path]:
    return list(temp.glob("aethr-eval-*"))


def test_each_case_is_run_in_a_repository_of_its_own(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    with serving(monkeypatch, always=per_case({"a1": REVISE})) as server:
        done = aethr("eval", str(folder))
    assert done.code == 0, done.err
    assert ended(done.out) == {f"{name}: {'revise' if name == 'a1' else 'pass'}": 1 for name in NAMES}
    assert sorted(map(name_of, server.bodies)) == list(NAMES)
    assert "+    return sum(prices) + a1" in str(server.bodies)
    assert not states(temp), "nothing is left when it has ended"


def test_the_estimate_of_all_runs_comes_before_the_first_call(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    said: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        said.append(name_of(body))
        return PASS

    with serving(monkeypatch, always=answer):
        done = aethr("eval", str(folder), "--repeat", "3", "--max-cost", "50")
    assert "note: 18 runs: about 18 calls, " in done.err
    assert len(said) == 18
    assert Counter(said) == dict.fromkeys(NAMES, 3)


def test_one_mistake_in_a_case_keeps_all_from_running(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    (folder / "f6" / "expect.yaml").write_text("clean: no\n")
    with serving(monkeypatch) as server:
        done = aethr("eval", str(folder))
    assert done.code == 2
    assert "f6/expect.yaml:1:8: can only be true" in done.err
    assert not server.requests
    assert not states(temp)


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_call_that_fails_ends_only_its_own_run(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    folder = make_cases(project, *NAMES, workflow=PAIR)
    failing = {"c3"}

    def answer(body: dict[str, Any]) -> Reply | str:
        return error(400, "it is broken") if name_of(body) in failing and "Think." not in str(body) else PASS

    with serving(monkeypatch, always=answer) as server:
        done = aethr("eval", str(folder), "--jobs", str(jobs))
        assert done.code == 3
        assert "aethr: 1 of 6 runs failed; c3: openai:gpt-4o-mini: the request was refused" in done.err
        assert len(ended(done.out)) == 6
        asked = Counter(map(name_of, server.bodies))
        assert asked == dict.fromkeys(NAMES, 2), "each step once"
        failing.clear()
        again = aethr(*resume(done.err))
        assert again.code == 0, again.err
        assert Counter(map(name_of, server.bodies)) == asked + Counter(["c3"]), "only what was missing"
    assert not states(temp)


def test_a_busy_provider_is_asked_again(aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen, lock = make_cases(project, *NAMES), set[str](), threading.Lock()

    def answer(body: dict[str, Any]) -> Reply | str:
        with lock:
            first = name_of(body) not in seen
            seen.add(name_of(body))
        return error(429, "slow down", Retry_After="0") if first else PASS

    with serving(monkeypatch, always=answer) as server:
        done = aethr("eval", str(folder), "--jobs", "3")
    assert done.code == 0, done.err
    assert len(server.bodies) >= 12


def test_a_cut_answer_is_incomplete(aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cases(project, "a1", "b2")
    cut = Reply(("- [high] app.py:2 — off by",), finish_reason="length")
    with serving(monkeypatch, always=lambda body: cut if name_of(body) == "a1" else PASS):
        done = aethr("eval", str(folder))
    assert done.code == 0, done.err
    assert ended(done.out) == {"a1: incomplete": 1, "b2: pass": 1}


def test_without_a_key_nothing_is_called(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, "a1")
    monkeypatch.setenv("AETHR_LIVE", "1")
    done = aethr("eval", str(folder))
    assert (done.code, done.out) == (2, "")
    assert "OPENAI_API_KEY is not set" in done.err
    assert aethr("eval", str(folder), "--min-recall", "50%").code == 4
    assert not states(temp)


def test_the_key_is_that_of_the_project_and_never_of_a_case(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, "a1")
    write_files(folder / "a1" / "head", {".env": "OPENAI_API_KEY=sk-of-the-case-0123456789\nAETHR_LIVE=1\n"})
    assert "a mock" in aethr("eval", str(folder)).err
    project.write(".gitignore", ".env\n")
    project.write(".env", f"OPENAI_API_KEY={KEY}\nAETHR_LIVE=1\n")
    with serving(monkeypatch, always=PASS_REPLY) as server:
        for name in ("OPENAI_API_KEY", "AETHR_LIVE"):
            monkeypatch.delenv(name)
        assert aethr("eval", str(folder)).code == 0
    assert [request["headers"]["authorization"] for request in server.requests] == [f"Bearer {KEY}"]


PASS_REPLY = text(PASS)


def test_a_mock_says_so_and_decides_nothing(aethr: Aethr, project: Repo, temp: Path) -> None:
    folder = make_cases(project, *NAMES)
    done = aethr("eval", str(folder))
    assert done.code == 0
    assert "a mock: no model is called, so the figures mean nothing" in done.err
    for threshold in ("--min-recall", "--max-false"):
        done = aethr("eval", str(folder), threshold, "0.5")
        assert (done.code, done.out) == (4, "")
    assert aethr("eval", str(folder), "--record", str(temp / "new")).code == 2
    assert not list(temp.iterdir())


def test_cases_are_listed_and_chosen_by_tag(aethr: Aethr, project: Repo) -> None:
    folder = make_cases(project, "a1", "b2")
    make_case(folder / "c3", f"tags: [sql, slow]\n{DEFECT}")
    assert aethr("eval", str(folder), "--list").out == "a1  1 defect\nb2  clean\nc3  1 defect, sql, slow\n"
    assert aethr("eval", str(folder), "--list", "--tag", "sql").out == "c3  1 defect, sql, slow\n"
    done = aethr("eval", str(folder), "--tag", "sqll")
    assert done.code == 2
    assert "--tag sqll: no case has it" in done.err
    assert list(ended(aethr("eval", str(folder), "--tag", "slow").out)) == ["c3: not-reviewed"]


def test_no_call_is_made_that_the_budget_of_all_does_not_cover(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    reply = Reply((PASS,), usage=(1000, 500))
    with serving(monkeypatch, always=reply) as server:
        done = aethr("eval", str(folder), "--jobs", "4", "--max-tokens", "7000")
        assert done.code == 5
        count = len(server.bodies)
        assert 0 < count * 1500 <= 7000, "what was spent"
        assert f"aethr: over budget: {count} of 6 runs are finished" in done.err
        words = [word if word != "7000" else "100000" for word in resume(done.err)]
        again = aethr(*words)
        assert again.code == 0, again.err
        assert Counter(map(name_of, server.bodies)) == dict.fromkeys(NAMES, 1), "nothing twice"
        assert len(ended(again.out)) == 6
    assert not states(temp)


def test_what_was_spent_before_counts_when_it_is_resumed(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    with serving(monkeypatch, always=Reply((PASS,), usage=(1000, 500))) as server:
        done = aethr("eval", str(folder), "--max-tokens", "7000")
        count = len(server.bodies)
        again = aethr(*resume(done.err))
        assert again.code == 5
        assert len(server.bodies) == count


def count_kept(temp: Path) -> int:
    """The answers that are on disk."""
    return sum(file.read_text(encoding="utf-8").count('{"step":') for file in temp.rglob("*.jsonl"))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to this process")
@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_evaluation_is_resumed_and_asks_nothing_twice(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    folder = make_cases(project, *NAMES, workflow=PAIR)
    calls, never = itertools.count(1), threading.Event()
    stopping = [True]

    def answer(_: dict[str, Any]) -> Reply | str:
        number = next(calls)  # the server asks for one reply at a time
        if not stopping[0] or number <= 5:
            return PASS
        while number == 6 and count_kept(temp) < 5:
            never.wait(0.01)
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return Reply((PASS,), gate=never)

    with serving(monkeypatch, always=answer) as server:
        done = aethr("eval", str(folder), "--jobs", str(jobs))
        assert done.code == 130, done.err
        assert "aethr: interrupted" in done.err
        waiting = len(server.bodies) - 5
        assert 1 <= waiting <= jobs
        stopping[0] = False
        again = aethr(*resume(done.err))
        assert again.code == 0, again.err
        assert len(server.bodies) == 12 + waiting, "only what had no answer is asked again"
    assert len(ended(again.out)) == 6
    assert not states(temp)


def stop(aethr: Aethr, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[str]:
    """An evaluation that one case has stopped, as the words that resume it."""

    def script(body: dict[str, Any]) -> Reply | str:
        return error(400, "no") if name_of(body) == "b2" else PASS

    with serving(monkeypatch, always=script):
        done = aethr("eval", str(folder), *more)
    assert done.code == 3
    return resume(done.err)


def test_a_case_that_has_changed_runs_again(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, *NAMES)
    words = stop(aethr, folder, monkeypatch)
    write_files(folder / "c3" / "head", {"new.py": "x = 1\n"})
    with serving(monkeypatch, always=text(PASS)) as server:
        done = aethr(*words)
    assert done.code == 0, done.err
    assert "the case c3 changed since then: it runs again" in done.err
    assert sorted(map(name_of, server.bodies)) == ["b2", "c3"]


@pytest.mark.parametrize(
    ("edit", "said"), [("Review.", "workflow"), ("gpt-4o-mini", "workflow"), ("", "task")]
)
def test_another_workflow_does_not_take_over_the_runs(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, edit: str, said: str
) -> None:
    folder = make_cases(project, *NAMES)
    words = stop(aethr, folder, monkeypatch)
    if edit:
        project.write(".aethr.yaml", WORKFLOW.replace(edit, f"{edit}x"))
    else:
        words += ["--task", "something else"]
    with serving(monkeypatch) as server:
        done = aethr(*words)
    assert done.code == 2
    assert f"the {said} changed since the evaluation stopped" in done.err
    assert not server.requests


def test_only_the_folder_of_an_evaluation_is_resumed(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, "a1")
    (temp / "mine").mkdir()
    for content in (None, "", "{}", '{"schema": 2}', '{"schema": 1, "key": 1}', "[]"):
        if content is not None:
            (temp / "mine" / "evaluation.json").write_text(content)
        done = aethr("eval", str(folder), "--resume", str(temp / "mine"))
        assert done.code == 2
        assert f"--resume {temp / 'mine'}: not the folder of an evaluation" in done.err
    assert (temp / "mine").is_dir()


def test_the_order_in_which_runs_end_changes_nothing(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aethr.base import codec, options
    from aethr.evaluation import cases, runs, schedule

    folder = make_cases(project, *NAMES)
    loaded = cases.read(cases.find([str(folder)], project.root))
    records = []
    for seed in range(3):
        order = random.Random(seed).sample(NAMES, len(NAMES))
        gates = {name: threading.Event() for name in NAMES}
        gates[order[0]].set()
        replies = {name: Reply((REVISE,), gate=gates[name]) for name in NAMES}
        with serving(monkeypatch, always=lambda body, replies=replies: replies[name_of(body)]):
            planned = schedule.prepare(
                options.build_eval({"jobs": 6}), loaded, NAMES, project.root, os.environ
            )
            done = []
            for event in runs.perform(planned):
                if isinstance(event, runs.EndedRun):
                    done.append(event)
                    following = order[len(done) : len(done) + 1]
                    for name in following:
                        gates[name].set()
        planned.common.folder.remove()
        assert [each.trial.case for each in done] == order
        record = codec.to_json(runs.record(planned, done))
        for trial in record["trials"]:
            trial["totals"]["seconds"] = 0
        for name in ("date", "seconds"):
            del record["about"][name]
        records.append(json.dumps(record, default=str))
    assert records[0] == records[1] == records[2]


def test_clean_cases_and_settings_are_checked_before_anything_else(aethr: Aethr, project: Repo) -> None:
    make_cases(project, "a1")
    for words, said in (
        (("--repeat", "0"), "--repeat 0: not a positive number"),
        (("--jobs", "-1"), "--jobs -1: not a positive number"),
        (("--record", "x", "--replies", "y"), "--record and --replies exclude each other"),
        (("--list", "--from-fix", "HEAD"), "--list and --from-fix exclude each other"),
        (("--resume", ""), "--resume: its value is empty"),
        (("--replies", "nowhere"), "nowhere"),
    ):
        done = aethr("eval", str(project.root.parent / "cases"), *words)
        assert done.code == 2, words
        assert said in done.err


def test_an_empty_case_is_reviewed_as_clean(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cases(project, "a1")
    make_case(folder / "b2", CLEAN, {"package-lock.json": "{}\n"})
    with serving(monkeypatch, always=text(PASS)):
        done = aethr("eval", str(folder))
    assert done.code == 0, done.err
    assert ended(done.out) == {"a1: pass": 1, "b2: nothing-to-review": 1}
