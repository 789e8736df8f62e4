"""The schedule book: the definitions in the schedules table, from files, code and the API.

A set of definitions is compared with the book by fingerprint and applied in one transaction, under
the lock of the book; see `edits` for what becomes of the ticks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pillars.cron.edits import Change, move_origins, pages, write
from pillars.cron.progress import nobody
from pillars.cron.statements import SQL
from pillars.db.connection import fetch
from pillars.ground.errors import PillarsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.cron.definition import Schedule
    from pillars.cron.edits import Place
    from pillars.cron.progress import Told
    from pillars.db.database import Database, Link

_NAMES: Final = 10_000


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
        near = [near for (near,) in await database.fetch(SQL["neighbours"], {"name": name})]
        raise ScheduleNotFoundError(f"there is no schedule {name!r}{did_you_mean(name, near)}")
    return ScheduleRecord(*rows[0])


async def count_owned(link: Link, slots: bytes) -> int:
    """Return how many schedules lie in these slots (512 bytes, as get_bit counts)."""
    rows = await link.fetch(SQL["count_owned"], {"slots": slots})
    return int(rows[0][0])


async def compare(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    code: Collection[str] | None = None,
) -> Difference:
    """Return what `reconcile` would change."""
    places = dict.fromkeys((schedule.name for schedule in schedules), ("", None))
    return (await _compare(connection, schedules, _sources(code), places)).difference()


async def reconcile(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    origins: Mapping[str, str],
    code: Collection[str] | None = None,
    *,
    now: datetime | None = None,
    told: Told = nobody,
) -> Difference:
    """Make these definitions the set of all in files and code, inside the caller's transaction.

    Args:
        connection: in a transaction that holds the book.
        schedules: the set.
        origins: where each is written, by name.
        code: the names of those that are written in code; None where no application is known:
            schedules in code then stay as they are.
        now: overrides the database's clock.
        told: hears how far it is.

    Raises:
        ScheduleConflictError: names that belong to another source; nothing is changed.
    """
    await fetch(connection, SQL["allow_pauses"])
    sources = _sources(code)
    in_code = code or ()
    places: dict[str, Place] = {
        each.name: ("code" if each.name in in_code else "file", origins.get(each.name))
        for each in schedules
    }
    found = await _compare(connection, schedules, sources, places, told)
    _refuse_foreign(
        found,
        sources,
        lambda old: (
            f"{origins.get(old.name, old.name)}: schedule {old.name!r} was made by "
            f"{old.source}: rename it here, or `pillars schedules remove {old.name}` first"
        ),
    )
    await _write(connection, found, now, told)
    await move_origins(connection, found.moved)
    return found.difference()


async def put(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    *,
    now: datetime | None = None,
) -> Difference:
    """Create or replace schedules that are nowhere but in the book, in the caller's transaction.

    `now` overrides the database's clock.

    Raises:
        ScheduleConflictError: names that belong to a file or to code; nothing is changed.
    """
    places: dict[str, Place] = dict.fromkeys((each.name for each in schedules), ("api", None))
    found = await _compare(connection, schedules, (), places)
    _refuse_foreign(
        found,
        ("api",),
        lambda old: (
            f"schedule {old.name!r} is written in {old.origin or old.source}: "
            "change it there, or choose another name"
        ),
    )
    await _write(connection, found, now, nobody)
    return found.difference()


def _sources(code: Collection[str] | None) -> tuple[str, ...]:
    """Return the sources whose schedules a set replaces."""
    return ("file",) if code is None else ("file", "code")


class _Row(NamedTuple):
    """What a definition is compared with."""

    name: str
    id: int
    fingerprint: str
    source: str
    origin: str | None


@dataclass(slots=True)
class _Comparison:
    """How a set differs from the book; only what differs is kept, for the rest may be a million."""

    added: list[Change] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)
    moved: dict[str, Place] = field(default_factory=dict)
    rows_of_others: list[_Row] = field(default_factory=list)

    def take(
        self,
        schedules: Iterable[Schedule],
        rows: Iterable[tuple[Any, ...]],
        places: Mapping[str, Place],
    ) -> None:
        """Compare some schedules with the rows of their names."""
        known = {row[0]: _Row(*row) for row in rows}
        for schedule in schedules:
            place = places[schedule.name]
            row = known.get(schedule.name)
            if row is None:
                self.added.append(Change(None, schedule, place))
                continue
            if row.fingerprint != schedule.fingerprint():
                self.changed.append(Change(row.id, schedule, place))
            elif place != (row.source, row.origin):
                self.moved[row.name] = place
            if row.source != place[0]:
                self.rows_of_others.append(row)

    def difference(self) -> Difference:
        """Return what changes, by name."""
        return Difference(
            tuple(change.new.name for change in self.added if change.new),
            tuple(change.new.name for change in self.changed if change.new),
            tuple(sorted(self.removed)),
        )


async def _compare(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    sources: Sequence[str],
    places: Mapping[str, Place],
    told: Told = nobody,
) -> _Comparison:
    found = _Comparison()
    compared = 0
    for page in pages(schedules):
        names = [schedule.name for schedule in page]
        rows = await fetch(connection, SQL["known_schedules"], {"names": names})
        await asyncio.to_thread(found.take, page, rows, places)
        compared += len(page)
        told("compared", compared, len(schedules))
    after = 0
    while sources:
        params = {"after": after, "sources": list(sources), "limit": _NAMES}
        rows = await fetch(connection, SQL["names_of_sources"], params)
        found.removed.update((name, key) for key, name in rows if name not in places)
        if len(rows) < _NAMES:
            break
        after = rows[-1][0]
    return found


async def _write(
    connection: AsyncConnection[Any], found: _Comparison, now: datetime | None, told: Told
) -> None:
    gone = [Change(key, None) for key in found.removed.values()]
    changes = [*found.added, *found.changed, *gone]
    done = 0

    def count(written: int) -> None:
        nonlocal done
        done += written
        told("written", done, len(changes))

    await write(connection, changes, count, now=now)


def _refuse_foreign(
    found: _Comparison,
    sources: Sequence[str],
    sentence: Callable[[_Row], str],
) -> None:
    if foreign := [row for row in found.rows_of_others if row.source not in sources]:
        raise ScheduleConflictError("\n".join(map(sentence, foreign)))
