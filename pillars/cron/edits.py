"""How edits are written into the book.

An edit locks the rows it changes, so that no fire comes in between, withdraws the jobs that were
enqueued ahead and are not due, sets the cursor and bumps the version, so that no plan made before
it can fire.

- It takes effect from its commit: the cursor goes to the first tick after it.
- One that leaves the timing alone loses nothing: ticks that are overdue stay to be fired.
- No tick at or before the last one fired is fired again; stopped time is not caught up.
- A tick that it leaves unfired is recorded as missed.

Many edits are written page by page, so that no statement is long, and the rows of a page are
computed in a thread while the database writes the page before. New schedules come first: they take
long and are in nobody's way. Cursors of a new timing that were passed meanwhile are moved on at the
end; ticks of the old one that come between the writing of its page and the commit are not recorded.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pillars.cron.changes import Known, hold, instant_of_change, missed_ticks, record, withdraw
from pillars.cron.definition import Overlap
from pillars.cron.fires import next_fire
from pillars.cron.statements import SQL
from pillars.db.arrays import int_array
from pillars.db.connection import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.cron.definition import Schedule

# The rows of a page are computed within a second or two, also where each tick is years away: the
# database ends a transaction that is idle for longer.
PAGE: Final = 1_000
# Seconds within which even a million edits are written.
_SOON: Final = 900
# How long it is known which ids a removed name had; what became of its ticks is kept less long.
_REMEMBERED_DAYS = 30
_FORGET_AT_ONCE = 1_000

T = TypeVar("T")
Place = tuple[str, str | None]


class Change(NamedTuple):
    """What is to become of one schedule.

    Attributes:
        id: its row; None where there is none.
        new: its definition; None where it is to go.
        place: source and origin of the definition.
    """

    id: int | None
    new: Schedule | None
    place: Place = ("", None)


async def write(
    connection: AsyncConnection[Any],
    changes: Sequence[Change],
    told: Callable[[int], None],
    *,
    now: datetime | None,
) -> None:
    """Write changes into the book, in the caller's transaction; `told` of each how many at once."""
    # Rows in order of id, as fires lock them.
    ordered = sorted(changes, key=lambda change: change.id or 0)
    computed: _Page | None = None
    soon: list[tuple[int, Schedule]] = []
    for page in pages(ordered):
        known = await hold(connection, [change.id for change in page if change.id is not None])
        instant = await instant_of_change(connection, now)
        by_id = {row.id: row for row in known.values()}
        computing = asyncio.to_thread(_compute, page, by_id, instant)
        _, computed = await asyncio.gather(_put(connection, computed, told), computing)
        soon += computed.soon
    await _put(connection, computed, told)
    if len(ordered) > PAGE:
        await _move_on(connection, soon, await instant_of_change(connection, now))


async def move_origins(connection: AsyncConnection[Any], places: Mapping[str, Place]) -> None:
    """Note where unchanged definitions are written now."""
    for page in pages(list(places.items())):
        params = {
            "names": [name for name, _ in page],
            "sources": [source for _, (source, _) in page],
            "origins": [origin for _, (_, origin) in page],
        }
        await fetch(connection, SQL["move_origins"], params)


def pages(items: Sequence[T], size: int = PAGE) -> Iterator[Sequence[T]]:
    """Cut a sequence into pages."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def delete_schedules(connection: AsyncConnection[Any], ids: Sequence[int]) -> None:
    """Delete rows that are held; their ids stay known by name for a while."""
    if ids:
        await fetch(connection, SQL["remove_schedules"], {"ids": list(ids)})
        params = {"days": _REMEMBERED_DAYS, "limit": _FORGET_AT_ONCE}
        await fetch(connection, SQL["forget_removed"], params)


def row_of(
    schedule: Schedule,
    known: Known | None,
    place: Place,
    now: datetime,
) -> dict[str, Any]:
    """Return the columns of a definition, its cursor after `now` unless it has one to keep."""
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


class _Page(NamedTuple):
    """All that there is to write for some changes; `soon` are cursors that may be passed soon."""

    changes: int
    instant: datetime
    withdrawn: dict[int, str]
    gone: list[int]
    missed: list[dict[str, Any]]
    rows: str
    soon: list[tuple[int, Schedule]]


def _compute(page: Sequence[Change], known: Mapping[int, Known], instant: datetime) -> _Page:
    olds = [known.get(change.id or 0) for change in page]
    edits = [
        (old, change.new)
        for old, change in zip(olds, page, strict=True)
        if old is not None and change.new is not None
    ]
    gone = [
        old for old, change in zip(olds, page, strict=True) if old is not None and not change.new
    ]
    left = [(old, _what_was_done(old, new)) for old, new in edits if not _keeps_its_ticks(old, new)]
    rows = [
        row_of(change.new, old, change.place, instant)
        for old, change in zip(olds, page, strict=True)
        if change.new is not None
    ]
    # One that keeps its ticks keeps those of meanwhile, too.
    beginning = {
        change.new.name: change.new
        for old, change in zip(olds, page, strict=True)
        if change.new is not None and (old is None or not _keeps_its_ticks(old, change.new))
    }
    now = instant.timestamp()
    return _Page(
        len(page),
        instant,
        {old.id: f"the schedule was {_what_was_done(old, new)}" for old, new in edits}
        | {old.id: "the schedule was removed" for old in gone},
        [old.id for old in gone],
        missed_ticks([*left, *((old, "removed") for old in gone)], instant),
        json.dumps(rows),
        [
            (cursor, beginning[row["name"]])
            for row in rows
            if row["name"] in beginning
            and (cursor := row["next_fire_at"]) is not None
            and now < cursor < now + _SOON
        ],
    )


async def _put(
    connection: AsyncConnection[Any], page: _Page | None, told: Callable[[int], None]
) -> None:
    if page is None:
        return
    await withdraw(connection, page.withdrawn, page.instant)
    await delete_schedules(connection, page.gone)
    await record(connection, page.missed)
    if len(page.gone) < page.changes:
        params = {"rows": page.rows, "now": page.instant}
        await fetch(connection, SQL["put_schedules"], params)
    told(page.changes)


async def _move_on(
    connection: AsyncConnection[Any], soon: Sequence[tuple[int, Schedule]], instant: datetime
) -> None:
    """Set cursors that were passed while the pages were written to the first tick after them."""
    now = int(instant.timestamp())
    passed = [schedule for cursor, schedule in soon if cursor <= now]
    for page in pages(passed):
        cursors = await asyncio.to_thread(
            lambda page: [next_fire(schedule.timing, now) for schedule in page], page
        )
        params = {"names": [schedule.name for schedule in page], "next": int_array(cursors)}
        await fetch(connection, SQL["move_on"], params)


def _what_was_done(old: Known, new: Schedule) -> str:
    return "disabled" if old.enabled and not new.enabled else "edited"


def _keeps_its_ticks(old: Known, new: Schedule) -> bool:
    """Tell whether all that was due stays to be fired, or to be recorded when it goes on."""
    fires = new.enabled and old.paused_at is None
    return old.timing == new.timing.encode() and old.enabled == fires
