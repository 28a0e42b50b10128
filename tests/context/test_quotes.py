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
