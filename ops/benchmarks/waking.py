"""Latency: from the commit of a job to the first line of its handler, on an idle worker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ops.benchmarks.bench import Figure, Ground, bare, percentile
from pillars import App
from pillars.db.notify import JOBS_CHANNEL, Listener
from pillars.ground.clock import SystemClock
from pillars.ground.events import nobody
from pillars.ground.loop import Stepper
from pillars.queue.lanes import CLAIM
from pillars.worker.worker import Worker

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database

_JOBS = 300
_SPREAD = 3.0


async def waking(ground: Ground) -> list[Figure]:
    """Worker and caller in one process; bare is the NOTIFY and one claim on plain connections."""
    goals = (("p50", 50, "<= 1.1 ms"), ("p99", 99, "<= 4 ms"))
    picked = [
        Figure(f"pick-up by an idle worker, {name}", "ms", goal=goal) for name, _, goal in goals
    ]
    delayed = Figure("start delay of a job with run_at, p99", "ms", goal="<= 5 ms")
    for number in range(ground.rounds):
        ground.tell(f"latency, round {number + 1}")
        async with ground.database() as database:
            references = await _bare(database)
            with bare(database) as connection:
                connection.execute("TRUNCATE pillars.jobs")
                identity = _member(connection)
            scene = _Scene(database, identity)
            async with asyncio.TaskGroup() as group:
                await scene.start(group)
                pickups = await scene.pickups()
                delays = await scene.delays()
                await scene.stop()
        for figure, (_, percent, _) in zip(picked, goals, strict=True):
            figure.ours.append(percentile(pickups, percent))
            figure.bare.append(percentile(references, percent))
        delayed.ours.append(percentile(delays, 99))
    return [*picked, delayed]


class _Scene:
    """A worker in this process whose handler says when it began."""

    def __init__(self, database: Database, identity: UUID) -> None:
        self._database = database
        self._began: asyncio.Queue[float] = asyncio.Queue()
        self._app = App()
        self._app.job("timed")(self._timed)
        self._app.bind(database, nobody)
        self._worker = Worker(
            database=database,
            registry=self._app.registry,
            identity=lambda: identity,
            progressed=lambda: None,
            queues=(),
            concurrency=20,
            emit=nobody,
            clock=SystemClock(),
        )
        callbacks = {JOBS_CHANNEL: self._worker.notified}
        self._listener = Listener(database.dsn, "bench listen", callbacks, direct=True)

    async def start(self, group: asyncio.TaskGroup) -> None:
        self._working = group.create_task(self._worker.run())
        self._listening = asyncio.create_task(_listen(self._listener))
        await self._app.enqueue("timed")
        await self._began.get()

    async def pickups(self) -> list[float]:
        found = []
        for _ in range(_JOBS):
            await asyncio.sleep(0.02)
            await self._app.enqueue("timed")
            committed = time.time()
            found.append(1e3 * (await self._began.get() - committed))
        return found

    async def delays(self) -> list[float]:
        start = datetime.now(UTC) + timedelta(seconds=1)
        instants = [start + timedelta(seconds=_SPREAD * n / _JOBS) for n in range(_JOBS)]
        for instant in instants:
            await self._app.enqueue("timed", run_at=instant)
        began = sorted([await self._began.get() for _ in instants])
        return [
            1e3 * (at - instant.timestamp()) for at, instant in zip(began, instants, strict=True)
        ]

    async def stop(self) -> None:
        self._listening.cancel()
        await self._worker.stop(5.0)

    async def _timed(self) -> None:
        self._began.put_nowait(time.time())


async def _bare(database: Database) -> list[float]:
    """Wait for a notification, then send one claim: the least that anybody has to do."""
    claims, notices = database.link("bare"), asyncio.Queue[None]()
    listener = Listener(
        database.dsn, "bare listen", {JOBS_CHANNEL: lambda _: notices.put_nowait(None)}, direct=True
    )
    listening = asyncio.create_task(_listen(listener))
    app = App()
    app.bind(database, nobody)
    with bare(database) as connection:
        params = {
            "worker_id": _member(connection),
            "queues": [],
            "limit": 20,
            "limited": [],
            "now": None,
        }
    found = []
    await claims.fetch(CLAIM, params)
    # A listener calls once by itself when it begins to listen.
    await notices.get()
    for _ in range(_JOBS):
        await asyncio.sleep(0.02)
        await app.enqueue("noop")
        committed = time.time()
        await notices.get()
        await claims.fetch(CLAIM, params)
        found.append(1e3 * (time.time() - committed))
    listening.cancel()
    return found


async def _listen(listener: Listener) -> None:
    await Stepper("listen", listener.step, nobody).run()


def _member(connection: psycopg.Connection[Any]) -> UUID:
    identity = uuid4()
    connection.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, app_version) "
        "VALUES (%s, 'worker', 'bench', 'active', 1, '0')",
        (identity,),
    )
    return identity
