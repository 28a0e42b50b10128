"""No migration loses an order."""

import sqlite3
import sys
from pathlib import Path

first, *later = sorted(Path(sys.argv[1], "migrations").glob("*.sql"))
db = sqlite3.connect(":memory:")
db.executescript(first.read_text(encoding="utf-8"))
db.executescript(
    """
    INSERT INTO customers (id, email, name) VALUES (1, 'ann@example.com', 'Ann');
    INSERT INTO orders VALUES (10, 1, NULL, 500, '2026-01-01'), (11, NULL, 'guest@example.com', 700, '2026-01-02');
    INSERT INTO order_lines VALUES (10, 1, 'mug', 1), (11, 1, 'pot', 2);
    """
)
for migration in later:
    db.executescript(migration.read_text(encoding="utf-8"))
found = db.execute("SELECT id, total_cents FROM orders ORDER BY id").fetchall()
if found != [(10, 500), (11, 700)]:
    sys.exit(f"of the orders 10 and 11 there are now {found}; order 11 was one of a guest")
