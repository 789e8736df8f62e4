"""What the status page shows, read from the database at most once a second for all who look."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from pillars.cluster.members import MemberRecord, list_members
from pillars.cron.book import ScheduleRecord, list_schedules
from pillars.db.statements import load_statements
from pillars.queue.desk import JobRecord, QueueRecord, list_jobs, list_queues
from pillars.queue.states import JobState
from pillars.server.problems import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pillars.db.database import Database

SQL = load_statements("pillars.server")
ROWS = 12
_log = logging.getLogger(__name__)
_FRESH = 1.0
# A section that takes longer than this is left out, so that the others still show.
_PATIENCE = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """One part of the page; `rows` is None where the database did not tell."""

    rows: list[T] | None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole page's content; `now` is the database's clock in UTC, None if it is away."""

    now: datetime | None
    members: Section[MemberRecord]
    queues: Section[QueueRecord]
    schedules: Section[ScheduleRecord]
    failures: Section[JobRecord]


class StatusReader:
    """Reads the status and keeps it for a second: many who look cost no more than one."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._database = database
        self._lock = asyncio.Lock()
        self._status: Status | None = None
        self._read_at = 0.0

    async def read(self) -> Status:
        """Return the status, a second old at most."""
        async with self._lock:
            if self._status is None or time.monotonic() - self._read_at > _FRESH:
                self._status = await self._fetch()
                self._read_at = time.monotonic()
            return self._status

    async def _fetch(self) -> Status:
        database = self._database
        now, members, queues, schedules, failures = await asyncio.gather(
            _section(self._now()),
            _section(list_members(database)),
            _section(list_queues(database)),
            _section(list_schedules(database, limit=ROWS, soonest=True)),
            _section(self._failures()),
        )
        return Status(now.rows[0] if now.rows else None, members, queues, schedules, failures)

    async def _now(self) -> list[datetime]:
        ((now,),) = await self._database.fetch(SQL["now"])
        # What the session's zone is depends on the URL and on poolers.
        return [now.astimezone(UTC)]

    async def _failures(self) -> list[JobRecord]:
        found: list[JobRecord] = []
        for state in (JobState.DEAD, JobState.FAILED):
            found += await list_jobs(self._database, state=state, limit=ROWS)
        found.sort(key=lambda job: job.finished_at or job.run_at, reverse=True)
        return found[:ROWS]


async def _section(query: Awaitable[list[T]]) -> Section[T]:
    try:
        async with asyncio.timeout(_PATIENCE):
            return Section(await query)
    except UNREACHABLE:
        return Section(None)
    except Exception:  # noqa: BLE001 - logged below, and shown as missing
        # A row that cannot be read must not hide all the others from whoever looks for it.
        _log.exception("part of the status page could not be read")
        return Section(None)
