"""Prefix caches of providers: how many tokens of a request are read from one, and how many are written.

A token is four characters. Nothing expires: a test of a whole run takes less time than any cache lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from tests.model_server import Reply

PER_TOKEN = 4
LOOKBACK = 20
"""Anthropic compares so many blocks before a mark."""
MARKS = 4
"""More marks are an error."""


class Counted(NamedTuple):
    """The tokens of a prompt; ``cached`` and ``written`` are among them."""

    prompt: int
    cached: int = 0
    written: int = 0


class PrefixCache(Protocol):
    def take(self, body: Mapping[str, Any]) -> Counted:
        """Count a request, and keep what it writes."""


class Marked:
    """A cache that a request writes and reads at its marks alone: Anthropic's.

    https://docs.claude.com/en/docs/build-with-claude/prompt-caching. ``least`` is the smallest prefix.
    """

    def __init__(self, least: int = 1024) -> None:
        self._least = least
        self._kept: set[tuple[str, str]] = set()

    def take(self, body: Mapping[str, Any]) -> Counted:
        parts = parts_of(body)
        ends = list(accumulate(len(part["text"]) for part in parts))
        marks = [n for n, part in enumerate(parts) if "cache_control" in part]
        assert len(marks) <= MARKS, "the provider refuses more"
        text = "".join(part["text"] for part in parts)

        def key(number: int) -> tuple[str, str]:
            return str(body["model"]), text[: ends[number]]

        seen = {n for mark in marks for n in range(max(0, mark - LOOKBACK), mark + 1) if key(n) in self._kept}
        cached = max((ends[n] for n in seen), default=0) // PER_TOKEN
        kept = [n for n in marks if ends[n] // PER_TOKEN >= self._least]
        written = max([cached, *(ends[n] // PER_TOKEN for n in kept)]) - cached
        self._kept.update(map(key, kept))
        return Counted(len(text) // PER_TOKEN, cached, written)


class Automatic:
    """A cache that keeps every prompt, and finds the longest beginning in steps: OpenAI's before gpt-5.6.

    https://platform.openai.com/docs/guides/prompt-caching
    """

    LEAST, STEP = 1024, 128

    def __init__(self) -> None:
        self._kept: list[tuple[str, str]] = []

    def take(self, body: Mapping[str, Any]) -> Counted:
        model, text = str(body["model"]), text_of(body)
        alike = max((_count_alike(text, old) for of, old in self._kept if of == model), default=0)
        cached = alike // PER_TOKEN // self.STEP * self.STEP
        self._kept.append((model, text))
        return Counted(len(text) // PER_TOKEN, cached if cached >= self.LEAST else 0)


def parts_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of text in a request's messages."""

    def parts() -> Iterator[dict[str, Any]]:
        for message in body["messages"]:
            content = message["content"]
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content

    return list(parts())


def text_of(body: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in parts_of(body))


def _count_alike(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def counting(
    cache: PrefixCache, answer: Callable[[str], str], counts: list[Counted]
) -> Callable[[Mapping[str, Any]], Reply]:
    """A script of the model server that counts by ``cache``, also into ``counts``.

    ``answer`` takes a prompt.
    """

    def reply(body: Mapping[str, Any]) -> Reply:
        counted, said = cache.take(body), answer(text_of(body))
        counts.append(counted)
        usage = counted.prompt, max(1, len(said) // PER_TOKEN)
        return Reply((said,), usage=usage, cached=counted.cached, written=counted.written)

    return reply
