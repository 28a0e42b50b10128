"""The identity of a finding's place, through everything that edits do to a file."""

from __future__ import annotations

import random

from aethr.review.identity import is_same_code, place_id, removed_id

FILE = """import os

def pay(order):
    if order.total < 0:
        return None
    return charge(order)

def refund(order):
    if order.total < 0:
        return None
    return charge(-order)
""".splitlines()


def test_edits_above_below_and_beside_keep_the_id() -> None:
    own = place_id("a.py", FILE, 6)
    moved = ["# new", *FILE[:3], "    log(order)", *FILE[3:5], "    audit(order)", *FILE[5:], "x = 1"]
    assert moved[8] == FILE[5]
    assert place_id("a.py", moved, 9) == own


def test_another_indentation_keeps_the_id() -> None:
    nested = ["class Shop:", *(f"\t{line}" if line else "" for line in FILE[2:])]
    assert place_id("a.py", nested, 5) == place_id("a.py", FILE, 6)


def test_an_edit_of_the_line_itself_changes_the_id() -> None:
    edited = [*FILE[:5], "    return charge(order, retry=True)", *FILE[6:]]
    assert place_id("a.py", edited, 6) != place_id("a.py", FILE, 6)
    assert place_id("a.py", FILE, 5, 6) != place_id("a.py", [*edited[:5], *edited[5:]], 5, 6)


def test_repeated_lines_differ_between_functions_and_not_within_one() -> None:
    assert place_id("a.py", FILE, 5) != place_id("a.py", FILE, 10)
    twice = ["def run():", "    step()", "    wait()", "    step()"]
    assert place_id("a.py", twice, 2) == place_id("a.py", twice, 4)


def test_a_renamed_file_keeps_the_id_of_the_code() -> None:
    before, after = place_id("a.py", FILE, 6), place_id("b/a.py", FILE, 6)
    assert before != after
    assert is_same_code(before, after)
    assert not is_same_code(place_id("a.py"), place_id("b.py"))


def test_a_finding_without_a_line_has_the_id_of_its_file() -> None:
    whole = place_id("a.py", FILE)
    assert whole == place_id("a.py") == place_id("a.py", FILE, 99) == place_id("a.py", FILE, 2)
    assert whole != place_id("b.py")


def test_removed_lines_are_told_apart_from_lines_that_are_there() -> None:
    assert removed_id("a.py", "  return None\n") == removed_id("a.py", "return None")
    assert removed_id("a.py", "return None") != place_id("a.py", FILE, 5)


def test_an_id_is_twelve_hex_digits() -> None:
    seeded = random.Random(5)
    for _ in range(200):
        file = ["".join(seeded.choices(" \tab{}\udc80é", k=seeded.randrange(9))) for _ in range(20)]
        first = seeded.randrange(1, 21)
        made = place_id("ü\udcff.py", file, first, first + seeded.randrange(3))
        assert len(made) == 12
        assert set(made) <= set("0123456789abcdef")
