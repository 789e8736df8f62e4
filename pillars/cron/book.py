"""The schedule book: the definitions in the schedules table, from files, code and the API.

A set of definitions is compared with the book by fingerprint and applied in one transaction, under
the lock of the book; see `edits` for what becomes of the ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.cron.changes import Known
from pillars.cron.edits import write
from pillars.cron.statements import SQL
from pillars.db.connection import fetch
from pillars.ground.errors import PillarsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.cron.definition import Schedule
    from pillars.db.database import Database, Link


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
        near = [record.name for record in await list_schedules(database, limit=1_000)]
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
    sources = _sources(code)
    return _difference(await _known(connection, schedules, sources), schedules, sources)


async def reconcile(
    connection: AsyncConnection[Any],
    schedules: Sequence[Schedule],
    origins: Mapping[str, str],
    code: Collection[str] | None = None,
    *,
    now: datetime | None = None,
) -> Difference:
    """Make these definitions the set of all in files and code, inside the caller's transaction.

    Args:
        connection: in a transaction that holds the book.
        schedules: the set.
        origins: where each is written, by name.
        code: the names of those that are written in code; None where no application is known:
            schedules in code then stay as they are.
        now: overrides the database's clock.

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
    await write(connection, known, schedules, difference, places, now=now)
    return difference


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
    await write(connection, known, schedules, difference, places, now=now)
    return difference


def _sources(code: Collection[str] | None) -> tuple[str, ...]:
    """Return the sources whose schedules a set replaces."""
    return ("file",) if code is None else ("file", "code")


async def _known(
    connection: AsyncConnection[Any],
    schedules: Iterable[Schedule],
    sources: Sequence[str],
) -> dict[str, Known]:
    params = {"names": [schedule.name for schedule in schedules], "sources": list(sources)}
    rows = await fetch(connection, SQL["known_schedules"], params)
    return {row[0]: Known(*row) for row in rows}


def _difference(
    known: Mapping[str, Known],
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
    known: Mapping[str, Known],
    schedules: Sequence[Schedule],
    sources: Sequence[str],
    sentence: Callable[[Known], str],
) -> None:
    rows = (known[schedule.name] for schedule in schedules if schedule.name in known)
    if foreign := [row for row in rows if row.source not in sources]:
        raise ScheduleConflictError("\n".join(map(sentence, foreign)))
