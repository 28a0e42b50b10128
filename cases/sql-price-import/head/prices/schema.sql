-- The current price of each article, and what the supplier sent last.

CREATE TABLE prices (
    sku TEXT PRIMARY KEY,
    cents INTEGER NOT NULL CHECK (cents >= 0),
    seen_at TEXT NOT NULL
);

-- How many rows each import had, for the graph of suppliers.
CREATE TABLE imports (
    imported_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    row_count INTEGER NOT NULL
);

-- The file of a supplier is loaded here first. Only the import below reads it, and nothing stays in it.
CREATE TABLE incoming_prices (
    sku TEXT NOT NULL,
    cents INTEGER,
    seen_at TEXT NOT NULL
);
