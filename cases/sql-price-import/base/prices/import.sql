-- Take over the prices of a supplier. Run after its file was loaded into incoming_prices.
--
-- Rows without a price are articles that the supplier has not priced yet. A file may be older than the
-- one that was imported before it, so that an old price must not replace a newer one.

BEGIN IMMEDIATE;

-- What the supplier sent, also what is not used.
INSERT INTO imports (row_count)
SELECT count(*)
FROM incoming_prices;

DELETE FROM incoming_prices
WHERE cents IS NULL;

-- Of several prices for an article, only the newest one counts.
DELETE FROM incoming_prices
WHERE EXISTS (
    SELECT 1
    FROM incoming_prices AS newer
    WHERE newer.sku = incoming_prices.sku
        AND (newer.seen_at, newer.rowid) > (incoming_prices.seen_at, incoming_prices.rowid)
);

UPDATE prices
SET cents = (SELECT cents FROM incoming_prices WHERE incoming_prices.sku = prices.sku),
    seen_at = (SELECT seen_at FROM incoming_prices WHERE incoming_prices.sku = prices.sku)
WHERE EXISTS (
    SELECT 1
    FROM incoming_prices
    WHERE incoming_prices.sku = prices.sku
        AND incoming_prices.seen_at >= prices.seen_at
);

INSERT INTO prices (sku, cents, seen_at)
SELECT sku, cents, seen_at
FROM incoming_prices
WHERE sku NOT IN (SELECT sku FROM prices);

DELETE FROM incoming_prices
WHERE sku IN (SELECT sku FROM prices);

COMMIT;
