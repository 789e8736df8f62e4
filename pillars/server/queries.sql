-- name: now
-- The database's clock, for delays and for how long ago things were.
SELECT now()
