"""The list of tickets, for the pages of the support team."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
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


def find(db: sqlite3.Connection, states: Sequence[str], limit: int = 50) -> list[Ticket]:
    """The newest tickets in one of these states."""
    found: list[Ticket] = []
    for state in dict.fromkeys(states):
        rows = db.execute("SELECT id, title, state, owner, created_at FROM tickets WHERE state = ?", (state,))
        found += [Ticket(*row) for row in rows]
    found.sort(key=lambda ticket: ticket.id)
    found.sort(key=lambda ticket: ticket.created_at, reverse=True)
    return found[: page_size(limit)]
