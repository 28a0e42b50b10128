"""The command line without a model: help, init, check, schema, auth, mock runs, prompts, mistakes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import jsonschema
import pytest
import yaml

from aethr import __version__, cli
from aethr.base.options import OPTIONS
from aethr.config import PRESETS
from aethr.config import schema as config_schema
from aethr.engine import checkpoint
from aethr.output.report import FORMATS
from tests.model_server import ModelServer
from tests.support import Repo, aethr, prompts, without_gutter

TASK = "review my current changes before I commit"
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.fixture
def project(repo: Repo) -> Repo:
    """A repository with one committed file and one unstaged change."""
    repo.write("app.py", "def total(prices):\n    return sum(prices)\n")
    repo.commit("start")
    repo.write("app.py", "def total(prices):\n    return sum(prices) + 1\n")
    return repo


def record(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    return json.loads(done.stdout)


@pytest.mark.parametrize("dotenv", [None, "AETHR_LIVE=0\n", "export AETHR_LIVE=0 # later\nXAI_API_KEY=x"])
def test_after_a_live_login_the_next_run_is_real(project: Repo, dotenv: str | None) -> None:
    project.write(".gitignore", ".env\n")
    if dotenv is not None:
        project.write(".env", dotenv)
    words = ("auth", "login", "openai", "--key-stdin")
    done = aethr(*words, "--live", cwd=project.root, stdin="sk-0123456789\n")
    assert (done.returncode, "Runs of this project call models from now on" in done.stdout) == (0, True)
    assert 'aethr run --preset review-existing-diff "review my changes"' in done.stdout
    with ModelServer(["Review status: pass"]) as server:
        base = {"OPENAI_BASE_URL": server.base_url}
        run = aethr("run", "--preset", "review-existing-diff", TASK, cwd=project.root, env=base)
    assert (run.returncode, len(server.bodies)) == (0, 1), run.stderr


def test_a_login_without_a_terminal_leaves_the_mode_as_it_is(project: Repo) -> None:
    for words in ([], ["--no-live"]):
        for before in ("AETHR_LIVE=1\n", "AETHR_LIVE=0\n", ""):
            project.write(".env", before)
            done = aethr(
                "auth", "login", "openai", "--key-stdin", *words, cwd=project.root, stdin="sk-0123456789\n"
            )
            assert done.returncode == 0, done.stderr
            assert (project.root / ".env").read_text() == f"{before}OPENAI_API_KEY='sk-0123456789'\n"


def test_a_login_says_if_the_environment_keeps_the_project_a_mock(project: Repo) -> None:
    words = ("auth", "login", "openai", "--key-stdin", "--live")
    done = aethr(*words, cwd=project.root, stdin="sk-0123456789\n", env={"AETHR_LIVE": "0"})
    assert "warning: AETHR_LIVE in the environment wins over .env: unset it\n" in done.stderr


# --- first contact -----------------------------------------------------------------------------


def test_without_arguments_the_three_first_steps_are_shown(tmp_path: Path) -> None:
    done = aethr(cwd=tmp_path)
    assert done.returncode == 0
    steps = re.findall(r"^  (\d)\. aethr (\w+)", done.stdout, re.MULTILINE)
    assert steps == [("1", "init"), ("2", "run"), ("3", "auth")]


def test_a_run_without_a_workflow_offers_two_ways_on(project: Repo) -> None:
    done = aethr("run", "x", cwd=project.root)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "aethr: no .aethr.yaml in this project"
    assert "`aethr init`" in lines[1]
    offered = lines[2].strip()
    assert offered.startswith("aethr run --preset ")
    words = ["bash", "-c", offered.replace("aethr", f'"{sys.executable}" -m aethr', 1)]
    assert subprocess.run(words, cwd=project.root, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_version(tmp_path: Path, words: list[str]) -> None:
    assert aethr(*words, cwd=tmp_path).stdout == f"aethr {__version__}\n"


@pytest.mark.parametrize("command", [*cli.COMMANDS, *(f"auth {action}" for action in cli.AUTH_ACTIONS)])
def test_the_help_of_each_command_has_its_exit_codes_and_ends_with_an_example(
    tmp_path: Path, command: str
) -> None:
    done = aethr(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(rf"^usage: aethr {command}\b", done.stdout)
    assert re.search(r"^exit codes: 0 \w+", done.stdout, re.MULTILINE)
    last = done.stdout[done.stdout.rindex("\nexample") :]
    assert re.match(r"\nexamples?(?:, .*)?:\n", last)
    assert re.search(rf"^  aethr {command}|^ +- (?:id: aethr-|uses: aethr/)", last, re.MULTILINE)
    assert len(last.splitlines()) < 8, "nothing follows it"


def test_help_lists_every_option_of_run_and_every_format(tmp_path: Path) -> None:
    text = aethr("run", "--help", cwd=tmp_path).stdout
    assert [option.flag for option in OPTIONS if option.flag not in text] == []
    assert [suffix for suffix in FORMATS if f" {suffix}" not in text] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "no command 'rnu' (did you mean 'run'?)"),
        (["run", "--fial-on", "high", "x"], "no option '--fial-on' (did you mean '--fail-on'?)"),
        (["run", "two", "words"], "one argument too many: 'words'"),
        (
            ["run", "--fail-on", "hgh", "x"],
            "not one of never, revise, low, medium, high (did you mean 'high'?)",
        ),
        (["run", "--max-cost", "-1", "x"], "--max-cost -1: not a positive number"),
        (["run", "--max-cost", "nan", "x"], "--max-cost nan: not a positive number"),
        (["run", "--max-tokens", "many", "x"], "invalid int value: 'many'"),
        (["run", "--run-commands", "x"], "--run-commands goes with --show-prompt"),
        (["run", "--config", "a", "--preset", "b", "x"], "--config and --preset exclude each other"),
        (["run", "--preset", "reviw-existing-diff", "x"], "(did you mean 'review-existing-diff'?)"),
        (["run", "--report", "out.pdf", "x"], "no format '.pdf'"),
        (["run", "--report", "none/out.md", "x"], "not a file in a folder that exists"),
        (["run", "--preset", "custom", "--model", "gpt-4", "x"], "'gpt-4' is not provider:model"),
        (
            ["run", "--preset", "custom", "--model", "oobabooga/http://127.0.0.1:1/x", "x"],
            "has an address in it",
        ),
        (["run", "--diff", "nowhere...HEAD", "--preset", "custom", "x"], "nowhere"),
        (["run", "--preset", "custom", ""], "the task is empty"),
        (["run", "--preset", "custom", "--diff", "", "x"], "--diff: its value is empty"),
        (["run", "--preset", "custom", "--model=", "x"], "--model: its value is empty"),
        (["run", "--preset", "custom"], "no task given"),
        (["auth", "login", "opnai"], "no provider 'opnai' (did you mean 'openai'?)"),
        (["auth", "logn"], "no action 'logn' (did you mean 'login'?)"),
        (["-x"], "no option '-x'"),
        (["check", "--helpp"], "no option '--helpp' (did you mean '--help'?)"),
        (["init", "nothing-like-it"], "no preset 'nothing-like-it'"),
        (["init", "reveiw"], "no preset 'reveiw' (did you mean 'review-thorough'?)"),
        (
            ["run", "--resume-checkpoint", "app.py"],
            "--resume-checkpoint app.py: a file name needs an @ before it",
        ),
        (
            ["run", "--preset", "custom", "--checkpoint-dir", "app.py", "x"],
            "--checkpoint-dir app.py: no check",
        ),
        (["run", "--preset", "custom", "--checkpoint-dir", "app.py/x", "x"], "--checkpoint-dir app.py/x: no"),
    ],
)
def test_a_mistake_is_one_line_with_a_fix_and_exit_2(project: Repo, words: list[str], said: str) -> None:
    done = aethr(*words, cwd=project.root)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AETHR_LIVE", "true", "AETHR_LIVE=true: neither 1 nor 0"),
        ("AETHR_MODEL", "gpt-4", "AETHR_MODEL: 'gpt-4' is not provider:model"),
        ("AETHR_TRANSPORT", "fast", "AETHR_TRANSPORT=fast: not one of auto, direct, litellm"),
        ("AETHR_RUN_FAIL_ON", "hgh", "AETHR_RUN_FAIL_ON=hgh: not one of"),
        ("AETHR_RUN_JSON", "yes", "AETHR_RUN_JSON=yes: neither 1 nor 0"),
        ("AETHR_RUN_MAX_TOKENS", "many", "AETHR_RUN_MAX_TOKENS=many: not a number"),
        (
            "AETHR_RUN_FAILON",
            "high",
            "AETHR_RUN_FAILON: no option has this name (did you mean 'AETHR_RUN_FAIL_ON'?)",
        ),
        ("AETHR_RUN_XYZ", "1", "AETHR_RUN_XYZ: no option has this name\n"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    project: Repo, variable: str, value: str, said: str
) -> None:
    done = aethr("run", "--preset", "review-existing-diff", "x", cwd=project.root, env={variable: value})
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    env = {variable: f"{value}\n\x1b[31mowned"}
    again = aethr("run", "--preset", "review-existing-diff", "x", cwd=project.root, env=env)
    assert (again.returncode, len(again.stderr.splitlines()), "\x1b" in again.stderr) == (2, 2, False)


def test_the_hook_refuses_an_unknown_gate(project: Repo) -> None:
    done = aethr("hook", cwd=project.root, env={"AETHR_RUN_REQUIRE_REVIEWS": "1"})
    assert (done.returncode, "(did you mean 'AETHR_RUN_REQUIRE_REVIEW'?)" in done.stderr) == (2, True)
    empty = {"AETHR_RUN_FAILON": " ", "AETHR_RUN_IF_NOT_REVIEWED": "pass"}
    assert aethr("run", "--preset", "docs-sync", "x", cwd=project.root, env=empty).returncode == 0


def test_each_option_has_its_variable_and_the_command_line_wins(project: Repo) -> None:
    env = {"AETHR_RUN_PRESET": "docs-sync", "AETHR_RUN_JSON": "1", "AETHR_RUN_FAIL_ON": "high"}
    done = aethr("run", "x", cwd=project.root, env=env)
    assert (done.returncode, record(done)["workflow"]) == (4, "docs-sync")
    done = aethr("run", "--fail-on", "never", "--preset", "custom", "x", cwd=project.root, env=env)
    assert (done.returncode, record(done)["workflow"]) == (0, "custom")


def test_a_requested_checkpoint_stays_after_its_resume(project: Repo, tmp_path: Path) -> None:
    named, temporary = tmp_path / "named", tmp_path / "temporary"
    for folder in (named, temporary):
        folder.mkdir()
        words = ("run", "--preset", "docs-sync", "--checkpoint-dir", str(folder), "x")
        assert aethr(*words, cwd=project.root).returncode == 0
        [file] = folder.iterdir()
        words = ("run", "--preset", "docs-sync", "--resume-checkpoint", f"@{file}")
        done = aethr(*words, cwd=project.root, env={"TMPDIR": str(temporary)})
        assert (done.returncode, file.exists()) == (0, folder == named), done.stderr


# --- init, check, schema -----------------------------------------------------------------------


def test_init_lists_every_preset(tmp_path: Path) -> None:
    for words in (["init", "--list"], ["init"]):
        done = aethr(*words, cwd=tmp_path)
        assert [line.split()[0] for line in done.stdout.splitlines()] == list(PRESETS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_is_written_checked_and_run(project: Repo, preset: str) -> None:
    assert aethr("init", preset, cwd=project.root).returncode == 0
    check = aethr("check", cwd=project.root)
    assert (check.returncode, check.stderr) == (0, "")
    assert check.stdout.startswith(f".aethr.yaml: {preset}, ")
    done = aethr("run", "--json", TASK, cwd=project.root)
    assert done.returncode == 0, done.stderr
    assert (record(done)["workflow"], record(done)["mode"]) == (preset, "mock")
    assert record(done)["review"]["status"] == "none"
    assert all(loop["outcome"] == "satisfied" for loop in record(done)["loops"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_runs_with_several_providers(project: Repo, example: Path) -> None:
    project.write("example.yaml", example.read_text(encoding="utf-8"))
    done = aethr("run", "--config", "example.yaml", "--json", TASK, cwd=project.root)
    assert done.returncode == 0, done.stderr
    models = {step["model"] for step in record(done)["steps"]}
    assert len({model.split(":")[0] for model in models}) > 1


def test_init_does_not_overwrite_without_force(tmp_path: Path) -> None:
    file = tmp_path / ".aethr.yaml"
    file.write_text("mine\n")
    done = aethr("init", "custom", cwd=tmp_path)
    assert (done.returncode, file.read_text()) == (2, "mine\n")
    assert "--force" in done.stderr
    assert aethr("init", "custom", "--force", cwd=tmp_path).returncode == 0
    assert "workflow: custom" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [".aethr.yaml"]


def test_init_does_not_write_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / ".aethr.yaml").symlink_to(target)
    assert aethr("init", "custom", cwd=tmp_path).returncode == 2
    assert not target.exists()
    (tmp_path / ".aethr.yaml.part").symlink_to(target)
    assert aethr("init", "custom", "--force", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".aethr.yaml", ".aethr.yaml.part"]
    assert not (tmp_path / ".aethr.yaml").is_symlink()
    assert not target.exists()


def test_init_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / ".aethr.yaml").mkdir()
    for words in (["init", "custom"], ["init", "custom", "--force"]):
        done = aethr(*words, cwd=tmp_path)
        assert (done.returncode, done.stderr.splitlines()[0]) == (2, "aethr: .aethr.yaml is a folder")


def test_all_mistakes_of_a_file_are_shown_together(project: Repo) -> None:
    project.write(
        ".aethr.yaml",
        "workflow: w\nroles: {reviewer: r}\nstpes: []\nsteps:\n"
        "  - id: a\n    role: reviewr\n    context: [git_dif]\n",
    )
    for words in (["check"], ["run", "x"]):
        done = aethr(*words, cwd=project.root)
        assert done.returncode == 2
        places = re.findall(r"^\.aethr\.yaml:(\d+:\d+): ", done.stderr, re.MULTILINE)
        assert places == ["3:1", "6:11", "7:15"]
        assert done.stderr.count("did you mean") == 3


def test_check_reports_the_mistakes_of_several_files(project: Repo) -> None:
    project.write("good.yaml", "workflow: w\nroles: {a: b}\nsteps: [{id: x, role: a}]\n")
    project.write("bad.yaml", "workflow: w\n")
    done = aethr("check", "good.yaml", "bad.yaml", cwd=project.root)
    assert done.returncode == 2
    assert "good.yaml: w, 1 step" in done.stdout
    assert "bad.yaml:" in done.stderr


def test_check_counts_the_calls_of_every_pass(project: Repo) -> None:
    aethr("init", "plan-implement-review", cwd=project.root)
    text = aethr("check", cwd=project.root).stdout
    # One plan, three times implement, three reviews of a change that may need 16 parts, each of which may be
    # asked for its verdict once more; each of these 97 calls may be tried three times.
    assert re.search(
        r"; at most 291 calls, \$[\d.]+, and 3 agent runs, if each change needs 16 parts \(", text
    )
    assert "openai:gpt-5.4-mini: 2 calls" in text
    assert "openai:gpt-5.4-mini: 291 calls" in text
    assert "openai:gpt-6-sol by opencode: 3 runs; its own calls and their cost are not known here" in text


def test_the_schema_is_the_file_that_modelines_name(tmp_path: Path) -> None:
    printed = aethr("schema", cwd=tmp_path).stdout
    shipped = (ROOT / "aethr.schema.json").read_text(encoding="utf-8")
    assert shipped == printed, "run `aethr schema > aethr.schema.json`"
    assert json.loads(shipped)["$id"] == config_schema.URL
    assert config_schema.URL.endswith("/aethr/action/v1/aethr.schema.json")  # as in pyproject.toml


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "presets").glob("*.yaml")), *EXAMPLES],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_each_preset_and_example_names_the_schema_and_fits_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(config_schema.MODELINE + "\n")
    schema = json.loads((ROOT / "aethr.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


def test_a_yaml_comment_changes_no_prompt_or_checkpoint(project: Repo, tmp_path: Path) -> None:
    text = (ROOT / "presets" / "review-existing-diff.yaml").read_text(encoding="utf-8")
    prompts, contracts = [], []
    for number, content in enumerate((text, text.removeprefix(config_schema.MODELINE + "\n"))):
        project.write(".aethr.yaml", content)
        prompts.append(aethr("run", "--show-prompt", "x", cwd=project.root).stdout)
        kept = tmp_path / f"kept{number}"
        aethr("run", "--checkpoint-dir", str(kept), "x", cwd=project.root)
        contracts += [checkpoint.load(f"@{file}").contract for file in kept.iterdir()]
    assert prompts[0] == prompts[1]
    assert contracts[0]
    assert contracts[0] == contracts[1]


def test_a_project_is_found_from_a_folder_below(project: Repo) -> None:
    aethr("init", "review-existing-diff", cwd=project.root)
    below = project.root / "src" / "deep"
    below.mkdir(parents=True)
    assert aethr("run", "x", cwd=below).returncode == 0


def test_a_workflow_file_above_the_repository_is_not_taken(tmp_path: Path, project: Repo) -> None:
    (tmp_path / ".aethr.yaml").write_text("workflow: not-ours\n")
    assert "no .aethr.yaml" in aethr("run", "x", cwd=project.root).stderr


# --- mock runs ---------------------------------------------------------------------------------


def test_a_review_without_a_key_is_a_mock(project: Repo) -> None:
    done = aethr("run", "--preset", "review-existing-diff", TASK, cwd=project.root)
    assert done.returncode == 0
    assert "mock" in done.stdout.lower()
    assert "app.py:1" in done.stdout
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_mock_review_never_passes_a_gate(project: Repo) -> None:
    for words in (["--fail-on", "high"], ["--fail-on", "revise"], ["--require-review"]):
        done = aethr("run", "--preset", "review-existing-diff", *words, TASK, cwd=project.root)
        assert done.returncode == 4


def test_a_required_review_of_no_change_is_0_without_a_call(project: Repo) -> None:
    project.commit()
    done = aethr(
        "run", "--preset", "review-existing-diff", "--fail-on", "high", "--json", TASK, cwd=project.root
    )
    assert done.returncode == 0
    assert record(done)["totals"]["calls"] == 0
    assert record(done)["review"]["reason"] == "nothing changed"


def test_a_staged_change_is_not_nothing_to_review(project: Repo) -> None:
    project.git("add", "-A")
    done = aethr("run", "--preset", "review-existing-diff", "--fail-on", "high", TASK, cwd=project.root)
    assert done.returncode == 4


def test_two_mock_runs_give_the_same_record(project: Repo) -> None:
    def once(seed: str) -> str:
        seeded = {"PYTHONHASHSEED": seed}
        text = aethr("run", "--preset", "docs-sync", "--json", TASK, cwd=project.root, env=seeded).stdout
        return re.sub(r'"seconds": [0-9.e-]+', '"seconds": 0', text)

    assert once("1") == once("2")


def test_a_mock_run_leaves_nothing_behind(project: Repo, tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    before = project.git("status", "--porcelain", "--ignored")
    aethr("run", "--preset", "docs-sync", TASK, cwd=project.root, env={"TMPDIR": str(temp)})
    assert list(temp.iterdir()) == []
    assert project.git("status", "--porcelain", "--ignored") == before


def test_a_checkpoint_that_was_asked_for_is_kept(project: Repo, tmp_path: Path) -> None:
    done = aethr(
        *("run", "--preset", "custom", "--json", "--checkpoint-dir", str(tmp_path / "kept"), TASK),
        cwd=project.root,
    )
    (kept,) = (tmp_path / "kept").iterdir()
    assert record(done)["checkpoint"] == str(kept)


def test_the_task_from_standard_input_and_from_an_editor(project: Repo, tmp_path: Path) -> None:
    done = aethr("run", "--preset", "custom", "--json", "-", cwd=project.root, stdin="from a pipe\n")
    assert record(done)["task"] == "from a pipe"
    done = aethr("run", "--preset", "custom", "-", cwd=project.root, stdin=" \n")
    assert (done.returncode, "empty" in done.stderr) == (2, True)


def test_reports_in_every_format(project: Repo, tmp_path: Path) -> None:
    paths = [tmp_path / f"out.{suffix}" for suffix in ("md", "json", "sarif", "txt")]
    words = [word for path in paths for word in ("--report", str(path))]
    done = aethr("run", "--preset", "review-existing-diff", "--json", *words, TASK, cwd=project.root)
    assert done.returncode == 0
    assert json.loads(paths[1].read_text()) == record(done)
    assert json.loads(paths[2].read_text())["version"] == "2.1.0"
    assert all("mock" in path.read_text().lower() for path in paths)


def test_json_is_alone_on_standard_output(project: Repo) -> None:
    done = aethr("run", "--preset", "review-existing-diff", "--json", TASK, cwd=project.root)
    data = record(done)
    assert data["schema"] == 2
    assert data["exit_code"] == done.returncode == 0
    assert data["steps"][0]["context"][0]["path"] == "app.py"
    assert "mock" in done.stderr


RUN_JSON = "run --preset docs-sync --json x"


@pytest.mark.parametrize("words", ["--help", "--version", "run --help", "version", "init --list", "schema"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_fails_each_command(words: str, unbuffered: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m aethr {words} >/dev/full'],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "aethr: output: No space left on device\n")


@pytest.mark.parametrize("words", ["schema", "run --preset docs-sync --show-prompt x", RUN_JSON])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_partly_written_output_fails(project: Repo, tmp_path: Path, words: str, unbuffered: str) -> None:
    """192 bytes are left of what a file may hold; a checkpoint has its own 8 kB."""
    full, checkpoints = tmp_path / "full", tmp_path / "checkpoints"
    full.write_bytes(bytes(8000))
    checkpoints.mkdir()
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 8; trap '' XFSZ; '{sys.executable}' -m aethr {words} >>'{full}'"],
        cwd=project.root,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "TMPDIR": str(checkpoints)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, full.stat().st_size) == (3, 8192)
    assert "aethr: output: File too large\n" in done.stderr
    kept = [str(path) for path in checkpoints.glob("aethr-*.jsonl")]
    assert (len(kept), all(path in done.stderr for path in kept)) == (words == RUN_JSON, True)


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        (">/dev/full", 3, "output: No space left on device"),
        ("| true", 3, "standard output was closed"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
    ],
)
def test_a_full_or_closed_output_fails(project: Repo, redirect: str, code: int, said: str) -> None:
    command = f'"{sys.executable}" -m aethr run --preset docs-sync x {redirect}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_deleted_working_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f'cd gone && rmdir ../gone && "{sys.executable}" -m aethr run --preset custom x'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "aethr: this folder no longer exists\nChange to one that does.\n",
    )


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"HOME": ""}]
)
def test_an_odd_environment_does_not_stop_a_run(project: Repo, variables: dict[str, str]) -> None:
    project.write("app.py", "name = 'é → 日本'\n")
    done = aethr("run", "--preset", "review-existing-diff", "é 日本", cwd=project.root, env=variables)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_bug_is_exit_70_with_its_traceback_in_a_file(project: Repo, tmp_path: Path) -> None:
    """A library that breaks in a way nobody foresaw stands in for a bug."""
    (tmp_path / "dotenv.py").write_text("raise RuntimeError('broken library')\n")
    project.write(".env", "X=1\n")
    env = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = aethr("run", "--preset", "custom", "x", cwd=project.root, env=env)
    assert done.returncode == 70
    assert len(done.stderr.splitlines()) == 2
    named = re.search(r"a bug in Aethr: RuntimeError \(the traceback is in (.*)\)", done.stderr)
    assert named
    assert "broken library" in Path(named[1]).read_text()


# --- prompts -----------------------------------------------------------------------------------


def show(project: Repo, preset: str, *words: str) -> bytes:
    return prompts("--preset", preset, *words, TASK, cwd=project.root)


def test_show_prompt_prints_the_bytes_that_are_hashed(project: Repo) -> None:
    shown = show(project, "review-existing-diff")
    header, prompt = shown.split(b"\n", 1)
    sha = aethr("run", "--preset", "review-existing-diff", "--json", TASK, cwd=project.root)
    assert sha256(prompt).hexdigest() == record(sha)["steps"][0]["prompt_sha256"]
    assert f"{len(prompt)} bytes, prompt_sha256 {sha256(prompt).hexdigest()}".encode() in header


def test_show_prompt_is_deterministic(project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    shown = show(project, "plan-implement-review")
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert shown == show(project, "plan-implement-review")
    assert b"(The answer of the step 'plan' will stand here.)" in shown
    as_json = json.loads(show(project, "plan-implement-review", "--json"))
    assert [each["id"] for each in as_json] == ["plan", "implement", "review"]
    assert all(sha256(each["prompt"].encode()).hexdigest() == each["prompt_sha256"] for each in as_json)


def test_the_diff_in_the_prompt_is_what_git_shows(project: Repo) -> None:
    prompt = show(project, "review-existing-diff").decode()
    assert "\n2 +    return sum(prices) + 1\n" in prompt
    assert project.git("diff", "--no-ext-diff") in without_gutter(prompt)


# --- keys --------------------------------------------------------------------------------------


def test_auth_stores_a_key_and_never_shows_it(project: Repo) -> None:
    project.write(".gitignore", ".env\n")
    done = aethr("auth", "login", "openai", "--key-stdin", cwd=project.root, stdin="sk-test-123456\n")
    assert done.returncode == 0, done.stderr
    assert (project.root / ".env").read_text() == "OPENAI_API_KEY='sk-test-123456'\n"
    status = aethr("auth", "status", cwd=project.root, env={"XAI_API_KEY": "xai-123456"})
    assert re.search(r"^openai +OPENAI_API_KEY \(\.env\)$", status.stdout, re.MULTILINE)
    assert re.search(r"^xai +XAI_API_KEY \(environment\)$", status.stdout, re.MULTILINE)
    assert re.search(r"^no key, and not in the workflow: anthropic, ", status.stdout, re.MULTILINE)
    assert "123456" not in done.stdout + done.stderr + status.stdout + status.stderr


@pytest.mark.parametrize("word", ["sk-test-123456", "--key=sk-test-123456"])
def test_a_key_as_an_argument_is_not_repeated(project: Repo, word: str) -> None:
    done = aethr("auth", "login", "openai", word, cwd=project.root)
    assert (done.returncode, (project.root / ".env").exists()) == (2, False)
    assert "--key-stdin" in done.stderr
    assert "123456" not in done.stdout + done.stderr


def test_live_without_a_key_is_refused_before_anything(project: Repo) -> None:
    live = {"AETHR_LIVE": "1"}
    done = aethr("run", "--preset", "review-existing-diff", TASK, cwd=project.root, env=live)
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert "aethr auth login openai" in done.stderr
    gated = aethr(
        "run", "--preset", "review-existing-diff", "--fail-on", "high", TASK, cwd=project.root, env=live
    )
    assert gated.returncode == 4


def test_live_without_a_model_shows_the_place(project: Repo) -> None:
    project.write(".aethr.yaml", "workflow: w\nroles: {a: b}\nsteps:\n  - id: x\n    role: a\n")
    done = aethr("run", "x", cwd=project.root, env={"AETHR_LIVE": "1"})
    assert done.returncode == 2
    assert ".aethr.yaml:5:11: the role 'a' has no model" in done.stderr


# --- light -------------------------------------------------------------------------------------


def modules(words: list[str], cwd: Path) -> set[str]:
    code = "import sys; from aethr.cli import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stderr.split()}


HEAVY = {"litellm", "rich", "pydantic", "httpx", "openai", "click", "jsonschema", "dotenv", "shtab"}


@pytest.mark.parametrize("words", [["--help"], ["init", "--list"], ["version"], ["run", "--help"]])
def test_commands_that_only_print_import_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    assert modules(words, tmp_path) & (HEAVY | {"yaml", "subprocess", "json"}) == set()


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--preset", "review-existing-diff", "x"],
        ["run", "--preset", "plan-implement-review", "--show-prompt", "x"],
        ["check", ".aethr.yaml"],
        ["auth", "status"],
    ],
)
def test_nothing_but_a_live_call_imports_litellm(project: Repo, words: list[str]) -> None:
    aethr("init", "review-existing-diff", cwd=project.root)
    assert modules(words, project.root) & HEAVY == set()
