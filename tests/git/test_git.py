"""git calls: scopes, refusals, the operator's environment, and that a hostile repository runs nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aethr import git
from aethr.base.errors import GitError, GitMissingError, UsageError
from aethr.base.records import LeftOut, Scope
from aethr.git import call, history, tracking
from tests.support import Repo, checkout_of, leave_a_conflict, make_repo, surveyed

WORKTREE, STAGED = Scope(), Scope(kind="staged", text="staged")


def shown(repo: Repo, scope: Scope = WORKTREE) -> str:
    return b"".join(git.diff(surveyed(repo.root, scope))).decode()


def left_out(root: Path, scope: Scope) -> LeftOut:
    with git.other_changes(surveyed(root, scope)) as found:
        return found()


@pytest.fixture
def changed(repo: Repo) -> Repo:
    """One commit, one unstaged change, one staged, one untracked file."""
    repo.write("a.py", "one\ntwo\n")
    repo.write("b.py", "b\n")
    repo.commit()
    repo.write("b.py", "staged\n")
    repo.git("add", "b.py")
    repo.write("a.py", "one\n2\n")
    repo.write("new.py")
    return repo


# --- where we are --------------------------------------------------------------------------------


def test_outside_of_a_repository_there_is_no_checkout(tmp_path: Path) -> None:
    assert git.checkout(tmp_path) is None
    assert git.resolve_scope(tmp_path, "worktree") == Scope()


def test_a_subfolder_finds_its_top_folder(changed: Repo) -> None:
    (changed.root / "deep" / "er").mkdir(parents=True)
    assert checkout_of(changed.root / "deep" / "er").top == changed.root


def test_no_git_is_an_error_with_its_fix(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo.root))
    with pytest.raises(GitMissingError, match="git: not found") as caught:
        git.checkout(repo.root)
    assert "Install git" in caught.value.fix
    assert git.resolve_scope(repo.root, "worktree").head_sha is None


def test_a_bare_repository_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "b.git"], check=True)
    with pytest.raises(GitError, match="without a work tree"):
        git.checkout(tmp_path / "b.git")


@pytest.mark.parametrize("breakage", ["empty .git", "dangling gitfile", "bad config"])
def test_a_damaged_repository_is_an_error(tmp_path: Path, breakage: str) -> None:
    repo = make_repo(tmp_path / "r")
    if breakage == "empty .git":
        (repo.root / ".git" / "HEAD").unlink()
    elif breakage == "dangling gitfile":
        (repo.root / "sub").mkdir()
        repo.write("sub/.git", "gitdir: /nowhere/at/all\n")
    else:
        (repo.root / ".git" / "config").write_text("[broken\n")
    with pytest.raises(GitError, match=r"damaged|bad config"):
        git.checkout(repo.root / "sub" if breakage == "dangling gitfile" else repo.root)


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_refused_with_the_fix(repo: Repo) -> None:
    os.chown(repo.root, 12345, 12345)
    os.chown(repo.root / ".git", 12345, 12345)
    with pytest.raises(GitError, match="another user") as caught:
        git.checkout(repo.root)
    assert "safe.directory" in caught.value.fix


@pytest.mark.parametrize("where", ["elsewhere", ".", "outer"])
def test_core_worktree_cannot_point_elsewhere(tmp_path: Path, where: str) -> None:
    """Not even to a folder around it, which may be a repository of its own."""
    (tmp_path / "elsewhere").mkdir()
    make_repo(tmp_path / "outer")
    repo = make_repo(tmp_path / "outer" / "repo")
    repo.git("config", "core.worktree", str(tmp_path / where))
    with pytest.raises(GitError, match=r"core\.worktree"):
        git.checkout(repo.root)


def test_a_corrupt_index_is_an_error(changed: Repo) -> None:
    (changed.root / ".git" / "index").write_bytes(b"DIRCgarbage")
    with pytest.raises(GitError, match="index file"):
        shown(changed)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("HEAD", "commit"),
        (":/only commit", "commit"),
        ("HEAD^{tree}", "tree"),
        ("HEAD:deep", "tree"),
        ("v1", "commit"),
        ("HEAD:a.py", None),
        ("HEAD\nHEAD", None),
        ("HEAD\r", None),
        ("HEAD\0", None),
        ("", None),
        ("commit", None),
        ("no commit", None),
        ("--all", None),
        ("@{upstream}", None),
        ("nowhere\udcff", None),
    ],
)
def test_each_name_is_resolved_whatever_the_other_names_are(repo: Repo, name: str, kind: str | None) -> None:
    repo.write("a.py")
    repo.write("deep/b.py")
    repo.git("add", "-A")
    repo.git("commit", "-qm", "the only commit")
    repo.git("tag", "-am", "one", "v1")
    head = repo.git("rev-parse", "HEAD").strip()
    before, found, after = history.resolve(repo.root, "HEAD", name, "main")
    assert (before, after) == (head, head)
    assert (found is None) == (kind is None)
    assert found is None or repo.git("cat-file", "-t", found).strip() == kind
    assert history.resolve(repo.root, name) == (found,)


def test_the_branch_is_the_one_checked_out(changed: Repo) -> None:
    changed.git("checkout", "-qb", "topic/x")
    assert checkout_of(changed.root).branch == "topic/x"
    changed.git("update-ref", "refs/heads/HEAD", "HEAD~0")  # git does not say then which of the two is meant
    assert checkout_of(changed.root).head == changed.git("rev-parse", "HEAD").strip()
    changed.git("checkout", "-q", "--detach")
    assert checkout_of(changed.root).branch is None


def test_a_folder_named_like_an_answer_of_git_is_read(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / f"a\n{'0' * 40}\nrefs" / "heads")
    with pytest.raises(GitError, match=r"core\.worktree"):  # nothing of it is taken for a commit
        git.checkout(repo.root)
    repo.write("a.py")
    repo.commit()
    assert checkout_of(repo.root).top == repo.root


def test_a_head_whose_commit_is_gone_is_an_error(changed: Repo) -> None:
    shutil.rmtree(changed.root / ".git" / "objects")
    (changed.root / ".git" / "objects").mkdir()
    with pytest.raises(GitError):
        shown(changed, STAGED)
    with pytest.raises(GitError):
        shown(changed, git.resolve_scope(changed.root, "head"))


# --- scopes --------------------------------------------------------------------------------------


def test_scope_words_resolve_to_the_commit_checked_out(changed: Repo) -> None:
    head = changed.git("rev-parse", "HEAD").strip()
    for kind in ("worktree", "staged", "head"):
        scope = git.resolve_scope(changed.root, kind)
        assert (scope.kind, scope.text, scope.head_sha) == (kind, kind, head)


def test_each_scope_shows_what_git_shows(changed: Repo) -> None:
    first = changed.git("rev-parse", "HEAD").strip()
    assert shown(changed) == changed.git("diff", "--no-ext-diff")
    assert shown(changed, STAGED) == changed.git("diff", "--no-ext-diff", "--cached")
    assert shown(changed, git.resolve_scope(changed.root, "head")) == changed.git("diff", "HEAD")
    changed.commit()
    scope = git.resolve_scope(changed.root, f"{first[:9]}..HEAD")
    assert shown(changed, scope) == changed.git("diff", first, "HEAD")
    assert (scope.base, scope.head) == (first, changed.git("rev-parse", "HEAD").strip())


def test_before_the_first_commit(repo: Repo) -> None:
    repo.write("a.py", "one\n")
    repo.git("add", "a.py")
    repo.write("a.py", "two\n")
    here = checkout_of(repo.root)
    assert (here.head, here.branch, git.unborn_branch(repo.root)) == (None, None, "main")
    assert shown(repo) == repo.git("diff")
    assert "+one\n" in shown(repo, STAGED)
    assert "+two\n" in shown(repo, git.resolve_scope(repo.root, "head"))
    with pytest.raises(UsageError, match="'HEAD'"):
        git.resolve_scope(repo.root, "HEAD..HEAD")


def test_three_dots_compare_with_the_merge_base(repo: Repo) -> None:
    repo.write("a.py")
    base = repo.commit()
    repo.git("switch", "-q", "-c", "topic")
    repo.write("topic.py")
    topic = repo.commit()
    repo.git("switch", "-q", "main")
    repo.write("main.py")
    tip = repo.commit()
    scope = git.resolve_scope(repo.root, "main...topic")
    assert (scope.kind, scope.base, scope.head) == ("range", base, topic)
    assert shown(repo, scope) == repo.git("diff", "main...topic")
    repo.git("checkout", "-q", "--detach", "topic")
    assert git.resolve_scope(repo.root, "main...HEAD") == Scope(
        "range", "main...HEAD", base, topic, topic, base_side=tip
    )


def test_the_empty_tree_can_be_a_side(changed: Repo) -> None:
    empty = git.empty_tree(changed.root)
    assert shown(changed, git.resolve_scope(changed.root, f"{empty}..HEAD")).count("new file mode") == 2


@pytest.mark.parametrize("text", ["wroktree", "", "no-branch", "HEAD:a.py", "--all"])
def test_an_unknown_scope_lists_the_known_ones(changed: Repo, text: str) -> None:
    with pytest.raises(UsageError, match="neither a scope nor a commit") as caught:
        git.resolve_scope(changed.root, text)
    assert "BASE...HEAD" in caught.value.fix
    assert ("did you mean 'worktree'" in str(caught.value)) is (text == "wroktree")


@pytest.mark.parametrize(
    "text", ["A..", "..B", "..", "...", "HEAD..", "...HEAD", "HEAD...", " ..HEAD", ".. "]
)
def test_a_range_with_an_empty_side_is_refused(changed: Repo, text: str) -> None:
    with pytest.raises(UsageError, match="a side of the range is empty") as caught:
        git.resolve_scope(changed.root, text)
    assert "Write HEAD" in caught.value.fix


@pytest.mark.parametrize(
    "text", ["nope..HEAD", "HEAD...nope", "--output=x..HEAD", "HEAD..--all", "a b..HEAD", "$(x)..HEAD"]
)
def test_an_unknown_or_option_like_name_is_a_usage_error(changed: Repo, text: str) -> None:
    with pytest.raises(UsageError, match="is not a commit here"):
        git.resolve_scope(changed.root, text)
    assert not (changed.root / "x").exists()


def test_a_branch_name_with_shell_characters_is_only_a_name(changed: Repo) -> None:
    changed.git("branch", "$(touch${IFS}pwned);`id`")
    scope = git.resolve_scope(changed.root, "$(touch${IFS}pwned);`id`..HEAD")
    assert scope.base == scope.head
    assert not (changed.root / "pwned").exists()


def test_a_range_outside_of_a_repository_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository"):
        git.resolve_scope(tmp_path, "A..B")


def test_a_shallow_clone_without_the_merge_base_names_the_fix(repo: Repo, tmp_path: Path) -> None:
    repo.write("a.py")
    repo.commit()
    repo.git("switch", "-q", "-c", "topic")
    for name in ("b.py", "c.py"):
        repo.write(name)
        repo.commit()
    repo.git("switch", "-q", "main")
    repo.write("d.py")
    repo.commit()
    url = repo.root.as_uri()
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-single-branch", url, tmp_path / "c"], check=True)
    with pytest.raises(GitError, match="shallow") as caught:
        git.resolve_scope(tmp_path / "c", "origin/main...origin/topic")
    assert "fetch-depth: 0" in caught.value.fix


def test_unrelated_histories_are_reported(changed: Repo) -> None:
    changed.commit()
    changed.git("switch", "-q", "--orphan", "other")
    changed.commit()
    with pytest.raises(GitError, match="no common commit"):
        git.resolve_scope(changed.root, "main...other")


# --- the same bytes everywhere -------------------------------------------------------------------


USER_CONFIG = """
[color]
  ui = always
[diff]
  noprefix = true
  mnemonicPrefix = true
  relative = true
  orderFile = missing
  context = 0
  interHunkContext = 20
  algorithm = patience
  renames = false
  suppressBlankEmpty = true
  external = false
  ignoreSubmodules = all
  indentHeuristic = false
  colorMoved = zebra
  autoRefreshIndex = false
[core]
  abbrev = 40
  quotePath = false
  pager = false
[status]
  showUntrackedFiles = no
  short = true
  branch = true
"""


def test_the_users_settings_do_not_change_the_bytes(changed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    changed.write("é.txt", "a\n\nb\n\nc\n")
    changed.write("move.py", "long enough\nto be\nrecognised\nas the same\n")
    changed.commit()
    changed.write("é.txt", "a\n\nB\n\nc\n")
    changed.git("mv", "move.py", "moved.py")
    (changed.root / "b.py").touch()
    scopes = [WORKTREE, STAGED, git.resolve_scope(changed.root, "head")]
    plain = [changed.git("diff", *words) for words in ([], ["--cached"], ["HEAD"])]
    left = left_out(changed.root, WORKTREE)
    (Path(os.environ["HOME"]) / ".gitconfig").write_text(USER_CONFIG)
    changed.git("config", "--file", str(changed.root / ".git" / "config"), "diff.noprefix", "true")
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=0")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.noprefix")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    assert [shown(changed, scope) for scope in scopes] == plain
    assert left_out(changed.root, WORKTREE) == left
    assert left.staged == (b"move.py", b"moved.py")


def test_a_subfolder_shows_the_whole_change(changed: Repo) -> None:
    changed.write("deep/c.py")
    changed.git("add", "-N", "deep/c.py")
    assert b"".join(git.diff(surveyed(changed.root / "deep", WORKTREE))).decode() == changed.git("diff")


@pytest.mark.parametrize("scope", ["worktree", "staged", "head"])
def test_a_conflicted_merge_shows_what_git_shows(repo: Repo, scope: str) -> None:
    leave_a_conflict(repo)
    options = {"worktree": [], "staged": ["--cached"], "head": ["HEAD"]}[scope]
    expected = repo.git("diff", *options)
    assert expected
    assert shown(repo, git.resolve_scope(repo.root, scope)) == expected
    assert left_out(repo.root, WORKTREE) == LeftOut()


def test_a_linked_worktree_shows_its_own_change(changed: Repo, tmp_path: Path) -> None:
    changed.git("worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    linked.write("a.py", "linked\n")
    assert checkout_of(linked.root).top == linked.root
    assert shown(linked) == linked.git("diff") != changed.git("diff")


def with_submodule(repo: Repo, tmp_path: Path) -> Repo:
    inner = make_repo(tmp_path / "inner")
    inner.write("in.py", "x\n")
    inner.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    repo.commit()
    return Repo(repo.root / "sub")


def test_a_submodule_shows_as_in_git(repo: Repo, tmp_path: Path) -> None:
    module = with_submodule(repo, tmp_path)
    module.write("in.py", "dirty\n")
    assert shown(repo) == repo.git("diff")
    assert "-dirty" in shown(repo)
    assert shown(module) == module.git("diff")
    module.commit()
    assert shown(repo) == repo.git("diff")


def test_a_sparse_checkout_shows_no_deletions(repo: Repo) -> None:
    repo.write("in/a.py")
    repo.write("out/b.py")
    repo.commit()
    repo.git("sparse-checkout", "set", "in")
    repo.write("in/a.py", "changed\n")
    assert shown(repo) == repo.git("diff")
    assert "out/b.py" not in shown(repo)


# --- nothing runs --------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that a hostile repository wants to run; it leaves a file beside itself."""
    script = tmp_path / "trap.sh"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/sprung"\ncat\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def assert_silent(repo: Repo, trap: Path) -> None:
    """Use everything that reads the repository, and see that the trap was not sprung."""
    scopes = [git.resolve_scope(repo.root, kind) for kind in ("worktree", "staged", "head", "all")]
    for scope in (*scopes, git.choose_scope(checkout_of(repo.root)).scope, STAGED._replace(chosen=True)):
        assert shown(repo, scope) is not None
        left_out(repo.root, scope)
    tracking.files(repo.root, bool)
    git.binary_by_attribute(repo.root, [b"a.py"])
    tracking.is_tracked(repo.root, "a.py")
    tracking.is_ignored(repo.root, "a.py")
    assert not (trap.parent / "sprung").exists()


@pytest.mark.parametrize("key", ["clean", "process", "smudge"])
@pytest.mark.parametrize("name", ["x", "with space.and.dots", "Ünï"])
def test_a_filter_of_the_repository_is_not_run(changed: Repo, trap: Path, name: str, key: str) -> None:
    changed.git("config", f"filter.{name}.{key}", str(trap))
    changed.git("config", f"filter.{name}.required", "true")
    (changed.root / ".git" / "info" / "attributes").write_text(f"* filter={name}\n")
    assert git.local_filters(changed.root) == (name,)
    assert_silent(changed, trap)
    assert "+2\n" in shown(changed)


@pytest.mark.parametrize("packed", [False, True])
def test_a_diff_between_commits_runs_no_filter(changed: Repo, trap: Path, packed: bool) -> None:
    """git may read a file from the disk in place of the object, but not where there is a filter."""
    changed.git("config", "filter.x.clean", str(trap))
    changed.git("config", "filter.x.process", str(trap))
    (changed.root / ".git" / "info" / "attributes").write_text("* filter=x\n")
    if packed:
        changed.git("repack", "-adq")
        changed.git("prune-packed")
    for scope in (STAGED, git.resolve_scope(changed.root, f"{git.empty_tree(changed.root)}..HEAD")):
        assert git.survey(checkout_of(changed.root), scope).filters == ()
        assert "+" in shown(changed, scope)
    assert not (trap.parent / "sprung").exists()


def test_a_filter_that_cannot_be_switched_off_is_refused(changed: Repo, trap: Path) -> None:
    changed.git("config", "filter.a=b.clean", str(trap))
    with pytest.raises(GitError, match="'='"):
        shown(changed)


def test_a_filter_of_the_user_stays(changed: Repo) -> None:
    (Path(os.environ["HOME"]) / ".gitconfig").write_text('[filter "up"]\n  clean = tr a-z A-Z\n')
    changed.write(".gitattributes", "a.py filter=up\n")
    assert git.local_filters(changed.root) == ()
    assert "+ONE\n" in shown(changed)


def test_a_filter_inside_of_a_submodule_is_not_run(repo: Repo, tmp_path: Path, trap: Path) -> None:
    module = with_submodule(repo, tmp_path)
    module.git("config", "filter.y.clean", str(trap))
    module.git("config", "core.fsmonitor", str(trap))
    module.write(".gitattributes", "* filter=y\n")
    module.write("in.py", "y\n")
    assert git.local_filters(repo.root) == ("y",)
    assert_silent(repo, trap)


def test_a_filter_inside_of_an_undeclared_repository_is_not_run(repo: Repo, trap: Path) -> None:
    inner = make_repo(repo.root / "embedded")
    inner.write("in.py", "x\n")
    inner.commit()
    repo.git("-c", "advice.addEmbeddedRepo=false", "add", "embedded")
    repo.commit()
    inner.git("config", "filter.y.clean", str(trap))
    inner.write(".gitattributes", "* filter=y\n")
    inner.write("in.py", "y\n")
    assert_silent(repo, trap)


def test_external_diff_textconv_monitor_and_hooks_do_not_run(changed: Repo, trap: Path) -> None:
    for key in (
        "diff.external",
        "diff.t.command",
        "diff.t.textconv",
        "core.fsmonitor",
        "core.pager",
        "pager.diff",
    ):
        changed.git("config", key, str(trap))
    changed.write(".gitattributes", "*.py diff=t\n")
    hooks = changed.root / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "query-watchman"):
        (hooks / name).symlink_to(trap)
        (changed.root / ".git" / "hooks" / name).symlink_to(trap)
    changed.git("config", "core.hooksPath", str(hooks))
    (changed.root / "a.py").touch()
    assert_silent(changed, trap)


def test_a_promisor_remote_is_not_asked(changed: Repo, trap: Path) -> None:
    changed.git("config", "core.repositoryFormatVersion", "1")
    changed.git("config", "extensions.partialClone", "evil")
    changed.git("config", "remote.evil.url", f"ext::touch {trap.parent}/sprung")
    changed.git("config", "remote.evil.promisor", "true")
    changed.git("config", "protocol.ext.allow", "always")
    blob = changed.git("rev-parse", "HEAD:a.py").strip()
    (changed.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitError):
        shown(changed)
    assert not (trap.parent / "sprung").exists()


def test_a_bare_repository_committed_in_the_tree_is_not_entered(repo: Repo) -> None:
    subprocess.run(["git", "init", "-q", "--bare", repo.root / "lib"], check=True)
    (repo.root / "lib" / "config").write_text('[core]\n bare = false\n worktree = ".."\n')
    with pytest.raises(GitError, match="without a work tree"):
        git.checkout(repo.root / "lib")


def test_the_repository_stays_untouched(changed: Repo) -> None:
    (changed.root / "a.py").touch()
    index = (changed.root / ".git" / "index").read_bytes()
    shown(changed)
    left_out(changed.root, WORKTREE)
    assert (changed.root / ".git" / "index").read_bytes() == index
    assert changed.git("stash", "list") == ""


# --- the environment -----------------------------------------------------------------------------


def test_a_hooks_temporary_index_is_used(changed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    other = changed.root / ".git" / "next-index-1.lock"
    other.write_bytes((changed.root / ".git" / "index").read_bytes())
    changed.git("reset", "-q")
    monkeypatch.chdir(changed.root)
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/next-index-1.lock")
    monkeypatch.setenv("GIT_DIR", ".git")
    assert "+staged\n" in shown(changed, STAGED)
    (changed.root / "deep").mkdir()
    assert checkout_of(changed.root / "deep").top == changed.root
    monkeypatch.chdir(changed.root / "deep")
    assert "+staged\n" in shown(changed, STAGED)


def test_an_index_or_folder_of_another_repository_is_ignored(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repo(tmp_path / "other")
    other.write("foreign.py")
    other.git("add", "foreign.py")
    expected = shown(changed, STAGED)
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    assert shown(changed, STAGED) == expected
    assert checkout_of(changed.root).top == changed.root


def test_the_temporary_index_of_a_linked_worktree_is_used(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed.git("worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    linked.write("a.py", "only here\n")
    folder = Path(linked.git("rev-parse", "--absolute-git-dir").strip())
    spare = folder / "next-index-2.lock"
    spare.write_bytes((folder / "index").read_bytes())
    monkeypatch.setenv("GIT_INDEX_FILE", str(spare))
    linked.git("add", "a.py")
    assert "+only here\n" in shown(linked, STAGED)


def configure(monkeypatch: pytest.MonkeyPatch, by: str = "GIT_CONFIG_COUNT", **settings: str) -> None:
    """As an operator does in the environment; ``core__x`` is core.x."""
    if by == "GIT_CONFIG_PARAMETERS":  # in both forms that git has written
        words = (f"'{name.replace('__', '.')}'='{value}'" for name, value in settings.items())
        old = (f"'{name.replace('__', '.')}={value}'" for name, value in settings.items())
        monkeypatch.setenv(by, " ".join((*words, *old)))
        return
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (name, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", name.replace("__", "."))
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)


@pytest.mark.skipif(not hasattr(os, "chown") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("by", ["GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_GLOBAL"])
def test_safe_directory_of_the_environment_is_respected(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    expected = changed.git("diff")
    for path in (changed.root, *changed.root.rglob("*")):
        os.chown(path, 1234, 1234)
    with pytest.raises(GitError, match="belongs to another user"):
        git.checkout(changed.root)
    if by == "GIT_CONFIG_COUNT":
        configure(monkeypatch, safe__directory="*")
    elif by == "GIT_CONFIG_PARAMETERS":
        configure(monkeypatch, by, safe__directory="*")
    else:
        (tmp_path / "global").write_text("[safe]\ndirectory = *\n")
        monkeypatch.setenv(by, str(tmp_path / "global"))
    assert shown(changed, WORKTREE) == expected


def test_configuration_in_the_environment_stays_in_force(
    changed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter of theirs, as one in ~/.gitconfig."""
    changed.write(".gitattributes", "*.up filter=up\n")
    configure(monkeypatch, filter__up__clean="tr a-z A-Z")
    changed.write("a.up", "loud\n")
    changed.git("add", "a.up")
    changed.write("a.up", "louder\n")
    assert git.local_filters(changed.root) == ()
    assert "+LOUDER\n" in shown(changed, WORKTREE)


@pytest.mark.parametrize("by", ["GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"])
@pytest.mark.parametrize("name", ["core__fsmonitor", "core__hooksPath", "diff__external", "core__gitProxy"])
def test_our_own_settings_win_over_the_environment(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, by: str
) -> None:
    expected = changed.git("diff", "--no-ext-diff")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n")
    trap.chmod(0o755)
    configure(monkeypatch, by, **{name: str(trap), "diff__noprefix": "true", "core__quotePath": "false"})
    assert shown(changed, WORKTREE) == expected
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("by", ["GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"])
def test_no_protocol_is_allowed_whatever_the_environment_says(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    always = {f"protocol__{name}allow": "always" for name in ("", "ext__", "file__")}
    configure(monkeypatch, by, **always)
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ext:file")
    for url in (f"ext::sh -c 'touch {tmp_path}/sprung'", f"file://{changed.root}"):
        done = call.run(changed.root, "ls-remote", url)
        assert b"not allowed" in done.stderr
    assert not (tmp_path / "sprung").exists()


def test_a_replaced_or_grafted_commit_is_shown_as_it_is(changed: Repo) -> None:
    changed.commit("real")
    parent, real = (changed.git("rev-parse", name).strip() for name in ("HEAD~", "HEAD"))
    scope = git.resolve_scope(changed.root, "HEAD~..HEAD")
    expected = shown(changed, scope)
    assert expected
    innocent = changed.git("commit-tree", "-p", parent, "-m", "innocent", f"{parent}^{{tree}}").strip()
    changed.git("replace", real, innocent)
    blob = changed.git("rev-parse", "HEAD:a.py").strip()
    changed.git("replace", blob, changed.git("rev-parse", f"{parent}:a.py").strip())
    (changed.root / ".git" / "info" / "grafts").write_text(f"{real}\n")
    assert shown(changed, git.resolve_scope(changed.root, "HEAD~..HEAD")) == expected
    assert history.parents(changed.root, real) == (parent,)
    assert history.is_ancestor(changed.root, parent, real)


# --- a repository outside of the folder that it tracks -------------------------------------------


@pytest.fixture
def dotfiles(changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The git folder of ``changed``, which lies elsewhere."""
    (changed.root / ".git").rename(tmp_path / "dotfiles")
    monkeypatch.chdir(changed.root)
    monkeypatch.setenv("GIT_WORK_TREE", ".")
    monkeypatch.setenv("GIT_DIR", os.path.relpath(tmp_path / "dotfiles"))
    return tmp_path / "dotfiles"


def test_git_dir_with_its_work_tree_is_respected(changed: Repo, dotfiles: Path) -> None:
    (changed.root / "deep").mkdir()
    for root in (changed.root, changed.root / "deep"):
        assert checkout_of(root).top == changed.root
    for scope, options in ((WORKTREE, []), (STAGED, ["--cached"])):
        assert shown(changed, scope) == changed.git("diff", *options) != ""
    assert tracking.is_tracked(changed.root, "a.py")


def test_the_temporary_index_of_git_dir_is_used(
    changed: Repo, dotfiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dotfiles / "next").write_bytes((dotfiles / "index").read_bytes())
    changed.git("reset", "-q")
    monkeypatch.setenv("GIT_INDEX_FILE", str(dotfiles / "next"))
    assert not call.ignores_index(changed.root)
    assert "+staged\n" in shown(changed, STAGED)


def test_a_repository_inside_the_tree_of_git_dir_is_separate(changed: Repo, dotfiles: Path) -> None:
    folder = changed.root / "project"
    subprocess.run(
        ["git", "clone", "-q", str(dotfiles), str(folder)], check=True, env={"PATH": os.environ["PATH"]}
    )
    assert checkout_of(folder).top == folder


def test_git_dir_does_not_affect_a_folder_outside_its_tree(dotfiles: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert git.checkout(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("folder", ["nowhere", "a-file", "loop", "x" * 5000, ""])
def test_a_git_dir_that_does_not_exist_is_ignored(
    changed: Repo, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    expected = shown(changed, WORKTREE)
    changed.write("a-file")
    (changed.root / "loop").symlink_to("loop")
    monkeypatch.chdir(changed.root)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, folder)
    assert shown(changed, WORKTREE) == expected


# --- files ---------------------------------------------------------------------------------------


def test_files_are_tracked_and_untracked_but_not_ignored(repo: Repo) -> None:
    for name in ("b.py", "a.py", "sub/c\nd.py", "skip.log", "é.py"):
        repo.write(name)
    repo.write(".gitignore", "*.log\n")
    repo.git("add", "a.py")
    assert tracking.files(repo.root, bool) == (".gitignore", "a.py", "b.py", "sub/c\nd.py", "é.py")
    assert tracking.files(repo.root / "sub", bool) == ("c\nd.py",)


def test_tracked_and_ignored(repo: Repo) -> None:
    repo.write(".gitignore", ".env\n")
    repo.write(".env", "K=1\n")
    repo.write("--option", "x\n")
    repo.git("add", "--", "--option")
    assert (tracking.is_tracked(repo.root, ".env"), tracking.is_ignored(repo.root, ".env")) == (False, True)
    assert (tracking.is_tracked(repo.root, "--option"), tracking.is_ignored(repo.root, "--option")) == (
        True,
        False,
    )
    repo.git("add", "-f", ".env")
    assert (tracking.is_tracked(repo.root, ".env"), tracking.is_ignored(repo.root, ".env")) == (True, False)


def test_other_changes_names_staged_and_untracked_files(changed: Repo) -> None:
    changed.write("odd -> name\n.py")
    assert left_out(changed.root, WORKTREE) == LeftOut(
        staged=(b"b.py",), untracked=(b"new.py", b"odd -> name\n.py")
    )
    assert left_out(changed.root, Scope(kind="head", text="head")).staged == ()
    assert left_out(changed.root, STAGED) == LeftOut()


def test_binary_by_attribute_finds_the_binary_macro_too(repo: Repo) -> None:
    repo.write(".gitattributes", "*.py -diff\n*.bin binary\n*.c diff=cpp\n*.t diff\n")
    names = [b"a.py", b"b.bin", b"c.c", b"d.t", b"e.md", b"new\nline.py"]
    assert git.binary_by_attribute(repo.root, names) == {b"a.py", b"b.bin", b"c.c", b"new\nline.py"}
