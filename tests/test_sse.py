"""The reader of server-sent events: the same events however the bytes are cut."""

from __future__ import annotations

import random

import pytest

from aethr.llm.sse import EventTooLongError, events

STREAM = (
    "\ufeffdata: first\n\n"
    ": a comment\n\n"
    'data:{"no": "space"}\r\n\r\n'
    "event: named\rdata: né😀 漢字\r\rid: 7\n\n"
    "data: two\ndata:  lines\ndata\n\n"
    "retry: 10\n\n\n\n"
    "data: [DONE]\n\n"
    "data: never ended"
).encode()
EVENTS = ["first", '{"no": "space"}', "né😀 漢字", "two\n lines\n", "[DONE]"]


def test_every_form_of_an_event_is_read() -> None:
    assert list(events([STREAM])) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_cut_at_any_byte_changes_nothing(at: int) -> None:
    assert list(events([STREAM[:at], b"", STREAM[at:]])) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_packets_of_any_size_change_nothing(size: int) -> None:
    assert list(events(STREAM[at : at + size] for at in range(0, len(STREAM), size))) == EVENTS


def test_random_cuts_change_nothing() -> None:
    dice = random.Random(7)
    for _ in range(200):
        cuts = sorted(dice.randrange(len(STREAM)) for _ in range(dice.randrange(9)))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert list(events(pieces)) == EVENTS


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert list(events([b"data: a\xffb\n\n"])) == ["a\ufffdb"]


def test_each_event_is_given_as_soon_as_it_ends() -> None:
    read = []

    def pieces() -> object:
        for piece in (b"data: one\n\n", b"data: two\n\n"):
            read.append(piece)
            yield piece

    assert next(events(pieces())) == "one"
    assert len(read) == 1


@pytest.mark.parametrize(
    "pieces",
    [[b"data: ", *[b"x" * 10] * 11], [b"data: 0123456789\n"] * 8, [b"data: " + b"x" * 100 + b"\n\n"]],
    ids=["a line without end", "an event without end", "one long line"],
)
def test_what_never_ends_is_not_held(pieces: list[bytes]) -> None:
    with pytest.raises(EventTooLongError, match="longer than 100 bytes"):
        list(events(pieces, longest=100))
    assert list(events([b"data: " + b"x" * 90 + b"\n\n"] * 5, longest=100)) == ["x" * 90] * 5
