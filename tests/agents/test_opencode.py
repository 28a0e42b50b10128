"""The real ``opencode`` against a model server of our own, which answers with real tool calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from aethr.base.errors import AgentError, Interrupted
from aethr.base.records import (
    AttemptStarted,
    Completion,
    ModelSpec,
    Notice,
    Request,
    Sent,
    TextDelta,
)
from aethr.workflow.backends import BACKENDS
from tests.support import Repo, having, nightly
from tests.tool_server import Call, Fault, ToolServer, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("opencode") is None, reason="opencode is not on PATH (npm install -g opencode-ai)"
    ),
]


at_night = nightly("minutes with real agents")
"""Beside these, ``.ci/run`` lets OpenCode edit files, and stops it."""


def environment(server: ToolServer) -> dict[str, str]:
    """A closed world for OpenCode: no network but our server, no file of the developer's."""
    model = {"cost": {"input": 1, "output": 2}, "limit": {"context": 100_000, "output": 8_000}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": server.base_url, "apiKey": "x"},
        "models": {"model": model, "text": {}},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "enabled_providers": ["fake"],
        "small_model": "fake/text",
        "provider": {"fake": provider},
    }
    switches = ("MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD")
    off = {f"OPENCODE_DISABLE_{name}": "1" for name in switches}
    return {**os.environ, **off, "OPENCODE_PURE": "1", "OPENCODE_CONFIG_CONTENT": json.dumps(config)}


def start(
    server: ToolServer,
    repo: Repo,
    prompt: str = "Edit it.",
    *,
    model: str = "fake:model",
    unsafe: bool = False,
) -> Generator[TextDelta | Notice | AttemptStarted | Sent, None, Completion]:
    request = Request(
        "implement",
        "implementer",
        prompt,
        ModelSpec(model, timeout_s=60),
        repo.root,
        unsafe_permissions=unsafe,
    )
    backend = BACKENDS["opencode"].build(environment(server))
    backend.preflight([request])
    return backend.complete(request)


def run(
    call: Generator[TextDelta | Notice | AttemptStarted | Sent, None, Completion],
) -> tuple[list[TextDelta | Notice], Completion]:
    done: list[Completion] = []

    def relay() -> Generator[TextDelta | Notice | AttemptStarted | Sent, None, None]:
        done.append((yield from call))

    return [event for event in relay() if not isinstance(event, AttemptStarted | Sent)], done[0]


@pytest.fixture
def dirty(repo: Repo) -> Repo:
    """A project with work of its own: staged, changed and untracked."""
    for name in ("a.py", "mine.py", "staged.py"):
        repo.write(name, "x = 1\n")
    repo.commit()
    repo.write("staged.py", "x = 'staged'\n")
    repo.git("add", "staged.py")
    repo.write("mine.py", "x = 'mine'\n")
    repo.write("untracked.py", "x = 'untracked'\n")
    return repo


def test_real_tool_calls_become_exactly_their_own_edits(dirty: Repo) -> None:
    turns = (
        Call("edit", {"filePath": f"{dirty.root}/a.py", "oldString": "x = 1", "newString": "x = 2"}),
        Call("write", {"filePath": f"{dirty.root}/new folder/b.py", "content": "y = 1\n"}),
        Call("bash", {"command": "echo 'z = 1' >> mine.py", "description": "append"}),
        "All done.",
    )
    status = dirty.git("diff", "--cached")
    prompt = 'Please "edit" <it>.\n' + "día\n" * 50_000
    with serving(*turns) as server:
        seen, done = run(start(server, dirty, prompt))
        assert prompt in json.loads(server.prompts)[0]["messages"][-1]["content"]
    assert [event.text for event in seen] == [
        "edit a.py",
        "write new folder/b.py",
        "bash: echo 'z = 1' >> mine.py",
        "All done.",
    ]
    assert done.content == "All done."
    assert done.transport.startswith("opencode 1.")
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (400, 80)
    assert done.usage.cost_usd == pytest.approx(4 * 140e-6)
    assert done.notes == ()
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("a.py", "mine.py", "new folder/b.py")
    lines = [line for line in done.artifacts.git_diff.splitlines() if line[:1] in "+-"]
    assert [line for line in lines if line[:3] not in ("+++", "---")] == [
        "-x = 1",
        "+x = 2",
        "+z = 1",
        "+y = 1",
    ]
    assert dirty.git("diff", "--cached") == status


@at_night
def test_a_write_outside_of_the_project_needs_unsafe_permissions(dirty: Repo, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    turn = Call("write", {"filePath": str(outside), "content": "y = 1\n"})
    with serving(turn) as server, pytest.raises(AgentError) as caught:
        run(start(server, dirty))
    refused = f"permission refused: write {outside} (it asked for: "
    assert str(caught.value).startswith(f"step 'implement': opencode: {refused}")
    assert "unsafe_permissions: true" in caught.value.fix
    assert caught.value.changed_files == ()
    assert not outside.exists()
    with serving(turn, "Done.") as server:
        _, done = run(start(server, dirty, unsafe=True))
    assert outside.read_text() == "y = 1\n"
    assert done.notes == ("the agent changed nothing",)


def test_ctrl_c_in_the_middle_of_a_tool_leaves_nothing_running(dirty: Repo, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = f"echo half > a.py; setsid sleep 600 & sleep 601 & echo $$ > '{fifo}'; sleep 602"
    pids: list[int] = []

    def interrupt() -> None:
        pids.append(int(fifo.read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    turn = Call("bash", {"command": command, "description": "wait"})
    with serving(turn) as server, pytest.raises(Interrupted) as caught:
        run(start(server, dirty))
    waiting.join()
    assert caught.value.changed_files == ("a.py",)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert having(f"HOME={os.environ['HOME']}") == {}


@at_night
def test_a_refused_key_is_reported(dirty: Repo) -> None:
    with serving(Fault(401, "Incorrect API key provided")) as server, pytest.raises(AgentError) as caught:
        run(start(server, dirty))
    assert "Incorrect API key provided (HTTP 401)" in str(caught.value)
    assert "opencode auth login" in caught.value.fix


@at_night
def test_an_unknown_model_is_reported(dirty: Repo) -> None:
    with serving() as server, pytest.raises(AgentError) as caught:
        run(start(server, dirty, model="fake:nope"))
    assert str(caught.value).startswith("step 'implement': opencode (fake:nope): Model not found: fake/nope")
    assert "opencode models" in caught.value.fix
    assert server.requests == []
