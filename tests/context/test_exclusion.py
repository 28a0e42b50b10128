"""Exclusion: patterns mean what they mean in .gitignore, and no default looks at the new side of a change."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aethr import git
from aethr.base.records import Receipt, Rules, View
from aethr.base.sanitize import reveal_name
from aethr.context import changes, collect, exclusion
from tests.support import Repo, leave_a_conflict, make_repo

# --- the patterns of `exclude:` ------------------------------------------------------------------

# Not `a**`: by the manual its stars count as one, but git matches across folders after a literal beginning.
PARTS = (
    "*", "**", "?", "a", "b", "a*", "*a", "*.js", "a?", "[ab]", "[!a]*", "[^b]", "[a-c]x", "[]a]", "\\*",
    "\\a", "a\\ b", "a\\!", "**a", "*a*b", ".*", "é", "[[:digit:]]*", "[[:alpha:][:space:]]", "[\\]a]",
    "[a-]", "\\[a]",
)  # fmt: skip
NAMES = (
    "a",
    "b",
    "c",
    "ab",
    "ba",
    "a.js",
    "*",
    "a b",
    "a!",
    ".x",
    "é",
    "1",
    "]",
    "cx",
    "a\n",
    "-",
    "[a]",
    "A",
)


def random_pattern(rng: random.Random) -> str:
    body = "/".join(rng.choices(PARTS, k=rng.choice((1, 1, 1, 2, 2, 3))))
    return f"{rng.choice(('', '', '', '!'))}{rng.choice(('', '', '/'))}{body}{rng.choice(('', '', '/'))}"


def ignored_by_git(repo: Repo, patterns: list[str], paths: list[str]) -> set[str]:
    (repo.root / ".git" / "info" / "exclude").write_text("\n".join(patterns) + "\n")
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repo.root,
        input="".join(f"{path}\0" for path in paths).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.decode().split("\0")[:-1])


def test_patterns_match_what_git_ignores(repo: Repo) -> None:
    rng = random.Random(16)
    paths = sorted({"/".join(rng.choices(NAMES, k=rng.randint(1, 4))) for _ in range(150)})
    decided = 0
    for _ in range(150):
        patterns = [random_pattern(rng) for _ in range(rng.randint(1, 5))]
        assert [exclusion.problem(each) for each in patterns] == [None] * len(patterns), patterns
        parsed = [exclusion.parse(each) for each in patterns]
        ours = set()
        for path in paths:
            found = exclusion.deciding_pattern(parsed, path)
            if found is not None and not found.negated:
                ours.add(path)
        assert ours == ignored_by_git(repo, patterns, paths), patterns
        decided += len(ours)
    assert decided > 4000


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("# a comment", "comment"),
        ("a ", "ends with a space"),
        (" a", "begins or ends with a space"),
        ("/", "names no file"),
        ("!", "names no file"),
        ("!/", "names no file"),
        ("a\\", "escapes nothing"),
        ("a\\/b", "escapes nothing"),
        ("../a", "'..'"),
        ("./a", "'.'"),
        ("a//b", "empty part"),
        ("a/../b", "'..'"),
        ("[a", "not closed"),
        ("[z-a]", "not valid"),
        ("[[:letter:]]", "not valid"),
        ("[a/b]", "'/' in a set"),
    ],
)
def test_a_pattern_that_matches_nothing_is_a_mistake(repo: Repo, pattern: str, said: str) -> None:
    assert said in (exclusion.problem(pattern) or "")
    paths = ["a", "b", "a/b", "z", "x/a", "a\\", "# a comment", "l"]
    # git strips a space at the end, and matches a part of what these sets seem to mean.
    if pattern not in ("a ", " a", "a\\/b", "[z-a]", "[a/b]"):
        assert ignored_by_git(repo, [pattern], paths) == set()


@pytest.mark.parametrize("pattern", ["a\\ ", "\\#a", "\\!a", "a\\\\", "[[]", "**/", "/**", "a/**/b", "[!]a]"])
def test_a_pattern_with_escapes_or_stars_is_valid(repo: Repo, pattern: str) -> None:
    assert exclusion.problem(pattern) is None
    paths = ["a ", "#a", "!a", "a\\", "[", "a/b", "a/x/b", "x", "]", "x/a"]
    parsed = [exclusion.parse(pattern)]
    ours = {path for path in paths if exclusion.deciding_pattern(parsed, path)}
    assert ours == ignored_by_git(repo, [pattern], paths)
    assert ours


def test_a_pattern_matches_any_path_in_linear_time() -> None:
    patterns = [
        "**/a*/**/a*/**/*.py",
        "*a*a*a*a*a*a*b",
        "/**/*[ac]*[ac]*[ac]*b",
        "[[:alpha:]]*[[:alpha:]]*x/",
    ]
    parsed = [exclusion.parse(each) for each in patterns]
    begun = time.process_time()
    for path in ("a/" * 200 + "x", "a" * 4000, "acac/" * 100 + "ac" * 200):
        assert exclusion.deciding_pattern(parsed, path) is None
    assert time.process_time() - begun < 2


# --- the defaults --------------------------------------------------------------------------------

NUL = "run()/*\0*/\n"
PNG = b"\x89PNG\0new"
DEFAULT = Rules()


def receipt_of(repo: Repo, name: str, rules: Rules = DEFAULT, scope: str = "all") -> Receipt:
    (block,) = collect(
        ("git_diff",), 120_000, View(repo.root, git.resolve_scope(repo.root, scope), rules=rules)
    )
    found = [each for each in block.receipts if each.path == name]
    assert found, block.text
    for each in found:
        assert (each.excluded is None) == (f"[excluded by rule: {name},"[:200] not in block.text)
        assert each.excluded is None or (each.complete and each.bytes_sent == 0)
    return found[-1]


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("package-lock.json", "{}\n", "lock file"),
        ("web/Cargo.LOCK", "x\n", "lock file"),
        ("go.sum", "x\n", "lock file"),
        ("bun.lockb", PNG, "lock file"),
        ("lib/jquery.min.js", "run()\n", "minified"),
        ("lib/jquery.min.js", NUL, "minified"),
        ("a_pb2.py", "x\n", "generated"),
        ("logo.png", PNG, "picture"),
        ("Logo.PNG", PNG, "picture"),
        ("a.woff2", PNG, "font"),
        ("a.mp4", PNG, "audio or video"),
        ("a.zip", PNG, "archive"),
        ("a.pdf", PNG, "document"),
        ("odd\udcff/a.lock", "x\n", "lock file"),
    ],
)
def test_a_default_excludes_by_name(repo: Repo, name: str, content: str | bytes, rule: str) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write(name, content)
    shown = reveal_name(os.fsencode(name))
    assert receipt_of(repo, shown).excluded == rule
    assert receipt_of(repo, shown, Rules(defaults=False)).excluded is None


@pytest.mark.parametrize(
    ("name", "content", "complete"),
    [
        ("app.js", NUL, False),
        ("a.bin", PNG, False),
        ("a.exe", PNG, False),
        ("a.jar", PNG, False),
        ("png", PNG, False),
        ("a.png.js", NUL, False),
        ("a.p\u0274g", PNG, False),
        ("a.loc\u212a", "x\n", True),  # the sign for kelvin, whose lower case is k
        ("logo.png", "text\n", True),
        ("lock.py", "x\n", True),
        ("vendor/a.py", "x\n", True),
        ("dist/index.js", "x\n", True),
        ("new.js", "// @generated\n", True),
        (".gitattributes", "*.py linguist-generated\n", True),
        (".github/workflows/review.lock", "x\n", True),
        (".aethr.yaml", "x\n", True),
        ("AGENTS.md", "x\n", True),
        ("agents.md", "x\n", True),
        ("a.lock", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", False),
        ("id_rsa.lock", "x\n", False),
    ],
)
def test_no_default_excludes_anything_else(
    repo: Repo, name: str, content: str | bytes, complete: bool
) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write(name, content)
    found = receipt_of(repo, name)
    assert (found.excluded, found.complete) == (None, complete)
    assert receipt_of(repo, name, Rules((name,))).excluded == f"exclude: {name}"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and modes")
@pytest.mark.parametrize("make", ["was executable", "made executable", "link", "was a link", "submodule"])
def test_no_default_excludes_by_a_name_that_has_another_mode(repo: Repo, tmp_path: Path, make: str) -> None:
    path = repo.write("logo.png", PNG)
    if make == "was a link":
        path.unlink()
        path.symlink_to("elsewhere")
    repo.commit()
    path.unlink()
    if make == "link":
        path.symlink_to("elsewhere")
    elif make == "submodule":
        other = make_repo(repo.root / "logo.png")
        other.commit()
    else:
        repo.write("logo.png", b"\x89PNG\0newer")
        if make == "was executable":
            path.chmod(0o755)
            repo.commit()
            repo.write("logo.png", PNG)
        path.chmod(0o755 if make == "made executable" else 0o644)
    assert receipt_of(repo, "logo.png").excluded is None
    assert receipt_of(repo, "logo.png", Rules(("*.png",))).excluded == "exclude: *.png"


@pytest.mark.parametrize(
    ("old", "new", "excluded"),
    [
        ("app.js", "app.min.js", False),
        ("app.min.js", "app.js", False),
        ("a.min.js", "b.min.js", True),
        ("src/a.py", "vendor/a.py", False),
        ("vendor/a.py", "src/a.py", False),
        ("vendor/a.py", "vendor/b.py", True),
        ("vendor/a.min.js", "src/a.min.js", True),
    ],
)
def test_a_renamed_file_is_excluded_only_under_both_names(
    repo: Repo, old: str, new: str, excluded: bool
) -> None:
    lines = "".join(f"line {n}\n" for n in range(30))
    repo.write(old, lines)
    repo.commit()
    (repo.root / new).parent.mkdir(exist_ok=True)
    repo.git("mv", old, new)
    repo.write(new, lines + "one more\n")
    found = receipt_of(repo, new, Rules(("vendor/",)), scope="head")
    assert (found.excluded is not None, found.changed_lines) == (excluded, 1)
    assert found.added_lines == excluded


def test_exclude_decides_before_the_defaults(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    for name in ("package-lock.json", "sub/package-lock.json", "yarn.lock"):
        repo.write(name, "x\n")
    rules = Rules(("yarn.lock", "!package-lock.json", "/sub/"))
    assert receipt_of(repo, "package-lock.json", rules).excluded is None
    assert receipt_of(repo, "sub/package-lock.json", rules).excluded == "exclude: /sub/"
    assert receipt_of(repo, "yarn.lock", rules).excluded == "exclude: yarn.lock"


def test_patterns_begin_at_the_folder_of_the_workflow_file(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    for name in ("sub/a.txt", "a.txt"):
        repo.write(name, "x\n")
    scope = git.resolve_scope(repo.root, "all")
    view = View(repo.root / "sub", scope, rules=Rules(("/a.txt",)))
    (block,) = collect(("git_diff",), 120_000, view)
    assert {each.path: each.excluded for each in block.receipts if each.path} == {
        "sub/a.txt": "exclude: /a.txt",
        "a.txt": None,
    }


def test_the_base_side_decides_and_not_the_change(repo: Repo) -> None:
    repo.write(".gitattributes", "out/** linguist-generated\nkeep.lock -linguist-generated\n")
    for name in ("out/a.js", "keep.lock", "b.js"):
        repo.write(name, "x\n")
    repo.write("g.js", "// @generated\nx\n")
    repo.commit()
    repo.write(
        ".gitattributes",
        "*.js linguist-generated\nkeep.lock linguist-generated\nout/** -linguist-generated\n",
    )
    for name in ("out/a.js", "out/new.js", "keep.lock"):
        repo.write(name, "y\n")
    repo.write("g.js", "y\n")
    repo.write("b.js", "// @generated\ny\n")
    names = ("out/a.js", "out/new.js", "keep.lock", "g.js", "b.js", ".gitattributes")
    assert {name: receipt_of(repo, name).excluded for name in names} == {
        "out/a.js": "generated (.gitattributes)",
        "out/new.js": "generated (.gitattributes)",
        "keep.lock": None,
        "g.js": "generated (its first lines)",
        "b.js": None,
        ".gitattributes": None,
    }


@pytest.mark.parametrize("folder", ["", "a" * 250 + "/" + "b" * 250 + "/"], ids=["names", "long names"])
def test_attributes_of_the_change_exclude_no_text_however_many_files_they_hide(
    repo: Repo, folder: str
) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write(".gitattributes", "*.png binary\n")
    for n in range(changes.RESHOWN + 2):
        repo.write(f"{folder}{n:03}.png", f"text {n}\n")
    repo.write(f"{folder}real.png", PNG)
    (block,) = collect(("git_diff",), 999_000, View(repo.root, git.resolve_scope(repo.root, "all")))
    found = [each for each in block.receipts if each.path and each.path.endswith(".png")]
    assert [each.sent_lines for each in found] == [1] * changes.RESHOWN + [0] * 3
    assert [each.complete for each in found] == [True] * changes.RESHOWN + [False] * 2 + [True]
    assert [each.excluded for each in found] == [None] * (changes.RESHOWN + 2) + ["picture"]


def test_a_change_of_the_rules_is_told(repo: Repo) -> None:
    repo.write("a.py")
    repo.commit()
    repo.write("sub/.gitattributes", "*.js linguist-generated\n")
    repo.write(".aethr.yaml", "exclude: [x]\n")
    (block,) = collect(("git_diff",), 120_000, View(repo.root, git.resolve_scope(repo.root, "all")))
    said = [each.note for each in block.receipts if each.path is None]
    assert "decides how changes are reviewed and what is excluded: .aethr.yaml" in (said[1] or "")
    assert "once merged, what is excluded: sub/.gitattributes" in (said[0] or "")


@pytest.mark.parametrize("name", ["sub/.gitattributes", ".aethr.yaml"])
def test_rules_that_get_another_name_are_told(repo: Repo, name: str) -> None:
    repo.write(name, "# rules\n" * 9)
    repo.commit()
    repo.git("mv", name, "other.txt")
    (block,) = collect(("git_diff",), 120_000, View(repo.root, git.resolve_scope(repo.root, "staged")))
    assert f"excluded: {name}]\n" in block.text


def test_a_change_of_which_all_is_excluded_is_no_change_to_read(repo: Repo) -> None:
    repo.write("a.lock", "x\n" * 300)
    repo.commit()
    repo.write("a.lock", "y\n")
    (block,) = collect(("git_diff",), 120_000, View(repo.root, git.resolve_scope(repo.root, "all")))
    assert block.change is False
    assert block.text == "[excluded by rule: a.lock, 301 changed lines, lock file]\n"


def test_an_unfinished_merge_is_excluded_by_no_default(repo: Repo) -> None:
    repo.write("b.py", "x\n")
    leave_a_conflict(repo, "a.lock")
    repo.write("b.py", "y\n")
    found = receipt_of(repo, "a.lock", scope="worktree")
    assert (found.excluded, found.complete) == (None, False)
    assert receipt_of(repo, "b.py", scope="worktree").sent_lines == 2
    assert receipt_of(repo, "a.lock", Rules(("*.lock",)), scope="worktree").excluded == "exclude: *.lock"


def test_without_a_base_side_only_names_count(repo: Repo) -> None:
    repo.write(".gitattributes", "a.lock -linguist-generated\n*.js linguist-generated\n")
    repo.write("a.lock", "x\n")
    repo.write("a.js", "// @generated\n")
    repo.git("add", "-A")
    assert receipt_of(repo, "a.lock", scope="staged").excluded == "lock file"
    assert receipt_of(repo, "a.js", scope="staged").excluded is None


def test_the_page_lists_the_defaults() -> None:
    page = (Path(__file__).parents[2] / "docs" / "context.md").read_text(encoding="utf-8")
    rows = [
        f"| {rule.kind}{', if binary' * rule.binary} | {' '.join(f'`{name}`' for name in rule.names)} |"
        for rule in exclusion.DEFAULTS
    ]
    assert [row for row in rows if row not in page] == []
    assert [name for name in exclusion.PROTECTED if f"`{name}`" not in page] == []
