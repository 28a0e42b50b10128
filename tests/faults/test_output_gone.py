"""Standard output is closed, or full, just as a run ends: nothing paid for is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from tests.github.github_server import GitHubServer
from tests.github.support import open_pull_request, outputs, runner_environment
from tests.live import KEY, PASS, TASK, TWO_STEPS, Aethr, resume_words, serving
from tests.model_server import ModelServer
from tests.support import Repo

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")]

GONE = "aethr: standard output was closed before the end"
DESKS = {
    "lines": ["run", "--fail-on", "high", TASK],
    "only the last panel": ["run", "--fail-on", "high", "--quiet", TASK],
    "the record": ["run", "--fail-on", "high", "--json", TASK],
    "the hook": ["hook", "--fail-on", "high", "--task", TASK],
}


@contextmanager
def closing_at(last: int) -> Iterator[tuple[ModelServer, int]]:
    """A server that closes the reading end of a pipe before it gives its ``last`` answer; the writing end."""
    reader, writer = os.pipe()
    asked = 0

    def answer(_: dict[str, Any]) -> str:
        nonlocal asked
        asked += 1
        if asked == last:
            os.close(reader)
        return PASS if asked == last else "An idea."

    try:
        with ModelServer(answer) as server:
            yield server, writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in DESKS.items()])
@pytest.mark.parametrize("output", ["closed", "full"])
def test_a_paid_answer_that_could_not_be_shown_is_in_the_checkpoint(
    aethr: Aethr,
    project: Repo,
    temp: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    output: str,
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    project.git("add", "app.py")
    with closing_at(2) as (server, writer), Path("/dev/full").open("wb") as full:
        with serving(monkeypatch):
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        done = subprocess.run(
            [sys.executable, "-m", "aethr", *words],
            stdin=subprocess.DEVNULL,
            stdout=writer if output == "closed" else full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert ("closed before the end" if output == "closed" else "No space left") in done.stderr
    finished = checkpoint.load(f"@{next(temp.iterdir())}").steps
    assert len(finished) == len(server.bodies)
    missing = ["An idea.", PASS][len(finished) :]
    with serving(monkeypatch, *missing) as again:
        resumed = aethr(*resume_words(done.stderr))
    assert (resumed.code, len(again.bodies)) == (0, len(missing)), resumed.err
    assert list(temp.iterdir()) == []


def test_a_log_that_is_gone_leaves_comment_outputs_and_a_paid_step(tmp_path: Path) -> None:
    request = open_pull_request(tmp_path, {".aethr.yaml": TWO_STEPS})
    work = request.checkout().root
    with GitHubServer() as github:
        with closing_at(2) as (models, writer):
            environ = runner_environment(request, work, github.url)
            environ |= {"OPENAI_BASE_URL": models.base_url, "OPENAI_API_KEY": KEY}
            first = act(environ, work, writer)
        assert (first.returncode, first.stderr) == (3, f"{GONE}\n")
        assert "### Aethr: not reviewed" in github.bodies[0]
        assert "closed before the end" in github.bodies[0]
        assert outputs(environ)["status"] == "not-reviewed"
        assert outputs(environ)["resumable"] == "true"
        with ModelServer([]) as models:
            again = runner_environment(request, work, github.url, attempt=2)
            again |= {"OPENAI_BASE_URL": models.base_url, "OPENAI_API_KEY": KEY}
            second = act(again, work, subprocess.DEVNULL)
    assert (second.returncode, models.bodies, outputs(again)["status"]) == (0, [], "pass")


def act(environ: dict[str, str], work: Path, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aethr", "action"],
        cwd=work,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
