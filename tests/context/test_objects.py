"""Files out of git: beside a staged change those of the index, beside a range those of its head."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aethr import git
from aethr.base.records import Block, Scope, View
from aethr.context import collect
from aethr.context.files import MAX_BYTES, Listing, Refusal, tree_of
from aethr.git import tracking
from tests.support import Repo, leave_a_conflict, log_git, make_repo

STAGED = Scope("staged", "staged")


@pytest.fixture
def three(repo: Repo) -> Repo:
    """One file that differs in the commit, the index and the work tree, and one in each place alone."""
    for place in ("commit", "index", "tree"):
        repo.write("app.py", f"of the {place}\n")
        repo.write(f"docs/only-in-{place}.md", f"of the {place}\n")
        if place == "commit":
            repo.commit()
            repo.git("rm", "-q", "--cached", "docs/only-in-commit.md")
        elif place == "index":
            repo.git("add", "app.py", "docs/only-in-index.md")
    return repo


def one(root: Path, source: str, scope: str) -> Block:
    (block,) = collect((source,), 120_000, View(root, git.resolve_scope(root, scope)))
    return block


def read(root: Path, path: str, scope: Scope = STAGED) -> bytes | Refusal:
    (content,) = tree_of(View(root, scope), path).read([path])
    return content


@pytest.mark.parametrize(
    ("scope", "place"),
    [("staged", "index"), ("HEAD..HEAD", "commit"), ("worktree", "tree"), ("head", "tree")],
)
def test_each_scope_reads_its_own_files(three: Repo, scope: str, place: str) -> None:
    assert one(three.root, "file:app.py", scope).text == f"of the {place}\n"
    assert one(three.root, "file:.//app.py", scope).text == f"of the {place}\n"
    globbed = one(three.root, "glob:docs/*.md", scope).text
    assert f"[file: docs/only-in-{place}.md, 1 lines]\nof the {place}\n" in globbed
    others = {"commit", "index", "tree"} - {place}
    # A file that is no longer tracked is still in the work tree, so there it is found as well.
    assert place == "tree" or not any(f"only-in-{other}" in globbed for other in others)


def test_a_temporary_index_of_git_commit_is_read(three: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = three.root / ".git" / "next-index-1.lock"
    three.git("read-tree", "HEAD")
    temporary.write_bytes((three.root / ".git" / "index").read_bytes())
    three.git("add", "app.py")
    assert one(three.root, "file:app.py", "staged").text == "of the tree\n"
    monkeypatch.chdir(three.root)
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/next-index-1.lock")
    assert one(three.root, "file:app.py", "staged").text == "of the commit\n"


def test_a_project_in_a_folder_reads_below_it(three: Repo) -> None:
    root = three.root / "docs"
    for scope, place in (("staged", "index"), ("HEAD..HEAD", "commit")):
        assert one(root, f"file:only-in-{place}.md", scope).text == f"of the {place}\n"
        assert f"[file: only-in-{place}.md" in one(root, "glob:*.md", scope).text


def test_the_bytes_are_those_of_the_object(repo: Repo) -> None:
    content = "\ufeffüñ\r\n\r\nno newline at the end".encode()
    repo.write("odd name \u00e9\n.txt", content)
    repo.git("add", "-A")
    assert read(repo.root, "odd name \u00e9\n.txt") == content


@pytest.mark.parametrize("scope", ["staged", "HEAD..HEAD"])
def test_links_and_submodules_are_refused(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    library = make_repo(tmp_path / "library")
    library.write("inside.py")
    library.commit()
    repo.git("submodule", "add", "-q", str(library.root), "lib")
    repo.write("docs/a.md")
    (repo.root / "link.md").symlink_to("docs/a.md")
    (repo.root / "folder").symlink_to("docs")
    repo.commit()
    resolved = git.resolve_scope(repo.root, scope)
    assert read(repo.root, "link.md", resolved) == Refusal("a link; in a commit links are not followed")
    assert read(repo.root, "lib", resolved) == Refusal("a submodule")
    for path in ("folder/a.md", "lib/inside.py", "nowhere.md"):
        assert read(repo.root, path, resolved) == Refusal("no such file", absent=True)
    assert read(repo.root, "docs", resolved) == Refusal("a folder", absent=True)
    assert read(repo.root, ".", resolved) == Refusal("a folder", absent=True)
    block = one(repo.root, "glob:*.md", scope)
    assert "[not sent: link.md, a link; in a commit links are not followed]" in block.text
    assert not block.receipts[0].complete


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".git/config", ".env", "a\0b", ""])
def test_paths_are_refused_in_git_objects_as_on_disk(three: Repo, path: str) -> None:
    of_index, of_disk = (read(three.root, path, scope) for scope in (STAGED, Scope()))
    assert isinstance(of_index, Refusal)
    assert of_index == of_disk


def test_a_glob_never_gives_secrets(repo: Repo) -> None:
    repo.write(".env", "KEY=sk-secret\n")
    repo.write("a.txt", "plain\n")
    repo.git("add", "-Af")
    text = one(repo.root, "glob:**/*", "staged").text
    assert "sk-secret" not in text
    assert "[not sent: .env, a file that holds secrets]" in text
    assert "plain\n" in text


def test_a_file_name_is_not_a_pattern(three: Repo) -> None:
    for path in ("*.py", ":(glob)**/*", ":/app.py"):
        assert read(three.root, path) == Refusal("no such file", absent=True)


def test_an_unmerged_file_is_refused(repo: Repo) -> None:
    leave_a_conflict(repo)
    assert read(repo.root, "a.py") == Refusal("unmerged")


def test_a_file_over_the_limit_is_not_read(repo: Repo) -> None:
    repo.write("big.txt", b"x" * (MAX_BYTES + 1))
    repo.git("add", "-A")
    found = read(repo.root, "big.txt")
    assert found == Refusal("too large: 10,000,001 bytes, at most 10,000,000 are read")


def test_a_missing_object_is_reported(repo: Repo) -> None:
    repo.write("app.py", "gone\n")
    repo.git("add", "-A")
    name = repo.git("rev-parse", ":app.py").strip()
    (repo.root / ".git" / "objects" / name[:2] / name[2:]).unlink()
    assert read(repo.root, "app.py") == Refusal("not in this clone")


def test_contents_come_in_batches_in_the_order_asked_for(repo: Repo) -> None:
    bodies = [bytes([65 + n]) * 4_000_000 for n in range(6)]
    for number, body in enumerate(bodies):
        repo.write(f"{number}.txt", body)
    repo.git("add", "-A")
    names = [f"{number}.txt" for number in (5, 0, 3, 1, 4, 2)]
    assert list(tree_of(View(repo.root, STAGED)).read(names)) == [bodies[int(name[0])] for name in names]
    wanted = [
        ("x", tracking.BATCH_BYTES - 1),
        ("y", 1),
        ("z", 1),
        ("big", tracking.BATCH_BYTES * 2),
        ("w", 1),
    ]
    assert [len(batch) for batch in tracking._batches(wanted)] == [2, 1, 1, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="counts calls with a shell script")
def test_a_glob_takes_four_git_processes(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        repo.write(f"docs/{number:02}.md", "text\n")
    repo.git("add", "-A")
    calls = log_git(tmp_path, monkeypatch)
    (block,) = collect(("glob:docs/*.md",), 120_000, View(repo.root, STAGED))
    assert sum(receipt.sha256 is not None for receipt in block.receipts) == 50
    assert calls.read_text().split() == ["rev-parse", "ls-files", "cat-file", "cat-file"]


def test_the_index_of_a_sparse_checkout_is_complete(repo: Repo) -> None:
    repo.write("in/a.txt", "in\n")
    repo.write("out/b.txt", "out\n")
    repo.commit()
    repo.git("sparse-checkout", "set", "--cone", "in")
    assert not (repo.root / "out").exists()
    assert read(repo.root, "out/b.txt") == b"out\n"


def test_outside_of_a_repository_staged_reads_files_on_disk(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("on disk\n")
    assert read(tmp_path, "app.py") == b"on disk\n"


def test_an_empty_tree_has_no_files(three: Repo) -> None:
    scope = git.resolve_scope(three.root, f"HEAD..{git.empty_tree(three.root)}")
    tree = tree_of(View(three.root, scope))
    assert tree.names(bool) == Listing(())
