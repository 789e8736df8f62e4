"""Schedules into the database, and out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pillars.cron.bulk import CHUNK, Patterns, aim_after, remove_many
from pillars.cron.definition import parse_schedule
from pillars.queue.upkeep import remove_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pillars.db.database import Link
    from pillars.loadtest.mixes import Load


class Filling:
    """The schedules of a load, on their way into the database.

    Attributes:
        timings: the encoded timing of each pattern.
    """

    def __init__(self, link: Link, load: Load, queue: str) -> None:
        """Add nothing yet; `queue` is where their jobs go, and the first part of their names."""
        self._link = link
        self._load = load
        self._queue = queue
        self._schedules = [
            parse_schedule({"name": queue, "job": "noop", "queue": queue, **pattern.keys})
            for pattern in load.patterns
        ]
        self.timings = [schedule.timing.encode() for schedule in self._schedules]

    async def add(self, numbers: range, after: int, told: Callable[[int], None]) -> None:
        """Add some of them, to fire after an instant in epoch seconds; `told` of each how many."""
        patterns = Patterns(self._schedules, datetime.fromtimestamp(after, UTC))
        for start in range(numbers.start, numbers.stop, CHUNK):
            page = range(start, min(start + CHUNK, numbers.stop))
            names = [f"{self._queue}-{number:07}" for number in page]
            await patterns.add(self._link, names, self._load.which[page.start : page.stop])
            told(len(page))


async def begin_after(link: Link, queue: str, instant: int) -> None:
    """Let schedules that nobody fires yet begin after an instant, in epoch seconds."""
    at = datetime.fromtimestamp(instant, UTC)
    while await aim_after(link, queue, at):
        pass


async def clear(link: Link, queue: str) -> None:
    """Remove the schedules of a run, then what they enqueued."""
    while await remove_many(link, queue):
        pass
    while await remove_jobs(link, queue, CHUNK):
        pass
