"""The newest price of each article stays, an old file replaces nothing, and nothing stays in the queue."""

import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1], "prices")
db = sqlite3.connect(":memory:", isolation_level=None)
db.executescript((folder / "schema.sql").read_text(encoding="utf-8"))
statement = (folder / "import.sql").read_text(encoding="utf-8")


def take_over(*rows):
    db.executemany("INSERT INTO incoming_prices VALUES (?, ?, ?)", rows)
    db.executescript(statement)
    assert db.execute("SELECT count(*) FROM incoming_prices").fetchone() == (0,)
    return db.execute("SELECT sku, cents, seen_at FROM prices ORDER BY sku").fetchall()


assert take_over(("mug", 500, "2026-01-02")) == [("mug", 500, "2026-01-02")]
assert take_over(("mug", 400, "2026-01-01"), ("pot", None, "2026-01-03")) == [("mug", 500, "2026-01-02")]
assert take_over(
    ("mug", 620, "2026-01-05"), ("mug", 610, "2026-01-04"), ("mug", 630, "2026-01-05"), ("pan", 0, "2026-01-04")
) == [("mug", 630, "2026-01-05"), ("pan", 0, "2026-01-04")]
assert db.execute("SELECT row_count FROM imports ORDER BY rowid").fetchall() == [(1,), (2,), (4,)]
