-- name: enqueue_one
-- The same as `enqueue` for one job, as most are put on the queue: a third less work for the server.
INSERT INTO pillars.jobs (type, args, queue, priority, run_at, max_attempts, timeout, retry)
VALUES (
    %(type)s, %(args)s::jsonb, %(queue)s, %(priority)s,
    coalesce(%(run_at)s::timestamptz, now() + make_interval(secs => coalesce(%(delay)s::float8, 0))),
    %(max_attempts)s::smallint, %(timeout)s::real, %(retry)s::jsonb
)
RETURNING id, run_at < now() + interval '1 second',
    CASE WHEN %(wake)s AND run_at < now() + interval '1 second' THEN pg_notify(%(channel)s, '') END

-- name: enqueue
-- Insert jobs from parallel arrays, of which those but args and types may be shorter; returns their
-- ids, and whether each is due soon. If one is, wakes the workers once for the batch where that is
-- asked for: the instants of those that are for later they look up by themselves in time.
WITH inserted AS (
    INSERT INTO pillars.jobs (type, args, queue, priority, run_at, max_attempts, timeout, retry)
    SELECT type, args, coalesce(queue, 'default'), coalesce(priority, 0::smallint),
        coalesce(run_at, now() + make_interval(secs => coalesce(delay, 0))),
        max_attempts, timeout, retry
    FROM ROWS FROM (
        jsonb_array_elements(%(args)s::jsonb),
        unnest(%(types)s::text[], %(queues)s::text[], %(priorities)s::smallint[],
            %(run_at)s::timestamptz[], %(delays)s::float8[], %(max_attempts)s::smallint[],
            %(timeouts)s::real[], %(retries)s::jsonb[])
    ) AS new (args, type, queue, priority, run_at, delay, max_attempts, timeout, retry)
    RETURNING id, run_at < now() + interval '1 second' AS soon
)
SELECT id, soon, (SELECT pg_notify(%(channel)s, '') FROM inserted WHERE soon AND %(wake)s LIMIT 1)
FROM inserted

-- name: enqueue_special
-- The same for jobs that have any of: unique key, concurrency key, expiry, trace. Jobs whose unique
-- key is taken are left out, so each answer names the place of its job in the batch.
WITH new AS MATERIALIZED (
    SELECT place, nextval(pg_get_serial_sequence('pillars.jobs', 'id')) AS id, type, args,
        coalesce(queue, 'default') AS queue, coalesce(priority, 0::smallint) AS priority,
        max_attempts, timeout, retry, unique_key, unique_for, concurrency_key, concurrency_limit,
        trace, expires_in,
        coalesce(run_at, now() + make_interval(secs => coalesce(delay, 0))) AS run_at
    FROM ROWS FROM (
        jsonb_array_elements(%(args)s::jsonb),
        unnest(%(types)s::text[], %(queues)s::text[], %(priorities)s::smallint[],
            %(run_at)s::timestamptz[], %(delays)s::float8[], %(max_attempts)s::smallint[],
            %(timeouts)s::real[], %(retries)s::jsonb[], %(unique_keys)s::text[],
            %(unique_for)s::float8[], %(concurrency_keys)s::text[],
            %(concurrency_limits)s::smallint[], %(expires_in)s::float8[], %(traces)s::text[])
    ) WITH ORDINALITY AS new (
        args, type, queue, priority, run_at, delay, max_attempts, timeout, retry, unique_key,
        unique_for, concurrency_key, concurrency_limit, expires_in, trace, place
    )
), inserted AS (
    INSERT INTO pillars.jobs (
        id, type, args, queue, priority, run_at, max_attempts, timeout, retry, slot, unique_key,
        unique_until, concurrency_key, concurrency_limit, expires_at, trace
    )
    OVERRIDING SYSTEM VALUE
    SELECT id, type, args, queue, priority, run_at, max_attempts, timeout, retry,
        coalesce(hashtext(unique_key) & 4095, floor(random() * 4096)), unique_key,
        CASE WHEN unique_key IS NOT NULL THEN now() + make_interval(secs => unique_for) END,
        concurrency_key, concurrency_limit, run_at + make_interval(secs => expires_in), trace
    FROM new
    -- Two batches of the same keys never wait crosswise.
    ORDER BY unique_key
    ON CONFLICT (unique_key)
        WHERE unique_key IS NOT NULL AND (finished_at IS NULL OR unique_until IS NOT NULL)
        DO NOTHING
    RETURNING id, run_at < now() + interval '1 second' AS soon
)
SELECT place, id, soon,
    (SELECT pg_notify(%(channel)s, '') FROM inserted WHERE soon AND %(wake)s LIMIT 1)
FROM inserted JOIN new USING (id)

-- name: holders_of_keys
-- Which jobs hold these unique keys. Those held by the time of a finished job alone, if that is over,
-- are let go; so are those of jobs that expired before anybody started them, which end here.
-- index: jobs_unique
WITH lapsed AS (
    UPDATE pillars.jobs SET unique_until = NULL
    WHERE unique_key = ANY(%(keys)s::text[]) AND finished_at IS NOT NULL AND unique_until <= now()
), expired AS (
    UPDATE pillars.jobs SET state = 'cancelled', finished_at = now(), unique_until = NULL,
        error = 'expired: it could not be started in the time it was given'
    WHERE unique_key = ANY(%(keys)s::text[]) AND finished_at IS NULL
      AND state = 'available' AND expires_at < now() AND (unique_until <= now()) IS NOT FALSE
)
SELECT unique_key, id FROM pillars.jobs
WHERE unique_key = ANY(%(keys)s::text[]) AND (
    unique_until > now()
    OR finished_at IS NULL AND (state = 'available' AND expires_at < now()) IS NOT TRUE
)

-- name: insert_ticks
-- The second half of cron's fire statement: a job for each row of its CTE `ticks`. A tick whose
-- schedule does not let it overlap with the jobs of earlier ticks shares a concurrency key with
-- them; by its policy it is recorded as skipped, or waits for their end. Jobs of lower priority, as
-- those of a backfill, stand in no tick's way: they only take turns with it.
-- index: jobs_tick
INSERT INTO pillars.jobs (
    schedule_id, fire_at, run_at, finished_at, timeout, state, slot, priority, max_attempts, type,
    queue, args, schedule, retry, concurrency_key, concurrency_limit, reason, ticks, fire_until
)
SELECT
    schedule_id, fire_at, run_at, CASE WHEN decided.state <> 'available' THEN now() END,
    timeout, decided.state::pillars.job_state, slot, priority, max_attempts, type, queue, args,
    schedule, retry, CASE WHEN overlap <> 'allow' THEN 'schedule:' || schedule END,
    CASE WHEN overlap <> 'allow' THEN 1 END,
    CASE
        WHEN decided.state <> ticks.state THEN
            coalesce(reason || '; ', '') || 'overlap: ' || overlap ||
            CASE WHEN earlier.jobs > 1 THEN ', and a tick waits already'
                ELSE ', and the job of an earlier tick has not ended' END
        WHEN earlier.jobs > 0 AND overlap = 'buffer_one' THEN
            coalesce(reason || '; ', '') ||
            'overlap: buffer_one, waited for the job of an earlier tick'
        ELSE reason
    END,
    ticks, fire_until
FROM ticks, LATERAL (
    SELECT CASE WHEN ticks.state = 'available' AND overlap IN ('skip', 'buffer_one') THEN (
        SELECT count(*) FROM (
            SELECT FROM pillars.jobs
            WHERE gate = ANY('{open,parked,holding}'::pillars.gate[])
              AND concurrency_key = 'schedule:' || ticks.schedule AND priority <= ticks.priority
              AND finished_at IS NULL
            LIMIT 2
        ) AS unfinished
    ) END AS jobs
) AS earlier, LATERAL (
    SELECT CASE WHEN earlier.jobs >= CASE overlap WHEN 'skip' THEN 1 ELSE 2 END THEN 'skipped'
                ELSE ticks.state END AS state
) AS decided
ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO NOTHING
RETURNING state, queue, id, schedule, fire_at, reason

-- name: cancel_overlapped
-- A further part of the fire statement: a tick whose schedule says so cancels the jobs of earlier
-- ticks; those that run are asked to stop, and the new job waits for their end.
-- index: jobs_keyed
UPDATE pillars.jobs AS jobs
SET state = CASE WHEN jobs.state = 'running' THEN jobs.state ELSE 'cancelled' END,
    finished_at = CASE WHEN jobs.state = 'running' THEN NULL ELSE now() END,
    cancel_requested_at = now(),
    reason = 'overlap: cancel_other, and a later tick was due'
FROM ticks
WHERE ticks.state = 'available' AND ticks.overlap = 'cancel_other'
  AND jobs.gate = ANY('{open,parked,holding}'::pillars.gate[])
  AND jobs.concurrency_key = 'schedule:' || ticks.schedule AND jobs.priority <= ticks.priority
  AND jobs.finished_at IS NULL
RETURNING pg_notify(%(channel)s, 'cancel') IS NULL

-- name: withdraw_ticks
-- Take back the jobs of schedules that were enqueued ahead, are not due and not started; keep note
-- of each with the reason given for its schedule.
-- index: jobs_tick
WITH change AS MATERIALIZED (
    SELECT * FROM unnest(%(schedule_ids)s::bigint[], %(reasons)s::text[]) AS given (id, reason)
), withdrawn AS (
    DELETE FROM pillars.jobs
    WHERE schedule_id = ANY(%(schedule_ids)s::bigint[])
      AND fire_at > %(now)s
      AND state = 'available' AND attempt = 0
    RETURNING schedule_id, fire_at, schedule
)
INSERT INTO pillars.withdrawn_ticks (schedule_id, fire_at, schedule, reason, withdrawn_at)
SELECT schedule_id, fire_at, coalesce(schedule, ''), 'withdrawn: ' || change.reason,
    %(now)s
FROM withdrawn JOIN change ON change.id = schedule_id
ON CONFLICT (schedule_id, fire_at, withdrawn_at) DO NOTHING

-- name: prune_withdrawn
-- Delete notes of withdrawn ticks that are older than the retention; few at a time of a small table.
DELETE FROM pillars.withdrawn_ticks
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pillars.withdrawn_ticks
    WHERE withdrawn_at < now() - make_interval(secs => %(retention)s) LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND withdrawn_at < now() - make_interval(secs => %(retention)s)

-- name: record_missed
-- Record ticks that will never become work, each row a run of them. Where the first of a run has a row
-- already, the run goes without it and begins a microsecond later: no tick has such an instant.
-- index: jobs_tick
INSERT INTO pillars.jobs (
    schedule_id, fire_at, run_at, finished_at, state, slot, type, queue, schedule, reason, ticks,
    fire_until
)
SELECT schedule_id, begin.at, begin.at, now(), 'missed', slot, type, queue, schedule, reason,
    missed.ticks - taken, to_timestamp(fire_until)
FROM jsonb_to_recordset(%(rows)s::jsonb) AS missed (
    schedule_id bigint, fire_at float8, slot smallint, type text, queue text, schedule text,
    reason text, ticks integer, fire_until float8
), LATERAL (
    SELECT count(*)::integer AS taken FROM (
        SELECT FROM pillars.jobs
        WHERE missed.ticks > 1 AND schedule_id = missed.schedule_id
          AND fire_at = to_timestamp(missed.fire_at)
        LIMIT 1
    ) AS row
) AS found, LATERAL (
    SELECT to_timestamp(fire_at) + taken * interval '1 microsecond' AS at
) AS begin
ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO NOTHING

-- name: missed_runs
-- Rows that stand for several missed ticks of a schedule, those that reach into a span.
-- index: jobs_tick
SELECT id, extract(epoch FROM fire_at)::float8, extract(epoch FROM fire_until)::bigint, ticks, slot,
    type, queue, schedule, reason
FROM pillars.jobs
WHERE schedule_id = %(schedule_id)s AND fire_at <= to_timestamp(%(last)s::float8)
  AND state = 'missed' AND ticks > 1 AND fire_until >= to_timestamp(%(first)s::float8)

-- name: forget_runs
-- Delete such rows, whose ticks are written anew.
-- index: jobs_pkey
DELETE FROM pillars.jobs WHERE id = ANY(%(ids)s::bigint[]) AND state = 'missed'

-- name: backfill_ticks
-- A part of the backfill statement: a job for each row of its CTE `ticks` that has none. A tick that
-- was recorded as missed or skipped becomes work after all.
-- index: jobs_tick
INSERT INTO pillars.jobs (
    schedule_id, fire_at, run_at, timeout, slot, priority, max_attempts, type, queue, args, schedule,
    retry, concurrency_key, concurrency_limit, reason
)
SELECT schedule_id, fire_at, run_at, timeout, slot, priority, max_attempts, type, queue, args,
    schedule, retry, CASE WHEN overlap <> 'allow' THEN 'schedule:' || schedule END,
    CASE WHEN overlap <> 'allow' THEN 1 END, reason
FROM ticks
ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO UPDATE SET
    state = 'available', finished_at = NULL, run_at = EXCLUDED.run_at, timeout = EXCLUDED.timeout,
    priority = EXCLUDED.priority, max_attempts = EXCLUDED.max_attempts, type = EXCLUDED.type,
    queue = EXCLUDED.queue, args = EXCLUDED.args, retry = EXCLUDED.retry,
    concurrency_key = EXCLUDED.concurrency_key, concurrency_limit = EXCLUDED.concurrency_limit,
    reason = EXCLUDED.reason, ticks = NULL, fire_until = NULL
WHERE jobs.state IN ('missed', 'skipped')
RETURNING id

-- name: standing_ticks
-- Which of these ticks, in epoch seconds, have a job that a backfill leaves alone.
-- index: jobs_tick
SELECT tick.fire_at::bigint FROM unnest(%(fire_at)s::float8[]) AS tick (fire_at), LATERAL (
    SELECT state FROM pillars.jobs
    WHERE schedule_id = %(schedule_id)s AND fire_at = to_timestamp(tick.fire_at) LIMIT 1
) AS job
WHERE state NOT IN ('missed', 'skipped')

-- name: all_lanes
-- The first part of statements that look at every lane (a queue and a priority) from its front.
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
), places AS (
    SELECT queue, priority, '-infinity'::timestamptz AS run_at, 0::bigint AS id FROM lanes
)

-- name: known_lanes
-- The same for the lanes that are given, each from a place in it on.
WITH places AS (
    SELECT * FROM unnest(
        %(lane_queues)s::text[], %(lane_priorities)s::smallint[],
        %(from_run_at)s::timestamptz[], %(from_ids)s::bigint[]
    ) AS places (queue, priority, run_at, id)
)

-- name: unlimited
-- The second part of a claim that holds no limited queue.
, allowed AS (
    SELECT ''::text AS queue, 0::smallint AS priority, now() AS last_run_at, 0::bigint AS last_id
    WHERE false
)

-- name: within_limits
-- The same for a claim that holds limited queues and knows how many jobs of each may start: how far
-- each lane of theirs may be taken, up to where one job too many would start. One that has expired, or
-- shall be cancelled, is taken and does not start.
, allowed AS MATERIALIZED (
    SELECT DISTINCT ON (queue, priority) queue, priority, run_at AS last_run_at, id AS last_id
    FROM (
        SELECT places.queue, places.priority, due.run_at, due.id, held.room,
            count(*) FILTER (WHERE due.starts) OVER (
                PARTITION BY places.queue ORDER BY places.priority, due.run_at, due.id
            ) AS started
        FROM unnest(%(limited)s::text[], %(rooms)s::integer[]) AS held (queue, room)
        JOIN places ON places.queue = held.queue, LATERAL (
            SELECT run_at, id, cancel_requested_at IS NULL AND coalesce(
                expires_at >= coalesce(%(now)s::timestamptz, now()), true) AS starts
            FROM pillars.jobs
            WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
              AND gate = 'open' AND (run_at, id) >= (places.run_at, places.id)
              AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
            ORDER BY run_at, id LIMIT %(limit)s
        ) AS due
    ) AS line
    WHERE started <= room
    ORDER BY queue, priority, run_at DESC, id DESC
)

-- name: claim
-- Take due jobs for a worker: best priority first, then the lane whose first job is oldest.
-- A worker that is no member any more gets nothing; the key-share lock makes an expulsion wait.
-- Rows are updated by the address they were locked at: joined by id, the planner may prefer to scan
-- the table. Of queues that are limited or paused only those are looked at that are `limited` and
-- held by the caller.
-- index: jobs_ready
, member AS MATERIALIZED (
    -- A claim does not wait for the disk: a third less until a job starts. A server that crashes
    -- within the next second may forget it, but then also all that was committed after it: the
    -- job's result, its admission by key, whatever its handler did in this database. Such a job is
    -- available and is run again, as if its worker had been lost; the fence refuses the end of the
    -- first run, or, where the same worker claimed it again, lets the first of two ends stand.
    -- What is claimed from a limited queue is counted by others, so it is kept for good.
    SELECT id, CASE WHEN cardinality(%(limited)s::text[]) = 0
                    THEN set_config('synchronous_commit', 'off', true) END
    FROM pillars.members WHERE id = %(worker_id)s FOR KEY SHARE
), open AS MATERIALIZED (
    SELECT places.*, coalesce(allowed.last_run_at, 'infinity') AS last_run_at,
        coalesce(allowed.last_id, 0) AS last_id
    FROM places LEFT JOIN allowed USING (queue, priority), LATERAL (
        SELECT run_at, id FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
          AND gate = 'open' AND (run_at, id) >= (places.run_at, places.id)
          AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
        ORDER BY run_at, id LIMIT 1
    ) AS head
    WHERE (cardinality(%(queues)s::text[]) = 0 OR places.queue = ANY(%(queues)s::text[]))
      AND (allowed.last_id IS NOT NULL
           OR NOT EXISTS (SELECT FROM pillars.queues WHERE name = places.queue))
    ORDER BY places.priority, head.run_at, head.id
), picked AS MATERIALIZED (
    -- Without a sort above it the LIMIT pulls lane after lane and locks no row in excess.
    SELECT due.row
    FROM member, open, LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = open.queue AND priority = open.priority
          AND gate = 'open' AND (run_at, id) >= (open.run_at, open.id)
          AND (run_at, id) <= (open.last_run_at, open.last_id)
          AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
        ORDER BY run_at, id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT %(limit)s
)
UPDATE pillars.jobs AS jobs
SET state = 'running', worker_id = %(worker_id)s, attempt = attempt + 1,
    started_at = coalesce(%(now)s::timestamptz, now()),
    gate = CASE WHEN queue = ANY(%(limited)s::text[]) AND cancel_requested_at IS NULL
                 AND coalesce(expires_at >= coalesce(%(now)s::timestamptz, now()), true)
                THEN 'holding' ELSE gate END
WHERE jobs.ctid = ANY(ARRAY(SELECT row FROM picked))
RETURNING jobs.id, jobs.type, jobs.queue, jobs.args::text, jobs.attempt, jobs.rescues, jobs.priority,
    jobs.max_attempts, jobs.timeout, jobs.retry::text, jobs.schedule, jobs.fire_at, jobs.run_at,
    extract(epoch FROM jobs.started_at - jobs.run_at)::float8, jobs.concurrency_key, jobs.trace,
    CASE WHEN jobs.cancel_requested_at IS NOT NULL THEN coalesce(jobs.reason, 'cancelled')
         WHEN jobs.expires_at < jobs.started_at
         THEN 'expired: it could not be started in the time it was given' END

-- name: next_due
-- Seconds until the next job for these queues is due, NULL if none waits. What is due already is for
-- the next claim too, unless a limit holds it back: of a limited queue only those count that have
-- become due `since` its claim looked.
-- index: jobs_ready
SELECT extract(epoch FROM min(head.run_at) - coalesce(%(now)s::timestamptz, clock_timestamp()))::float8
FROM places LEFT JOIN pillars.queues ON queues.name = places.queue, LATERAL (
    SELECT run_at FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
      AND gate = 'open'
      AND run_at > CASE WHEN queues.name IS NULL
                        THEN coalesce(%(now)s::timestamptz, now()) - interval '1 second'
                        ELSE coalesce(%(since)s::timestamptz, %(now)s::timestamptz, now()) END
      AND state IN ('available', 'failed')
    ORDER BY run_at LIMIT 1
) AS head
WHERE (cardinality(%(queues)s::text[]) = 0 OR places.queue = ANY(%(queues)s::text[]))
  AND queues.paused_at IS NULL

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
        FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS result (id, attempt),
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

-- name: succeed_with_result
-- Mark jobs succeeded and store what they returned, or why that is not stored; fenced as in succeed.
-- index: jobs_pkey
WITH done AS (
    UPDATE pillars.jobs AS jobs
    SET state = 'succeeded', finished_at = coalesce(%(now)s::timestamptz, now()),
        result = result.value::jsonb, error = result.error
    FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(results)s::text[], %(errors)s::text[])
        AS result (id, attempt, value, error),
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

-- name: fail
-- Mark jobs failed (to be tried after retry_in seconds), snoozed (available after retry_in seconds),
-- dead or cancelled, fenced as in succeed. What was started in time never expires later. One that
-- shall be cancelled is due again at once: whoever claims it sees to that. Where the number of an
-- attempt will be used again, the instant of the claim is compared, too; the client has worked it out
-- of floats, and two claims of a job lie further apart than their error.
-- index: jobs_pkey
WITH done AS (
    UPDATE pillars.jobs AS jobs
    SET state = result.state::pillars.job_state,
        error = result.error,
        gate = 'open',
        -- A snoozed attempt does not count.
        attempt = jobs.attempt - CASE WHEN result.state = 'available' THEN 1 ELSE 0 END,
        started_at = CASE WHEN NOT result.unstarted THEN jobs.started_at END,
        expires_at = CASE WHEN result.unstarted THEN jobs.expires_at END,
        worker_id = CASE WHEN result.retry_in IS NULL THEN jobs.worker_id END,
        finished_at = CASE WHEN result.retry_in IS NULL
                           THEN coalesce(%(now)s::timestamptz, now()) END,
        run_at = CASE WHEN result.retry_in IS NULL THEN jobs.run_at
                      WHEN jobs.cancel_requested_at IS NOT NULL
                      THEN coalesce(%(now)s::timestamptz, now())
                      ELSE coalesce(%(now)s::timestamptz, now())
                           + make_interval(secs => result.retry_in) END
    FROM unnest(
        %(ids)s::bigint[], %(attempts)s::integer[], %(states)s::text[], %(errors)s::text[],
        %(retry_in)s::float8[], %(unstarted)s::boolean[],
        %(started_at)s::timestamptz[]
    ) AS result (id, attempt, state, error, retry_in, unstarted, started_at),
    LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE id = result.id AND attempt = result.attempt
          AND worker_id = %(worker_id)s AND state = 'running' LIMIT 1
    ) AS held
    WHERE jobs.ctid = held.row AND jobs.attempt = result.attempt
      AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'
      AND (result.started_at IS NULL
           OR abs(extract(epoch FROM jobs.started_at - result.started_at)) < 0.00001)
    RETURNING jobs.id
)
SELECT coalesce(array_agg(id), '{}') FROM done

-- name: standing
-- Of these results, those that stand in the table as this very attempt's (true), and those whose
-- attempt is still this worker's to end (false).
-- index: jobs_pkey
SELECT result.id, held.ended
FROM unnest(
    %(ids)s::bigint[], %(attempts)s::integer[], %(states)s::text[], %(started_at)s::timestamptz[]
) AS result (id, attempt, state, started_at),
LATERAL (
    SELECT state <> 'running' AS ended FROM pillars.jobs
    WHERE id = result.id
      AND coalesce(worker_id, %(worker_id)s) = %(worker_id)s
      AND CASE
          WHEN state = 'running' THEN attempt = result.attempt
              AND (result.started_at IS NULL
                   OR abs(extract(epoch FROM started_at - result.started_at)) < 0.00001)
          ELSE state = result.state::pillars.job_state
              AND attempt = result.attempt - CASE WHEN result.state = 'available' THEN 1 ELSE 0 END
          END
    LIMIT 1
) AS held

-- name: give_back
-- Return jobs that were claimed, started or not, and have no result; the attempt does not count, so
-- the fence is that of fail.
-- index: jobs_pkey
UPDATE pillars.jobs AS jobs
SET state = 'available', gate = 'open', worker_id = NULL, started_at = NULL,
    attempt = jobs.attempt - 1, expires_at = CASE WHEN NOT %(started)s THEN jobs.expires_at END
WHERE jobs.ctid = ANY(ARRAY(
    SELECT held.row
    FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(started_at)s::timestamptz[])
        AS result (id, attempt, started_at),
    LATERAL (
        SELECT ctid AS row FROM pillars.jobs
        WHERE id = result.id AND attempt = result.attempt
          AND worker_id = %(worker_id)s AND state = 'running'
          AND abs(extract(epoch FROM started_at - result.started_at)) < 0.00001 LIMIT 1
    ) AS held
))
  AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'
RETURNING jobs.id

-- name: held_in_page
-- A further part, after the lanes: which jobs in the next page of each lane some workers run. Claimed
-- jobs were due, and lie near a lane's front; no index tells who runs what, since a claim would have
-- to write it. The ten minutes are for a clock that was set back.
, page AS MATERIALIZED (
    SELECT places.queue, places.priority, found.*
    FROM places, LATERAL (
        (SELECT run_at, id, gate, worker_id, rescues,
             state = 'running' AND worker_id = ANY(%(worker_ids)s::uuid[]) AS held
         FROM pillars.jobs
         WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
           AND gate = 'open' AND (run_at, id) > (places.run_at, places.id)
           AND run_at <= now() + interval '10 minutes'
         ORDER BY run_at, id LIMIT %(limit)s)
        UNION ALL
        -- Those that hold a key or count against a limit run, so they are few: all at the first page.
        (SELECT run_at, id, gate, worker_id, rescues, worker_id = ANY(%(worker_ids)s::uuid[])
         FROM pillars.jobs
         WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
           AND gate = 'holding' AND places.id = 0)
    ) AS found
), further AS (
    SELECT DISTINCT ON (queue, priority) queue, priority, run_at, id
    FROM (
        SELECT *, count(*) OVER (PARTITION BY queue, priority) AS jobs FROM page WHERE gate = 'open'
    ) AS counted
    WHERE jobs = %(limit)s
    ORDER BY queue, priority, run_at DESC, id DESC
)

-- name: give_back_others
-- Return the jobs a worker runs by the table but not by its own knowledge: their claim was committed
-- and its answer lost. Returns them, and the places where to go on.
-- index: jobs_ready
, returned AS (
    UPDATE pillars.jobs
    SET state = 'available', gate = 'open', worker_id = NULL, started_at = NULL, attempt = attempt - 1
    -- By id: a row that is just being changed must not be missed.
    WHERE id = ANY(ARRAY(SELECT id FROM page WHERE held AND id <> ALL(%(held)s::bigint[])))
      AND state = 'running' AND worker_id = ANY(%(worker_ids)s::uuid[])
    RETURNING id
)
SELECT true, NULL::text, NULL::smallint, NULL::timestamptz, id FROM returned
UNION ALL SELECT false, queue, priority, run_at, id FROM further

-- name: rescue
-- Put the running jobs of lost workers back; one that outlived too many workers is dead. Returns
-- them, for each whether it is dead and what it was, and the places where to go on.
-- Which of the jobs a worker had, begun or in its buffer, was its ruin cannot be known from one loss,
-- but whoever it is was there each time. So what is lost for the first time runs again at once. From
-- the second time on each comes back after a random pause of its own, up to 4 s, then 8, at last 17
-- minutes: neighbours come apart, and whoever does no harm ends meanwhile. Of those lost with a worker
-- only the one that was lost most often dies: beside a single culprit, which is in every loss, that is
-- no other. Where several were lost equally often all come back, to be told apart by the next
-- loss, though not for ever. They are compared as far as one page shows them.
-- index: jobs_ready
, lost AS MATERIALIZED (
    SELECT id, rescues + 1 AS losses, rescues + 1 >= %(most_rescues)s AND (
        rank() OVER (PARTITION BY worker_id ORDER BY rescues DESC) = 1
        AND count(*) OVER (PARTITION BY worker_id, rescues) = 1
        OR rescues + 1 >= %(most_rescues)s * 4
    ) AS dead
    FROM page WHERE held
), rescued AS (
    UPDATE pillars.jobs AS jobs
    SET state = CASE WHEN lost.dead THEN 'dead'::pillars.job_state ELSE 'available' END,
        finished_at = CASE WHEN lost.dead THEN now() END,
        worker_id = CASE WHEN lost.dead THEN jobs.worker_id END,
        -- What shall be cancelled is due at once: whoever claims it sees to that.
        run_at = CASE WHEN lost.dead OR losses = 1 OR cancel_requested_at IS NOT NULL THEN run_at
                      ELSE now() + make_interval(secs => random() * 2 ^ least(losses, 10)) END,
        gate = 'open',
        expires_at = NULL,
        rescues = losses,
        error = %(error)s
    FROM lost
    -- By id, and one that names them all: a row that is just being changed must not be missed, and
    -- the planner may not take to scanning the table.
    WHERE jobs.id = ANY(ARRAY(SELECT id FROM lost)) AND jobs.id = lost.id
      AND jobs.state = 'running' AND jobs.worker_id = ANY(%(worker_ids)s::uuid[])
    RETURNING lost.dead, jobs.id, type, queue, attempt, schedule
)
SELECT true, queue, NULL::smallint, NULL::timestamptz, id, dead, type, attempt, schedule FROM rescued
UNION ALL SELECT false, queue, priority, run_at, id, NULL, NULL, NULL, NULL FROM further

-- name: leave_to_rescuer
-- Workers whose jobs were not all looked through when they were lost.
INSERT INTO pillars.lost_workers (id) SELECT * FROM unnest(%(worker_ids)s::uuid[])
ON CONFLICT (id) DO NOTHING

-- name: take_lost_workers
-- The workers whose jobs are to be looked for, for whoever asks first in half a minute.
UPDATE pillars.lost_workers SET taken_at = clock_timestamp()
WHERE taken_at IS NULL OR taken_at < clock_timestamp() - interval '30 seconds'
RETURNING id

-- name: forget_lost_workers
-- All jobs of these workers are back.
DELETE FROM pillars.lost_workers WHERE id = ANY(%(worker_ids)s::uuid[])

-- name: prune
-- Delete expired jobs among the next page of ids; returns how many, where the page ended (NULL at
-- the end of the table) and whether all further rows are surely younger than the retention.
-- index: jobs_pkey
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine
), page AS MATERIALIZED (
    SELECT id, created_at FROM pillars.jobs
    WHERE id > %(after)s AND (SELECT mine FROM turn)
    ORDER BY id LIMIT %(limit)s
), gone AS (
    DELETE FROM pillars.jobs AS jobs USING page
    -- By the row itself, not as the page saw it: it may have become work again meanwhile.
    WHERE jobs.id = page.id AND (jobs.unique_until < now()) IS NOT FALSE
      AND jobs.finished_at < now() - make_interval(secs =>
          CASE WHEN jobs.state IN ('dead', 'cancelled') THEN %(retention_failed)s::float8
               ELSE %(retention)s::float8 END)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), max(id),
       coalesce(min(created_at) > now() - make_interval(
           secs => least(%(retention)s::float8, %(retention_failed)s::float8)), true)
FROM page

-- name: list_jobs
-- Jobs for people, newest first, by any of state, type, queue and schedule; without args and
-- results longer than is asked for, of which a page might have hundreds of megabytes.
SELECT id, type, state::text, queue, priority,
    CASE WHEN (octet_length(args::text) <= %(longest)s::integer) IS NOT FALSE THEN args END,
    attempt, max_attempts, schedule, fire_at, run_at, created_at, started_at, finished_at, worker_id,
    error, reason, ticks, fire_until, timeout, gate::text, unique_key, concurrency_key, expires_at,
    cancel_requested_at,
    CASE WHEN (octet_length(result::text) <= %(longest)s::integer) IS NOT FALSE THEN result END, trace
FROM pillars.jobs
WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(state)s::text IS NULL OR state = %(state)s::pillars.job_state)
  AND (%(type)s::text IS NULL OR type = %(type)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(schedule)s::text IS NULL OR schedule = %(schedule)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: recent_lateness
-- Of the newest jobs those of ticks that came by schedule: how many, and how late their rows were
-- written, in seconds: median, 99th percentile, longest; early counts as 0.
-- index: jobs_pkey
SELECT count(*), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY late), 0),
    coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY late), 0), coalesce(max(late), 0)
FROM (
    SELECT greatest(0, extract(epoch FROM created_at - fire_at))::float8 AS late
    FROM (
        SELECT created_at, fire_at, reason FROM pillars.jobs ORDER BY id DESC LIMIT %(limit)s
    ) AS newest
    WHERE fire_at IS NOT NULL AND reason IS NULL
) AS ticks

-- name: show_job
-- One job for people.
-- index: jobs_pkey
SELECT id, type, state::text, queue, priority, args, attempt, max_attempts, schedule, fire_at,
    run_at, created_at, started_at, finished_at, worker_id, error, reason, ticks, fire_until, timeout,
    gate::text, unique_key, concurrency_key, expires_at, cancel_requested_at, result, trace
FROM pillars.jobs WHERE id = %(id)s

-- name: history
-- What became of a schedule's ticks, latest first, under each of the ids it had: its jobs, and the
-- notes of those that were withdrawn. All of an instant or none: the next page begins before it.
-- index: jobs_tick
SELECT page.* FROM (SELECT occurrence.*
FROM unnest(%(schedule_ids)s::bigint[]) AS schedule (id), LATERAL (
    (SELECT fire_at, outcome, reason, error, id, coalesce(ticks, 1), fire_until, run_at, started_at,
        finished_at, attempt,
        extract(epoch FROM started_at - fire_at)::float8
    FROM pillars.jobs, LATERAL (
        SELECT CASE WHEN state <> 'available' THEN state::text
            WHEN gate = 'parked' OR reason LIKE '%%overlap: buffer_one%%' THEN 'buffered'
            ELSE 'enqueued' END AS outcome
    ) AS worded
    WHERE schedule_id = schedule.id
      AND (%(before)s::timestamptz IS NULL OR fire_at < %(before)s)
      AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
    ORDER BY fire_at DESC FETCH FIRST %(limit)s ROWS WITH TIES)
    UNION ALL
    (SELECT fire_at, 'withdrawn', reason, NULL, NULL, 1, NULL, NULL, NULL, withdrawn_at, NULL, NULL
    FROM pillars.withdrawn_ticks
    WHERE schedule_id = schedule.id
      AND (%(before)s::timestamptz IS NULL OR fire_at < %(before)s)
      AND coalesce(%(outcome)s::text, 'withdrawn') = 'withdrawn'
    ORDER BY fire_at DESC FETCH FIRST %(limit)s ROWS WITH TIES)
) AS occurrence ORDER BY fire_at DESC FETCH FIRST %(limit)s ROWS WITH TIES) AS page
ORDER BY fire_at DESC, finished_at DESC NULLS FIRST

-- name: retry_job
-- Make a job that ended badly available again, at once. Its rescues stay: they are what tells the
-- attempts that were lost with workers from those that failed.
-- index: jobs_pkey
UPDATE pillars.jobs
SET state = 'available', gate = 'open', run_at = now(), finished_at = NULL, worker_id = NULL,
    reason = NULL, expires_at = NULL, cancel_requested_at = NULL
WHERE id = %(id)s AND state IN ('dead', 'cancelled', 'failed')
RETURNING id

-- name: cancel_job
-- Cancel a job that waits; ask the worker of one that runs to stop it.
-- index: jobs_pkey
UPDATE pillars.jobs
SET state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
    finished_at = CASE WHEN state = 'running' THEN NULL ELSE now() END,
    cancel_requested_at = now(), reason = %(reason)s
WHERE id = %(id)s AND state IN ('available', 'failed', 'running')
RETURNING state::text, CASE WHEN state = 'running' THEN pg_notify(%(channel)s, 'cancel')::text END

-- name: cancel_requests
-- Running jobs of this worker that shall be stopped.
-- index: jobs_cancelling
SELECT id, attempt, coalesce(reason, 'cancelled') FROM pillars.jobs
WHERE cancel_requested_at IS NOT NULL AND finished_at IS NULL
  AND state = 'running' AND worker_id = %(worker_id)s

-- name: depth
-- Unfinished jobs by queue and state, each lane of a queue counted up to a limit, which is lower where
-- there are many lanes, and the age in seconds of the oldest job that is due and waits.
-- index: jobs_ready
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
        ORDER BY gate, run_at, id
        LIMIT (SELECT greatest(100, least(%(limit)s::bigint, %(total)s / count(*))) FROM lanes)
    ) AS unfinished
) AS counted (available, running, failed, scheduled)
LEFT JOIN LATERAL (
    SELECT run_at FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
      AND gate = 'open' AND run_at <= now() AND state IN ('available', 'failed')
    ORDER BY run_at, id LIMIT 1
) AS head ON true
GROUP BY lanes.queue ORDER BY lanes.queue

-- name: lock_keys
-- Admissions for the same concurrency key happen one after another, in the caller's transaction;
-- always in the same order, so that no two wait crosswise.
SELECT pg_advisory_xact_lock(%(lock)s, hash)
FROM (SELECT DISTINCT hashtext(key) AS hash FROM unnest(%(keys)s::text[]) AS key ORDER BY 1) AS ordered

-- name: admit
-- Decide, under the lock of their keys, which jobs may run: those this worker has just claimed, and
-- those that are parked. For each key the first in working order for which there is room, after the
-- jobs that hold it, and with those that are open and due in their places. A claimed job without room
-- is parked and its attempt does not count; a parked one with room is opened for any worker. Further open
-- ones without room are parked as well, many at a time, so that a long line is not claimed job by job.
-- A key has a line for each queue; one whose queue is paused or served by nobody has to wait and
-- keeps nobody waiting.
-- index: jobs_keyed
WITH RECURSIVE mine AS MATERIALIZED (
    SELECT held.* FROM unnest(%(ids)s::bigint[]) AS claimed (id), LATERAL (
        SELECT ctid AS row, id, concurrency_key AS key, concurrency_limit AS most, priority, run_at
        FROM pillars.jobs
        WHERE id = claimed.id AND worker_id = %(worker_id)s AND state = 'running' LIMIT 1
    ) AS held
), room AS MATERIALIZED (
    SELECT keys.key, greatest(0, most.jobs - holding.jobs) AS jobs, holding.jobs AS holding
    FROM unnest(%(keys)s::text[]) AS keys (key), LATERAL (
        SELECT count(*) AS jobs FROM pillars.jobs
        WHERE gate = 'holding' AND concurrency_key = keys.key AND finished_at IS NULL
          AND id <> ALL(%(ids)s::bigint[])
    ) AS holding, LATERAL (
        SELECT greatest(
            (SELECT max(mine.most) FROM mine WHERE mine.key = keys.key),
            (SELECT concurrency_limit FROM pillars.jobs
             WHERE gate = 'parked' AND concurrency_key = keys.key AND finished_at IS NULL
             ORDER BY queue, priority, run_at, id LIMIT 1)
        ) AS jobs
    ) AS most
), lines AS (
    SELECT room.key, room.jobs, gates.gate, first.queue
    FROM room, unnest('{parked,open}'::pillars.gate[]) AS gates (gate), LATERAL (
        SELECT queue FROM pillars.jobs
        WHERE gate = gates.gate AND concurrency_key = room.key AND finished_at IS NULL
        ORDER BY queue LIMIT 1
    ) AS first
    UNION ALL
    SELECT lines.key, lines.jobs, lines.gate, further.queue
    FROM lines, LATERAL (
        SELECT queue FROM pillars.jobs
        WHERE gate = lines.gate AND concurrency_key = lines.key AND finished_at IS NULL
          AND queue > lines.queue
        ORDER BY queue LIMIT 1
    ) AS further
), moving AS MATERIALIZED (
    SELECT lines.* FROM lines
    WHERE NOT EXISTS (
        SELECT FROM pillars.queues WHERE name = lines.queue AND paused_at IS NOT NULL
    ) AND EXISTS (
        SELECT FROM pillars.members
        WHERE role = 'worker' AND members.state <> 'leaving'
          AND (queues IS NULL OR lines.queue = ANY(queues))
    )
), candidates AS MATERIALIZED (
    SELECT row, id, key, most, priority, run_at, 'mine' AS whose FROM mine
    UNION ALL
    SELECT waiting.*, 'parked' FROM moving, LATERAL (
        SELECT ctid, id, concurrency_key, concurrency_limit, priority, run_at FROM pillars.jobs
        WHERE gate = 'parked' AND concurrency_key = moving.key AND queue = moving.queue
          AND finished_at IS NULL
        ORDER BY priority, run_at, id LIMIT moving.jobs
    ) AS waiting
    WHERE moving.gate = 'parked'
    UNION ALL
    SELECT waiting.*, 'open' FROM moving, LATERAL (
        SELECT ctid, id, concurrency_key, concurrency_limit, priority, run_at FROM pillars.jobs
        WHERE gate = 'open' AND concurrency_key = moving.key AND queue = moving.queue
          AND finished_at IS NULL
          AND state IN ('available', 'failed') AND run_at <= coalesce(%(now)s::timestamptz, now())
        ORDER BY priority, run_at, id LIMIT moving.jobs + %(further)s
    ) AS waiting
    WHERE moving.gate = 'open'
), ranked AS MATERIALIZED (
    SELECT candidates.row, candidates.id, whose,
        holding + row_number() OVER (
            PARTITION BY candidates.key ORDER BY priority, run_at, candidates.id
        ) <= most AS admitted
    FROM candidates JOIN room USING (key)
)
UPDATE pillars.jobs AS jobs
SET gate = CASE WHEN whose = 'parked' THEN 'open' WHEN admitted THEN 'holding' ELSE 'parked' END
        ::pillars.gate,
    state = CASE WHEN whose = 'mine' AND NOT admitted THEN 'available' ELSE jobs.state END,
    worker_id = CASE WHEN whose = 'mine' AND admitted THEN jobs.worker_id END,
    started_at = CASE WHEN whose = 'mine' AND NOT admitted THEN NULL ELSE jobs.started_at END,
    attempt = jobs.attempt - CASE WHEN whose = 'mine' AND NOT admitted THEN 1 ELSE 0 END
FROM ranked
WHERE jobs.ctid = ranked.row AND jobs.id = ranked.id
  AND (whose = 'mine' AND jobs.state = 'running' AND jobs.worker_id = %(worker_id)s
       OR whose = 'parked' AND admitted AND jobs.gate = 'parked' AND jobs.finished_at IS NULL
       OR whose = 'open' AND NOT admitted AND jobs.gate = 'open'
          AND jobs.state IN ('available', 'failed'))
RETURNING jobs.id, whose, admitted

-- name: stuck_keys
-- Concurrency keys that have room, and parked jobs in a queue that is served, the next in order:
-- whoever made the room was lost before it could open one. Returns how far it looked, too.
-- index: jobs_keyed
WITH RECURSIVE turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine
), parked AS (
    (SELECT concurrency_key AS key, queue, concurrency_limit AS most, 1 AS number
     FROM pillars.jobs
     WHERE gate = 'parked' AND (concurrency_key, queue) > (%(after_key)s, %(after_queue)s)
       AND concurrency_key IS NOT NULL AND finished_at IS NULL AND (SELECT mine FROM turn)
     ORDER BY concurrency_key, queue, priority, run_at, id LIMIT 1)
    UNION ALL
    SELECT further.key, further.queue, further.most, parked.number + 1
    FROM parked, LATERAL (
        SELECT concurrency_key AS key, queue, concurrency_limit AS most FROM pillars.jobs
        WHERE gate = 'parked' AND (concurrency_key, queue) > (parked.key, parked.queue)
          AND concurrency_key IS NOT NULL AND finished_at IS NULL
        ORDER BY concurrency_key, queue, priority, run_at, id LIMIT 1
    ) AS further
    WHERE parked.number < %(limit)s
)
SELECT key, queue, number = %(limit)s FROM parked, LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM pillars.jobs
        WHERE gate = 'holding' AND concurrency_key = parked.key AND finished_at IS NULL
        LIMIT parked.most
    ) AS holding
) AS holding
WHERE number = %(limit)s OR holding.jobs < most AND NOT EXISTS (
    SELECT FROM pillars.queues WHERE name = parked.queue AND paused_at IS NOT NULL
) AND EXISTS (
    SELECT FROM pillars.members
    WHERE role = 'worker' AND members.state <> 'leaving'
      AND (queues IS NULL OR parked.queue = ANY(queues))
)

-- name: are_limited
-- Whether any queue has a limit and is not paused.
SELECT EXISTS (
    SELECT FROM pillars.queues
    WHERE paused_at IS NULL AND (concurrency IS NOT NULL OR rate IS NOT NULL)
      AND (cardinality(%(queues)s::text[]) = 0 OR name = ANY(%(queues)s::text[]))
)

-- name: limited_due
-- The limited queues that have a job which is due and room for it, best first; the seconds until
-- the rate of another lets one start; and the instant of this look. Nothing is locked: who claims
-- counts again. A queue that was refilled later than now, by a clock that has been set back since,
-- is among the first, since its holder sets it right.
-- index: jobs_ready
SELECT coalesce(%(now)s::timestamptz, now()),
    coalesce(array_agg(name ORDER BY priority, run_at, id) FILTER (WHERE wait <= 0), '{}'),
    min(wait) FILTER (WHERE wait > 0)
FROM (
    SELECT DISTINCT ON (queues.name) queues.name, queues.concurrency, places.priority, head.run_at,
        head.id, CASE WHEN refilled_at > coalesce(%(now)s::timestamptz, now()) THEN 0 ELSE coalesce(
            (1 - tokens) / rate
            - extract(epoch FROM coalesce(%(now)s::timestamptz, now()) - refilled_at)::float8, 0
        ) END AS wait
    FROM pillars.queues JOIN places ON places.queue = queues.name, LATERAL (
        SELECT run_at, id FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
          AND gate = 'open' AND (run_at, id) >= (places.run_at, places.id)
          AND run_at <= coalesce(%(now)s::timestamptz, now()) AND state IN ('available', 'failed')
        ORDER BY run_at, id LIMIT 1
    ) AS head
    WHERE paused_at IS NULL AND (concurrency IS NOT NULL OR rate IS NOT NULL)
      AND (cardinality(%(queues)s::text[]) = 0 OR queues.name = ANY(%(queues)s::text[]))
    ORDER BY queues.name, places.priority
) AS due, LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM places, LATERAL (
            SELECT FROM pillars.jobs
            WHERE finished_at IS NULL AND queue = places.queue AND priority = places.priority
              AND gate = 'holding'
            LIMIT due.concurrency
        ) AS running
        WHERE places.queue = due.name AND due.concurrency IS NOT NULL
        LIMIT due.concurrency
    ) AS counted
) AS holding
WHERE concurrency IS NULL OR holding.jobs < concurrency

-- name: hold_queues
-- The first of these limited queues that nobody holds, held until the transaction ends: how many jobs
-- of each may run, and how many may start by its rate.
SELECT name, concurrency, CASE WHEN rate IS NOT NULL THEN floor(least(burst, tokens + rate *
    greatest(0, extract(epoch FROM
        coalesce(%(now)s::timestamptz, clock_timestamp()) - refilled_at)::float8)))::integer END
FROM pillars.queues
WHERE name = ANY(%(names)s::text[]) AND paused_at IS NULL
ORDER BY array_position(%(names)s::text[], name) LIMIT %(limit)s
FOR UPDATE SKIP LOCKED

-- name: count_holding
-- How many jobs of limited queues run; in each of a queue's lanes they are counted up to its limit.
-- index: jobs_ready
WITH RECURSIVE lanes AS (
    SELECT held.queue, held.most, first.priority
    FROM unnest(%(names)s::text[], %(limits)s::integer[]) AS held (queue, most), LATERAL (
        SELECT priority FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = held.queue ORDER BY queue, priority LIMIT 1
    ) AS first
    UNION ALL
    SELECT lanes.queue, lanes.most, further.priority
    FROM lanes, LATERAL (
        SELECT priority FROM pillars.jobs
        WHERE finished_at IS NULL AND queue = lanes.queue AND priority > lanes.priority
        ORDER BY queue, priority LIMIT 1
    ) AS further
)
SELECT queue, count(*) FROM lanes, LATERAL (
    SELECT FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = lanes.queue AND priority = lanes.priority
      AND gate = 'holding'
    LIMIT lanes.most
) AS holding
GROUP BY queue

-- name: take_tokens
-- Account for jobs of limited queues that start now; fewer than none: that do not start after all.
-- Returns the seconds until the rate of each lets another start. A clock that was set back fills
-- nothing, and is followed.
UPDATE pillars.queues
SET tokens = least(burst, least(burst, tokens + rate * greatest(0, extract(epoch FROM
        clock.now - refilled_at)::float8)) - started.jobs),
    refilled_at = clock.now
FROM (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now) AS clock,
    unnest(%(names)s::text[], %(counts)s::integer[]) AS started (name, jobs)
WHERE queues.name = started.name AND rate IS NOT NULL
RETURNING (1 - tokens) / rate

-- name: put_queue
-- Set a queue's limits, whole; it starts with a full burst. Wakes the workers: more may start now.
WITH changed AS (
    INSERT INTO pillars.queues (name, concurrency, rate, burst, tokens)
    VALUES (%(name)s, %(concurrency)s, %(rate)s, %(burst)s, %(burst)s)
    ON CONFLICT (name) DO UPDATE SET
        concurrency = EXCLUDED.concurrency, rate = EXCLUDED.rate, burst = EXCLUDED.burst,
        tokens = least(EXCLUDED.burst, queues.tokens), updated_at = now()
    RETURNING name
)
SELECT pg_notify(%(channel)s, '')::text FROM changed

-- name: pause_queue
-- Start no more jobs of a queue, or start them again, which wakes the workers.
WITH changed AS (
    INSERT INTO pillars.queues (name, paused_at)
    VALUES (%(name)s, CASE WHEN %(paused)s THEN now() END)
    ON CONFLICT (name) DO UPDATE SET
        paused_at = CASE WHEN %(paused)s THEN coalesce(queues.paused_at, now()) END,
        updated_at = now()
    RETURNING paused_at
)
SELECT pg_notify(%(channel)s, '')::text FROM changed WHERE paused_at IS NULL

-- name: tidy_queues
-- A row that neither limits nor pauses its queue goes away.
DELETE FROM pillars.queues WHERE concurrency IS NULL AND rate IS NULL AND paused_at IS NULL

-- name: list_queues
-- Queues that are limited or paused.
SELECT name, concurrency, rate, burst, paused_at FROM pillars.queues ORDER BY name

-- name: remove_jobs
-- Delete some jobs of a queue, whatever became of them; for a queue that is to be forgotten.
DELETE FROM pillars.jobs WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pillars.jobs WHERE queue = %(queue)s LIMIT %(limit)s
)) AND queue = %(queue)s
RETURNING id
