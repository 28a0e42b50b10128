"""A payment in the evening of the last day counts in its month, and in no other."""

import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1], "reports")
db = sqlite3.connect(":memory:")
db.executescript((folder / "schema.sql").read_text(encoding="utf-8"))
db.executescript(
    """
    INSERT INTO payments VALUES
        (1, 'north', '2026-01-01T00:00:00Z', 100),
        (2, 'north', '2026-01-31T18:30:00Z', 250),
        (3, 'north', '2026-02-01T00:00:00Z', 999);
    """
)
query = (folder / "monthly_revenue.sql").read_text(encoding="utf-8")
january, february = (db.execute(query, {"month": month}).fetchall() for month in ("2026-01-01", "2026-02-01"))
if january != [("north", 2, 350)]:
    sys.exit(f"January has payments of 350 cents, and the report says {january}")
assert february == [("north", 1, 999)]
