"""Mock or live: ``--live`` and ``--mock`` win over the environment and over ``.env``."""

from __future__ import annotations

import json

import pytest

from aethr.base.options import RunOptions, build, command_line, from_environment
from tests.live import PASS, TASK, Aethr, aethr, project, resume_line, resume_words, serving, temp
from tests.model_server import error
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]  # fixtures

PRESET = ("--preset", "review-existing-diff")


@pytest.mark.parametrize(
    ("environment", "dotenv", "words", "live"),
    [
        ({"AETHR_LIVE": "0"}, "", ["--live"], True),
        ({"AETHR_LIVE": "1"}, "", ["--mock"], False),
        ({}, "AETHR_LIVE=1\n", ["--mock"], False),
        ({}, "AETHR_LIVE=0\n", ["--live"], True),
        ({}, "AETHR_LIVE=1\n", [], True),
        ({}, "", ["--live"], True),
        ({}, "", ["--mock", "--model", "openai:gpt-4o-mini"], False),
        ({"AETHR_RUN_LIVE": "1", "AETHR_LIVE": "0"}, "", [], True),
        ({"AETHR_RUN_LIVE": "1"}, "", ["--mock"], False),
        ({"AETHR_RUN_LIVE": "0", "AETHR_LIVE": "1"}, "", [], False),
        ({"AETHR_RUN_LIVE": "0"}, "", ["--live"], True),
        ({"AETHR_LIVE": "no"}, "", ["--mock"], False),
    ],
)
def test_who_decides_between_mock_and_live(
    aethr: Aethr,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    dotenv: str,
    words: list[str],
    live: bool,
) -> None:
    project.write(".env", dotenv)
    with serving(monkeypatch, always=lambda _: PASS) as server:
        monkeypatch.delenv("AETHR_LIVE")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = aethr("run", "--json", *PRESET, *words, TASK)
    assert done.code == 0, done.err
    assert (json.loads(done.out)["mode"], len(server.bodies)) == (("live", 1) if live else ("mock", 0))


@pytest.mark.parametrize(
    "words", [["--live", "--mock"], ["--mock", "--live"], ["--live", "--replies", "x.yaml"]]
)
def test_both_of_two_are_refused(aethr: Aethr, words: list[str]) -> None:
    done = aethr("run", *PRESET, *words, TASK)
    assert done.code == 2
    assert "exclude each other\nGive one of them.\n" in done.err
    assert all(word in done.err for word in words[:2] if word.startswith("--"))


@pytest.mark.parametrize("gate", [["--fail-on", "never", "--require-review"], ["--fail-on", "high"]])
def test_a_mock_that_was_asked_for_passes_no_gate(
    aethr: Aethr,
    monkeypatch: pytest.MonkeyPatch,
    gate: list[str],
) -> None:
    with serving(monkeypatch) as server:
        done = aethr("run", "--mock", *PRESET, *gate, TASK)
    assert (done.code, len(server.bodies)) == (4, 0), done.err


@pytest.mark.parametrize("environment", ["0", "1", ""])
def test_the_resume_command_is_live_as_the_run_was(
    aethr: Aethr,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
) -> None:
    with serving(monkeypatch, error(401, "no"), PASS):
        monkeypatch.setenv("AETHR_LIVE", environment)
        stopped = aethr("run", "--live", *PRESET, TASK)
        assert stopped.code == 3
        line = resume_line(stopped.err)
        assert "--live" in line
        assert "AETHR_LIVE" not in line
        resumed = aethr(*resume_words(stopped.err))
    assert resumed.code == 0, resumed.err


def test_a_checkpoint_of_the_other_mode_says_which_option_fits(
    aethr: Aethr,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(monkeypatch, error(401, "no")):
        words = [word for word in resume_words(aethr("run", "--live", *PRESET, TASK).err) if word != "--live"]
        refused = aethr(words[0], "--mock", *words[1:])
    assert refused.code == 2
    assert "Add --live." in refused.err


@pytest.mark.parametrize(("given", "words"), [(True, ["--live"]), (False, ["--mock"]), (None, [])])
def test_a_switch_with_two_names_comes_back_as_it_was_given(given: bool | None, words: list[str]) -> None:
    assert command_line(RunOptions(live=given)) == words
    value = {} if given is None else {"AETHR_RUN_LIVE": str(int(given))}
    assert build(from_environment(value)).live is given
