"""Whole runs with the real ``opencode``: plan, implement, review, and round again until it is right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aethr.cli import main
from aethr.engine import checkpoint
from tests.agents.test_opencode import environment
from tests.model_server import ModelServer, Reply, text
from tests.support import Repo, having, nightly, without_gutter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("opencode") is None, reason="opencode is not on PATH (npm install -g opencode-ai)"
    ),
]

MODELS = "models: {planner: openai:gpt-4o-mini, implementer: 'fake:model', reviewer: openai:gpt-4o-mini}"
ROLES = "roles: {planner: Plan., implementer: Implement., reviewer: Review.}"
WORKFLOW = f"""\
workflow: plan-implement-review
{ROLES}
{MODELS}
steps:
  - {{id: plan, role: planner, context: [git_diff]}}
  - {{id: implement, role: implementer, backend: opencode, unsafe_permissions: false}}
  - id: review
    role: reviewer
    context: [latest_diff]
    repeat: {{back_to: implement, until_review_pass: true, max_iterations: 3}}
"""
TESTED = f"""\
workflow: debug-failing-test
{ROLES}
{MODELS}
steps:
  - {{id: plan, role: planner, context: ["command:{sys.executable} -m pytest -q"]}}
  - id: implement
    role: implementer
    backend: opencode
    repeat:
      back_to: implement
      until_command_passes: {sys.executable} -m pytest -q
      max_iterations: 3
"""


@dataclass
class Model:
    """Plays planner, agent and reviewer: the agent makes the edits in turn, one a pass."""

    root: Path
    edits: list[dict[str, Any]]
    reviews: list[str] = field(default_factory=list)
    stall: bool = False

    def __call__(self, body: dict[str, Any]) -> Reply | str:
        if body["model"] == "text" or (body["model"] == "model" and not body.get("tools")):
            return "A title"
        if body["model"] == "model":
            return self._agent(body["messages"])
        prompt = body["messages"][-1]["content"]
        return self.reviews.pop(0) if "Review status" in prompt else "1. Change a.py."

    def _agent(self, messages: list[dict[str, Any]]) -> Reply | str:
        if messages[-1]["role"] == "tool":
            return Reply(fault="never") if self.stall else "Done."
        edit = self.edits.pop(0)
        path = str(self.root / edit.pop("file"))
        return Reply(chunks=(), tools=(("edit", {"filePath": path, **edit}),), finish_reason="tool_calls")


def edit(file: str, old: str, new: str) -> dict[str, Any]:
    return {"file": file, "oldString": old, "newString": new}


@pytest.fixture
def project(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository with dirty, staged and untracked work that is none of the agent's."""
    for name in ("a.py", "mine.py", "staged.py"):
        repo.write(name, "x = 1\n")
    repo.write(".gitignore", "__pycache__/\n.pytest_cache/\n")
    repo.commit()
    repo.write("staged.py", "x = 'staged'\n")
    repo.git("add", "staged.py")
    repo.write("mine.py", "x = 'mine'\n")
    repo.write("untracked.py", "x = 'untracked'\n")
    monkeypatch.chdir(repo.root)
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "temp"))
    return repo


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelServer], None]:
    def settings(server: ModelServer) -> None:
        for name, value in environment(server).items():
            if name.startswith("OPENCODE_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
        monkeypatch.setenv("AETHR_LIVE", "1")

    return settings


def changed_lines(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_the_default_preset_loops_until_the_review_passes(
    project: Repo, serve: Callable[[ModelServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    staged = project.git("diff", "--cached")
    reviews = ["- [high] a.py:1 — not yet\nReview status: revise", "Review status: pass"]
    model = Model(project.root, [edit("a.py", "x = 1", "x = 2"), edit("a.py", "x = 2", "x = 3")], reviews)
    with ModelServer(model) as server:
        serve(server)
        code = main(["run", "--json", "--fail-on", "high", "count to three"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    record = json.loads(captured.out)
    assert [(step["id"], step["iteration"]) for step in record["steps"]] == [
        ("plan", 1),
        ("implement", 1),
        ("review", 1),
        ("implement", 2),
        ("review", 2),
    ]
    diffs = [step["artifacts"]["git_diff"] for step in record["steps"] if step["id"] == "implement"]
    assert [changed_lines(diff) for diff in diffs] == [["-x = 1", "+x = 2"], ["-x = 2", "+x = 3"]]
    assert record["loops"] == [
        {"step": "review", "back_to": "implement", "iterations": 2, "outcome": "satisfied"}
    ]
    asked = [body["messages"][-1]["content"] for body in server.bodies if body["model"] == "gpt-4o-mini"]
    assert diffs[0] in without_gutter(asked[1])
    assert "mine" not in asked[1]
    assert project.git("diff", "--cached") == staged


@nightly("minutes with real agents")
def test_a_failing_project_is_fixed_until_its_tests_pass(
    project: Repo, serve: Callable[[ModelServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("test_a.py", "import a\n\n\ndef test_x():\n    assert a.x == 3\n")
    project.write(".aethr.yaml", TESTED)
    model = Model(project.root, [edit("a.py", "x = 1", "x = 2"), edit("a.py", "x = 2", "x = 3")])
    with ModelServer(model) as server:
        serve(server)
        code = main(["run", "--json", "fix it"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    record = json.loads(captured.out)
    checks = [step["check"]["ended"] for step in record["steps"] if step["id"] == "implement"]
    assert checks == ["exit status 1", "exit status 0"]
    assert record["loops"][0]["outcome"] == "satisfied"
    plan = next(body for body in server.bodies if body["model"] == "gpt-4o-mini")
    assert "assert a.x == 3" in plan["messages"][0]["content"]
    assert "exit status 1]" in plan["messages"][0]["content"]


@nightly("minutes with real agents")
def test_a_run_killed_in_the_agent_resumes_and_lists_its_edits(
    project: Repo, serve: Callable[[ModelServer], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    model = Model(project.root, [edit("a.py", "x = 1", "x = 2")], stall=True)
    with ModelServer(model) as server:
        serve(server)
        words = [sys.executable, "-m", "aethr", "run", "go"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
            try:
                server.wait_until(
                    lambda bodies: any(body["messages"][-1]["role"] == "tool" for body in bodies), 120
                )
            finally:  # else what did not come is waited for until the step's own deadline
                child.send_signal(signal.SIGTERM)
            _, stderr = child.communicate(timeout=20)
        assert child.returncode == 143
    assert "Traceback" not in stderr
    assert having(f"HOME={os.environ['HOME']}") == {}
    (file,) = (tmp_path / "temp").glob("*.jsonl")
    saved = checkpoint.load(f"@{file}")
    assert saved.failure is not None
    assert ([step.id for step in saved.steps], saved.failure.changed_files) == (["plan"], ("a.py",))
    model = Model(project.root, [edit("a.py", "x = 2", "x = 3")], ["Review status: pass"])
    with ModelServer(model) as server:
        serve(server)
        code = main(["run", "--json", "--resume-checkpoint", f"@{file}"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "the failed attempt of step 'implement' had already changed: a.py" in captured.err
    assert changed_lines(json.loads(captured.out)["steps"][1]["artifacts"]["git_diff"]) == [
        "-x = 1",
        "+x = 3",
    ]
    assert list((tmp_path / "temp").iterdir()) == []


def test_without_the_agent_nothing_is_spent(
    project: Repo,
    serve: Callable[[ModelServer], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    with ModelServer([text("never asked")]) as server:
        serve(server)
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        code = main(["run", "go"])
    assert (code, server.bodies) == (3, [])
    assert "opencode" in capsys.readouterr().err
