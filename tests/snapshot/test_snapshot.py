"""What one step changed, from two snapshots of real work trees."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr import snapshot
from aethr.base.errors import DiskError, GitError, GitMissingError
from aethr.snapshot import Difference, treediff
from tests.support import Repo, leave_a_conflict, make_repo


def change(root: Path, act: Callable[[], object]) -> Difference:
    """What ``act`` changed in the project at ``root``."""
    with snapshot.open_shadow(root, os.environ) as recorder:
        before = snapshot.take(recorder)
        act()
        return snapshot.since(recorder, before)


def files(found: Difference) -> tuple[str, ...]:
    return found.artifacts.changed_files


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder with its mode, content and time.

    Not the times of objects: git renews that of an object it would have written and finds.
    """
    return {
        str(path.relative_to(folder)): " ".join(
            (
                f"{path.lstat().st_mode:o}",
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
                "" if "objects" in path.parts else str(path.lstat().st_mtime_ns),
            )
        )
        for path in sorted(folder.rglob("*"))
    }


# --- what is in the difference ---


def test_each_kind_of_change_is_seen(repo: Repo) -> None:
    for name in ("kept.py", "changed.py", "deleted.py"):
        repo.write(name, f"{name}\n" * 20)
    repo.write("old name.py", "".join(f"line {n}\n" for n in range(50)))
    repo.write("script.sh", "echo\n")
    repo.commit()

    def act() -> None:
        repo.write("changed.py", "other\n")
        (repo.root / "deleted.py").unlink()
        (repo.root / "old name.py").rename(repo.root / "new name.py")
        (repo.root / "script.sh").chmod(0o755)
        repo.write("new folder/deep/new.py", "new\n")

    found = change(repo.root, act)
    assert files(found) == ("changed.py", "deleted.py", "new folder/deep/new.py", "new name.py", "script.sh")
    diff = found.artifacts.git_diff
    assert "deleted file mode 100644" in diff
    assert "new mode 100755" in diff
    assert "rename from old name.py\nrename to new name.py\n" in diff
    assert "diff --git a/new folder/deep/new.py b/new folder/deep/new.py\nnew file mode 100644\n" in diff
    assert "+other\n" in diff
    assert "kept.py" not in diff
    assert "5 files changed" in found.artifacts.diff_stat
    assert found.notes == ()


def test_nothing_changed_is_empty(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write("dirty.py")
    found = change(repo.root, lambda: None)
    assert found == Difference(found.artifacts)
    assert found.artifacts.changed_files == ()
    assert found.artifacts.git_diff == ""
    assert found.artifacts.diff_stat == ""


def test_only_the_steps_own_edits_of_a_dirty_tree_are_in_it(repo: Repo) -> None:
    repo.write("both.py", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n")
    repo.write("mine.py", "mine\n")
    repo.write("staged.py", "staged\n")
    repo.commit()
    repo.write("both.py", "MINE\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n")
    repo.write("mine.py", "MINE\n")
    repo.write("untracked.py", "MINE\n")
    repo.write("staged.py", "MINE\n")
    repo.git("add", "staged.py")
    (repo.root / "gone.py").write_text("x\n")

    def act() -> None:
        repo.write("both.py", "MINE\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nAGENT\n")
        repo.write("untracked.py", "MINE\nAGENT\n")
        (repo.root / "gone.py").unlink()

    found = change(repo.root, act)
    assert files(found) == ("both.py", "gone.py", "untracked.py")
    added = [line for line in found.artifacts.git_diff.splitlines() if line.startswith(("+", "-"))]
    assert [line for line in added if not line.startswith(("+++", "---"))] == [
        "-ten",
        "+AGENT",
        "-x",
        "+AGENT",
    ]


def test_odd_names_are_distinct_and_safe_for_json(repo: Repo) -> None:
    names = [
        b"new\nline.py",
        b'quo"te.py',
        b"esc\x1b[31m.py",
        b"caf\xe9.py",
        "día.py".encode(),
        b" lead.py",
        b"-x.py",
    ]

    def act() -> None:
        for name in names:
            (repo.root / os.fsdecode(name)).write_text("x = 1\n")

    found = change(repo.root, act)
    assert set(files(found)) == {
        "new\nline.py",
        'quo"te.py',
        "esc\x1b[31m.py",
        "caf\\xe9.py",
        "día.py",
        " lead.py",
        "-x.py",
    }
    json.dumps(files(found), ensure_ascii=False).encode("utf-8")
    assert r'"b/new\nline.py"' in found.artifacts.git_diff
    assert r'"b/caf\351.py"' in found.artifacts.git_diff
    assert "\x1b" not in found.artifacts.git_diff


def test_a_binary_file_is_named_with_its_sizes(repo: Repo) -> None:
    repo.write("logo.png", b"\x89PNG\0" * 20)
    repo.commit()
    found = change(repo.root, lambda: repo.write("logo.png", b"\x89PNG\0" * 50))
    assert "Binary files a/logo.png and b/logo.png differ\n" in found.artifacts.git_diff
    assert found.notes == ("binary or too large to show: logo.png (100 -> 250 bytes)",)


def test_bytes_that_are_not_utf8_are_replaced_and_reported(repo: Repo) -> None:
    repo.write("latin.txt", "caf\u00e9\n".encode("latin-1"))
    repo.commit()
    found = change(repo.root, lambda: repo.write("latin.txt", "th\u00e9\n".encode("latin-1")))
    found.artifacts.git_diff.encode("utf-8")
    assert "+th\ufffd\n" in found.artifacts.git_diff
    assert found.notes == ("bytes that are not UTF-8 are shown as \ufffd: a/latin.txt b/latin.txt",)


def test_a_file_that_became_a_link(repo: Repo) -> None:
    repo.write("a.txt", "text\n")
    repo.commit()

    def act() -> None:
        (repo.root / "a.txt").unlink()
        (repo.root / "a.txt").symlink_to("/etc/passwd")

    found = change(repo.root, act)
    assert files(found) == ("a.txt",)
    assert "new file mode 120000" in found.artifacts.git_diff
    assert "root:" not in found.artifacts.git_diff


def test_a_diff_over_the_limit_names_the_files_it_excludes(repo: Repo) -> None:
    line = "x" * 79 + "\n"
    small = treediff.DIFF_LIMIT // len(line) // 2

    def act() -> None:
        for name in ("a.txt", "b.txt", "c.txt"):
            repo.write(name, line * small)
        repo.write("d.txt", "last\n")

    found = change(repo.root, act)
    diff = found.artifacts.git_diff
    assert files(found) == ("a.txt", "b.txt", "c.txt", "d.txt")
    assert len(diff) < treediff.DIFF_LIMIT
    assert diff.count("\n+" + "x" * 79) == small
    assert "Binary files /dev/null and b/b.txt differ\n" in diff
    assert "Binary files /dev/null and b/d.txt differ\n" in diff
    assert "not shown, the diff is too long: b.txt, c.txt, d.txt" in found.notes


def test_the_diff_is_the_same_each_time(repo: Repo) -> None:
    def once(folder: str) -> str:
        other = make_repo(repo.root / folder)
        other.write("a.py", "one\n" * 30)
        other.commit()
        return change(other.root, lambda: other.write("a.py", "two\n" * 30)).artifacts.git_diff

    assert once("first") == once("second")


def test_users_diff_settings_change_nothing(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.commit()
    plain = change(repo.root, lambda: repo.write("a.py", "two\n")).artifacts.git_diff
    repo.write("a.py", "one\n")
    for key, value in (
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("diff.context", "0"),
        ("core.abbrev", "40"),
    ):
        repo.git("config", key, value)
    assert change(repo.root, lambda: repo.write("a.py", "two\n")).artifacts.git_diff == plain


# --- what is left alone ---


def test_the_projects_git_directory_is_never_changed(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.commit()
    repo.write("stashed.py", "one\n")
    repo.git("add", "-A")
    repo.git("stash")
    repo.write("staged.py", "staged\n")
    repo.git("add", "staged.py")
    repo.write("a.py", "dirty\n")
    before = state(repo.root / ".git")
    found = change(repo.root, lambda: repo.write("b.py", "new\n"))
    assert files(found) == ("b.py",)
    assert state(repo.root / ".git") == before


def test_the_private_directory_is_closed_to_others_and_removed(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()

    def interrupted() -> None:
        (folder,) = (tmp_path / "temp").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change(repo.root, interrupted)
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_temporary_folder_inside_the_project_is_not_recorded(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo.root / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(repo.root / "tmp"))
    assert files(change(repo.root, lambda: repo.write("a.py"))) == ("a.py",)


@pytest.mark.parametrize("index", ["--index-version=2", "--index-version=4", "--split-index"])
def test_nothing_that_was_planted_runs(repo: Repo, tmp_path: Path, index: str) -> None:
    """Filters, fsmonitor, hooks and text conversion of this and of nested repositories."""
    repo.write("a.py", "one\n")
    repo.commit()
    part = make_repo(tmp_path / "part")
    part.write("f.py", "one\n")
    part.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part.root), "sub")
    repo.commit()
    repo.git("update-index", *index.split("="))
    nested = make_repo(repo.root / "nested")
    nested.write("n.py")
    nested.commit()
    ran = tmp_path / "ran"
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\necho $0 >> '{ran}'\ncat\n")
    evil.chmod(0o755)

    def plant(folder: Path) -> None:
        inside = Repo(folder)
        for key in (
            "core.fsmonitor",
            "filter.e.clean",
            "filter.e.process",
            "diff.e.textconv",
            "diff.external",
        ):
            inside.git("config", key, str(evil))
        hooks = Path(inside.git("rev-parse", "--absolute-git-dir").strip()) / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in ("post-index-change", "reference-transaction", "pre-commit"):
            (hooks / name).write_text(evil.read_text())
            (hooks / name).chmod(0o755)
        (folder / ".gitattributes").write_text("* filter=e diff=e\n")

    def act() -> None:
        for folder in (repo.root, repo.root / "sub", nested.root):
            plant(folder)
        repo.write("a.py", "two\n")
        repo.write("b.py", "new\n")
        (repo.root / "sub" / "f.py").write_text("two\n")
        (nested.root / "n.py").write_text("two\n")

    before_and_after = [change(repo.root, act), change(repo.root, lambda: repo.write("c.py"))]
    assert files(before_and_after[0]) == (".gitattributes", "a.py", "b.py")
    assert files(before_and_after[1]) == ("c.py",)
    assert not ran.exists()
    assert (
        "content of other repositories inside this one is not compared: nested, sub"
        in before_and_after[0].notes
    )


def test_an_attribute_cannot_hide_a_change(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.commit()

    def act() -> None:
        repo.write(".gitattributes", "*.py -diff\n*.py binary\n")
        repo.write("a.py", "evil\n")

    found = change(repo.root, act)
    assert files(found) == (".gitattributes", "a.py")
    assert "+evil\n" in found.artifacts.git_diff
    assert found.notes == ()


def test_no_other_repository_of_the_environment_is_recorded(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repo(tmp_path / "other")
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(other.root / ".git"))
    assert files(change(repo.root, lambda: (repo.root / "a.py").write_text("x\n"))) == ("a.py",)


def test_git_configuration_in_the_environment_applies(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ignored").write_text("*.log\n")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.excludesFile")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(tmp_path / "ignored"))
    assert files(change(repo.root, lambda: (repo.write("a.py"), repo.write("a.log")))) == ("a.py",)


def test_a_work_tree_with_its_git_directory_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``GIT_DIR=~/.dotfiles GIT_WORK_TREE=~``."""
    home = make_repo(tmp_path / "somewhere")
    home.write("a.py", "old\n")
    home.commit()
    (home.root / ".git").rename(tmp_path / "dotfiles")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "dotfiles"))
    monkeypatch.setenv("GIT_WORK_TREE", str(home.root))
    found = change(home.root, lambda: home.write("a.py", "new\n"))
    assert files(found) == ("a.py",)
    assert "-old\n+new\n" in found.artifacts.git_diff


# --- kinds of projects ---


def test_before_the_first_commit(repo: Repo) -> None:
    repo.write("mine.py")
    found = change(repo.root, lambda: repo.write("a.py"))
    assert files(found) == ("a.py",)
    assert found.notes == ()


def test_without_git(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    project = Repo(tmp_path / "p")
    project.write("mine.py", "one\n")
    project.write(".gitignore", "build/\n")

    def act() -> None:
        project.write("mine.py", "two\n")
        project.write("build/out.o", "x\n")

    found = change(project.root, act)
    assert files(found) == ("mine.py",)
    assert found.notes == (f"{project.root} is not in a git repository: all files in it were compared",)
    assert not (project.root / ".git").exists()


def test_in_a_linked_worktree(repo: Repo, tmp_path: Path) -> None:
    repo.write("a.py", "one\n")
    repo.commit()
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    before = state(repo.root / ".git")
    found = change(linked.root, lambda: linked.write("a.py", "two\n"))
    assert files(found) == ("a.py",)
    assert state(repo.root / ".git") == before


def test_from_a_folder_below_the_top_names_are_those_of_git_diff(repo: Repo) -> None:
    repo.write("sub/a.py", "one\n")
    repo.commit()
    found = change(repo.root / "sub", lambda: repo.write("above.py"))
    assert files(found) == ("above.py",)


def test_a_commit_in_a_submodule_is_seen_but_not_its_dirty_files(repo: Repo, tmp_path: Path) -> None:
    part = make_repo(tmp_path / "part")
    part.write("f.py", "one\n")
    part.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part.root), "sub")
    repo.commit()
    inside = Repo(repo.root / "sub")
    dirty = change(repo.root, lambda: inside.write("f.py", "two\n"))
    committed = change(repo.root, inside.commit)
    assert files(dirty) == ()
    assert files(committed) == ("sub",)
    assert "+Subproject commit" in committed.artifacts.git_diff


def test_a_sparse_checkout_and_files_marked_as_unchanged(repo: Repo) -> None:
    for name in ("in/a.py", "out/b.py", "marked.py"):
        repo.write(name, "one\n")
    repo.commit()
    repo.git("sparse-checkout", "set", "--cone", "--sparse-index", "in")
    repo.git("update-index", "--assume-unchanged", "marked.py")

    def act() -> None:
        repo.write("in/a.py", "two\n")
        repo.write("out/new.py", "new\n")
        repo.write("marked.py", "two\n")

    assert files(change(repo.root, act)) == ("in/a.py", "marked.py", "out/new.py")


def test_a_split_index(repo: Repo) -> None:
    repo.git("config", "core.splitIndex", "true")
    for number in range(20):
        repo.write(f"{number}.py", "one\n")
    repo.commit()
    repo.git("update-index", "--split-index")
    repo.write("staged.py")
    repo.git("add", "staged.py")
    before = state(repo.root / ".git")
    assert files(change(repo.root, lambda: repo.write("7.py", "two\n"))) == ("7.py",)
    assert state(repo.root / ".git") == before


def test_a_repository_with_sha256(tmp_path: Path) -> None:
    project = Repo(tmp_path / "p")
    project.root.mkdir()
    project.git("init", "-q", "--object-format=sha256")
    project.write("a.py", "one\n")
    project.commit()
    assert files(change(project.root, lambda: project.write("a.py", "two\n"))) == ("a.py",)


def test_line_endings_are_read_as_the_project_says(repo: Repo) -> None:
    repo.write("a.txt", "one\ntwo\n")
    repo.commit()
    repo.git("config", "core.autocrlf", "true")
    found = change(repo.root, lambda: repo.write("a.txt", "one\r\ntwo\r\nthree\r\n"))
    assert [line for line in found.artifacts.git_diff.splitlines() if line[:1] in "+-"][2:] == ["+three"]


def test_a_file_with_a_filter_is_compared_as_it_is_on_the_disk(repo: Repo) -> None:
    """git has the filter's form of it, which is not what the agent found."""
    repo.git("config", "filter.lower.clean", "tr A-Z a-z")
    repo.write(".gitattributes", "*.up filter=lower\n")
    for name in ("edited.up", "touched.up"):
        # Older than the index, so that git trusts it and does not read the file.
        os.utime(repo.write(name, "ONE\nTWO\n"), (1_000_000_000, 1_000_000_000))
    repo.commit()

    def act() -> None:
        repo.write("edited.up", "ONE\nTWO\nTHREE\n")
        (repo.root / "touched.up").touch()

    found = change(repo.root, act)
    assert files(found) == ("edited.up",)
    assert [line for line in found.artifacts.git_diff.splitlines() if line[:1] in "+-"][2:] == ["+THREE"]


def test_ignored_files_are_not_seen_by_any_of_the_three_lists(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "ignore").write_text("*.user\n")
    repo.write(".gitignore", "*.project\n")
    (repo.root / ".git" / "info" / "exclude").write_text("*.clone")

    def act() -> None:
        for name in ("a.user", "a.project", "a.clone", "a.py"):
            repo.write(name)

    assert files(change(repo.root, act)) == ("a.py",)


def test_files_that_are_no_longer_ignored_are_not_new(repo: Repo) -> None:
    repo.write(".gitignore", "*.log\n")
    repo.write("old.log", "mine\n")
    repo.commit()

    def act() -> None:
        repo.write(".gitignore", "\n")
        repo.write("new.log", "agent\n")

    found = change(repo.root, act)
    assert files(found) == (".gitignore", "new.log")
    assert "ignored before and no longer, so not counted as new: old.log" in found.notes


def test_opencodes_own_files_count_only_if_tracked(repo: Repo) -> None:
    """Its settings always do: it no longer writes them, and runs what they name when started by hand."""
    repo.write(".opencode/package.json", "{}\n")
    repo.commit()

    def act() -> None:
        repo.write(".opencode/package.json", '{"x": 1}\n')
        repo.write(".opencode/opencode.json", '{"mcp": {}}\n')
        repo.write(".opencode/bun.lock", "x\n")
        repo.write(".opencode/.gitignore", "node_modules\n")
        repo.write(".opencode/agent/reviewer.md", "text\n")
        repo.write(".git/opencode", "id\n")

    assert files(change(repo.root, act)) == (
        ".opencode/agent/reviewer.md",
        ".opencode/opencode.json",
        ".opencode/package.json",
    )


def test_what_git_could_not_read_is_reported(repo: Repo) -> None:
    make_repo(repo.root / "empty repository")
    found = change(repo.root, lambda: repo.write("a.py"))
    assert files(found) == ("a.py",)
    assert found.notes == (
        "not compared, git could not read it: 'empty repository/' does not have a commit checked out",
    )


@pytest.mark.parametrize("damage", [b"", b"DIRC garbage"])
def test_a_damaged_index_is_an_error_not_an_empty_change(repo: Repo, damage: bytes) -> None:
    repo.write("a.py")
    repo.commit()
    (repo.root / ".git" / "index").write_bytes(damage or b"\0" * 40)
    with pytest.raises(GitError, match="cannot record the state of the files"):
        change(repo.root, lambda: None)


def test_no_git_program(repo: Repo, tmp_path: Path) -> None:
    with (
        pytest.raises(GitMissingError, match="git: not found"),
        snapshot.open_shadow(repo.root, {"PATH": str(tmp_path)}),
    ):
        pass


def test_no_temporary_folder(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(DiskError, match="cannot record the state"),
        snapshot.open_shadow(repo.root, os.environ),
    ):
        pass


def test_a_file_changed_right_after_staging_is_recorded(repo: Repo) -> None:
    """git trusts a file's time only where it is older than the index's: the copy must keep that time."""
    repo.git("config", "core.trustctime", "false")
    path = repo.write("a.py", "one\n")
    os.utime(path, (10**9, 10**9))
    repo.git("add", "a.py")
    repo.write("a.py", "two\n")
    for file in (path, repo.root / ".git" / "index"):
        os.utime(file, (10**9, 10**9))
    found = change(repo.root, lambda: repo.write("a.py", "six\n"))
    assert "-two\n+six\n" in found.artifacts.git_diff


# --- what the agent did to the repository itself ---


def test_a_commit_of_the_agent_is_noted_and_its_diff_is_shown(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    old = repo.commit()

    def act() -> None:
        repo.write("a.py", "two\n")
        repo.commit()

    found = change(repo.root, act)
    new = repo.git("rev-parse", "HEAD")
    assert files(found) == ("a.py",)
    assert found.notes == (f"the agent committed (HEAD moved from {old[:7]} to {new[:7]})",)


def test_the_first_commit_of_the_agent(repo: Repo) -> None:
    found = change(repo.root, repo.commit)
    new = repo.git("rev-parse", "HEAD")
    assert found.notes == (f"the agent committed (HEAD moved from no commit to {new[:7]})",)


def test_a_switch_of_branches_is_noted(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.commit()
    found = change(repo.root, lambda: repo.git("switch", "-q", "-c", "other"))
    assert found.notes == ("the agent switched from main to other",)
    detached = change(repo.root, lambda: repo.git("switch", "-q", "--detach"))
    assert detached.notes == ("the agent switched from other to a detached HEAD",)


def test_a_branch_moved_back_is_noted(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    old = repo.commit()
    repo.write("a.py", "two\n")
    new = repo.commit()
    found = change(repo.root, lambda: repo.git("reset", "-q", "--hard", old))
    assert files(found) == ("a.py",)
    assert found.notes == (f"the agent moved the branch (HEAD moved from {new[:7]} to {old[:7]})",)


def test_staging_and_stashing_are_noted_but_not_a_refresh(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.write("untouched.py", "one\n")
    repo.commit()
    repo.write("a.py", "mine\n")
    os.utime(repo.root / "untouched.py", (1, 1))
    refreshed = change(repo.root, lambda: repo.git("status"))
    staged = change(repo.root, lambda: repo.git("add", "a.py"))
    stashed = change(repo.root, lambda: repo.git("stash"))
    assert refreshed.notes == ()
    assert staged.notes == ("the agent changed the index (git add, git rm or git reset)",)
    assert files(staged) == ()
    assert stashed.notes[-1] == "the agent changed the stash"
    assert files(stashed) == ("a.py",)


def test_an_unrecordable_tree_is_refused_before_the_agent_runs(repo: Repo) -> None:
    os.mkfifo(repo.root / ".gitignore")
    with snapshot.open_shadow(repo.root, os.environ) as recorder, pytest.raises(GitError, match="is a FIFO"):
        snapshot.take(recorder)


def test_a_merge_is_recorded_as_it_is_on_the_disk(repo: Repo) -> None:
    leave_a_conflict(repo)
    (repo.root / "a.py").unlink()
    os.mkfifo(repo.root / "a.py")
    assert files(change(repo.root, lambda: repo.write("b.py"))) == ("b.py",)
