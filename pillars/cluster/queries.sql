-- name: join
-- Enter the members as joining.
INSERT INTO pillars.members (
    id, role, name, state, pid, url, app_version, queues,
    schedules_digest, started_at, heartbeat_at, streak_at, progress_at
)
SELECT %(id)s, %(role)s, %(name)s, 'joining', %(pid)s, %(url)s, %(app_version)s,
    nullif(%(queues)s::text[], '{}'), %(schedules_digest)s, clock.now, clock.now, clock.now, clock.now
FROM (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS clock

-- name: set_state
-- Move a member through its life; no row means it was expelled.
UPDATE pillars.members SET state = %(state)s WHERE id = %(id)s RETURNING id

-- name: remove
-- Take a member off the list.
DELETE FROM pillars.members WHERE id = %(id)s

-- name: heartbeat
-- A sign of life. A gap of half a lease ends the streak that gives the right to expel others.
UPDATE pillars.members
SET heartbeat_at = clock.now,
    streak_at = CASE WHEN heartbeat_at < clock.now - make_interval(secs => %(lease)s / 2.0)
                     THEN clock.now ELSE streak_at END,
    progress_at = clock.now - make_interval(secs => %(progress_age)s::float8),
    seen_ring_version = %(ring_version)s,
    schedules_digest = %(schedules_digest)s
FROM (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS clock
WHERE id = %(id)s
RETURNING (SELECT version FROM pillars.ring), (SELECT changed_at FROM pillars.ring),
    extract(epoch FROM clock_timestamp())::float8,
    EXISTS (
        SELECT FROM pillars.members AS other
        WHERE other.id <> %(id)s
          AND other.heartbeat_at < clock.now - make_interval(secs => %(lease)s)
           OR other.id <> %(id)s AND other.progress_at < clock.now - make_interval(
              secs => %(lease)s * CASE other.role WHEN 'cron' THEN %(cron_patience)s
                                                  ELSE %(patience)s END)
    )

-- name: expel
-- Remove members without a sign of life or of progress, if our own heartbeats give us the right.
DELETE FROM pillars.members AS other
USING pillars.members AS me, (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS clock
WHERE me.id = %(id)s AND other.id <> me.id
  AND me.streak_at <= clock.now - make_interval(secs => %(lease)s)
  AND me.heartbeat_at > clock.now - make_interval(secs => %(lease)s / 2.0)
  AND (other.heartbeat_at < clock.now - make_interval(secs => %(lease)s)
       OR other.progress_at < clock.now - make_interval(
           secs => %(lease)s * CASE other.role WHEN 'cron' THEN %(cron_patience)s
                                               ELSE %(patience)s END))
RETURNING other.id, other.role, other.name,
    extract(epoch FROM clock.now - other.heartbeat_at)::float8,
    extract(epoch FROM clock.now - other.progress_at)::float8

-- name: lock_ring
-- Every change of membership holds this row: changes happen one after another.
SELECT version, map FROM pillars.ring FOR UPDATE

-- name: ring
-- The ring as it stands.
SELECT version, changed_at, map FROM pillars.ring

-- name: ring_members
-- Who takes part in the ring.
SELECT id, name FROM pillars.members WHERE role = 'cron' AND state = 'active'

-- name: move_ring
-- Put a new map into force, log it and announce it.
WITH changed AS (
    UPDATE pillars.ring
    SET version = version + 1, map = %(map)s::uuid[], changed_at = clock_timestamp()
    RETURNING version
), logged AS (
    INSERT INTO pillars.ring_log (version, reason, member_id, member_name, moved, members)
    SELECT version, %(reason)s, %(member_id)s, %(member_name)s, %(moved)s, %(members)s FROM changed
    RETURNING version
), forgotten AS (
    DELETE FROM pillars.ring_log WHERE version <= (SELECT version FROM changed) - 10000
)
SELECT version, pg_notify(%(channel)s, version::text) FROM logged

-- name: not_yet_seen
-- How many active crons have not taken over this version of the ring.
SELECT count(*) FROM pillars.members
WHERE role = 'cron' AND state = 'active' AND seen_ring_version < %(version)s

-- name: list_members
-- Members for people, with the slots and the schedules each one owns.
WITH owned AS (
    SELECT owner, count(*) AS slots, sum(coalesce(here.schedules, 0))::bigint AS schedules
    FROM pillars.ring
    CROSS JOIN unnest(map) WITH ORDINALITY AS place (owner, position)
    LEFT JOIN (SELECT slot, count(*) AS schedules FROM pillars.schedules GROUP BY slot) AS here
        ON here.slot = place.position - 1
    GROUP BY owner
)
SELECT members.id, role, name, state, pid, url, app_version, started_at,
    extract(epoch FROM now() - heartbeat_at)::float8,
    extract(epoch FROM now() - progress_at)::float8,
    coalesce(owned.slots, 0), coalesce(owned.schedules, 0), schedules_digest
FROM pillars.members LEFT JOIN owned ON owned.owner = members.id
ORDER BY role, name, started_at, members.id

-- name: ring_state
-- The ring's version and number of slots.
SELECT version, slots FROM pillars.ring

-- name: ring_log
-- The latest changes of the ring, newest first.
SELECT version, reason, member_name, moved, members, changed_at
FROM pillars.ring_log ORDER BY version DESC LIMIT %(limit)s

-- name: holders
-- Crons that hold a set of schedule files. However old their heartbeats are: after an outage those of
-- all are, and whoever is really gone is expelled.
SELECT count(*) FROM pillars.members
WHERE role = 'cron' AND schedules_digest = %(digest)s AND id IS DISTINCT FROM %(id)s::uuid

-- name: hold_set
-- Note which set of schedule files a member holds.
UPDATE pillars.members SET schedules_digest = %(digest)s WHERE id = %(id)s
