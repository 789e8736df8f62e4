-- name: ping
-- Does the database answer?
SELECT 1

-- name: members
-- Live processes by role, without those that are leaving; the table has a row for each process.
SELECT role, count(*) FROM pillars.members WHERE state <> 'leaving' GROUP BY role

-- name: horizon
-- Who keeps vacuum from removing dead rows: name, the transaction held, seconds since it began
-- (NULL where PostgreSQL does not say). Sessions of others are seen only by who may read all stats.
SELECT 'session ' || pid, coalesce(backend_xmin, backend_xid)::text,
    extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL
  AND (datname = current_database() OR datname IS NULL)
  AND pid <> pg_backend_pid()
  -- What vacuum itself holds does not hold up vacuum.
  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
UNION ALL
SELECT 'prepared ' || gid, transaction::text,
    extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL
SELECT 'slot ' || slot_name, xmin::text, NULL
FROM pg_replication_slots
WHERE xmin IS NOT NULL AND (database = current_database() OR database IS NULL)

-- name: dead_tuples
-- Dead rows in each of our tables, as the statistics have them.
SELECT relname::text, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'pillars'
