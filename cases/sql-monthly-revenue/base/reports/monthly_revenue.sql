-- The revenue of each shop in a month, in cents. :month is its first day, such as 2026-01-01.

SELECT
    payments.shop AS shop,
    count(*) AS payments,
    sum(payments.cents) AS cents
FROM payments
WHERE payments.paid_at >= :month
    AND payments.paid_at < date(:month, '+1 month')
GROUP BY payments.shop
ORDER BY cents DESC, payments.shop;
