"""Exclusion: patterns mean what they mean in .gitignore, and no default looks at the new side of a change."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from aethr.context import exclusion
from tests.support import Repo

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
