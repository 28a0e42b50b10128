"""The identity of a finding's place, through everything that edits do to a file."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from aethr.base.records import Artifacts, FileText, Finding, NamedFile, Receipt, StepResult
from aethr.review.identity import (
    FILES,
    PLACES,
    find_places,
    is_same_code,
    place_id,
    read_code,
    removed_id,
)

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


def test_every_line_has_the_head_that_a_walk_up_would_find() -> None:
    """All heads come from one pass; what one is, is defined by walking up from the line."""

    def depth_of(line: str) -> int:
        return len(line.expandtabs(8)) - len(line.expandtabs(8).lstrip())

    def walk(file: list[str], at: int) -> str:
        depth = depth_of(file[at])
        for above in reversed(file[:at]):
            if sum(map(str.isalnum, above)) >= 3 and depth_of(above) < depth:
                depth = depth_of(above)
                if [each.split() for each in file].count(above.split()) == 1:
                    return " ".join(above.split())
        return ""

    seeded = random.Random(7)
    words = ["if a > 1:", "}", "", "run()", "def f():", "else:", "\t x = 1", "class C:", "wait(1)"]
    for _ in range(300):
        file = [" " * seeded.randrange(6) + seeded.choice(words) for _ in range(seeded.randrange(1, 25))]
        assert list(read_code(file).heads) == [walk(file, at) for at in range(len(file))]


def test_long_files_long_ranges_and_many_findings_are_bounded() -> None:
    file = tuple(f"{' ' * (number % 7)}line({number})" for number in range(200_000))
    found = [Finding("low", "a.py", first, "x", end_line=200_000) for first in range(1, 3_001)]
    result = StepResult("review", "reviewer", "model", "m", 1, "", "")
    begin = time.process_time()
    places = find_places(found, result, lambda asked: [FileText(each.path, file) for each in asked])
    assert time.process_time() - begin < 5
    assert len({each.id for each in places[:PLACES]}) == PLACES
    assert {each.id for each in places[PLACES:]} == {place_id("a.py")}


def test_at_most_so_many_files_are_read() -> None:
    found = [Finding("low", f"{number}.py", 1, "x") for number in range(FILES + 5)]
    read: list[str] = []

    def files(asked: Sequence[NamedFile]) -> list[FileText]:
        read.extend(each.path for each in asked)
        return [FileText(each.path, ("code()",)) for each in asked]

    places = find_places(found, StepResult("review", "reviewer", "model", "m", 1, "", ""), files)
    assert read == [f"{number}.py" for number in range(FILES)]
    assert places[FILES - 1].id == place_id(f"{FILES - 1}.py", ["code()"], 1)
    assert places[FILES].id == place_id(f"{FILES}.py")


@pytest.mark.parametrize(
    ("source", "artifacts", "expected"),
    [
        ("git_diff", None, {"a.py": (True, False), "b.py": (False, False)}),
        ("git_diff:function", Artifacts(), {"a.py": (True, False), "b.py": (False, True)}),
        ("latest_diff", None, {"a.py": (True, True), "b.py": (False, False)}),
    ],
)
def test_what_an_agent_edited_or_looked_at_is_on_disk(
    source: str, artifacts: Artifacts | None, expected: dict[str, tuple[bool, bool]]
) -> None:
    found = [Finding("low", path, 1, "x") for path in expected]
    context = (Receipt(source, "a.py", 10, old_path="old.py"),)
    result = StepResult("review", "reviewer", "model", "m", 1, "", "", context=context, artifacts=artifacts)
    asked: list[NamedFile] = []

    def files(these: Sequence[NamedFile]) -> list[FileText]:
        asked.extend(these)
        return [FileText(each.path) for each in these]

    places = find_places(found, result, files)
    assert {each.path: (each.from_top, each.on_disk) for each in asked} == expected
    find_places([Finding("low", "old.py", 1, "its name before")], result, files)
    assert asked[-1].from_top
    assert [each.id for each in places] == [place_id("old.py"), place_id("b.py")]
