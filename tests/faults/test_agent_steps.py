"""Every way an agent can fail in the middle of a run; its checkpoint, and the resume."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aethr.engine import checkpoint
from tests.fake_agent import DIALECTS, install
from tests.live import PASS, TASK, Aethr, resume_words, serving
from tests.model_server import text
from tests.support import Repo, having

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

WORKFLOW = """\
workflow: three
roles: {planner: "Plan.", implementer: "Implement.", reviewer: "Review."}
models: {planner: "openai:gpt-4o-mini", implementer: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: plan, role: planner}
  - id: implement
    role: implementer
    backend: opencode
    context: ["file:long.txt"]
    limits: {context_chars: 400000}
  - {id: review, role: reviewer, context: [latest_diff]}
"""
SAY = DIALECTS["opencode"]
DONE = SAY.says(*SAY.text("It is done."), *SAY.finish())
EDIT = "echo 'x = 2' > app.py\n"
LONG = "a line of a long file\n" * 10_000
"""More than an argument of a program can hold on Linux (128 KiB)."""
FIRST_WORDS = ("run", "--json", "--require-review", TASK)


@dataclass(frozen=True)
class Case:
    """What the agent does, what the run ends with, and what its record says of it."""

    name: str
    script: str
    said: str
    changed: tuple[str, ...] = ()
    code: int = 3


ENDS_WELL = (
    Case("changes nothing", DONE, "the agent changed nothing", (), 0),
    Case("edits", EDIT + DONE, "It is done.", ("app.py",), 0),
    Case(
        "bytes that are not UTF-8",
        EDIT + "printf '\\377\\376\\n{\\377}\\n'\n" + DONE,
        "It is done.",
        ("app.py",),
        0,
    ),
    Case(
        "a new folder",
        "mkdir -p new/sub; echo 1 > new/sub/a.py\n" + DONE,
        "It is done.",
        ("new/sub/a.py",),
        0,
    ),
    Case(
        "commits its work",
        EDIT + "git -c user.name=A -c user.email=a@b.invalid commit -qam 'by the agent'\n" + DONE,
        "commit",
        ("app.py",),
        0,
    ),
    Case(
        "a program that holds its pipes",
        EDIT + "sleep 600 &\n" + DONE,
        "that the agent left running",
        ("app.py",),
        0,
    ),
    Case(
        "reads a long prompt", EDIT + 'cat > "$0.prompt"; echo "$*" > "$0.words"\n' + DONE, "", ("app.py",), 0
    ),
)
FAILS = (
    Case("exit code 7", "exit 7\n", "exit code 7"),
    Case(
        "exit code 7 after an edit", EDIT + "exit 7\n", "files changed before it failed: app.py", ("app.py",)
    ),
    Case("killed", EDIT + "kill -9 $$\n", "files changed before it failed: app.py", ("app.py",)),
    Case("says nothing", "exit 0\n", "opencode"),
    Case("an error event", SAY.says(*SAY.error("it burns")), "it burns"),
    Case("a permission it does not get", SAY.says(*SAY.refused("bash")), "unsafe_permissions"),
)


@pytest.fixture
def agent(project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a scripted ``opencode``, first on PATH; a project that uses it."""
    project.write(".aethr.yaml", WORKFLOW)
    project.write("long.txt", LONG)
    project.commit("all is committed")
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("case", ENDS_WELL, ids=lambda case: case.name)
def test_an_agent_that_ends_well(
    aethr: Aethr, agent: Path, temp: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    install(agent, SAY, case.script)
    with serving(monkeypatch, text("A plan."), text(PASS)) as server:
        done = aethr(*FIRST_WORDS)
    assert done.code == case.code, done.err
    step = done.record["steps"][1]
    assert tuple(step["artifacts"]["changed_files"]) == case.changed
    assert case.said in step["content"] + "".join(step["notes"])
    assert all(name in server.bodies[1]["messages"][0]["content"] for name in case.changed)
    assert having(f"HOME={os.environ['HOME']}") == {}
    assert list(temp.iterdir()) == []
    if (agent / "opencode.prompt").exists():
        assert LONG in (agent / "opencode.prompt").read_text()
        assert len((agent / "opencode.words").read_text()) < 1000


@pytest.mark.parametrize("case", FAILS, ids=lambda case: case.name)
def test_an_agent_that_fails_keeps_the_plan_and_the_run_goes_on(
    aethr: Aethr, agent: Path, temp: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    install(agent, SAY, case.script)
    with serving(monkeypatch, text("A plan.")):
        failed = aethr(*FIRST_WORDS)
    assert failed.code == case.code, failed.err
    assert case.said in failed.err
    assert "Traceback" not in failed.err
    assert having(f"HOME={os.environ['HOME']}") == {}
    saved = checkpoint.load(f"@{next(temp.glob('*.jsonl'))}")
    assert [step.id for step in saved.steps] == ["plan"]
    assert saved.failure is not None
    assert saved.failure.changed_files == case.changed
    assert_goes_on(aethr, agent, temp, monkeypatch, failed.err)


@pytest.mark.parametrize("case", ["missing", "not executable", "a folder"])
def test_an_agent_that_cannot_start_costs_nothing(
    aethr: Aethr, agent: Path, temp: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    agent.mkdir()
    if case != "missing":
        (agent / "opencode").write_text("") if case == "not executable" else (agent / "opencode").mkdir()
    monkeypatch.setenv("PATH", f"{agent}:/usr/bin:/bin")
    with serving(monkeypatch, text("A plan.")) as server:
        done = aethr(*FIRST_WORDS)
    assert (done.code, server.bodies, list(temp.iterdir())) == (3, [], []), done.err
    assert "opencode" in done.err.splitlines()[-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
    ids=str,
)
def test_a_signal_while_an_agent_works_ends_its_whole_group(
    aethr: Aethr,
    agent: Path,
    temp: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    ready = temp.parent / "ready"
    install(agent, SAY, f"{EDIT}sleep 600 &\n(setsid sleep 600 &)\necho now > '{ready}'\nsleep 600\n")
    os.mkfifo(ready)
    with serving(monkeypatch, text("A plan.")):
        words = [sys.executable, "-m", "aethr", *FIRST_WORDS]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
            assert next_word(ready) == "now"
            child.send_signal(number)
            _, stderr = child.communicate(timeout=20)
    assert (child.returncode, "Traceback" in stderr) == (code, False), stderr
    assert "files changed before it failed: app.py" in stderr
    assert having(f"HOME={os.environ['HOME']}") == {}
    assert_goes_on(aethr, agent, temp, monkeypatch, stderr)


def next_word(pipe: Path) -> str:
    """What somebody writes to a named pipe within half a minute."""
    handle = os.open(pipe, os.O_RDWR)
    try:
        assert select.select([handle], [], [], 30)[0], "nothing came"
        return os.read(handle, 100).decode().strip()
    finally:
        os.close(handle)


def assert_goes_on(
    aethr: Aethr, agent: Path, temp: Path, monkeypatch: pytest.MonkeyPatch, stderr: str
) -> None:
    """The printed command does not plan again, and the agent that works now is reviewed."""
    install(agent, SAY, "echo 'x = 3' > app.py\n" + DONE)
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*resume_words(stderr))
    assert (done.code, len(server.bodies)) == (0, 1), done.err
    assert list(temp.iterdir()) == []
