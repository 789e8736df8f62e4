"""The life of one schedule: pause, resume, remove, fire by hand. `backfill` goes on from here.

Each is one transaction that holds the schedule's row; see `changes` for what happens to its ticks.
`now` overrides the database's clock: a test owns the time.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.cron.book import ScheduleConflictError, ScheduleNotFoundError, show_schedule
from pillars.cron.changes import (
    Known,
    hold,
    instant_of_change,
    lock_book,
    record_left,
    withdraw,
)
from pillars.cron.definition import Timing
from pillars.cron.edits import delete_schedules
from pillars.cron.fires import next_fire
from pillars.cron.statements import SQL
from pillars.cron.survey import records_of
from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.db.statements import composed
from pillars.ground.errors import PillarsError
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.db.database import Database

# Each fire by hand takes another instant; so many may fall into one millisecond.
_MOST_IN_A_MILLISECOND = 999


class FireError(PillarsError):
    """A schedule could not be fired by hand."""


@dataclass(frozen=True, slots=True)
class Fired:
    """The job of a fire by hand.

    Attributes:
        job_id: its id; a tick that is skipped is a row, too.
        state: available, or skipped.
        reason: "fired by hand", and what the overlap policy made of it.
        fire_at: its instant, which no tick can have.
        queue: where it waits.
    """

    job_id: int
    state: str
    reason: str
    fire_at: datetime
    queue: str

    @property
    def skipped(self) -> bool:
        """Whether `overlap` kept it from becoming work."""
        return self.state == "skipped"


async def pause(database: Database, name: str, *, now: datetime | None = None) -> None:
    """Stop a schedule; its jobs that were enqueued ahead are taken back.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    async with held(database, name) as (connection, known):
        if known.paused_at is None:
            instant = await instant_of_change(connection, now)
            await _set_cursor(connection, known, "paused", instant, paused=True)


async def resume(database: Database, name: str, *, now: datetime | None = None) -> None:
    """Let a paused schedule go on from now; the time it was paused is not caught up.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    async with held(database, name) as (connection, known):
        if known.paused_at is not None:
            instant = await instant_of_change(connection, now)
            await _set_cursor(connection, known, "resumed", instant, paused=False)


async def remove(
    database: Database,
    name: str,
    *,
    unwritten: bool = False,
    now: datetime | None = None,
) -> None:
    """Delete a schedule; one that a file still holds comes back when a changed set is applied.

    Args:
        database: holds the schedule.
        name: the schedule's.
        unwritten: only one that was made through the API, which is written nowhere else.
        now: overrides the database's clock.

    Raises:
        ScheduleNotFoundError: there is none with this name.
        ScheduleConflictError: it is written in a file or in code, and was not to be.
    """
    async with held(database, name, book=True) as (connection, known):
        if unwritten:
            await _refuse_written(connection, name)
        instant = await instant_of_change(connection, now)
        await withdraw(connection, {known.id: "the schedule was removed"}, instant)
        await record_left(connection, [(known, "removed")], instant)
        await delete_schedules(connection, [known.id])


async def fire(
    database: Database,
    name: str,
    *,
    force: bool = False,
    now: datetime | None = None,
) -> Fired:
    """Enqueue one job of a schedule at once, also of a paused one; its ticks are not touched.

    The schedule's overlap policy decides as for a tick, unless `force` lets the job run beside
    whatever runs.

    Raises:
        ScheduleNotFoundError: there is none with this name.
        FireError: a thousand others did the same within a millisecond.
    """
    async with held(database, name) as (connection, known):
        for microseconds in range(1, _MOST_IN_A_MILLISECOND + 1):
            params = {
                "id": known.id,
                "now": now,
                "force": force,
                "microseconds": microseconds,
                "channel": JOBS_CHANNEL,
            }
            rows = await fetch(connection, FIRE_BY_HAND, params)
            if rows:
                job_id, state, reason, fire_at, queue, _ = rows[0]
                return Fired(job_id, state, reason, fire_at, queue)
    raise FireError(f"{name!r} is fired by hand all the time: try again")


async def _refuse_written(connection: AsyncConnection[Any], name: str) -> None:
    """Whoever holds the book may rely on the answer."""
    record = (await records_of(connection, [name]))[name]
    if record.source != "api":
        raise ScheduleConflictError(
            f"schedule {name!r} is written in {record.origin or record.source}, from where it "
            "would come back: delete it there, or pause it",
        )


@asynccontextmanager
async def held(
    database: Database, name: str, *, book: bool = False
) -> AsyncIterator[tuple[AsyncConnection[Any], Known]]:
    """Open a transaction that holds a schedule, and the whole book if asked.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    record = await show_schedule(database, name)
    async with database.transaction() as connection:
        if book:
            await lock_book(connection)
        rows = await hold(connection, [record.id])
        if not rows:
            # Removed meanwhile; a namesake may have come.
            raise ScheduleNotFoundError(f"there is no schedule {name!r} any more")
        yield connection, rows[name]


async def settle(connection: AsyncConnection[Any], known: Known, now: datetime) -> None:
    """Record the ticks that a stopped schedule leaves unfired until now."""
    await _set_cursor(connection, known, "stopped", now, paused=known.paused_at is not None)


async def _set_cursor(
    connection: AsyncConnection[Any], known: Known, what: str, now: datetime, *, paused: bool
) -> None:
    await withdraw(connection, {known.id: f"the schedule was {what}"}, now)
    await record_left(connection, [(known, what)], now)
    cursor = next_fire(Timing.decode(known.timing), int(now.timestamp()))
    params = {"id": known.id, "paused": paused, "next": cursor, "now": now}
    await fetch(connection, SQL["set_cursor"], params)


FIRE_BY_HAND = composed(
    "fire_by_hand",
    "jobs_tick",
    SQL["tick_by_hand"],
    SQL["tell_by_hand"],
    inserted=QUEUE["insert_ticks"],
    cancelled=QUEUE["cancel_overlapped"],
)
