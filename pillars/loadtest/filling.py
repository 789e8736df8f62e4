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


async def fill(
    link: Link, load: Load, queue: str, after: int, told: Callable[[int], None]
) -> list[str]:
    """Add the schedules of a load, to fire after an instant; returns each pattern's timing.

    Args:
        link: a connection.
        load: the schedules.
        queue: where their jobs go, and the first part of their names.
        after: epoch seconds.
        told: called with how many there are, again and again.
    """
    schedules = [
        parse_schedule({"name": queue, "job": "noop", "queue": queue, **pattern.keys})
        for pattern in load.patterns
    ]
    patterns = Patterns(schedules, datetime.fromtimestamp(after, UTC))
    for start in range(0, len(load.which), CHUNK):
        like = load.which[start : start + CHUNK]
        names = [f"{queue}-{number:07}" for number in range(start, start + len(like))]
        await patterns.add(link, names, like)
        told(start + len(like))
    return [schedule.timing.encode() for schedule in schedules]


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
