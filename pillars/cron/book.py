"""The schedule book: the definitions in the schedules table, and how they change.

Every change runs in one transaction: it locks the book and the rows it changes, so that no fire
comes in between, withdraws the jobs that were enqueued ahead and are not due, sets the cursor and
bumps the version, so that no plan made before it can fire.

- An edit takes effect from its commit: the cursor goes to the first tick after it.
- An edit that leaves the timing alone loses nothing: ticks that are overdue stay to be fired.
- No tick at or before the last one fired is fired again; paused time is not caught up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.cron.definition import Overlap, Timing
from pillars.cron.fires import fires_between, next_fire
from pillars.cron.ticker import SQL
from pillars.db.connection import fetch
from pillars.ground.errors import PillarsError, did_you_mean
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.cron.definition import Schedule
    from pillars.db.database import Database, Link

_LOCK = 0x626F6F6B
# Ticks counted when an edit overtakes a backlog; a longer one is recorded as this long.
_MOST_OVERTAKEN = 10_000


class ScheduleNotFoundError(PillarsError):
    """No such schedule."""


class ScheduleConflictError(PillarsError):
    """A schedule's name belongs to another source."""


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule as it stands in the table."""

    id: int
    name: str
    slot: int
    enabled: bool
    paused_at: datetime | None
    timing: str
    job: str
    queue: str
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    source: str
    origin: str | None
    definition: dict[str, Any]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying a set of definitions changes, by name."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Tell whether anything changes."""
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    id: int
    fingerprint: str
    source: str
    origin: str | None
    timing: str
    enabled: bool
    slot: int
    job: str
    queue: str
    next_fire_at: int | None

    def overdue(self, now: float) -> bool:
        """Tell whether a tick was due and has not been fired."""
        return self.enabled and self.next_fire_at is not None and self.next_fire_at <= now


async def list_schedules(
    database: Database,
    *,
    after: str | None = None,
    limit: int = 100,
    soonest: bool = False,
) -> list[ScheduleRecord]:
    """Return schedules by name (go on with `after`), or those that fire next."""
    if soonest:
        rows = await database.fetch(SQL["soonest_schedules"], {"limit": limit})
    else:
        rows = await database.fetch(SQL["list_schedules"], {"after": after, "limit": limit})
    return [ScheduleRecord(*row) for row in rows]


async def show_schedule(database: Database, name: str) -> ScheduleRecord:
    """Return one schedule.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    rows = await database.fetch(SQL["show_schedule"], {"name": name})
    if not rows:
        near = [record.name for record in await list_schedules(database, limit=1_000)]
        raise ScheduleNotFoundError(f"there is no schedule {name!r}{did_you_mean(name, near)}")
    return ScheduleRecord(*rows[0])


async def count_owned(link: Link, slots: bytes) -> int:
    """Return how many schedules lie in these slots (512 bytes, as get_bit counts)."""
    rows = await link.fetch(SQL["count_owned"], {"slots": slots})
    return int(rows[0][0])


async def lock_book(connection: AsyncConnection[Any]) -> None:
    """Hold the book until the transaction ends."""
    await fetch(connection, SQL["lock_schedules"], {"lock": _LOCK})


async def compare(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
) -> Difference:
    """Return what applying these definitions as the set of all file schedules would change."""
    return _difference(await _known(connection, schedules), schedules)


async def reconcile(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    origins: Mapping[str, str],
) -> Difference:
    """Make these definitions the set of all file schedules, inside the caller's transaction.

    Raises:
        ScheduleConflictError: names that were made through the API or in code; nothing is changed.
    """
    known = await _known(connection, schedules)
    _refuse_foreign(known, schedules, origins)
    difference = _difference(known, schedules)
    changing = {*difference.added, *difference.changed}
    ids = [known[name].id for name in (*difference.changed, *difference.removed)]
    known |= await _hold(connection, ids)
    await _withdraw(connection, ids)
    if difference.removed:
        gone = [known[name].id for name in difference.removed]
        await fetch(connection, SQL["remove_schedules"], {"ids": gone})
    now = await database_time(connection)
    await _record_overtaken(connection, known, schedules, now)
    rows = [
        _row(schedule, known.get(schedule.name), "file", origins.get(schedule.name), now)
        for schedule in schedules
        if schedule.name in changing
    ]
    if rows:
        await fetch(connection, SQL["put_schedules"], {"rows": json.dumps(rows)})
    moved = {
        name: origin
        for name, origin in origins.items()
        if name in known and name not in changing and known[name].origin != origin
    }
    if moved:
        params = {"names": list(moved), "origins": list(moved.values())}
        await fetch(connection, SQL["move_origins"], params)
    return difference


async def pause(database: Database, name: str) -> None:
    """Stop a schedule; its jobs that were enqueued ahead are taken back.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    await _set_paused(database, name, paused=True)


async def resume(database: Database, name: str) -> None:
    """Let a paused schedule go on from now; the time it was paused is not caught up.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    await _set_paused(database, name, paused=False)


async def remove(database: Database, name: str) -> None:
    """Delete a schedule; one that a file still holds comes back with the file's next change.

    Raises:
        ScheduleNotFoundError: there is none with this name.
    """
    record = await show_schedule(database, name)
    async with database.transaction() as connection:
        await lock_book(connection)
        await _hold(connection, [record.id])
        await _withdraw(connection, [record.id])
        await fetch(connection, SQL["remove_schedules"], {"ids": [record.id]})


async def database_time(connection: AsyncConnection[Any]) -> float:
    """Return the database's clock in epoch seconds."""
    ((now,),) = await fetch(connection, SQL["now"], {"now": None})
    return float(now)


async def _set_paused(database: Database, name: str, *, paused: bool) -> None:
    await show_schedule(database, name)
    async with database.transaction() as connection:
        rows = await fetch(connection, SQL["lock_schedule"], {"name": name})
        if not rows:
            raise ScheduleNotFoundError(f"there is no schedule {name!r}")
        key, _, timing, _, was_paused, _, meant, next_at, _ = rows[0]
        if was_paused == paused:
            return
        await _withdraw(connection, [key])
        now = int(await database_time(connection))
        await fetch(
            connection,
            SQL["set_cursor"],
            {
                "id": key,
                "enabled": meant and not paused,
                "paused": paused,
                "next": next_at if paused else next_fire(Timing.decode(timing), now),
            },
        )


async def _withdraw(connection: AsyncConnection[Any], ids: Sequence[int]) -> None:
    if ids:
        await fetch(connection, QUEUE["withdraw_ticks"], {"schedule_ids": list(ids), "now": None})


async def _known(
    connection: AsyncConnection[Any],
    schedules: Iterable[Schedule],
) -> dict[str, _Known]:
    names = [schedule.name for schedule in schedules]
    rows = await fetch(connection, SQL["known_schedules"], {"names": names})
    return {row[0]: _Known(*row) for row in rows}


async def _hold(connection: AsyncConnection[Any], ids: Sequence[int]) -> dict[str, _Known]:
    """Lock rows until the transaction ends, and return them as a fire just before left them."""
    rows = await fetch(connection, SQL["hold_schedules"], {"ids": list(ids)}) if ids else ()
    return {row[0]: _Known(*row) for row in rows}


def _difference(known: Mapping[str, _Known], schedules: Sequence[Schedule]) -> Difference:
    wanted = {schedule.name for schedule in schedules}
    return Difference(
        added=tuple(schedule.name for schedule in schedules if schedule.name not in known),
        changed=tuple(
            schedule.name
            for schedule in schedules
            if schedule.name in known and known[schedule.name].fingerprint != schedule.fingerprint()
        ),
        removed=tuple(
            sorted(
                name for name, row in known.items() if name not in wanted and row.source == "file"
            )
        ),
    )


def _refuse_foreign(
    known: Mapping[str, _Known],
    schedules: Sequence[Schedule],
    origins: Mapping[str, str],
) -> None:
    foreign = [s.name for s in schedules if s.name in known and known[s.name].source != "file"]
    if foreign:
        raise ScheduleConflictError(
            "\n".join(
                f"{origins.get(name, name)}: schedule {name!r} was made by "
                f"{known[name].source}: rename it here, or `pillars schedules remove {name}` first"
                for name in foreign
            ),
        )


async def _record_overtaken(
    connection: AsyncConnection[Any],
    known: Mapping[str, _Known],
    schedules: Sequence[Schedule],
    now: float,
) -> None:
    """Record ticks of the old timing that were due and that the edit leaves unfired."""
    rows = []
    for schedule in schedules:
        old = known.get(schedule.name)
        if old is None or not old.overdue(now) or old.timing == schedule.timing.encode():
            continue
        first = old.next_fire_at or 0
        further = fires_between(Timing.decode(old.timing), first, int(now), _MOST_OVERTAKEN)
        rows.append(
            {
                "schedule_id": old.id,
                "fire_at": first,
                "slot": old.slot,
                "type": old.job,
                "queue": old.queue,
                "schedule": old.name,
                "reason": "the schedule was edited before cron came to fire it",
                "ticks": 1 + len(further),
                "fire_until": further[-1] if further else first,
            },
        )
    if rows:
        await fetch(connection, QUEUE["record_missed"], {"rows": json.dumps(rows)})


def _row(
    schedule: Schedule,
    known: _Known | None,
    source: str,
    origin: str | None,
    now: float,
) -> dict[str, Any]:
    timing = schedule.timing.encode()
    cursor = next_fire(schedule.timing, int(now))
    if known is not None and known.overdue(now) and known.timing == timing:
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
        "source": source,
        "origin": origin,
        "definition": schedule.as_dict(),
        "fingerprint": schedule.fingerprint(),
    }
