"""Enqueue: many at once, and one at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg

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
ONE = "INSERT INTO pillars.jobs (type, args, queue) VALUES (%s, %s, %s) RETURNING id"
VALUES = ("noop", '{"n": 1}', "default")
# The disk's pace changes from second to second: ours and bare take turns of so many.
TURN = 50


async def enqueueing(ground: Ground) -> list[Figure]:
    """Ours are the calls of an app, workers notified; each beside a driver of its own kind."""
    many = Figure("enqueue in bulk", "jobs/s", goal=">= 0.9 of bare unnest")
    goal = ">= 0.85 of bare insert and commit"
    awaited = Figure("enqueue one by one, awaited", "jobs/s", goal=goal)
    blocking = Figure("enqueue one by one, blocking", "jobs/s", goal=goal)
    async with ground.database() as database:
        app = App()
        app.bind(database, nobody)
        for number in range(ground.rounds):
            ground.tell(f"enqueue, round {number + 1}")
            many.bare.append(_bare_many(database, ground.size))
            many.ours.append(await _many(app, ground.size))
            await _awaited(app, database, ground.size // 25, awaited)
            await asyncio.to_thread(_blocking, app, database, ground.size // 25, blocking)
            with bare(database) as connection:
                connection.execute("TRUNCATE pillars.jobs")
    return [many, awaited, blocking]


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


async def _awaited(app: App, database: Database, count: int, figure: Figure) -> None:
    async with await psycopg.AsyncConnection.connect(
        database.dsn.reveal(), autocommit=True, prepare_threshold=0
    ) as connection:
        ours = bare = 0.0
        for number in range(-1, count // TURN):
            began = time.perf_counter()
            for _ in range(TURN):
                await (await connection.execute(ONE, VALUES)).fetchone()
            between = time.perf_counter()
            for _ in range(TURN):
                await app.enqueue("noop", {"n": 1})
            # The first turn connects and prepares.
            if number >= 0:
                bare += between - began
                ours += time.perf_counter() - between
    figure.bare.append(count / bare)
    figure.ours.append(count / ours)


def _blocking(app: App, database: Database, count: int, figure: Figure) -> None:
    with bare(database) as connection, bare(database) as other:
        other.prepare_threshold = 5
        ours = plain = 0.0
        for number in range(-1, count // TURN):
            began = time.perf_counter()
            for _ in range(TURN):
                connection.execute(ONE, VALUES).fetchone()
            between = time.perf_counter()
            for _ in range(TURN):
                app.enqueue_sync(other, [NewJob("noop", {"n": 1})])
            if number >= 0:
                plain += between - began
                ours += time.perf_counter() - between
    figure.bare.append(count / plain)
    figure.ours.append(count / ours)
