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

# For each job of the benchmark's size: with 50,000 up to 5,000,000 finished, beside 1,000,000.
_FINISHED, _FUTURE = (20, 50, 100), 20
# How often, while a transaction is held open, so many jobs are done.
_PINNED = 4
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
    """One worker process each time; the reference is the same on an empty table, just before."""
    figures = []
    async with ground.database() as lived, ground.database() as empty:

        async def measure(name: str, rounds: int) -> None:
            figure = Figure(name, "jobs/s")
            for number in range(rounds):
                ground.tell(f"{name}, round {number + 1}")
                with bare(empty) as connection:
                    connection.execute("TRUNCATE pillars.jobs")
                figure.bare.append((await work_off(empty, ground.size, 1))[0])
                figure.ours.append((await work_off(lived, ground.size, 1))[0])
            figures.append(figure)

        future, finished = ground.size * _FUTURE, 0
        _add(lived, _ADD_FUTURE, future)
        await measure(f"beside {future:,} future jobs", ground.rounds)
        for share in _FINISHED:
            ground.tell(f"adding history, up to {ground.size * share:,} jobs")
            _add(lived, _ADD_FINISHED, ground.size * share - finished)
            finished = ground.size * share
            await measure(f"and after {finished:,} finished ones", ground.rounds)
        with _open_transaction(lived):
            for number in range(_PINNED):
                done = ground.size * (number + 1)
                await measure(f"and a transaction held open, {done:,} jobs later", 1)
    return figures


def _add(database: Database, statement: str, count: int) -> None:
    with bare(database) as connection:
        connection.execute(statement, (count,))
        connection.execute("VACUUM ANALYZE pillars.jobs")
        connection.execute("CHECKPOINT")


@contextmanager
def _open_transaction(database: Database) -> Iterator[None]:
    with psycopg.connect(database.dsn.reveal()) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT FROM pillars.jobs LIMIT 1")
        yield
