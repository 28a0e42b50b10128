"""A machine at its limits is not a bug: one line, exit 3, and finished steps are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import KEY, PASS, TASK
from tests.model_server import ModelServer
from tests.support import Repo, aethr

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")

WITHOUT_THREADS = (
    "import sys, threading; threading.stack_size(1 << 47); from aethr.cli import program; program()"
)


def begun(code: str, *words: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("source", ["git_diff", "file:app.py"])
def test_a_failed_thread_start_is_an_error(repo: Repo, tmp_path: Path, source: str) -> None:
    """One is needed for the deadline of a git that streams, one for a call."""
    repo.write("app.py", "x = 1\n")
    repo.commit()
    repo.write("app.py", "x = 2\n")
    steps = f"steps: [{{id: s, role: a, context: [{source}]}}]"
    repo.write(".aethr.yaml", f"workflow: w\nroles: {{a: b}}\nmodels: {{a: openai:m}}\n{steps}\n")
    with ModelServer([PASS]) as server:
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url, "AETHR_LIVE": "1"}
        done = begun(WITHOUT_THREADS, "run", TASK, cwd=repo.root, env={**env, "RUNNER_TEMP": str(tmp_path)})
        assert server.bodies == []
    assert done.returncode == 3, done.stderr
    assert (
        "aethr: the system allows no more threads\nEnd other programs, or raise `ulimit -u`.\n" in done.stderr
    )
    assert "Traceback" not in done.stderr


def calls_of_git(repo: Repo, folder: Path, steps: int) -> int:
    """How often `aethr check` starts git for a workflow of so many steps with the same context."""
    log = folder / f"log-{steps}"
    program = folder / "git"
    program.write_text(f'#!/bin/sh\necho >>"$LOG"\nexec "{shutil.which("git")}" "$@"\n')
    program.chmod(0o755)
    each = "\n".join(f"  - {{id: s{number}, role: a, context: [git_diff]}}" for number in range(steps))
    repo.write(".aethr.yaml", f"workflow: w\nroles: {{a: b}}\nsteps:\n{each}\n")
    done = aethr("check", cwd=repo.root, env={"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(log)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sees git_diff") == steps
    return len(log.read_text().splitlines())


def test_check_reads_a_shared_source_once(repo: Repo, tmp_path: Path) -> None:
    repo.commit()
    assert calls_of_git(repo, tmp_path, 30) == calls_of_git(repo, tmp_path, 2)
