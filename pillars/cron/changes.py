"""What every change of schedules does with their ticks before it takes effect.

In the order of a change, all in one transaction:

1. `hold` locks the rows, so that no fire comes in between; what one just before wrote is seen.
   Then `instant_of_change` is taken.
2. `withdraw` takes back the jobs that were enqueued ahead and are not due, with a note of each.
3. `record_left` records as missed the ticks that were due and that the change leaves unfired: those
   of a schedule that fires, if cron had not come to them; those of one that is paused or disabled,
   all since it stopped, since stopped time is not caught up.
4. The caller sets the cursor to the first tick after the change, and bumps the version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.definition import Timing
from pillars.cron.fires import fires_between
from pillars.cron.statements import SQL
from pillars.db.connection import fetch
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import AsyncConnection

_LOCK = 0x626F6F6B
# Ticks of one schedule that a record counts, and of all that one page of changes touches: the
# database ends a transaction that computes for seconds.
MOST_COUNTED: Final = 10_000
_MOST_IN_ALL: Final = 100_000
# What the reason of a record says whose ticks were too many to be counted.
AT_LEAST: Final = "at least so many ticks"


@dataclass(frozen=True, slots=True)
class Known:
    """What a change needs to know of a row as it was; `next_fire_at` in epoch seconds."""

    name: str
    id: int
    timing: str
    enabled: bool
    paused_at: datetime | None
    slot: int
    job: str
    queue: str
    next_fire_at: int | None

    def is_due(self, now: datetime) -> bool:
        """Tell whether a tick was due that is neither fired nor recorded."""
        return self.next_fire_at is not None and self.next_fire_at <= now.timestamp()


async def lock_book(connection: AsyncConnection[Any]) -> None:
    """Hold the book until the transaction ends."""
    await fetch(connection, SQL["lock_schedules"], {"lock": _LOCK})


async def try_lock_book(connection: AsyncConnection[Any]) -> bool:
    """Hold the book until the transaction ends, if nobody else does."""
    rows = await fetch(connection, SQL["try_lock_schedules"], {"lock": _LOCK})
    return bool(rows[0][0])


async def database_time(connection: AsyncConnection[Any]) -> float:
    """Return the database's clock in epoch seconds."""
    ((now,),) = await fetch(connection, SQL["now"], {"now": None})
    return float(now)


async def hold(connection: AsyncConnection[Any], ids: Sequence[int]) -> dict[str, Known]:
    """Lock rows until the transaction ends, and return them as a fire just before left them."""
    rows = await fetch(connection, SQL["hold_schedules"], {"ids": list(ids)}) if ids else ()
    return {row[0]: Known(*row) for row in rows}


async def instant_of_change(connection: AsyncConnection[Any], now: datetime | None) -> datetime:
    """Return the database's clock once the rows are held; `now` overrides it."""
    ((instant,),) = await fetch(connection, SQL["instant"], {"now": now})
    return datetime.fromtimestamp(instant.timestamp(), UTC) if now is None else now


async def withdraw(
    connection: AsyncConnection[Any],
    reasons: Mapping[int, str],
    now: datetime,
) -> None:
    """Take back jobs that were enqueued ahead and are not due; `reasons` by schedule id."""
    if reasons:
        params = {"schedule_ids": list(reasons), "reasons": list(reasons.values()), "now": now}
        await fetch(connection, QUEUE["withdraw_ticks"], params)


async def record_left(
    connection: AsyncConnection[Any],
    left: Sequence[tuple[Known, str]],
    now: datetime,
) -> None:
    """Record the ticks up to `now` that changes leave unfired, one row each schedule.

    Args:
        connection: inside the transaction that holds the rows.
        left: schedules, and what was done to them, as in "paused".
        now: the instant of the change.
    """
    await record(connection, missed_ticks(left, now))


def missed_ticks(left: Sequence[tuple[Known, str]], now: datetime) -> list[dict[str, Any]]:
    """Return what `record_left` records."""
    due = [(known, what) for known, what in left if known.is_due(now)]
    most = min(MOST_COUNTED, max(1, _MOST_IN_ALL // max(1, len(due))))
    return [_missed(known, what, int(now.timestamp()), most) for known, what in due]


async def record(connection: AsyncConnection[Any], missed: Sequence[dict[str, Any]]) -> None:
    """Write records of missed ticks."""
    if missed:
        await fetch(connection, QUEUE["record_missed"], {"rows": json.dumps(missed)})


def _missed(known: Known, what: str, now: int, most: int) -> dict[str, Any]:
    first = known.next_fire_at or 0
    further = fires_between(Timing.decode(known.timing), first, now, most)
    counted = further[: most - 1]
    reason = _reason(known, what, now)
    return {
        "schedule_id": known.id,
        "fire_at": first,
        "slot": known.slot,
        "type": known.job,
        "queue": known.queue,
        "schedule": known.name,
        "reason": f"{reason}; {AT_LEAST}" if len(further) == most else reason,
        "ticks": 1 + len(counted),
        "fire_until": now if len(further) == most else [first, *counted][-1],
    }


def _reason(known: Known, what: str, now: int) -> str:
    until = _moment(datetime.fromtimestamp(now, UTC))
    if known.paused_at is not None:
        return f"paused from {_moment(known.paused_at)} until {until}"
    if not known.enabled:
        return f"disabled until {until}"
    return f"the schedule was {what} before cron came to fire it"


def _moment(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
