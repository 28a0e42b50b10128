"""``aethr doctor``: what it says, its exit code, and what it must not show, start or call."""

from __future__ import annotations

import datetime
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aethr.cli import doctor
from aethr.llm import catalog, spending
from tests.model_server import ModelServer
from tests.support import Repo, aethr

KEY = "sk-proj-0123456789abcdef"
REVIEW = """\
workflow: mine
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-5.4-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
AGENT = """\
workflow: mine
roles: {doer: "Do it."}
models: {doer: "openai:gpt-5.4-mini"}
steps:
  - {id: do, role: doer, backend: opencode}
"""
LIVE = {"AETHR_LIVE": "1", "OPENAI_API_KEY": KEY}


def rows(printed: str) -> dict[str, str]:
    """What is said about each thing, with its mark."""
    lines = printed.partition("\nNext:\n")[0].splitlines()[1:]
    found = [re.fullmatch(r"([ !-]) (\S+(?: \S+)*?)  +(.*)", line) for line in lines]
    assert all(found), lines
    return {each[2]: f"{each[1]} {each[3]}" for each in found if each}


def following(printed: str) -> list[str]:
    return [line.strip() for line in printed.partition("\nNext:\n")[2].splitlines()]


def test_a_new_project_is_told_the_way_to_its_first_review(repo: Repo) -> None:
    done = aethr("doctor", cwd=repo.root)
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert re.match(r"Aethr \S+, Python 3\.\S+, LiteLLM 1\.\S+, \w+ ", done.stdout)
    assert re.fullmatch(r"  \d+\.\d+\S*.*; in a repository without a commit", found["git"])
    assert found["workflow"] == "- no .aethr.yaml; what follows is about preset review-existing-diff"
    assert found["mode"] == "  mock: neither AETHR_LIVE nor AETHR_MODEL is set"
    assert found["model 1"].startswith("  openai:gpt-5.4-mini: called by chat; ")
    assert found["key openai"] == "- no key: OPENAI_API_KEY is not set"
    assert found["hooks"] == "  none installed; aethr-review is not configured"
    assert found["endpoint 1"] == "  https://api.openai.com/v1: not asked (--online)"
    assert following(done.stdout) == [
        "aethr init",
        "aethr auth login openai",
        'aethr run --preset review-existing-diff "review my changes"',
    ]


def test_a_project_that_is_ready_is_told_to_run(repo: Repo) -> None:
    repo.write(".aethr.yaml", REVIEW)
    repo.write(".env", f"OPENAI_API_KEY={KEY}\nXAI_API_KEY=xai-0123456789\n")
    done = aethr("doctor", cwd=repo.root)
    found = rows(done.stdout)
    assert done.returncode == 0
    assert found["workflow"] == "  .aethr.yaml: mine, 1 step, valid"
    assert found["key openai"] == "  OPENAI_API_KEY (.env)"
    assert found["other keys"] == "  xai: XAI_API_KEY (.env)"
    assert following(done.stdout) == ['aethr run --live "review my changes"']
    repo.write(".env", f"OPENAI_API_KEY={KEY}\nAETHR_LIVE=1\n")
    done = aethr("doctor", cwd=repo.root)
    assert rows(done.stdout)["mode"] == "  live: AETHR_LIVE=1 (.env)"
    assert following(done.stdout) == ['aethr run "review my changes"']


@pytest.mark.parametrize(
    ("workflow", "environ", "row", "said", "code", "fix"),
    [
        (
            REVIEW,
            {"AETHR_LIVE": "1"},
            "key openai",
            "OPENAI_API_KEY is not set",
            2,
            "aethr auth login openai",
        ),
        (REVIEW, {"AETHR_LIVE": "1", "OPENAI_API_KEY": f'"{KEY}"'}, "key openai", "has quotes", 2, "quotes"),
        (REVIEW, {"AETHR_LIVE": "yes"}, "mode", "neither 1 nor 0", 2, "Set AETHR_LIVE to 1"),
        (REVIEW, {"AETHR_MODEL": "gpt"}, "mode", "is not provider:model", 2, "Name a model"),
        (REVIEW, {"AETHR_RUN_PRESETS": "x"}, "workflow", "no option has this name", 2, "Correct it"),
        (REVIEW.replace("steps", "stepz"), {}, "workflow", ".aethr.yaml:", 2, "aethr check"),
        ("a: [\n", {}, "workflow", ".aethr.yaml:", 2, "aethr check"),
        (
            REVIEW.replace("[git_diff]", "['command:no-such-program x']"),
            LIVE,
            "command 1",
            "'no-such-program' is not found",
            2,
            "Install it",
        ),
        (
            REVIEW.replace("[git_diff]", "['command:x!']"),
            {},
            "command 1",
            "'x!' is not found",
            0,
            "Install it",
        ),
        (REVIEW.replace("[git_diff]", "['command:git log']"), LIVE, "command 1", "git log: found", 0, None),
        (
            re.sub("models.*\n", "", REVIEW),
            LIVE,
            "mode",
            "no model",
            2,
            "aethr check",
        ),
        (REVIEW.replace("openai:gpt-5.4-mini", "vertex_ai:gemini-9"), {}, "model 1", "called by", 0, None),
        (AGENT, LIVE, "opencode", "not found on PATH", 3, "Install or update it"),
        (AGENT, {}, "opencode", "not found on PATH", 0, "Install or update it"),
        (REVIEW, LIVE, "opencode", "not found on PATH", 0, None),
    ],
)
def test_the_exit_code_is_the_one_that_a_run_would_have(
    repo: Repo, workflow: str, environ: dict[str, str], row: str, said: str, code: int, fix: str | None
) -> None:
    repo.write(".aethr.yaml", workflow)
    environ = {**environ, "PATH": without("opencode", "claude", "codex")}
    done = aethr("doctor", cwd=repo.root, env=environ)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    found = rows(done.stdout)[row]
    assert said in found
    assert (found[0] == "!") == (code != 0)
    if fix is not None:
        assert any(fix in line for line in following(done.stdout)), done.stdout
    if code:
        assert not any(line.startswith("aethr run") for line in following(done.stdout))
        run = aethr("run", "x", cwd=repo.root, env=environ)
        assert run.returncode == code, run.stderr


def without(*programs: str) -> str:
    """The search path without the folders that have one of these programs."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(
        each for each in folders if not any(shutil.which(name, path=each) for name in programs)
    )


def test_without_git_it_says_so(tmp_path: Path) -> None:
    done = aethr("doctor", cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (3, "")
    assert rows(done.stdout)["git"] == "! git: not found"
    assert following(done.stdout)[0] == "Install git, or put it on PATH."


def test_a_shallow_clone_and_a_folder_without_a_repository(repo: Repo, tmp_path: Path) -> None:
    repo.commit("one")
    repo.commit("two")
    clone = tmp_path / "clone"
    repo.git("clone", "-q", "--depth=1", f"file://{repo.root}", str(clone))
    assert rows(aethr("doctor", cwd=clone).stdout)["git"].endswith("; in a repository, shallow")
    plain = tmp_path / "plain"
    plain.mkdir()
    done = aethr("doctor", cwd=plain)
    assert rows(done.stdout)["git"].endswith("; not in a repository")
    assert following(done.stdout)[0] == "git init"


# --- nothing secret, nothing started -------------------------------------------------------------


def test_it_shows_no_key_no_home_and_no_user(repo: Repo, tmp_path: Path) -> None:
    user = getpass.getuser()
    home = tmp_path / "users" / user
    (home / "work").mkdir(parents=True)
    config = home / "work" / "my.yaml"
    config.write_text(REVIEW.replace("mine", KEY), encoding="utf-8")
    environ = {
        **LIVE,
        "HOME": str(home),
        "AETHR_RUN_CONFIG": str(config),
        "OPENAI_BASE_URL": f"http://name:{KEY}@127.0.0.1:9/{KEY}?key={KEY}",
        "XAI_API_KEY": f"xai-{KEY}",
    }
    for words in ([], ["--json"], ["--online"]):
        done = aethr("doctor", *words, cwd=repo.root, env=environ)
        shown = done.stdout + done.stderr
        assert "0123456789" not in shown
        assert str(home) not in shown
        assert f"/{user}/" not in shown
        assert "~/work/my.yaml" in shown


def test_a_hostile_name_is_shown_and_not_obeyed(repo: Repo) -> None:
    repo.write(".aethr.yaml", REVIEW.replace("mine", '"a\\e[31m\\u202e"'))
    repo.write(".env", "AETHR_MODEL='openai:\x1b[2J'\n")
    done = aethr("doctor", cwd=repo.root, env={"AETHR_MODEL": "openai:gpt\x1b[31m"})
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_a_program_of_the_tree_is_not_started(repo: Repo, tmp_path: Path) -> None:
    for folder in (repo.root / "node_modules" / ".bin", tmp_path / "outside"):
        for name in ("opencode", "claude", "codex"):
            program = folder / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/sh\ntouch '{folder}/started'\necho 1.2.3\n")
            program.chmod(0o755)
    inner, outer = repo.root / "node_modules" / ".bin", tmp_path / "outside"
    path = without("opencode", "claude", "codex")
    found = rows(aethr("doctor", cwd=repo.root, env={"PATH": f"{inner}{os.pathsep}{path}"}).stdout)
    assert found["opencode"] == "  is in this repository, so it was not asked for its version"
    found = rows(
        aethr(
            "doctor", cwd=repo.root, env={"PATH": os.pathsep.join((str(inner), ".", str(outer), path))}
        ).stdout
    )
    assert "1.2.3 is too old" in found["codex"]
    assert ((inner / "started").exists(), (outer / "started").exists()) == (False, True)


def test_nothing_of_the_project_is_run(repo: Repo) -> None:
    """A command of the workflow, a hook of git, a monitor of the file system."""
    marker = repo.root / "ran"
    script = repo.write("run.sh", f"#!/bin/sh\ntouch '{marker}'\n")
    script.chmod(0o755)
    repo.write(".aethr.yaml", REVIEW.replace("[git_diff]", "[git_diff, 'command:./run.sh']"))
    shutil.copy(script, repo.root / ".git" / "hooks" / "pre-commit")
    repo.git("config", "core.fsmonitor", str(script))
    done = aethr("doctor", cwd=repo.root, env=LIVE)
    assert done.returncode == 0, done.stdout
    assert rows(done.stdout)["hooks"] == "  pre-commit by another program; aethr-review is not configured"
    assert not marker.exists()


# --- hooks ---------------------------------------------------------------------------------------

CONFIGURATION = """\
repos:
  - repo: https://github.com/aethr/action
    rev: v1.0.0
    hooks:
      - id: aethr-review
"""


@pytest.mark.parametrize("tool", ["pre-commit", "prek"])
def test_hooks_of_the_real_tools_are_recognised(repo: Repo, tool: str) -> None:
    repo.write(".pre-commit-config.yaml", CONFIGURATION)
    done = aethr("doctor", cwd=repo.root)
    assert rows(done.stdout)["hooks"] == "- none installed; aethr-review in .pre-commit-config.yaml"
    assert "pre-commit install" in following(done.stdout)
    words = [Path(sys.executable).parent / tool, "install", "-t", "pre-commit", "-t", "pre-push"]
    subprocess.run(words, cwd=repo.root, check=True, capture_output=True)
    done = aethr("doctor", cwd=repo.root)
    said = f"  pre-commit by {tool} and pre-push by {tool}; aethr-review in .pre-commit-config.yaml"
    assert rows(done.stdout)["hooks"].replace(", pre-push", " and pre-push") == said
    assert "pre-commit install" not in following(done.stdout)


def test_hooks_in_another_folder_and_other_forms_of_the_configuration(repo: Repo, tmp_path: Path) -> None:
    folder = tmp_path / "my hooks"
    folder.mkdir()
    (folder / "pre-push").write_text("#!/bin/sh\n# File generated by prek: https://github.com/j178/prek\n")
    repo.git("config", "core.hooksPath", str(folder))
    assert rows(aethr("doctor", cwd=repo.root).stdout)["hooks"].startswith(
        "  none installed"
    )  # not executable
    (folder / "pre-push").chmod(0o755)
    for name, text, is_named in (
        (".pre-commit-config.yaml", "repos: [{repo: x, hooks: [{id: aethr-review}]}]\n", True),
        (".pre-commit-config.yaml", "      # - id: aethr-review\n", False),
        (".pre-commit-config.yaml", '  - id: "aethr-review-not"\n', False),
        ("prek.toml", 'hooks = [\n  { id = "aethr-review" },\n]\n', True),
    ):
        repo.write(name, text)
        said = rows(aethr("doctor", cwd=repo.root).stdout)["hooks"]
        assert said.startswith("  pre-push by prek; ")
        assert (f"aethr-review in {name}" in said) == is_named, text
        (repo.root / name).unlink()
    os.mkfifo(repo.root / "prek.toml")
    assert "is not configured" in rows(aethr("doctor", cwd=repo.root).stdout)["hooks"]


# --- endpoints, models, JSON ---------------------------------------------------------------------


def test_online_connects_without_a_key_and_calls_nothing(repo: Repo) -> None:
    repo.write(".aethr.yaml", REVIEW)
    with ModelServer() as server:
        environ = {**LIVE, "OPENAI_BASE_URL": server.base_url}
        offline = aethr("doctor", cwd=repo.root, env=environ)
        assert server.requests == []
        done = aethr("doctor", "--online", cwd=repo.root, env=environ)
    assert (offline.returncode, done.returncode) == (0, 0), done.stdout
    said = rows(done.stdout)["endpoint 1"]
    assert re.fullmatch(rf"  {server.base_url} \(OPENAI_BASE_URL\): reached \(HTTP \d+ without a key\)", said)
    assert server.bodies == []
    assert KEY not in repr(server.requests)


@pytest.mark.parametrize(("live", "code"), [("1", 3), ("0", 0)])
def test_an_endpoint_that_nobody_serves(repo: Repo, live: str, code: int) -> None:
    repo.write(".aethr.yaml", REVIEW)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        environ = {**LIVE, "AETHR_LIVE": live, "OPENAI_BASE_URL": base}
        done = aethr("doctor", "--online", cwd=repo.root, env=environ)
    assert done.returncode == code
    assert "cannot be reached" in rows(done.stdout)["endpoint 1"]


def test_a_model_that_retires_is_named(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(each for each in catalog.find(["anthropic:"]) if spending.retires(each))
    repo.write(".aethr.yaml", REVIEW.replace("openai:gpt-5.4-mini", name))
    monkeypatch.chdir(repo.root)
    for year, mark in ((2020, " "), (2099, "-")):
        assert doctor.main(today=datetime.date(year, 1, 1)) == 0
        printed = capsys.readouterr().out
        assert re.match(
            rf"{mark} {name}: called by messages; retires on 20\d\d-",
            rows(printed)["model 1"],
        )
        assert ("aethr models anthropic, and name a model that stays" in following(printed)) == (mark == "-")


def test_json_has_the_same(repo: Repo) -> None:
    repo.write(".aethr.yaml", REVIEW)
    environ = {"AETHR_LIVE": "1"}
    plain, done = (aethr("doctor", *words, cwd=repo.root, env=environ) for words in ([], ["--json"]))
    record = json.loads(done.stdout)
    assert record["exit_code"] == done.returncode == plain.returncode == 2
    assert record["next"] == following(plain.stdout)
    marks = {"ok": " ", "note": "-", "missing": "!"}
    said = {each["name"]: f"{marks[each['state']]} {each['said']}" for each in record["items"]}
    assert said == rows(plain.stdout)
