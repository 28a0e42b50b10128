"""How a step of an agent ends, what it costs and what it leaves, with scripted executables.

The same kinds with the real programs are in test_real_agents.py.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr.agents import AGENTS
from aethr.agents.agent import AgentBackend
from aethr.base.errors import AgentError, BudgetError, ExitCode
from aethr.base.records import (
    Allowance,
    AttemptStarted,
    ModelSpec,
    Notice,
    Spent,
    TextDelta,
    Usage,
)
from tests.agents.test_agents import Stage, drain, make_stage
from tests.fake_agent import CLAUDE_USED, DIALECTS, claude_result
from tests.support import Repo

Make = Callable[[str], Stage]


@pytest.fixture(params=sorted(DIALECTS))
def stage(request: pytest.FixtureRequest, make: Make) -> Stage:
    return make(request.param)


@pytest.fixture
def make(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda name: make_stage(DIALECTS[name], repo, tmp_path, monkeypatch)


# --- the end of a step ---


@pytest.mark.slow
def test_an_agent_that_has_finished_and_does_not_end_is_ended_and_its_work_is_kept(stage: Stage) -> None:
    """At its deadline; without one after some seconds of silence."""
    stage.script("echo y > a.py", stage.dialect.says(*stage.dialect.done()), "sleep 600")
    _, done = stage.run(model=ModelSpec(stage.dialect.model, timeout_s=1.5))
    assert done.content == "ok"
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("a.py",)
    assert f"{stage.dialect.name} had finished but did not end, so it was ended" in done.notes


def test_a_finished_agent_is_not_waited_for_until_its_deadline(make: Make) -> None:
    stage = make("claude")
    stage.script("echo y > a.py", stage.dialect.says(*stage.dialect.done()), "sleep 600")
    _, done = drain(impatient(stage).complete(stage.request()))
    assert done.content == "ok"


def impatient(stage: Stage) -> AgentBackend:
    """One that waits for a quarter of a second, where Aethr waits for ``SETTLE_S``."""
    return AgentBackend(AGENTS[stage.dialect.name], os.environ, 0.25)


@pytest.mark.slow
def test_claude_has_not_finished_while_a_sub_agent_works(make: Make) -> None:
    stage = make("claude")
    tasks = [
        {"type": "system", "subtype": "background_tasks_changed", "tasks": [{"task_type": kind}]}
        for kind in ("local_agent", "local_bash")
    ]
    stage.script(stage.dialect.says(tasks[0], *stage.dialect.done()), "sleep 600")
    late = ModelSpec(stage.dialect.model, timeout_s=1.5)
    assert "no end after 1.5 s" in str(stage.fails(model=late))
    stage.script(stage.dialect.says(*tasks, *stage.dialect.done()), "sleep 600")
    _, done = stage.run(model=late)
    assert done.content == "ok"


def test_a_refused_permission_is_named_and_costs_the_work_only_if_the_agent_stops(stage: Stage) -> None:
    say = stage.dialect
    stage.script("echo half > a.py", say.says(*say.text("I try."), *say.refused("bash")))
    if say.goes_on:
        _, done = stage.run()
        assert done.content == "I try."
        assert done.notes == ("permission refused: bash: x; `allow` in the step permits commands",)
        return
    error = stage.fails()
    assert "permission refused: bash: x" in str(error)
    assert "`allow`" in error.fix
    assert "`unsafe_permissions: true`" in error.fix
    assert error.changed_files == ("a.py",)
    assert str(error).endswith("; files changed before it failed: a.py")
    assert error.exit_code == ExitCode.WORLD


def test_what_codex_refuses_is_only_in_its_log(make: Make) -> None:
    stage = make("codex")
    head = "2026-11-30T03:08:00Z ERROR codex_core::tools::router: error="
    log = (
        'exec_command failed: CreateProcess { message: "Rejected(\\"`bash -lc \'rm x\'` rejected: no\\")" }',
        "patch rejected: writing outside of the project; rejected by user approval settings",
        "unsupported call: x",
    )
    said = "".join(f"echo {shlex.quote(head + line)} >&2\n" for line in log)
    stage.script("echo y > a.py", said, stage.dialect.says(*stage.dialect.done()))
    _, done = stage.run()
    assert done.notes == (
        "permission refused: `bash -lc 'rm x'` rejected: no, patch rejected: writing outside of the "
        "project; rejected by user approval settings; `allow` in the step permits commands",
    )


def test_allowed_commands_reach_the_agents_own_rules(make: Make) -> None:
    say = {name: make(name) for name in DIALECTS}
    told: dict[str, str] = {}
    home = Path(os.environ["HOME"], ".codex")
    (home / "rules").mkdir(parents=True)
    (home / "auth.json").write_text("the login")
    (home / "rules" / "own.rules").write_text("# mine\n")
    for name, stage in say.items():
        stage.script(
            'echo "$*" > "$0.argv"; env -0 > "$0.env"; cat "$CODEX_HOME"/* "$CODEX_HOME"/rules/* > "$0.home"',
            stage.dialect.says(*stage.dialect.done()),
        )
        stage.run(allow=("npm test", "pytest"))
        told[name] = "".join(stage.said(f"{name}.{kind}") for kind in ("argv", "env", "home"))
    rules = json.dumps(
        {"allow": [f"Bash({rule})" for rule in ("npm test", "npm test *", "pytest", "pytest *")]}
    )
    assert rules in told["claude"]
    assert '"bas?": {"npm test": "allow", "npm test *": "allow"' in told["opencode"]
    assert 'prefix_rule(pattern=["npm", "test"], decision="allow")' in told["codex"]
    assert "the login" in told["codex"]
    assert "# mine" in told["codex"]
    assert sorted(path.name for path in (home / "rules").iterdir()) == ["own.rules"]


def test_claude_refuses_to_skip_checks_for_root_before_the_run(make: Make) -> None:
    stage = make("claude")
    stage.script("exit 9")
    ask = [stage.request("", unsafe_permissions=True)]
    if os.geteuid() != 0:
        stage.backend().preflight(ask)
        return
    with pytest.raises(AgentError, match="claude does not skip its permission checks for root") as caught:
        stage.backend().preflight(ask)
    assert "IS_SANDBOX=1" in caught.value.fix
    with pytest.raises(AgentError):  # only this value counts for it
        stage.backend(IS_SANDBOX="true").preflight(ask)
    stage.backend(IS_SANDBOX="1").preflight(ask)


def retry(name: str, status: int) -> dict[str, object]:
    """How an agent says that it will repeat a call."""
    if name == "claude":
        return {"type": "system", "subtype": "api_retry", "error_status": status, "error": "it failed"}
    words = f"Reconnecting... 1/5 (unexpected status {status} it failed, url: http://h)"
    return {"type": "error", "message": words}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_refused_key_ends_the_step_at_once(make: Make, name: str, status: int) -> None:
    stage = make(name)
    stage.script("echo half > a.py", stage.dialect.says(retry(name, status)), "sleep 600")
    key = {"claude": "ANTHROPIC_API_KEY", "codex": "OPENAI_API_KEY"}[name]
    with pytest.raises(AgentError) as caught:
        drain(stage.backend(**{key: "sk-wrong"}).complete(stage.request()))
    assert f"{status}" in str(caught.value)
    assert "Check the key" in caught.value.fix
    assert caught.value.changed_files == ("a.py",)


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_login_may_be_renewed_once(make: Make, name: str) -> None:
    stage = make(name)
    say = stage.dialect
    stage.script("echo y > a.py", say.says(retry(name, 401), *say.done()))
    _, done = stage.run()
    assert done.content == "ok"
    stage.script(say.says(retry(name, 401), retry(name, 401)), "sleep 600")
    assert "401" in str(stage.fails())


def test_silence_after_a_refused_login_ends_the_step(make: Make) -> None:
    stage = make("claude")
    stage.script(stage.dialect.says(retry("claude", 401)), "sleep 600")
    with pytest.raises(AgentError, match=r"\(HTTP 401\)"):
        drain(impatient(stage).complete(stage.request()))


def test_answers_that_are_cut_again_and_again_end_the_step(make: Make) -> None:
    """OpenCode would ask until the deadline."""
    stage = make("opencode")
    cut = {
        "type": "step_finish",
        "part": {"reason": "unknown", "tokens": {"input": 0, "output": 0}, "cost": 0},
    }
    say = stage.dialect
    stage.script(say.says(*say.text("I"), cut, *say.text("I"), cut, *say.text("I"), cut), "sleep 600")
    assert "the server ended 3 answers in a row before their end" in str(stage.fails())
    stage.script(say.says(cut, cut, *say.bash("ls"), cut, cut, *say.call(100, 20), cut, *say.done()))
    _, done = stage.run()
    assert done.usage == Usage()  # what was cut may be paid for


@pytest.mark.slow
@pytest.mark.parametrize("name", ["claude", "codex"])
def test_the_deadline_quotes_the_last_error(make: Make, name: str) -> None:
    stage = make(name)
    stage.script(stage.dialect.says(retry(name, 529)), "sleep 600")
    error = stage.fails(model=ModelSpec(stage.dialect.model, timeout_s=1.5))
    assert "no end after 1.5 s; its last error: " in str(error)
    assert "529" in str(error)


def test_only_the_words_of_the_main_agent_are_the_answer(make: Make) -> None:
    stage = make("claude")
    say = stage.dialect
    (sub,) = say.text("I am a sub-agent.")
    (own,) = say.text("API Error")
    (tool,) = say.bash("ls")
    message = {"content": [{"type": "text", "text": "API Error"}], "model": "<synthetic>"}
    stage.script(
        say.says(
            {**sub, "parent_tool_use_id": "toolu_1"},
            {**tool, "parent_tool_use_id": "toolu_1"},
            {**own, "message": message},
            *say.done(),
        )
    )
    seen, done = stage.run()
    assert seen == [Notice("bash: ls", "tool"), TextDelta("ok")]
    assert done.content == "ok"


def test_an_empty_answer_that_changes_nothing_is_an_error(stage: Stage) -> None:
    say = stage.dialect
    stage.script(say.says(*say.text(" \n"), *say.finish()))
    assert str(stage.fails()).endswith("the answer is empty, and nothing has changed")
    stage.script("echo y > a.py", say.says(*say.finish()))
    _, done = stage.run()
    assert done.content == ""


def test_the_fix_of_an_unknown_model_and_a_raw_error_is_readable(make: Make) -> None:
    stage = make("claude")
    said = "There's an issue with the selected model (x). It may not exist. Run --model to pick another one."
    stage.script(stage.dialect.says(*stage.dialect.error(said)), "exit 1")
    error = stage.fails()
    assert str(error).endswith("It may not exist.")
    assert error.fix.startswith("Correct the model's name")
    stage = make("codex")
    raw = json.dumps({"type": "error", "error": {"message": "no such parameter"}, "status": 400})
    twice = {"type": "error", "message": raw}
    stage.script(stage.dialect.says(twice, *stage.dialect.error(raw)), "exit 1")
    assert str(stage.fails()).endswith("(openai:gpt-5): no such parameter")


# --- what it costs ---


def test_figures_that_count_everything_so_far_are_not_added_up(make: Make) -> None:
    stage = make("claude")
    say = stage.dialect
    more = {**CLAUDE_USED, "inputTokens": 250}
    haiku = {"inputTokens": 7, "outputTokens": 3, "costBasis": "list"}
    stage.script(
        say.says(
            *say.call(100, 20),
            *claude_result(),
            *say.call(100, 1),
            *claude_result(modelUsage={"s": more, "h": haiku}, total_cost_usd=0.75),
            *say.text("ok"),
        ),
        say.says(*claude_result(modelUsage={"s": more, "h": haiku}, total_cost_usd=0.75)),
    )
    _, done = stage.run()
    assert done.usage == Usage(307, 43, 350, 0.75)
    stage = make("codex")
    stage.script(stage.dialect.says(*stage.dialect.done(), *stage.dialect.finish()))
    _, done = stage.run()
    assert done.usage == Usage(200, 40, 240, None)


def test_an_older_claude_counts_each_turn(make: Make) -> None:
    stage = make("claude")
    turns = (claude_result(modelUsage=None), claude_result(modelUsage=None, total_cost_usd=0.75))
    stage.script(stage.dialect.says(*stage.dialect.text("ok"), *turns[0], *turns[1]))
    _, done = stage.run()
    assert done.usage == Usage(200, 40, 240, 0.75)


def test_a_guessed_price_is_unknown(make: Make) -> None:
    stage = make("claude")
    guessed = {"mine": {**CLAUDE_USED, "costBasis": "unknown"}, "other": CLAUDE_USED}
    stage.script(stage.dialect.says(*stage.dialect.text("ok"), *claude_result(modelUsage=guessed)))
    _, done = stage.run()
    assert done.usage == Usage(400, 80, 480, None)


TASK = {"type": "tool_use", "part": {"tool": "task", "state": {"status": "completed", "input": {}}}}


def test_sub_agents_of_opencode_count(make: Make, tmp_path: Path) -> None:
    """Their calls are in no event, only in its database."""
    stage = make("opencode")
    say = stage.dialect
    data = {"role": "assistant", "tokens": {"input": 30, "output": 3, "cache": {"read": 10}}, "cost": 0.125}
    with sqlite3.connect(tmp_path / "some.db") as made:
        made.execute("CREATE TABLE session (id, parent_id)")
        made.execute("CREATE TABLE message (session_id, data)")
        made.execute("INSERT INTO session VALUES ('main', NULL), ('sub', 'main')")
        rows = [("main", data), ("sub", data), ("sub", {"role": "user"}), ("sub", data)]
        made.executemany("INSERT INTO message VALUES (?, ?)", [(of, json.dumps(each)) for of, each in rows])
    made.close()
    stage.script(f'cp {shlex.quote(str(tmp_path))}/some.db "$OPENCODE_DB"', say.says(TASK, *say.done()))
    _, done = stage.run()
    assert done.usage == Usage(180, 26, 206, 0.5)
    with pytest.raises(BudgetError, match="was stopped after 86 tokens, 80 were left"):
        stage.run(allowance=Allowance(tokens=80))
    stage.script('echo x > "$OPENCODE_DB"', say.says(TASK, *say.done()))
    _, done = stage.run()
    assert done.usage == Usage()


def test_sub_agents_of_codex_are_unknown(make: Make) -> None:
    stage = make("codex")
    item = {"type": "item.completed", "item": {"type": "collab_tool_call", "tool": "spawn_agent"}}
    stage.script(stage.dialect.says(item, *stage.dialect.done()))
    _, done = stage.run()
    assert done.usage == Usage()


@pytest.mark.parametrize("name", ["claude", "opencode"])
def test_an_agent_is_stopped_when_it_passes_the_tokens(make: Make, name: str) -> None:
    stage = make(name)
    say = stage.dialect
    stage.script("echo half > a.py", say.says(*say.call(90, 9), *say.call(80, 8)), "sleep 600")
    call = stage.backend().complete(stage.request(allowance=Allowance(tokens=100)))
    seen: list[object] = []
    with pytest.raises(BudgetError) as caught:
        seen.extend(call)
    assert "was stopped after 187 tokens, 100 were left" in str(caught.value)
    assert caught.value.changed_files == ("a.py",)
    (spent,) = [event.usage for event in seen if isinstance(event, Spent)]
    assert spent.total_tokens == 187
    assert isinstance(seen[0], AttemptStarted)


def test_an_agent_is_stopped_when_it_passes_the_cost(make: Make) -> None:
    """Aethr stops OpenCode, which reports each call; Claude Code knows its limit, and stops itself."""
    stage = make("opencode")
    stage.script(stage.dialect.says(*stage.dialect.call(100, 20)), "sleep 600")
    with pytest.raises(BudgetError, match=r"was stopped after \$0\.2500, \$0\.1000 were left"):
        stage.run(allowance=Allowance(cost_usd=0.1))
    stage = make("claude")
    out = claude_result(
        subtype="error_max_budget_usd", is_error=True, errors=["Reached maximum budget ($0.1)"]
    )
    stage.script('echo "$*" > "$0.argv"', stage.dialect.says(*out), "exit 1")
    with pytest.raises(BudgetError, match=r"was stopped: Reached maximum budget \(\$0\.1\)") as caught:
        stage.run(allowance=Allowance(cost_usd=0.1))
    assert caught.value.fix == "Raise --max-cost."
    assert "--max-budget-usd 0.100000 " in stage.said("claude.argv")
    stage = make("codex")
    stage.script('touch "$0.started"')
    with pytest.raises(BudgetError, match=r"codex .* does not report its cost"):
        stage.run(allowance=Allowance(cost_usd=0.1))
    assert not (stage.bin / "codex.started").exists()


def test_a_step_that_finished_over_the_budget_is_kept(stage: Stage) -> None:
    stage.script("echo y > a.py", stage.dialect.says(*stage.dialect.done()))
    _, done = stage.run(allowance=Allowance(tokens=110))
    assert done.usage.total_tokens is not None
    assert done.usage.total_tokens > 110
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ("a.py",)


def test_the_last_call_of_claude_may_exceed_the_limit(make: Make) -> None:
    """It calls that an error, with exit code 1, though the step is done."""
    stage = make("claude")
    say = stage.dialect
    over = claude_result(
        subtype="error_max_budget_usd",
        is_error=True,
        stop_reason="end_turn",
        errors=["Reached maximum budget"],
    )
    (last,) = say.text("ok")
    used = {"id": "m", "usage": {"input_tokens": 900, "output_tokens": 9}}
    message = {**last, "message": {"content": [{"type": "text", "text": "ok"}], **used}}
    stage.script("echo y > a.py", say.says(message, *over), "exit 1")
    _, done = stage.run(allowance=Allowance(cost_usd=0.1, tokens=100))
    assert done.content == "ok"
    assert done.usage == Usage(200, 40, 240, 0.5)


# --- what it leaves ---


def test_sessions_are_kept_in_a_folder_that_is_removed(make: Make) -> None:
    kept = {"opencode": "OPENCODE_DB", "claude": "CLAUDE_CODE_TMPDIR"}
    for name, variable in kept.items():
        stage = make(name)
        stage.script(
            f'echo "${variable}" > "$0.place"; echo y > a.py', stage.dialect.says(*stage.dialect.done())
        )
        stage.run()
        place = Path(stage.said(f"{name}.place").strip())
        assert place.is_absolute()
        assert not place.exists()
        assert not place.parent.exists() or name == "claude"
    switches = {"claude": "--no-session-persistence", "codex": "--ephemeral"}
    for name, switch in switches.items():
        stage = make(name)
        stage.script('echo " $* " > "$0.argv"; echo y > a.py', stage.dialect.says(*stage.dialect.done()))
        stage.run()
        assert f" {switch} " in stage.said(f"{name}.argv")


def test_the_session_of_claude_is_removed_whatever_it_keeps(make: Make) -> None:
    stage = make("claude")
    projects = Path(os.environ["HOME"], ".claude", "projects")
    (projects / "x" / "other").mkdir(parents=True)
    stage.script(
        'while [ "$1" != --session-id ]; do shift; done',
        f'mkdir -p {shlex.quote(str(projects))}/x/"$2"/subagents; echo "$2" > "$0.session"',
        stage.dialect.says(*stage.dialect.done()),
    )
    stage.run()
    assert len(stage.said("claude.session").strip()) == 36
    assert [path.name for path in (projects / "x").iterdir()] == ["other"]


def test_empty_folders_of_codexs_sandbox_are_removed_and_nothing_else(make: Make, tmp_path: Path) -> None:
    stage = make("codex")
    (tmp_path / "temporary" / ".aws").mkdir(parents=True)
    names = " ".join(
        shlex.quote(f"{tmp_path}/temporary/{name}") for name in (".git", ".agents", ".aws", ".codex")
    )
    stage.script(
        f"mkdir -p {names} .codex .agents; touch .agents/x; echo y > a.py",
        stage.dialect.says(*stage.dialect.done()),
    )
    drain(stage.backend(TMPDIR=str(tmp_path / "temporary")).complete(stage.request()))
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == [".aws"]
    assert not (stage.repo.root / ".codex").exists()
    assert (stage.repo.root / ".agents" / "x").exists()


INSERTED = '{\n  "$schema": "https://opencode.ai/config.json",'


@pytest.mark.parametrize(
    "content",
    ['{"share":"disabled"}\n', ' \n{ // mine\n  "share": "manual",\n}', "\ufeff{}", "{}"],
)
def test_settings_of_the_user_stay_as_they_were(make: Make, content: str, tmp_path: Path) -> None:
    """OpenCode adds a line to each file that lacks it, here as the real one does."""
    stage = make("opencode")
    folder = Path(os.environ["HOME"], ".config", "opencode")
    folder.mkdir(parents=True)
    real = tmp_path / "dotfiles.json"
    (folder / "opencode.json").symlink_to(real)
    named = stage.repo.root / "named.json"
    for file in (real, folder / "opencode.jsonc", named):
        file.write_text(content, encoding="utf-8")
    edited = INSERTED + content.partition("{")[2]
    paths = " ".join(shlex.quote(str(path)) for path in (real, folder / "opencode.jsonc", named))
    stage.script(
        f"for file in {paths}; do printf '%s' {shlex.quote(edited)} > \"$file\"; done",
        stage.dialect.says(*stage.dialect.done()),
    )
    _, done = drain(stage.backend(OPENCODE_CONFIG="named.json").complete(stage.request()))
    for file in (real, folder / "opencode.jsonc", named):
        assert file.read_text(encoding="utf-8") == content
    assert (folder / "opencode.json").is_symlink()
    assert done.artifacts is not None
    assert done.artifacts.changed_files == ()


def test_settings_that_are_edited_meanwhile_keep_the_edit(make: Make) -> None:
    stage = make("opencode")
    file = Path(os.environ["HOME"], ".config", "opencode", "opencode.json")
    file.parent.mkdir(parents=True)
    file.write_text('{"share": "auto"}')
    after = INSERTED + '"share": "manual"}'
    stage.script(
        f"printf '%s' {shlex.quote(after)} > {shlex.quote(str(file))}",
        stage.dialect.says(*stage.dialect.done()),
    )
    stage.run()
    assert file.read_text() == '{"share": "manual"}'
    file.write_text(after)
    stage.run()
    assert file.read_text() == after  # it was the user's own
