"""Agents through scripted executables: what they are given, what becomes of what they say, how they end."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aethr import agents
from aethr.agents import process_tree
from aethr.agents.agent import AgentBackend
from aethr.base.errors import (
    AgentError,
    BudgetError,
    ExitCode,
    Interrupted,
    Terminated,
    UsageError,
)
from aethr.base.records import (
    Allowance,
    AttemptStarted,
    Completion,
    ModelSpec,
    Notice,
    Request,
    Sent,
    TextDelta,
)
from aethr.cli import main
from aethr.workflow.backends import BACKENDS
from tests.fake_agent import DIALECTS, Dialect, install
from tests.support import Repo


@dataclass(frozen=True, slots=True)
class Stage:
    """A project, an agent that can be scripted, and the backend that runs it."""

    repo: Repo
    dialect: Dialect
    bin: Path

    def script(self, *lines: str, options: tuple[str, ...] | None = None) -> None:
        install(self.bin, self.dialect, "\n".join(lines) + "\n", options)

    def backend(self, **environ: str) -> AgentBackend:
        backend = BACKENDS[self.dialect.name].build({**os.environ, **environ})
        assert isinstance(backend, AgentBackend)
        return backend

    def request(self, prompt: str = "do it", **fields: object) -> Request:
        request = Request("implement", "implementer", prompt, ModelSpec(self.dialect.model), self.repo.root)
        return request._replace(**fields)  # type: ignore[arg-type]  # names are the record's own

    def run(self, prompt: str = "do it", **fields: object) -> tuple[list[TextDelta | Notice], Completion]:
        return drain(self.backend().complete(self.request(prompt, **fields)))

    def fails(self, **fields: object) -> AgentError:
        with pytest.raises(AgentError) as caught:
            self.run(**fields)
        return caught.value

    def said(self, name: str) -> str:
        return (self.bin / name).read_text(encoding="utf-8")


def drain(
    call: Generator[TextDelta | Notice | AttemptStarted | Sent, None, Completion],
) -> tuple[list[TextDelta | Notice], Completion]:
    """All that a call yields of the agent, and what it returns."""
    done: list[Completion] = []

    def relay() -> Iterator[TextDelta | Notice | AttemptStarted | Sent]:
        done.append((yield from call))

    return [event for event in relay() if not isinstance(event, AttemptStarted | Sent)], done[0]


def begun(
    call: Generator[TextDelta | Notice | AttemptStarted | Sent, None, Completion],
) -> Generator[TextDelta | Notice | AttemptStarted | Sent, None, Completion]:
    """A call whose agent is started by what is asked of it next."""
    assert isinstance(next(call), AttemptStarted)
    assert isinstance(next(call), Sent)
    return call


@pytest.fixture(params=sorted(DIALECTS))
def stage(
    request: pytest.FixtureRequest, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """The same scripted scenario for each agent of the table."""
    return make_stage(DIALECTS[request.param], repo, tmp_path, monkeypatch)


@pytest.fixture
def opencode(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return make_stage(DIALECTS["opencode"], repo, tmp_path, monkeypatch)


def make_stage(dialect: Dialect, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    repo.write("a.py", "x = 1\n")
    repo.commit()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Stage(repo, dialect, tmp_path / "bin")


# --- a run that works ---


def test_an_edit_is_shown_live_and_returned_as_artifacts(stage: Stage) -> None:
    say = stage.dialect
    stage.repo.write("dirty.py", "mine\n")
    stage.script(
        say.says(*say.text("I will edit it.")),
        "echo 'x = 2' > a.py; echo new > b.py",
        say.says(*say.edit(f"{stage.repo.root}/a.py"), *say.bash("pytest  -q\n  -x")),
        say.says(*say.text("Done."), *say.finish()),
    )
    seen, done = stage.run()
    assert seen == [
        TextDelta("I will edit it."),
        Notice("edit a.py", "tool"),
        Notice("bash: pytest -q -x", "tool"),
        TextDelta("\n\nDone."),
    ]
    assert done.content == "I will edit it.\n\nDone."
    assert done.finish_reason == "stop"
    assert done.model == say.model
    assert done.transport.startswith(f"{say.name} ")
    assert done.transport.split()[1] in say.version
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == say.usage
    assert done.usage.cost_usd == say.cost
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("a.py", "b.py")
    assert "+x = 2\n" in done.artifacts.git_diff
    assert "dirty.py" not in done.artifacts.git_diff
    assert done.notes == ()


def test_the_prompt_comes_complete_on_standard_input_only(stage: Stage) -> None:
    say = stage.dialect
    prompt = "<ask> 'quoted' \\ día\n" + "x" * 300_000 + "\nno newline at the end"
    stage.script('cat > "$0.stdin"; echo "$*" > "$0.argv"', say.says(*say.done()))
    stage.run(prompt)
    assert stage.said(f"{say.name}.stdin") == prompt
    argv = stage.said(f"{say.name}.argv")
    assert "xxx" not in argv
    assert say.model.split(":")[1] in argv


def test_a_prompt_never_begins_with_a_slash_command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent runs ``/command`` at the very start of a prompt; Aethr's own words come first."""
    say = stage.dialect
    stage.script('cat > "$0.stdin"', say.says(*say.done()))
    workflow = (
        'workflow: w\nroles: {implementer: "/canary"}\n'
        f"models: {{implementer: {say.model}}}\n"
        f"steps: [{{id: implement, role: implementer, backend: {say.name}}}]\n"
    )
    stage.repo.write(".aethr.yaml", workflow)
    monkeypatch.chdir(stage.repo.root)
    monkeypatch.setenv("AETHR_LIVE", "1")
    assert main(["run", "--quiet", "/canary now"]) == ExitCode.OK
    prompt = stage.said(f"{say.name}.stdin")
    assert prompt.startswith("This prompt has blocks")
    assert prompt.count("/canary") == 2


def test_an_agent_works_in_the_project_and_ignores_pwd(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    say = stage.dialect
    monkeypatch.setenv("PWD", "/somewhere/else")
    # A shell corrects PWD for itself; /proc has what it was started with.
    stage.script(
        'tr "\\0" "\\n" < /proc/$$/environ | grep ^PWD= > "$0.pwd"; pwd -P > "$0.cwd"',
        say.says(*say.done()),
    )
    stage.run()
    root = stage.repo.root.resolve()
    assert stage.said(f"{say.name}.pwd") == f"PWD={root}\n"
    assert stage.said(f"{say.name}.cwd") == f"{root}\n"


def test_the_environment_holds_what_programs_need_and_one_key(stage: Stage) -> None:
    say = stage.dialect
    provider = say.model.split(":")[0].upper()
    stage.script('env > "$0.env"', say.says(*say.done()))
    environ = {
        f"{provider}_API_KEY": "the-key",
        "XAI_API_KEY": "other-key",
        "GITHUB_TOKEN": "token",
        "AETHR_LIVE": "1",
        "AWS_SECRET_ACCESS_KEY": "aws",
        "LD_PRELOAD": "",
        "NODE_OPTIONS": "",
        "LC_CTYPE": "C.UTF-8",
        "HTTPS_PROXY": "http://proxy.invalid",
        f"{say.agent.own_prefix}SETTING": "own",
        f"{say.agent.own_prefix}OTHER_API_KEY": "not-this",
    }
    drain(stage.backend(**environ).complete(stage.request()))
    given = dict(line.split("=", 1) for line in stage.said(f"{say.name}.env").splitlines() if "=" in line)
    key_variable = {"codex": "CODEX_API_KEY"}.get(say.name, f"{provider}_API_KEY")
    assert given.pop(key_variable) == "the-key"
    assert given[f"{say.agent.own_prefix}SETTING"] == "own"
    assert given["LC_CTYPE"] == "C.UTF-8"
    assert given["HTTPS_PROXY"] == "http://proxy.invalid"
    assert {"PATH", "HOME"} <= given.keys()
    assert not {
        value for value in ("the-key", "other-key", "token", "aws", "not-this") if value in given.values()
    }
    assert not {"AETHR_LIVE", "LD_PRELOAD", "NODE_OPTIONS", "GIT_AUTHOR_NAME"} & given.keys()


def test_permission_checks_are_skipped_only_when_asked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    say = stage.dialect
    monkeypatch.setenv("IS_SANDBOX", "1")  # the tests may run as root
    stage.script('echo " $* " >> "$0.argv"', "echo x >> a.py", say.says(*say.done()))
    stage.run()
    stage.run(unsafe_permissions=True)
    careful, unsafe = stage.said(f"{say.name}.argv").splitlines()
    flag = f" {say.agent.skip_flags[0]} "
    assert flag not in careful
    assert flag in unsafe


def test_a_note_says_that_the_agent_changed_nothing(stage: Stage) -> None:
    stage.script(stage.dialect.says(*stage.dialect.text("Nothing to do."), *stage.dialect.finish()))
    _, done = stage.run()
    assert done.notes == ("the agent changed nothing",)
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ()


def test_settings_that_an_agent_does_not_take_are_named(stage: Stage) -> None:
    say = stage.dialect
    stage.script("echo y > a.py", say.says(*say.done()))
    _, done = stage.run(model=ModelSpec(say.model, temperature=0.0, max_tokens=5))
    assert done.notes == (f"{say.name} takes no temperature, max_tokens: not sent",)


def test_a_commit_is_in_the_notes_and_its_diff_in_the_artifacts(stage: Stage) -> None:
    say = stage.dialect
    commit = "echo 'x = 3' > a.py; git -c user.name=a -c user.email=a@b commit -qam work"
    stage.script(commit, say.says(*say.done()))
    _, done = stage.run()
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("a.py",)
    # A newer git goes on in the background after a commit, which is noted too.
    assert any(note.startswith("the agent committed (HEAD moved from ") for note in done.notes)


def test_outside_of_git_it_works_with_a_note(stage: Stage, tmp_path: Path) -> None:
    say = stage.dialect
    (tmp_path / "plain").mkdir()
    stage.script("echo new > b.py", say.says(*say.done()))
    _, done = stage.run(root=tmp_path / "plain")
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("b.py",)
    assert done.notes == (f"{tmp_path / 'plain'} is not in a git repository: all files in it were compared",)


# --- what an agent may say ---


def test_hostile_events_are_text_and_nothing_else(stage: Stage) -> None:
    say = stage.dialect
    stage.script(
        "printf '\\377\\376 no utf-8\\n'",
        'printf \'no json at all\\n{"type": \\n[1]\\nnull\\n"text"\\n\'',
        "head -c 200000 /dev/zero | tr '\\0' '['; echo",
        say.says({"type": 5, "part": [], "item": "x", "message": None}),
        say.says({"type": "assistant", "message": {"content": [7, {"type": "text", "text": {}}]}}),
        say.says({"type": "step_finish", "part": {"tokens": {"input": -5, "output": True}, "cost": "much"}}),
        say.says(*say.bash("\x1b[2J[/red]::error::\u202e" + "y" * 500)),
        say.says(*say.text("lone \ud800 surrogate"), *say.finish()),
    )
    seen, done = stage.run()
    done.content.encode("utf-8")
    assert done.content == "lone \ufffd surrogate"
    (line,) = (event.text for event in seen if isinstance(event, Notice))
    assert line.isprintable()
    assert len(line) <= 120


def test_a_line_over_the_limit_is_dropped(opencode: Stage) -> None:
    say = opencode.dialect
    opencode.script(
        "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo",
        say.says(*say.done()),
    )
    _, done = opencode.run()
    assert done.content == "ok"


def test_much_on_standard_error_does_not_block(stage: Stage) -> None:
    say = stage.dialect
    stage.script("head -c 3000000 /dev/zero | tr '\\0' 'e' >&2", say.says(*say.done()))
    _, done = stage.run()
    assert done.content == "ok"


def test_an_unknown_price_is_unknown(opencode: Stage) -> None:
    say = opencode.dialect
    free = {"type": "step_finish", "part": {"reason": "stop", "tokens": {"input": 5}, "cost": 0}}
    opencode.script(say.says(*say.done(), free))
    _, done = opencode.run()
    assert done.usage.cost_usd is None
    assert done.usage.prompt_tokens == 105


# --- failures ---


def test_opencode_says_what_it_would_have_asked(opencode: Stage) -> None:
    say = opencode.dialect
    opencode.script(
        "printf '\\033[93m! \\033[0mpermission requested: bash (rm /opt/*); auto-rejecting\\n' >&2",
        say.says(*say.refused("write")),
    )
    assert "permission refused: write: x (it asked for: bash (rm /opt/*))" in str(opencode.fails())


def test_a_tool_denied_by_the_users_rule_is_noted(opencode: Stage) -> None:
    say = opencode.dialect
    state = {
        "status": "error",
        "input": {"command": "rm x"},
        "error": "The user has specified a rule which prevents you from using this specific tool call.",
    }
    opencode.script(
        "echo y > a.py",
        say.says({"type": "tool_use", "part": {"tool": "bash", "state": state}}, *say.done()),
    )
    _, done = opencode.run()
    assert done.notes == ("a rule of your OpenCode configuration refused the tool bash",)


def test_an_error_event_with_exit_code_0_is_an_error(stage: Stage) -> None:
    say = stage.dialect
    stage.script(say.says(*say.text("I try."), *say.error("the server is on fire")))
    assert "the server is on fire" in str(stage.fails())


def test_a_refused_key_names_the_login(stage: Stage) -> None:
    stage.script(stage.dialect.says(*stage.dialect.error("unexpected status 401 Unauthorized")), "exit 1")
    error = stage.fails()
    assert stage.dialect.model in str(error)
    assert f"log in with `{stage.dialect.agent.login}`" in error.fix


def test_an_error_without_a_cause_gets_it_from_the_log(opencode: Stage) -> None:
    say = opencode.dialect
    log = 'level=ERROR message=failed error="ProviderModelNotFoundError: Model not found: openai/gpt-5."'
    hollow = say.error("Unexpected server error. Check server logs for details.")
    opencode.script(f"echo {shlex.quote(log)} >&2", say.says(*hollow), "exit 1")
    error = opencode.fails()
    assert str(error) == "step 'implement': opencode (openai:gpt-5): Model not found: openai/gpt-5."
    assert "opencode models" in error.fix


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("echo 'no config' >&2; exit 7", "exit code 7: no config"),
        ("exit 7", "exit code 7: no message"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("exit 0", "it ended without an answer"),
    ],
)
def test_an_end_without_an_answer_is_an_error(stage: Stage, ending: str, message: str) -> None:
    stage.script("echo half > b.py", ending)
    error = stage.fails()
    assert message in str(error)
    assert error.changed_files == ("b.py",)


def test_a_cut_answer_is_an_error(opencode: Stage) -> None:
    cut = {"type": "step_finish", "part": {"reason": "length", "tokens": {}}}
    opencode.script(opencode.dialect.says(*opencode.dialect.text("and then"), cut))
    assert "it stopped before it was finished (length)" in str(opencode.fails())


# --- the end of the whole process tree ---

LEAVE = """
setsid sh -c 'echo $$ > "$1.session"; exec sleep 600' x "$0" &
env -i setsid sh -c 'echo $$ > "$1.bare"; sh -c "exec sleep 600"; :' x "$0" > /dev/null 2>&1 &
until [ -s "$0.session" ] && [ -s "$0.bare" ]; do :; done
"""
"""Two programs in sessions of their own: one that holds the pipes, one without our mark."""

DEAF = """
(setsid sh -c 'trap "" TERM; echo $$ > "$1.deaf"; while :; do sleep 600; done' x "$0" &)
until [ -s "$0.deaf" ]; do :; done
"""
"""An orphan from the start that does not end when it is asked to."""


def survivors(stage: Stage) -> list[str]:
    """Those of the programs left running that still run."""
    left = {path.suffix: int(path.read_text()) for path in stage.bin.iterdir() if path.suffix in LEFT}
    assert left
    return [name for name, pid in left.items() if _runs(pid)]


LEFT = (".session", ".bare", ".deaf")


def _runs(pid: int) -> bool:
    """Whether there is such a program; one that has ended and waits for its parent does not count."""
    return any(entry.pid == pid and not entry.zombie for entry in process_tree.list_with_ps())


def test_programs_left_running_are_ended_and_counted(stage: Stage) -> None:
    say = stage.dialect
    stage.script(LEAVE, "echo y > a.py", say.says(*say.done()))
    _, done = stage.run()
    assert done.content == "ok"
    assert survivors(stage) == []
    (note,) = done.notes
    assert note.endswith(" programs that the agent left running were ended")


def test_a_program_that_does_not_end_when_asked_is_killed(opencode: Stage) -> None:
    say = opencode.dialect
    opencode.script(LEAVE, DEAF, "echo y > a.py", say.says(*say.done()))
    opencode.run()
    assert survivors(opencode) == []


def test_the_deadline_ends_everything_and_lists_partial_edits(stage: Stage) -> None:
    """The deadline leaves a busy machine the time to begin."""
    say = stage.dialect
    stage.script(LEAVE, "echo half > a.py", say.says(*say.text("I think")), "sleep 600")
    error = stage.fails(model=ModelSpec(say.model, timeout_s=1.5))
    assert "no end after 1.5 s" in str(error)
    assert "timeout_s" in error.fix
    assert error.changed_files == ("a.py",)
    assert survivors(stage) == []


def test_the_deadline_quotes_the_last_error_of_a_retrying_agent(opencode: Stage) -> None:
    log = 'level=ERROR message="stream error" error.error="AI_APICallError: boom \\"x\\""'
    opencode.script(f"echo {shlex.quote(log)} >&2", "sleep 600")
    call = begun(
        opencode.backend().complete(opencode.request(model=ModelSpec("openai:gpt-5", timeout_s=1.5)))
    )
    assert next(call) == Notice('opencode: boom "x"', "warning")
    with pytest.raises(AgentError, match=r'no end after 1\.5 s; its last error: boom "x"'):
        next(call)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_an_interruption_ends_everything_and_lists_partial_edits(
    stage: Stage, stop: type[BaseException]
) -> None:
    say = stage.dialect
    stage.script(LEAVE, "echo half > a.py", say.says(*say.text("I think")), "sleep 600")
    call = begun(stage.backend().complete(stage.request()))
    next(call)
    with pytest.raises(stop) as caught:
        call.throw(stop())
    assert isinstance(caught.value, Interrupted | Terminated)
    assert caught.value.changed_files == ("a.py",)
    assert survivors(stage) == []


def test_closing_the_call_ends_everything(stage: Stage) -> None:
    say = stage.dialect
    stage.script(LEAVE, say.says(*say.text("I think")), "sleep 600")
    call = begun(stage.backend().complete(stage.request()))
    next(call)
    call.close()
    assert survivors(stage) == []


RUNNER = """
import os, signal, sys
from pathlib import Path
from aethr.workflow.backends import BACKENDS
from aethr.base.errors import Terminated
from aethr.base.records import ModelSpec, Request

def terminated(*_):
    raise Terminated

signal.signal(signal.SIGTERM, terminated)
name, model, root = sys.argv[1:]
call = BACKENDS[name].build(os.environ).complete(Request("implement", "r", "p", ModelSpec(model), Path(root)))
try:
    while True:
        print(next(call), flush=True)
except (KeyboardInterrupt, Terminated) as stop:
    sys.exit(f"{type(stop).__name__} {stop.changed_files}")
"""


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")])
def test_a_signal_while_the_agent_is_silent(opencode: Stage, number: signal.Signals, name: str) -> None:
    say = opencode.dialect
    silent = opencode.bin / "silent"
    opencode.script(LEAVE, "echo half > a.py", f"echo now > {shlex.quote(str(silent))}", "sleep 600")
    os.mkfifo(silent)
    argv = [sys.executable, "-c", RUNNER, say.name, say.model, str(opencode.repo.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert silent.read_text() == "now\n"
        child.send_signal(number)
        _, said = child.communicate(timeout=20)
    assert said.strip() == f"{name} ('a.py',)"
    assert survivors(opencode) == []


def test_a_program_is_found_by_its_mark_alone() -> None:
    """One that some other process has adopted: it is neither below the agent nor below us."""
    start = "AGENT_RUN_ID=some-run setsid sleep 600 > /dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", start], capture_output=True, check=True).stdout)
    with subprocess.Popen(["true"]) as child:
        child.wait()
        ours = frozenset(entry.pid for entry in process_tree.list_with_ps() if entry.parent == os.getpid())
        assert process_tree.ProcessTree(child, b"AGENT_RUN_ID=some-run", ours).end() > 0
    assert not _runs(pid)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not here")
def test_ps_lists_the_same_as_proc() -> None:
    own = next(entry for entry in process_tree.list_with_ps() if entry.pid == os.getpid())
    assert own == process_tree.Process(os.getpid(), os.getppid())


def test_this_process_adopts_orphans_only_while_an_agent_runs(opencode: Stage) -> None:
    say = opencode.dialect
    opencode.script(say.says(*say.done()))
    opencode.run()
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'sleep 0.1; echo $PPID; ps -o ppid= $$' &"], stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        assert str(os.getpid()) not in shell.stdout.read().decode().split()


# --- one at a time, and no more than was left ---


def test_two_agent_steps_in_one_tree_exclude_each_other(stage: Stage, tmp_path: Path) -> None:
    say = stage.dialect
    stage.script(say.says(*say.text("I think")), "sleep 600")
    first = begun(stage.backend().complete(stage.request()))
    next(first)
    (stage.repo.root / "sub").mkdir()
    error = stage.fails(root=stage.repo.root / "sub")
    assert f"another agent step is running in this tree (process {os.getpid()})" in str(error)
    first.close()
    stage.script(say.says(*say.done()))
    _, done = stage.run()
    assert done.content == "ok"


def test_a_prompt_beyond_the_allowance_starts_nothing(stage: Stage) -> None:
    stage.script('touch "$0.started"')
    with pytest.raises(BudgetError, match="needs more than 1,000 tokens, 10 are left"):
        stage.run("x" * 3000, allowance=Allowance(tokens=10))
    assert not (stage.bin / f"{stage.dialect.name}.started").exists()


# --- before the run ---


def refusal(
    stage: Stage, kind: type[AgentError | UsageError] = AgentError, **fields: object
) -> AgentError | UsageError:
    with pytest.raises(kind) as caught:
        stage.backend().preflight([stage.request("", **fields)])
    return caught.value


def test_preflight_takes_what_is_installed(stage: Stage) -> None:
    stage.script("exit 9")
    stage.backend(IS_SANDBOX="1").preflight([stage.request("", unsafe_permissions=True)])


def test_an_agent_that_is_missing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    error = refusal(stage)
    assert str(error) == f"{stage.dialect.name}: not found on PATH"
    assert stage.dialect.agent.install in error.fix
    assert error.exit_code == ExitCode.WORLD


def test_an_agent_program_in_the_project_is_ignored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    install(stage.repo.root, stage.dialect, "exit 0\n")
    monkeypatch.chdir(stage.repo.root)
    monkeypatch.setenv("PATH", ".::bin:/usr/bin:/bin")
    assert "not found on PATH" in str(refusal(stage))


def test_an_agent_that_is_not_executable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{stage.bin}:/usr/bin:/bin")
    stage.script("exit 0")
    (stage.bin / stage.dialect.name).chmod(0o644)
    assert str(refusal(stage)) == f"{stage.dialect.name}: {stage.bin / stage.dialect.name} is not executable"


def test_an_agent_that_is_too_old(stage: Stage) -> None:
    last = stage.dialect.agent.needs[-1]
    stage.script("exit 0", options=stage.dialect.agent.needs[:-1])
    assert f"is too old: it does not have {last}" in str(refusal(stage))


def test_unsafe_permissions_need_an_option_that_skips_checks(stage: Stage) -> None:
    stage.script("exit 0", options=stage.dialect.agent.needs)
    assert "does not have an option that skips permission checks" in str(
        refusal(stage, unsafe_permissions=True)
    )


def test_an_older_opencode_gets_the_flag_that_it_has(opencode: Stage) -> None:
    say = opencode.dialect
    old = (*say.agent.needs, "--dangerously-skip-permissions")
    opencode.script('echo "$*" > "$0.argv"', say.says(*say.done()), options=old)
    opencode.run(unsafe_permissions=True)
    argv = opencode.said("opencode.argv")
    assert "--dangerously-skip-permissions" in argv
    assert "--auto" not in argv
    assert "--print-logs" not in argv


@pytest.mark.parametrize("body", ["echo hello", "echo 'no config' >&2; exit 3", "exit 0"])
def test_another_program_with_the_agents_name_is_refused(stage: Stage, body: str) -> None:
    stage.bin.mkdir()
    (stage.bin / stage.dialect.name).write_text(f"#!/bin/sh\n{body}\n")
    (stage.bin / stage.dialect.name).chmod(0o755)
    assert stage.dialect.agent.install in refusal(stage).fix


def test_a_model_is_required(stage: Stage) -> None:
    stage.script("exit 0")
    error = refusal(stage, UsageError, model=None)
    assert "needs a model for the role 'implementer'" in str(error)


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_model_of_another_provider_is_refused(
    name: str, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(DIALECTS[name], repo, tmp_path, monkeypatch)
    stage.script("exit 0")
    error = refusal(stage, UsageError, model=ModelSpec("xai:grok-4"))
    assert f"{name} cannot use xai:grok-4" in str(error)


# --- names, keys and addresses ---


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai:gpt-5", "openai/gpt-5"),
        ("gemini:gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("google/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("openrouter:anthropic/claude-sonnet-4", "openrouter/anthropic/claude-sonnet-4"),
        ("x-ai:grok-4", "xai/grok-4"),
        ("my-server:llama", "my-server/llama"),
    ],
)
def test_opencode_gets_its_own_name_of_a_model(opencode: Stage, model: str, expected: str) -> None:
    opencode.script(
        'echo "$*" > "$0.argv"',
        opencode.dialect.says(*opencode.dialect.done()),
    )
    opencode.run(model=ModelSpec(model))
    assert f"--model {expected} " in opencode.said("opencode.argv")


@pytest.mark.parametrize(
    ("model", "environ", "expected"),
    [
        ("gemini:g", {"GEMINI_API_KEY": "k"}, {"GOOGLE_GENERATIVE_AI_API_KEY": "k"}),
        ("google:g", {"GOOGLE_API_KEY": "k", "GEMINI_API_KEY": "z"}, {"GOOGLE_GENERATIVE_AI_API_KEY": "k"}),
        ("openrouter:m", {"OR_API_KEY": "k"}, {"OPENROUTER_API_KEY": "k"}),
        ("my-server:m", {"MY_SERVER_API_KEY": "k"}, {"MY_SERVER_API_KEY": "k"}),
    ],
)
def test_opencode_gets_the_key_by_the_name_that_it_reads(
    opencode: Stage, model: str, environ: dict[str, str], expected: dict[str, str]
) -> None:
    opencode.script(
        'env | grep -E "_(API_KEY|BASE_URL|API_BASE)=" > "$0.env"',
        opencode.dialect.says(*opencode.dialect.done()),
    )
    drain(opencode.backend(**environ).complete(opencode.request(model=ModelSpec(model))))
    assert dict(line.split("=", 1) for line in opencode.said("opencode.env").splitlines()) == expected


def given(stage: Stage, endpoint: str | None = None, **environ: str) -> tuple[str, dict[str, str]]:
    """The arguments and the environment of a run."""
    stage.script(
        'echo "$*" > "$0.argv"; env -0 > "$0.env"',
        stage.dialect.says(*stage.dialect.done()),
    )
    model = ModelSpec(stage.dialect.model, endpoint=endpoint)
    drain(stage.backend(**environ).complete(stage.request(model=model)))
    variables = stage.said(f"{stage.dialect.name}.env").split("\0")
    return stage.said(f"{stage.dialect.name}.argv"), dict(each.split("=", 1) for each in variables if each)


def addresses_named(stage: Stage, endpoint: str | None = None, **environ: str) -> set[str]:
    """Every address that an agent gets, in its arguments or by a variable."""
    argv, variables = given(stage, endpoint, **environ)
    told = [
        argv,
        *(
            value
            for name, value in variables.items()
            if name.startswith((*OWN, stage.dialect.agent.own_prefix))
        ),
    ]
    return {found for text in told for found in re.findall(r"https?://[\w.:]+", text)}


OWN = ("ANTHROPIC_", "OPENAI_")


def test_the_address_is_pinned_also_where_nobody_names_one(stage: Stage) -> None:
    """In a place before which no file of the tree or of the user's goes: the real programs show that."""
    provider = stage.dialect.model.partition(":")[0]
    own = stage.dialect.agent.addresses[provider]
    host = own.removeprefix("https://").partition("/")[0]
    assert addresses_named(stage) <= {f"https://{host}", "https://chatgpt.com"}
    elsewhere = {f"{provider.upper()}_BASE_URL": "http://h:1/v1"}
    assert addresses_named(stage, **elsewhere) == {"http://h:1"}
    named = {**elsewhere, "THIRD_ENDPOINT": "http://third:1/v1"}
    assert addresses_named(stage, "THIRD_ENDPOINT", **named) == {"http://third:1"}


def test_attachments_and_settings_of_the_tree_are_switched_off(stage: Stage) -> None:
    """That these switches do so is shown with the real programs, in test_real_agents.py."""
    stage.repo.write(".agents/skills/s/SKILL.md", "x")
    argv, variables = given(stage)
    root = stage.repo.root.resolve()
    switches: dict[str, bool] = {
        "claude": variables.get("CLAUDE_CODE_DISABLE_ATTACHMENTS") == "1"
        and "--setting-sources user" in argv,
        "codex": f'projects={{"{root}"={{trust_level="untrusted"}}}}' in argv
        and f'{{path="{root}/.agents/skills/s/SKILL.md",enabled=false}}' in argv,
        "opencode": variables.get("OPENCODE_DISABLE_PROJECT_CONFIG") == "1"
        and variables.get("OPENCODE_DISABLE_EXTERNAL_SKILLS") == "1",
    }
    assert switches[stage.dialect.name]


def test_an_agent_is_asked_for_its_version_outside_of_the_project(stage: Stage) -> None:
    """OpenCode loads plugins of its working directory even for that."""
    stage.script("exit 0")
    program = stage.bin / stage.dialect.name
    program.write_text(
        program.read_text().replace(
            "#!/bin/sh\n", '#!/bin/sh\npwd >> "$0.asked"; echo "$PWD" >> "$0.asked"\n'
        )
    )
    stage.backend().preflight([stage.request("")])
    assert set(stage.said(f"{stage.dialect.name}.asked").splitlines()) == {"/"}


def test_opt_outs_and_the_agents_own_settings_are_never_dropped(stage: Stage) -> None:
    opt_outs = {"DISABLE_TELEMETRY": "1", "DISABLE_SOMETHING": "1", "DO_NOT_TRACK": "1"}
    kept = {name.replace("*", "X"): "mine" for name in stage.dialect.agent.keeps}
    _, variables = given(
        stage, **opt_outs, **kept, BASH_ENV="/evil", MCP_CLIENT_SECRET="s", DISABLE_API_KEY="k"
    )
    assert {**opt_outs, **kept}.items() <= variables.items()
    assert not {"BASH_ENV", "MCP_CLIENT_SECRET", "DISABLE_API_KEY"} & variables.keys()


def test_an_agent_gets_the_instructions_of_the_project_and_no_file_behind_them(stage: Stage) -> None:
    names = [group[0] for group in stage.dialect.agent.guidance]
    stage.repo.write(".gitignore", "private.md\n")
    stage.repo.write("private.md", "PRIVATE")
    for name in names:
        stage.repo.write(name, "Use tabs: GUIDE.\n@private.md\n")
    argv, variables = given(stage)
    told = argv + variables.get("OPENCODE_CONFIG_CONTENT", "")
    assert "GUIDE" in told or str(stage.repo.root.resolve() / names[0]) in told
    assert "PRIVATE" not in told
    for name in names:
        (stage.repo.root / name).unlink()
        (stage.repo.root / name).symlink_to(stage.repo.root / "private.md")
    argv, variables = given(stage)
    told = argv + variables.get("OPENCODE_CONFIG_CONTENT", "")
    assert "PRIVATE" not in told
    assert names[0] not in told


def test_a_note_names_what_an_agent_was_kept_from_reading(stage: Stage) -> None:
    name = stage.dialect.agent.unread[-1]
    stage.repo.write(f"{name}/x", "x")
    stage.script("echo y > a.py", stage.dialect.says(*stage.dialect.done()))
    _, done = stage.run()
    assert done.notes[-1].startswith(f"{stage.dialect.name} was kept from reading ")
    assert name in done.notes[-1]


def test_pins_override_opencode_settings_and_keep_the_others(opencode: Stage) -> None:
    own = {
        "autoupdate": False,
        "share": "auto",
        "instructions": ["mine.md"],
        "provider": {"openai": {"name": "x"}},
    }
    _, variables = given(opencode, OPENCODE_CONFIG_CONTENT=json.dumps(own))
    assert json.loads(variables["OPENCODE_CONFIG_CONTENT"]) == {
        **own,
        "share": "disabled",
        "snapshot": False,
        "provider": {"openai": {"name": "x", "options": {"baseURL": "https://api.openai.com/v1"}}},
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".opencode/plugin/p.js", "x"),
        (".opencode/plugins/package/index.ts", "x"),
        ("opencode.json", '{"plugins": ["./evil"]}'),
        ("opencode.jsonc", '{// x\n"plug\\u0069ns": ["./evil"]}'),
        (".opencode/opencode.json", '{"plugins": ["./evil"]}'),
        ("sub/.opencode/plugin/p.js", "x"),
    ],
)
def test_opencode_plugins_in_the_tree_are_refused_before_the_run(
    opencode: Stage, name: str, content: str
) -> None:
    opencode.script("exit 0")
    opencode.repo.write(name, content)
    (opencode.repo.root / "sub").mkdir(exist_ok=True)
    with pytest.raises(AgentError, match="has plugins"):
        opencode.backend().preflight([opencode.request("", root=opencode.repo.root / "sub")])


def test_opencode_settings_without_plugins_are_accepted(opencode: Stage) -> None:
    opencode.script("exit 0")
    opencode.repo.write("opencode.json", '{"plugin": [], "share": "disabled"}')
    opencode.repo.write(".opencode/agent/a.md", "x")
    opencode.backend().preflight([opencode.request("")])


@pytest.mark.parametrize("content", ["{ // mine\n}", "[]", "[" * 100_000])
def test_unreadable_opencode_settings_are_refused_before_the_run(opencode: Stage, content: str) -> None:
    opencode.script("exit 0")
    with pytest.raises(UsageError, match="OPENCODE_CONFIG_CONTENT is not a JSON object"):
        opencode.backend(OPENCODE_CONFIG_CONTENT=content).preflight([opencode.request("")])


def test_too_many_codex_skills_are_refused_before_the_run(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(DIALECTS["codex"], repo, tmp_path, monkeypatch)
    stage.script("exit 0")
    (repo.root / ".agents").mkdir()
    (repo.root / ".agents" / "skills").symlink_to("/")
    assert "too many skills or folders" in str(refusal(stage))


def test_a_warning_says_that_opencode_does_not_read_an_address(opencode: Stage) -> None:
    opencode.script("echo y > a.py", opencode.dialect.says(*opencode.dialect.done()))
    request = opencode.request(model=ModelSpec("ollama:m"))
    seen, _ = drain(opencode.backend(OLLAMA_API_BASE="http://h").complete(request))
    assert seen == [
        Notice("opencode does not read OLLAMA_API_BASE: its own configuration decides", "warning"),
        TextDelta("ok"),
    ]


def test_retries_of_claude_and_codex_are_shown(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry: dict[str, Callable[[], dict[str, object]]] = {
        "claude": lambda: {
            "type": "system",
            "subtype": "api_retry",
            "error_status": 529,
            "error": "overloaded",
        },
        "codex": lambda: {"type": "error", "message": "Reconnecting... 1/5"},
    }
    texts = []
    for name, event in retry.items():
        stage = make_stage(DIALECTS[name], repo, tmp_path, monkeypatch)
        stage.script(stage.dialect.says(event(), *stage.dialect.done()))
        seen, _ = stage.run()
        texts += [event.text for event in seen if isinstance(event, Notice) and event.kind == "warning"]
    assert texts == ["claude: overloaded (HTTP 529); it retries", "codex: Reconnecting... 1/5"]


@pytest.mark.parametrize("name", agents.AGENTS)
def test_each_row_is_a_backend_and_its_tests_know_its_events(name: str) -> None:
    assert BACKENDS[name].edits_tree
    assert DIALECTS[name].agent is agents.AGENTS[name]
