"""Enqueue: many at once, and one at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ops.benchmarks.bench import Figure, Ground, bare
from pillars import App, NewJob
from pillars.ground.events import nobody

if TYPE_CHECKING:
    from pillars.db.database import Database

_BATCH = 5_000
# The same table, the same columns filled: what the insert costs when nobody wraps it.
_UNNEST = """
INSERT INTO pillars.jobs (type, args, queue, priority)
SELECT * FROM unnest(%s::text[], %s::jsonb[], %s::text[], %s::smallint[])
"""
_ONE = "INSERT INTO pillars.jobs (type, args, queue) VALUES (%s, %s, %s) RETURNING id"


async def enqueueing(ground: Ground) -> list[Figure]:
    """Ours are `app.enqueue_many` and `app.enqueue` on its own connection, workers notified."""
    many = Figure("enqueue in bulk", "jobs/s", goal=">= 0.9 of bare unnest")
    single = Figure("enqueue one by one", "jobs/s", goal=">= 0.85 of bare insert and commit")
    async with ground.database() as database:
        app = App()
        app.bind(database, nobody)
        for number in range(ground.rounds):
            ground.tell(f"enqueue, round {number + 1}")
            many.bare.append(_bare_many(database, ground.size))
            many.ours.append(await _many(app, ground.size))
            single.bare.append(_bare_single(database, ground.size // 25))
            single.ours.append(await _single(app, ground.size // 25))
            with bare(database) as connection:
                connection.execute("TRUNCATE pillars.jobs")
    return [many, single]


def _bare_many(database: Database, size: int) -> float:
    began = time.perf_counter()
    with bare(database) as connection:
        for _ in range(size // _BATCH):
            columns = (
                ["noop"] * _BATCH,
                ['{"n": 1}'] * _BATCH,
                ["default"] * _BATCH,
                [0] * _BATCH,
            )
            connection.execute(_UNNEST, columns)
    return size / (time.perf_counter() - began)


async def _many(app: App, size: int) -> float:
    began = time.perf_counter()
    for _ in range(size // _BATCH):
        await app.enqueue_many([NewJob("noop", {"n": 1}) for _ in range(_BATCH)])
    return size / (time.perf_counter() - began)


def _bare_single(database: Database, count: int) -> float:
    with bare(database) as connection:
        connection.execute(_ONE, ("noop", '{"n": 1}', "default"))
        began = time.perf_counter()
        for _ in range(count):
            connection.execute(_ONE, ("noop", '{"n": 1}', "default")).fetchone()
        return count / (time.perf_counter() - began)


async def _single(app: App, count: int) -> float:
    await app.enqueue("noop", {"n": 1})
    began = time.perf_counter()
    for _ in range(count):
        await app.enqueue("noop", {"n": 1})
    return count / (time.perf_counter() - began)
