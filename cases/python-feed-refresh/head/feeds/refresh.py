"""Reads feeds and stores their entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


NOT_MODIFIED = 304


class Answer(NamedTuple):
    """What a feed's server answered."""

    status: int
    etag: str | None
    entries: tuple[str, ...]


Fetch = Callable[[str, "str | None"], Answer]
"""Asks a server for a feed, with the ETag that we have of it."""


class PoolEmptyError(RuntimeError):
    """All connections are in use."""


@dataclass
class Connection:
    """A connection to the store."""

    etags: dict[str, str]
    entries: dict[str, list[str]]

    def store(self, url: str, answer: Answer) -> int:
        """Store the new entries of a feed; how many there were."""
        known = self.entries.setdefault(url, [])
        new = [entry for entry in answer.entries if entry not in known]
        known.extend(new)
        if answer.etag is not None:
            self.etags[url] = answer.etag
        return len(new)


@dataclass
class Pool:
    """A fixed number of connections, which all workers share."""

    size: int
    etags: dict[str, str] = field(default_factory=dict)
    entries: dict[str, list[str]] = field(default_factory=dict)
    used: int = 0

    def take(self) -> Connection:
        """A free connection. Raises ``PoolEmptyError``."""
        if self.used == self.size:
            raise PoolEmptyError(f"all {self.size} connections are in use")
        self.used += 1
        return Connection(self.etags, self.entries)

    def give_back(self, _: Connection) -> None:
        self.used -= 1


def refresh(pool: Pool, url: str, fetch: Fetch) -> int:
    """Read a feed; the number of its new entries."""
    connection = pool.take()
    answer = fetch(url, connection.etags.get(url))
    if answer.status == NOT_MODIFIED:
        return 0
    try:
        return connection.store(url, answer)
    finally:
        pool.give_back(connection)


def refresh_all(pool: Pool, urls: Iterable[str], fetch: Fetch) -> dict[str, int]:
    """Read all feeds in turn."""
    return {url: refresh(pool, url, fetch) for url in urls}
