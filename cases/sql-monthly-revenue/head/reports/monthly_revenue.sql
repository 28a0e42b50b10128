-- The revenue of each shop in a month, in cents: what was paid in it, less what was refunded in it.
-- :month is its first day, such as 2026-01-01.
--
-- A refund counts in the month in which it was made, whenever the payment was. So a shop may have a
-- revenue below zero, and one that had only refunds has no payments.

WITH period AS (
    SELECT
        date(:month) AS first_day,
        date(:month, '+1 month', '-1 day') AS last_day
),

movements AS (
    SELECT
        payments.shop AS shop,
        1 AS payments,
        payments.cents AS cents
    FROM payments, period
    WHERE payments.paid_at BETWEEN period.first_day AND period.last_day

    UNION ALL

    SELECT
        payments.shop AS shop,
        0 AS payments,
        -refunds.cents AS cents
    FROM refunds
    JOIN payments ON payments.id = refunds.payment_id
    JOIN period
    WHERE refunds.refunded_at BETWEEN period.first_day AND period.last_day
)

SELECT
    movements.shop AS shop,
    sum(movements.payments) AS payments,
    sum(movements.cents) AS cents
FROM movements
GROUP BY movements.shop
ORDER BY cents DESC, movements.shop;
