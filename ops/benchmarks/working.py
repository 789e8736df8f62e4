"""Throughput: real worker processes that get through a full queue of jobs that do nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, LiteralString

from ops.benchmarks.bench import Figure, Ground, bare
from pillars.loadtest.meter import usage
from pillars.processes.children import clean_environment
from pillars.queue.limits import pause_queue

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    import psycopg

    from pillars.db.database import Database

_FILL = """
INSERT INTO pillars.jobs (type, args, queue)
SELECT 'noop', '{"n": 1}', 'default' FROM generate_series(1, %s)
"""
# What a queue without history would do, in one statement: no state, no fence, no record.
_TAKE = """
DELETE FROM pillars.jobs WHERE id = ANY(ARRAY(
    SELECT id FROM pillars.jobs WHERE finished_at IS NULL AND queue = 'default' AND priority = 0
      AND gate = 'open' ORDER BY run_at, id LIMIT 2000 FOR UPDATE SKIP LOCKED
)) RETURNING id, type, args
"""
_ACTIVE = "SELECT count(*) FROM pillars.members WHERE state = 'active'"
_DONE = "SELECT count(*) FROM pillars.jobs WHERE id > %s AND state = 'succeeded'"
_SPAN = """
SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8
FROM pillars.jobs WHERE id > %s
"""
_LONGEST = 300.0


async def working(ground: Ground) -> list[Figure]:
    """`pillars worker` processes, history kept; bare is claim and delete by plain connections."""
    figures = []
    for workers, goal in ((1, ">= 20 k/s"), (2, ">= 30 k/s")):
        name = f"{workers} worker process{'es' * (workers > 1)}"
        pace = Figure(f"{name}, jobs done", "jobs/s", goal=goal)
        cpu = Figure(f"{name}, CPU of the workers", "us/job", goal="<= 30 us")
        for number in range(ground.rounds):
            ground.tell(f"{name}, round {number + 1}")
            async with ground.database() as database:
                pace.bare.append(_bare(database, ground.size, workers))
                with bare(database) as connection:
                    connection.execute("TRUNCATE pillars.jobs")
                rate, seconds = await work_off(database, ground.size, workers)
                pace.ours.append(rate)
                cpu.ours.append(1e6 * seconds / ground.size)
        figures += [pace, cpu]
    return figures


async def work_off(
    database: Database,
    size: int,
    workers: int,
    command: Sequence[str] = (sys.executable, "-m", "pillars", "worker"),
) -> tuple[float, float]:
    """Add so many jobs and have them done; return jobs a second and CPU seconds of the workers.

    The time is the database's, from the first job's start to the last one's end.
    """
    with bare(database) as connection:
        await pause_queue(database, "default", paused=True)
        ((last,),) = connection.execute("SELECT coalesce(max(id), 0) FROM pillars.jobs").fetchall()
        connection.execute(_FILL, (size,))
        running = [await _start(database, command) for _ in range(workers)]
        try:
            await _until(connection, _ACTIVE, (), workers)
            before = sum(map(_cpu, running))
            await pause_queue(database, "default", paused=False)
            await _until(connection, _DONE, (last,), size)
            seconds = sum(map(_cpu, running)) - before
        finally:
            for process in running:
                process.terminate()
            await asyncio.gather(*(process.wait() for process in running))
        ((span,),) = connection.execute(_SPAN, (last,)).fetchall()
    return size / span, seconds


def _bare(database: Database, size: int, connections: int) -> float:
    with bare(database) as connection:
        connection.execute(_FILL, (size,))
    began = time.perf_counter()
    threads = [threading.Thread(target=_take_all, args=(database,)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return size / (time.perf_counter() - began)


def _take_all(database: Database) -> None:
    with bare(database) as connection:
        while connection.execute(_TAKE).fetchall():
            pass


async def _start(database: Database, command: Sequence[str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=clean_environment(PILLARS_DATABASE_URL=database.dsn.reveal()),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _until(
    connection: psycopg.Connection[Any],
    query: LiteralString,
    params: Sequence[int],
    count: int,
) -> None:
    deadline = time.monotonic() + _LONGEST
    while connection.execute(query, params).fetchone() != (count,):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {_LONGEST:g} s: {query} = {count}")
        await asyncio.sleep(0.1)


def _cpu(process: Process) -> float:
    if (found := usage(process.pid)) is None:
        raise RuntimeError(f"worker {process.pid} has ended, or nothing tells what it took")
    return found.cpu
