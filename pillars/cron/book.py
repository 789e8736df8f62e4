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
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    source: str | None = None,
    enabled: bool | None = None,
) -> list[ScheduleRecord]:
    """Return schedules by name (go on with `after`), or those that fire next.

    Args:
        database: holds them.
        after: only names that sort after this one.
        limit: how many at most.
        soonest: those that fire next, soonest first; `after` and `enabled` have no meaning then.
        source: only those made by file, api or code.
        enabled: only those that fire, or only those that are paused or disabled.
    """
    if soonest:
        rows = await database.fetch(SQL["soonest_schedules"], {"source": source, "limit": limit})
    else:
        params = {"after": after, "source": source, "enabled": enabled, "limit": limit}
        rows = await database.fetch(SQL["list_schedules"], params)
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
    code: Collection[str] | None = None,
) -> Difference:
    """Return what `reconcile` would change."""
    sources = _sources(code)
    return _difference(await _known(connection, schedules, sources), schedules, sources)


async def reconcile(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    origins: Mapping[str, str],
    code: Collection[str] | None = None,
) -> Difference:
    """Make these definitions the set of all in files and code, inside the caller's transaction.

    Args:
        connection: in a transaction that holds the book.
        schedules: the set.
        origins: where each is written, by name.
        code: the names of those that are written in code; None where no application is known:
            schedules in code then stay as they are.

    Raises:
        ScheduleConflictError: names that belong to another source; nothing is changed.
    """
    sources = _sources(code)
    known = await _known(connection, schedules, sources)
    _refuse_foreign(
        known,
        schedules,
        sources,
        lambda old: (
            f"{origins.get(old.name, old.name)}: schedule {old.name!r} was made by "
            f"{old.source}: rename it here, or `pillars schedules remove {old.name}` first"
        ),
    )
    in_code = code or ()
    places = {
        each.name: ("code" if each.name in in_code else "file", origins.get(each.name))
        for each in schedules
    }
    difference = _difference(known, schedules, sources)
    await _write(connection, known, schedules, difference, places)
    return difference


async def put(connection: AsyncConnection[Any], schedules: Sequence[Schedule]) -> Difference:
    """Create or replace schedules that are nowhere but in the book, in the caller's transaction.

    Raises:
        ScheduleConflictError: names that belong to a file or to code; nothing is changed.
    """
    known = await _known(connection, schedules, ())
    _refuse_foreign(
        known,
        schedules,
        ("api",),
        lambda old: (
            f"schedule {old.name!r} is written in {old.origin or old.source}: "
            "change it there, or choose another name"
        ),
    )
    difference = _difference(known, schedules, ())
    places = {each.name: ("api", None) for each in schedules}
    await _write(connection, known, schedules, difference, places)
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


def _sources(code: Collection[str] | None) -> tuple[str, ...]:
    """Return the sources whose schedules a set replaces."""
    return ("file",) if code is None else ("file", "code")


async def _known(
    connection: AsyncConnection[Any],
    schedules: Iterable[Schedule],
    sources: Sequence[str],
) -> dict[str, _Known]:
    params = {"names": [schedule.name for schedule in schedules], "sources": list(sources)}
    rows = await fetch(connection, SQL["known_schedules"], params)
    return {row[0]: _Known(*row) for row in rows}


async def _hold(connection: AsyncConnection[Any], ids: Sequence[int]) -> dict[str, _Known]:
    """Lock rows until the transaction ends, and return them as a fire just before left them."""
    rows = await fetch(connection, SQL["hold_schedules"], {"ids": list(ids)}) if ids else ()
    return {row[0]: _Known(*row) for row in rows}


def _difference(
    known: Mapping[str, _Known],
    schedules: Sequence[Schedule],
    sources: Sequence[str],
) -> Difference:
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
                name for name, row in known.items() if name not in wanted and row.source in sources
            )
        ),
    )


def _refuse_foreign(
    known: Mapping[str, _Known],
    schedules: Sequence[Schedule],
    sources: Sequence[str],
    sentence: Callable[[_Known], str],
) -> None:
    rows = (known[schedule.name] for schedule in schedules if schedule.name in known)
    if foreign := [row for row in rows if row.source not in sources]:
        raise ScheduleConflictError("\n".join(map(sentence, foreign)))


async def _write(
    connection: AsyncConnection[Any],
    known: dict[str, _Known],
    schedules: Sequence[Schedule],
    difference: Difference,
    places: Mapping[str, tuple[str, str | None]],
) -> None:
    """Bring the book from what is known to what is wanted; `places` are source and origin."""
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
        _row(schedule, known.get(schedule.name), places[schedule.name], now)
        for schedule in schedules
        if schedule.name in changing
    ]
    if rows:
        await fetch(connection, SQL["put_schedules"], {"rows": json.dumps(rows)})
    moved = {
        name: place
        for name, place in places.items()
        if name not in changing and place != (known[name].source, known[name].origin)
    }
    if moved:
        sources, origins = zip(*moved.values(), strict=True)
        params = {"names": list(moved), "sources": list(sources), "origins": list(origins)}
        await fetch(connection, SQL["move_origins"], params)


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
    place: tuple[str, str | None],
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
        "source": place[0],
        "origin": place[1],
        "definition": schedule.as_dict(),
        "fingerprint": schedule.fingerprint(),
    }
