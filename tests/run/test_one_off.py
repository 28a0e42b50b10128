"""``--step``, ``--context`` and ``--save``: from a one-off run to the workflow file of a project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aethr.base.options import build, command_line
from aethr.cli import build_parser
from aethr.config import PRESETS
from aethr.config.schema import MODELINE
from tests.screen import on_terminal
from tests.support import Repo, aethr, prompts

TASK = "review my changes: a # \"task\" of 'mine'"

EVERYTHING = """\
# Ours: äöü, "quotes" and # marks.
workflow: "every: thing #1"
roles:
  planner: |
    Plan in steps:
      1. think
      2. say "yes: no" # not a comment

    日本語も。
  "the: doer #2": "tab\\there, NBSP\\u00a0there, a bidi\\u202emark, and a quote: \\""
  reviewer: >
    Fold this,
    and keep the end.
  unused: nobody plays it
models:
  planner: {model: "openai:gpt-5", temperature: 0.1, seed: -7, max_tokens: 900, timeout_s: 0.5}
  reviewer: openai/gpt-5-mini
  unused: {model: "xai:grok", temperature: 0.00001}
steps:
  # What comes first.
  - id: plan # beside
    role: planner
    context: ["glob:**/*.md", git_diff, "command:echo 'a # b'"]
    limits: {context_chars: 5000}
  - id: do
    role: "the: doer #2"
    backend: opencode
    unsafe_permissions: true
    history_visibility: latest
  - id: review.2
    role: reviewer
    history_visibility: summary
    context: [latest_diff, file:README.md]
    repeat: {back_to: do, until_contains: "it: \\"is\\" # done\\n", max_iterations: 2}
  - id: last_word
    role: planner
    history_visibility: none
    repeat: {back_to: last_word, until_command_passes: "true", max_iterations: 4, until_review_pass: true}
limits: {context_chars: 90000}
"""


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write("app.py", "def total(prices):\n    return sum(prices)\n")
    repo.write("README.md", "# A shop\n")
    repo.commit("start")
    repo.write("app.py", "def total(prices):\n    return sum(prices) + 1\n")
    repo.write("notes.txt", "untracked\n")
    return repo


def hashes(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [step["prompt_sha256"] for step in json.loads(done.stdout)["steps"]]


WAYS = [
    *([f"--preset={preset}"] for preset in PRESETS),
    ["--preset=docs-sync", "--context=git_diff", "--context=file:README.md", "--context=glob:*.txt"],
    ["--preset=custom", "--diff=head", "--context=git_diff"],
    ["--step=writer: Draft it:\n  - short # really\n", "--step=reviewer:Check it.", "--context=git_diff"],
    ["--step=explainer:Explain the task."],
    ["--config=other.yaml"],
    ["--config=other.yaml", "--context=file:app.py"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_the_saved_file_gives_the_same_prompts(project: Repo, words: list[str]) -> None:
    project.write("other.yaml", EVERYTHING)
    project.git("add", "other.yaml")
    diff = [word for word in words if word.startswith("--diff")]
    shown = prompts(*words, TASK, cwd=project.root)
    ran = hashes(aethr("run", "--json", "--save", *words, TASK, cwd=project.root))
    assert prompts(*diff, TASK, cwd=project.root) == shown
    assert hashes(aethr("run", "--json", *diff, TASK, cwd=project.root)) == ran
    assert aethr("check", cwd=project.root).returncode == 0


def test_the_saved_file_looks_written_by_a_person(project: Repo) -> None:
    done = aethr(
        *("run", "--preset", "plan-implement-review", "--save", TASK),
        *(
            "--context",
            "git_diff",
            "--context",
            "glob:docs/**/*.md",
            "--model",
            "anthropic:claude-sonnet-4-5",
        ),
        cwd=project.root,
        env={"AETHR_LIVE": "0"},
    )
    assert (done.returncode, "Wrote " in done.stderr) == (0, True), done.stderr
    text = (project.root / ".aethr.yaml").read_text()
    assert text.startswith(
        f"{MODELINE}\n# Plan a task, let the OpenCode agent implement it, review exactly what it changed"
    )
    assert text.endswith(
        """
models:
  planner:
    model: anthropic:claude-sonnet-4-5
    max_tokens: 32000
  implementer: anthropic:claude-sonnet-4-5
  reviewer:
    model: anthropic:claude-sonnet-4-5
    max_tokens: 32000

steps:
  - id: plan
    role: planner
    context:
      - git_diff
      - glob:docs/**/*.md
  - id: implement
    role: implementer
    backend: opencode
  - id: review
    role: reviewer
    context:
      - latest_diff
    repeat:
      back_to: implement
      max_iterations: 3
      until_review_pass: true
"""
    )


def test_a_role_keeps_its_settings_with_another_model(project: Repo) -> None:
    env = {"AETHR_LIVE": "0", "AETHR_MODEL": "xai:grok"}
    assert aethr("run", "--preset=custom", "--save", TASK, cwd=project.root, env=env).returncode == 0
    text = (project.root / ".aethr.yaml").read_text()
    assert "\n  reviewer:\n    model: xai:grok\n    max_tokens: 32000\n    timeout_s: 300.0\n" in text


@pytest.mark.parametrize("place", ["file", "folder", "link"])
def test_save_never_overwrites_a_file(project: Repo, place: str) -> None:
    file = project.root / ".aethr.yaml"
    if place == "file":
        file.write_text("mine\n")
    elif place == "folder":
        file.mkdir()
    else:
        file.symlink_to(project.root / "nowhere")
    done = aethr("run", "--preset", "custom", "--save", TASK, cwd=project.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert "already exists" in done.stderr
    assert not (project.root / "nowhere").exists()
    assert place != "file" or file.read_text() == "mine\n"


def test_save_writes_to_the_root_of_the_project(project: Repo) -> None:
    below = project.root / "src"
    below.mkdir()
    assert aethr("run", "--preset", "custom", "--save", TASK, cwd=below).returncode == 0
    assert (project.root / ".aethr.yaml").exists()
    project.write(
        "sub/flow.yaml", "workflow: w\nroles: {a: b}\nsteps: [{id: s, role: a, context: [file:x]}]\n"
    )
    done = aethr("run", "--config", "sub/flow.yaml", "--save", TASK, cwd=project.root)
    assert done.returncode == 0, done.stderr
    assert "context:\n      - file:x\n" in (project.root / "sub" / ".aethr.yaml").read_text()


def test_an_unreviewed_run_saves_nothing(project: Repo) -> None:
    done = aethr("run", "--preset=review-existing-diff", "--require-review", "--save", TASK, cwd=project.root)
    assert (done.returncode, "was not written, because of exit code 4" in done.stderr) == (4, True)
    assert sorted(path.name for path in project.root.glob(".aethr*")) == []


def test_save_does_not_write_a_key(project: Repo) -> None:
    env = {"OPENAI_API_KEY": "sk-test-0123456789"}
    words = ("run", "--step", "helper:Use sk-test-0123456789.", "--save", TASK)
    done = aethr(*words, cwd=project.root, env=env)
    assert (done.returncode, "sk-test" in done.stdout + done.stderr) == (2, False)
    assert "holds the value of a key" in done.stderr


def test_save_keeps_a_file_created_during_the_run(project: Repo, tmp_path: Path) -> None:
    """The editor for the task creates it, after all checks of the options."""
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys\n"
        "pathlib.Path('.aethr.yaml').write_text('theirs')\n"
        "pathlib.Path(sys.argv[1]).write_text('look')\n"
    )
    pytest.importorskip("pty")
    words = ("run", "--preset", "custom", "--save")
    code, shown = on_terminal(words, project.root, {"EDITOR": f"{sys.executable} {editor}"})
    assert code == 3, shown
    assert (project.root / ".aethr.yaml").read_text() == "theirs"
    [kept] = project.root.glob(".aethr.yaml.*")
    assert "workflow: custom" in kept.read_text()
    assert str(kept) in shown


def test_the_resume_command_repeats_every_option() -> None:
    options = build({"step": ["-a:x y", "b:#"], "context": ["file:-"], "save": True, "replies": "-r.yaml"})
    words = command_line(options)
    given = vars(build_parser().parse_args(["run", *words]))
    del given["function"]
    assert build(given) == options


# --- --step and --context ----------------------------------------------------------------------


def test_context_replaces_only_that_of_steps_with_git_diff(project: Repo) -> None:
    words = ("run", "--preset=debug-failing-test", "--context=file:README.md", "--json", TASK)
    steps = json.loads(aethr(*words, cwd=project.root).stdout)["steps"]
    sources = [list(dict.fromkeys(each["source"] for each in step["context"])) for step in steps]
    assert sources[0] == ["file:README.md"]
    assert sources[1] == ["command:pytest -x -q"]
    assert sources[2][0] == "latest_diff"


def test_a_step_sees_only_the_named_context(project: Repo) -> None:
    done = aethr("run", "--step", "explainer:Explain.", "--json", TASK, cwd=project.root)
    (step,) = json.loads(done.stdout)["steps"]
    assert (step["id"], step["role"], step["context"]) == ("explainer", "explainer", [])


def test_a_step_named_reviewer_gives_the_verdict(project: Repo) -> None:
    words = ("run", "--step", "reviewer:Be strict.", "--context", "git_diff", "--fail-on", "high", TASK)
    done = aethr(*words, cwd=project.root)
    assert (done.returncode, "Review status: pass" in done.stdout) == (4, True)
    done = aethr("run", "--step", "writer:Write.", "--fail-on", "high", TASK, cwd=project.root)
    assert (done.returncode, "no step reviews" in done.stderr) == (4, True)


def test_the_environment_has_one_step_per_line(project: Repo) -> None:
    env = {"AETHR_RUN_STEP": "a:First.\nb:Second.", "AETHR_RUN_CONTEXT": "git_diff\nfile:README.md"}
    steps = json.loads(aethr("run", "--json", TASK, cwd=project.root, env=env).stdout)["steps"]
    assert [step["id"] for step in steps] == ["a", "b"]
    assert {each["source"] for each in steps[1]["context"]} == {"git_diff", "file:README.md"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "reviewer"], "--step 'reviewer': not ROLE:TEXT"),
        (["--step", "reviewer: "], "--step 'reviewer: ': not ROLE:TEXT"),
        (["--step", "two words:Go."], "the step id 'two words' is not 1 to 64 of the characters"),
        (
            ["--step", "a:Go\x1b[31m."],
            r"--step 'a:Go\x1b[31m.': the text contains the control character \x1b",
        ),
        (["--step", "a:One.", "--step", "a:Two."], "--step: two steps have the same role"),
        (["--step", "a:One.", "--preset", "custom"], "--preset and --step exclude each other"),
        (["--preset", "custom", "--context", "git_dif"], "'git_dif' (did you mean 'git_diff'?)"),
        (["--preset", "custom", "--context", "file"], "the context source 'file' needs an argument"),
        (["--step", "a:One.", "--context", "nowhere:x"], "unknown context source 'nowhere'"),
        (["--config", "no-diff.yaml", "--context", "file:x"], "no step of no-diff.yaml reads git_diff"),
        (["--preset", "custom", "--save", "--show-prompt"], "--save and --show-prompt exclude each other"),
    ],
)
def test_a_wrong_step_option_is_one_line_and_exit_2(project: Repo, words: list[str], said: str) -> None:
    project.write("no-diff.yaml", "workflow: w\nroles: {a: b}\nsteps: [{id: s, role: a}]\n")
    done = aethr("run", *words, TASK, cwd=project.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2


def test_a_live_step_without_a_model_is_shown(project: Repo) -> None:
    words = ("run", "--step", "a:One.", "--step", "b:Two.", TASK)
    done = aethr(*words, cwd=project.root, env={"AETHR_LIVE": "1"})
    assert done.returncode == 2
    assert "--step:2:1: the role 'b' has no model" in done.stderr
    assert "\n    b:Two.\n" in done.stderr


def test_the_hook_saves_nothing(project: Repo) -> None:
    project.git("add", "app.py")
    env = {"AETHR_RUN_SAVE": "1", "AETHR_RUN_STEP": "a:One.", "AETHR_RUN_CONTEXT": "file:README.md"}
    done = aethr("hook", cwd=project.root, env=env)
    assert (done.returncode, "mock mode" in done.stdout) == (4, True)
    assert not (project.root / ".aethr.yaml").exists()
