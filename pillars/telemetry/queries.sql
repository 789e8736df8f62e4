-- name: ping
-- Does the database answer?
SELECT 1

-- name: members
-- Live processes by role, without those that are leaving; the table has a row for each process.
SELECT role, count(*) FROM pillars.members WHERE state <> 'leaving' GROUP BY role

-- name: ring
-- The version of the ring, and how many of its slots have no owner that is alive.
SELECT version, (
    SELECT count(*) FROM unnest(map) AS owner
    LEFT JOIN pillars.members ON members.id = owner
        AND heartbeat_at >= now() - make_interval(secs => %(lease)s::float8)
    WHERE members.id IS NULL
)
FROM pillars.ring

-- name: overdue_for
-- For how many seconds the first tick that is still to be fired has been due; negative before.
-- index: schedules_due
SELECT extract(epoch FROM clock_timestamp() - next_fire_at)::float8
FROM pillars.schedules WHERE enabled AND next_fire_at IS NOT NULL ORDER BY next_fire_at LIMIT 1

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
