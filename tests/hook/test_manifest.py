"""The manifest, and two ways to run a hook: ``try-repo``, and ``aethr-check`` on workflow files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from aethr import __version__
from tests import lock
from tests.hook.conftest import HOMES, SOURCE, Hooked, Tool, skip_if_unreachable
from tests.pages import of_kind
from tests.support import Repo, tiered

pytestmark = pytest.mark.slow

GOOD = """\
workflow: good
roles: {reviewer: "Review."}
steps: [{id: review, role: reviewer, context: [git_diff]}]
"""


def test_the_manifest_is_valid(tool: Tool) -> None:
    tool.ok("validate-manifest", str(SOURCE / ".pre-commit-hooks.yaml"), cwd=SOURCE)


def test_the_configuration_of_the_page_is_valid(tool: Tool, tmp_path: Path) -> None:
    page = (SOURCE / "docs" / "hook.md").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    tool.ok("validate-config", str(tmp_path / "config.yaml"), cwd=tmp_path)


@pytest.mark.parametrize("tool", tiered(["prek", "pre-commit"], ci=1), indirect=True)
def test_try_repo_installs_it_and_a_mock_is_no_pass(tool: Tool, released: Repo, repo: Repo) -> None:
    repo.write("app.py", "x\n")
    repo.git("add", "-A")
    done = tool.run("try-repo", str(released.root), "aethr-review", cwd=repo.root)
    skip_if_unreachable(done)
    assert done.returncode == 1, done.stdout
    assert "NOT REVIEWED: mock mode: no model was called" in done.stdout
    assert "exit code 4: not reviewed." in done.stdout


def install_with_the_lock(
    tool: Tool, released: Repo, repo: Repo, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Make the environment of the hook as the page pins it."""
    (block,) = (each for each in of_kind("part") if "additional_dependencies" in each.text)
    repos = [{"repo": str(released.root), "rev": "v1.0.0", "hooks": yaml.safe_load(block.text)}]
    (folder / "config.yaml").write_text(json.dumps({"repos": repos}), encoding="utf-8")
    return tool.run("install-hooks", "--config", str(folder / "config.yaml"), cwd=repo.root)


@pytest.mark.parametrize("tool", tiered(["pre-commit", "prek"], ci=1), indirect=True)
def test_a_pinned_hook_has_only_locked_packages(
    tool: Tool, released: Repo, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOMES[tool.name], str(tmp_path / "store"))
    done = install_with_the_lock(tool, released, repo, tmp_path)
    skip_if_unreachable(done)
    assert done.returncode == 0, done.stdout
    (program,) = (tmp_path / "store").rglob("bin/aethr")
    assert lock.installed(program.parent / "python") == {**lock.locked(), "aethr": __version__}


@pytest.mark.parametrize("tool", ["pre-commit"], indirect=True)
def test_pip_refuses_the_lock_of_a_hook(
    tool: Tool, released: Repo, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOMES[tool.name], str(tmp_path / "store"))
    monkeypatch.setenv("DISABLE_PRE_COMMIT_UV_PATCH", "1")
    done = install_with_the_lock(tool, released, repo, tmp_path)
    assert done.returncode != 0
    assert (
        "Can't verify hashes for these file:// requirements because they point to directories" in done.stdout
    )


@pytest.mark.parametrize("name", [".aethr.yaml", "packages/one/.aethr.yml"])
def test_an_invalid_workflow_file_blocks_the_commit(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SKIP", "aethr-review")
    hooked.install("pre-commit")
    hooked.repo.write(name, GOOD.replace("git_diff", "git_dif"))
    hooked.repo.git("add", "-A")
    done = hooked.git("commit", "-m", "one")
    assert done.returncode != 0
    assert f"{name}:3:48: unknown context source 'git_dif' (did you mean 'git_diff'?)" in done.stdout
    hooked.repo.write(name, GOOD)
    hooked.repo.git("add", "-A")
    done = hooked.git("commit", "-m", "one")
    assert done.returncode == 0, done.stdout
