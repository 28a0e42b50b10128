"""Characters that show nothing: all that Unicode has are shown by their code, and no others."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest

from aethr.base.sanitize import TerminalStream, reveal, reveal_name, terminal

DEFAULT_IGNORABLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
]  # fmt: skip
"""DerivedCoreProperties.txt of Unicode 16."""
SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Prepended_Concatenation_Mark: formats that are drawn."""
LATER = range(0x13430, 0x13440)
"""Formats, some of them since Unicode 15."""
BLANK = {0x2800, 0x16FE4, 0x1D159}
ORDINARY = {0x9, 0xA}
SURROGATES = {*range(0xD800, 0xE000)}
SELECTORS = {0xFE0E, 0xFE0F}
JOINERS = {0x34F, 0x200C, 0x200D, 0x180B, 0x180C, 0x180D, 0x180F}
EVERYTHING = "z".join(map(chr, range(sys.maxunicode + 1)))


def coded(shown: str) -> set[int]:
    """The characters that a text shows by their code."""
    named = {13} if "\\r" in shown else set()
    return named | {int(code, 16) for code in re.findall(r"\\(?:x|u\{)([0-9a-f]+)", shown)}


def hidden() -> set[int]:
    found = {at for first, last in DEFAULT_IGNORABLE for at in range(first, last + 1)} | BLANK | set(LATER)
    found |= {
        at
        for at in range(sys.maxunicode + 1)
        if unicodedata.category(chr(at)) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }
    return found - SEEN - ORDINARY


def test_exactly_the_invisible_is_revealed_in_a_prompt() -> None:
    assert coded(reveal(EVERYTHING)[0]) == hidden()
    assert reveal("a\u2800b") == ("a\\u{2800}b", 1)


def test_a_terminal_keeps_the_joiners_of_scripts_and_emoji() -> None:
    assert coded(terminal(EVERYTHING)) == hidden() - SELECTORS - JOINERS - SURROGATES
    assert terminal("a\ud800b\udfffc") == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    "text",
    [
        "⚠️ ❤️‍ ☎︎ ©️ ™️ ㊙️ 🏳️ 🈂️ #️⃣ 1️⃣ ⤴️".replace("\u200d", ""),
        "é e\u0301 漢字 \u3000 עברית العربية \u06dd ไทย 한글 नमस्ते",
        "a\tb\r\nc\n\r\n",
        "\ufeffbegins with a mark",
        "\ue0a0 \U000f0001 private, and drawn by fonts for terminals",
    ],
)
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert reveal(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("safe = True\rsafe = False\n", "safe = True\\rsafe = False\n"),
        ("a\r\r\n", "a\\r\r\n"),
        ("a\r", "a\\r"),
        ("\r", "\\r"),
        ("a\ufe0f", "a\\u{fe0f}"),
        ("⚠\ufe0f\ufe0e\ufe0f", "⚠\ufe0f\\u{fe0e}\\u{fe0f}"),
        ("1\ufe0f2\ufe0e", "1\\u{fe0f}2\\u{fe0e}"),
        ("👩\u200d💻", "👩\\u{200d}💻"),
        ("x\u2065\U00013439\U0001d159y", "x\\u{2065}\\u{13439}\\u{1d159}y"),
    ],
)
def test_an_invisible_character_is_shown_by_its_code(text: str, shown: str) -> None:
    count = shown.count("\\u{") + shown.count("\\r")
    assert reveal(text) == (shown, count)
    assert reveal(shown) == (shown, 0)


def test_a_file_name_is_one_printable_line() -> None:
    assert reveal_name("a\rb\r\n\u2800\ufeff") == "a\\rb\\r\\n\\u{2800}\\u{feff}"


def test_a_stream_shows_the_same_as_the_whole_text() -> None:
    text = "⚠\ufe0f\u2800\ufe00\u115f\u3164\U00013430x"
    stream = TerminalStream()
    assert "".join([*map(stream.feed, text), stream.close()]) == terminal(text)
