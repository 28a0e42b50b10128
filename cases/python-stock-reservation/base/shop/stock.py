"""Reservations of stock. Several workers serve requests, each with its own connection."""

from __future__ import annotations

import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (
    sku TEXT PRIMARY KEY,
    free INTEGER NOT NULL CHECK (free >= 0)
);
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES stock (sku),
    customer TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity > 0)
);
"""


class OutOfStockError(Exception):
    """There are not enough items of this kind."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"{sku} is out of stock")
        self.sku = sku


def receive(db: sqlite3.Connection, sku: str, quantity: int) -> None:
    """Add a delivery to the stock."""
    db.execute(
        "INSERT INTO stock (sku, free) VALUES (?, ?)"
        " ON CONFLICT (sku) DO UPDATE SET free = free + excluded.free",
        (sku, quantity),
    )
    db.commit()


def free(db: sqlite3.Connection, sku: str) -> int:
    """How many items of this kind nobody has reserved."""
    row = db.execute("SELECT free FROM stock WHERE sku = ?", (sku,)).fetchone()
    return row[0] if row else 0


def reserve(db: sqlite3.Connection, sku: str, customer: str, quantity: int) -> int:
    """Reserve items for a customer; the id of the reservation. Raises ``OutOfStockError``."""
    taken = db.execute(
        "UPDATE stock SET free = free - ? WHERE sku = ? AND free >= ?", (quantity, sku, quantity)
    )
    if taken.rowcount == 0:
        db.rollback()
        raise OutOfStockError(sku)
    added = db.execute(
        "INSERT INTO reservations (sku, customer, quantity) VALUES (?, ?, ?)", (sku, customer, quantity)
    )
    db.commit()
    return added.lastrowid


def release(db: sqlite3.Connection, reservation: int) -> None:
    """Put the items of a reservation back."""
    row = db.execute("SELECT sku, quantity FROM reservations WHERE id = ?", (reservation,)).fetchone()
    if row is None:
        return
    if db.execute("DELETE FROM reservations WHERE id = ?", (reservation,)).rowcount:
        db.execute("UPDATE stock SET free = free + ? WHERE sku = ?", (row[1], row[0]))
    db.commit()
