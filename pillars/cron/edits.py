"""How edits are written into the book.

An edit locks the rows it changes, so that no fire comes in between, withdraws the jobs that were
enqueued ahead and are not due, sets the cursor and bumps the version, so that no plan made before
it can fire.

- It takes effect from its commit: the cursor goes to the first tick after it.
- One that leaves the timing alone loses nothing: ticks that are overdue stay to be fired.
- No tick at or before the last one fired is fired again; stopped time is not caught up.
- A tick that it leaves unfired is recorded as missed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pillars.cron.changes import Known, hold, instant_of_change, record_left, withdraw
from pillars.cron.definition import Overlap
from pillars.cron.fires import next_fire
from pillars.cron.statements import SQL
from pillars.db.connection import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.cron.book import Difference
    from pillars.cron.definition import Schedule

# How long it is known which ids a removed name had; what became of its ticks is kept less long.
_REMEMBERED_DAYS = 30
_FORGET_AT_ONCE = 1_000


async def write(
    connection: AsyncConnection[Any],
    known: dict[str, Known],
    schedules: Sequence[Schedule],
    difference: Difference,
    places: Mapping[str, tuple[str, str | None]],
    *,
    now: datetime | None,
) -> None:
    """Bring the book from what is known to what is wanted; `places` are source and origin."""
    changing = {*difference.added, *difference.changed}
    ids = [known[name].id for name in (*difference.changed, *difference.removed)]
    known |= await hold(connection, ids)
    instant = await instant_of_change(connection, now)
    wanted = {schedule.name: schedule for schedule in schedules}
    edits = [(known[name], wanted[name]) for name in difference.changed]
    gone = [known[name] for name in difference.removed]
    await withdraw(
        connection,
        {old.id: f"the schedule was {_what_was_done(old, new)}" for old, new in edits}
        | {old.id: "the schedule was removed" for old in gone},
        instant,
    )
    await delete_schedules(connection, [old.id for old in gone])
    left = [(old, _what_was_done(old, new)) for old, new in edits if not _keeps_its_ticks(old, new)]
    await record_left(connection, [*left, *((old, "removed") for old in gone)], instant)
    rows = [
        _row(schedule, known.get(schedule.name), places[schedule.name], instant)
        for schedule in schedules
        if schedule.name in changing
    ]
    if rows:
        await fetch(connection, SQL["put_schedules"], {"rows": json.dumps(rows), "now": instant})
    moved = {
        name: place
        for name, place in places.items()
        if name not in changing and place != (known[name].source, known[name].origin)
    }
    if moved:
        sources, origins = zip(*moved.values(), strict=True)
        params = {"names": list(moved), "sources": list(sources), "origins": list(origins)}
        await fetch(connection, SQL["move_origins"], params)


async def delete_schedules(connection: AsyncConnection[Any], ids: Sequence[int]) -> None:
    """Delete rows that are held; their ids stay known by name for a while."""
    if ids:
        await fetch(connection, SQL["remove_schedules"], {"ids": list(ids)})
        params = {"days": _REMEMBERED_DAYS, "limit": _FORGET_AT_ONCE}
        await fetch(connection, SQL["forget_removed"], params)


def _what_was_done(old: Known, new: Schedule) -> str:
    return "disabled" if old.enabled and not new.enabled else "edited"


def _keeps_its_ticks(old: Known, new: Schedule) -> bool:
    """Tell whether all that was due stays to be fired, or to be recorded when it goes on."""
    fires = new.enabled and old.paused_at is None
    return old.timing == new.timing.encode() and old.enabled == fires


def _row(
    schedule: Schedule,
    known: Known | None,
    place: tuple[str, str | None],
    now: datetime,
) -> dict[str, Any]:
    timing = schedule.timing.encode()
    cursor = next_fire(schedule.timing, int(now.timestamp()))
    if known is not None and known.is_due(now) and _keeps_its_ticks(known, schedule):
        cursor = known.next_fire_at
    return {
        "name": schedule.name,
        "slot": schedule.slot,
        "priority": schedule.priority,
        "jitter": schedule.jitter,
        "enabled": schedule.enabled,
        "ahead": schedule.overlap is Overlap.ALLOW,
        "next_fire_at": cursor,
        "timing": timing,
        "job": schedule.job,
        "queue": schedule.queue,
        "args": schedule.args,
        "catchup": schedule.catchup.value,
        "catchup_window": schedule.catchup_window,
        "catchup_limit": schedule.catchup_limit,
        "overlap": schedule.overlap.value,
        "timeout": schedule.timeout,
        "retry": schedule.retry.as_dict() if schedule.retry else None,
        "source": place[0],
        "origin": place[1],
        "definition": schedule.as_dict(),
        "fingerprint": schedule.fingerprint(),
    }
