"""What installs the Action: outside of the workspace, where a pull request could say what is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOGGED = """#!/bin/bash
printf '%s %s: %s\\n' "${0##*/}" "$PWD" "$*" >>"$LOG"
for last; do :; done
case "$*" in *--clear*) mkdir -p "$last/bin" && cp "$0" "$last/bin/python" ;; esac
"""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("bin", "temp", "workspace")}
    for path in made.values():
        path.mkdir()
    for name in ("bash", "mkdir", "cp", "dirname", "chmod"):
        (made["bin"] / name).symlink_to(
            f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}"
        )
    return made


def install(places: dict[str, Path], *programs: str, **more: str) -> list[str]:
    """Run the script with stand-ins that note where and how they are called."""
    for name in programs:
        (places["bin"] / name).write_text(LOGGED, encoding="utf-8")
        (places["bin"] / name).chmod(0o755)
    log = places["temp"].parent / "log"
    environ = {
        "PATH": os.fspath(places["bin"]),
        "RUNNER_TEMP": os.fspath(places["temp"]),
        "GITHUB_ACTION_PATH": os.fspath(ROOT),
        "LOG": os.fspath(log),
        **more,
    }
    script = ROOT / ".github" / "install.sh"
    subprocess.run([places["bin"] / "bash", script], cwd=places["workspace"], env=environ, check=True)
    return log.read_text(encoding="utf-8").splitlines()


def test_with_uv_when_it_is_there(places: dict[str, Path]) -> None:
    calls = install(places, "uv", "python3")
    venv = places["temp"] / "aethr-venv"
    assert calls == [
        f"uv {places['temp']}: venv --quiet --no-config --clear --python python3 {venv}",
        f"uv {places['temp']}: pip install --quiet --no-config --python {venv}/bin/python {ROOT}",
    ]


def test_with_pip_otherwise(places: dict[str, Path]) -> None:
    calls = install(places, "python3")
    venv = places["temp"] / "aethr-venv"
    assert calls == [
        f"python3 {places['temp']}: -I -m venv --clear {venv}",
        f"python {places['temp']}: -I -m pip install --quiet --disable-pip-version-check {ROOT}",
    ]


def test_the_python_that_was_asked_for(places: dict[str, Path]) -> None:
    assert "--python /opt/py/bin/python " in install(places, "uv", AETHR_PYTHON="/opt/py/bin/python")[0]


def test_once_for_two_uses_in_a_job(places: dict[str, Path]) -> None:
    install(places, "uv")
    assert len(install(places, "uv")) == 2


def test_the_program_imports_nothing_from_where_it_works(places: dict[str, Path]) -> None:
    install(places, "uv")
    run = (places["temp"] / "aethr-venv" / "run").read_text(encoding="utf-8")
    assert run.splitlines()[-1] == f'exec "{places["temp"]}/aethr-venv/bin/python" -I -m aethr "$@"'
