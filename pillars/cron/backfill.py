"""Backfill: jobs for past ticks of a schedule, by its timing and definition of today.

Ticks that have a job are left alone, those recorded as missed or skipped become work after all, so
a backfill that was interrupted is repeated as it was. It goes in chunks of a transaction each,
which hold the schedule's row. The ticks from the cursor on are cron's and never touched.

A record of missed ticks that reaches beyond a chunk is split: what lies outside stays on record.

Jobs start `pace` a second and are BEHIND in priority, so that what is live comes first. Where the
schedule's ticks may not overlap they share its concurrency key and take turns.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pillars.cron.changes import AT_LEAST, MOST_COUNTED, Known, instant_of_change
from pillars.cron.definition import Timing
from pillars.cron.fires import fires_between, next_fire
from pillars.cron.life import held, settle
from pillars.cron.progress import nobody
from pillars.cron.statements import SQL
from pillars.cron.zones import instants_of
from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.db.statements import composed
from pillars.ground.errors import PillarsError
from pillars.ground.events import JobsEnqueued
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import AsyncConnection

    from pillars.cron.progress import Told
    from pillars.db.database import Database
    from pillars.ground.events import Emit

# Jobs a second.
PACE: Final = 10.0
FASTEST: Final = 10_000.0
MOST_TICKS: Final = 100_000
# Added to the schedule's priority.
BEHIND: Final = 100
_CHUNK = 1_000


class BackfillError(PillarsError):
    """A backfill cannot be done as it is asked for."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did, or would do.

    Attributes:
        start, end: the span, end excluded; the end is where cron itself goes on, if that is earlier
            than asked for.
        ticks: how many lie in it.
        enqueued: how many of them became jobs; the others had one.
        takes: seconds until the last of them may start.
    """

    start: datetime
    end: datetime
    ticks: int
    enqueued: int
    takes: float


async def backfill(
    database: Database,
    name: str,
    start: datetime,
    end: datetime,
    *,
    pace: float = PACE,
    dry_run: bool = False,
    told: Told = nobody,
    emit: Emit | None = None,
    now: datetime | None = None,
) -> Backfilled:
    """Enqueue the past ticks of a schedule with `start <= tick < end`.

    Args:
        database: holds the schedule.
        name: the schedule's.
        start: naive times are wall times of the schedule's time zone.
        end: at most now.
        pace: how many jobs may start a second.
        dry_run: only count.
        told: hears of how many ticks were seen, after each chunk.
        emit: receives JobsEnqueued after each chunk.
        now: overrides the database's clock.

    Raises:
        ScheduleNotFoundError: there is none with this name.
        BackfillError: what is wrong with the span or the pace, or the schedule was edited
            meanwhile.
    """
    if not 0 < pace <= FASTEST:
        raise BackfillError(f"pace {pace:g} is out of range: up to {FASTEST:,.0f} jobs a second")
    async with held(database, name) as (connection, known):
        instant = await instant_of_change(connection, now)
        timing = Timing.decode(known.timing)
        first, last = _span(timing, start, end, instant)
        if not known.enabled and not dry_run and known.is_due(instant):
            await settle(connection, known, instant)
    if known.enabled and known.next_fire_at is not None:
        last = min(last, known.next_fire_at)
    ticks = await asyncio.to_thread(fires_between, timing, first - 1, last - 1, MOST_TICKS + 1)
    if len(ticks) > MOST_TICKS:
        raise BackfillError(
            f"more than {MOST_TICKS:,} ticks: backfill a part at a time, the first one up to "
            f"{_moment(ticks[-1]).isoformat().replace('+00:00', 'Z')}",
        )
    enqueued = 0
    for begin in range(0, len(ticks), _CHUNK):
        chunk = ticks[begin : begin + _CHUNK]
        from_then = instant.timestamp() + enqueued / pace
        async with held(database, name) as (connection, current):
            if current.timing != known.timing:
                raise BackfillError(f"{name!r} was edited meanwhile: look at its ticks, and repeat")
            open_ticks = await _without_job(connection, current, chunk)
            jobs = len(open_ticks)
            if open_ticks and not dry_run:
                await _split_runs(connection, current, chunk)
                jobs = await _enqueue(connection, current, open_ticks, from_then, pace)
        enqueued += jobs
        if emit is not None and jobs and not dry_run:
            emit(JobsEnqueued(current.queue, jobs))
        told("backfilled", begin + len(chunk), len(ticks))
    takes = max(0, enqueued - 1) / pace
    return Backfilled(_moment(first), _moment(max(first, last)), len(ticks), enqueued, takes)


def _span(timing: Timing, start: datetime, end: datetime, now: datetime) -> tuple[int, int]:
    """Return the span in epoch seconds, or say what is wrong with it."""
    first, last = (_instant(moment, timing.timezone) for moment in (start, end))
    if first >= last:
        raise BackfillError(f"the span from {start} to {end} is empty: its end is not part of it")
    if last > now.timestamp():
        raise BackfillError(
            f"{end} lies in the future, which is cron's: the database's clock says "
            f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
    return first, last


def _instant(moment: datetime, zone: str) -> int:
    if moment.tzinfo is not None:
        return math.ceil(moment.timestamp())
    found = instants_of(zone, math.ceil(moment.replace(tzinfo=UTC).timestamp()))
    if len(found) == 1:
        return found[0]
    what = "comes twice" if found else "does not exist"
    raise BackfillError(f"{moment} {what} in {zone}: add an offset such as +02:00")


async def _without_job(
    connection: AsyncConnection[Any], known: Known, chunk: Sequence[int]
) -> list[int]:
    """Return the ticks that a backfill turns into work, in order."""
    params = {"schedule_id": known.id, "fire_at": list(chunk)}
    standing = {tick for (tick,) in await fetch(connection, QUEUE["standing_ticks"], params)}
    return [tick for tick in chunk if tick not in standing]


async def _enqueue(
    connection: AsyncConnection[Any],
    known: Known,
    ticks: Sequence[int],
    from_then: float,
    pace: float,
) -> int:
    params = {
        "id": known.id,
        "fire_at": list(ticks),
        "run_at": [from_then + place / pace for place in range(len(ticks))],
        "behind": BEHIND,
        "channel": JOBS_CHANNEL,
    }
    ((enqueued, _),) = await fetch(connection, BACKFILL, params)
    return int(enqueued)


class _Run(NamedTuple):
    """A row that stands for several missed ticks, in the order of the statement."""

    id: int
    fire_at: float
    fire_until: int
    ticks: int
    slot: int
    type: str
    queue: str
    schedule: str
    reason: str

    def part(self, fire_at: float, fire_until: int, ticks: int, reason: str) -> dict[str, Any]:
        """Return a row of some of its ticks."""
        row = self._replace(fire_at=fire_at, fire_until=fire_until, ticks=ticks, reason=reason)
        return row._asdict()


async def _split_runs(connection: AsyncConnection[Any], known: Known, chunk: Sequence[int]) -> None:
    """Take the ticks of a chunk out of the records of missed ticks that reach into it."""
    timing = Timing.decode(known.timing)
    params = {"schedule_id": known.id, "first": chunk[0], "last": chunk[-1]}
    runs = [_Run(*row) for row in await fetch(connection, QUEUE["missed_runs"], params)]
    # A run may stand for ten thousand ticks, and a server that counts them has requests to answer.
    split = await asyncio.to_thread(lambda: [(run.id, _parts(run, timing, chunk)) for run in runs])
    gone = [run_id for run_id, parts in split if parts is not None]
    if gone:
        rows = [part | {"schedule_id": known.id} for _, parts in split for part in parts or ()]
        await fetch(connection, QUEUE["forget_runs"], {"ids": gone})
        await fetch(connection, QUEUE["record_missed"], {"rows": json.dumps(rows)})


def _parts(run: _Run, timing: Timing, chunk: Sequence[int]) -> list[dict[str, Any]] | None:
    """Return what a chunk leaves of a run; None where it does not touch it."""
    if _is_of(run, timing):
        return list(_rest(run, timing, chunk))
    if run.fire_at in chunk:
        # Of a former timing, and its first tick is one of the present, too: the run goes on
        # without it, from an instant that no tick has.
        return [run.part(run.fire_at + 1e-6, run.fire_until, run.ticks - 1, run.reason)]
    return None


def _is_of(run: _Run, timing: Timing) -> bool:
    """Tell whether a run is one of this timing's ticks: they begin, end and count alike."""
    first = next_fire(timing, math.ceil(run.fire_at) - 1)
    if first is None or (run.fire_at == int(run.fire_at) and first != run.fire_at):
        return False
    further = fires_between(timing, first, run.fire_until, run.ticks)
    if AT_LEAST in run.reason:
        return len(further) >= run.ticks - 1
    return len(further) == run.ticks - 1 and [first, *further][-1] == run.fire_until


def _rest(run: _Run, timing: Timing, chunk: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Return what a run leaves before and after a chunk."""
    reason = run.reason.removesuffix(f"; {AT_LEAST}")
    for after, until in (
        (math.ceil(run.fire_at) - 1, min(chunk[0] - 1, run.fire_until)),
        (chunk[-1], run.fire_until),
    ):
        ticks = fires_between(timing, after, until, MOST_COUNTED + 1)
        if len(ticks) > MOST_COUNTED:
            yield run.part(ticks[0], until, MOST_COUNTED, f"{reason}; {AT_LEAST}")
        elif ticks:
            yield run.part(ticks[0], ticks[-1], len(ticks), reason)


def _moment(instant: int) -> datetime:
    return datetime.fromtimestamp(instant, UTC)


BACKFILL = composed(
    "backfill",
    "jobs_tick",
    SQL["ticks_of_backfill"],
    SQL["count_backfilled"],
    inserted=QUEUE["backfill_ticks"],
)
