"""Tickers and schedules for tests, at noon on the first of January 2030."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pillars.cluster.ring import SLOTS
from pillars.cron.book import reconcile
from pillars.cron.definition import parse_schedule
from pillars.cron.ticker import OwnTicker, SweepTicker

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from pillars.cron.definition import Schedule
    from pillars.db.database import Database
    from tests.helpers import FakeClock, RecordingListener

ALL_SLOTS = b"\xff" * (SLOTS // 8)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def schedule(name: str = "s", **keys: Any) -> Schedule:
    timing = {} if keys.keys() & {"cron", "every", "at"} else {"every": "10s"}
    return parse_schedule({"name": name, "job": "noop", **timing, **keys})


async def write(
    database: Database,
    sql: psycopg.Connection[Any],
    *schedules: Schedule,
    cursor: datetime = NOON,
) -> None:
    async with database.transaction() as connection:
        await reconcile(connection, schedules, {})
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s", (cursor,))


def own(
    database: Database,
    events: RecordingListener,
    clock: FakeClock,
    slots: bytes = ALL_SLOTS,
    lookahead: float = 5.0,
    progressed: Callable[[], None] = lambda: None,
) -> OwnTicker:
    return OwnTicker(
        database.link("ticker"),
        slots=lambda: slots,
        progressed=progressed,
        lookahead=lookahead,
        emit=events,
        clock=clock,
    )


def sweep(
    database: Database,
    events: RecordingListener,
    clock: FakeClock,
    busy: Callable[[], bool] = lambda: False,
) -> SweepTicker:
    return SweepTicker(database.link("sweeper"), lookahead=5.0, emit=events, clock=clock, busy=busy)


def rows(sql: psycopg.Connection[Any], columns: str = "state, fire_at") -> list[tuple[Any, ...]]:
    return sql.execute(f"SELECT {columns} FROM pillars.jobs ORDER BY fire_at").fetchall()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)
