"""The list of tickets, for the pages of the support team."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS tickets (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT,
    created_at TEXT NOT NULL
);
"""
LONGEST = 200
"""How many tickets a page has at most."""

ORDERS: Mapping[str, str] = {
    "newest": "created_at DESC",
    "oldest": "created_at",
    "title": "title COLLATE NOCASE",
}
"""The orders that a page may ask for, as SQL."""


class Ticket(NamedTuple):
    """A row of the list."""

    id: int
    title: str
    state: str
    owner: str | None
    created_at: str


def page_size(limit: int) -> int:
    """How many tickets a page has, when somebody asks for so many."""
    return max(0, min(limit, LONGEST))


def find(
    db: sqlite3.Connection,
    states: Sequence[str],
    limit: int = 50,
    owner: str | None = None,
    order: str = "newest",
) -> list[Ticket]:
    """The tickets in one of these states, of one owner or of anybody.

    ``order`` is a key of ``ORDERS``; raises ``ValueError`` for another one.
    """
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is not one of {', '.join(ORDERS)}")
    conditions = [f"state IN ({', '.join('?' * len(states))})"]
    values: list[object] = list(states)
    if owner is not None:
        conditions.append("owner = ?")
        values.append(owner)
    query = f"SELECT id, title, state, owner, created_at FROM tickets WHERE {' AND '.join(conditions)}"
    query += f" ORDER BY {ORDERS[order]}, id LIMIT ?"
    return [Ticket(*row) for row in db.execute(query, (*values, page_size(limit)))]
