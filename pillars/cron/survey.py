"""Reads of many schedules at once, for commands that look ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pillars.cron.book import ScheduleRecord
from pillars.cron.definition import Timing
from pillars.cron.statements import SQL
from pillars.db.connection import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import AsyncConnection

    from pillars.db.database import Database

_PAGE: Final = 10_000


class Firing(NamedTuple):
    """What decides when the jobs of a schedule start; `jitter` in seconds."""

    name: str
    timing: Timing
    jitter: int


async def records_of(
    connection: AsyncConnection[Any],
    names: Iterable[str],
) -> dict[str, ScheduleRecord]:
    """Return the schedules of these names, those that exist."""
    rows = await fetch(connection, SQL["schedules_named"], {"names": list(names)})
    records = (ScheduleRecord(*row) for row in rows)
    return {record.name: record for record in records}


async def firings_in_force(database: Database) -> list[Firing]:
    """Return all schedules that will fire again, by name."""
    found: list[Firing] = []
    after = None
    while True:
        params = {"after": after, "limit": _PAGE}
        rows = await database.fetch(SQL["timings_in_force"], params)
        found += (Firing(name, Timing.decode(timing), jitter) for name, timing, jitter in rows)
        if len(rows) < _PAGE:
            return found
        after = found[-1].name
