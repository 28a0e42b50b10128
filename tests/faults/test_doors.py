"""Faults in the other two ways to run Aethr: real commits under pre-commit, and the Action.

What all ways share is tested in the terminal (``test_provider``, ``test_surroundings``, ``test_killed``).
Tested elsewhere: a closed or full output (``test_output_gone``), a missing key, a mock and a budget
(``tests/hook/test_hook``, ``tests/github/test_pull_request``), an Action that is killed or cancelled while a
model works (``test_pull_request``), a comment that is lost or posted twice (``tests/github/test_upsert``).
A hook refuses agents.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from aethr.github.carry import FILE
from tests.faults.test_provider import HTML, IMPATIENT, Fault, again, assert_clean
from tests.github.conftest import Act, Step, act, github
from tests.github.github_server import GitHubServer
from tests.github.support import open_pull_request, outputs, runner_environment, started
from tests.hook.conftest import Hooked, hooked, released, run, shared, tool
from tests.live import KEY, PASS, TWO_STEPS, serving, temp
from tests.model_server import ModelServer, Reply, error, text
from tests.support import having, spread, tiered

__all__ = ["act", "github", "hooked", "released", "shared", "temp", "tool"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
under_pre_commit = pytest.mark.parametrize("tool", ["pre-commit"], indirect=True)
TOO_LONG = "This model's maximum context length is 128000 tokens."


FAULTS = (
    Fault("the key is refused", (error(401, "bad key"),), "the key was refused (401)"),
    Fault(
        "no credit", (error(429, "You exceeded your current quota", "insufficient_quota"),), "no credit left"
    ),
    Fault("429 and an hour", (error(429, Retry_After="3600"),), "it asks to wait 3,600 s"),
    Fault("500 for ever", again(error(500, "oops", Retry_After="0")), "the provider failed (500)"),
    Fault("a page for 200", (Reply(body=HTML, content_type="text/html"),), "not in the protocol"),
    Fault("cut", again(Reply(fault="cut"), 2), "ended without a finish reason"),
    Fault("stall", (Reply(fault="stall"),), "no answer in time", workflow=IMPATIENT),
    Fault("too long", (error(400, TOO_LONG, "context_length_exceeded"),), "too long for the model"),
    Fault("empty", (Reply(chunks=()),) * 2, "the answer is empty"),  # asked once more, without a stream
    Fault("length", (Reply((PASS,), "length"),), "was cut (length)", 4),
)
faults = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


# --- commits -----------------------------------------------------------------------------------


@pytest.fixture
def staged(hooked: Hooked, temp: Path) -> Hooked:
    """A first commit that waits to be made."""
    hooked.configure()
    hooked.install("pre-commit")
    hooked.repo.write(".aethr.yaml", TWO_STEPS)
    hooked.repo.write("app.py", "total = 1\n")
    hooked.repo.git("add", "-A")
    return hooked


@under_pre_commit
@pytest.mark.parametrize("fault", tiered(spread(FAULTS), ci=4), ids=lambda fault: fault.name)
def test_a_commit_is_blocked_and_the_printed_command_goes_on(
    staged: Hooked, temp: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    staged.repo.write(".aethr.yaml", fault.workflow)
    staged.repo.git("add", "-A")
    with serving(monkeypatch, text("An idea."), *fault.replies, text(PASS)) as server:
        done = staged.git("commit", "-m", "one")
        assert len(server.bodies) == 1 + len(fault.replies), done.stdout
        assert_blocked(staged, done.stdout, fault.code, fault.said)
        if fault.code == 4:
            assert list(temp.iterdir()) == []
            return
        assert [step.id for step in checkpoint.load(f"@{next(temp.iterdir())}").steps] == ["think"]
        staged.repo.write(".aethr.yaml", TWO_STEPS)  # a longer timeout, as the message says
        resumed = run("bash", "-c", resume_line(done.stdout), cwd=staged.repo.root)
        assert (resumed.returncode, len(server.bodies)) == (0, 2 + len(fault.replies)), resumed.stdout
    assert list(temp.iterdir()) == []
    assert having(f"HOME={os.environ['HOME']}") == {}


def assert_blocked(project: Hooked, output: str, code: int, said: str) -> None:
    assert project.repo.git("log", "--all") == "", output
    assert said in output
    assert re.findall(r"^exit code .*$", output, re.MULTILINE)[-1].startswith(f"exit code {code}: ")
    assert_clean(re.sub(r"\x1b\[[\d;]*m", "", output))


def resume_line(output: str) -> str:
    [line] = re.findall(r"^  (.*--resume-checkpoint .*)$", output, re.MULTILINE)
    return str(line)


@under_pre_commit
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_commit_that_is_stopped_keeps_the_finished_step(
    staged: Hooked, temp: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As a terminal does it: every program of the commit gets the signal. pre-commit shows nothing then."""
    with serving(monkeypatch, text("An idea."), Reply(fault="never")) as server:
        with subprocess.Popen(
            ["git", "commit", "-m", "one"],
            cwd=staged.repo.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as commit:
            server.wait_for(2)
            os.killpg(commit.pid, number)
            output, _ = commit.communicate(timeout=20)
        server.wait_abandoned()
    assert commit.returncode != 0, output
    assert "Aethr review" in output
    assert staged.repo.git("log", "--all") == ""
    wait_for_none(f"HOME={os.environ['HOME']}")
    [path] = temp.iterdir()
    assert [step.id for step in checkpoint.load(f"@{path}").steps] == ["think"]


def wait_for_none(setting: str) -> None:
    """The hook may outlive git and pre-commit by a moment; it must not stay."""
    for pid in having(setting):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([handle], [], [], 10)[0], f"{pid} is still there"
        os.close(handle)


@under_pre_commit
def test_two_hooks_at_once_do_not_wait_for_each_other(
    staged: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(body: dict[str, Any]) -> str:
        server.wait_for(2)  # nobody is answered before both have asked
        return PASS if "Review." in body["messages"][0]["content"] else "An idea."

    words = [str(staged.tool.program), "run", "--config", str(staged.config), "aethr-review"]
    with serving(monkeypatch), ModelServer(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        hooks = []
        for asked in (1, 2):  # pre-commit's own `git write-tree` takes the index lock: not both at once
            hooks.append(subprocess.Popen(words, cwd=staged.repo.root, text=True, **pipes))
            server.wait_for(asked)
        said = [hook.communicate(timeout=120)[0] for hook in hooks]
    assert [hook.returncode for hook in hooks] == [0, 0], said
    assert len(server.bodies) == 4


@under_pre_commit
def test_a_checkpoint_that_cannot_be_written_still_blocks(
    staged: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_TEMP", "/proc/nowhere")
    with serving(monkeypatch, text("An idea."), text(PASS)) as server:
        done = staged.git("commit", "-m", "one")
    assert len(server.bodies) == 1
    assert_blocked(staged, done.stdout, 3, "cannot write a checkpoint")


# --- pull requests -----------------------------------------------------------------------------


@faults
def test_an_action_says_not_reviewed_and_its_next_attempt_goes_on(
    act: Act, github: GitHubServer, tmp_path: Path, fault: Fault
) -> None:
    request = open_pull_request(tmp_path, {".aethr.yaml": fault.workflow})
    with ModelServer([text("An idea."), *fault.replies]) as models:
        first = act(request, models)
        assert len(models.bodies) == 1 + len(fault.replies)
    assert_not_reviewed(first, github, fault)
    with ModelServer([text(PASS)] if fault.code == 3 else [text("An idea."), text(PASS)]) as models:
        second = act(request, models, attempt=2)
    assert (second.code, second.outputs["status"]) == (0, "pass"), second.log
    assert len(models.bodies) == (1 if fault.code == 3 else 2)
    assert "### Aethr: pass" in github.bodies[0]
    assert len(github.comments) == 1


def assert_not_reviewed(step: Step, github: GitHubServer, fault: Fault) -> None:
    assert (step.code, step.outputs["status"]) == (fault.code, "not-reviewed"), step.log
    assert step.outputs["exit-code"] == str(fault.code)
    assert step.outputs["resumable"] == str(fault.code == 3).lower()
    assert_clean(step.log)
    assert step.log.rstrip().splitlines()[-1].startswith("::error title=Aethr")
    for place in (step.log, step.summary, github.bodies[0]):
        assert fault.said in place.replace("\\", "")
    assert "Aethr: pass" not in github.bodies[0]
    if fault.code == 3:
        saved = checkpoint.load(f"@{step.outputs['checkpoint']}")
        assert [each.id for each in saved.steps] == ["think"]


@dataclass(frozen=True)
class Refusal:
    """What GitHub answers when the comment is asked for or posted.

    It is asked for twice: before the run, where a failure costs nothing but a note, and after it. A comment
    that GitHub cannot process is sent once more, without the state in it.
    """

    method: str
    status: int
    times: int = 1
    headers: tuple[tuple[str, str], ...] = ()


REFUSALS = (
    Refusal("GET", 401, 2),
    Refusal("GET", 403, 2),
    Refusal("GET", 404, 2),
    Refusal("GET", 502, 8),
    Refusal("GET", 429, 2, (("Retry_After", "3600"),)),
    Refusal("POST", 403),
    Refusal("POST", 403, 1, (("Retry_After", "3600"),)),
    Refusal("POST", 404),
    Refusal("POST", 422, 2),
    Refusal("POST", 301, 1, (("Location", "http://127.0.0.1:9/elsewhere"),)),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_a_comment_that_cannot_be_posted_fails_the_job_and_nothing_is_paid_again(
    act: Act, github: GitHubServer, tmp_path: Path, refusal: Refusal
) -> None:
    request = open_pull_request(tmp_path)
    for _ in range(refusal.times):
        github.fail(refusal.method, refusal.status, **dict(refusal.headers))
    with ModelServer([text(PASS)]) as models:
        first = act(request, models)
        assert (first.code, github.comments) == (3, []), first.log
        assert first.outputs["status"] == "pass"
        assert "Looks right." in first.summary
        assert "This is not on the pull request" in first.summary
        assert_clean(first.log)
        second = act(request, models, attempt=2)
    assert (second.code, len(models.bodies), len(github.comments)) == (0, 1, 1), second.log


@contextmanager
def silence() -> Iterator[socket.socket]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_a_cancelled_action_ends_also_while_github_is_silent(tmp_path: Path) -> None:
    """The runner sends SIGINT, then SIGTERM after 7.5 s, then kills after 2.5 s more."""
    request = open_pull_request(tmp_path, {".aethr.yaml": TWO_STEPS})
    with silence() as server, ModelServer([text("An idea."), Reply(fault="never")]) as models:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        with started(request, silent, models) as step:
            for _ in range(2):  # the earlier comment cannot be read, which is tried twice
                server.accept()[0].close()
            models.wait_for(2)
            step.child.send_signal(signal.SIGINT)
            connection, _ = server.accept()
            with connection:
                step.child.send_signal(signal.SIGTERM)
                said, _ = step.child.communicate(timeout=2.5)
    assert (step.child.returncode, "Traceback" in said) == (143, False), said
    assert outputs(step.environ)["resumable"] == "true"
    assert (tmp_path / "carry" / "500" / FILE).is_file()


@pytest.mark.parametrize("full", ["reports", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
def test_a_disk_that_is_full_leaves_the_comment(github: GitHubServer, tmp_path: Path, full: str) -> None:
    request = open_pull_request(tmp_path)
    work = request.checkout().root
    environ = runner_environment(request, work, github.url)
    if full == "reports":
        Path(environ["RUNNER_TEMP"]).mkdir()
        Path(environ["RUNNER_TEMP"], "aethr-report").write_text("a file where a folder has to be")
    else:
        environ[full] = "/dev/full"
    with ModelServer([text(PASS)]) as models:
        environ |= {"OPENAI_BASE_URL": models.base_url, "OPENAI_API_KEY": KEY, "AETHR_ACTION_CARRY": ""}
        command = [sys.executable, "-m", "aethr", "action"]
        done = subprocess.run(
            command, cwd=work, env={**os.environ, **environ}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("aethr: ")
    assert_clean(done.stdout + done.stderr)
    assert "### Aethr: pass" in github.bodies[0]
    if full != "GITHUB_OUTPUT":
        assert outputs(environ)["status"] == "pass"
    if full != "GITHUB_STEP_SUMMARY":
        assert "Looks right." in Path(environ["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")
