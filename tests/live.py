"""The command line in this process against a model server: what the tests of live runs share."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aethr.cli import main
from tests.model_server import ModelServer, Reply
from tests.support import Repo

TASK = "review my changes"
KEY = "sk-test-0123456789abcdef"
LIVE_KEYS = ("OPENAI", "OPENROUTER", "XAI", "ANTHROPIC", "GOOGLE")
"""The names of the variables before ``_API_KEY`` that a live test sets."""
PASS = "Looks right.\n\nReview status: pass"
REVISE = "- [high] app.py:2 — the total is off by one\n\nReview status: revise"
TWO_STEPS = """\
workflow: two
roles: {thinker: "Think.", reviewer: "Review."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker, context: [git_diff]}
  - {id: review, role: reviewer, context: [git_diff]}
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.out)


Aethr = Callable[..., Done]


@pytest.fixture
def project(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Repo:
    repo.write("README.md", "# A shop\n")
    repo.write("app.py", "def total(prices):\n    return sum(prices)\n")
    repo.commit("start")
    repo.write("app.py", "def total(prices):\n    return sum(prices) + 1\n")
    monkeypatch.chdir(repo.root)
    return repo


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's checkpoints go: the runner's temporary folder."""
    folder = tmp_path / "runner-temp"
    folder.mkdir()
    monkeypatch.setenv("RUNNER_TEMP", str(folder))
    return folder


@pytest.fixture
def aethr(
    project: Repo, temp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Aethr:
    """The command line in this process, so that LiteLLM is imported once for all tests."""
    # A live run reads the developer's own certificates, which takes 25 ms; nothing on loopback uses them.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    def run(*words: str) -> Done:
        code = main(list(words))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(params=[pytest.param("litellm", marks=pytest.mark.slow), "direct"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries the calls; without this fixture it is what Aethr chooses."""
    monkeypatch.setenv("AETHR_TRANSPORT", request.param)
    return request.param


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch,
    *replies: Reply | str,
    always: Reply | Callable[[dict[str, Any]], Reply | str] | None = None,
) -> Iterator[ModelServer]:
    """A server for every provider of the examples, with its keys.

    It plays ``replies``, or ``always`` one, which may depend on the request's body.
    """
    script = always if callable(always) else (lambda _: always) if always else list(replies)
    with ModelServer(script) as server:
        for base in ("OPENAI_BASE_URL", "OPENROUTER_API_BASE", "XAI_API_BASE"):
            monkeypatch.setenv(base, server.base_url)
        for base in ("ANTHROPIC_BASE_URL", "GEMINI_API_BASE"):
            monkeypatch.setenv(base, server.origin)
        for name in LIVE_KEYS:
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield server


def resume_line(stderr: str) -> str:
    match = re.search(r"^  (.*--resume-checkpoint .*)$", stderr, re.MULTILINE)
    assert match, stderr
    return match[1]


def resume_words(stderr: str) -> list[str]:
    words = shlex.split(resume_line(stderr))
    return words[words.index("run") :]
