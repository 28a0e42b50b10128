"""SIGKILL at every point of a run of four steps with a loop and a gate: no step is lost or paid for twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from tests.live import KEY, TASK, Aethr
from tests.model_server import ModelServer
from tests.support import Repo, tiered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs fork and memfd_create"),
]

FOUR_STEPS = """\
workflow: four
roles: {planner: "Plan.", writer: "Write.", reviewer: "Review.", teller: "Tell."}
models:
  planner: openai:gpt-4o-mini
  writer: openai:gpt-4o-mini
  reviewer: openai:gpt-4o-mini
  teller: openai:gpt-4o-mini
steps:
  - {id: plan, role: planner, context: [git_diff]}
  - {id: write, role: writer}
  - {id: review, role: reviewer, repeat: {back_to: write, until_review_pass: true, max_iterations: 3}}
  - {id: tell, role: teller, context: [git_diff]}
"""
IN_PARTS = """\
workflow: parts
roles: {planner: "Plan.", reviewer: "Review.", teller: "Tell."}
models: {planner: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini", teller: "openai:gpt-4o-mini"}
limits: {context_chars: 500}
steps:
  - {id: plan, role: planner}
  - {id: review, role: reviewer, context: [git_diff]}
  - {id: tell, role: teller}
"""
"""The review has a line for each of four parts."""
CALLS = {"four steps": (FOUR_STEPS, 6), "four parts": (IN_PARTS, 6)}
GATED = ("run", "--fail-on", "revise", "--diff", "HEAD")
"""A step whose seal was lost with the kill would not count."""


def answer(body: dict[str, Any]) -> str:
    """The same prompt always gets the same answer; the second draft is right."""
    prompt = body["messages"][0]["content"]
    if "Review." in prompt:
        return (
            "Review status: pass"
            if "second draft" in prompt or 'workflow "parts"' in prompt
            else "- [high] app.py:2 — no\n\nReview status: revise"
        )
    if "Write." in prompt:
        return "The second draft." if "no\n\nReview status: revise" in prompt else "The first draft."
    return "A plan." if "Plan." in prompt else "It is told."


@dataclass
class Killer:
    """The program of ``tests.faults.killed``: a number in, ``CODE EVENTS`` out."""

    program: subprocess.Popen[str]

    def run(self, deadly: int) -> tuple[int, int]:
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(f"{deadly}\n")
        self.program.stdin.flush()
        code, count = self.program.stdout.readline().split()
        return int(code), int(count)


@contextmanager
def killer(*words: str, folder: Path) -> Iterator[Killer]:
    command = [sys.executable, "-m", "tests.faults.killed", str(folder), *words]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        yield Killer(program)


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from run to run: how long it took, and what was left to a resume."""
    record["totals"].pop("seconds")
    record.pop("estimate")
    for step in record["steps"]:
        step.pop("seconds")
    for recipient in record["recipients"]:
        recipient.pop("earlier_calls")
    return record


@pytest.mark.parametrize(("first", "name"), tiered(product((1, 2, 3), CALLS), ci=2))
def test_a_kill_at_every_point(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, first: int, name: str
) -> None:
    """Each case kills at every third point; ``.ci/run`` has one case of each workflow."""
    workflow, calls = CALLS[name]
    project.write(".aethr.yaml", workflow)
    if workflow == IN_PARTS:
        project.write("README.md", "# A shop\n" + "that sells books\n" * 14)
        project.write("app.py", "def total(prices):\n    return sum(prices) + 1\n" + "x = 1\n" * 60)
    with ModelServer(answer) as server:
        for variable, value in (("BASE_URL", server.base_url), ("API_KEY", KEY)):
            monkeypatch.setenv(f"OPENAI_{variable}", value)
        monkeypatch.setenv("AETHR_LIVE", "1")
        monkeypatch.setenv(
            "AETHR_RUN_JOBS", "1"
        )  # tests/run/test_jobs.py kills runs with several calls at once
        undisturbed = comparable(aethr(*GATED, "--json", TASK).record)
        assert len(server.bodies) == calls
        with killer(*GATED, TASK, folder=temp) as killed:
            code, points = killed.run(0)
            assert (code, list(temp.iterdir())) == (0, [])
            assert points > 3 * calls
            for point in range(first, points + 1, 3):
                server.requests.clear()
                assert killed.run(point) == (-9, point)
                record = go_on(aethr, temp, server, calls)
                assert comparable(record) == undisturbed, point
                assert list(temp.iterdir()) == []


def go_on(aethr: Aethr, temp: Path, server: ModelServer, calls: int) -> dict[str, Any]:
    """Resume from what is on disk, or start afresh where nothing is; count the calls."""
    paid = len(server.bodies)
    files = [path for path in temp.iterdir() if path.suffix == ".jsonl"]
    done = finished(files[0]) if files else 0
    assert done >= paid - 1, "more than the call in flight was lost"
    words = ["--resume-checkpoint", f"@{files[0]}"] if done else [TASK]
    server.requests.clear()
    record = aethr(*GATED, "--json", *words).record
    assert len(server.bodies) == calls - done
    for path in () if done else temp.iterdir():
        path.unlink()
    return record


def finished(path: Path) -> int:
    """Steps in a checkpoint, which is whole whenever it is there."""
    return len(checkpoint.load(f"@{path}").steps)
