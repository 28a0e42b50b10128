"""Forms that messages share, and the one spelling of characters that do not print."""

from __future__ import annotations

import json
import sys

import pytest

from aethr.base import codec
from aethr.base.sanitize import escape, one_line, reveal, reveal_name, terminal
from aethr.base.words import capped, counted, path_line, rest, suggest
from aethr.config.mistakes import visible


def test_a_number_and_its_noun_agree() -> None:
    assert [counted(1, "file"), counted(1200, "file"), counted(2, "pass", "passes")] == [
        "1 file",
        "1,200 files",
        "2 passes",
    ]


def test_items_that_a_list_does_not_show_are_counted() -> None:
    assert [rest(3, 3), rest(2, 3), rest(1203, 3), rest(4, 3, "step")] == [
        "",
        "",
        "and 1,200 more",
        "and 1 more step",
    ]
    assert capped(["a", "b"]) == "a, b"
    assert capped(list("abcde"), 2, str.upper) == "A, B and 3 more"
    assert capped([]) == ""


def test_a_place_is_a_path_with_or_without_a_line() -> None:
    assert (path_line("a.py", 3), path_line("a.py", None)) == ("a.py:3", "a.py")


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("opnai", ["openai", "ollama"], "openai"),
        ("OPENAI", ["ollama", "openai"], "openai"),
        ("doer", ["plan", "the-doer"], "the-doer"),
        ("fail", ["fail-on", "fail"], "fail"),
        ("xyz", ["openai", "ollama"], None),
        ("x" * 100_000, ["openai"], None),
    ],
)
def test_the_nearest_name_is_suggested(word: str, known: list[str], near: str | None) -> None:
    assert suggest(word, known) == (f" (did you mean '{near}'?)" if near else "")
    assert suggest(word, known, "`{}`".format) == (f" (did you mean `{near}`?)" if near else "")


@pytest.mark.parametrize(
    ("character", "spelled"),
    [
        ("\x00", r"\x00"),
        ("\x1b", r"\x1b"),
        ("\x85", r"\x85"),
        ("\u202e", r"\u{202e}"),
        ("\ufeff", r"\u{feff}"),
        ("\U000e0041", r"\u{e0041}"),
    ],
)
def test_an_escaped_character_looks_the_same_everywhere(character: str, spelled: str) -> None:
    text = f"a{character}b"
    assert {terminal(text), one_line(text), reveal(text)[0], reveal_name(text), visible(text)} == {
        f"a{spelled}b"
    }


@pytest.mark.parametrize("control", "\t\n\r")
def test_an_escaped_line_end_looks_the_same_everywhere(control: str) -> None:
    text = f"a{control}b"
    assert {one_line(text), reveal_name(text), visible(text)} == {f"a{escape(control)}b"}
    assert escape(control) == repr(control)[1:-1]


def test_json_escapes_what_a_screen_shows_by_its_code() -> None:
    everything = "z".join(map(chr, range(sys.maxunicode + 1)))
    written = codec.dumps(everything)
    assert (json.loads(written) == everything) is True
    assert reveal(written[1:-2].replace("\ufe0e", "").replace("\ufe0f", ""))[1] == 0
