"""Reading the stream of a model server: the objects are the same wherever the bytes are cut."""

from __future__ import annotations

import random

import pytest

from aethr.llm.sse import EventTooLongError, UnreadableError, objects

STREAM = (
    '\ufeffdata: {"n": 1}\n\n'
    ": a comment\n\n"
    'data:{"no": "space"}\r\n\r\n'
    'event: named\rdata: {"é": "né😀 漢字"}\r\rid: 7\n\n'
    'data: {"three":\ndata:  "lines"\ndata: }\n\n'
    'data: {"a": 1}\ndata: {"b": 2}\n\n'
    "retry: 10\n\n\n\n"
    'data: {"ends": "\u0085\u2028\u2029"}\n\n'
    "data: [DONE]\n\n"
    'data: {"after": "the end"}\n\n'
).encode()
OBJECTS = [
    {"n": 1},
    {"no": "space"},
    {"é": "né😀 漢字"},
    {"three": "lines"},
    {"a": 1},
    {"b": 2},
    {"ends": "\u0085\u2028\u2029"},
]


def test_every_form_of_an_event_is_read() -> None:
    assert list(objects([STREAM])) == OBJECTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_cut_at_any_byte_changes_nothing(at: int) -> None:
    assert list(objects([STREAM[:at], b"", STREAM[at:]])) == OBJECTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_packets_of_any_size_change_nothing(size: int) -> None:
    assert list(objects(STREAM[at : at + size] for at in range(0, len(STREAM), size))) == OBJECTS


def test_random_cuts_change_nothing() -> None:
    dice = random.Random(7)
    for _ in range(200):
        cuts = sorted(dice.randrange(len(STREAM)) for _ in range(dice.randrange(9)))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert list(objects(pieces)) == OBJECTS


@pytest.mark.parametrize(
    "body",
    [
        '{"n": 1}\n{"n": 2}\n',
        '{"n": 1}\n{"n": 2}',
        '{"n": 1}\r\n\r\n{"n": 2}\r\n',
        '[{"n": 1}, {"n": 2}]',
        '[{\n  "n": 1\n}\n,\n{\n  "n": 2\n}]\n',
        '\n \n[\n\n{"n": 1},\n{"n": 2}\n]',
        ': ping\n\n[{"n": 1},\n{"n": 2}]',
        'data: {"n": 1}\n\n{"n": 2}\n',
        'data: [{"n": 1}, {"n": 2}]\n\n',
        'data: {"n": 1}\n\ndata: {"n": 2}',
        'Data : {"n": 1}\n\nDATA:{"n": 2}\n\n',
    ],
)
def test_a_body_of_json_is_read_in_every_layout(body: str) -> None:
    assert list(objects([body.encode()])) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "beat",
    [
        "",
        ": ping",
        ":",
        "data:",
        "data:    ",
        "data: : PROCESSING",
        "data: : OPENROUTER PROCESSING",
        "data: ping",
        "data: keep-alive",
        "data: heartbeat",
        "data: ...",
        "data: null",
        "data: 1",
        'data: ""',
        'data: "ping"',
        "event: ping\ndata:",
        "event: ping\ndata: at noon",
        "event: heartbeat",
        "event: keep-alive\ndata: {}",
        "id: 7",
        "retry: 3000",
    ],
)
def test_a_heartbeat_yields_nothing(beat: str) -> None:
    stream = f'data: {{"n": 1}}\n\n{beat}\n\ndata: {{"n": 2}}\n\n'
    assert [each for each in objects([stream.encode()]) if each] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "piece",
    [
        'data: {"n": 2',
        'data: {"n": 2}}',
        'data: {"text": "- [high] a.py:2 — cut',
        "data: - [high] a.py:2 — a finding without a protocol",
        "data: Review status: revise",
        'data: "- [high] a.py:2"',
        'data: {"n":\ndata: 2',
        "event: message\ndata: words",
        '{"n": 2\n\n{"n": 3}',
    ],
)
def test_an_unreadable_event_is_an_error(piece: str) -> None:
    with pytest.raises(UnreadableError, match="broken JSON in the answer"):
        list(objects([f'data: {{"n": 1}}\n\n{piece}\n\ndata: {{"n": 3}}\n\n'.encode()]))


@pytest.mark.parametrize("end", ['data: {"n": 2', 'data: {"n": 2\n', "data: pi", '{"n": 2', "event: x"])
def test_an_unfinished_event_at_the_end_is_dropped(end: str) -> None:
    assert list(objects([f'data: {{"n": 1}}\n\n{end}'.encode()])) == [{"n": 1}]


@pytest.mark.parametrize("body", ['{"n": ', '{"n": 1}}', "[1, ", "<html><title>Bad Gateway</title></html>"])
def test_a_body_that_is_not_json_is_an_error(body: str) -> None:
    with pytest.raises(UnreadableError):
        list(objects([body.encode()]))


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ('{"message": "boom"}', {"message": "boom"}),
        ('{"error": {"message": "boom"}}', {"message": "boom"}),
        ("it burns", "it burns"),
        ('"it burns"', "it burns"),
    ],
)
@pytest.mark.parametrize("end", ["\n\n", ""])
def test_an_event_named_error_is_one(event: str, error: object, end: str) -> None:
    assert list(objects([f"event: error\ndata: {event}{end}".encode()])) == [{"error": error}]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert list(objects([b'data: {"a": "\xff"}\n\n'])) == [{"a": "\ufffd"}]


def test_each_object_is_yielded_when_its_line_ends() -> None:
    read = []

    def pieces() -> object:
        for piece in (b'data: {"n": 1}\n', b'\ndata: {"n": 2}\n\n'):
            read.append(piece)
            yield piece

    assert next(objects(pieces())) == {"n": 1}
    assert len(read) == 1


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_json_too_deep_or_with_too_long_numbers_is_an_error(nested: str) -> None:
    with pytest.raises(UnreadableError):
        list(objects([f"data: {nested}\n\n".encode()]))


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: ", *[b"x" * 10] * 11],
        [b"data: 0123456789a\n"] * 8,
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"{\n", *[b'"a": 1,\n'] * 20],
    ],
    ids=["a line without end", "an event without end", "one long line", "a body without end"],
)
def test_an_endless_event_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(EventTooLongError, match="longer than 100 bytes"):
        list(objects(pieces, longest=100))
    assert list(objects([b'data: {"a": "' + b"x" * 60 + b'"}\n\n'] * 5, longest=100)) == [{"a": "x" * 60}] * 5
