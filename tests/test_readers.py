"""Whatever comes from GitHub, a runner, a model's server or an agent, its reader does not fall over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from aethr.base import network, outside
from tests import oracles
from tests.fuzz import seeds

READERS: dict[str, tuple[Callable[[str], object], list[str], tuple[str, ...]]] = {
    "github": (oracles.an_answer_of_github_or_one_line, seeds.answers_of_github(), seeds.HTTP_WORDS),
    "event": (oracles.an_event_or_one_line, seeds.events(), seeds.JSON_WORDS),
    "environment": (oracles.an_environment_or_one_line, seeds.environments(), seeds.ENVIRONMENT_WORDS),
    "stream": (oracles.a_stream_of_events_or_a_failed_call, seeds.streams(), seeds.JSON_WORDS),
    "agent": (oracles.the_lines_of_an_agent, seeds.lines_of_agents(), seeds.JSON_WORDS),
}
HUGE = "9" * 401
ODD = (
    "null",
    "true",
    "-1",
    "1e400",
    "NaN",
    HUGE,
    "9" * 5000,
    '"7"',
    '"\\ud800"',
    "[]",
    "{}",
    "[" * 100_000,
    "1.5",
)
"""JSON in the place of another value."""


@pytest.mark.parametrize("name", READERS)
def test_an_edited_input_is_read_or_refused(name: str) -> None:
    oracle, texts, words = READERS[name]
    rng = random.Random(13)
    fragments = (*words, *seeds.FRAGMENTS, HUGE, "\udc80", "{" * 2000)
    for text in texts:
        oracle(text)
    for _ in range(80):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 4)):
            at, length = rng.randint(0, len(text)), rng.choice((0, 0, 1, 3, 20))
            text = text[:at] + rng.choice(fragments) + text[at + length :]
        oracle(text)


@pytest.mark.parametrize("name", ["github", "event", "stream", "agent"])
def test_any_value_may_be_another_one(name: str) -> None:
    oracle, texts, _ = READERS[name]
    for text in sorted(texts, key=len)[:10]:
        for start, end in values(text):
            for odd in ODD:
                oracle(text[:start] + odd + text[end:])


def values(text: str) -> list[tuple[int, int]]:
    """Where the values in the JSON of a text are, each from its first to its last character."""
    decoder, found = json.JSONDecoder(), []
    for at, character in enumerate(text):
        if character in ":[," and text[at + 1 : at + 3].strip():
            start = at + 1 + (text[at + 1] == " ")
            try:
                _, end = decoder.raw_decode(text, start)
            except ValueError:
                continue
            found.append((start, end))
    return found


RETRY_AFTER = [
    ("3", 3.0), (" 3 ", 3.0), ("0", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("9" * 15, 1e9),
    ("", None), ("-1", None), ("1.5", 1.5), ("nan", None), ("inf", None), ("1e400", None), ("\u0663", None),
    ("\u00b2", None), ("9" * 401, 1e9), ("Thu, 01 Jan 100000000000000000000 00:00:00 GMT", None),
    ("Thu, 01 Jan 0001 00:00:00 GMT", 0.0), ("Thu, 99 Jan 2026 99:00:00 GMT", None), ("soon", None),
    ("\x00", None), ("Thu, 01 Jan 2026 00:00:00 +999999999", None), ("0" * 200, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
def test_the_header_retry_after(header: str, seconds: float | None) -> None:
    assert outside.retry_after_s(header) == seconds


NUMBERS = [
    (3, 3, 3.0), (2.9, 2, 2.9), (-4, -4, -4.0), (True, 0, None), (None, 0, None), ("7", 0, None),
    ([], 0, None), (10**401, outside.MOST, None), (-(10**401), -outside.MOST, None),
    (float("inf"), 0, None), (float("-inf"), 0, None), (float("nan"), 0, None),
    (1e300, outside.MOST, 1e300),
]  # fmt: skip


@pytest.mark.parametrize(("value", "count", "number"), NUMBERS)
def test_counts_and_numbers(value: object, count: int, number: float | None) -> None:
    assert (outside.count(value), outside.number(value)) == (count, number)


@pytest.mark.parametrize(
    ("value", "amount"),
    [(0, 0), (2.5, 2.5), (-1, None), (10**18, None), (True, None), ("1", None), (float("nan"), None)],
)
def test_an_amount_is_one_that_can_be_paid(value: object, amount: float | None) -> None:
    assert outside.amount(value) == amount


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": {"b": 0}}, 0), ({"a": {"b": None}}, None), ({"a": {}}, None), ({"a": []}, None),
        ({"a": "b"}, None), ([{"a": {"b": 1}}], None), ("a", None), (None, None),
    ],
)  # fmt: skip
def test_a_path_leads_through_objects_alone(value: object, found: object) -> None:
    assert outside.at(value, "a", "b") == found
    assert outside.at(value) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff", "not UTF-8 text"),
        (b"{", "not JSON (line 1, column 2)"),
        (b"", "not JSON (line 1, column 1)"),
        (b"[" * 100_000, "nested too deeply, or with a number too long"),
        (b"9" * 5000, "nested too deeply, or with a number too long"),
    ],
)
def test_json_that_is_none(data: bytes, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        outside.json_value(data)
    assert str(caught.value) == said


def test_half_a_character_is_replaced() -> None:
    assert outside.json_value('["a\\ud800", "\\ud83d\\ude00", "\udfff"]') == ["a\ufffd", "😀", "\ufffd"]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://github.com", True), ("http://127.0.0.1:8080/api/v3", True), ("http://[::1]:80", True),
        ("https://", False), ("http://[::1", False), ("https://h:99999", False), ("https://h:x", False),
        ("ftp://h", False), ("https://h/\udcff", False), ("https://h/a b", False), ("https://h\n", False),
        ("javascript:alert(1)", False), ("https://h\u0663", False), ("", False),
    ],
)  # fmt: skip
def test_an_address(text: str, good: bool) -> None:
    assert network.is_address(text) == good
