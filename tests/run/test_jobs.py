"""``--jobs``: live runs whose calls run at once, against a real server that decides which ends next."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from tests.live import KEY, TASK, Aethr, aethr, project, resume_words, temp
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo, tiered

__all__ = ["aethr", "project", "temp"]

FILES = 8
WORKFLOW = """\
workflow: parts
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
limits: {context_chars: 1500}
steps:
  - {id: review, role: reviewer, context: [git_diff], history_visibility: none}
"""


@pytest.fixture
def wide(project: Repo) -> Repo:
    """A change of eight files of which each fills a part."""
    project.git("checkout", "-q", "app.py")
    project.write(".aethr.yaml", WORKFLOW)
    project.commit("a workflow")
    for number in range(FILES):
        project.write(f"f{number}.txt", f"line of file {number}, which is new\n" * 30)
    project.git("add", ".")
    return project


def file_of(body: dict[str, Any]) -> int:
    """Which file the prompt of a request is about."""
    (number,) = set(re.findall(r"line of file (\d)", body["messages"][0]["content"]))
    return int(number)


def answer(body: dict[str, Any], **fields: Any) -> Reply:
    name = f"f{file_of(body)}.txt"
    return Reply((f"- [low] {name}:1 — a remark about {name}\n\n", "Review status: pass"), **fields)


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[dict[str, Any]], Reply]
) -> Iterator[ModelServer]:
    with ModelServer(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield server


class Late:
    """Answers the first ``count`` calls only when ``until`` calls have arrived, in all: they end last."""

    def __init__(self, count: int, until: int) -> None:
        self._count = count
        self._until = until
        self._arrived = 0
        self.gate = threading.Event()

    def __call__(self, body: dict[str, Any]) -> Reply:
        self._arrived += 1
        if self._arrived == self._until:
            self.gate.set()
        return answer(body, gate=self.gate if self._arrived <= self._count else None)


def without_times(text: str) -> str:
    return re.sub(
        r'\d+\.\d+ s\b|"seconds": [\d.]+|"checkpoint": "[^"]*"'
        # The port of the server is a part of the address, and so of what was asked.
        r'|"answer_key": "\w+"|"name": "model", "sha256": "\w+"|127\\?\.0\.0\.1:\d+',
        "(time)",
        text,
    )


@pytest.mark.parametrize("gate", [[], ["--fail-on", "low"]])
def test_eight_jobs_give_the_record_report_output_and_checkpoint_of_one(
    aethr: Aethr, wide: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, gate: list[str]
) -> None:
    found = []
    for jobs, script in (("1", answer), ("8", Late(7, 8)), ("4", Late(3, FILES - 1))):
        folder, report = temp / jobs, temp / f"{jobs}.md"
        words = ("--jobs", jobs, "--checkpoint-dir", str(folder), "--report", str(report), *gate, TASK)
        with serving(monkeypatch, script) as server:
            shown = aethr("run", *words)
        with serving(monkeypatch, script):
            record = aethr("run", "--json", *words).record
        assert (shown.code, len(server.bodies)) == (1 if gate else 0, FILES)
        (file, _) = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        lines = [re.sub(r', "seals": .*|"file": "\w+"', "", line) for line in file.read_text().splitlines()]
        texts = (shown.out, json.dumps(record), report.read_text(), "\n".join(lines))
        found.append([without_times(text) for text in texts])
        loaded = checkpoint.load(f"@{file}")
        assert [step.part for step in loaded.steps] == list(range(1, FILES + 1))
    for other in found[1:]:
        assert other == found[0]


def test_each_step_is_shown_before_the_calls_of_the_next_one(
    aethr: Aethr, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = "".join(f"  - {{id: {name}, role: reviewer, context: [git_diff]}}\n" for name in ("a", "b", "c"))
    wide.write(".aethr.yaml", WORKFLOW.partition("  - ")[0].replace("1500", "1700") + steps)
    wide.git("commit", "-q", "-m", "three steps", "--", ".aethr.yaml")
    shown = []
    for jobs in ("1", "8"):
        with serving(monkeypatch, answer):
            shown.append(without_times(aethr("run", "--jobs", jobs, TASK).out))
    assert shown[1] == shown[0]
    assert re.findall(r"^== (\w) \(", shown[0], re.MULTILINE) == [n for n in "abc" for _ in range(FILES)]


def test_a_failed_call_ends_the_run_after_the_others_and_a_resume_calls_what_is_missing(
    aethr: Aethr, wide: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()
    arrived: list[int] = []

    def script(body: dict[str, Any]) -> Reply:
        arrived.append(file_of(body))
        return error(401, "no such key") if len(arrived) == 2 else answer(body, gate=late)

    with serving(monkeypatch, script) as server:
        opener = threading.Thread(target=lambda: (server.wait_for(4), late.set()))
        opener.start()
        done = aethr("run", TASK)
        opener.join()
    assert done.code == 3
    assert len(arrived) < FILES
    assert "aethr: openai:gpt-4o-mini: the key was refused (401)" in done.err
    assert done.out.count("a remark about") == len(arrived) - 1  # all that is paid for is shown
    (file,) = temp.iterdir()
    assert len(checkpoint.load(f"@{file}").steps) == len(arrived) - 1
    first = set(arrived) - {arrived[1]}
    arrived.clear()
    with serving(monkeypatch, lambda body: arrived.append(file_of(body)) or answer(body)):
        assert aethr(*resume_words(done.err)).code == 0
    assert sorted([*first, *arrived]) == list(range(FILES))


@pytest.mark.parametrize(
    ("busy", "apart_s"),
    [
        (error(429, "slow down", Retry_After="0.4"), 0.3),
        pytest.param(error(503, "too busy"), 0.9, marks=pytest.mark.slow),
        pytest.param(error(529, "overloaded", Retry_After="0.4"), 0.3, marks=pytest.mark.slow),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else None,
)
def test_a_busy_endpoint_slows_all_calls_and_none_of_them_fails(
    aethr: Aethr, wide: Repo, monkeypatch: pytest.MonkeyPatch, busy: Reply, apart_s: float
) -> None:
    """The server takes a request now and then, as the limits of providers do, and refuses any other."""
    began: list[float] = []
    refused: list[float] = []

    def script(body: dict[str, Any]) -> Reply:
        now = time.monotonic()
        if began and now - began[-1] < apart_s:
            refused.append(now)
            return busy
        began.append(now)
        return answer(body)

    with serving(monkeypatch, script):
        done = aethr("run", "--jobs", "8", TASK)
    assert done.code == 0, done.err
    assert len(began) == FILES
    assert len(refused) < FILES  # at most those that came with the first; no later one was refused


def test_each_of_several_calls_that_fail_is_told(
    aethr: Aethr, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        file = file_of(body)
        return (
            error(401 if file == 5 else 400, f"about {file}") if file in (2, 5) else answer(body, gate=gate)
        )

    with serving(monkeypatch, script) as server:
        opener = threading.Thread(target=lambda: (server.wait_for(FILES), gate.set()))
        opener.start()
        done = aethr("run", "--jobs", str(FILES), TASK)
        opener.join()
    assert done.code == 3
    assert "about 2" in done.err
    (told,) = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert told.startswith("warning: this call failed too: openai:gpt-4o-mini: ")
    assert "about 5" in told


SHAPES = 6


@pytest.mark.parametrize("seed", tiered(range(40), fast=SHAPES, ci=2 * SHAPES))
def test_calls_at_once_never_exceed_the_budget_on_a_server_that_honours_its_limits(
    aethr: Aethr, wide: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    by_cost = chance.random() < 0.5
    tokens = chance.choice((9_000, 15_000, 25_000, 60_000, 200_000))
    budget = ["--max-cost", f"{tokens * 0.6e-6:.6f}"] if by_cost else ["--max-tokens", str(tokens)]
    limits: dict[int, int] = {}
    spent = [0, 0]
    refusals = chance.sample(range(FILES), chance.randrange(3))
    lock = threading.Lock()

    def script(body: dict[str, Any]) -> Reply:
        with lock:
            file = file_of(body)
            if file in refusals:
                refusals.remove(file)
                return error(429, "slow down", Retry_After="0")
            limits[file] = body["max_tokens"]
            share = chance.choice((0.01, 0.5, 1.0))
            usage = len(body["messages"][0]["content"]) // 4, max(1, int(body["max_tokens"] * share))
            spent[0], spent[1] = spent[0] + usage[0], spent[1] + usage[1]
        return answer(body, usage=usage)

    with serving(monkeypatch, script):
        done = aethr("run", "--json", "--jobs", str(chance.choice((2, 4, 8))), *budget, TASK)
        assert (sum(spent) * 1.0 <= tokens) if not by_cost else True
        assert spent[0] * 0.15e-6 + spent[1] * 0.6e-6 <= tokens * 0.6e-6 + 1e-9
        assert (done.code == 0) == (len(limits) == FILES), done.err
        assert done.code in (0, 5)
        first = dict(limits)
        limits.clear()
        aethr("run", "--json", "--jobs", "1", *budget, TASK)
    both = first.keys() & limits.keys()
    assert {file: first[file] for file in both} == {file: limits[file] for file in both}


def test_jobs_is_a_positive_number(aethr: Aethr, wide: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (done := aethr("run", "--jobs", "0", TASK)).code == 2
    assert done.err.startswith("aethr: --jobs 0: not a positive number")
    monkeypatch.setenv("AETHR_RUN_JOBS", "two")
    assert (done := aethr("run", TASK)).code == 2
    assert done.err.startswith("aethr: AETHR_RUN_JOBS=two: not a number")


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_run_with_four_calls_that_is_stopped_keeps_those_that_have_ended(
    wide: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int
) -> None:
    """Two calls end; the calls that follow show that the run knows it. Their lines are on disk at once."""
    never = threading.Event()
    ended: list[int] = []
    arrived: list[int] = []

    def script(body: dict[str, Any]) -> Reply:
        arrived.append(file_of(body))
        if len(arrived) in (2, 4):
            ended.append(arrived[-1])
            return answer(body)
        return answer(body, gate=never)

    with serving(monkeypatch, script) as server:
        words = [sys.executable, "-m", "aethr", "run", "--jobs", "4", TASK]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ})
        server.wait_for(6)
        began = time.monotonic()
        child.send_signal(sent)
        _, stderr = child.communicate(timeout=30)
        assert child.returncode == code
        assert time.monotonic() - began < 2
        if sent is not signal.SIGKILL:
            server.wait_abandoned()
            assert "--resume-checkpoint" in stderr.decode()
    (file,) = temp.iterdir()
    kept = checkpoint.load(f"@{file}").steps
    assert sorted(receipt.path for step in kept for receipt in step.context if receipt.bytes_sent) == sorted(
        f"f{number}.txt" for number in ended
    )
    arrived.clear()
    with serving(monkeypatch, lambda body: arrived.append(file_of(body)) or answer(body)):
        words = [sys.executable, "-m", "aethr", "run", "--json", "--resume-checkpoint", f"@{file}"]
        done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted([*arrived, *ended]) == list(range(FILES))
    assert [step["part"] for step in json.loads(done.stdout)["steps"]] == list(range(1, FILES + 1))
