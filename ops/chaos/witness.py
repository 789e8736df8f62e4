"""What goes on while the faults happen.

A trickle of jobs, pauses, new editions of the files, backfills; and a look at sessions and memory.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, LiteralString

import aiohttp
import psycopg

from ops.chaos.evidence import Pin
from ops.chaos.invariants.health import SHORTEST_PIN
from ops.chaos.load import EDITED, PAST, PAST_EVERY
from pillars.cron.backfill import FASTEST, backfill
from pillars.cron.life import pause, resume
from pillars.db.database import Database
from pillars.ground.events import nobody
from pillars.loadtest.meter import usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.chaos.crew import Crew
    from ops.chaos.files import Files
    from pillars.ground.settings import Secret

TRICKLE_EVERY = 0.2
EDIT_EVERY = 1.0
RELOAD_EVERY = 7.0
BACKFILL_EVERY = 3.0
# How many ticks a backfill has.
_BACKFILLED = 10
LOOK_EVERY = 0.5
_MEMORY_EVERY = 4
_PATIENCE = aiohttp.ClientTimeout(total=5)
# What passes with the trouble that a fault made; all else is no answer to a verb that is in order.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    TimeoutError,
)
NOW: LiteralString = "SELECT extract(epoch FROM clock_timestamp())::float8"
_ENQUEUE: dict[str, LiteralString] = {
    "plain": "SELECT pillars.enqueue('nemesis.step')",
    # Held for two seconds, and asked for more often than that.
    "unique": "SELECT pillars.enqueue('nemesis.step', run_at => now() + interval '2 s', "
    "unique_key => 'nemesis')",
    "limited": "SELECT pillars.enqueue('nemesis.step', '{\"seconds\": 0.5}', "
    "concurrency_key => 'nemesis', concurrency_limit => 2)",
    "flaky": "SELECT pillars.enqueue('nemesis.flaky')",
    "hopeless": "SELECT pillars.enqueue('nemesis.hopeless')",
}
_HTTP = "http"
_TURNS = ("plain", "limited", "unique", "limited", _HTTP, "limited", "flaky", "unique", "hopeless")
_SERVER: LiteralString = (
    "SELECT url FROM pillars.members WHERE role = 'server' AND state = 'active' LIMIT 1"
)
_SESSIONS: LiteralString = """
SELECT application_name, left(query, 60), CASE WHEN backend_xmin IS NOT NULL
    OR backend_xid IS NOT NULL
    THEN coalesce(extract(epoch FROM clock_timestamp() - xact_start)::float8, 0) ELSE 0 END
FROM pg_stat_activity WHERE application_name LIKE 'pillars %'
"""


class Witness:
    """Does its work until cancelled, whatever becomes of the database meanwhile."""

    def __init__(self, dsn: Secret, crew: Crew, files: Files) -> None:
        """Go to the database directly."""
        self._dsn = dsn
        self._crew = crew
        self._files = files
        self.acknowledged: dict[int, float] = {}
        self.paused: list[tuple[str, float, float]] = []
        self.backfilled: list[tuple[str, float, float, float]] = []
        self.memory: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self.sessions: list[tuple[float, int]] = []
        self.pins: list[Pin] = []
        self.refused: list[str] = []

    async def trickle(self) -> None:
        """Enqueue jobs of all kinds, a few a second; note those that were acknowledged."""
        for kind in itertools.cycle(_TURNS):
            rows = await (self._post() if kind == _HTTP else self._ask(_ENQUEUE[kind]))
            self.acknowledged |= {job_id: time.time() for (job_id,) in rows}
            await asyncio.sleep(TRICKLE_EVERY)

    async def edit(self) -> None:
        """Pause and resume schedules; note when each was surely paused."""
        database = Database(self._dsn, "pillars nemesis", nobody)
        try:
            for number in itertools.cycle(range(EDITED)):
                name = f"edited-{number}"
                await _until_done(partial(pause, database, name))
                since = await self._now()
                await asyncio.sleep(EDIT_EVERY)
                until = await self._now()
                await _until_done(partial(resume, database, name))
                self.paused.append((name, since, until))
        finally:
            await database.close()

    async def reload(self) -> None:
        """Put new editions of the files in place."""
        while True:
            await asyncio.sleep(RELOAD_EVERY)
            async with self._files.held:
                self._files.write()

    async def backfill(self) -> None:
        """Backfill ever earlier ticks, each span twice."""
        database = Database(self._dsn, "pillars nemesis", nobody)
        span = _BACKFILLED * PAST_EVERY
        try:
            end = float(int(await self._now()) // PAST_EVERY * PAST_EVERY)
            while True:
                end -= span
                for _ in range(2):
                    asked = partial(backfill, start=_moment(end), end=_moment(end + span))
                    await _until_done(partial(asked, database, PAST, pace=FASTEST))
                    self.backfilled.append((PAST, end, end + span, time.time()))
                    await asyncio.sleep(BACKFILL_EVERY)
        finally:
            await database.close()

    async def look(self) -> None:
        """Look at our sessions again and again, and at the memory of our processes."""
        for count in itertools.count():
            if count % _MEMORY_EVERY == 0:
                self._weigh()
            if rows := await self._ask(_SESSIONS):
                self._note(rows)
            await asyncio.sleep(LOOK_EVERY)

    def _weigh(self) -> None:
        now = time.time()
        for incarnation, pid in self._crew.pids().items():
            if taken := usage(pid):
                self.memory[incarnation].append((now, taken.resident))

    def _note(self, rows: list[tuple[Any, ...]]) -> None:
        now = time.time()
        self.sessions.append((now, len(rows)))
        self.pins += [
            Pin(now, application, seconds, " ".join(query.split()))
            for application, query, seconds in rows
            if seconds > SHORTEST_PIN
        ]

    async def _post(self) -> list[tuple[int]]:
        """Enqueue a job through the server's API; return the id, or nothing if that fails."""
        for (url,) in await self._ask(_SERVER):
            with suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    aiohttp.ClientSession(timeout=_PATIENCE) as session,
                    session.post(f"{url}/api/v1/jobs", json={"type": "nemesis.step"}) as answer,
                ):
                    if answer.ok:
                        return [(job_id,) for job_id in (await answer.json())["ids"]]
                    if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                        self.refused.append(f"a job was taken over HTTP: {answer.status}")
        return []

    async def _now(self) -> float:
        while not (rows := await self._ask(NOW)):
            pass
        return float(rows[0][0])

    async def _ask(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """Return the rows of a query over a connection of its own; none if that fails."""
        try:
            async with (
                asyncio.timeout(5),
                await psycopg.AsyncConnection.connect(
                    self._dsn.reveal(), autocommit=True, application_name="nemesis"
                ) as connection,
            ):
                return await (await connection.execute(query)).fetchall()
        except (psycopg.OperationalError, TimeoutError):
            await asyncio.sleep(LOOK_EVERY)
            return []


async def _until_done(verb: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await verb()
        except _PASSING:
            await asyncio.sleep(LOOK_EVERY)
        else:
            return


def _moment(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, UTC)
