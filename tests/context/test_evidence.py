"""Commands of the project: as a context source, as a loop's condition, and when they must not run."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from aethr.base.errors import UsageError
from aethr.base.records import Scope, View
from aethr.context import collect, evidence
from tests.support import Repo, aethr


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def gather(code: str, root: Path) -> evidence.Evidence:
    return evidence.gather(python(code), root, {"PATH": "/usr/bin:/bin"})


def test_a_command_gives_both_outputs_in_order_and_exit_status(tmp_path: Path) -> None:
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr); sys.exit(3)"
    found = gather(code, tmp_path)
    assert (found.output, found.ended, found.passed, found.omitted) == (
        "one\ntwo\n",
        "exit status 3",
        False,
        0,
    )


def test_a_command_with_exit_code_0_passes(tmp_path: Path) -> None:
    assert evidence.check(python("pass"), tmp_path) == evidence.CommandCheck(
        python("pass"), True, "exit status 0"
    )


def test_a_command_runs_in_the_root_without_a_shell_or_stdin(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), sys.argv[1:], repr(sys.stdin.read()))"
    found = evidence.gather(python(code) + " '$HOME' '*' '; echo x'", tmp_path, {})
    assert found.output == f"{tmp_path.resolve()} ['$HOME', '*', '; echo x'] ''\n"


def test_a_long_output_of_a_command_is_cut_in_the_middle(tmp_path: Path) -> None:
    found = gather("for n in range(40_000): print(f'line {n}')", tmp_path)
    assert found.output.startswith("line 0\n")
    assert found.output.endswith("line 39999\n")
    assert found.omitted == found.size - evidence.HEAD_BYTES - evidence.TAIL_BYTES > 0
    assert f"[… {found.omitted:,} bytes left out …]" in found.output
    assert len(found.output) < 61_000


@pytest.mark.skipif(sys.platform != "linux", reason="setsid is a program of Linux")
@pytest.mark.parametrize("session", ["", "setsid "])
def test_a_command_ends_although_its_children_keep_running(tmp_path: Path, session: str) -> None:
    words = shlex.join(["sh", "-c", f"{session}sleep 60 & echo $!"])
    found = evidence.gather(words, tmp_path, {"PATH": "/usr/bin:/bin"})
    os.kill(int(found.output), signal.SIGKILL)  # no such process, had its end been waited for
    assert found.ended == "exit status 0"


def test_a_command_that_is_killed_or_missing_is_evidence_too(tmp_path: Path) -> None:
    assert gather("import os; os.kill(os.getpid(), 9)", tmp_path).ended == "killed by signal 9"
    missing = evidence.gather("no-such-program --x", tmp_path, {"PATH": "/bin"})
    assert (missing.passed, missing.ended) == (False, "did not finish: no-such-program: not found")


def test_a_command_gets_no_key_and_no_aethr_variable(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "GITHUB_TOKEN": "t", "AETHR_LIVE": "1", "KEPT": "yes"}
    found = evidence.gather(python("import os; print(sorted(os.environ))"), tmp_path, environ)
    assert "KEPT" in found.output
    assert not any(name in found.output for name in ("OPENAI_API_KEY", "GITHUB_TOKEN", "AETHR_LIVE"))


def test_a_command_with_a_missing_program_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "check.sh").write_text("#!/bin/sh\n")
    (tmp_path / "check.sh").chmod(0o755)
    evidence.require("./check.sh now", tmp_path)
    with pytest.raises(UsageError, match="'no-such-program' is not found"):
        evidence.require("no-such-program --x", tmp_path)


def test_a_command_source_runs_each_time_but_only_if_allowed(tmp_path: Path) -> None:
    source = "command:" + python("open('ran', 'a').write('x'); print('out')")
    for quiet, instead in (
        (View(tmp_path, Scope(), preview=True), "its output will stand here"),
        (View(tmp_path, Scope()), "not run without a model"),
    ):
        (block,) = collect((source,), 1000, quiet)
        assert instead in block.text
    assert not (tmp_path / "ran").exists()
    loud = View(tmp_path, Scope(), run_commands=True)
    for _ in range(2):
        (block,) = collect((source,), 1000, loud)
    assert "exit status 0]\nout\n" in block.text
    assert (tmp_path / "ran").read_text() == "xx"


def workflow(repo: Repo, command: str) -> None:
    repo.write(
        ".aethr.yaml",
        json.dumps(
            {
                "workflow": "w",
                "roles": {"tester": "Test."},
                "steps": [
                    {
                        "id": "test",
                        "role": "tester",
                        "context": [f"command:{command}"],
                        "repeat": {"back_to": "test", "max_iterations": 2, "until_command_passes": command},
                    }
                ],
            }
        ),
    )


def test_check_lists_commands_that_preview_and_mock_skip(repo: Repo) -> None:
    command = python("open('ran', 'w')")
    workflow(repo, command)
    check = aethr("check", cwd=repo.root)
    assert f"runs the command: {command}" in check.stdout
    shown = aethr("run", "--show-prompt", "x", cwd=repo.root)
    assert "its output will stand here" in shown.stdout
    done = aethr("run", "--json", "x", cwd=repo.root)
    assert json.loads(done.stdout)["steps"][0]["check"]["ended"] == "not run without a model"
    assert not (repo.root / "ran").exists()
    shown = aethr("run", "--show-prompt", "--run-commands", "x", cwd=repo.root)
    assert "exit status 0" in shown.stdout
    assert (repo.root / "ran").exists()


@pytest.mark.parametrize("command", ["'open", "''"])
def test_an_invalid_command_is_a_mistake_with_its_place(repo: Repo, command: str) -> None:
    workflow(repo, command)
    done = aethr("check", cwd=repo.root)
    assert done.returncode == 2
    assert done.stderr.count("the command has") == 2
