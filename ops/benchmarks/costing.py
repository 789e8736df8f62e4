"""Where the microseconds go: of a worker's CPU for each job, and of one enqueue after another."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

from ops.benchmarks.bench import Figure, Ground
from ops.benchmarks.enqueueing import ONE, TURN, VALUES
from ops.benchmarks.sampling import NAMES
from ops.benchmarks.working import work_off
from pillars import App, NewJob
from pillars.db.connection import fetch
from pillars.ground.events import nobody
from pillars.queue.placing import place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pillars.db.database import Database


async def costing(ground: Ground) -> list[Figure]:
    """A worker's samples, and enqueues of which each does one thing more than the one before."""
    parts = [Figure(f"a worker's CPU: {name}", "us/job") for name in NAMES]
    steps: list[Figure] = []
    for number in range(ground.rounds):
        ground.tell(f"costs, round {number + 1}")
        async with ground.database() as database:
            shares, total = await _sampled(database, ground.size)
        for part, name in zip(parts, NAMES, strict=True):
            part.ours.append(total * shares.get(name, 0.0))
        async with ground.database() as database:
            found = await _enqueues(database, ground.size // 25)
        steps = steps or [Figure(f"an enqueue: {name}", "us") for name in found]
        for step, seconds in zip(steps, found.values(), strict=True):
            step.ours.append(1e6 * seconds)
    return [*parts, *steps]


async def _sampled(database: Database, size: int) -> tuple[dict[str, float], float]:
    """Return each phase's share of a worker's CPU time, and that time in microseconds a job."""
    with tempfile.TemporaryDirectory() as directory:
        samples = Path(directory) / "samples.json"
        command = (sys.executable, "-m", "ops.benchmarks.sampling", str(samples))
        _, seconds = await work_off(database, size, 1, command)
        counts: dict[str, int] = json.loads(samples.read_text())
    taken = sum(counts.values())
    return {name: count / taken for name, count in counts.items()}, 1e6 * seconds / size


async def _enqueues(database: Database, count: int) -> dict[str, float]:
    """Return seconds an enqueue, the variants in turns."""
    app = App()
    app.bind(database, nobody)
    async with await psycopg.AsyncConnection.connect(
        database.dsn.reveal(), autocommit=True, prepare_threshold=0
    ) as connection:
        variants = _variants(app, database, connection)
        spent = dict.fromkeys(variants, 0.0)
        for number in range(-1, count // TURN):
            for name, enqueue in variants.items():
                began = time.perf_counter()
                for _ in range(TURN):
                    await enqueue()
                # The first turn connects and prepares.
                spent[name] += (time.perf_counter() - began) * (number >= 0)
    return {name: seconds / count for name, seconds in spent.items()}


def _variants(
    app: App,
    database: Database,
    connection: psycopg.AsyncConnection[Any],
) -> dict[str, Callable[[], Awaitable[Any]]]:
    request = next(place([NewJob("noop", {"n": 1})], wake=False))

    async def driver() -> None:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(ONE, VALUES)
        await cursor.fetchall()

    async def statement() -> None:
        await fetch(connection, *request)

    async def pooled() -> None:
        async with database.connection() as borrowed:
            await fetch(borrowed, *request)

    async def whole() -> None:
        await app.enqueue("noop", {"n": 1})

    return {
        "the awaited driver, a bare insert": driver,
        "and all columns, a time limit": statement,
        "and a connection from the pool": pooled,
        "and checks, trace, notification": whole,
    }
