-- name: due
-- A part: schedules of our slots to be fired: those enqueued ahead up to a horizon, the others at their time.
-- What lies before `since` was fired: while a long transaction keeps the entries of moved cursors from
-- being cleared away, a scan from the front would pass more of them with every fire. Whoever locks or
-- changes a row writes its xmax: where there is one, the row may be held.
-- index: schedules_due
SELECT id, version, extract(epoch FROM next_fire_at)::bigint, timing, catchup, catchup_window,
    catchup_limit, ahead, jitter, CASE WHEN jitter > 0 THEN name END, overlap = 'cancel_other',
    extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8, xmax <> 0
FROM pillars.schedules
WHERE enabled
  AND next_fire_at >= to_timestamp(%(since)s::float8)
  AND next_fire_at <= coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lookahead)s)
  AND (ahead OR next_fire_at <= coalesce(%(now)s::timestamptz, now()))
  AND get_bit(%(slots)s::bytea, slot) = 1
  AND id <> ALL(%(except)s::bigint[])

-- name: soonest_first
-- The end of a look for what is due.
ORDER BY next_fire_at LIMIT %(limit)s

-- name: latest_first
-- The same from the other end.
ORDER BY next_fire_at DESC LIMIT %(limit)s

-- name: not_held
-- Which of some schedules nobody holds at this moment; waits for nobody.
-- index: schedules_pkey
SELECT id FROM pillars.schedules WHERE id = ANY(%(ids)s::bigint[])
FOR NO KEY UPDATE SKIP LOCKED

-- name: overdue
-- Schedules of any slot that their owner should long have fired; those being fired now are skipped.
-- index: schedules_due
SELECT id, version, extract(epoch FROM next_fire_at)::bigint, timing, catchup, catchup_window,
    catchup_limit, ahead, jitter, CASE WHEN jitter > 0 THEN name END, overlap = 'cancel_other',
    extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8
FROM pillars.schedules
WHERE enabled
  AND next_fire_at <= coalesce(%(now)s::timestamptz, now())
                      + make_interval(secs => greatest(%(ahead_by)s, 0::float8))
  AND next_fire_at <= coalesce(%(now)s::timestamptz, now())
                      + make_interval(secs => CASE WHEN ahead THEN %(ahead_by)s ELSE -%(late_by)s END)
  AND id <> ALL(%(except)s::bigint[])
ORDER BY next_fire_at LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: upcoming
-- Seconds until one of our schedules comes within the horizon, NULL if none does within `window`; and
-- the time.
-- index: schedules_due
SELECT extract(epoch FROM least(
    (SELECT next_fire_at FROM pillars.schedules
     WHERE enabled AND NOT ahead
       AND next_fire_at > coalesce(%(now)s::timestamptz, now())
       AND next_fire_at <= coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(window)s)
       AND get_bit(%(slots)s::bytea, slot) = 1
     ORDER BY next_fire_at LIMIT 1),
    (SELECT next_fire_at FROM pillars.schedules
     WHERE enabled AND ahead
       AND next_fire_at > coalesce(%(now)s::timestamptz, now()) + make_interval(secs => %(lookahead)s)
       AND next_fire_at <= coalesce(%(now)s::timestamptz, now())
                           + make_interval(secs => %(lookahead)s + %(window)s)
       AND get_bit(%(slots)s::bytea, slot) = 1
     ORDER BY next_fire_at LIMIT 1) - make_interval(secs => %(lookahead)s)
) - coalesce(%(now)s::timestamptz, clock_timestamp()))::float8,
    extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8

-- name: move_cursors
-- The first half of the fire statement: compare-and-swap the version, move the cursor. Whoever
-- planned from an older version changes no row. The queue's insert_ticks is the second half. Nearly
-- all schedules have one tick to be enqueued, their last one: `plain` says so; other ticks come in
-- arrays of their own.
-- index: schedules_pkey
WITH moved AS (
    UPDATE pillars.schedules AS schedules
    SET version = schedules.version + 1,
        next_fire_at = to_timestamp(plan.next_fire_at),
        last_fire_at = to_timestamp(plan.last_fire_at)
    FROM unnest(
        %(ids)s::bigint[], %(versions)s::integer[], %(next)s::bigint[], %(last)s::bigint[],
        %(plain)s::integer[]
    ) AS plan (id, version, next_fire_at, last_fire_at, plain),
    LATERAL (
        -- LIMIT 1 makes it a look-up by key: joined by id, the planner scans the whole table.
        SELECT ctid AS row FROM pillars.schedules
        WHERE id = plan.id AND version = plan.version AND enabled LIMIT 1
    ) AS held
    WHERE schedules.ctid = held.row
      AND schedules.version = plan.version AND schedules.enabled
    RETURNING schedules.id, schedules.slot, schedules.priority, schedules.job, schedules.queue,
        schedules.args, schedules.timeout, schedules.retry, schedules.name, schedules.overlap,
        schedules.last_fire_at AS fire_at, plan.plain
), ticks AS (
    SELECT moved.id AS schedule_id, coalesce(to_timestamp(other.fire_at), moved.fire_at) AS fire_at,
        coalesce(to_timestamp(other.run_at), moved.fire_at) AS run_at, moved.timeout, moved.slot,
        moved.priority, (moved.retry ->> 'max_attempts')::smallint AS max_attempts,
        moved.job AS type, moved.queue, moved.args, moved.name AS schedule, moved.retry,
        moved.overlap, coalesce(other.state, 'available') AS state,
        other.reason, other.ticks, to_timestamp(other.fire_until) AS fire_until
    FROM moved LEFT JOIN unnest(
        %(tick_ids)s::bigint[], %(fire_at)s::float8[], %(run_at)s::float8[], %(states)s::text[],
        %(reasons)s::text[], %(ticks)s::integer[], %(fire_until)s::float8[]
    ) AS other (id, fire_at, run_at, state, reason, ticks, fire_until) ON other.id = moved.id
    WHERE moved.plain = 1 OR other.id IS NOT NULL
)

-- name: count_fired
-- The end of the fire statement: how many schedules moved (and which, if not all), what was written:
-- counts, or each tick where they are few (`each`).
SELECT 'moved', NULL::text, count(*),
    CASE WHEN count(*) < %(planned)s THEN coalesce(array_agg(id), '{}') END,
    NULL::text, NULL::timestamptz, NULL::bigint, NULL::text
FROM moved
UNION ALL
SELECT state::text, queue, count(*), NULL, NULL, NULL, NULL, NULL
FROM inserted WHERE NOT %(each)s::boolean GROUP BY state, queue
UNION ALL
SELECT state::text, queue, 1, NULL, schedule, fire_at, id, reason
FROM inserted WHERE %(each)s::boolean

-- name: now
-- The database's clock in epoch seconds.
SELECT extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8

-- name: instant
-- The instant of a change, once it holds its rows.
SELECT coalesce(%(now)s::timestamptz, clock_timestamp())

-- name: lock_schedules
-- Changes of definitions happen one after another.
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: try_lock_schedules
-- The same for those who do not wait.
SELECT pg_try_advisory_xact_lock(%(lock)s)

-- name: current_set
-- The set of schedule files in force, and for how many seconds it has been.
SELECT sequence, digest, texts, revision, extract(epoch FROM now() - applied_at)::float8
FROM pillars.schedule_sets ORDER BY sequence DESC LIMIT 1

-- name: sources_in_force
-- Whether there are schedules of files, and whether there are schedules in code.
SELECT EXISTS (SELECT FROM pillars.schedules WHERE source = 'file'),
    EXISTS (SELECT FROM pillars.schedules WHERE source = 'code')

-- name: was_in_force
-- Whether a set of schedule files was in force before.
SELECT EXISTS (SELECT FROM pillars.schedule_sets WHERE digest = %(digest)s)

-- name: set_on_record
-- The place of a set of schedule files among those that came into force, the last one; and that of
-- the oldest one on record. 0 if there is none.
SELECT coalesce(max(sequence) FILTER (WHERE digest = %(digest)s), 0), coalesce(min(sequence), 0)
FROM pillars.schedule_sets

-- name: add_set
-- Record that a set of schedule files came into force; the oldest records are deleted.
WITH added AS (
    INSERT INTO pillars.schedule_sets (digest, texts, revision, schedules, applied_by)
    VALUES (%(digest)s, %(texts)s, %(revision)s, %(schedules)s, %(applied_by)s)
    RETURNING sequence
), forgotten AS (
    DELETE FROM pillars.schedule_sets WHERE sequence <= (SELECT sequence FROM added) - 10000
)
SELECT sequence FROM added

-- name: known_schedules
-- What a set of definitions is compared with, by name.
-- index: schedules_name_key
SELECT name, id, fingerprint, source, origin FROM pillars.schedules
WHERE name = ANY(%(names)s::text[])

-- name: allow_pauses
-- Let the client compute for up to a minute in this transaction: collecting the garbage of a million
-- schedules, on a busy machine, can take longer than a transaction may be idle.
SELECT set_config('idle_in_transaction_session_timeout', '60000', true)

-- name: names_of_sources
-- The names that came from some sources, in order of id, a page at a time.
-- index: schedules_pkey
SELECT id, name FROM pillars.schedules
WHERE id > %(after)s AND source = ANY(%(sources)s::text[])
ORDER BY id LIMIT %(limit)s

-- name: hold_schedules
-- Rows that are about to change, held; in order of id, as a fire locks them.
-- index: schedules_pkey
SELECT name, id, timing, enabled, paused_at, slot, job, queue,
    extract(epoch FROM next_fire_at)::bigint
FROM pillars.schedules WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR UPDATE

-- name: put_schedules
-- Insert or replace definitions from a JSON array; the cursor is set by the caller.
INSERT INTO pillars.schedules (
    name, slot, priority, jitter, enabled, ahead, next_fire_at, timing, job, queue, args, catchup,
    catchup_window, catchup_limit, overlap, timeout, retry, source, origin, definition, fingerprint
)
SELECT name, slot, priority, jitter, enabled, ahead, to_timestamp(next_fire_at), timing, job, queue,
    args, catchup, catchup_window, catchup_limit, overlap, timeout, retry, source, origin,
    definition, fingerprint
FROM jsonb_to_recordset(%(rows)s::jsonb) AS new (
    name text, slot smallint, priority smallint, jitter integer, enabled boolean, ahead boolean,
    next_fire_at float8, timing text, job text, queue text, args jsonb, catchup text,
    catchup_window integer, catchup_limit integer, overlap text, timeout real, retry jsonb,
    source text, origin text, definition jsonb, fingerprint text
)
ON CONFLICT (name) DO UPDATE SET
    version = schedules.version + 1, slot = EXCLUDED.slot, priority = EXCLUDED.priority,
    jitter = EXCLUDED.jitter, enabled = EXCLUDED.enabled AND schedules.paused_at IS NULL,
    ahead = EXCLUDED.ahead, next_fire_at = EXCLUDED.next_fire_at,
    last_fire_at = CASE WHEN schedules.last_fire_at > %(now)s THEN %(now)s
                        ELSE schedules.last_fire_at END,
    timing = EXCLUDED.timing,
    job = EXCLUDED.job, queue = EXCLUDED.queue, args = EXCLUDED.args, catchup = EXCLUDED.catchup,
    catchup_window = EXCLUDED.catchup_window, catchup_limit = EXCLUDED.catchup_limit,
    overlap = EXCLUDED.overlap, timeout = EXCLUDED.timeout, retry = EXCLUDED.retry,
    source = EXCLUDED.source, origin = EXCLUDED.origin, definition = EXCLUDED.definition,
    fingerprint = EXCLUDED.fingerprint, updated_at = now()

-- name: move_on
-- Set cursors that were passed before their rows were committed.
-- index: schedules_name_key
UPDATE pillars.schedules SET next_fire_at = to_timestamp(passed.next)
FROM unnest(%(names)s::text[], %(next)s::bigint[]) AS passed (name, next)
WHERE schedules.name = passed.name

-- name: move_origins
-- Note where unchanged definitions are written now.
-- index: schedules_name_key
UPDATE pillars.schedules SET source = new.source, origin = new.origin
FROM unnest(%(names)s::text[], %(sources)s::text[], %(origins)s::text[])
    AS new (name, source, origin)
WHERE schedules.name = new.name

-- name: remove_schedules
-- Delete definitions; which id the name had is kept for those who ask what became of its ticks.
WITH removed AS (
    DELETE FROM pillars.schedules WHERE id = ANY(%(ids)s::bigint[]) RETURNING name, id
)
INSERT INTO pillars.removed_schedules (name, id) SELECT name, id FROM removed

-- name: forget_removed
-- Delete the notes of schedules that were removed long ago; few at a time of a small table.
DELETE FROM pillars.removed_schedules
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pillars.removed_schedules
    WHERE removed_at < now() - make_interval(days => %(days)s) LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND removed_at < now() - make_interval(days => %(days)s)

-- name: ids_of
-- The ids that schedules of this name have and had, the latest first.
SELECT id FROM pillars.schedules WHERE name = %(name)s
UNION ALL
SELECT id FROM pillars.removed_schedules WHERE name = %(name)s
ORDER BY id DESC LIMIT %(limit)s

-- name: set_cursor
-- Whether a schedule is paused, and where it goes on.
UPDATE pillars.schedules
SET version = version + 1,
    enabled = NOT %(paused)s AND (definition ->> 'enabled')::boolean IS NOT FALSE,
    next_fire_at = to_timestamp(%(next)s::float8),
    paused_at = CASE WHEN %(paused)s THEN coalesce(paused_at, %(now)s::timestamptz) END,
    last_fire_at = CASE WHEN last_fire_at > %(now)s THEN %(now)s ELSE last_fire_at END,
    updated_at = now()
WHERE id = %(id)s

-- name: tick_by_hand
-- A part of the statement that fires a schedule by hand: its tick. Instants of whole seconds belong
-- to the schedule's timing; this one lies some microseconds after a whole millisecond, just past.
WITH ticks AS (
    SELECT id AS schedule_id, run_at AS fire_at, run_at, timeout, slot, priority,
        (retry ->> 'max_attempts')::smallint AS max_attempts, job AS type, queue, args,
        name AS schedule, retry, CASE WHEN %(force)s THEN 'allow' ELSE overlap END AS overlap,
        'available' AS state, 'fired by hand' AS reason, NULL::integer AS ticks,
        NULL::timestamptz AS fire_until
    FROM pillars.schedules, LATERAL (
        SELECT date_trunc('milliseconds', coalesce(%(now)s::timestamptz, clock_timestamp()))
            - interval '1 millisecond' + %(microseconds)s * interval '1 microsecond' AS run_at
    ) AS instant
    WHERE id = %(id)s
)

-- name: tell_by_hand
-- The end of that statement: what was written. Wakes the workers.
SELECT id, state::text, reason, fire_at, queue,
    CASE WHEN state = 'available' THEN pg_notify(%(channel)s, '')::text END
FROM inserted

-- name: ticks_of_backfill
-- A part of the backfill statement: ticks of a schedule, behind whatever is live.
WITH ticks AS (
    SELECT id AS schedule_id, to_timestamp(tick.fire_at) AS fire_at,
        to_timestamp(tick.run_at) AS run_at, timeout, slot,
        least(priority + %(behind)s, 32767)::smallint AS priority,
        (retry ->> 'max_attempts')::smallint AS max_attempts, job AS type, queue, args,
        name AS schedule, retry, overlap, 'backfilled' AS reason
    FROM pillars.schedules, unnest(%(fire_at)s::float8[], %(run_at)s::float8[])
        AS tick (fire_at, run_at)
    WHERE id = %(id)s
)

-- name: count_backfilled
-- The end of that statement: how many jobs there are to do. Wakes the workers.
SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify(%(channel)s, '')::text END FROM inserted

-- name: list_schedules
-- Schedules by name, a page at a time.
SELECT id, name, slot, enabled, paused_at, timing, job, queue, next_fire_at, last_fire_at, source,
    origin, definition, updated_at
FROM pillars.schedules
WHERE (%(after)s::text IS NULL OR name > %(after)s)
  AND (%(source)s::text IS NULL OR source = %(source)s)
  AND (%(enabled)s::boolean IS NULL OR enabled = %(enabled)s)
ORDER BY name LIMIT %(limit)s

-- name: soonest_schedules
-- The schedules that fire next.
-- index: schedules_due
SELECT id, name, slot, enabled, paused_at, timing, job, queue, next_fire_at, last_fire_at, source,
    origin, definition, updated_at
FROM pillars.schedules
WHERE enabled AND next_fire_at IS NOT NULL
  AND (%(source)s::text IS NULL OR source = %(source)s)
ORDER BY next_fire_at, slot LIMIT %(limit)s

-- name: show_schedule
-- One schedule by name.
SELECT id, name, slot, enabled, paused_at, timing, job, queue, next_fire_at, last_fire_at, source,
    origin, definition, updated_at
FROM pillars.schedules WHERE name = %(name)s

-- name: neighbours
-- The names before and after one that is not there: among them may be what was meant.
-- index: schedules_name_key
(SELECT name FROM pillars.schedules WHERE name > %(name)s ORDER BY name LIMIT 50)
UNION ALL
(SELECT name FROM pillars.schedules WHERE name < %(name)s ORDER BY name DESC LIMIT 50)

-- name: count_owned
-- How many enabled schedules lie in our slots.
SELECT count(*) FROM pillars.schedules
WHERE enabled AND get_bit(%(slots)s::bytea, slot) = 1

-- name: schedules_named
-- Some schedules by their names.
SELECT id, name, slot, enabled, paused_at, timing, job, queue, next_fire_at, last_fire_at, source,
    origin, definition, updated_at
FROM pillars.schedules WHERE name = ANY(%(names)s::text[])

-- name: timings_in_force
-- When schedules fire that are neither paused, disabled nor done; by name, a page at a time.
SELECT name, timing, jitter FROM pillars.schedules
WHERE enabled AND next_fire_at IS NOT NULL AND (%(after)s::text IS NULL OR name > %(after)s)
ORDER BY name LIMIT %(limit)s

-- name: add_many
-- Insert new schedules that are, save for name and slot, like the patterns of a JSON array.
INSERT INTO pillars.schedules (
    name, slot, priority, jitter, enabled, ahead, next_fire_at, timing, job, queue, args, catchup,
    catchup_window, catchup_limit, overlap, timeout, retry, source, origin, definition, fingerprint
)
SELECT new.name, new.slot, priority, jitter, enabled, ahead, to_timestamp(next_fire_at), timing, job,
    queue, args, catchup, catchup_window, catchup_limit, overlap, timeout, retry, source, origin,
    definition || jsonb_build_object('name', new.name), fingerprint
FROM unnest(%(names)s::text[], %(slots)s::smallint[], %(like)s::integer[])
    WITH ORDINALITY AS new (name, slot, number, position)
JOIN jsonb_to_recordset(%(patterns)s::jsonb) AS pattern (
    number integer, priority smallint, jitter integer, enabled boolean, ahead boolean,
    next_fire_at float8, timing text, job text, queue text, args jsonb, catchup text,
    catchup_window integer, catchup_limit integer, overlap text, timeout real, retry jsonb,
    source text, origin text, definition jsonb, fingerprint text
) USING (number)
ORDER BY position

-- name: aimed_before
-- Schedules of a queue whose cursor stands at an instant or before it.
-- index: schedules_due
SELECT id, timing FROM pillars.schedules
WHERE enabled AND next_fire_at <= %(at)s::timestamptz AND queue = %(queue)s
ORDER BY next_fire_at LIMIT %(limit)s

-- name: aim
-- Set cursors.
-- index: schedules_pkey
UPDATE pillars.schedules SET version = version + 1, next_fire_at = to_timestamp(plan.next_fire_at)
FROM unnest(%(ids)s::bigint[], %(next)s::bigint[]) AS plan (id, next_fire_at)
WHERE schedules.id = plan.id

-- name: remove_many
-- Delete some schedules of a queue.
DELETE FROM pillars.schedules WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pillars.schedules WHERE queue = %(queue)s LIMIT %(limit)s
)) AND queue = %(queue)s
RETURNING id
