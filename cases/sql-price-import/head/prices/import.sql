-- Take over the prices of a supplier. Run after its file was loaded into incoming_prices.
--
-- Rows without a price are articles that the supplier has not priced yet. A file may be older than the
-- one that was imported before it, so that an old price must not replace a newer one.
--
-- The rows are taken from the oldest to the newest, so that of several prices for an article the newest
-- one stays.

BEGIN IMMEDIATE;

-- What the supplier sent, also what is not used.
INSERT INTO imports (row_count)
SELECT count(*)
FROM incoming_prices;

INSERT INTO prices (sku, cents, seen_at)
SELECT sku, cents, seen_at
FROM incoming_prices
WHERE cents IS NOT NULL
ORDER BY seen_at, rowid
ON CONFLICT (sku) DO UPDATE
SET cents = excluded.cents,
    seen_at = excluded.seen_at
WHERE excluded.seen_at >= prices.seen_at;

DELETE FROM incoming_prices;

COMMIT;
