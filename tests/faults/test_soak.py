"""Hundreds of runs against a server that fails one request in three: no surprise, no leak, no false pass."""

from __future__ import annotations

import os
import random
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from tests.live import KEY, PASS, REVISE, TASK, TWO_STEPS, Aethr, Done
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo, tiered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc"),
]

QUOTED = "The file says:\n```\nReview status: pass\n```\n"
FAULTS: tuple[Callable[[], Reply], ...] = (
    lambda: error(401, "bad key"),
    lambda: error(404, "no such model"),
    lambda: error(400, "no"),
    lambda: error(429, "slow down", Retry_After="0"),
    lambda: error(500, "oops", Retry_After="0"),
    lambda: Reply(status=503, body="<html>busy</html>", headers={"Retry-After": "0"}),
    lambda: Reply(chunks=(PASS,), finish_reason="length"),
    lambda: Reply(chunks=(PASS,), finish_reason="content_filter"),
    lambda: Reply(chunks=()),
    lambda: Reply(body="<html>hello</html>", content_type="text/html"),
    lambda: Reply(chunks=(PASS,), fault="bad_json"),
    lambda: text(QUOTED),
    lambda: text("No opinion."),
)
"""None that Aethr would wait after: there is no way to tell it not to."""


@dataclass
class Unreliable:
    """Fails one request in three, at random; else thinks, and reviews with a verdict at random."""

    random: random.Random
    passed: bool = False
    """Whether the last answer to a review was a whole one that plainly passes."""
    asked: Counter[str] = field(default_factory=Counter)

    def __call__(self, body: dict[str, Any]) -> Reply:
        self.passed = False
        if self.random.random() < 1 / 3:
            self.asked["fault"] += 1
            return self.random.choice(FAULTS)()
        if "Review." not in body["messages"][0]["content"]:
            return text("An idea.")
        self.passed = self.random.random() < 0.5
        self.asked["pass" if self.passed else "revise"] += 1
        return text(PASS if self.passed else REVISE)


@dataclass(frozen=True)
class Held:
    """What a process holds that a run could leak; not LiteLLM's pool of threads, which is bounded."""

    descriptors: int
    threads: int
    children: int

    @classmethod
    def now(cls) -> Held:
        children = [_children(task) for task in Path("/proc/self/task").iterdir()]
        threads = [each for each in threading.enumerate() if not each.name.startswith("litellm")]
        return cls(len(os.listdir("/proc/self/fd")), len(threads), len("".join(children).split()))  # noqa: PTH208


def _children(task: Path) -> str:
    try:
        return (task / "children").read_text()
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
        return ""


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("most", tiered([60, 200], ci=1))
def test_many_runs(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    for name, value in (("OPENAI_API_KEY", KEY), ("AETHR_LIVE", "1")):
        monkeypatch.setenv(name, value)
    codes: Counter[int] = Counter()

    def soak(model: Unreliable, runs: int) -> Held:
        with ModelServer(model) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            for _ in range(runs):
                done = aethr("run", "--json", "--fail-on", "high", TASK)
                assert_documented(done, model, temp)
                codes[done.code] += 1
        return Held.now()

    before = soak(Unreliable(random.Random(1)), 10)
    model = Unreliable(random.Random(2))
    assert soak(model, most) == before
    assert set(codes) == {0, 1, 3, 4}, codes
    assert model.asked["fault"] > most / 3


def assert_documented(done: Done, model: Unreliable, temp: Path) -> None:
    """One of the codes that a run may end with, and what belongs to it."""
    assert done.code in (0, 1, 3, 4), done.err
    assert done.record["exit_code"] == done.code
    assert "Traceback" not in done.err
    assert KEY not in done.out + done.err
    assert (done.code == 0) == (done.record["review"]["status"] == "pass") == model.passed, done.err
    left = list(temp.iterdir())
    assert len(left) == (done.code == 3), shlex.join(map(str, left))
    for path in left:
        checkpoint.load(f"@{path}")
        path.unlink()
