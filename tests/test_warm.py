"""A command that the warm process forks is the one that Python would start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Repo
from tests.warm import WARM, run_aethr

TRUE_START = {"PYTHONHASHSEED": "1"}
SHOWN = ("run", "--preset", "docs-sync", "--show-prompt")
COMMANDS = {
    "no command": ((), b""),
    "version": (("version",), b""),
    "a mistake": (("run", "--preset", "nowhere", "x"), b""),
    "a task from standard input": (
        ("run", "--preset", "docs-sync", "--show-prompt", "-"),
        "prüfe\r\n".encode(),
    ),
    "a long answer": (("schema",), b""),
    "an invalid byte": (("run", os.fsdecode(b"--\xff")), b""),
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each command is started by Python")
@pytest.mark.parametrize(("words", "stdin"), COMMANDS.values(), ids=COMMANDS)
def test_a_warm_command_is_that_of_python(repo: Repo, words: tuple[str, ...], stdin: bytes) -> None:
    warm, true = (
        run_aethr(words, repo.root, {**os.environ, **more}, stdin, timeout=60) for more in ({}, TRUE_START)
    )
    assert (warm.returncode, warm.stdout, warm.stderr) == (true.returncode, true.stdout, true.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each command is started by Python")
def test_a_warm_command_is_forked_and_one_with_other_settings_of_python_is_not(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    streams = (reader, writer, writer)
    assert WARM.start(["version"], tmp_path, {**os.environ, **TRUE_START}, streams) is None
    child = WARM.start(["version"], tmp_path, os.environ, streams)
    assert child is not None
    assert WARM.start(["version"], tmp_path, os.environ, streams) is None, "it starts one at a time"
    assert child.wait() == 0
    os.close(writer)
    with open(reader, "rb") as output:  # noqa: PTH123 - a descriptor is no path
        assert output.read().startswith(b"aethr ")


def test_a_command_that_takes_too_long_is_killed(repo: Repo) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_aethr(["version"], repo.root, os.environ, b"", timeout=0)
    assert run_aethr(["version"], repo.root, os.environ, b"", timeout=60).returncode == 0
