"""Every case that comes with Aethr is what it says: its own program proves it on both sides."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CASES = sorted(path.parent for path in (ROOT / "cases").glob("*/expect.yaml"))
RUNNERS = {".py": [sys.executable, "-B"], ".js": ["node"]}
PASSES, FAILS = 0, 1

case_of_each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def expect(case: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((case / "expect.yaml").read_text(encoding="utf-8"))
    return found


def files(side: Path) -> dict[str, str]:
    return {
        path.relative_to(side).as_posix(): path.read_text(encoding="utf-8")
        for path in side.rglob("*")
        if path.is_file()
    }


def changed_lines(case: Path) -> Iterator[tuple[str, int, str]]:
    """Each line that the change adds: its file, its number in ``head`` and its text."""
    before = files(case / "base")
    for name, text in files(case / "head").items():
        old, new = before.get(name, "").splitlines(), text.splitlines()
        for tag, _, _, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if tag != "equal":
                yield from ((name, number + 1, new[number]) for number in range(first, last))


def bounds(place: dict[str, Any]) -> tuple[int, int]:
    first, _, last = str(place["lines"]).partition("-")
    return int(first), int(last or first)


def prove(case: Path, *sides: Path) -> list[tuple[int, str]]:
    """The exit code of its proof for each of these folders, and what it printed, at once."""
    program = next(case.glob("proof.*"))
    words = RUNNERS[program.suffix]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not here: {case.name} is not proven")
    started = [
        subprocess.Popen(
            [*words, str(program), str(side)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for side in sides
    ]
    return [(each.wait(timeout=60), each.communicate()[0]) for each in started]


def test_fourteen_have_a_defect_and_six_are_clean_in_four_languages() -> None:
    clean = [case for case in CASES if "clean" in expect(case)]
    assert len(CASES) == 20
    assert len(clean) == 6
    assert all(("clean" in expect(case)) != ("findings" in expect(case)) for case in CASES)
    languages = {case.name.split("-")[0] for case in CASES}
    assert languages == {"python", "javascript", "sql", "shell"}
    assert all(case.name.split("-")[0] in expect(case)["tags"] for case in CASES)


@case_of_each
def test_the_proof_tells_base_from_head(case: Path) -> None:
    base, head = prove(case, case / "base", case / "head")
    assert base == (PASSES, "")
    if "clean" in expect(case):
        assert head == (PASSES, "")
        return
    code, said = head
    assert code == FAILS
    assert said.strip()
    assert "Traceback" not in said, "it fails by what it says, not by a mistake of its own"
    assert {name for name, _, _ in changed_lines(case)} == {each["file"] for each in expect(case)["findings"]}
    assert not list(case.rglob("__pycache__"))


@case_of_each
def test_the_places_are_in_the_change(case: Path) -> None:
    changed = {(name, number) for name, number, _ in changed_lines(case)}
    assert changed
    for finding in expect(case).get("findings", ()):
        first, last = bounds(finding)
        assert any((finding["file"], line) in changed for line in range(first, last + 1))
        for place in (finding, *finding.get("also", ())):
            first, last = bounds(place)
            text = (case / "head" / place["file"]).read_text(encoding="utf-8")
            assert 1 <= first <= last <= len(text.splitlines())


COMMENT = re.compile(r'(?:^|\s)(?:#|//|--|/?\*)\s.*|^\s*"""?.*')


@case_of_each
def test_nothing_that_a_reviewer_sees_gives_the_defect_away(case: Path) -> None:
    found = expect(case)
    comments = [match[0] for _, _, line in changed_lines(case) for match in COMMENT.finditer(line)]
    seen = "\n".join((found["message"], *comments)).casefold()
    for finding in found.get("findings", ()):
        assert len(finding["words"]) >= 5
        assert finding["why"]
        for word in finding["words"]:
            assert isinstance(word, str)
            assert not re.search(rf"\b{re.escape(word.casefold())}\b", seen), word
    assert not re.search(r"\b(?:bug|defect|clean|wrong|todo|fixme)\b", seen)
    names = [
        path.relative_to(case).as_posix() for side in ("base", "head") for path in (case / side).rglob("*")
    ]
    assert not any("proof" in name or "expect" in name for name in names)


@case_of_each
def test_a_case_is_small_and_realistic(case: Path) -> None:
    changed = {name for name, _, _ in changed_lines(case)}
    head = files(case / "head")
    assert all(25 <= len(head[name].splitlines()) <= 120 for name in changed)
    assert 3 <= len(list(changed_lines(case))) <= 60
    assert not any(line != line.rstrip() for text in head.values() for line in text.splitlines())


def test_the_page_counts_them_and_the_licence_is_that_of_the_project() -> None:
    assert (ROOT / "cases" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert {path.name for path in (ROOT / "cases").iterdir()} == {
        "LICENSE",
        "README.md",
        *(c.name for c in CASES),
    }
