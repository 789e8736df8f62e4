"""What became of a schedule's ticks, and why: "why did it not fire?" is one question.

Each occurrence is a row of the jobs table, where a tick that was skipped or missed has one too, or
the note of a tick that was withdrawn. One tick can have both: withdrawn by an edit, and enqueued
again after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pillars.cron.book import show_schedule
from pillars.cron.statements import SQL
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from datetime import datetime

    from pillars.cron.outcomes import Outcome
    from pillars.db.database import Database

# Schedules that a name stood for, one after another, that are looked at.
_MOST_LIVES: Final = 20


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A tick, or a run of missed ones, and what became of it.

    Attributes:
        fire_at: its instant; the first one's of a run. With a fraction of a second it was fired
            by hand.
        outcome: see there.
        reason: why it was skipped, missed, withdrawn, cancelled or fired out of turn.
        error: of the last attempt that failed.
        job_id: None for a tick that was withdrawn.
        ticks: how many ticks a run holds; 1 otherwise.
        fire_until: the last instant of a run.
        run_at: when its job is or was to start: with jitter, after a failure, paced.
        started_at: of the last attempt.
        finished_at: when it ended, was recorded or was withdrawn.
        attempt: how many attempts were started.
        lateness: seconds from its instant to the start of the last attempt.
    """

    fire_at: datetime
    outcome: str
    reason: str | None
    error: str | None
    job_id: int | None
    ticks: int
    fire_until: datetime | None
    run_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int | None
    lateness: float | None


async def history(
    database: Database,
    name: str,
    limit: int = 50,
    *,
    outcome: Outcome | None = None,
    before: datetime | None = None,
) -> list[Occurrence]:
    """Return what became of a schedule's ticks, latest first; `before` is where to go on from.

    Where ticks share the last instant, all of them are returned, though that is more than `limit`.

    It answers for a schedule that was removed as long as its rows are kept, and for a new one of
    the same name together with those before it.

    Raises:
        ScheduleNotFoundError: there is none with this name, and was none of late.
    """
    rows = await database.fetch(SQL["ids_of"], {"name": name, "limit": _MOST_LIVES})
    ids = [row[0] for row in rows] or [(await show_schedule(database, name)).id]
    params = {"schedule_ids": ids, "limit": limit, "outcome": outcome, "before": before}
    return [Occurrence(*row) for row in await database.fetch(QUEUE["history"], params)]
