"""The hooks as people get them: installed by real pre-commit and real prek from a tagged clone of this tree.

Each tool's environment is made once for all tests; that, and nothing else, needs the package index.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from aethr.base.records import is_git_diff
from aethr.context.diffs import Section, number, parse
from tests.support import PACKAGE, Repo, make_repo

SOURCE = Path(__file__).parent.parent.parent
SHIPPED = (*PACKAGE, ".pre-commit-hooks.yaml", "requirements.txt")
HOMES = {"pre-commit": "PRE_COMMIT_HOME", "prek": "PREK_HOME"}
UNREACHABLE = (
    "error sending request",
    "Failed to fetch",
    "dns error",
    "Temporary failure in name resolution",
)


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with its standard input closed; all it says is in ``stdout``."""
    return subprocess.run(
        words,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Tool:
    """pre-commit or prek."""

    name: str
    program: Path

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return run(str(self.program), *words, cwd=cwd)

    def ok(self, *words: str, cwd: Path) -> str:
        done = self.run(*words, cwd=cwd)
        assert done.returncode == 0, done.stdout
        return done.stdout


def reviewed(record: Path) -> dict[str, str]:
    """The sha256 of what was sent of each file of the change."""
    steps = json.loads(record.read_text(encoding="utf-8"))["steps"]
    return {each["path"]: each["sha256"] for each in steps[0]["context"] if is_git_diff(each["source"])}


def changed(repo: Repo, base: str, head: str) -> dict[str, str]:
    """The same of what git says that changed between two commits."""
    names = [name for name in repo.git("diff", "-z", "--name-only", base, head).split("\0") if name]
    form = ("diff", "--function-context", base, head, "--")
    return {name.replace("\n", "\\n"): sha(repo.git(*form, name)) for name in names}


def sha(diff: str) -> str:
    """That of a diff with the numbers in front of its lines."""
    parts = (
        each.header.decode() if isinstance(each, Section) else number((each.text or b"").decode())
        for each in parse([diff.encode()], 1 << 20)
    )
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def skip_if_unreachable(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode and any(word in done.stdout for word in UNREACHABLE):
        pytest.skip("the package index cannot be reached, so no environment for the hook can be made")


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all tests of this run share, also those of pytest-xdist's other processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "hooks"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def released(shared: Path, tmp_path: Path) -> Repo:
    """A repository with what this one ships, tagged v1.0.0."""
    root = shared / "released"
    if not root.exists():
        made = release(tmp_path / "released").root
        with suppress(OSError):  # another process was faster; its copy is the same
            made.rename(root)
    return Repo(root)


def release(root: Path) -> Repo:
    repo = make_repo(root)
    for name in SHIPPED:
        if (SOURCE / name).is_dir():
            shutil.copytree(SOURCE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(SOURCE / name, root / name)
    repo.commit("release")
    repo.git("tag", "v1.0.0")
    return repo


@pytest.fixture(params=HOMES)
def tool(request: pytest.FixtureRequest, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """The tool, with a store of its own and the caches of packages that this run shares."""
    name: str = request.param
    program = Path(sys.executable).parent / name
    if not program.exists():
        pytest.skip(f"{name} is not installed beside this Python")
    monkeypatch.setenv(HOMES[name], str(shared / name))
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", str(shared / "uv")))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    return Tool(name, program)


@dataclass(frozen=True, slots=True)
class Hooked:
    """A repository whose commits or pushes go through a hook of this tree."""

    repo: Repo
    tool: Tool
    released: Path
    config: Path
    record: Path

    def configure(self, *args: str) -> None:
        """Both hooks, as a project would have them; ``args`` are those of the review."""
        hooks = [{"id": "aethr-review", "args": args}, {"id": "aethr-check"}]
        repos = [{"repo": str(self.released), "rev": "v1.0.0", "hooks": hooks}]
        self.config.write_text(json.dumps({"repos": repos}), encoding="utf-8")

    def install(self, *stages: str, cwd: Path | None = None) -> None:
        types = [word for stage in stages for word in ("--hook-type", stage)]
        self.tool.ok("install", "--config", str(self.config), *types, cwd=cwd or self.repo.root)

    def git(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A git command whose output, that of the hook with it, is in ``stdout``."""
        return run("git", *words, cwd=cwd or self.repo.root)


@pytest.fixture
def hooked(tool: Tool, released: Repo, repo: Repo, shared: Path, tmp_path: Path) -> Hooked:
    """A repository under the tool; in mock mode the hook passes, and leaves its record in a file."""
    project = Hooked(repo, tool, released.root, tmp_path / "config.yaml", tmp_path / "record.json")
    project.configure("--if-not-reviewed=pass", "--report", str(project.record))
    made = shared / f"{tool.name}-is-ready"
    if not made.exists():
        done = tool.run("install-hooks", "--config", str(project.config), cwd=repo.root)
        skip_if_unreachable(done)
        assert done.returncode == 0, done.stdout
        assert list((shared / tool.name).rglob("bin/aethr")), "the environment of the hook has no aethr"
        made.touch()
    return project
