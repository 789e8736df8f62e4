"""Cron: firing a herd, looking when nothing is due, and a table of schedules that has lived."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ops.benchmarks.bench import Figure, Ground, bare
from ops.benchmarks.herd import FIRE, POLL, Cron, fill
from pillars.cron.firing import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillars.db.database import Database

_PASSES = 200
# A day of hours of minutes, in parts that are compared: the first hour with the last one.
_HOURS, _MINUTES = 10, 60
_BYTES = """
SELECT pg_table_size('pillars.schedules'), pg_relation_size('pillars.schedules_due'),
    pg_relation_size('pillars.schedules_pkey')
"""


async def firing(ground: Ground) -> list[Figure]:
    """One cron's ticker; bare is the same table work with the plan already made."""
    fires = Figure("fire a herd", "fires/s", goal=">= 0.8 of bare compare-and-swap and insert")
    cpu = Figure("fire a herd, CPU of the cron", "us/fire")
    pause = Figure(f"pass with nothing due, {ground.size:,} schedules", "ms")
    for number in range(ground.rounds):
        ground.tell(f"fire, round {number + 1}")
        async with ground.database() as database:
            fires.bare.append(_bare(database, ground.size))
        async with ground.database() as database:
            fill(database, ground.size)
            cron = Cron(database)
            began, used = time.perf_counter(), time.process_time()
            await cron.fire(ground.size)
            fires.ours.append(ground.size / (time.perf_counter() - began))
            cpu.ours.append(1e6 * (time.process_time() - used) / ground.size)
            pause.ours.append(await _pause(cron))
    return [fires, cpu, pause]


async def lived(ground: Ground) -> list[Figure]:
    """Ten hours of a fire a minute each, as fast as it goes; the reference is the first hour.

    Jobs are taken away hour by hour, as workers and pruning do: what is looked at here is the table
    of schedules. Vacuum gets minutes where it would have hours.
    """
    size = ground.size // 5
    pace = Figure(f"fires/s in hour {_HOURS} of {size:,} schedules", "fires/s", goal=">= 0.8")
    pause = Figure("pass with nothing due, after them", "ms", goal="<= 1.2")
    names = ("table", "index of what is due", "primary key")
    bloat = [Figure(f"bytes of the schedules' {name}", "MB") for name in names]
    for number in range(ground.rounds):
        async with ground.database() as database:
            fill(database, size)
            cron = Cron(database)
            start = datetime.now(UTC).replace(second=0, microsecond=0)
            rates, pauses, sizes = [], [], [_sizes(database)]
            for hour in range(_HOURS):
                ground.tell(f"ten hours, round {number + 1}: hour {hour + 1}")
                rates.append(await _hour(cron, start + timedelta(hours=hour), size))
                pauses.append(await _pause(cron))
                sizes.append(_sizes(database))
                with bare(database) as connection:
                    connection.execute("TRUNCATE pillars.jobs")
        pace.ours.append(rates[-1])
        pace.bare.append(rates[0])
        pause.ours.append(pauses[-1])
        pause.bare.append(pauses[0])
        for figure, first, last in zip(bloat, sizes[1], sizes[-1], strict=True):
            figure.ours.append(last / 1e6)
            figure.bare.append(first / 1e6)
    return [pace, pause, *bloat]


async def _hour(cron: Cron, start: datetime, size: int) -> float:
    began = time.perf_counter()
    for minute in range(_MINUTES):
        cron.clock.now = start + timedelta(minutes=minute)
        await cron.fire(size)
    return size * _MINUTES / (time.perf_counter() - began)


async def _pause(cron: Cron) -> float:
    await cron.step()
    began = time.perf_counter()
    for _ in range(_PASSES):
        await cron.step()
    return 1e3 * (time.perf_counter() - began) / _PASSES


def _sizes(database: Database) -> Sequence[int]:
    with bare(database) as connection:
        return connection.execute(_BYTES).fetchone() or ()


def _bare(database: Database, size: int) -> float:
    fill(database, size)
    began = time.perf_counter()
    with bare(database) as connection:
        connection.execute("SET enable_seqscan = off")
        while rows := connection.execute(POLL, (BATCH,)).fetchall():
            connection.execute(FIRE, ([row[0] for row in rows], [row[1] for row in rows]))
    return size / (time.perf_counter() - began)
