"""Cron: firing a herd, looking when nothing is due, and dealing out the ring."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from ops.benchmarks.bench import Figure, Ground, bare
from pillars.cluster.ring import SLOTS, RingMember, assign
from pillars.cron.definition import parse_schedule
from pillars.cron.firing import BATCH
from pillars.cron.ticker import OwnTicker
from pillars.ground.clock import SystemClock
from pillars.ground.events import TicksFired

if TYPE_CHECKING:
    from pillars.db.database import Database
    from pillars.ground.events import Event

_ALL_SLOTS = b"\xff" * (SLOTS // 8)
_FILL = """
INSERT INTO pillars.schedules (name, slot, next_fire_at, timing, job, args, definition, fingerprint)
SELECT 's' || n, hashtext('s' || n) & 4095, date_trunc('minute', now()) + interval '1 minute', %s,
    'noop', '{"n": 1}', '{}', 'x'
FROM generate_series(1, %s) AS n
"""
_POLL = """
SELECT id, version FROM pillars.schedules
WHERE enabled AND next_fire_at <= now() + interval '61 s' ORDER BY next_fire_at LIMIT %s
"""
# Compare-and-swap and insert, and nothing else: no overlap, no answer to who won.
_FIRE = """
WITH moved AS (
    UPDATE pillars.schedules AS schedules
    SET version = schedules.version + 1, last_fire_at = next_fire_at,
        next_fire_at = next_fire_at + interval '1 minute'
    FROM unnest(%s::bigint[], %s::integer[]) AS plan (id, version)
    WHERE schedules.id = plan.id AND schedules.version = plan.version
    RETURNING schedules.*
)
INSERT INTO pillars.jobs (schedule_id, fire_at, run_at, slot, type, queue, args, schedule)
SELECT id, last_fire_at, last_fire_at, slot, job, queue, args, name FROM moved
"""


async def firing(ground: Ground) -> list[Figure]:
    """One cron's ticker; bare is the same table work with the plan already made."""
    fires = Figure("fire a herd", "fires/s", goal=">= 0.8 of bare compare-and-swap and insert")
    cpu = Figure("fire a herd, CPU of the cron", "us/fire")
    poll = Figure(
        f"pass with nothing due, {ground.size:,} schedules", "ms", goal="<= 0.1 ms a poll"
    )
    for number in range(ground.rounds):
        ground.tell(f"fire, round {number + 1}")
        async with ground.database() as database:
            fires.bare.append(_bare(database, ground.size))
        async with ground.database() as database:
            rate, seconds, pause = await _ours(database, ground.size)
        fires.ours.append(rate)
        cpu.ours.append(1e6 * seconds / ground.size)
        poll.ours.append(1e3 * pause)
    return [fires, cpu, poll]


async def dealing(ground: Ground) -> list[Figure]:
    """The map of the ring when one more member joins 64."""
    figure = Figure("assign 4,096 slots when a 65th member joins", "ms", goal="< 100 ms")
    members = [RingMember(UUID(int=n), f"cron-{n}") for n in range(65)]
    before = assign([None] * SLOTS, members[:64])
    for _ in range(ground.rounds):
        began = time.perf_counter()
        assign(before, members)
        figure.ours.append(1e3 * (time.perf_counter() - began))
    return [figure]


def _fill(database: Database, size: int) -> None:
    timing = parse_schedule({"name": "s", "job": "noop", "cron": "* * * * *"}).timing.encode()
    with bare(database) as connection:
        connection.execute(_FILL, (timing, size))
        connection.execute("VACUUM ANALYZE pillars.schedules")


def _bare(database: Database, size: int) -> float:
    _fill(database, size)
    began = time.perf_counter()
    with bare(database) as connection:
        connection.execute("SET enable_seqscan = off")
        while rows := connection.execute(_POLL, (BATCH,)).fetchall():
            connection.execute(_FIRE, ([row[0] for row in rows], [row[1] for row in rows]))
    return size / (time.perf_counter() - began)


async def _ours(database: Database, size: int) -> tuple[float, float, float]:
    """Return fires a second, CPU seconds, and seconds of a pass with nothing due."""
    _fill(database, size)
    fired = 0

    def count(event: Event) -> None:
        nonlocal fired
        if isinstance(event, TicksFired):
            fired += sum(event.outcomes.values())

    ticker = OwnTicker(
        database.link("ticker"),
        slots=lambda: _ALL_SLOTS,
        progressed=lambda: None,
        lookahead=61.0,
        emit=count,
        clock=SystemClock(),
    )
    began, cpu = time.perf_counter(), time.process_time()
    while fired < size:
        await ticker.step()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    for _ in range(100):
        await ticker.step()
    return size / seconds, cpu, (time.perf_counter() - began) / 100
