"""The part of a load test that can be given up at any moment.

The window's start is an instant after all schedules are there, and their first ticks come after it.
The workers are started before the crons, which so have the machine to themselves when they start:
the moment the first tick may be enqueued, where look-ahead is long enough. The run is over when all
ticks up to the window's end were enqueued, or have not been for as long as anybody waits.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pillars.cron.bulk import CHUNK
from pillars.db.connection import fetch
from pillars.ground.clock import SystemClock
from pillars.ground.events import nobody
from pillars.ground.loop import Stepper
from pillars.loadtest.crew import CrewError
from pillars.loadtest.filling import Filling, begin_after
from pillars.loadtest.meter import postmaster_of, server_cpu
from pillars.loadtest.orders import Deed
from pillars.loadtest.report import Done, Report
from pillars.loadtest.statements import PATIENCE, SQL, patient
from pillars.loadtest.verdict import Window, judge
from pillars.loadtest.watch import Look, Watch
from pillars.processes.frame import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from pillars.db.database import Database
    from pillars.loadtest.crew import Crew
    from pillars.loadtest.mixes import Load
    from pillars.loadtest.orders import Order

# Seconds between the start of the crons and the window's, at least; and what workers take to join.
_LEAD, _JOINING = 3, 5
# The work that is left takes so many times what it seems to: it is followed by a VACUUM.
_SPARE = 1.5
# Not so many seconds before a full minute: whether or not its herd meets crons that are just being
# started, two runs could not be compared.
_MINUTE, _CALM = 60, 15
# Cursors a second that can be set anew, at least.
_AIM_RATE = 10_000
# Seconds for processes to join, and for the crons to catch up with the window's end.
_JOIN, _CATCH_UP = 30.0, 60.0
_LOOK_EVERY = 0.25
# A window's start that is missed so often is not met at all.
_MOST_AIMS = 5
_ENDS = {Deed.KILL: (signal.SIGKILL, "killed"), Deed.LEAVE: (signal.SIGTERM, "left")}


@dataclass(frozen=True, slots=True)
class Stage:
    """What is being done, and how far it is, where that is known."""

    words: str
    done: int = 0
    total: int = 0


Told = Stage | Look | Done


class _Seen(NamedTuple):
    """What was seen of a window, as in the report."""

    behind: bool
    cron_cpu: float | None
    database_cpu: float | None
    looks: list[Look]


class Measurement:
    """One run on a database that is there, with processes that somebody else puts away."""

    def __init__(
        self,
        order: Order,
        load: Load,
        queue: str,
        database: Database,
        *,
        crew: Crew,
        tell: Callable[[Told], None],
    ) -> None:
        """Prepare; `tell` is given stages, looks and what was done."""
        self.report: Report | None = None
        self._order = order
        self._load = load
        self._queue = queue
        self._database = database
        self._crew = crew
        self._tell = tell
        self._link = database.link("steer")
        # Seconds before the window's start at which its first tick may be enqueued, or more.
        self._lead = max(_LEAD, int(order.lookahead) - 1)
        self._timings: list[str] = []
        self._deeds: list[Done] = []
        self._postmaster: int | None = None

    async def run(self) -> None:
        """Measure, and leave the report."""
        await prepare(self._database, nobody)
        ((backend, version),) = await self._link.fetch(SQL["session"])
        self._postmaster = postmaster_of(backend) if backend else None
        start, fill_seconds = await self._fill()
        start = await self._start_workers(start)

        self._tell(Stage("waiting for the first tick"))
        await self._until(start - self._lead)
        spawned = await self._now()
        seen = await self._observe(start)
        self._tell(Stage("stopping the processes"))
        await self._crew.rest()

        self._tell(Stage("counting"))
        window = Window(self._queue, start, start + self._order.seconds)
        demanded = {
            timing: list(pattern.ticks(window.since, window.until))
            for timing, pattern in zip(self._timings, self._load.patterns, strict=True)
        }
        first_due = min((ticks[0] for ticks in demanded.values() if ticks), default=window.until)
        waited_for = first_due - self._order.lookahead <= spawned
        counts, lateness, course = await judge(
            self._database.dsn, window, demanded, start - spawned
        )
        self.report = Report(
            order=self._order,
            when=datetime.fromtimestamp(start, UTC).isoformat(timespec="seconds"),
            where=_where(version),
            seconds=max(window.until, lateness.last or 0.0) - start,
            counts=counts,
            lateness=lateness,
            course=course,
            behind=seen.behind,
            fill_seconds=fill_seconds,
            start_to_first_fire=lateness.first - spawned if lateness.first and waited_for else None,
            fires=sum(enqueued for at, enqueued, _ in course.throughput if at >= 0),
            cron_cpu=seen.cron_cpu,
            database_cpu=seen.database_cpu,
            processes=self._crew.figures(),
            deeds=self._deeds,
            looks=seen.looks,
        )

    async def _observe(self, start: int) -> _Seen:
        """Start the crons, and look at them until all ticks of the window were enqueued."""
        for _ in range(self._order.replicas):
            self._crew.start("cron")
        watch = Watch(
            self._database.link("watch"),
            self._crew,
            SystemClock(),
            queue=self._queue,
            start=start,
            postmaster=self._postmaster,
            told=self._tell,
        )
        stepper = Stepper("watch", watch.step, nobody)
        watching = asyncio.create_task(stepper.run(), name="watch")
        try:
            await self._until(start)
            cron, database = self._cpu()
            await self._follow_plan(start)
            await self._until(start + self._order.seconds)
            behind = not await self._caught_up(start + self._order.seconds)
            cron_after, database_after = self._cpu()
        finally:
            watching.cancel()
        return _Seen(
            behind, _between(cron, cron_after), _between(database, database_after), watch.looks
        )

    async def _fill(self) -> tuple[int, float]:
        """Add the schedules; returns the window's start, in epoch seconds, and what it took."""
        total, done = self._order.schedules, 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self._tell(Stage("adding schedules", done, total))

        told(0)
        began = await self._now()
        filling = Filling(self._link, self._load, self._queue)
        self._timings = filling.timings
        start = self._soon(await self._now(), 0.0)
        first = range(min(CHUNK, total))
        before = await self._now()
        await filling.add(first, start, told)
        # The first page tells how long the others take: their cursors need not be set again.
        now = await self._now()
        start = self._soon(now, (now - before) / len(first) * (total - len(first)))
        await filling.add(range(len(first), total), start, told)
        took = await self._now() - began
        await begin_after(self._link, self._queue, start)
        self._tell(Stage("tidying the table"))
        async with patient(self._database.dsn) as connection:
            await fetch(connection, SQL["tidy"], timeout=PATIENCE)
        return start, took

    def _soon(self, now: float, work: float) -> int:
        """Return an instant for the window's start when there are so many seconds of work left."""
        instant = int(now + _SPARE * work) + self._lead + _JOINING
        minute = instant + -instant % _MINUTE
        return minute if minute - instant < _CALM else instant

    async def _start_workers(self, start: int) -> int:
        """Start the workers; returns the window's start, later than planned where time ran out."""
        self._tell(Stage("starting workers"))
        names = [self._crew.start("worker").name for _ in range(self._order.workers)]
        deadline = await self._now() + _JOIN
        while await self._link.fetch(SQL["joined"], {"names": names}) != [(len(names),)]:
            if await self._now() > deadline:
                raise CrewError(f"the workers did not join within {_JOIN:g} s")
            await asyncio.sleep(_LOOK_EVERY)
        for _ in range(_MOST_AIMS):
            now = await self._now()
            if now <= start - self._lead:
                return start
            start = self._soon(now, self._order.schedules / _AIM_RATE)
            await begin_after(self._link, self._queue, start)
        raise CrewError("the database is too slow for so many schedules: give fewer --schedules")

    async def _follow_plan(self, start: int) -> None:
        chance = random.Random(self._order.seed)  # noqa: S311 - repeatable, no secret
        for step in self._order.plan:
            await self._until(start + step.at)
            at = await self._now() - start
            if step.deed is Deed.JOIN:
                hand = self._crew.start("cron")
            else:
                hand = chance.choice(self._crew.running("cron"))
                await self._crew.end(hand, *_ENDS[step.deed])
            done = Done(at, step.deed, hand.label)
            self._deeds.append(done)
            self._tell(done)

    async def _caught_up(self, until: int) -> bool:
        """Wait until all ticks up to an instant were enqueued; False if that takes too long."""
        self._tell(Stage("waiting for the last tick"))
        params = {"until": float(until), "queue": self._queue}
        while await self._link.fetch(SQL["behind"], params) != [(False,)]:
            if await self._now() > until + _CATCH_UP:
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return True

    async def _until(self, instant: float) -> None:
        """Wait for an instant of the database's clock."""
        while (left := instant - await self._now()) > 0:  # noqa: ASYNC110 - no event tells the time
            await asyncio.sleep(left)

    async def _now(self) -> float:
        ((now,),) = await self._link.fetch(SQL["clock"])
        return float(now)

    def _cpu(self) -> tuple[float | None, float | None]:
        """CPU seconds of all crons that ever were, and of the database."""
        self._crew.look()
        crons = [hand.usage.cpu for hand in self._crew.crons() if hand.usage]
        database = None if self._postmaster is None else server_cpu(self._postmaster)
        return (sum(crons) if crons else None), database


def _between(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _where(version: str) -> str:
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"PostgreSQL {version.split(maxsplit=1)[0]}"
    )
