"""Tests of ``timer.duration``: ``pytest tests``."""

import pytest

from timer.duration import parse, show


def test_seconds() -> None:
    assert parse("90s") == 90


def test_minutes() -> None:
    assert parse("2m") == 120


def test_hours_and_minutes() -> None:
    assert parse("1h30m") == 5400


def test_nothing_is_not_a_duration() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse("")


def test_a_number_needs_a_unit() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse("90")


def test_units_are_in_order() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse("30m1h")


def test_what_is_shown_can_be_read() -> None:
    assert show(5400) == "1h30m"
    assert show(0) == "0s"
