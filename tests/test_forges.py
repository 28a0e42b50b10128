"""The recipes for other forges: their commands run as a runner of that forge would run them.

That is in a fresh clone without a branch, with the variables that the forge sets and no others,
and a server on loopback in place of the provider. What installs Aethr is left out: it is on ``PATH``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live import KEY
from tests.model_server import ModelServer
from tests.pages import of_kind
from tests.support import Repo
from tests.worlds import ANSWERS, BIN, Setting, built

pytestmark = pytest.mark.slow

FILES = {block.about: block.text for block in of_kind("file") if block.page == "docs/recipes.md"}
GITLAB = yaml.safe_load(FILES[".gitlab-ci.yml"])
GITEA = yaml.safe_load(FILES[".gitea/workflows/review.yml"])["jobs"]["review"]["steps"]
WORKFLOW = next(
    block.text
    for block in of_kind("file")
    if block.about == ".aethr.yaml" and "workflow: merge-request" in block.text
)
ENDS = [("a pass", 0), ("a high finding", 1)]


def run(commands: str, source: Repo, folder: Path, answers: str, environ: Mapping[str, str]) -> int:
    """The exit code of the commands in a clone of ``source`` at its commit, in ``folder``."""
    for words in (("clone", "-q", source.root.as_uri(), str(folder)), ("checkout", "-q", "--detach", "HEAD")):
        cwd = source.root if words[0] == "clone" else folder
        subprocess.run(("git", *words), cwd=cwd, check=True, capture_output=True)
    with ModelServer(ANSWERS[answers]) as server:
        clean = {
            "PATH": os.pathsep.join((str(BIN), os.defpath)),
            "HOME": str(folder.parent),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": server.base_url,
            **environ,
        }
        done = subprocess.run(
            ("bash", "-euo", "pipefail", "-c", commands),
            cwd=folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert len(server.bodies) == 1, done.stdout + done.stderr
    return done.returncode


@pytest.mark.parametrize(("answers", "code"), ENDS)
@pytest.mark.parametrize("merged", [False, True], ids=["detached", "merged results"])
def test_a_job_of_gitlab(answers: str, code: int, merged: bool, tmp_path: Path) -> None:
    job = GITLAB["aethr"]
    install, review = job["script"]
    assert install.startswith("pip install ")
    with built(Setting("a branch"), {".aethr.yaml": WORKFLOW}, tmp_path) as world:
        base, head = world.repo.git("rev-parse", "main").strip(), world.repo.git("rev-parse", "HEAD").strip()
        variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "CI_COMMIT_SHA": head, **job["variables"]}
        if merged:  # what the target branch got since is not reviewed
            world.repo.git("checkout", "-q", "main")
            world.repo.write("later.py", "1\n")
            world.repo.commit("later")
            world.repo.git("merge", "-q", "--no-edit", head)
            variables["CI_COMMIT_SHA"] = world.repo.git("rev-parse", "HEAD").strip()
            variables["CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"] = head
        clone = tmp_path / "build"
        assert run(review, world.repo, clone, answers, variables) == code
    assert {path.name for path in clone.iterdir()} >= {*job["artifacts"]["paths"]}
    assert read(clone, job["artifacts"]["reports"]["codequality"]) == ["app.py"][:code]
    assert job["artifacts"]["when"] == "always", "a closed gate has a report too"


def read(clone: Path, name: str) -> list[str]:
    entries: list[dict[str, Any]] = json.loads((clone / name).read_text(encoding="utf-8"))
    return [each["location"]["path"] for each in entries]


def test_the_target_branch_of_gitlab_has_an_empty_report(tmp_path: Path) -> None:
    job = GITLAB["aethr-base"]
    subprocess.run(("bash", "-euc", "\n".join(job["script"])), cwd=tmp_path, check=True)
    assert read(tmp_path, job["artifacts"]["reports"]["codequality"]) == []


@pytest.mark.parametrize(("answers", "code"), ENDS)
def test_a_job_of_gitea(answers: str, code: int, tmp_path: Path) -> None:
    review, comment = GITEA[-2:]
    event = {"BASE": "github.event.pull_request.base.sha", "HEAD": "github.event.pull_request.head.sha"}
    assert {name: review["env"][name] for name in event} == {
        name: f"${{{{ {value} }}}}" for name, value in event.items()
    }
    with built(Setting("a branch"), {".aethr.yaml": WORKFLOW}, tmp_path) as world:
        commits = {"BASE": world.repo.git("rev-parse", "main"), "HEAD": world.repo.git("rev-parse", "HEAD")}
        variables = {name: commit.strip() for name, commit in commits.items()}
        variables["AETHR_LIVE"] = review["env"]["AETHR_LIVE"]
        clone = tmp_path / "build"
        assert run(review["run"], world.repo, clone, answers, variables) == code
    report = comment["run"].rpartition("<")[2]
    diagnostics = json.loads((clone / report).read_text(encoding="utf-8"))["diagnostics"]
    assert [each["location"]["path"] for each in diagnostics] == ["app.py"][:code]
    assert comment["if"] == "always()"
