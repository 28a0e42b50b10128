-- Moments are text in UTC, such as 2026-01-31T18:30:00Z, so that they sort by time.

CREATE TABLE payments (
    id INTEGER PRIMARY KEY,
    shop TEXT NOT NULL,
    paid_at TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0)
);

CREATE TABLE refunds (
    id INTEGER PRIMARY KEY,
    payment_id INTEGER NOT NULL REFERENCES payments (id),
    refunded_at TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0)
);
