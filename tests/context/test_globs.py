"""Globs: the same matches as the plain translation to a regular expression, in linear time."""

from __future__ import annotations

import random
import re
import time

import pytest

from aethr.context import paths
from tests.support import Repo, aethr


def plainly(glob: str) -> re.Pattern[str]:
    """The obvious translation, which backtracks: what a glob means."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    regex = ""
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        if part == "**":
            regex += ".+" if last else "(?:.+/)?"
            continue
        for element in re.findall(r"\*+|\?|\[[ab!]+\]|.", part, re.DOTALL):
            if element[0] == "*":
                regex += "[^/]*"
            elif element == "?":
                regex += "[^/]"
            elif len(element) > 1:
                regex += f"(?!/)[{element[1:-1].replace('!', '^')}]"
            else:
                regex += re.escape(element)
        regex += "" if last else "/"
    return re.compile(regex, re.DOTALL)


PARTS = [
    "**",
    "*",
    "?",
    "a",
    "*a",
    "*a*b",
    "a*",
    "*[ab]*a",
    "[!a]*",
    "a?b",
    "*.py",
    "**a",
    "a**b*",
    "*\n",
    "*a*a*b*",
]
NAMES = ["a", "b", "c", "ab", "ba", "aab", "abab", "a.py", "a\nb", "\n", ".py", "caab"]


def test_a_glob_matches_what_its_plain_translation_matches() -> None:
    rng = random.Random(14)
    matches = 0
    for _ in range(600):
        glob = "/".join(rng.choices(PARTS, k=rng.randint(1, 5)))
        ours, plain = paths.pattern(glob), plainly(glob)
        for _ in range(30):
            path = "/".join(rng.choices(NAMES, k=rng.randint(1, 6)))
            assert bool(ours.fullmatch(path)) == bool(plain.fullmatch(path)), (glob, path)
            matches += bool(ours.fullmatch(path))
    assert matches > 500


def test_several_globs_match_what_each_matches_alone() -> None:
    several = ["**/a*b*/c", "*a*b*/c", "a"]
    both = paths.any_of(tuple(several))
    for path in ("a", "ab", "ab/c", "x/ab/c", "x/a/b/c"):
        assert bool(both.fullmatch(path)) == any(paths.pattern(each).fullmatch(path) for each in several)


HOSTILE = [
    ("**/a*/**/a*/**/*.py", "a/" * 2000 + "x"),
    ("**/*a*/**/*a*b/**/*a*/x", "aaaa/" * 800 + "y"),
    ("**/a/**/a/**/a/**/a/**/a/b", "a/" * 2000 + "c"),
    ("*a*a*a*a*a*a*a*a*b", "a" * 4000),
    ("*?*?*?*?*?*?*?x", "a" * 4000),
    ("**/*[ab]*[ab]*[ab]*[ab]*c", "abab/" * 700 + "ab" * 200),
    ("*/" * 8 + "**/*a*a*a*b", "aaaaaaa/" * 500 + "a" * 200),
]


@pytest.mark.parametrize(("glob", "path"), HOSTILE)
def test_a_glob_matches_any_path_in_linear_time(glob: str, path: str) -> None:
    """Twice as long a path may take twice as long; a second is far above what the longest here takes."""
    match = paths.pattern(glob).fullmatch
    begun = time.process_time()
    assert match(path) is None
    assert match(path[: len(path) // 8] * 16) is None
    assert time.process_time() - begun < 1


def test_deep_names_in_a_change_do_not_slow_a_run(repo: Repo) -> None:
    deep = "/".join(["a" * 20] * 60)
    repo.write(f"{deep}/x")
    repo.write("a1/a2/b.py", "FOUND = 1\n")
    repo.commit()
    slow = "glob:**/a*a*/**/*a*a*/**/a*a*/**/*a*a*/**/*a*a*a*a*b.py"
    found = "glob:**/a*/**/a*/**/*.py"
    step = f"{{id: s, role: a, context: ['{slow}', '{found}']}}"
    repo.write(".aethr.yaml", f"workflow: w\nroles: {{a: b}}\nsteps: [{step}]\n")
    done = aethr("run", "--show-prompt", "x", cwd=repo.root, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FOUND = 1") == 1
