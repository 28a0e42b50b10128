"""No item is reserved twice, when another worker reserves between two statements of this one."""

import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from shop.stock import SCHEMA, OutOfStockError, free, receive, reserve


class Interrupted(sqlite3.Connection):
    """Lets another worker reserve right before the stock is written for the first time."""

    other = None

    def execute(self, sql, *args):
        if self.other is not None and sql.startswith("UPDATE stock"):
            other, self.other = self.other, None
            reserve(other, "mug", "bob", 3)
        return super().execute(sql, *args)


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "shop.db")
    mine, other = sqlite3.connect(file, factory=Interrupted), sqlite3.connect(file)
    mine.executescript(SCHEMA)
    receive(mine, "mug", 5)
    mine.other = other
    try:
        reserve(mine, "mug", "ann", 3)
    except OutOfStockError:
        pass
    reserved = mine.execute("SELECT sum(quantity) FROM reservations").fetchone()[0]
    left = free(mine, "mug")
    mine.close()
    other.close()
if reserved + left != 5:
    sys.exit(f"of 5 mugs, {reserved} are reserved and {left} are free")
