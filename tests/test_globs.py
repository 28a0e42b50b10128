"""Globs: the same matches as the plain translation to a regular expression, in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aethr.context import globs
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


PART = st.one_of(
    st.just("**"),
    st.lists(
        st.sampled_from(["*", "?", "a", "b", "[ab]", "[!a]", ".py", "\n", "**"]), min_size=1, max_size=6
    ).map("".join),
)
NAME = st.lists(st.sampled_from(["a", "b", "c", ".py", "\n"]), min_size=1, max_size=6).map("".join)


@given(
    st.lists(PART, min_size=1, max_size=5).map("/".join), st.lists(NAME, min_size=1, max_size=6).map("/".join)
)
@settings(max_examples=3000)
def test_a_glob_matches_what_its_plain_translation_matches(glob: str, path: str) -> None:
    assert bool(globs.pattern(glob).fullmatch(path)) == bool(plainly(glob).fullmatch(path))


@given(st.lists(PART, min_size=1, max_size=4).map("/".join))
def test_several_globs_are_as_each_alone(glob: str) -> None:
    both = globs.any_of([glob, "*a*b*/c"])
    for path in ("a", "ab", "ab/c", "x/ab/c", "a/b/a.py", "\n"):
        assert bool(both.fullmatch(path)) == any(
            globs.pattern(each).fullmatch(path) for each in (glob, "*a*b*/c")
        )


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
def test_no_path_takes_long(glob: str, path: str) -> None:
    """Twice as long a path may take twice as long; a second is far above what the longest here takes."""
    match = globs.pattern(glob).fullmatch
    begun = time.process_time()
    assert match(path) is None
    assert match(path[: len(path) // 8] * 16) is None
    assert time.process_time() - begun < 1


def test_deep_names_of_a_change_hold_up_no_run(repo: Repo) -> None:
    deep = "/".join(["a" * 20] * 60)
    repo.write(f"{deep}/x")
    repo.write("a1/a2/b.py", "FOUND = 1\n")
    repo.commit()
    glob = "**/a*a*/**/*a*a*/**/a*a*/**/*a*a*/**/*a*a*a*a*b.py"
    repo.write(
        ".aethr.yaml",
        f"workflow: w\nroles: {{a: b}}\nsteps: [{{id: s, role: a, context: ['glob:{glob}', 'glob:**/a*/**/a*/**/*.py']}}]\n",
    )
    done = aethr("run", "--show-prompt", "x", cwd=repo.root, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FOUND = 1") == 1
