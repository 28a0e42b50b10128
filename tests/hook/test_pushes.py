"""Every kind of push: the hook reviews what the remote does not have, read from git's objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hook.conftest import Hooked, changed, reviewed
from tests.support import Repo

pytestmark = pytest.mark.slow

LINES = "".join(f"line {number}\n" for number in range(40))


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    Repo(tmp_path).git("init", "-q", "--bare", "-b", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def local(hooked: Hooked, remote: Path) -> Repo:
    """A clone with one commit that is not pushed yet; the hook is installed."""
    repo = hooked.repo
    repo.git("remote", "add", "origin", str(remote))
    commit(repo, "app.py", LINES)
    hooked.install("pre-push")
    return repo


@pytest.fixture
def pushed(local: Repo) -> Repo:
    """The same, and that commit is pushed."""
    local.git("push", "-q", "--no-verify", "-u", "origin", "main")
    return local


def commit(repo: Repo, name: str, content: str) -> str:
    repo.write(name, content)
    return repo.commit(name)


def push(project: Hooked, *words: str) -> str:
    done = project.git("push", *words)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_first_push_to_an_empty_remote_is_everything(hooked: Hooked, local: Repo) -> None:
    commit(local, "second.py", "x\n")
    output = push(hooked, "origin", "main")
    nothing = local.git("hash-object", "-t", "tree", "/dev/null").strip()
    assert reviewed(hooked.record) == changed(local, nothing, "main")
    assert "the push of main to origin" in output


def test_a_push_ignores_the_working_tree(hooked: Hooked, pushed: Repo) -> None:
    old = pushed.git("rev-parse", "main").strip()
    commit(pushed, "app.py", LINES + "more\n")
    commit(pushed, "second.py", "x\n")
    pushed.write("app.py", "neither staged nor committed\n")
    pushed.write("third.py", "staged\n")
    pushed.git("add", "third.py")
    push(hooked, "origin", "main")
    assert reviewed(hooked.record) == changed(pushed, old, "main")


def test_a_push_of_a_branch_that_is_not_checked_out(hooked: Hooked, pushed: Repo) -> None:
    pushed.git("checkout", "-q", "-b", "new/branch")
    commit(pushed, "second.py", "x\n")
    commit(pushed, "third.py", "x\n")
    pushed.git("checkout", "-q", "main")
    output = push(hooked, "origin", "new/branch")
    assert reviewed(hooked.record) == changed(pushed, "main", "new/branch")
    assert "the push of new/branch to origin" in output


def test_a_force_push_is_compared_with_the_merge_base(hooked: Hooked, pushed: Repo) -> None:
    base = pushed.git("rev-parse", "main").strip()
    commit(pushed, "old.py", "x\n")
    pushed.git("push", "-q", "--no-verify", "origin", "main")
    pushed.git("reset", "-q", "--hard", base)
    commit(pushed, "new.py", "x\n")
    push(hooked, "--force", "origin", "main")
    assert reviewed(hooked.record) == changed(pushed, base, "main")
    assert list(reviewed(hooked.record)) == ["new.py"]


def test_a_force_push_of_unrelated_history_is_reviewed(hooked: Hooked, pushed: Repo) -> None:
    old = pushed.git("rev-parse", "main").strip()
    pushed.git("checkout", "-q", "--orphan", "other")
    commit(pushed, "app.py", LINES + "more\n")
    push(hooked, "--force", "origin", "other:main")
    assert reviewed(hooked.record) == changed(pushed, old, "other")


def test_a_push_that_only_removes_commits_reviews_nothing(hooked: Hooked, pushed: Repo) -> None:
    commit(pushed, "old.py", "x\n")
    pushed.git("push", "-q", "--no-verify", "origin", "main")
    output = push(hooked, "--force", "origin", "HEAD^:main")
    # prek does not even start its hooks then.
    assert hooked.tool.name == "prek" or "nothing to review: the push of main to origin" in output
    assert not hooked.record.exists()


def test_an_orphan_branch_is_compared_with_the_default_one(hooked: Hooked, pushed: Repo) -> None:
    pushed.git("remote", "set-head", "origin", "main")
    pushed.git("checkout", "-q", "--orphan", "imported")
    commit(pushed, "imported.py", "x\n")
    pushed.git("merge", "-q", "--allow-unrelated-histories", "-m", "both", "main")
    push(hooked, "origin", "imported")
    assert reviewed(hooked.record) == changed(pushed, "main", "imported")


def test_the_reviewed_ref_of_several_is_named(hooked: Hooked, pushed: Repo) -> None:
    """pre-commit and prek hand over the first ref that has something new, and no other."""
    old = pushed.git("rev-parse", "main").strip()
    pushed.git("branch", "same")
    for name in ("first", "second"):
        pushed.git("checkout", "-q", "-b", name, "main")
        commit(pushed, f"{name}.py", "x\n")
    output = push(hooked, "origin", "same", "first", "second")
    (named,) = [name for name in ("first", "second") if f"the push of {name} to origin" in output]
    assert reviewed(hooked.record) == changed(pushed, old, named)


def test_deleting_a_branch_reviews_nothing(hooked: Hooked, pushed: Repo) -> None:
    pushed.git("push", "-q", "--no-verify", "origin", "main:gone")
    push(hooked, "origin", ":gone")
    assert not hooked.record.exists()


def test_a_tag_and_a_detached_head(hooked: Hooked, pushed: Repo) -> None:
    old = pushed.git("rev-parse", "main").strip()
    pushed.git("checkout", "-q", "--detach")
    commit(pushed, "second.py", "x\n")
    pushed.git("tag", "-a", "-m", "release", "v9")
    assert "the push of v9 to origin" in push(hooked, "origin", "v9")
    assert reviewed(hooked.record) == changed(pushed, old, "v9")


@pytest.mark.parametrize("stage", ["manual", "pre-push", "pre-commit"])
def test_a_range_by_hand(hooked: Hooked, pushed: Repo, stage: str) -> None:
    pushed.git("checkout", "-q", "-b", "topic")
    commit(pushed, "topic.py", "x\n")
    pushed.git("checkout", "-q", "main")
    commit(pushed, "main.py", "x\n")
    words = ["run", "--config", str(hooked.config), "--hook-stage", stage]
    output = hooked.tool.ok(*words, "--from-ref", "main", "--to-ref", "topic", cwd=pushed.root)
    assert reviewed(hooked.record) == changed(pushed, "main~1", "topic")
    assert "the change " in output
