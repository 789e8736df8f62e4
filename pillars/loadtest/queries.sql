-- name: clock
-- The database's clock in epoch seconds.
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: session
-- The process that serves this session, if the server may run on the same machine as we.
SELECT CASE WHEN coalesce(inet_server_addr() << '127.0.0.0/8' OR inet_server_addr() = '::1', true)
    THEN pg_backend_pid() END, current_setting('server_version')

-- name: joined
-- How many of our processes are active members.
SELECT count(*) FROM pillars.members WHERE state = 'active' AND name = ANY(%(names)s::text[])

-- name: tidy
-- Leave the table as one that has been at rest for a while.
VACUUM (ANALYZE) pillars.schedules

-- name: newest
-- The newest job so far.
SELECT coalesce(max(id), 0) FROM pillars.jobs

-- name: looked_at
-- What the crons enqueued since the job `after`: how many, how late (seconds), up to which job.
-- index: jobs_pkey
SELECT count(*), percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
    ORDER BY greatest(0, extract(epoch FROM created_at - fire_at))::float8
), coalesce(max(id), %(after)s)
FROM pillars.jobs WHERE id > %(after)s AND queue = %(queue)s

-- name: waiting
-- Schedules that should have been fired by now, and jobs that should run; 20,000 at most.
SELECT (SELECT count(*) FROM (
    SELECT FROM pillars.schedules WHERE enabled AND next_fire_at <= now() AND queue = %(queue)s
    LIMIT 20000
) AS overdue), (SELECT count(*) FROM (
    SELECT FROM pillars.jobs WHERE queue = %(queue)s AND finished_at IS NULL AND run_at <= now()
        AND state = 'available'
    LIMIT 20000
) AS due)

-- name: shares
-- How many slots each cron holds.
SELECT members.name, count(*) FROM pillars.ring, unnest(map) AS owner
JOIN pillars.members ON members.id = owner GROUP BY members.name ORDER BY members.name

-- name: behind
-- Whether a tick of ours up to an instant is still to be fired.
-- index: schedules_due
SELECT EXISTS (
    SELECT FROM pillars.schedules
    WHERE enabled AND next_fire_at <= to_timestamp(%(until)s::float8) AND queue = %(queue)s
)

-- name: verdict
-- Ticks that should be there, by arrays of timing and instant, beside those there are: how many are
-- expected, how many of them were enqueued, rows beyond the first of a tick, ticks nobody expected.
WITH expected AS (
    SELECT schedules.id, to_timestamp(tick) AS fire_at
    FROM unnest(%(timings)s::text[], %(ticks)s::bigint[]) AS demanded (timing, tick)
    JOIN pillars.schedules USING (timing)
    WHERE schedules.queue = %(queue)s
), found AS (
    SELECT schedule_id AS id, fire_at, count(*) AS rows FROM pillars.jobs
    WHERE queue = %(queue)s AND schedule_id IS NOT NULL AND state NOT IN ('missed', 'skipped')
      AND fire_at > to_timestamp(%(since)s::float8) AND fire_at <= to_timestamp(%(until)s::float8)
    GROUP BY schedule_id, fire_at
)
SELECT count(expected.id), count(*) FILTER (WHERE expected.id = found.id),
    coalesce(sum(found.rows - 1), 0)::bigint, count(*) FILTER (WHERE expected.id IS NULL)
FROM expected FULL JOIN found ON found.id = expected.id AND found.fire_at = expected.fire_at

-- name: lateness
-- How late ticks were enqueued, in seconds: percentiles, how many at all, how many in each bucket of
-- the `edges`; when the first and the last were enqueued.
WITH late AS (
    SELECT greatest(0, extract(epoch FROM created_at - fire_at))::float8 AS seconds, created_at
    FROM pillars.jobs
    WHERE queue = %(queue)s AND schedule_id IS NOT NULL AND state NOT IN ('missed', 'skipped')
      AND fire_at > to_timestamp(%(since)s::float8) AND fire_at <= to_timestamp(%(until)s::float8)
)
SELECT (SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY seconds) FROM late),
    (SELECT count(*) FROM late WHERE seconds > 0),
    (SELECT array_agg(coalesce(bucket.ticks, 0) ORDER BY number)
     FROM generate_series(0, cardinality(%(edges)s::float8[])) AS number
     LEFT JOIN (
        SELECT width_bucket(seconds, %(edges)s::float8[]) AS number, count(*) AS ticks
        FROM late GROUP BY 1
     ) AS bucket USING (number)),
    (SELECT extract(epoch FROM min(created_at))::float8 FROM late),
    (SELECT extract(epoch FROM max(created_at))::float8 FROM late)

-- name: timeline
-- By time of the tick, in bins of some seconds: ticks, and how late the 99th percentile and last was.
SELECT floor((extract(epoch FROM fire_at) - %(since)s - 1) / %(bin)s)::integer AS at, count(*),
    percentile_disc(ARRAY[0.99, 1]) WITHIN GROUP (
        ORDER BY greatest(0, extract(epoch FROM created_at - fire_at))::float8
    )
FROM pillars.jobs
WHERE queue = %(queue)s AND schedule_id IS NOT NULL AND state NOT IN ('missed', 'skipped')
  AND fire_at > to_timestamp(%(since)s::float8) AND fire_at <= to_timestamp(%(until)s::float8)
GROUP BY at ORDER BY at

-- name: throughput
-- By time of the event, in bins of some seconds: jobs enqueued by the crons, jobs ended by workers.
SELECT at, sum(enqueued)::bigint, sum(ended)::bigint FROM (
    SELECT floor((extract(epoch FROM created_at) - %(since)s) / %(bin)s)::integer AS at,
        count(*) AS enqueued, 0 AS ended
    FROM pillars.jobs WHERE queue = %(queue)s GROUP BY 1
    UNION ALL
    SELECT floor((extract(epoch FROM finished_at) - %(since)s) / %(bin)s)::integer, 0, count(*)
    FROM pillars.jobs WHERE queue = %(queue)s AND state = 'succeeded' GROUP BY 1
) AS events GROUP BY at ORDER BY at

-- name: rebalances
-- Changes of the ring from an instant on, and how many slots each moved.
SELECT extract(epoch FROM changed_at)::float8 - %(since)s, reason, member_name, moved, members
FROM pillars.ring_log WHERE changed_at >= to_timestamp(%(since)s::float8 - %(before)s::float8)
  AND changed_at <= to_timestamp(%(until)s::float8)
ORDER BY version
