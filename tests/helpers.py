"""What tests wait with, and the clock they own."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from pillars.db.statements import Statement
from pillars.ground.events import Event, JobFinished, JobsFinished
from pillars.queue.enqueue import enqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pillars.db.database import Database
    from pillars.ground.settings import Secret
    from pillars.queue.jobs import NewJob

E = TypeVar("E")
PATIENCE = 120.0


def new_member(sql: psycopg.Connection[Any]) -> UUID:
    """The id of a worker that is a member."""
    identity = uuid4()
    sql.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, app_version) "
        "VALUES (%s, 'worker', 'w', 'active', 1, '0')",
        (identity,),
    )
    return identity


async def put(database: Database, *jobs: NewJob) -> list[int]:
    """Enqueue jobs in a transaction of their own; return their ids."""
    async with database.connection() as connection:
        return list(await enqueue(connection, jobs))


async def until_one_waits_for_a_lock(database: Database) -> None:
    """Return once a connection to the test's database waits for what another one holds."""
    async with asyncio.timeout(PATIENCE):
        while not await database.fetch(_WAITING):
            pass


_WAITING = Statement(
    "waiting",
    "SELECT 1 FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "Whoever waits for a lock.",
    None,
)


@contextmanager
def notifications(dsn: Secret, channel: str) -> Iterator[Callable[[], list[str]]]:
    """Listen on a channel; call what it gives for the payloads since the last call."""
    end = "this is the end"
    with psycopg.connect(dsn.reveal(), autocommit=True) as connection:
        connection.execute(f"LISTEN {channel}")

        def heard() -> list[str]:
            connection.execute("SELECT pg_notify(%s, %s)", (channel, end))
            notes = connection.notifies(timeout=PATIENCE)
            return list(iter(lambda: next(notes).payload, end))

        yield heard


class RecordingListener:
    """Keeps every event, and each job of a batch, and lets a test wait for one, not for time."""

    def __init__(self) -> None:
        self.events: list[Event | JobFinished] = []
        self._arrived = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, JobsFinished):
            self.events += event.jobs
        self._arrived.set()

    def of(self, kind: type[E]) -> list[E]:
        """All events of a type so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(
        self,
        kind: type[E],
        count: int = 1,
        where: Callable[[E], bool] = lambda _: True,
    ) -> list[E]:
        """Wait until `count` events of this type that fulfil `where` have come; return them."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._arrived.clear()
                found = [event for event in self.of(kind) if where(event)]
                if len(found) >= count:
                    return found
                await self._arrived.wait()


class FakeClock:
    """A clock that stands still until told: owns both kinds of time."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self.now = now
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        return self._monotonic

    def database_now(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self._monotonic += seconds
