"""When a schedule fires next, by the database's clock: the only one that decides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pillars.cron.book import ScheduleRecord, show_schedule
from pillars.cron.changes import database_time
from pillars.cron.definition import Timing
from pillars.cron.fires import fires_between

if TYPE_CHECKING:
    from pillars.db.database import Database

_END_OF_TIME: Final = 2**53


@dataclass(frozen=True, slots=True)
class Upcoming:
    """The next ticks of a schedule, in UTC; one that is not enabled will not fire them."""

    schedule: ScheduleRecord
    timezone: str
    fires: list[datetime]


async def upcoming(database: Database, name: str, count: int) -> Upcoming:
    """Return the next ticks of a schedule, `count` at most.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    record = await show_schedule(database, name)
    timing = Timing.decode(record.timing)
    async with database.connection() as connection:
        now = int(await database_time(connection))
    # Leap days of a weekday are searched for by the century.
    fires = await asyncio.to_thread(fires_between, timing, now, _END_OF_TIME, count)
    moments = [datetime.fromtimestamp(fire, UTC) for fire in fires]
    return Upcoming(record, timing.timezone, moments)
