"""The repositories, models and agents in which the commands of the pages are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fake_agent import DIALECTS, install
from tests.live import KEY, PASS
from tests.live import REVISE as HIGH
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo, make_repo

BIN = Path(sys.executable).parent
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "XAI_API_KEY")

APP = "def total(prices):\n    return sum(prices)\n"
CHANGED = "def total(prices):\n    return sum(prices) + 1\n"
TEST = "from app import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"

LOW = "- [low] app.py:2 — the name says nothing\n\nReview status: pass"


def _start(repo: Repo, files: Mapping[str, str]) -> None:
    for name, text in {"README.md": "# A shop\n", "app.py": APP, "tests/test_app.py": TEST, **files}.items():
        repo.write(name, text)
    repo.write(".gitignore", ".env\n__pycache__/\n.pytest_cache/\n")
    repo.commit("start")


def _nothing(_: Repo) -> None:
    """A clean tree."""


def _change(repo: Repo) -> None:
    repo.write("app.py", CHANGED)


def _stage(repo: Repo) -> None:
    _change(repo)
    repo.git("add", "app.py")


def _branch(repo: Repo) -> None:
    """A branch of one commit, and a remote ``origin`` that has main."""
    remote = repo.root.with_name("remote.git")
    repo.git("init", "-q", "--bare", "-b", "main", str(remote))
    repo.git("remote", "add", "origin", str(remote))
    repo.git("push", "-q", "origin", "main")
    repo.git("checkout", "-q", "-b", "topic")
    _change(repo)
    repo.commit("charge the fee")


def _wide(repo: Repo) -> None:
    """A branch with two new files that do not fit into one prompt of a preset."""
    repo.git("checkout", "-q", "-b", "topic")
    for name in ("prices", "rates"):
        repo.write(f"{name}.py", "".join(f"{name}_{n} = {n * 7919 % 10_007:>40}\n" for n in range(1500)))
    repo.commit("add the tables")


def _fail(repo: Repo) -> None:
    """A committed mistake that a test finds."""
    _change(repo)
    repo.commit("charge the fee")


WORLDS: Mapping[str, Callable[[Repo], None]] = {
    "a repository": _nothing,
    "a changed repository": _change,
    "a staged change": _stage,
    "a branch": _branch,
    "a large branch": _wide,
    "a failing test": _fail,
}
"""What each world is beyond a repository with an ``app.py``, its test, a README and the section's files."""


def _by_model(body: dict[str, Any]) -> str:
    return HIGH if body["model"].startswith("claude") else LOW


ANSWERS: Mapping[str, Sequence[str | Reply] | Callable[[dict[str, Any]], str]] = {
    "a pass": [PASS],
    "two passes": [PASS, PASS],
    "a pass for each of two parts": [Reply(chunks=(PASS,), usage=(30_000, 12))] * 2,
    "an explanation, then an error": ["The total grows by one.", error(400, "seed is not supported")],
    "two drafts, of which the second passes": ["A draft.", HIGH, "A better draft.", PASS],
    "a low finding": [LOW],
    "a high finding": [HIGH],
    "a high finding, then a pass": [HIGH, PASS],
    "a high finding of Claude alone": _by_model,
    "a plan, a high finding": ["1. Mend app.py.", HIGH],
    "a plan, a high finding, a pass": ["1. Mend app.py.", HIGH, PASS],
}
"""What the server on loopback, which stands for every provider, is asked for and answers."""

_OPENCODE = DIALECTS["opencode"]
_SAYS = _OPENCODE.says(*_OPENCODE.edit("app.py"), *_OPENCODE.text("Done."), *_OPENCODE.finish())
_TWO_PASSES = f"""\
cat >/dev/null
if grep -q 'prices) - 1' app.py; then right=; else right=' - 1'; fi
printf 'def total(prices):\\n    return sum(prices)%s\\n' "$right" >app.py
{_SAYS}"""

AGENTS: Mapping[str, str] = {"opencode, right at the second pass": _TWO_PASSES}
"""What a scripted ``opencode`` does: each is a script of the shell."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A ``run`` mark: ``a changed repository; answers: a pass; exit: 1``."""

    world: str
    answers: str = ""
    agent: str = ""
    exit: int = 0

    @classmethod
    def of(cls, mark: str) -> Setting:
        world, *rest = mark.split("; ")
        named = dict(each.split(": ", 1) for each in rest)
        return cls(world, **{**named, "exit": int(named.get("exit", 0))})


@dataclass(frozen=True, slots=True)
class World:
    """Where a block runs: its folder, its environment, and the server that answers, where one does."""

    repo: Repo
    environ: Mapping[str, str]
    server: ModelServer | None = None

    def run(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run shell text as a person would who stops at the first error; all it prints is in ``stdout``."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.repo.root,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )


@contextmanager
def built(setting: Setting, files: Mapping[str, str], folder: Path) -> Iterator[World]:
    """A fresh world below ``folder``, with these files committed in it."""
    repo = make_repo(folder / "shop")
    _start(repo, files)
    WORLDS[setting.world](repo)
    (folder / "temp").mkdir()
    path = [str(BIN), os.environ["PATH"]]
    if setting.agent:
        install(folder / "bin", _OPENCODE, AGENTS[setting.agent])
        path.insert(0, str(folder / "bin"))
    environ = {**os.environ, "PATH": os.pathsep.join(path), "TMPDIR": str(folder / "temp")}
    with ExitStack() as stack:
        server = None
        if setting.answers:
            server = stack.enter_context(ModelServer(ANSWERS[setting.answers]))
            environ |= _endpoints(server)
        yield World(repo, environ, server)


def _endpoints(server: ModelServer) -> dict[str, str]:
    """Every provider is this server."""
    at_root = ("ANTHROPIC_BASE_URL", "OLLAMA_API_BASE")
    below = ("OPENAI_BASE_URL", "OPENROUTER_API_BASE", "XAI_API_BASE", "HOSTED_VLLM_API_BASE")
    return {
        **dict.fromkeys(KEYS, KEY),
        **dict.fromkeys(at_root, server.origin),
        **dict.fromkeys(below, server.base_url),
    }
