"""What a run reviews: the chosen or named scope, what it excludes, and what cannot be shown."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr import git
from aethr.base.records import Block, Receipt, Scope, View
from aethr.cli import main
from aethr.config import read_preset
from aethr.context import collect
from aethr.git import tracking
from tests.support import Repo, aethr, checkout_of, leave_a_conflict, log_git, make_repo, surveyed

BUDGET = 120_000
REVIEW = ("run", "--preset", "review-existing-diff")
PLAIN = ("run", "--step", "reviewer:Look.", "--context", "git_diff")


def shown(repo: Repo, scope: Scope) -> str:
    return b"".join(git.diff(surveyed(repo.root, scope))).decode()


def one(root: Path, source: str = "git_diff", *, scope: str = "worktree", strict: bool = False) -> Block:
    (block,) = collect((source,), BUDGET, View(root, git.resolve_scope(root, scope), strict=strict))
    return block


def receipt(block: Block, path: str) -> Receipt:
    (found,) = [each for each in block.receipts if each.path == path]
    return found


def first_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.partition("\n")[0]


@pytest.fixture
def clean(repo: Repo) -> Repo:
    repo.write("a.py", "one\ntwo\n")
    repo.write("b.py", "b\n")
    repo.commit()
    return repo


# --- what is chosen ------------------------------------------------------------------------------


def unstaged(repo: Repo) -> None:
    repo.write("a.py", "one\n2\n")


def staged(repo: Repo) -> None:
    repo.write("b.py", "B\nB\n")
    repo.git("add", "b.py")


def new(repo: Repo) -> None:
    repo.write("new.py")


def touched(repo: Repo) -> None:
    os.utime(repo.root / "a.py", (1, 1))


def intended(repo: Repo) -> None:
    repo.write("soon.py")
    repo.git("add", "-N", "soon.py")


def deleted(repo: Repo) -> None:
    (repo.root / "a.py").unlink()


def executable(repo: Repo) -> None:
    (repo.root / "a.py").chmod(0o755)


def linked(repo: Repo) -> None:
    deleted(repo)
    (repo.root / "a.py").symlink_to("b.py")


def overlooked(repo: Repo) -> None:
    repo.git("update-index", "--assume-unchanged", "a.py")
    unstaged(repo)


def converted(repo: Repo) -> None:
    repo.git("config", "core.autocrlf", "true")
    repo.write("a.py", "one\r\ntwo\r\n")


def dirty_submodule(repo: Repo) -> None:
    inner = make_repo(repo.root.parent / "inner")
    inner.write("in.py")
    inner.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    repo.commit()
    Repo(repo.root / "sub").write("in.py", "dirty\n")


def new_in_a_submodule(repo: Repo) -> None:
    dirty_submodule(repo)
    Repo(repo.root / "sub").git("checkout", "-q", ".")
    new(Repo(repo.root / "sub"))


def a_moved_submodule(repo: Repo) -> None:
    dirty_submodule(repo)
    Repo(repo.root / "sub").commit()


@pytest.mark.parametrize("stages", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        *(unstaged, new, touched, intended, deleted, executable, linked, overlooked, converted),
        *(dirty_submodule, new_in_a_submodule, a_moved_submodule, leave_a_conflict),
    ],
)
def test_unstaged_changes_are_those_of_git_diff(
    clean: Repo, change: Callable[[Repo], None], stages: bool
) -> None:
    change(clean)
    if stages:
        staged(clean)
    unstaged_text = shown(clean, Scope())
    assert unstaged_text == clean.git("diff")
    there = clean.git("diff", "--cached") != ""
    chosen = git.choose_scope(checkout_of(clean.root))
    assert chosen.scope.kind == ("staged" if not unstaged_text and there else "worktree")
    assert chosen.left_out is not None
    assert chosen.left_out.unstaged == ()
    with git.other_changes(chosen._replace(left_out=None)) as left_out:
        assert left_out() == chosen.left_out


@pytest.mark.parametrize(
    ("changes", "words", "calls"),
    [
        ([unstaged, new], [], "rev-parse status diff grep"),
        ([staged], [], "rev-parse status diff grep"),
        ([unstaged, staged], [], "rev-parse status diff diff grep"),
        ([], [], "rev-parse status diff ls-files"),
        ([unstaged], ["--diff", "worktree"], "rev-parse status diff grep"),
        ([unstaged], ["--diff", "head"], "rev-parse status diff grep"),
        ([staged], ["--diff", "staged"], "rev-parse diff grep"),
        ([], ["--diff", "HEAD~"], "rev-parse cat-file status diff grep"),
        ([], ["--diff", "HEAD~..HEAD"], "rev-parse cat-file diff grep"),
        ([], ["--diff", "HEAD~...HEAD"], "rev-parse cat-file merge-base diff grep"),
    ],
)
def test_how_often_a_run_calls_git(
    clean: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: list[Callable[[Repo], None]],
    words: list[str],
    calls: str,
) -> None:
    clean.write("c.py")
    clean.commit()
    for change in changes:
        change(clean)
    log = log_git(tmp_path, monkeypatch)
    monkeypatch.chdir(clean.root)
    assert main([*PLAIN, *words, "look"]) == 0
    assert sorted(log.read_text().split()) == sorted(calls.split())  # some of them at the same time


OPENS = """
import os, sys
from collections import Counter
opened = Counter()
def hear(event, args):
    if event == "open" and isinstance(args[0], (str, os.PathLike)):
        opened[os.path.basename(args[0])] += 1
sys.addaudithook(hear)
from aethr.cli import main
main(sys.argv[1:])
print({name: opened[name] for name in (".aethr.yaml", ".env", "replies.yaml", "review-existing-diff.yaml")})
"""


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["run", "look"], {".aethr.yaml"}),
        (["hook"], {".aethr.yaml"}),
        (["hook", "--config", ".aethr.yaml"], {".aethr.yaml"}),
        (["hook", "--preset", "review-existing-diff"], {"review-existing-diff.yaml"}),
        (["run", "--replies", "replies.yaml", "look"], {".aethr.yaml", "replies.yaml"}),
        (["run", "--preset", "review-existing-diff", "look"], {"review-existing-diff.yaml"}),
    ],
)
def test_each_file_is_read_only_once(clean: Repo, words: list[str], read: set[str]) -> None:
    clean.write(".aethr.yaml", read_preset("review-existing-diff"))
    clean.write("replies.yaml", 'review: ["Review status: pass"]\n')
    clean.write(".env", "AETHR_LIVE=0\n")
    staged(clean)
    program = [sys.executable, "-c", OPENS, *words]
    done = subprocess.run(program, cwd=clean.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    times = ast.literal_eval(done.stdout.splitlines()[-1])
    assert times == {name: int(name in {".env", *read}) for name in times}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([unstaged], "reviewing unstaged changes: 1 file, +1 -1"),
        ([staged], "reviewing staged changes: 1 file, +2 -1"),
        ([unstaged, staged], "reviewing unstaged changes: 1 file, +1 -1"),
        ([staged, new], "reviewing staged changes: 1 file, +2 -1"),
        ([staged, touched], "reviewing staged changes: 1 file, +2 -1"),
        ([staged, intended], "reviewing unstaged changes: 1 file, +1 -0"),
        ([], "reviewing unstaged changes: nothing (no changes, staged or unstaged)"),
        ([new], "reviewing unstaged changes: nothing (no changes, staged or unstaged)"),
        ([touched], "reviewing unstaged changes: nothing (no changes, staged or unstaged)"),
    ],
)
def test_the_first_line_says_what_was_chosen(
    clean: Repo, changes: list[Callable[[Repo], None]], line: str
) -> None:
    for change in changes:
        change(clean)
    assert first_line(aethr(*REVIEW, "look", cwd=clean.root)) == line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "line"),
    [
        ("worktree", "reviewing unstaged changes: 1 file, +1 -1"),
        ("staged", "reviewing staged changes: 1 file, +2 -1"),
        ("head", "reviewing changes since the last commit, without new files: 2 files, +3 -2"),
        ("all", "reviewing changes since the last commit, with new files: 3 files, +4 -2"),
        ("HEAD", "reviewing changes since HEAD: 2 files, +3 -2"),
        ("main", "reviewing changes since main: 2 files, +3 -2"),
        ("HEAD..HEAD", "reviewing HEAD..HEAD: nothing (no changes in this range)"),
    ],
)
def test_the_first_line_says_what_was_named(clean: Repo, scope: str, line: str) -> None:
    for change in (unstaged, staged, new):
        change(clean)
    assert first_line(aethr(*REVIEW, "--diff", scope, "look", cwd=clean.root)) == line
    done = aethr(*REVIEW, "look", cwd=clean.root, env={"AETHR_RUN_DIFF": scope})
    assert first_line(done) == line


def test_the_first_line_before_the_first_commit(repo: Repo) -> None:
    repo.write("a.py", "1\n")
    repo.git("add", "-A")
    said = "reviewing staged changes: 1 file, +1 -0, with no commit before it; defaults exclude by name only"
    assert first_line(aethr(*REVIEW, "look", cwd=repo.root)) == said
    done = aethr("run", "--step", "thinker:Think.", "look", cwd=repo.root)
    assert first_line(done).startswith("note: mock mode")
    done = aethr("run", "--step", "thinker:Think.", "--context", "git_diff", "look", cwd=repo.root)
    assert first_line(done) == said.replace("reviewing", "reading")


def test_a_quiet_run_shows_only_the_last_answer(clean: Repo) -> None:
    unstaged(clean)
    assert "reviewing" not in aethr(*REVIEW, "-q", "look", cwd=clean.root).stdout
    done = aethr(*REVIEW, "--json", "look", cwd=clean.root)
    assert (
        '"change": {\n    "files": 1,\n    "added": 1,\n    "removed": 1,\n    "parts": 1\n  }' in done.stdout
    )
    assert done.stderr.startswith("reviewing unstaged changes: 1 file, +1 -1\n")


def test_files_are_read_from_the_chosen_scope(clean: Repo) -> None:
    """From the index for a chosen staged change; from the disk on a clean tree, where an agent may write."""
    new(clean)
    here = checkout_of(clean.root)
    assert git.choose_scope(here).scope.kind == "worktree"
    staged(clean)
    survey = git.choose_scope(here)
    assert (survey.scope.kind, survey.scope.text, survey.scope.chosen) == ("staged", "staged", True)
    assert survey.left_out == git.LeftOut(untracked=(b"new.py",))


def test_outside_of_a_repository_nothing_is_called(tmp_path: Path) -> None:
    done = aethr(*REVIEW, "--fail-on", "high", "look", cwd=tmp_path)
    assert (done.returncode, "Nothing to review" in done.stdout) == (0, True)
    assert first_line(done) == "reviewing unstaged changes: nothing (no diff: not in a git repository)"
    assert aethr(*REVIEW, "--diff", "main", "look", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("scope", ["A..", "..B", "..", "...", "$BASE.."])
def test_an_empty_side_of_a_range_is_exit_2_with_a_fix(clean: Repo, scope: str) -> None:
    done = aethr(*REVIEW, "--diff", scope, "look", cwd=clean.root)
    assert done.returncode == 2
    assert "Write HEAD for the commit that is checked out" in done.stderr


def test_a_branch_named_like_a_scope_needs_its_full_name(clean: Repo) -> None:
    clean.git("branch", "all")
    unstaged(clean)
    clean.commit()
    assert git.resolve_scope(clean.root, "all").kind == "all"
    assert shown(clean, git.resolve_scope(clean.root, "refs/heads/all")) == clean.git(
        "diff", "refs/heads/all", "--"
    )


@pytest.mark.parametrize("name", ["HEAD~1", "v1", "main@{0}", ":/first", "HEAD^{tree}", "topic"])
def test_a_revision_means_the_same_as_for_git_diff(repo: Repo, name: str) -> None:
    repo.write("a.py", "1\n")
    repo.commit("first")
    repo.git("tag", "-a", "v1", "-m", "one")
    repo.git("branch", "topic")
    repo.write("a.py", "2\n")
    repo.commit("second")
    repo.write("a.py", "3\n")
    assert shown(repo, git.resolve_scope(repo.root, name)) == repo.git("diff", name, "--")


# --- what is left out ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ([unstaged, staged], 4, "staged: b.py; --diff head includes it"),
        ([unstaged, new], 4, "untracked: new.py; --diff all includes it"),
        ([staged, new], 4, "untracked: new.py; --diff all includes it"),
        ([new], 4, "untracked: new.py; --diff all includes it"),
        ([], 0, ""),
    ],
)
def test_a_gate_without_a_diff_reviews_everything_or_fails(
    clean: Repo, changes: list[Callable[[Repo], None]], code: int, said: str
) -> None:
    for change in changes:
        change(clean)
    done = aethr(*REVIEW, "--fail-on", "high", "--json", "look", cwd=clean.root)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    if changes == [new]:
        named = aethr(*REVIEW, "--fail-on", "high", "--diff", "worktree", "look", cwd=clean.root)
        assert (named.returncode, "Nothing to review" in named.stdout) == (0, True)


def test_a_new_workflow_file_is_not_excluded(clean: Repo) -> None:
    aethr("init", "review-existing-diff", cwd=clean.root)
    assert aethr("run", "--fail-on", "high", "look", cwd=clean.root).returncode == 0
    clean.write("other.yaml")
    assert aethr("run", "--fail-on", "high", "look", cwd=clean.root).returncode == 4


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
@pytest.mark.parametrize("scope", ["worktree", "head", "all", "HEAD"])
def test_a_file_that_git_overlooks_is_named(clean: Repo, flag: str, scope: str) -> None:
    clean.git("update-index", flag, "b.py")
    clean.write("b.py", "hidden\n")
    unstaged(clean)
    block = one(clean.root, scope=scope, strict=True)
    assert "hidden" not in block.text
    assert "[git is set to ignore changes of b.py" in block.text
    assert [each.complete for each in block.receipts] == [True, False]
    clean.git("checkout", "a.py")
    done = aethr(*REVIEW, "--diff", scope, "--fail-on", "high", "look", cwd=clean.root)
    assert (done.returncode, "git is set to ignore changes of b.py" in done.stdout) == (4, True)


def test_an_overlooked_file_beside_a_staged_change_is_named(clean: Repo) -> None:
    clean.git("update-index", "--assume-unchanged", "a.py")
    unstaged(clean)
    staged(clean)
    done = aethr(*REVIEW, "--fail-on", "high", "look", cwd=clean.root)
    assert first_line(done) == "reviewing staged changes: 1 file, +2 -1"
    assert "not sent: git_diff:function (git is set to ignore changes of a.py" in done.stdout


def test_a_file_name_like_a_flag_is_not_overlooked(clean: Repo) -> None:
    clean.write("S s H.py")
    clean.commit()
    assert tracking.overlooked_files(clean.root) == ()


def test_staged_and_range_scopes_have_no_overlooked_files(clean: Repo) -> None:
    clean.write("c.py")
    clean.commit()
    clean.git("update-index", "--assume-unchanged", "b.py")
    unstaged(clean)
    clean.git("add", "a.py")
    for scope in ("staged", "HEAD~1..HEAD"):
        assert all(each.complete for each in one(clean.root, scope=scope, strict=True).receipts)


def test_files_outside_of_a_sparse_checkout_hide_nothing(repo: Repo) -> None:
    repo.write("in/a.py")
    repo.write("out/b.py")
    repo.commit()
    repo.git("sparse-checkout", "set", "in")
    assert tracking.overlooked_files(repo.root) == ()


# --- all -------------------------------------------------------------------------------------------


def everything(repo: Repo) -> None:
    """A change of every kind, staged, unstaged and new, in a repository with or without a commit."""
    repo.write(".gitignore", "*.log\n")
    repo.write("skip.log")
    repo.write("plain.py", "new\n")
    repo.write("empty.py", "")
    repo.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    repo.write("dir/two\nlines é.py", "odd\n")
    (repo.root / "link").symlink_to("plain.py")
    repo.write("soon.py", "soon\n")
    repo.git("add", "-N", "soon.py")
    repo.write("staged.py", "staged\n")
    repo.git("add", "staged.py")
    repo.write("staged.py", "and then unstaged\n")
    repo.write("gone again.py")
    repo.git("add", "gone again.py")
    (repo.root / "gone again.py").unlink()


def with_history(repo: Repo) -> None:
    long = "".join(f"line {number}\n" for number in range(30))
    for name in ("old.py", "mode.sh", "gone.py", "file-then-folder", "folder-then-file/x.py", "moved.py"):
        repo.write(name, long + name)
    repo.commit()
    repo.write("old.py", "changed\n")
    (repo.root / "mode.sh").chmod(0o755)
    (repo.root / "gone.py").unlink()
    (repo.root / "file-then-folder").unlink()
    repo.write("file-then-folder/y.py")
    (repo.root / "folder-then-file/x.py").unlink()
    (repo.root / "folder-then-file").rmdir()
    repo.write("folder-then-file", "now a file\n")
    (repo.root / "moved.py").rename(repo.root / "renamed.py")


@pytest.mark.parametrize("history", [with_history, lambda _: None])
@pytest.mark.parametrize("where", ["", "dir"])
def test_scope_all_is_what_add_and_commit_would_record(
    repo: Repo, history: Callable[[Repo], None], where: str, tmp_path: Path
) -> None:
    history(repo)
    everything(repo)
    before = files_of(repo.root / ".git")
    scope = git.resolve_scope(repo.root, "all")
    found = one(repo.root / where, scope="all").text
    assert files_of(repo.root / ".git") == before
    repo.git("add", "-A")
    assert found.encode() == repo.git("diff", "--cached").encode()
    assert shown(repo, scope) == repo.git("diff", "--cached")


@pytest.mark.parametrize(
    "setting", ["core.splitIndex", "core.untrackedCache", "core.fileMode=false", "index.version=4"]
)
def test_scope_all_does_not_change_the_repository(repo: Repo, setting: str) -> None:
    with_history(repo)
    name, _, value = setting.partition("=")
    repo.git("config", name, value or "true")
    repo.git("update-index", "--refresh", check=False)
    everything(repo)
    before = files_of(repo.root / ".git")
    found = one(repo.root, scope="all").text
    assert files_of(repo.root / ".git") == before
    repo.git("add", "-A")
    assert found == repo.git("diff", "--cached")


def test_scope_all_shows_conflicts_line_by_line(repo: Repo) -> None:
    leave_a_conflict(repo)
    found = one(repo.root, scope="all").text
    repo.git("add", "-A")
    assert found == repo.git("diff", "--cached")
    assert "+<<<<<<< HEAD" in found


def test_scope_all_reads_context_from_disk(clean: Repo) -> None:
    new(clean)
    assert one(clean.root, "file:new.py", scope="all").receipts[0].complete


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


# --- what is in the change and cannot be seen ------------------------------------------------------


def with_submodule(repo: Repo, tmp_path: Path) -> Repo:
    inner = make_repo(tmp_path / "inner")
    inner.write("in.py", "x\n")
    inner.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    return Repo(repo.root / "sub")


def test_a_submodule_is_incomplete_and_named_with_commits(repo: Repo, tmp_path: Path) -> None:
    module = with_submodule(repo, tmp_path)
    old = module.git("rev-parse", "--short", "HEAD").strip()
    added = receipt(one(repo.root, scope="staged"), "sub")
    assert (added.complete, added.note) == (False, f"a submodule, new at {old}: its files are not shown")
    assert (added.changed_lines, added.sent_lines) == (0, 0)
    repo.commit()
    module.write("in.py", "dirty\n")
    dirty = receipt(one(repo.root), "sub")
    assert (dirty.complete, dirty.note) == (
        False,
        "a submodule with uncommitted changes: its files are not shown",
    )
    module.commit()
    now = module.git("rev-parse", "--short", "HEAD").strip()
    said = f"a submodule, from {old} to {now}: its files are not shown"
    for scope in ("worktree", "head", "all", "HEAD"):
        assert (receipt(one(repo.root, scope=scope), "sub").note) == said
    repo.commit()
    assert receipt(one(repo.root, scope="HEAD~1..HEAD"), "sub").note == said
    done = aethr(*REVIEW, "--diff", "HEAD~1..HEAD", "--fail-on", "high", "--json", "look", cwd=repo.root)
    assert (done.returncode, said in done.stderr, '"coverage": null' in done.stdout) == (4, True, True)
    repo.git("rm", "-q", "-f", "sub")
    gone = receipt(one(repo.root, scope="staged"), "sub")
    assert (gone.complete, gone.note) == (True, f"a submodule that was at {now}")


def test_a_nested_repository_is_incomplete(clean: Repo) -> None:
    inner = make_repo(clean.root / "embedded")
    inner.write("in.py")
    inner.commit()
    make_repo(clean.root / "without a commit").write("x.py")
    assert receipt(one(clean.root, scope="all"), "embedded").complete is False
    clean.git("-c", "advice.addEmbeddedRepo=false", "add", "embedded")
    assert one(clean.root, scope="all").text == clean.git("diff", "--cached")
    assert receipt(one(clean.root, scope="staged"), "embedded").complete is False


POINTER = "version https://git-lfs.github.com/spec/v1\n{}oid sha256:{}\nsize 12345\n"


@pytest.mark.parametrize("extension", ["", "ext-0-foo sha256:" + "c" * 64 + "\n"])
def test_a_pointer_of_git_lfs_is_not_the_file(clean: Repo, extension: str) -> None:
    clean.write("model.bin", POINTER.format(extension, "a" * 64))
    clean.git("add", "-A")
    found = receipt(one(clean.root, scope="staged"), "model.bin")
    assert (found.complete, found.changed_lines) == (False, 0)
    assert found.note == "a git-lfs pointer; the file itself is not shown"
    clean.commit()
    clean.write("model.bin", POINTER.format(extension, "b" * 64))
    assert not receipt(one(clean.root), "model.bin").complete
    for scope in ("worktree", "staged", "HEAD~1..HEAD"):
        (given,) = one(clean.root, "file:model.bin", scope=scope).receipts
        assert (given.complete, given.note) == (False, found.note)
    clean.write("model.bin", "now it is the file itself\n")
    assert receipt(one(clean.root), "model.bin").complete
    (clean.root / "model.bin").unlink()
    assert receipt(one(clean.root), "model.bin").complete


def test_a_text_about_git_lfs_is_not_a_pointer(clean: Repo) -> None:
    clean.write("notes.md", "# How it works\n\n" + POINTER.format("", "a" * 64))
    clean.git("add", "-A")
    assert receipt(one(clean.root, scope="staged"), "notes.md").complete


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_a_conflict_resolved_to_one_side_is_incomplete(repo: Repo, side: str) -> None:
    """git shows no lines for it, because each line is from one of the two sides."""
    leave_a_conflict(repo)
    repo.git("checkout", side, "a.py")
    block = one(repo.root)
    assert "@@" not in block.text
    assert (receipt(block, "a.py").complete, receipt(block, "a.py").note) == (False, "unmerged")


# --- a partial clone -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["blob:none", "tree:0"])
@pytest.mark.parametrize("context", ["git_diff", "file:untouched.py"])
def test_a_partial_clone_says_what_to_run_and_that_helps(
    repo: Repo, tmp_path: Path, kept: str, context: str
) -> None:
    for number in range(3):
        repo.write("a.py", f"{number}\n" * 9)
        repo.write("untouched.py", "x\n")
        repo.commit()
    repo.write("untouched.py", "later\n")
    repo.commit()
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("clone", "-q", f"--filter={kept}", repo.root.as_uri(), str(tmp_path / "partial"))
    clone = Repo(tmp_path / "partial")
    words = ("run", "--step", "reader:Read.", "--context", context, "--diff", "HEAD~3..HEAD~1", "look")
    done = aethr(*words, cwd=clone.root)
    assert (done.returncode, "this is a partial clone" in done.stderr) == (3, True), done.stderr
    command = re.findall(r"`(git fetch [^`]*)`", done.stderr)[0]
    subprocess.run(shlex.split(command), cwd=clone.root, check=True, capture_output=True)
    done = aethr(*words, cwd=clone.root)
    assert (done.returncode, "not sent" in done.stdout) == (0, False), done.stdout
