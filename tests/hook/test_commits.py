"""Every way to commit: the hook reviews exactly the bytes of the commit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import HOMES, Hooked, changed, reviewed, sha
from tests.support import Repo, make_repo, pairs, tiered

LINES = "".join(f"line {number}\n" for number in range(40))
pytestmark = pytest.mark.slow

Way = Callable[[Hooked], subprocess.CompletedProcess[str]]


def plainly(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.write("a file.py", "new\n")
    project.repo.write("two\nlines.py", "new\n")
    project.repo.git("add", "-A")
    project.repo.write("a file.py", "not staged\n")
    return project.git("commit", "-m", "plainly")


def all_tracked(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.write("app.py", LINES + "more\n")
    project.repo.write("untracked.py")
    return project.git("commit", "-am", "all")


def one_file(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.write("app.py", LINES + "more\n")
    project.repo.write("other.py", "staged, and not in this commit\n")
    project.repo.git("add", "other.py")
    return project.git("commit", "-m", "one", "app.py")


def a_part(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.write("app.py", "first\n" + LINES + "last\n")
    subprocess.run(
        ["git", "add", "-p"], cwd=project.repo.root, input=b"y\nn\n", check=True, capture_output=True
    )
    return project.git("commit", "-m", "part")


def amending(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.write("app.py", LINES + "more\n")
    project.repo.git("add", "app.py")
    return project.git("commit", "--amend", "--no-edit")


def merging(project: Hooked) -> subprocess.CompletedProcess[str]:
    repo = project.repo
    repo.git("checkout", "-q", "-b", "side")
    repo.write("app.py", "theirs\n" + LINES)
    repo.git("commit", "-qam", "theirs", "--no-verify")
    repo.git("checkout", "-q", "main")
    repo.write("app.py", "ours\n" + LINES)
    repo.git("commit", "-qam", "ours", "--no-verify")
    repo.git("merge", "side", check=False)
    repo.write("app.py", "both\n" + LINES)
    repo.git("add", "app.py")
    return project.git("commit", "--no-edit")


def in_a_folder(project: Hooked) -> subprocess.CompletedProcess[str]:
    file = project.repo.write("deep/er/x.py", "new\n")
    project.repo.git("add", "-A")
    return project.git("commit", "-m", "from a folder", cwd=file.parent)


def removing(project: Hooked) -> subprocess.CompletedProcess[str]:
    project.repo.git("rm", "-q", "app.py")
    return project.git("commit", "-m", "gone")


WAYS = (plainly, all_tracked, one_file, a_part, amending, in_a_folder, removing, merging)


@pytest.mark.parametrize(
    ("way", "tool"),
    tiered(pairs(WAYS, HOMES), ci=len(WAYS)),
    indirect=["tool"],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_way_to_commit_is_reviewed(hooked: Hooked, way: Way) -> None:
    hooked.repo.write("app.py", LINES)
    hooked.repo.commit("start")
    hooked.install("pre-commit")
    before = hooked.repo.git("rev-parse", "HEAD").strip()
    done = way(hooked)
    assert done.returncode == 0, done.stdout
    assert "NOT REVIEWED: mock mode" in done.stdout
    parent = before if way is amending else "HEAD^"
    assert reviewed(hooked.record) == changed(hooked.repo, parent, "HEAD")


def test_the_first_commit_is_reviewed(hooked: Hooked) -> None:
    hooked.install("pre-commit")
    hooked.repo.write("app.py", LINES)
    hooked.repo.git("add", "-A")
    done = hooked.git("commit", "-m", "first")
    assert done.returncode == 0, done.stdout
    assert reviewed(hooked.record) == {"app.py": sha(hooked.repo.git("show", "--format=", "HEAD"))}


def test_a_linked_worktree_is_reviewed(hooked: Hooked, tmp_path: Path) -> None:
    hooked.repo.write("app.py", LINES)
    hooked.repo.commit("start")
    hooked.install("pre-commit")
    linked = Repo(tmp_path / "linked")
    hooked.repo.git("worktree", "add", "-q", "-b", "side", str(linked.root))
    hooked.repo.write("app.py", "of the other tree\n")
    hooked.repo.git("add", "-A")
    linked.write("app.py", LINES + "more\n")
    done = hooked.git("commit", "-am", "linked", cwd=linked.root)
    assert done.returncode == 0, done.stdout
    assert reviewed(hooked.record) == changed(linked, "HEAD^", "HEAD")


def test_a_submodule_and_the_commit_that_moves_it(
    hooked: Hooked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    library = make_repo(tmp_path / "library")
    library.write("lib.py", LINES)
    library.commit()
    hooked.repo.git("submodule", "add", "-q", str(library.root), "lib")
    hooked.repo.commit("start")
    inner = Repo(hooked.repo.root / "lib")
    for each in (hooked.repo.root, inner.root):
        hooked.install("pre-commit", cwd=each)
    inner.write("lib.py", LINES + "more\n")
    for repo in (inner, hooked.repo):
        done = hooked.git("commit", "-am", "in a submodule", cwd=repo.root)
        assert done.returncode == 0, done.stdout
        assert reviewed(hooked.record) == changed(repo, "HEAD^", "HEAD")


def test_nothing_staged_is_reported_and_passes(hooked: Hooked) -> None:
    hooked.repo.write("app.py", LINES)
    hooked.repo.commit("start")
    hooked.install("pre-commit")
    done = hooked.git("commit", "--allow-empty", "-m", "empty")
    assert (done.returncode, hooked.record.exists()) == (0, False)
    assert "nothing to review: the staged change is empty; no model was called" in done.stdout
