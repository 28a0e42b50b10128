"""``from_fix`` on real repositories: what is in the case, and what gives none."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr.base.errors import DiskError, GitError, UsageError
from aethr.evaluation.fixes import LARGE, Made, from_fix
from tests.support import Repo

BEFORE = """\
def pages(items, size):
    return len(items) // size


def first(items):
    return items[0]
"""
AFTER = """\
def pages(items, size):
    full, rest = divmod(len(items), size)
    return full + bool(rest)


def first(items):
    return items[0]
"""
LONG = "".join(f"ROW_{number} = {number}\n" for number in range(20))


def expect(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((made.folder / "expect.yaml").read_text(encoding="utf-8"))
    return found


def tree(side: Path) -> dict[str, bytes]:
    return {
        path.relative_to(side).as_posix(): path.read_bytes()
        for path in side.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def fix(
    repo: Repo, before: dict[str, str | bytes], after: dict[str, str | bytes], message: str = "Fix it"
) -> str:
    """Two commits with these files; the id of the second one. A file that it lacks is removed."""
    for name, content in before.items():
        repo.write(name, content)
    repo.commit("before")
    for name in before.keys() - after.keys():
        (repo.root / name).unlink()
    for name, content in after.items():
        repo.write(name, content)
    return repo.commit(message)


def test_the_change_brings_the_bug_back_and_nothing_else(repo: Repo, tmp_path: Path) -> None:
    before = {
        "app/pages.py": BEFORE,
        "app/other.py": "same\n",
        "tests/test_pages.py": "from app.pages import pages\n",
        "CHANGELOG.md": "# Changes\n",
    }
    after = {
        **before,
        "app/pages.py": AFTER,
        "tests/test_pages.py": "from app.pages import pages\n\nassert pages([1], 2) == 1\n",
        "tests/test_last_page.py": "new\n",
        "CHANGELOG.md": "# Changes\n\n- The last page is no longer missing\n",
    }
    commit = fix(repo, before, after, "Count the partial page\n\nIt was never shown. Closes #12.")
    made = from_fix(repo.root, commit, tmp_path / "cases", "high")
    assert made == (tmp_path / "cases" / f"count-the-partial-page-{commit[:12]}", "app/pages.py:2", ())
    told = {name: before[name].encode() for name in ("tests/test_pages.py", "CHANGELOG.md")}
    assert tree(made.folder / "base") == {"app/pages.py": AFTER.encode(), **told}
    assert tree(made.folder / "head") == {"app/pages.py": BEFORE.encode(), **told}
    assert expect(made) == {
        "message": "Change pages.py",
        "tags": ["from-fix"],
        "findings": [
            {
                "file": "app/pages.py",
                "lines": 2,
                "severity": "high",
                "words": ["Count", "partial", "page", "divmod", "bool"],
                "why": "Count the partial page",
            }
        ],
    }
    assert "Guesses from the fix" in (made.folder / "expect.yaml").read_text()
    check = "import sys; sys.path[0] = sys.argv[1]; from app.pages import pages; sys.exit(pages([1], 2) != 1)"
    assert [
        subprocess.run([sys.executable, "-Bc", check, made.folder / side], check=False).returncode
        for side in ("base", "head")
    ] == [0, 1]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param("a\nb\nc\n", "a\nb\nNEW\nc\n", "2-3", id="lines around the place where it added some"),
        pytest.param("a\nb\n", "NEW\na\nb\n", 1, id="the first line, where it added some before it"),
        pytest.param("a\nb\n", "a\nb\nNEW\n", 2, id="the last line, where it added some after it"),
        pytest.param("a\nb", "a\nb\nNEW", 2, id="without a line feed at the end"),
        pytest.param("a\nb\nc\n", "a\nc\n", 2, id="the line that it removed"),
        pytest.param("a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n", 2, id="with the line ends of Windows"),
        pytest.param("a\n1\nb\nc\n2\n", "a\n3\nb\nc\n4\n", "2-5", id="two places that are near"),
        pytest.param(b"\xe4\n\xf6\n", b"\xe4\n\xfc\n", 2, id="not UTF-8"),
    ],
)
def test_the_place_is_what_the_fix_changed(
    repo: Repo, tmp_path: Path, before: str | bytes, after: str | bytes, lines: int | str
) -> None:
    made = from_fix(repo.root, fix(repo, {"a.py": before}, {"a.py": after}), tmp_path)
    assert expect(made)["findings"][0]["lines"] == lines
    for side, content in (("base", after), ("head", before)):
        expected = content.encode() if isinstance(content, str) else content
        assert tree(made.folder / side) == {"a.py": expected}


def test_the_largest_edit_is_the_place_and_the_others_are_named(repo: Repo, tmp_path: Path) -> None:
    rows = [f"row {number}" for number in range(60)]
    fixed = [f"fixed {row}" if number in (3, 30, 31, 32) else row for number, row in enumerate(rows)]
    files = [{"a.py": "\n".join(each), "b.py": each[3]} for each in (rows, fixed)]
    found = expect(from_fix(repo.root, fix(repo, *files), tmp_path))["findings"][0]
    assert (found["file"], found["lines"]) == ("a.py", "31-33")
    assert found["also"] == [{"file": "a.py", "lines": 4}, {"file": "b.py", "lines": 1}]


def test_places_cover_every_line_that_only_the_bug_has(repo: Repo, tmp_path: Path) -> None:
    chance = random.Random(21)
    before: dict[str, str | bytes] = {}
    after: dict[str, str | bytes] = {}
    for number in range(40):
        rows = [f"{number} line {row}" for row in range(chance.randint(1, 30))]
        edited = [
            each
            for row in rows
            for each in chance.choices(([row], [], [f"new {row}"], [row, f"more {row}"]), (8, 1, 1, 1))[0]
        ]
        before[f"f{number}.py"] = "\n".join(rows) + "\n"
        after[f"f{number}.py"] = "\n".join(edited) + "\n"
    made = from_fix(repo.root, fix(repo, before, after), tmp_path)
    main = expect(made)["findings"][0]
    covered: dict[str, set[int]] = {}
    for place in (main, *main["also"]):
        first, _, last = str(place["lines"]).partition("-")
        covered.setdefault(place["file"], set()).update(range(int(first), int(last or first) + 1))
    for name, text in before.items():
        lines, fixed = str(text).splitlines(), set(str(after[name]).splitlines())
        only = {number for number, line in enumerate(lines, 1) if line not in fixed}
        found = covered.get(name, set())
        assert only <= found <= set(range(1, len(lines) + 1)), name
        assert bool(found) == (text != after[name]), name
    assert tree(made.folder / "head").keys() == {name for name in before if before[name] != after[name]}


def test_names_modes_and_links_stay(repo: Repo, tmp_path: Path) -> None:
    names = ["my file.py", 'q"uote.py', "späß/日本.py", "new\nline.py", "-dash.py", "[a-z]*.py"]
    before: dict[str, str | bytes] = dict.fromkeys(names, "old\n") | {"run": "old\n", "real.py": "x\n"}
    for name in ("inside", "sideways", "outside", "twice", "absolute"):
        before[name] = "old\n"
    for name, content in before.items():
        repo.write(name, content)
    repo.commit()
    for name in (*names, "run"):
        repo.write(name, "new\n")
    (repo.root / "run").chmod(0o755)
    targets = {
        "inside": "real.py", "sideways": "späß/日本.py", "outside": "../secret",
        "twice": "späß/../../secret", "absolute": "/etc/passwd",
    }  # fmt: skip
    for name, target in targets.items():
        (repo.root / name).unlink()
        (repo.root / name).symlink_to(target)
    made = from_fix(repo.root, repo.commit("Fix"), tmp_path)
    base, head = tree(made.folder / "base"), tree(made.folder / "head")
    assert {name for name in base if base[name] == b"new\n"} == {*names, "run"}
    assert {name for name in head if head[name] == b"old\n"} == before.keys() - {"real.py"}
    executable = [(made.folder / side / "run").stat().st_mode & stat.S_IXUSR for side in ("base", "head")]
    assert list(map(bool, executable)) == [True, False]
    links = [path for path in (made.folder / "base").iterdir() if path.is_symlink()]
    assert {path.name: str(path.readlink()) for path in links} == {
        name: targets[name] for name in ("inside", "sideways")
    }
    assert [note for note in sorted(made.notes) if note.startswith("left")] == [
        f"left out: {name}, a link to the outside" for name in ("absolute", "outside", "twice")
    ]
    finding = expect(made)["findings"][0]
    placed = {place["file"] for place in (finding, *finding["also"])}
    assert placed == {*names, "run"} - {"new\nline.py"}


def test_a_name_that_is_not_utf8_is_in_the_files_but_not_a_place(repo: Repo, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.py")
    try:
        commit = fix(repo, {"a.py": "1\n", odd: "1\n2\n"}, {"a.py": "2\n", odd: "3\n4\n"})
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    made = from_fix(repo.root, commit, tmp_path)
    assert tree(made.folder / "head").keys() == {"a.py", odd}
    assert "also" not in expect(made)["findings"][0]
    assert made.place == "a.py:1"


def test_a_renamed_file_has_the_name_of_each_side(repo: Repo, tmp_path: Path) -> None:
    made = from_fix(repo.root, fix(repo, {"old.py": BEFORE + LONG}, {"new.py": AFTER + LONG}), tmp_path)
    assert tree(made.folder / "base") == {"new.py": (AFTER + LONG).encode()}
    assert tree(made.folder / "head") == {"old.py": (BEFORE + LONG).encode()}
    assert made.place == "old.py:2"


def test_what_is_never_sent_is_not_in_a_case(repo: Repo, tmp_path: Path) -> None:
    before = {"a.py": "1\n", ".env": "KEY=1\n", "deploy/id_rsa": "1\n", "infra/prod.tfvars": "1\n"}
    after = {"a.py": "2\n", ".env": "KEY=2\n", "deploy/id_rsa": "2\n", "infra/prod.tfvars": "2\n"}
    made = from_fix(repo.root, fix(repo, before, after), tmp_path)
    assert tree(made.folder).keys() == {"base/a.py", "head/a.py", "expect.yaml"}
    assert sorted(made.notes) == [
        f"left out: {name}" for name in (".env", "deploy/id_rsa", "infra/prod.tfvars")
    ]
    assert "KEY" not in (made.folder / "expect.yaml").read_text()


def test_a_submodule_beside_code_is_left_out(repo: Repo, tmp_path: Path) -> None:
    for number, content in enumerate(("old\n", "new\n"), start=1):
        repo.write("a.py", content)
        repo.git("add", "a.py")
        repo.git("update-index", "--add", "--cacheinfo", f"160000,{str(number) * 40},sub")
        repo.git("commit", "-q", "-m", "change")
    made = from_fix(repo.root, "HEAD", tmp_path)
    assert made.notes == ("left out: sub",)
    assert tree(made.folder / "head") == {"a.py": b"old\n"}


def test_a_large_fix_and_comments_of_the_fix_are_named(repo: Repo, tmp_path: Path) -> None:
    before: dict[str, str | bytes] = {f"f{number}.py": "1\n" for number in range(LARGE + 1)}
    after: dict[str, str | bytes] = dict.fromkeys(before, "# the last one was forgotten\n2\n")
    made = from_fix(repo.root, fix(repo, before, after), tmp_path)
    large, comments = made.notes
    assert large.startswith(f"large: the fix changes {LARGE + 1} source files")
    assert "comments of the fix" in comments
    assert f"# {large}\n# {comments}\n" in (made.folder / "expect.yaml").read_text()


def mktree(repo: Repo, rows: str) -> str:
    done = subprocess.run(
        ["git", "mktree"], cwd=repo.root, input=rows.encode(), capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def commit_trees(repo: Repo, before: str, after: str) -> str:
    """A fix of these trees, which git itself might not make of files."""
    first = repo.git("commit-tree", before, "-m", "before").strip()
    return repo.git("commit-tree", after, "-p", first, "-m", "Fix").strip()


def blobs(repo: Repo) -> list[str]:
    """Two contents that are in the repository."""
    fix(repo, {"a.py": "1\n"}, {"a.py": "2\n"})
    return [repo.git("rev-parse", f"{commit}:a.py").strip() for commit in ("HEAD~1", "HEAD")]


def thousands(repo: Repo) -> None:
    rows = ("".join(f"100644 blob {blob}\t{number}.py\n" for number in range(2001)) for blob in blobs(repo))
    repo.git("update-ref", "HEAD", commit_trees(repo, *(mktree(repo, each) for each in rows)))


def a_merge(repo: Repo) -> None:
    repo.write("a.py", "1\n")
    repo.commit()
    repo.git("switch", "-q", "-c", "topic")
    repo.write("b.py", "1\n")
    repo.commit()
    repo.git("switch", "-q", "main")
    repo.write("a.py", "2\n")
    repo.commit()
    repo.git("merge", "-q", "--no-edit", "topic")


def only_a_mode(repo: Repo) -> None:
    repo.write("run", "1\n")
    repo.commit()
    (repo.root / "run").chmod(0o755)
    repo.commit()


def a_submodule(repo: Repo) -> None:
    for number in "12":
        repo.git("update-index", "--add", "--cacheinfo", f"160000,{number * 40},sub")
        repo.git("commit", "-q", "-m", "change")


def made_of(before: dict[str, str | bytes], after: dict[str, str | bytes]) -> Callable[[Repo], object]:
    return lambda repo: fix(repo, before, after)


NOT_CODE = "it changes no lines of code"
REFUSED: dict[str, tuple[Callable[[Repo], object], str]] = {
    "a merge": (a_merge, "is a merge"),
    "a first commit": (lambda repo: (repo.write("a.py", "1\n"), repo.commit()), "is a first commit"),
    "nothing": (made_of({"a.py": "1\n"}, {"a.py": "1\n"}), "it changes no file"),
    "tests and pages": (
        made_of({"tests/test_a.py": "1\n", "a.md": "1\n"}, {"tests/test_a.py": "2\n", "a.md": "2\n"}),
        "it changes only tests, pages or data",
    ),
    "a rename": (made_of({"a.py": BEFORE}, {"b.py": BEFORE}), NOT_CODE),
    "binary": (made_of({"a": b"\0" * 9}, {"a": b"\0" * 8}), NOT_CODE),
    "a mode": (only_a_mode, NOT_CODE),
    "from nothing": (made_of({"a.py": ""}, {"a.py": "1\n"}), NOT_CODE),
    "new files": (made_of({"a.md": "1\n"}, {"a.md": "1\n", "a.py": "1\n"}), "it only adds files"),
    "a submodule": (a_submodule, "it changes only submodules"),
    "keys": (made_of({".env": "1\n"}, {".env": "2\n"}), "it changes only files that are never sent"),
    "thousands of files": (thousands, "changes 2,001 files, too many"),
    "a large file": (
        made_of({"a.py": "1\n"}, {"a.py": b"%b\n" % (b"1" * 100_000) * 200}),
        "larger than 16 MiB",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_gives_no_case_is_refused_in_one_line(
    repo: Repo, tmp_path: Path, make: Callable[[Repo], object], message: str
) -> None:
    make(repo)
    with pytest.raises(UsageError, match=message) as refused:
        from_fix(repo.root, "HEAD", tmp_path / "cases")
    assert "\n" not in str(refused.value)
    assert refused.value.fix
    assert not (tmp_path / "cases").exists()


def test_a_name_that_is_not_a_commit_is_refused(repo: Repo, tmp_path: Path) -> None:
    fix(repo, {"a.py": "1\n"}, {"a.py": "2\n"})
    for name in ("nothing", "HEAD~9", "HEAD^{tree}", "HEAD:a.py", "--all", "HEAD~1..HEAD", "", "a\nb"):
        with pytest.raises(UsageError, match=r"--from-fix: .* is not a commit here"):
            from_fix(repo.root, name, tmp_path / "cases")


def test_a_case_that_is_there_is_not_overwritten(repo: Repo, tmp_path: Path) -> None:
    commit = fix(repo, {"a.py": "1\n"}, {"a.py": "2\n"})
    made = from_fix(repo.root, commit, tmp_path)
    (made.folder / "expect.yaml").write_text("edited")
    with pytest.raises(UsageError, match="is already here"):
        from_fix(repo.root, commit, tmp_path)
    assert (made.folder / "expect.yaml").read_text() == "edited"
    assert [path.name for path in tmp_path.iterdir() if path != repo.root] == [made.folder.name]


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(repo: Repo, tmp_path: Path) -> None:
    commit = fix(repo, {"a.py": "0\n"}, {"a.py": "3\n"})
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        from_fix(repo.root, commit, tmp_path / "file")
    # A file and a folder of one name: half of the case is written when that shows.
    trees = []
    for blob in blobs(repo):
        inner = mktree(repo, f"100644 blob {blob}\tc.py\n")
        trees.append(
            mktree(repo, f"100644 blob {blob}\ta.py\n100644 blob {blob}\td\n040000 tree {inner}\td\n")
        )
    damaged = commit_trees(repo, *trees)
    with pytest.raises(DiskError, match="cannot be written"):
        from_fix(repo.root, damaged, tmp_path / "cases")
    assert list((tmp_path / "cases").iterdir()) == []


def test_no_file_is_written_through_a_link(repo: Repo, tmp_path: Path) -> None:
    trees = []
    for blob, text in zip(blobs(repo), ("b", "./b"), strict=True):
        target = repo.git("hash-object", "-w", str(repo.write("target", text))).strip()
        inner = mktree(repo, f"100644 blob {blob}\tc.py\n")
        rows = f"100644 blob {blob}\ta.py\n120000 blob {target}\td\n040000 tree {inner}\td\n"
        trees.append(mktree(repo, f"{rows}040000 tree {inner}\tb\n"))
    with pytest.raises(DiskError, match="cannot be written"):
        from_fix(repo.root, commit_trees(repo, *trees), tmp_path / "cases")
    assert list((tmp_path / "cases").iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "git~1"])
def test_a_tree_cannot_write_outside_of_its_case(repo: Repo, tmp_path: Path, name: str) -> None:
    trees = []
    for blob in blobs(repo):
        inner = mktree(repo, f"100644 blob {blob}\tpwned\n")
        trees.append(mktree(repo, f"100644 blob {blob}\ta.py\n040000 tree {inner}\t{name}\n"))
    commit = commit_trees(repo, *trees)
    made = from_fix(repo.root, commit, tmp_path / "cases")
    assert not list(tmp_path.rglob("pwned"))
    assert [note.partition(":")[0] for note in made.notes] == ["left out"]


def test_words_that_fit_any_report_are_not_proposed(repo: Repo, tmp_path: Path) -> None:
    files = {"billing/parse.py": "total(rows)\n"}, {"billing/parse.py": "total(all_rows)  # because others\n"}
    commit = fix(repo, *files, "Fix wrong values in billing when rounding, Rounding issue")
    assert expect(from_fix(repo.root, commit, tmp_path))["findings"][0]["words"] == [
        "rounding",
        "total",
        "all_rows",
    ]


SUBJECTS = (
    "x: y # z\tclean: true", "'\"{}[]&*!|>%@`../../up", "\x1b[31mred\x1b[0m \x07 \u202e", "\U0001f600", "no",
    "日本語の修正" * 90,
)  # fmt: skip


def test_whatever_a_subject_says_is_a_word_and_a_reason(repo: Repo, tmp_path: Path) -> None:
    fix(repo, {"a.py": "1\n"}, {"a.py": "2\n"})
    for number, subject in enumerate(SUBJECTS):
        repo.write("a.py", f"{number} is new\n")
        made = from_fix(repo.root, repo.commit(subject), tmp_path / "cases")
        assert made.folder.parent == tmp_path / "cases"
        assert made.folder.name.isascii()
        found = expect(made)
        assert found.keys() == {"message", "tags", "findings"}
        assert found["message"] == "Change a.py"
        finding = found["findings"][0]
        assert finding.keys() == {"file", "lines", "severity", "words", "why"}
        assert finding["words"]
        assert all(isinstance(word, str) and word for word in (*finding["words"], finding["why"]))
        assert "\x1b" not in (made.folder / "expect.yaml").read_text(encoding="utf-8")


def test_a_shallow_clone_says_what_is_missing(repo: Repo, tmp_path: Path) -> None:
    fix(repo, {"a.py": "1\n"}, {"a.py": "2\n"})
    repo.git("clone", "-q", "--depth", "1", f"file://{repo.root}", str(tmp_path / "shallow"))
    with pytest.raises(GitError, match="is not in this clone"):
        from_fix(tmp_path / "shallow", "HEAD", tmp_path / "cases")


def test_a_work_tree_with_other_files_does_not_matter(repo: Repo, tmp_path: Path) -> None:
    commit = fix(repo, {"src/a.py": "1\n"}, {"src/a.py": "2\n"})
    repo.write("src/a.py", "edited\n")
    repo.write("src/new.py", "new\n")
    repo.git("config", "diff.noprefix", "true")
    repo.git("config", "diff.external", "false")
    repo.git("config", "core.quotePath", "false")
    made = from_fix(repo.root / "src", commit, tmp_path)
    assert tree(made.folder / "base") == {"src/a.py": b"2\n"}
    assert tree(made.folder / "head") == {"src/a.py": b"1\n"}


def test_outside_of_a_repository_there_is_nothing_to_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository"):
        from_fix(tmp_path, "HEAD", tmp_path / "cases")
