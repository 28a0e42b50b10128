"""Tests of ``timer.duration``: ``python -m unittest discover tests``."""

import unittest

from timer.duration import parse, show

DURATIONS = {
    "90s": 90,
    "2m": 120,
    "1h30m": 5400,
    "1h1m1s": 3661,
}
MISTAKES = ("", "90", "30m1h", "1h 30m", "1m1m", "-5s")


class TestParse(unittest.TestCase):
    """What people write becomes seconds."""

    def test_durations(self) -> None:
        for text, seconds in DURATIONS.items():
            with self.subTest(text):
                self.assertTrue(parse(text), seconds)

    def test_mistakes(self) -> None:
        for text in MISTAKES:
            with self.subTest(text), self.assertRaises(ValueError):
                parse(text)


class TestShow(unittest.TestCase):
    """What is shown can be read again."""

    def test_show(self) -> None:
        self.assertEqual(show(5400), "1h30m")
        self.assertEqual(show(0), "0s")


if __name__ == "__main__":
    unittest.main()
