"""Two runs at once in one tree: agents exclude each other, reviews do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_agent import install
from tests.faults.test_agent_steps import DONE, SAY, next_word
from tests.live import KEY, PASS, TASK
from tests.model_server import ModelServer
from tests.support import Repo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs flock and a named pipe"),
]

EDITING = """\
workflow: edit
roles: {implementer: "Implement."}
models: {implementer: "openai:gpt-4o-mini"}
steps:
  - {id: implement, role: implementer, backend: opencode}
"""


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts runs, each a process of its own; none of them outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(
            subprocess.Popen([sys.executable, "-m", "aethr", "run", *words, TASK], text=True, **pipes)
        )
        return started[-1]

    yield start
    for child in started:
        child.terminate()
        child.communicate(timeout=20)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AETHR_LIVE", "1")


@pytest.mark.usefixtures("live")
def test_two_reviews_run_side_by_side(
    begin: Begin, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: dict[str, Any]) -> str:
        server.wait_for(2)  # nobody is answered before both have asked
        return PASS

    with ModelServer(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        runs = [begin("--preset", "review-existing-diff", "--fail-on", "high") for _ in range(2)]
        said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert list(temp.iterdir()) == []


@pytest.mark.usefixtures("live")
def test_a_second_agent_is_refused_with_the_number_of_the_first(
    begin: Begin, project: Repo, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", EDITING)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    at_work, may_end = tmp_path / "at-work", tmp_path / "may-end"
    for pipe in (at_work, may_end):
        os.mkfifo(pipe)
    install(tmp_path / "bin", SAY, f"echo 2 > app.py\necho now > '{at_work}'\ncat '{may_end}'\n{DONE}")
    first = begin()
    assert next_word(at_work) == "now"
    second = begin()
    _, refused = second.communicate(timeout=60)
    assert second.returncode == 3
    assert f"another agent step is running in this tree (process {first.pid})" in refused
    assert "git worktree" in refused
    may_end.write_text("\n")
    said = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert "Traceback" not in refused + said[1]
