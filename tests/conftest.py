"""A clean, closed world for every test: no real home, no network but loopback, no inherited settings."""

from __future__ import annotations

import inspect
import os
import re
import socket
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import NIGHTLY, Repo, make_repo
from tests.warm import WARM

settings.register_profile("all", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile("ci", settings.get_profile("all"), max_examples=50)
settings.register_profile("fast", settings.get_profile("all"), max_examples=25)

PREFIXES = (
    *("AETHR_", "GIT_", "LITELLM_", "PRE_COMMIT", "GITHUB_", "GH_", "RUNNER_", "OPENCODE_", "XDG_"),
    *("AWS_", "AZURE_", "GOOGLE_", "VERTEXAI_"),
)
SUFFIXES = ("_API_KEY", "_API_BASE", "_BASE_URL", "_AUTH_TOKEN")
DISPLAY = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "VISUAL", "EDITOR", "CI")


def pytest_configure(config: pytest.Config) -> None:
    """The faster a suite, the fewer examples of each property it tries; see ``tests.support.many``."""
    fast = config.option.markexpr == "not slow"
    settings.load_profile("fast" if fast else "all" if NIGHTLY else "ci")


_NUMBERS = count()


def _make_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """``factory.mktemp`` reads the names of all folders there are to find the next; they are thousands."""
    folder = factory.getbasetemp() / f"{name}{next(_NUMBERS)}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder for this test, with the beginning of its name."""
    return _make_folder(tmp_path_factory, re.sub(r"\W", "_", request.node.name)[:30])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: tests wait for deadlines, for programs and for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (cores + 1) // 2


@pytest.fixture(autouse=True)
def closed_world(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Forget the developer's own settings; pin the identity and the time of commits."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name.endswith(SUFFIXES) or name in DISPLAY:
            monkeypatch.delenv(name)
    home = _make_folder(tmp_path_factory, "home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.invalid")
        monkeypatch.setenv(f"GIT_{who}_DATE", "2026-01-02T03:04:05Z")


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails by name."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def connections_of_litellm_are_closed() -> Iterator[None]:
    """LiteLLM keeps a client for each address, and past 200 drops one with its sockets open.

    A run calls a handful of addresses; the tests of one process call hundreds.
    """
    yield
    litellm = sys.modules.get("litellm")
    cache = getattr(litellm, "in_memory_llm_clients_cache", None)
    if cache is not None:
        for name, client in list(cache.cache_dict.items()):
            if not inspect.iscoroutinefunction(client.close):
                if (
                    getattr(client, "_client", None) is not litellm.client_session
                ):  # all of OpenAI's kind share it
                    client.close()
                cache.delete_cache(name)


def pytest_sessionfinish() -> None:
    """And the one client that all of OpenAI's kind share; the warm process ends with its socket."""
    WARM.close()
    litellm = sys.modules.get("litellm")
    if litellm is not None and litellm.client_session is not None:
        litellm.client_session.close()


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty git repository on branch main, in a folder with a space in its name."""
    return make_repo(tmp_path / "my project")
