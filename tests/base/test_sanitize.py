"""Untrusted text: what reaches a terminal, a runner's log; keys replaced; whole or in pieces."""

from __future__ import annotations

import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.sanitize import (
    RedactingStream,
    Redactor,
    TerminalStream,
    one_line,
    runner,
    terminal,
)
from tests.support import many

examples = many(300)

ODD = [
    "\r",
    "\n",
    "\r\n",
    "\x1b[2J",
    "\x9b",
    "\ud83d",
    "\ude00",
    "\udb40",
    "\udc41",
    "\u202e",
    "\x07",
    "é",
    "\t",
    "a",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(ODD)).map("".join))


def fed(stream: TerminalStream | RedactingStream, pieces: list[str]) -> str:
    return "".join([*map(stream.feed, pieces), stream.close()])


def cut(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 你好 👩‍👩‍👧 ok\n\ttab", "plain é 你好 👩‍👩‍👧 ok\n\ttab"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "\\x1b]8;;http://x\\x07link\\x1b]8;;\\x07"),
        ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
        ("\x9b2J\x85\x7f\x08", "\\x9b2J\\x85\\x7f\\x08"),
        ("a\r\nb\rc", "a\nb\\rc"),
        ("if a\u202e\u2066:", "if a\\u{202e}\\u{2066}:"),
        ("x\U000e0041\u200b\ufeffy", "x\\u{e0041}\\u{200b}\\u{feff}y"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\udb40\udc41", "\\u{e0041}"),
    ],
)
def test_terminal_shows_what_it_replaces(text: str, shown: str) -> None:
    assert terminal(text) == shown


@examples
@given(texts)
def test_terminal_leaves_no_control_and_is_idempotent(text: str) -> None:
    safe = terminal(text)
    assert not [c for c in safe if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert terminal(safe) == safe
    safe.encode("utf-8")


@examples
@given(texts, st.lists(st.integers(0, 40), max_size=6))
def test_a_terminal_stream_may_be_split_anywhere(text: str, cuts: list[int]) -> None:
    assert fed(TerminalStream(), cut(text, cuts)) == terminal(text)


def test_one_line_is_one_line_of_limited_length() -> None:
    assert one_line("  a\nb\tc\x1b[2J \n") == "a\\nb\\tc\\x1b[2J"
    assert one_line("x" * 500, 10) == "x" * 9 + "…"
    assert one_line(" " * 9000 + "end") == "end"
    assert one_line("\r\n" * 50 + "😀" * 10, 10) == "😀" * 10


@examples
@given(texts, st.integers(1, 30))
def test_one_line_never_passes_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        "::set-output name=x::1",
        "ok\n  ::error::no",
        "\u00a0\u3000::warning::nbsp",
        "\t \u200d::add-mask::x",
        ":\u200d:error::hidden",
        "text ##[group]x",
        "text #\u200c#[error]x",
        "a\r::error::b",
    ],
)
def test_a_runner_executes_no_command(text: str) -> None:
    ignorable = str.maketrans("", "", "\u034f\u200b\u200c\u200d\ufe0f\ufeff\u00ad")
    for line in runner(text).translate(ignorable).splitlines():
        assert not line.strip().startswith("::")
        assert "##[" not in line
    assert runner(runner(text)) == runner(text)


def test_a_runner_log_keeps_ordinary_text() -> None:
    text = "std::vector x; ## [heading]\n    a::b\n"
    assert runner(text) == text


def test_runner_is_linear_in_white_space() -> None:
    start = time.process_time()
    runner(" " * 100_000 + "x\n" + "#" * 100_000)
    assert time.process_time() - start < 1


def test_redaction_takes_the_longest_and_no_short_secret() -> None:
    redactor = Redactor(["sk-12345678", "sk-12345678-long", "short", "", "  padded-secret\n"])
    text = "a sk-12345678-long b sk-12345678 c short d padded-secret"
    assert redactor.redact(text) == "a [redacted] b [redacted] c short d [redacted]"


secrets = st.lists(st.text("ab", min_size=8, max_size=12), max_size=3)


@examples
@given(secrets, st.data(), st.lists(st.integers(0, 60), max_size=8))
def test_a_secret_split_over_pieces_is_redacted(
    values: list[str], data: st.DataObject, cuts: list[int]
) -> None:
    parts = st.one_of(st.text("abc", max_size=9), *(st.just(value) for value in values))
    text = "".join(data.draw(st.lists(parts, max_size=6)))
    redactor = Redactor(values)
    assert fed(RedactingStream(redactor), cut(text, cuts)) == redactor.redact(text)


def test_a_redacting_stream_holds_back_as_little_as_possible() -> None:
    stream = RedactingStream(Redactor(["secret-value"]))
    assert stream.feed("hello s") == "hello "
    assert stream.feed("e") == ""
    assert stream.feed("e you") == "see you"
    assert stream.feed("secret-valu") == ""
    assert stream.feed("e!") == "[redacted]!"
    assert stream.close() == ""


def test_redaction_of_a_megabyte_in_16000_pieces_is_quick() -> None:
    stream = RedactingStream(Redactor(["sk-" + "s" * 100, "s" * 60 + "-key", "x" * 200]))
    start = time.process_time()
    size = sum(
        len(stream.feed("some text sk-sss is streaming here, sss and on and on it goes  "))
        for _ in range(16_000)
    )
    assert size + len(stream.close()) > 900_000
    assert time.process_time() - start < 2
