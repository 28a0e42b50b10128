"""The installation of the Action: only the tested packages, whatever the index or the workspace has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aethr import __version__
from tests import lock
from tests.github.index_server import IndexServer
from tests.github.support import index_settings, real_uv
from tests.hook.conftest import skip_if_unreachable
from tests.support import tiered

pytestmark = pytest.mark.slow

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


# --- what it calls -------------------------------------------------------------------------------


def install(places: dict[str, Path], *programs: str, **more: str) -> list[str]:
    """Run the script with stand-ins that note where and how they are called."""
    for name in programs:
        (places["bin"] / name).write_text(LOGGED, encoding="utf-8")
        (places["bin"] / name).chmod(0o755)
    log = places["temp"].parent / "log"
    environ = {
        "PATH": os.fspath(places["bin"]),
        "RUNNER_TEMP": os.fspath(places["temp"]),
        "LOG": os.fspath(log),
        **more,
    }
    script = ROOT / ".github" / "install.sh"
    subprocess.run([places["bin"] / "bash", script], cwd=places["workspace"], env=environ, check=True)
    return log.read_text(encoding="utf-8").splitlines()


def test_uv_installs_if_the_runner_has_it(places: dict[str, Path]) -> None:
    calls = install(places, "uv", "python3")
    venv = places["temp"] / "aethr-venv"
    uv = f"uv {places['temp']}: pip install --quiet --no-config --python {venv}/bin/python"
    assert calls == [
        f"uv {places['temp']}: venv --quiet --no-config --clear --python python3 {venv}",
        f"{uv} --require-hashes --only-binary :all: --requirement {lock.LOCK}",
        f"{uv} --no-index --no-deps --no-build-isolation {ROOT}",
    ]


def test_pip_installs_without_uv(places: dict[str, Path]) -> None:
    calls = install(places, "python3")
    venv = places["temp"] / "aethr-venv"
    pip = f"python {places['temp']}: -I -m pip install --quiet --disable-pip-version-check"
    assert calls == [
        f"python3 {places['temp']}: -I -m venv --clear {venv}",
        f"{pip} --require-hashes --only-binary :all: --requirement {lock.LOCK}",
        f"{pip} --no-index --no-deps --no-build-isolation {ROOT}",
    ]


def test_the_requested_python_is_used(places: dict[str, Path]) -> None:
    assert "--python /opt/py/bin/python " in install(places, "uv", AETHR_PYTHON="/opt/py/bin/python")[0]


def test_two_uses_in_a_job_install_once(places: dict[str, Path]) -> None:
    install(places, "uv")
    assert len(install(places, "uv")) == 3


def test_the_program_imports_nothing_from_where_it_works(places: dict[str, Path]) -> None:
    install(places, "uv")
    run = (places["temp"] / "aethr-venv" / "run").read_text(encoding="utf-8")
    assert run.splitlines()[-1] == f'exec "{places["temp"]}/aethr-venv/bin/python" -I -m aethr "$@"'


# --- what it installs ----------------------------------------------------------------------------

MAKER = """\
import os, zipfile
FOLDER = "aethr-1.dist-info"
FILES = {
    f"{FOLDER}/METADATA": "Metadata-Version: 2.1\\nName: aethr\\nVersion: 1\\nRequires-Dist: newcomer\\n",
    f"{FOLDER}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    f"{FOLDER}/RECORD": "",
    "aethr/__main__.py": "import dep; print(dep.VERSION, 'built by BUILDER')",
}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "aethr-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""
PROJECT = '[build-system]\nrequires = ["maker>=1"]\nbuild-backend = "maker"\n'


@dataclass(frozen=True)
class Action:
    """A checkout of an action whose packages are made up, and the index that has them."""

    places: dict[str, Path]
    index: IndexServer
    tool: str

    @property
    def run(self) -> Path:
        return self.places["temp"] / "aethr-venv" / "run"

    def install(self, *locked: str) -> subprocess.CompletedProcess[str]:
        checkout = self.places["temp"].parent / "action"
        (checkout / ".github").mkdir(parents=True)
        shutil.copyfile(ROOT / ".github" / "install.sh", checkout / ".github" / "install.sh")
        (checkout / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        (checkout / "requirements.txt").write_text("".join(locked), encoding="utf-8")
        servers = {"UV_DEFAULT_INDEX": self.index.url, "PIP_INDEX_URL": self.index.url}
        return really_install(self.places, self.tool, checkout, servers)


def really_install(
    places: dict[str, Path], tool: str, checkout: Path, more: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the script with the real uv or the real pip; all it says is in ``stdout``."""
    if tool == "uv":
        uv = real_uv()
        if uv is None:
            pytest.skip("uv is not here")
        (places["bin"] / "uv").symlink_to(uv)
    environ = {
        "PATH": os.fspath(places["bin"]),
        "HOME": os.fspath(places["temp"].parent),
        "RUNNER_TEMP": os.fspath(places["temp"]),
        "AETHR_PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        **more,
    }
    return subprocess.run(
        [places["bin"] / "bash", checkout / ".github" / "install.sh"],
        cwd=places["workspace"], env=environ, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(params=["uv", "pip"])
def action(places: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Action]:
    """Its index has newer versions of both packages than the lock of a test will."""
    with IndexServer() as index:
        for name, code in (
            ("dep", "VERSION = 'a newer dep'"),
            ("maker", MAKER.replace("BUILDER", "maker 2")),
        ):
            index.add_wheel(name, "2.0", {f"{name}.py": code})
        yield Action(places, index, request.param)


def test_only_locked_packages_are_downloaded(action: Action) -> None:
    locked = (
        action.index.add_wheel("dep", "1.0", {"dep.py": "VERSION = 'dep 1'"}),
        action.index.add_wheel("maker", "1.0", {"maker.py": MAKER.replace("BUILDER", "maker 1")}),
    )
    done = action.install(*locked)
    assert done.returncode == 0, done.stdout
    assert subprocess.check_output([action.run], text=True).strip() == "dep 1 built by maker 1"
    files = {"dep-1.0-py3-none-any.whl", "maker-1.0-py3-none-any.whl"}
    assert set(action.index.asked) == {"dep", "maker"} | files


def test_other_bytes_under_the_same_name_are_not_installed(action: Action) -> None:
    locked = action.index.add_wheel("dep", "1.0", {"dep.py": "VERSION = 'dep 1'"})
    action.index.add_wheel("dep", "1.0", {"dep.py": "VERSION = 'something else'"})
    done = action.install(locked)
    assert done.returncode != 0
    assert "hash" in done.stdout.lower()
    assert not action.run.exists()


def test_what_the_lock_lacks_is_not_installed(action: Action) -> None:
    locked = action.index.add_wheel("dep", "1.0", {"dep.py": ""}, "newcomer")
    action.index.add_wheel("newcomer", "1.0", {"newcomer.py": ""})
    done = action.install(locked)
    assert done.returncode != 0
    assert "newcomer" in done.stdout
    assert "newcomer-1.0-py3-none-any.whl" not in action.index.asked
    assert not action.run.exists()


def test_nothing_is_built_that_the_index_gives(action: Action, tmp_path: Path) -> None:
    setup = f"open({str(tmp_path / 'built')!r}, 'w'); from setuptools import setup; setup(name='dep')"
    done = action.install(action.index.add_source("dep", "1.0", setup))
    assert done.returncode != 0
    assert "dep-1.0.tar.gz" not in action.index.asked
    assert not (tmp_path / "built").exists()


@pytest.mark.parametrize("tool", tiered(["uv", "pip"], ci=1))
def test_the_real_lock_is_all_that_is_installed(places: dict[str, Path], tool: str) -> None:
    """The one here that needs a package index; pip takes most of a minute."""
    done = really_install(places, tool, ROOT, index_settings())
    skip_if_unreachable(done)
    assert done.returncode == 0, done.stdout
    venv = places["temp"] / "aethr-venv"
    assert lock.installed(venv / "bin" / "python") == {**lock.locked(), "aethr": __version__}
    assert subprocess.check_output([venv / "run", "version"], text=True) == f"aethr {__version__}\n"
