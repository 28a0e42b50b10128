"""Whatever a page asks for is a value, and never a part of the statement."""

import inspect
import sqlite3
import sys

sys.path.insert(0, sys.argv[1])

from tickets.report import SCHEMA, find

db = sqlite3.connect(":memory:")
db.executescript(SCHEMA)
db.executemany(
    "INSERT INTO tickets VALUES (?, ?, ?, ?, ?)",
    [(1, "b", "open", "ann", "2026-01-01"), (2, "A", "open", None, "2026-01-02"), (3, "c", "it's", "bob", "2026-01-03")],
)
sorts = "order" in inspect.signature(find).parameters


def ids(state, **more):
    return [ticket.id for ticket in find(db, [state], **more)]


attack = "open') OR 1=1 --"
assert ids("open") == [2, 1]
assert ids("it's") == [3]
assert ids(attack) == []
assert ids("open", limit=1) == [2]
assert ids("open", limit=-1) == []
assert find(db, []) == []
assert [ticket.id for ticket in find(db, ["open", "it's", "open"])] == [3, 2, 1]
if sorts:
    assert [ticket.id for ticket in find(db, ["open", "it's"], order="title")] == [2, 1, 3]
    assert ids("open", owner="ann") == [1]
    assert ids("open", owner="x' OR '1'='1") == []
    for order in ("id; DROP TABLE tickets", "created_at", ""):
        try:
            ids("open", order=order)
        except ValueError:
            continue
        sys.exit(f"an unknown order is taken: {order}")
assert db.execute("SELECT count(*) FROM tickets").fetchone() == (3,)
