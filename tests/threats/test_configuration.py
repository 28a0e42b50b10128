"""A hostile ``.env``, ``.aethr.yaml`` and model name: nothing runs, nothing goes elsewhere, nobody waits."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import KEY, PASS, TASK, TWO_STEPS, Aethr, serving
from tests.model_server import ModelServer, Reply, text
from tests.support import Repo
from tests.support import aethr as installed

pytestmark = pytest.mark.slow

RUN = ("run", "--preset", "review-existing-diff", TASK)
SECRET = "value-that-nobody-may-see"


# --- .env --------------------------------------------------------------------------------------

POISON = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.fsmonitor",
    "GIT_CONFIG_VALUE_0": "{trap}",
    "GIT_EXTERNAL_DIFF": "{trap}",
    "GIT_SSH_COMMAND": "{trap}",
    "PATH": "{folder}",
    "EDITOR": "{trap}",
    "VISUAL": "{trap}",
    "PAGER": "{trap}",
    "LD_PRELOAD": "{trap}",
    "PYTHONSTARTUP": "{trap}",
    "PYTHONPATH": "{folder}",
    "NODE_OPTIONS": "--require={trap}",
    "LITELLM_MODEL_COST_MAP_URL": "http://127.0.0.2:9/x",
    "AETHR_RUN_FAIL_ON": "never",
    "HTTPS_PROXY": "http://127.0.0.2:9",
}


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a file beside itself when something runs it."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in ("trap.sh", "git", "sh", "python"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> '{tmp_path}/sprung'\n")
        (folder / name).chmod(0o755)
    (folder / "sitecustomize.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    return folder / "trap.sh"


def test_no_variable_of_a_dotenv_runs_anything_or_is_shown(project: Repo, trap: Path, tmp_path: Path) -> None:
    lines = [f"{name}={value.format(trap=trap, folder=trap.parent)}" for name, value in POISON.items()]
    project.write(".env", "\n".join([*lines, f"SOMETHING={SECRET}", ""]))
    done = installed(*RUN, cwd=project.root)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()
    assert done.stderr.count(".env: ignored") == 1
    assert SECRET not in done.stdout + done.stderr
    assert str(trap) not in done.stdout + done.stderr
    assert "+1\n" not in done.stderr


@pytest.mark.parametrize("line", ["OPENAI_API_KEY=${GITHUB_TOKEN}", 'OPENAI_API_KEY="$GITHUB_TOKEN"'])
def test_a_dotenv_cannot_name_another_secret(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    project.write(".env", line + "\n")
    with serving(monkeypatch, text(PASS)) as server:
        monkeypatch.delenv("OPENAI_API_KEY")
        monkeypatch.setenv("GITHUB_TOKEN", f"ghp_{SECRET}")
        done = aethr(*RUN)
    assert all(SECRET not in str(request) for request in server.requests)
    assert SECRET not in done.out + done.err


def tracked(project: Repo) -> None:
    project.write(".env", f"OPENAI_API_KEY={KEY}\n")
    project.git("add", "-f", ".env")
    project.git("commit", "-qm", "with a .env")


def linked(project: Repo) -> None:
    (project.root.parent / "elsewhere").write_text(f"OPENAI_API_KEY={KEY}\n")
    (project.root / ".env").symlink_to(project.root.parent / "elsewhere")


def above(project: Repo) -> None:
    (project.root.parent / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")


NOT_LOADED: tuple[tuple[str, Callable[[Repo], object], int], ...] = (
    ("tracked by git", tracked, 1),
    ("a link", linked, 1),
    ("a pipe", lambda project: os.mkfifo(project.root / ".env"), 1),
    ("not UTF-8", lambda project: project.write(".env", f"OPENAI_API_KEY={KEY}\n".encode() + b"\xff"), 1),
    ("30 MB", lambda project: project.write(".env", f"OPENAI_API_KEY={KEY}\n" + "#" * 30_000_000), 1),
    ("in the folder above", above, 0),
)


@pytest.mark.parametrize(("make", "warnings"), [pytest.param(*case[1:], id=case[0]) for case in NOT_LOADED])
def test_a_dotenv_that_may_not_be_trusted_gives_no_key(
    aethr: Aethr, project: Repo, make: Callable[[Repo], object], warnings: int
) -> None:
    make(project)
    mock = aethr(*RUN)
    assert (mock.code, mock.err.count(".env is not loaded")) == (0, warnings), mock.err
    live = aethr(*RUN[:-1], "--model", "openai:gpt-4o-mini", TASK)
    assert (live.code, "OPENAI_API_KEY is not set" in live.err) == (2, True), live.err


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """An address of this machine that is not the usual loopback one, and what is sent there."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.2", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def hear() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    heard.append(connection.recv(1000))

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            stop.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="needs the whole of 127.0.0.0/8")
def test_a_base_url_of_a_dotenv_elsewhere_gets_no_request(project: Repo) -> None:
    """The call goes to the provider's own host: seen at the proxy, which lets nothing through."""
    with listening() as (evil, heard_there), listening() as (proxy, heard):
        address = f"http://127.0.0.2:{evil}"
        project.write(".env", f"OPENAI_BASE_URL={address}/v1\nLITELLM_MODEL_COST_MAP_URL={address}/map\n")
        env = {"OPENAI_API_KEY": KEY, "AETHR_LIVE": "1", "HTTPS_PROXY": f"http://127.0.0.2:{proxy}"}
        done = installed(*RUN, cwd=project.root, env=env)
    assert (done.returncode, heard_there) == (3, []), done.stderr
    assert all(line.startswith(b"CONNECT api.openai.com:443 ") for line in heard)
    assert heard
    assert "an endpoint on another host must come from the environment: OPENAI_BASE_URL" in done.stderr


def test_a_base_url_of_the_environment_is_used_and_shown_before_the_first_call(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*RUN)
    assert (done.code, len(server.bodies)) == (0, 1)
    assert done.err.splitlines()[0] == f"note: openai: calls go to {server.base_url} (OPENAI_BASE_URL)"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("openai:gpt-4o-mini", "OPENAI_BASE_URL"),
        ("openrouter:openai/gpt-4o", "OPENROUTER_API_BASE"),
        ("xai:grok-4", "XAI_API_BASE"),
        ("gemini:gemini-2.5-flash", "GEMINI_API_BASE"),
    ],
)
def test_an_answer_cannot_send_the_prompt_elsewhere(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, model: str, base: str, status: int
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with ModelServer(lambda _: text(PASS)) as elsewhere:
        place = {"Location": f"{elsewhere.base_url}/chat/completions"}
        with serving(monkeypatch, always=Reply(status=status, body="", headers=place)) as server:
            monkeypatch.setenv(base, server.base_url)
            done = aethr("run", "--preset", "review-existing-diff", "--model", model, TASK)
    assert (done.code, len(server.requests), elsewhere.requests) == (3, 1, []), done.err
    assert f"({status})" in done.err


# --- the workflow file -------------------------------------------------------------------------

BOMB = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 3)}]}}\n" for n in range(1, 18)
)


@dataclass(frozen=True)
class Hostile:
    """A workflow file as somebody else may have written it, and what is said of it."""

    name: str
    make: Callable[[Path], object]
    said: str


HOSTILE = (
    Hostile("an alias bomb", lambda path: path.write_text(BOMB), "alias"),
    Hostile("duplicate keys", lambda path: path.write_text("workflow: a\nworkflow: b\n"), "duplicate"),
    Hostile("an impossible date", lambda path: path.write_text("workflow: 2001-99-99\n"), ".aethr.yaml:1"),
    Hostile(
        "a 5,000-digit integer", lambda path: path.write_text(f"steps: {'9' * 5000}\n"), ".aethr.yaml:1:8"
    ),
    Hostile("10,000 brackets", lambda path: path.write_text("[" * 10_000), "nested"),
    Hostile("Latin-1", lambda path: path.write_bytes(b"workflow: \xe9\n"), "is not UTF-8"),
    Hostile("UTF-16", lambda path: path.write_text("workflow: x\n", encoding="utf-16"), "is UTF-16"),
    Hostile("a folder", lambda path: path.mkdir(), "is a folder"),
    Hostile("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    Hostile("a pipe", os.mkfifo, "is not a regular file"),
    Hostile(
        "a python object", lambda path: path.write_text("workflow: !!python/object:os.system x\n"), "tag"
    ),
)


@pytest.mark.parametrize("command", [["check"], ["run", TASK]], ids=["check", "run"])
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_workflow_file_is_exit_2_at_once(
    aethr: Aethr, project: Repo, case: Hostile, command: list[str]
) -> None:
    case.make(project.root / ".aethr.yaml")
    began = time.process_time()
    done = aethr(*command)
    assert time.process_time() - began < 1
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith((".aethr.yaml:", "aethr: "))
    assert case.said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("where", ["--model", "AETHR_MODEL", "file"])
def test_an_address_in_a_model_name_sends_nothing(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with serving(monkeypatch, text(PASS)) as server:
        name = f"oobabooga/{server.origin}/x"
        project.write(
            ".aethr.yaml", TWO_STEPS.replace("openai:gpt-4o-mini", name) if where == "file" else TWO_STEPS
        )
        if where == "AETHR_MODEL":
            monkeypatch.setenv("AETHR_MODEL", name)
        done = aethr("run", *(["--model", name] if where == "--model" else []), TASK)
        assert (done.code, server.requests) == (2, []), done.err
