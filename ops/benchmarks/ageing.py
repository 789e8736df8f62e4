"""A queue that has lived: finished jobs kept, future ones waiting, somebody's long transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from ops.benchmarks.bench import Figure, Ground, bare
from ops.benchmarks.working import work_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillars.db.database import Database

# For each job of the benchmark's size: 5,000,000 and 1,000,000 for the default of 50,000.
_FINISHED, _FUTURE = 100, 20
_ADD_FINISHED = """
INSERT INTO pillars.jobs (type, args, run_at, created_at, started_at, finished_at, state, attempt)
SELECT 'noop', '{"n": 1}', at, at, at, at, 'succeeded', 1
FROM generate_series(1, %s) AS n,
    LATERAL (SELECT now() - make_interval(secs => n / 100.0) AS at) AS past
"""
_ADD_FUTURE = """
INSERT INTO pillars.jobs (type, args, run_at)
SELECT 'noop', '{"n": 1}', now() + interval '1 day' + make_interval(secs => n)
FROM generate_series(1, %s) AS n
"""


async def ageing(ground: Ground) -> list[Figure]:
    """One worker process each time; the reference is the same worker on a fresh table."""
    finished, future = ground.size * _FINISHED, ground.size * _FUTURE
    lived = Figure(f"after {finished:,} finished and {future:,} future jobs", "jobs/s")
    pinned = Figure("the same, and a transaction held open all the time", "jobs/s")
    for number in range(ground.rounds):
        ground.tell(f"ageing, round {number + 1}: a fresh table")
        async with ground.database() as database:
            fresh, _ = await work_off(database, ground.size, 1)
        ground.tell(f"ageing, round {number + 1}: {finished + future:,} jobs of history")
        async with ground.database() as database:
            with bare(database) as connection:
                connection.execute(_ADD_FINISHED, (finished,))
                connection.execute(_ADD_FUTURE, (future,))
                connection.execute("VACUUM ANALYZE pillars.jobs")
            lived.ours.append((await work_off(database, ground.size, 1))[0])
            with _open_transaction(database):
                # Twice: what the first leaves behind lies in the way of the second.
                await work_off(database, ground.size, 1)
                pinned.ours.append((await work_off(database, ground.size, 1))[0])
        lived.bare.append(fresh)
        pinned.bare.append(fresh)
    return [lived, pinned]


@contextmanager
def _open_transaction(database: Database) -> Iterator[None]:
    with psycopg.connect(database.dsn.reveal()) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT FROM pillars.jobs LIMIT 1")
        yield
