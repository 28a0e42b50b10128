"""The streaming diff parser: real diffs, and any cut of them into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.context.diffs import Hunk, Section, parse, unquote
from tests.support import Repo, many

HUGE = 1 << 40

PLAIN = b"""\
diff --git a/one.py b/one.py
index 7898192..422c2b7 100644
--- a/one.py
+++ b/one.py
@@ -1,3 +1,4 @@ def heading():
 a
-b
+B
+diff --git a/not b/not
@@ -10 +11 @@
-@@ -1 +1 @@
+--- a/no
\\ No newline at end of file
diff --git a/my file.txt b/my file.txt
new file mode 100644
index 0000000..e69de29
diff --git a/pic.png b/pic.png
index 7898192..422c2b7 100644
Binary files a/pic.png and b/pic.png differ
diff --git a/old name.py b/new name.py
similarity index 90%
rename from old name.py
rename to new name.py
index 7898192..422c2b7 100644
--- a/old name.py\t
+++ b/new name.py\t
@@ -1 +1 @@
-x
+y
diff --git "a/tab\\there\\303\\251" "b/tab\\there\\303\\251"
old mode 100644
new mode 100755
diff --git a/gone b/gone
deleted file mode 100644
index 7898192..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-last
* Unmerged path both.py
diff --cc merged.py
index 1,2..3
--- a/merged.py
+++ b/merged.py
@@@ -1,1 -1,1 +1,5 @@@
++<<<<<<< HEAD
 +ours
++=======
+ theirs
  same
- gone
"""


def events(diff: bytes, limit: int = HUGE, size: int = 1 << 16) -> list[Section | Hunk]:
    return list(parse((diff[i : i + size] for i in range(0, len(diff), size)), limit))


def sections(diff: bytes) -> list[Section]:
    return [event for event in events(diff) if isinstance(event, Section)]


def joined(found: list[Section | Hunk]) -> bytes:
    return b"".join(e.header if isinstance(e, Section) else e.text or b"" for e in found)


def test_each_kind_of_section_has_its_path() -> None:
    assert [section.path for section in sections(PLAIN)] == [
        b"one.py",
        b"my file.txt",
        b"pic.png",
        b"new name.py",
        "tab\thereé".encode(),
        b"gone",
        b"both.py",
        b"merged.py",
    ]


def test_a_rename_knows_both_names_and_a_binary_is_marked() -> None:
    found = sections(PLAIN)
    assert [section.old_path for section in found if section.old_path] == [b"old name.py"]
    assert [section.path for section in found if section.binary] == [b"pic.png"]


def test_changed_lines_that_look_like_headers_are_counted() -> None:
    hunks = [event for event in events(PLAIN) if isinstance(event, Hunk)]
    assert [hunk.changed for hunk in hunks] == [3, 2, 2, 1, 5]


def test_the_parts_joined_are_the_input() -> None:
    assert joined(events(PLAIN)) == PLAIN


@given(st.lists(st.integers(0, len(PLAIN)), max_size=12))
def test_any_cut_into_chunks_gives_the_same_events(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(PLAIN)]
    chunks = [PLAIN[a:b] for a, b in pairwise(edges)]
    assert list(parse(chunks, HUGE)) == events(PLAIN)


LINES = st.sampled_from(
    [b" a", b"+b", b"-c", b"@@ -1 +1 @@", b"@@@ -1 -1 +1 @@@", b"diff --git a/x b/x", b"diff --cc y", b"",
     b"* Unmerged path z", b"+++ b/x", b"--- a/x", b"+\xff", b"\\ No newline at end of file", b"junk"]
)  # fmt: skip


@many(60)
@given(st.lists(LINES, max_size=12), st.integers(1, 40), st.booleans())
def test_any_input_is_kept_whatever_its_chunks(lines: list[bytes], size: int, ended: bool) -> None:
    diff = b"\n".join(lines) + b"\n" * ended
    assert joined(events(diff, size=size)) == diff
    assert events(diff, size=size) == events(diff)


def test_a_hunk_over_the_limit_is_counted_but_not_held() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,300 @@\n"
        for _ in range(300):
            yield b"+" + b"y" * 9_999 + b"\n"

    section, hunk = parse(chunks(), 1_000_000)
    assert isinstance(section, Section)
    assert hunk == Hunk(text=None, size=300 * 10_001 + 18, changed=300, nul=False, added=300)


def test_one_endless_line_is_not_held() -> None:
    head = b"diff --git a/x b/x\n@@ -1 +1 @@\n+"
    *_, hunk = parse([head, *[b"z" * 100_000] * 50, b"\n"], 1_000)

    assert isinstance(hunk, Hunk)
    assert (hunk.text, hunk.changed) == (None, 1)


def test_a_nul_byte_is_noticed() -> None:
    *_, hunk = events(b"diff --git a/x b/x\n@@ -1 +1 @@\n+a\0b\n")
    assert isinstance(hunk, Hunk)
    assert hunk.nul


def test_an_empty_input_has_no_events() -> None:
    assert events(b"") == []


@pytest.mark.parametrize(
    ("quoted", "name"),
    [
        (b"plain", b"plain"),
        (b'"a\\tb\\nc\\"d\\\\e"', b'a\tb\nc"d\\e'),
        (b'"\\303\\251"', "é".encode()),
        (b'"\\033[31m"', b"\x1b[31m"),
        (b'"', b'"'),
    ],
)
def test_names_are_unquoted(quoted: bytes, name: bytes) -> None:
    assert unquote(quoted) == name


def test_names_that_imitate_headers_are_read_from_real_git(repo: Repo) -> None:
    names = [
        "a -> b",
        "x\ndiff --git a/y b/y",
        "b/a b/b",
        " lead",
        "trail ",
        "esc\x1b[0m",
        '"q"',
        "--output=o",
        "é",
    ]
    for name in names:
        repo.write(name, "old\n")
    repo.write("empty name", "")
    repo.commit()
    for name in names:
        repo.write(name, "new\n")
    (repo.root / "empty name").chmod(0o755)
    diff = repo.git("diff").encode()
    assert {section.path.decode() for section in sections(diff)} == {*names, "empty name"}
    assert joined(events(diff)) == diff
