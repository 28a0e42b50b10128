"""Context sources on real trees: what is sent byte for byte, what is refused, and which notes say so."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr import git
from aethr.base.errors import GitError, UsageError
from aethr.base.records import (
    Artifacts,
    Block,
    CommandCheck,
    Receipt,
    Rules,
    Scope,
    StepResult,
    StepSpec,
    View,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.context import SOURCES, Reader, collect, find, paths
from aethr.context.exclusion import is_generated
from aethr.context.files import MAX_BYTES, WorkTree, outline
from tests.support import Repo, leave_a_conflict, log_git

BUDGET = 120_000

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and special files")


def one(root: Path, source: str, *, scope: str = "worktree", budget: int = BUDGET) -> Block:
    """With ``exclude_defaults: false``."""
    rules = Rules(defaults=False)
    (block,) = collect((source,), budget, View(root, git.resolve_scope(root, scope), rules=rules))
    return block


def receipts(block: Block) -> dict[str, Receipt]:
    return {receipt.path: receipt for receipt in block.receipts if receipt.path is not None}


@pytest.fixture
def changed(repo: Repo) -> Repo:
    """A commit, and one of each kind of unstaged change."""
    repo.write("a.py", "one\ntwo\n")
    repo.write("crlf.txt", b"a\r\nb\r\n")
    repo.write("gone.py", "x\n")
    repo.write("pic.png", b"\x89PNG\0old")
    repo.write("run.sh", "x\n")
    repo.commit()
    repo.write("a.py", "one\n2")
    repo.write("crlf.txt", b"a\r\nB\r\n")
    (repo.root / "gone.py").unlink()
    repo.write("pic.png", b"\x89PNG\0new")
    (repo.root / "run.sh").chmod(0o755)
    return repo


# --- git_diff ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["worktree", "staged", "head", "HEAD~1..HEAD"])
def test_the_block_is_byte_for_byte_what_git_diff_prints(changed: Repo, scope: str) -> None:
    if scope != "worktree":
        changed.git("mv", "crlf.txt", "moved.txt")
        changed.git("add", "-A")
    if ".." in scope:
        changed.commit()
    words = {"worktree": [], "staged": ["--cached"], "head": ["HEAD"]}.get(scope, ["HEAD~1", "HEAD"])
    block = one(changed.root, "git_diff", scope=scope)
    assert block.text.encode() == changed.git("diff", "--no-ext-diff", *words).encode()
    assert block.change is True


def test_each_file_has_a_receipt(changed: Repo) -> None:
    found = receipts(one(changed.root, "git_diff"))
    assert set(found) == {"a.py", "crlf.txt", "gone.py", "pic.png", "run.sh"}
    assert (found["a.py"].changed_lines, found["a.py"].sent_lines) == (2, 2)
    part = changed.git("diff", "a.py").encode()
    assert found["a.py"].sha256 == hashlib.sha256(part).hexdigest()
    assert (found["a.py"].bytes_sent, found["a.py"].bytes_omitted) == (len(part), 0)
    assert (found["pic.png"].complete, found["pic.png"].note) == (False, "binary")
    assert [name for name, receipt in found.items() if not receipt.complete] == ["pic.png"]


def test_the_same_tree_gives_the_same_blocks(changed: Repo) -> None:
    sources = ("git_diff", "file:a.py", "glob:**/*")
    view = View(changed.root, Scope())
    assert collect(sources, 500, view) == collect(sources, 500, view)


def test_an_empty_change_is_reported_and_marked(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    block = one(repo.root, "git_diff")
    assert (block.text, block.change) == ("[no changes in the working tree]\n", False)
    assert block.receipts[0].complete


def test_excluded_changes_are_named_with_the_option_for_them(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write("staged.py")
    repo.git("add", "staged.py")
    repo.write("new\n.py")
    block = one(repo.root, "git_diff")
    said = "staged: staged.py; untracked: new\\n.py; --diff all includes it]"
    assert f"[not part of this diff (worktree): {said}" in block.text
    assert (block.change, all(each.complete for each in block.receipts)) == (False, True)
    assert "untracked: new\\n.py; --diff all includes it]" in one(repo.root, "git_diff", scope="head").text
    assert "untracked: new\\n.py; git shows a new file" in one(repo.root, "git_diff", scope="HEAD").text
    assert "not part" not in one(repo.root, "git_diff", scope="staged").text
    assert "not part" not in one(repo.root, "git_diff", scope="all").text
    (repo.root / "new\n.py").unlink()
    assert "staged: staged.py; --diff head includes it]" in one(repo.root, "git_diff").text


def test_without_diff_option_a_gate_misses_excluded_changes(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write("new.py")
    view = View(repo.root, Scope(chosen=True), strict=True)
    (block,) = collect(("git_diff",), BUDGET, view)
    assert [receipt.complete for receipt in block.receipts] == [True, False]
    (block,) = collect(("git_diff",), BUDGET, view._replace(scope=Scope()))
    assert all(receipt.complete for receipt in block.receipts)


def test_an_untracked_workflow_file_is_not_an_excluded_change(repo: Repo) -> None:
    repo.write("sub/a.txt")
    repo.commit()
    repo.write(".aethr.yaml")
    assert "not part of this diff" not in one(repo.root, "git_diff").text
    assert "untracked: .aethr.yaml; --diff" in one(repo.root / "sub", "git_diff").text


def test_many_untracked_files_are_counted(repo: Repo) -> None:
    for number in range(30):
        repo.write(f"n{number:02}.py")
    assert "n19.py and 10 more; --diff" in one(repo.root, "git_diff").text


def test_outside_of_a_repository_git_diff_is_a_note(tmp_path: Path) -> None:
    block = one(tmp_path, "git_diff")
    assert (block.text, block.change) == ("[no diff: not in a git repository]\n", False)


def test_without_git_installed_git_diff_is_a_note(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.write("a.py")
    monkeypatch.setenv("PATH", str(repo.root))
    assert one(repo.root, "git_diff").text == "[no diff: git: not found]\n"
    assert "[file: a.py, 1 lines]\ntext\n" in one(repo.root, "glob:*.py").text


def test_a_corrupt_repository_is_an_error_not_an_empty_change(changed: Repo) -> None:
    (changed.root / ".git" / "index").write_bytes(b"DIRCgarbage")
    with pytest.raises(GitError):
        collect(("git_diff",), BUDGET, View(changed.root, Scope()))


def test_nothing_in_a_diff_is_formatted(repo: Repo) -> None:
    repo.write("a.py", "")
    repo.commit()
    repo.write("a.py", "{} {0.__class__} %s $HOME ${X} [not sent: a.py]\n")
    assert one(repo.root, "git_diff").text == repo.git("diff")


def test_secret_files_in_a_diff_are_withheld(repo: Repo) -> None:
    for name in (".env", "deploy.pem", "old.key"):
        repo.write(name, f"SECRET-{name}\n" * 5)
    repo.commit()
    repo.write(".env", "SECRET-new\n")
    (repo.root / "deploy.pem").unlink()
    repo.git("mv", "old.key", "harmless.txt")
    repo.write("harmless.txt", "SECRET-old.key\n" * 5 + "more\n")
    repo.git("add", "-A")
    block = one(repo.root, "git_diff", scope="staged")
    assert "SECRET" not in block.text
    assert "[not sent: .env, 6 changed lines, a file that holds secrets]" in block.text
    assert set(receipts(block)) == {".env", "deploy.pem", "harmless.txt"}
    assert not any(receipt.complete for receipt in block.receipts)


def test_text_hidden_by_an_attribute_is_shown_and_reported(repo: Repo) -> None:
    repo.write("a.py", "a\n")
    repo.write("b.py", b"b\0\n")
    repo.write("moved.py", "many lines\n" * 9)
    repo.write("z.txt", "z\n")
    repo.commit()
    repo.write(".gitattributes", "*.py -diff\n")
    repo.write("a.py", "a\nhidden backdoor\n")
    repo.write("b.py", b"c\0\n")
    repo.git("mv", "moved.py", "here.py")
    repo.write("here.py", "many lines\n" * 9 + "and one\n")
    repo.write("z.txt", "zz\n")
    repo.git("add", "-A")
    block = one(repo.root, "git_diff", scope="staged")
    found = receipts(block)
    assert "+hidden backdoor\n" in block.text
    assert "+and one\n" in block.text
    assert "rename from moved.py\n" in block.text
    assert "Binary files a/b.py and b/b.py differ\n" in block.text
    assert found["a.py"].note == "shown as text although .gitattributes hides it from diffs"
    assert (found["b.py"].note, found["b.py"].complete) == ("binary", False)
    assert list(found) == [".gitattributes", "a.py", "b.py", "here.py", "z.txt"]
    assert "[this change edits git attributes, which decide what a diff shows and, once merged" in block.text


def test_real_binaries_with_an_attribute_stay_byte_for_byte(changed: Repo) -> None:
    changed.write(".gitattributes", "*.png binary\n")
    changed.git("add", ".gitattributes")
    assert one(changed.root, "git_diff").text.startswith(changed.git("diff"))


def test_a_section_that_is_not_utf8_is_replaced_by_a_note(repo: Repo) -> None:
    repo.write("latin.txt", "x\n")
    repo.write("ok.txt", "x\n")
    repo.commit()
    repo.write("latin.txt", "gr\xfcn\n".encode("latin-1"))
    repo.write("ok.txt", "grün\n")
    block = one(repo.root, "git_diff")
    assert "+grün\n" in block.text
    assert "[not sent: latin.txt, 2 changed lines, not UTF-8 text]" in block.text
    assert not receipts(block)["latin.txt"].complete


def test_a_hunk_heading_that_git_cuts_is_still_text(repo: Repo) -> None:
    lines = ["function " + "長" * 60, *(str(n) for n in range(9))]
    repo.write("a.txt", "\n".join(lines) + "\n")
    repo.commit()
    repo.write("a.txt", "\n".join([*lines[:-1], "new"]) + "\n")
    block = one(repo.root, "git_diff")
    assert block.text == repo.git("diff")
    assert block.receipts[0].complete


def test_invisible_characters_are_shown_and_reported(repo: Repo) -> None:
    repo.write("a.py", "x\n")
    repo.commit()
    repo.write("a.py", "if a\u202e: # \u200bhi\U000e0041\x1b[2J\n")
    block = one(repo.root, "git_diff")
    assert "+if a\\u{202e}: # \\u{200b}hi\\u{e0041}\\x1b[2J\n" in block.text
    assert receipts(block)["a.py"].note == "4 invisible characters shown by their code"


def test_a_large_change_drops_the_noise_and_names_it(repo: Repo) -> None:
    for name in ("a_noise.txt", "package-lock.json", "z.py"):
        repo.write(name, "x\n")
    repo.commit()
    repo.write("a_noise.txt", "noise noise\n" * 4_000)
    repo.write("package-lock.json", "lock\n")
    repo.write("z.py", "important\n")
    block = one(repo.root, "git_diff", budget=2_000)
    assert "+important\n" in block.text
    assert "+lock\n" in block.text
    noise = receipts(block)["a_noise.txt"]
    assert (noise.complete, noise.changed_lines) == (False, 4_001)
    assert "over the budget of 2,000 characters" in str(noise.note)


@posix
def test_a_plain_diff_takes_three_git_processes(
    changed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (changed.root / "pic.png").unlink()
    changed.git("checkout", "-q", "pic.png")
    calls = log_git(tmp_path, monkeypatch)
    collect(("git_diff",), BUDGET, View(changed.root, Scope()))
    assert sorted(calls.read_text().split()) == ["diff", "rev-parse", "status"]


def test_a_local_filter_is_reported_if_files_are_read_from_disk(changed: Repo) -> None:
    changed.git("config", "filter.x.clean", "false")
    changed.write(".git/info/attributes", "* filter=x\n")
    line = "[filters of the repository's own configuration were not run: x]"
    scopes = ("worktree", "head", "staged")
    said = {scope: line in one(changed.root, "git_diff", scope=scope).text for scope in scopes}
    assert said == {"worktree": True, "head": True, "staged": False}


def test_an_unmerged_path_is_not_complete(repo: Repo) -> None:
    leave_a_conflict(repo)
    assert receipts(one(repo.root, "git_diff"))["a.py"].changed_lines == 5
    (receipt,) = one(repo.root, "git_diff", scope="staged").receipts
    assert (receipt.path, receipt.note, receipt.complete) == ("a.py", "unmerged", False)


def test_odd_file_names_are_escaped_in_receipts(repo: Repo) -> None:
    for name in ("two\nlines.py", "esc\x1b[0m.py", "a -> b.py", "bidi\u202e.py"):
        repo.write(name)
    repo.git("add", "-A")
    block = one(repo.root, "git_diff", scope="staged")
    assert set(receipts(block)) == {"two\\nlines.py", "esc\\x1b[0m.py", "a -> b.py", "bidi\\u{202e}.py"}
    assert block.text == repo.git("diff", "--cached")


# --- latest_diff ---------------------------------------------------------------------------------


def step(name: str, artifacts: Artifacts | None) -> StepResult:
    return StepResult(name, "r", "model", None, 1, "", "", artifacts=artifacts)


def latest(*history: StepResult, root: Path) -> Block:
    (block,) = collect(("latest_diff",), BUDGET, View(root, Scope(), history))
    return block


def test_latest_diff_is_the_diff_of_the_last_edit(changed: Repo) -> None:
    diff = changed.git("diff", "a.py")
    early = step("one", Artifacts(("x",), "", "diff --git a/x b/x\n"))
    block = latest(
        early, step("two", Artifacts(("a.py",), "", diff)), step("review", None), root=changed.root
    )
    assert block.text == diff
    assert receipts(block)["a.py"].sent_lines == 2


def test_latest_diff_reports_that_no_step_edited_files(tmp_path: Path) -> None:
    block = latest(step("plan", None), root=tmp_path)
    assert block.text == "[no diff: no step before this one has edited files]\n"
    assert (block.change, block.receipts[0].complete) == (None, False)


def test_latest_diff_reports_that_nothing_changed(tmp_path: Path) -> None:
    block = latest(step("implement", Artifacts()), root=tmp_path)
    assert (block.text, block.change) == ("[step implement changed nothing]\n", False)


@pytest.mark.parametrize(
    ("diff", "note"),
    [
        (
            "diff --git a/sub b/sub\nindex 1111111..2222222 160000\n--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n"
            "-Subproject commit 1111111\n+Subproject commit 2222222\n",
            "a submodule, from 1111111 to 2222222: its files are not shown",
        ),
        (
            "diff --git a/sub b/sub\nnew file mode 160000\nindex 0000000..2222222\n--- /dev/null\n+++ b/sub\n"
            "@@ -0,0 +1 @@\n+Subproject commit 2222222\n",
            "a submodule, new at 2222222: its files are not shown",
        ),
        (
            "diff --git a/big.bin b/big.bin\nindex 1111111..2222222 100644\n--- a/big.bin\n+++ b/big.bin\n"
            "@@ -1,3 +1,3 @@\n version https://git-lfs.github.com/spec/v1\n"
            f"-oid sha256:{'1' * 64}\n-size 5\n+oid sha256:{'2' * 64}\n+size 6\n",
            "a git-lfs pointer; the file itself is not shown",
        ),
    ],
    ids=["submodule", "embedded repository", "pointer of git-lfs"],
)
def test_latest_diff_of_submodules_and_pointers_is_incomplete(tmp_path: Path, diff: str, note: str) -> None:
    block = latest(step("implement", Artifacts(("x",), "", diff)), root=tmp_path)
    (receipt,) = block.receipts
    assert (receipt.complete, receipt.note, receipt.changed_lines) == (False, note, 0)


def test_latest_diff_names_changes_that_it_cannot_show(tmp_path: Path) -> None:
    diff = "diff --git a/a.py b/a.py\nindex 1..2 100644\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-1\n+2\n"
    beside = latest(step("implement", Artifacts(("a.py",), "", diff, ("ignored by git: x",))), root=tmp_path)
    alone = latest(step("implement", Artifacts(unseen=("ignored by git: x",))), root=tmp_path)
    tools = latest(step("implement", Artifacts(generated=("made again by tools: y",))), root=tmp_path)
    line = "[step implement changed what is not shown here: ignored by git: x]\n"
    assert beside.text == diff + line
    assert (alone.text, alone.change) == (line, True)
    assert not any(all(each.complete for each in block.receipts) for block in (beside, alone))
    assert "changed nothing" not in tools.text
    assert (tools.change, all(each.complete for each in tools.receipts)) == (False, True)


def test_latest_diff_names_files_changed_without_a_diff(tmp_path: Path) -> None:
    block = latest(step("implement", Artifacts(("a.bin",))), root=tmp_path)
    assert block.text == "[step implement gives no diff, but changed a.bin]\n"
    assert (block.change, block.receipts[0].complete) == (True, False)


def test_latest_diff_accepts_any_text(tmp_path: Path) -> None:
    block = latest(
        step("implement", Artifacts(("x",), "", "odd \ud800\ndiff --git a/x b/x\n@@ -1 +1 @@\n+\udc80\n")),
        root=tmp_path,
    )
    assert "[not sent: x, 1 changed line, not UTF-8 text]" in block.text
    assert block.text.encode()


# --- file ----------------------------------------------------------------------------------------


def test_a_file_is_sent_byte_for_byte(tmp_path: Path) -> None:
    content = "# é\r\n{} %s $HOME\n\ttab, no newline at the end"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_bytes(content.encode())
    block = one(tmp_path, "file:sub/a.md")
    assert block.text == content
    (receipt,) = block.receipts
    assert (receipt.path, receipt.bytes_sent, receipt.complete) == ("sub/a.md", len(content.encode()), True)
    assert receipt.sha256 == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.md", None, "no such file"),
        ("bin.dat", b"a\0b", "binary"),
        ("latin.txt", b"gr\xfcn", "not UTF-8 text"),
        ("big.txt", b"x" * (MAX_BYTES + 1), "too large: 10,000,001 bytes, at most 10,000,000 are read"),
    ],
)
def test_an_unreadable_file_is_named_with_its_reason(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    block = one(tmp_path, f"file:{name}")
    assert block.text.startswith(f"[not sent: {name}")
    assert block.text.endswith(f"{reason}]\n")
    assert not block.receipts[0].complete


def test_an_empty_file_is_labelled_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    block = one(tmp_path, "file:a.md")
    assert (block.text, block.receipts[0].complete) == ("[file: a.md, empty]\n", True)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert one(tmp_path, "file:d").text == "[not sent: d, a folder]\n"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "absolute path"),
        ("C:\\Windows\\x", "absolute path"),
        ("../outside.txt", "'..'"),
        ("sub/../../outside.txt", "'..'"),
        ("..\\outside.txt", "'..'"),
        (".git/config", ".git"),
        (".GIT/config", ".git"),
        ("sub/.git./config", ".git"),
        ("GIT~1/config", ".git"),
        (".env", "secrets"),
        (".env.local", "secrets"),
        ("deploy/id_rsa", "secrets"),
        ("id_rsa.pub.bak", "secrets"),
        ("Server.PEM", "secrets"),
        (".netrc", "secrets"),
        ("sub/.npmrc", "secrets"),
        (".pypirc", "secrets"),
        (".git-credentials", "secrets"),
        ("x.p12", "secrets"),
        ("home/.aws/credentials", "secrets"),
        ("a\0b", "not a path"),
        ("\ud800", "not a path"),
    ],
)
def test_refused_paths_are_never_read(repo: Repo, path: str, reason: str) -> None:
    plain = path.replace("\\", "/")
    if not set(plain) & {"\0", "\ud800", ":"} and ".." not in plain and not plain.startswith("/"):
        repo.write(plain, "TOP-SECRET\n")
    block = one(repo.root, f"file:{path}")
    assert reason in block.text
    assert "TOP-SECRET" not in block.text
    assert not block.receipts[0].complete


def test_an_example_of_an_env_file_may_be_read(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("KEY=\n")
    assert one(tmp_path, "file:.env.example").text == "KEY=\n"


@posix
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/proc/self/environ", "leaves the project"),
        ("../outside.txt", "leaves the project"),
        (".env", "a link to a file that holds secrets"),
        (".git/config", "a link to inside of .git"),
        ("link.txt", "cannot be read|loop"),
    ],
)
def test_a_link_is_followed_only_to_an_allowed_path(repo: Repo, target: str, reason: str) -> None:
    (repo.root.parent / "outside.txt").write_text("TOP-SECRET\n")
    repo.write(".env", "TOP-SECRET\n")
    (repo.root / "link.txt").symlink_to(target)
    block = one(repo.root, "file:link.txt")
    assert any(word in block.text for word in reason.split("|"))
    assert "SECRET" not in block.text
    assert "[core]" not in block.text


@posix
def test_a_link_within_the_project_is_followed(repo: Repo) -> None:
    repo.write("real.txt", "content\n")
    (repo.root / "link.txt").symlink_to("real.txt")
    assert one(repo.root, "file:link.txt").text == "content\n"


@posix
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert one(tmp_path, "file:pipe").text == "[not sent: pipe, not a regular file]\n"


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)
    assert "cannot be read" in one(tmp_path, "file:a").text


def test_a_file_over_the_budget_is_dropped_whole_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x" * 200)
    block = one(tmp_path, "file:a.md", budget=100)
    assert block.text == "[not sent: a.md, 200 bytes, over the budget of 100 characters]\n"
    assert (block.receipts[0].bytes_omitted, block.receipts[0].complete) == (200, False)


# --- glob ----------------------------------------------------------------------------------------


def test_a_glob_lists_what_git_knows_sorted_each_under_its_name(repo: Repo) -> None:
    repo.write("b.py", "b\n")
    repo.write("sub/a.py", "a")
    repo.write("ignored/x.py", "x\n")
    repo.write(".gitignore", "ignored/\n")
    repo.git("add", "b.py")
    assert one(repo.root, "glob:**/*.py").text == "[file: b.py, 1 lines]\nb\n[file: sub/a.py, 1 lines]\na"
    assert one(repo.root, "glob:*.py").text == "[file: b.py, 1 lines]\nb\n"
    assert one(repo.root / "sub", "glob:*.py").text == "[file: a.py, 1 lines]\na"


def test_a_glob_never_gives_secrets_or_git(repo: Repo) -> None:
    for name in ("a.txt", ".env", "id_rsa", "k.pem", "sub/.netrc"):
        repo.write(name, f"CONTENT {name}\n")
    repo.commit()
    block = one(repo.root, "glob:**/*")
    assert block.text.count("CONTENT") == 1
    assert block.text.count("a file that holds secrets") == 4
    assert ".git/" not in block.text


@posix
def test_a_glob_does_not_pass_a_link_to_a_folder(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.txt").write_text("TOP-SECRET\n")
    repo.write("in.txt", "in\n")
    for root in (repo.root, tmp_path / "plain"):
        root.mkdir(exist_ok=True)
        (root / "d").symlink_to(tmp_path / "outside")
        refused = one(root, "glob:d/*")
        assert refused.text == "[not read: d is a link or another repository]\n"
        assert not refused.receipts[0].complete
        assert "SECRET" not in one(root, "glob:**/*").text


def test_a_glob_without_a_match_is_complete(repo: Repo) -> None:
    block = one(repo.root, "glob:*.none")
    assert (block.text, block.receipts[0].complete) == ("[no file matches]\n", True)


def test_more_files_than_the_cap_are_named(repo: Repo) -> None:
    for number in range(53):
        repo.write(f"f{number:02}.txt", "x\n")
    block = one(repo.root, "glob:*.txt")
    assert block.text.count("[file: ") == 50
    assert "[not sent: f52.txt, over the cap of 50 files]" in block.text
    assert [receipt.complete for receipt in block.receipts] == [True] * 50 + [False] * 3


def test_files_far_over_the_cap_are_counted(repo: Repo) -> None:
    for number in range(103):
        repo.write(f"f{number:03}.txt", "x\n")
    block = one(repo.root, "glob:*.txt")
    assert block.text.count("over the cap of 50 files]\n") == 51
    assert block.text.endswith("[3 more files match, over the cap of 50 files]\n")
    assert [receipt.complete for receipt in block.receipts] == [True] * 50 + [False] * 51


def test_a_deleted_file_does_not_match_a_glob(repo: Repo) -> None:
    repo.write("a.txt")
    repo.write("b.txt")
    repo.commit()
    (repo.root / "a.txt").unlink()
    assert [receipt.path for receipt in one(repo.root, "glob:*.txt").receipts] == ["b.txt"]


def test_outside_of_a_repository_the_folder_is_walked(tmp_path: Path) -> None:
    for name in ("b.md", "sub/a.md", ".hidden/c.md", "sub/.git/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    found = [receipt.path for receipt in one(tmp_path, "glob:**/*.md").receipts]
    assert found == [".hidden/c.md", "b.md", "sub/a.md"]


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="no file here that does not tell its size"
)
def test_a_file_that_reports_a_wrong_size_is_read_whole() -> None:
    [content] = WorkTree(Path("/proc/self")).read(["status"])
    assert isinstance(content, bytes)
    assert content.startswith(b"Name:")
    assert content.count(b"\n") > 10


def test_listing_a_folder_is_bounded_and_reports_it(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"f{number}").touch()
    listing = WorkTree(tmp_path, walk_entries=3).names(bool)
    assert (listing.names, listing.cut) == (("f0", "f1", "f2"), True)
    assert not WorkTree(tmp_path).names(bool).cut


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", ".git/*", "*.pem", "sub/.env*"])
def test_refused_patterns_read_nothing(repo: Repo, pattern: str) -> None:
    block = one(repo.root, f"glob:{pattern}")
    assert block.text.startswith("[not read: ")
    assert not block.receipts[0].complete


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.py", ["a.py", ".x.py"], ["sub/a.py", "a.pyc"]),
        ("**/*.py", ["a.py", "s/a.py", "s/t/a.py"], ["a.py/x"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs", "xdocs/a"]),
        ("**/x/**/y", ["x/y", "a/x/b/c/y"], ["x", "xx/y"]),
        ("a?[bc].t", ["axb.t", "azc.t"], ["ab.t", "a/b.t", "axd.t"]),
        ("[!a]*", ["b", "bcd"], ["a", "ab", "/"]),
        ("./a//b", ["a/b"], ["a"]),
        ("a[", ["a["], ["a"]),
        ("[z-a]", ["[z-a]"], ["z"]),
        ("(a|b).+$", ["(a|b).+$"], ["a", "b"]),
        ("*\n*", ["a\nb"], ["a/\nb"]),
        ("**/**/**/*", ["a", "a/b/c"], []),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    match = paths.pattern(pattern).fullmatch
    assert [name for name in yes if not match(name)] == []
    assert [name for name in no if match(name)] == []


# --- tree ----------------------------------------------------------------------------------------


def test_the_tree_names_files_sorted_and_without_what_git_ignores(repo: Repo) -> None:
    for name in (
        "src/b.py",
        "src/a.py",
        "gone.py",
        "README.md",
        "ignored.log",
        ".gitignore",
        "odd\n\u202e.py",
    ):
        repo.write(name, "*.log\n")
    repo.commit()
    repo.write("new.py")
    (repo.root / "gone.py").unlink()
    block = one(repo.root, "tree")
    names = [".gitignore", "README.md", "new.py", "odd\\n\\u{202e}.py", "src/a.py", "src/b.py"]
    assert block.text == "\n".join(["[6 files]", *names, ""])
    [receipt] = block.receipts
    assert (receipt.complete, receipt.bytes_sent) == (True, len("\n".join([*names, ""])))
    assert receipt.sha256 == hashlib.sha256("\n".join([*names, ""]).encode()).hexdigest()
    assert one(repo.root / "src", "tree").text == "[2 files]\na.py\nb.py\n"


def test_the_tree_is_that_of_the_side_that_the_diff_leads_to(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write("b.py")
    repo.git("add", "b.py")
    repo.write("c.py")
    shown = {scope: one(repo.root, "tree", scope=scope).text for scope in ("staged", "HEAD..HEAD", "all")}
    assert shown["staged"] == "[2 files]\na.py\nb.py\n"
    assert shown["HEAD..HEAD"] == "[1 file]\na.py\n"
    assert shown["all"] == "[3 files]\na.py\nb.py\nc.py\n"


def test_the_tree_outside_of_a_repository_and_in_an_empty_folder(tmp_path: Path) -> None:
    assert one(tmp_path, "tree").text == "[no files]\n"
    (tmp_path / "a.py").touch()
    assert one(tmp_path, "tree").text == "[1 file]\na.py\n"


def test_a_large_folder_is_counted_and_an_outline_is_bounded() -> None:
    small = [f"src/{name}.py" for name in "abc"]
    data = [f"src/data/{number:03}.csv" for number in range(150)]
    assert outline([*small, *data]) == ["src/a.py", "src/b.py", "src/c.py", "src/data/ (150 files)"]
    deep = [f"p{a:02}/q{b:02}/r{c}.py" for a in range(30) for b in range(30) for c in range(9)]
    lines = outline(deep)
    assert 400 < len(lines) <= 500
    assert lines == sorted(lines)
    counts = [int(line.split("(")[1].split()[0]) if line.endswith(")") else 1 for line in lines]
    assert sum(counts) == len(deep)
    assert {line[:3] for line in lines} == {name[:3] for name in deep}, "every folder at the top is there"
    flat = outline(f"{number:03}.txt" for number in range(900))
    assert (len(flat), flat[-2:]) == (501, ["499.txt", "and 400 more"])


def test_names_that_do_not_fit_are_not_missed(repo: Repo) -> None:
    repo.write("a.py")
    [receipt] = one(repo.root, "tree", budget=3).receipts
    assert (receipt.complete, receipt.bytes_sent, receipt.bytes_omitted) == (True, 0, 5)
    assert receipt.note == "over the budget of 3 characters"


# --- names, characters, the table ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["uv.lock", "web/dist/a.js", "a.min.js", "go.sum", "x_pb2.py", "vendor/a/b.go"]
)
def test_generated_names(path: str) -> None:
    assert is_generated(path)
    assert not is_generated("src/lock.py")


def test_reveal_leaves_text_alone_and_shows_the_rest() -> None:
    assert reveal("plain é 漢字 ⚠️\t\r\n") == ("plain é 漢字 ⚠️\t\r\n", 0)
    assert reveal("\ufeffx\ufeff") == ("\ufeffx\\u{feff}", 1)
    assert reveal("a\x00\x85\u2066\U000e007f\ud800") == ("a\\x00\\x85\\u{2066}\\u{e007f}\\u{d800}", 5)
    assert reveal_name(b"a\xff\n\t\ry") == "a\\xff\\n\\t\\ry"


@given(st.text())
def test_revealed_text_can_be_encoded_and_is_stable(text: str) -> None:
    shown, _ = reveal(text)
    shown.encode()
    assert reveal(shown) == (shown, 0)


def test_the_table_names_its_sources_and_find_reads_them() -> None:
    assert list(SOURCES) == [
        *("git_diff", "latest_diff", "changed_files", "commits", "pull_request", "guidance"),
        *("file", "glob", "tree", "command"),
    ]
    assert all(row.help and "\n" not in row.help for row in SOURCES.values())
    assert find("file:a:b.md") == (SOURCES["file"], "a:b.md")


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("git-diff", "did you mean 'git_diff'?"),
        ("xyz", "Known: git_diff"),
        ("file", "file:<"),
        ("latest_diff:x", "Write latest_diff."),
        ("git_diff:", "git_diff:<"),
    ],
)
def test_an_invalid_source_is_a_usage_error(source: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(source)
    assert fix in f"{caught.value}; {caught.value.fix}"


def test_a_preview_leaves_no_placeholder_for_the_run(changed: Repo) -> None:
    step = StepSpec("review", "reviewer", BUDGET, ("latest_diff",))
    reader = Reader([step], (), 16)
    view = View(changed.root, Scope())
    [[shown]] = reader.collect(step, view._replace(preview=True)).parts
    [[read]] = reader.collect(step, view).parts
    assert "will stand here" in shown.text
    assert "no diff: no step before this one has edited files" in read.text


@pytest.mark.parametrize("by", ["command of a step", "command of a loop", "nothing"])
def test_a_change_is_read_again_after_a_command_of_the_project(changed: Repo, by: str) -> None:
    review = StepSpec("review", "reviewer", BUDGET, ("git_diff",))
    check = StepSpec("check", "tester", BUDGET, ("command:make",) if by == "command of a step" else ())
    reader, view = Reader([review, check], (), 16), View(changed.root, Scope())
    [[before]] = reader.collect(review, view).parts
    changed.write("a.py", "what a tool wrote\n")
    result = step(check.id, None)
    if by == "command of a loop":
        result = result._replace(check=CommandCheck("make", True, "exit code 0"))
    [[now]] = reader.collect(review, view._replace(history=(result,))).parts
    assert "what a tool wrote" not in before.text
    assert ("what a tool wrote" in now.text) == (by != "nothing")
