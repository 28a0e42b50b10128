-- Each order keeps the address that its messages go to, so that a customer can change theirs without
-- changing old orders, and messages need not ask in two places.
--
-- SQLite cannot add a NOT NULL column without a default, so the table is built again, as in
-- https://www.sqlite.org/lang_altertable.html#otheralter

PRAGMA foreign_keys = OFF;

BEGIN;

CREATE TABLE orders_new (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER REFERENCES customers (id),
    contact_email TEXT NOT NULL,
    total_cents INTEGER NOT NULL CHECK (total_cents >= 0),
    placed_at TEXT NOT NULL
);

INSERT INTO orders_new (id, customer_id, contact_email, total_cents, placed_at)
SELECT
    orders.id,
    orders.customer_id,
    coalesce(orders.guest_email, customers.email),
    orders.total_cents,
    orders.placed_at
FROM orders
JOIN customers ON customers.id = orders.customer_id;

DROP TABLE orders;
ALTER TABLE orders_new RENAME TO orders;
CREATE INDEX orders_by_customer ON orders (customer_id, placed_at);

COMMIT;

PRAGMA foreign_keys = ON;
