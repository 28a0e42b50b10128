"""Windows and macOS, as far as this system can show it: POSIX-only names, and output in a small encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aethr import __version__
from tests.model_server import ModelServer
from tests.support import Repo

ROOT = Path(__file__).parents[2]
MOCK = ["run", "--preset", "docs-sync", "review"]


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write("app.py", "x = 1\n")
    repo.commit()
    repo.write("app.py", 'x = "é → 🚀 ╭"\n')
    return repo


def elsewhere(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.elsewhere", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        input="sk-test-123456\n",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_the_simulated_windows_lacks_posix_names(tmp_path: Path) -> None:
    code = "import tests.elsewhere as e, aethr.cli as c, os; c.program = lambda: os.killpg; e.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "has no attribute 'killpg'" in done.stderr
    assert elsewhere("version", cwd=tmp_path).stdout == f"aethr {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["init", "custom"],
        ["check", str(ROOT / "presets" / "plan-implement-review.yaml")],
        ["auth", "login", "openai", "--key-stdin"],
        MOCK,
        [*MOCK[:3], "--show-prompt", "review"],
        ["run", "--preset", "review-existing-diff", "--checkpoint-dir", ".", "--report", "r.md", "-"],
    ],
)
def test_a_system_without_posix_runs_it(project: Repo, words: list[str]) -> None:
    done = elsewhere(*words, cwd=project.root)
    assert done.returncode == 0, done.stderr


def test_agents_are_refused_where_they_cannot_be_ended(project: Repo) -> None:
    done = elsewhere("run", "--preset", "add-tests", "--model", "openai:x", "t", cwd=project.root)
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
    assert "a bug in Aethr" not in done.stderr


@pytest.mark.slow
def test_a_system_without_posix_calls_a_model(project: Repo) -> None:
    with ModelServer(["Nothing is wrong.\n\nReview status: pass"]) as server:
        done = elsewhere(
            *("run", "--preset", "review-existing-diff", "--fail-on", "high", "review"),
            cwd=project.root,
            AETHR_LIVE="1",
            OPENAI_API_KEY="sk-test-123456",
            OPENAI_BASE_URL=server.base_url,
        )
        assert (done.returncode, len(server.bodies)) == (0, 1), done.stderr


@pytest.mark.slow
def test_only_agents_need_posix_names(tmp_path: Path) -> None:
    """The type checker knows what each system has. Agents are refused on Windows before they start."""
    command = [sys.executable, "-m", "mypy", "--platform", "win32", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert errors, done.stdout + done.stderr
    assert [line for line in errors if not line.startswith(f"aethr{os.sep}agents{os.sep}")] == []


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["init", "--list"],
        ["init", "no-sûch"],
        ["check", str(ROOT / "presets" / "plan-implement-review.yaml")],
        ["check", "--mermaid", str(ROOT / "presets" / "plan-implement-review.yaml")],
        ["check", "nö.yaml"],
        ["auth", "status"],
        ["schema"],
        *(["completion", shell] for shell in ("bash", "zsh", "fish")),
        [*MOCK[:3], "é → 🚀"],
        [*MOCK[:3], "--json", "é → 🚀"],
        [*MOCK[:3], "--show-prompt", "é → 🚀"],
        ["rün"],
    ],
    ids=" ".join,
)
def test_output_fits_a_small_encoding(project: Repo, words: list[str], encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "aethr", *words], cwd=project.root, env=env, capture_output=True, check=False
    )
    assert done.returncode in (0, 2), done.stderr
    assert b"Traceback" not in done.stderr
    if "--show-prompt" in words:
        assert "é → 🚀".encode() in done.stdout  # the prompt's own bytes
    elif "--json" not in words:
        assert done.stdout.decode(encoding).isascii() or encoding != "ascii"
        assert "\\u25b8" not in done.stdout.decode(encoding)
