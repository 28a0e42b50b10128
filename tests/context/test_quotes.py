"""Lines that an answer quotes, and where they stand in the code of its prompt."""

from __future__ import annotations

from aethr.base.records import Block, Quote, Shown
from aethr.context import quotes

HUNK = """@@ -10,3 +10,4 @@ def pay():
     total = 0
-    return total
+    total += fee
+    return total + tax
 # end
"""
DIFF = Block("git_diff", HUNK, shown=(Shown("shop/pay.py", (HUNK,)),))
FILE = Block("file:notes.py", "a = 1\nb = 2\n", shown=(Shown("notes.py", ("a = 1\nb = 2\n",)),))
TITLE = Block("pull_request", "total = 0", shown=(Shown("title", ("total = 0",)),))


def test_quoted_lines_have_the_place_of_the_new_version() -> None:
    text = "total += fee\n  return total + tax"
    assert quotes.find([DIFF], text) == Quote(text, "git_diff", "shop/pay.py", 11, 12)


def test_a_removed_line_has_no_number() -> None:
    assert quotes.find([DIFF], "return total") == Quote("return total", "git_diff", "shop/pay.py")


def test_only_whole_lines_that_follow_each_other_are_found() -> None:
    assert quotes.find([DIFF], "total +=") is None
    assert quotes.find([DIFF], "total = 0\n# end") is None
    assert quotes.find([DIFF], "  \n") is None


def test_the_named_file_comes_before_others() -> None:
    twice = Block("glob:*.py", "", shown=(Shown("x.py", ("a = 1\n",)), Shown("y.py", ("a = 1\n\na = 1\n",))))
    assert quotes.find([FILE, twice], "a = 1", "y.py", 3) == Quote("a = 1", "glob:*.py", "y.py", 3, 3, "")
    assert quotes.find([FILE, twice], "a = 1") == Quote("a = 1", "file:notes.py", "notes.py", 1, 1, "")


def test_text_that_is_not_code_is_not_found() -> None:
    assert quotes.find([TITLE], "total = 0") is None


def test_lines_of_the_new_version_are_found_across_those_that_are_removed() -> None:
    text = "total = 0\ntotal += fee"
    assert quotes.find([DIFF], text) == Quote(text, "git_diff", "shop/pay.py", 10, 11, "    ")


def test_every_place_is_found_once_and_the_expected_one_first() -> None:
    twice = Block(
        "glob:*.py", "", shown=(Shown("y.py", ("a = 1\n\na = 1\n",)), Shown("notes.py", ("a = 1\n",)))
    )
    found = quotes.find_all([FILE, twice], "a = 1", "y.py", 3)
    assert [(each.path, each.line) for each in found] == [("y.py", 3), ("y.py", 1), ("notes.py", 1)]


def test_the_indentation_that_a_quotation_lacks_is_that_of_all_its_lines() -> None:
    file = Block("file:a.py", "", shown=(Shown("a.py", ("    if x:\n\n        y = 1 \n        z\n",)),))
    for text, indent in (
        ("if x:", "    "),
        ("  if x:", "  "),
        ("if x:\n\n    y = 1 ", "    "),
        ("\nif x:\n\n    y = 1 \n", "    "),
        ("    if x:\n    \n        y = 1 ", ""),
        ("if x:\n    y = 1 ", None),  # without the empty line
        ("if x:\n\ny = 1 ", None),
        ("if x:\n\n    y = 1", None),  # without the space at its end
        ("y = 1 \n\nz", None),
    ):
        found = quotes.find([file], text)
        assert found is not None
        assert found.indent == indent, text
