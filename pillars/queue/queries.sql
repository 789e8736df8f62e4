-- name: enqueue
-- Insert jobs from parallel arrays; returns their ids. Wakes the workers once for the batch, unless
-- all is for later: those instants they look up by themselves in time.
WITH inserted AS (
    INSERT INTO pillars.jobs (type, args, queue, priority, run_at, max_attempts, timeout, retry)
    SELECT type, args::jsonb, queue, priority,
        coalesce(run_at, now() + make_interval(secs => coalesce(delay, 0))),
        max_attempts, timeout, retry::jsonb
    FROM unnest(
        %(types)s::text[], %(args)s::text[], %(queues)s::text[], %(priorities)s::smallint[],
        %(run_at)s::timestamptz[], %(delays)s::float8[], %(max_attempts)s::smallint[],
        %(timeouts)s::real[], %(retries)s::text[]
    ) AS new (type, args, queue, priority, run_at, delay, max_attempts, timeout, retry)
    RETURNING id, run_at
)
SELECT id, (
    SELECT pg_notify(%(channel)s, '') FROM inserted
    WHERE run_at < now() + interval '1 second' LIMIT 1
)
FROM inserted

-- name: insert_ticks
-- The second half of cron's fire statement: a job for each row of its CTE `ticks`. A tick of an
-- exclusive schedule whose earlier job has not ended is recorded as skipped.
-- index: jobs_tick
INSERT INTO pillars.jobs (
    schedule_id, fire_at, run_at, finished_at, timeout, state, exclusive, slot, priority,
    max_attempts, type, queue, args, schedule, retry, reason, ticks, fire_until
)
SELECT
    schedule_id, fire_at, run_at, CASE WHEN decided.state <> 'available' THEN now() END,
    timeout, decided.state::pillars.job_state, exclusive, slot, priority, max_attempts,
    type, queue, args, schedule, retry,
    CASE WHEN decided.state = ticks.state THEN reason
         ELSE 'overlap: skip, and the job of an earlier tick has not ended' END,
    ticks, fire_until
FROM ticks, LATERAL (
    SELECT CASE WHEN ticks.state = 'available' AND exclusive AND EXISTS (
        SELECT FROM pillars.jobs AS earlier
        WHERE earlier.schedule_id = ticks.schedule_id AND earlier.exclusive
          AND earlier.finished_at IS NULL
    ) THEN 'skipped' ELSE ticks.state END AS state
) AS decided
ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO NOTHING
RETURNING state, queue

-- name: withdraw_ticks
-- Take back the jobs of schedules that were enqueued ahead, are not due and not started.
-- index: jobs_tick
DELETE FROM pillars.jobs
WHERE schedule_id = ANY(%(schedule_ids)s::bigint[])
  AND fire_at > coalesce(%(now)s::timestamptz, now())
  AND state = 'available' AND attempt = 0
RETURNING id

-- name: record_missed
-- Record ticks that will never become work, each row a run of them.
-- index: jobs_tick
INSERT INTO pillars.jobs (
    schedule_id, fire_at, run_at, finished_at, state, slot, type, queue, schedule, reason, ticks,
    fire_until
)
SELECT schedule_id, to_timestamp(fire_at), to_timestamp(fire_at), now(), 'missed', slot, type, queue,
    schedule, reason, ticks, to_timestamp(fire_until)
FROM jsonb_to_recordset(%(rows)s::jsonb) AS missed (
    schedule_id bigint, fire_at float8, slot smallint, type text, queue text, schedule text,
    reason text, ticks integer, fire_until float8
)
ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO NOTHING

-- name: claim
-- Take due jobs for a worker: best priority first, then the queue whose first job is oldest.
-- A worker that is no member any more gets nothing; the key-share lock makes an expulsion wait.
-- Rows are updated by the address they were locked at: joined by id, the planner may prefer to scan
-- the table.
-- index: jobs_ready
WITH RECURSIVE lanes AS (
    (SELECT queue, priority FROM pillars.jobs WHERE finished_at IS NULL
     ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT further.queue, further.priority
    FROM lanes, LATERAL (
        SELECT queue, priority FROM pillars.jobs
        WHERE finished_at IS NULL AND (queue, priority) > (lanes.queue, lanes.priority)
        ORDER BY queue, priority LIMIT 1
    ) AS further
), member AS MATERIALIZED (
    SELECT id FROM pillars.members WHERE id = %(worker_id)s FOR KEY SHARE
), open AS MATERIALIZED (
    SELECT lanes.queue, lanes.priority
    FROM lanes, LATERAL (
        SELECT run_at, id FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
          AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
        ORDER BY run_at, id LIMIT 1
    ) AS head
    WHERE (cardinality(%(queues)s::text[]) = 0 OR lanes.queue = ANY(%(queues)s::text[]))
    ORDER BY lanes.priority, head.run_at, head.id
), picked AS MATERIALIZED (
    -- Without a sort above it the LIMIT pulls lane after lane and locks no row in excess.
    SELECT due.row
    FROM member, open, LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = open.queue AND priority = open.priority
          AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
        ORDER BY run_at, id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT %(limit)s
)
UPDATE pillars.jobs AS jobs
SET state = 'running', worker_id = %(worker_id)s, attempt = attempt + 1,
    started_at = coalesce(%(now)s::timestamptz, now())
WHERE jobs.ctid = ANY(ARRAY(SELECT row FROM picked))
RETURNING jobs.id, jobs.type, jobs.queue, jobs.args::text, jobs.attempt, jobs.rescues, jobs.priority,
    jobs.max_attempts, jobs.timeout, jobs.retry, jobs.schedule, jobs.fire_at, jobs.run_at,
    extract(epoch FROM jobs.started_at - jobs.run_at)::float8

-- name: next_due
-- Seconds until the next job for these queues is due, NULL if none waits.
-- index: jobs_ready
WITH RECURSIVE lanes AS (
    (SELECT queue, priority FROM pillars.jobs WHERE finished_at IS NULL
     ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT further.queue, further.priority
    FROM lanes, LATERAL (
        SELECT queue, priority FROM pillars.jobs
        WHERE finished_at IS NULL AND (queue, priority) > (lanes.queue, lanes.priority)
        ORDER BY queue, priority LIMIT 1
    ) AS further
)
SELECT extract(epoch FROM min(head.run_at) - coalesce(%(now)s::timestamptz, clock_timestamp()))::float8
FROM lanes, LATERAL (
    SELECT run_at FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
      AND run_at > coalesce(%(now)s::timestamptz, now()) - interval '1 second'
      AND state IN ('available', 'failed')
    ORDER BY run_at LIMIT 1
) AS head
WHERE (cardinality(%(queues)s::text[]) = 0 OR lanes.queue = ANY(%(queues)s::text[]))

-- name: succeed
-- Mark jobs succeeded, each only if this very attempt of this worker still holds it.
-- LIMIT 1 makes each a look-up by key: whatever statistics say of running jobs is out of date, and
-- the planner would scan the table for them. A row that changes after the look-up is refused; the
-- fence stands in the UPDATE too, since before its minors of November 2025 PostgreSQL follows a row
-- found by address to whatever it has become.
-- index: jobs_pkey
WITH done AS (
    UPDATE pillars.jobs AS jobs
    SET state = 'succeeded', finished_at = coalesce(%(now)s::timestamptz, now()), error = NULL
    WHERE jobs.ctid = ANY(ARRAY(
        SELECT held.row
        FROM unnest(%(ids)s::bigint[], %(attempts)s::smallint[]) AS result (id, attempt),
        LATERAL (
            SELECT ctid AS row FROM pillars.jobs
            WHERE id = result.id AND attempt = result.attempt
              AND worker_id = %(worker_id)s AND state = 'running' LIMIT 1
        ) AS held
    ))
      AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'
    RETURNING jobs.id
)
SELECT coalesce(array_agg(id), '{}') FROM done

-- name: fail
-- Mark jobs failed (to be tried after retry_in seconds), dead or cancelled, fenced as in succeed.
-- index: jobs_pkey
WITH done AS (
    UPDATE pillars.jobs AS jobs
    SET state = result.state::pillars.job_state,
        error = result.error,
        worker_id = CASE WHEN result.retry_in IS NULL THEN jobs.worker_id END,
        finished_at = CASE WHEN result.retry_in IS NULL
                           THEN coalesce(%(now)s::timestamptz, now()) END,
        run_at = CASE WHEN result.retry_in IS NULL THEN jobs.run_at
                      ELSE coalesce(%(now)s::timestamptz, now())
                           + make_interval(secs => result.retry_in) END
    FROM unnest(
        %(ids)s::bigint[], %(attempts)s::smallint[], %(states)s::text[], %(errors)s::text[],
        %(retry_in)s::float8[]
    ) AS result (id, attempt, state, error, retry_in),
    LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE id = result.id AND attempt = result.attempt
          AND worker_id = %(worker_id)s AND state = 'running' LIMIT 1
    ) AS held
    WHERE jobs.ctid = held.row AND jobs.attempt = result.attempt
      AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'
    RETURNING jobs.id
)
SELECT coalesce(array_agg(id), '{}') FROM done

-- name: written
-- Of these results, those that stand in the table as this very attempt's.
-- index: jobs_pkey
SELECT result.id
FROM unnest(%(ids)s::bigint[], %(attempts)s::smallint[], %(states)s::text[])
    AS result (id, attempt, state),
LATERAL (
    SELECT FROM pillars.jobs
    WHERE id = result.id AND attempt = result.attempt
      AND state = result.state::pillars.job_state
      AND coalesce(worker_id, %(worker_id)s) = %(worker_id)s LIMIT 1
) AS held

-- name: give_back
-- Return jobs that were claimed and not started; the attempt does not count.
-- index: jobs_pkey
UPDATE pillars.jobs AS jobs
SET state = 'available', worker_id = NULL, started_at = NULL, attempt = jobs.attempt - 1
WHERE jobs.ctid = ANY(ARRAY(
    SELECT held.row
    FROM unnest(%(ids)s::bigint[], %(attempts)s::smallint[]) AS result (id, attempt),
    LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE id = result.id AND attempt = result.attempt
          AND worker_id = %(worker_id)s AND state = 'running' LIMIT 1
    ) AS held
))
  AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'
RETURNING jobs.id

-- name: give_back_others
-- Return the jobs this worker runs by the table but not by its own knowledge: their claim was
-- committed and its answer lost.
-- index: jobs_ready
UPDATE pillars.jobs
SET state = 'available', worker_id = NULL, started_at = NULL, attempt = attempt - 1
WHERE finished_at IS NULL AND state = 'running' AND worker_id = %(worker_id)s
  AND id <> ALL(%(held)s::bigint[])
RETURNING id

-- name: rescue
-- Put the running jobs of lost workers back; one that outlived too many workers is dead.
-- index: jobs_ready
UPDATE pillars.jobs
SET state = CASE WHEN rescues + 1 >= %(most_rescues)s THEN 'dead'::pillars.job_state
                 ELSE 'available' END,
    finished_at = CASE WHEN rescues + 1 >= %(most_rescues)s THEN now() END,
    worker_id = CASE WHEN rescues + 1 >= %(most_rescues)s THEN worker_id END,
    rescues = rescues + 1,
    error = %(error)s
WHERE finished_at IS NULL AND state = 'running' AND worker_id = ANY(%(worker_ids)s::uuid[])
RETURNING id

-- name: prune
-- Delete expired jobs among the next page of ids; returns how many, where the page ended (NULL at
-- the end of the table) and whether all further rows are surely younger than the retention.
-- index: jobs_pkey
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine
), page AS MATERIALIZED (
    SELECT id, finished_at, created_at, state FROM pillars.jobs
    WHERE id > %(after)s AND (SELECT mine FROM turn)
    ORDER BY id LIMIT %(limit)s
), gone AS (
    DELETE FROM pillars.jobs AS jobs USING page
    WHERE jobs.id = page.id
      AND page.finished_at < now() - make_interval(secs =>
          CASE WHEN page.state IN ('dead', 'cancelled') THEN %(retention_failed)s::float8
               ELSE %(retention)s::float8 END)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), max(id),
       coalesce(min(created_at) > now() - make_interval(
           secs => least(%(retention)s::float8, %(retention_failed)s::float8)), true)
FROM page

-- name: list_jobs
-- Jobs for people, newest first, by any of state, type, queue and schedule.
SELECT id, type, state::text, queue, priority, args, attempt, max_attempts, schedule, fire_at,
    run_at, created_at, started_at, finished_at, worker_id, error, reason, ticks, fire_until, timeout
FROM pillars.jobs
WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(state)s::text IS NULL OR state = %(state)s::pillars.job_state)
  AND (%(type)s::text IS NULL OR type = %(type)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(schedule)s::text IS NULL OR schedule = %(schedule)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: show_job
-- One job for people.
-- index: jobs_pkey
SELECT id, type, state::text, queue, priority, args, attempt, max_attempts, schedule, fire_at,
    run_at, created_at, started_at, finished_at, worker_id, error, reason, ticks, fire_until, timeout
FROM pillars.jobs WHERE id = %(id)s

-- name: history
-- What became of a schedule's ticks, latest first.
-- index: jobs_tick
SELECT id, type, state::text, queue, priority, args, attempt, max_attempts, schedule, fire_at,
    run_at, created_at, started_at, finished_at, worker_id, error, reason, ticks, fire_until, timeout
FROM pillars.jobs WHERE schedule_id = %(schedule_id)s ORDER BY fire_at DESC LIMIT %(limit)s

-- name: retry_job
-- Make a job that ended badly available again, at once.
-- index: jobs_pkey
UPDATE pillars.jobs
SET state = 'available', run_at = now(), finished_at = NULL, worker_id = NULL, rescues = 0,
    reason = NULL
WHERE id = %(id)s AND state IN ('dead', 'cancelled', 'failed')
RETURNING id

-- name: cancel_job
-- Cancel a job that waits.
-- index: jobs_pkey
UPDATE pillars.jobs
SET state = 'cancelled', finished_at = now(), reason = %(reason)s
WHERE id = %(id)s AND state IN ('available', 'failed')
RETURNING id

-- name: depth
-- Unfinished jobs by queue and state, each lane of a queue counted up to a limit, and the age in
-- seconds of the oldest job that is due and waits.
-- index: jobs_ready
WITH RECURSIVE lanes AS (
    (SELECT queue, priority FROM pillars.jobs WHERE finished_at IS NULL
     ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT further.queue, further.priority
    FROM lanes, LATERAL (
        SELECT queue, priority FROM pillars.jobs
        WHERE finished_at IS NULL AND (queue, priority) > (lanes.queue, lanes.priority)
        ORDER BY queue, priority LIMIT 1
    ) AS further
)
SELECT lanes.queue, sum(counted.available)::bigint, sum(counted.running)::bigint,
    sum(counted.failed)::bigint, sum(counted.scheduled)::bigint,
    coalesce(extract(epoch FROM now() - min(head.run_at)), 0)::float8
FROM lanes
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'available' AND run_at <= now()),
        count(*) FILTER (WHERE state = 'running'),
        count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'available' AND run_at > now())
    FROM (
        SELECT state, run_at FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
        ORDER BY run_at, id LIMIT %(limit)s
    ) AS unfinished
) AS counted (available, running, failed, scheduled)
LEFT JOIN LATERAL (
    SELECT run_at FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
      AND run_at <= now() AND state IN ('available', 'failed')
    ORDER BY run_at, id LIMIT 1
) AS head ON true
GROUP BY lanes.queue ORDER BY lanes.queue
