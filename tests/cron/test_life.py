"""Pause, resume, edit, remove, fire by hand, backfill, and what history says of it.

Time is the test's: NOON is a full hour, and the schedules fire by the hour or the minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pillars.cluster.ring import SLOTS
from pillars.cron import backfill as backfill_module
from pillars.cron.backfill import BackfillError, backfill
from pillars.cron.book import ScheduleNotFoundError, reconcile
from pillars.cron.definition import parse_schedule
from pillars.cron.history import history
from pillars.cron.life import fire, pause, remove, resume
from pillars.cron.outcomes import Outcome
from pillars.cron.ticker import OwnTicker
from pillars.ground.events import JobsEnqueued
from tests.helpers import FakeClock

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


async def write(database: Database, clock: FakeClock, *schedules: dict[str, Any]) -> None:
    parsed = [
        parse_schedule({"job": "noop", **({} if "cron" in each else {"every": "1m"}), **each})
        for each in schedules
    ]
    async with database.transaction() as connection:
        await reconcile(connection, parsed, {}, now=clock.now)


async def step(database: Database, events: RecordingListener, clock: FakeClock) -> None:
    ticker = OwnTicker(
        database.link("ticker"),
        slots=lambda: b"\xff" * (SLOTS // 8),
        progressed=lambda: None,
        lookahead=5.0,
        emit=events,
        clock=clock,
    )
    while await ticker.step() == 0:
        pass


async def told(database: Database, name: str = "s", **filters: Any) -> list[tuple[Any, ...]]:
    """Outcome, minutes from noon and ticks of each occurrence, oldest first."""
    return [
        (each.outcome, (each.fire_at - NOON).total_seconds() / 60, each.ticks)
        for each in reversed(await history(database, name, **filters))
    ]


async def reasons(database: Database, outcome: Outcome, name: str = "s") -> list[str | None]:
    return [each.reason for each in await history(database, name, outcome=outcome)]


def end_all(sql: psycopg.Connection[Any]) -> None:
    sql.execute(
        "UPDATE pillars.jobs SET state = 'succeeded', finished_at = now(), attempt = 1"
        " WHERE finished_at IS NULL"
    )


# ---- what is withdrawn, and what is left unfired


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("pause", "withdrawn: the schedule was paused"),
        ("edit", "withdrawn: the schedule was edited"),
        ("disable", "withdrawn: the schedule was disabled"),
        ("remove", "withdrawn: the schedule was removed"),
        ("leave the files", "withdrawn: the schedule was removed"),
    ],
)
async def test_each_job_that_is_withdrawn_is_on_record_with_the_reason(
    database: Database, events: RecordingListener, clock: FakeClock, what: str, reason: str
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(57)
    await step(database, events, clock)

    match what:
        case "pause":
            await pause(database, "s", now=clock.now)
        case "edit":
            await write(database, clock, {"name": "s", "cron": "30 * * * *"})
        case "disable":
            await write(database, clock, {"name": "s", "enabled": False})
        case "remove":
            await remove(database, "s", now=clock.now)
        case _:
            await write(database, clock)

    (found,) = await history(database, "s")
    assert (found.outcome, found.fire_at, found.reason) == ("withdrawn", at(1), reason)
    assert found.job_id is None


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("pause", "the schedule was paused before cron came to fire it"),
        ("edit", "the schedule was edited before cron came to fire it"),
        ("disable", "the schedule was disabled before cron came to fire it"),
        ("remove", "the schedule was removed before cron came to fire it"),
    ],
)
async def test_ticks_that_are_overdue_when_a_schedule_changes_are_recorded_as_missed(
    database: Database, clock: FakeClock, what: str, reason: str
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(3 * 60)

    match what:
        case "pause":
            await pause(database, "s", now=clock.now)
        case "edit":
            await write(database, clock, {"name": "s", "cron": "30 * * * *"})
        case "disable":
            await write(database, clock, {"name": "s", "enabled": False})
        case _:
            await remove(database, "s", now=clock.now)

    (found,) = await history(database, "s")
    assert (found.outcome, found.fire_at, found.fire_until) == ("missed", at(1), at(3))
    assert (found.ticks, found.reason) == (3, reason)


async def test_time_that_was_paused_is_one_record_and_never_fired(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "catchup": "all"})
    clock.advance(57)
    await step(database, events, clock)
    await pause(database, "s", now=clock.now)
    clock.advance(3 * 60)

    await resume(database, "s", now=clock.now)
    await step(database, events, clock)

    assert await told(database) == [("missed", 1, 3), ("withdrawn", 1, 1), ("enqueued", 4, 1)]
    assert await reasons(database, Outcome.MISSED) == [
        "paused from 2030-01-01T12:00:57Z until 2030-01-01T12:03:57Z"
    ]


async def test_a_pause_that_ends_before_the_next_tick_costs_no_tick(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(57)
    await step(database, events, clock)

    await pause(database, "s", now=clock.now)
    clock.advance(1)
    await resume(database, "s", now=clock.now)
    await step(database, events, clock)

    assert await told(database) == [("withdrawn", 1, 1), ("enqueued", 1, 1)]


async def test_time_that_was_disabled_is_one_record_and_never_fired(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "enabled": False})
    clock.advance(150)
    await write(database, clock, {"name": "s", "enabled": False, "args": {"a": 1}})
    clock.advance(60)

    await write(database, clock, {"name": "s", "catchup": "all"})
    await step(database, events, clock)

    assert await told(database) == [("missed", 1, 3)]
    assert await reasons(database, Outcome.MISSED) == ["disabled until 2030-01-01T12:03:30Z"]


async def test_an_edit_of_a_paused_schedule_keeps_the_record_of_the_old_timing(
    database: Database, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)
    clock.advance(150)
    await write(database, clock, {"name": "s", "cron": "*/5 * * * *"})
    clock.advance(480)

    await resume(database, "s", now=clock.now)

    assert await told(database) == [("missed", 1, 2), ("missed", 5, 2)]


async def test_a_pause_too_long_to_count_says_so(database: Database, clock: FakeClock) -> None:
    await write(database, clock, {"name": "s", "every": "1s"})
    await pause(database, "s", now=clock.now)
    clock.advance(86_400)

    await resume(database, "s", now=clock.now)

    (found,) = await history(database, "s")
    assert (found.ticks, found.fire_until) == (10_000, clock.now)
    assert (found.reason or "").endswith("; at least so many ticks")


async def test_the_notes_of_withdrawn_ticks_tell_nothing_of_other_schedules(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "a"}, {"name": "b"})
    clock.advance(57)
    await step(database, events, clock)

    await pause(database, "a", now=clock.now)

    assert await told(database, "a") == [("withdrawn", 1, 1)]
    assert await told(database, "b") == [("enqueued", 1, 1)]


async def test_a_namesake_of_a_removed_schedule_has_its_history_too(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(60)
    await step(database, events, clock)
    await remove(database, "s", now=clock.now)
    await write(database, clock, {"name": "s"})
    clock.advance(60)
    await step(database, events, clock)

    assert await told(database) == [("enqueued", 1, 1), ("enqueued", 2, 1)]


# ---- history


async def test_history_tells_states_times_and_lateness(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    for _ in range(3):
        clock.advance(60)
        await step(database, events, clock)
    sql.execute(
        "UPDATE pillars.jobs SET state = 'succeeded', attempt = 1,"
        " started_at = fire_at + interval '1.5 s', finished_at = fire_at + interval '2 s'"
        " WHERE fire_at = %s",
        (at(2),),
    )
    sql.execute("UPDATE pillars.jobs SET gate = 'parked' WHERE fire_at = %s", (at(3),))

    assert await told(database) == [("enqueued", 1, 1), ("succeeded", 2, 1), ("buffered", 3, 1)]
    (found,) = await history(database, "s", outcome=Outcome.SUCCEEDED)
    assert (found.lateness, found.attempt) == (1.5, 1)
    assert (found.started_at, found.finished_at) == (
        at(2) + timedelta(seconds=1.5),
        at(2) + timedelta(seconds=2),
    )


async def test_history_goes_page_by_page(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    for _ in range(3):
        clock.advance(60)
        await step(database, events, clock)

    first = await history(database, "s", 2)
    second = await history(database, "s", 2, before=first[-1].fire_at)

    assert [[each.fire_at for each in page] for page in (first, second)] == [
        [at(3), at(2)],
        [at(1)],
    ]


async def test_no_page_of_history_ends_between_ticks_of_one_instant(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(55)
    for priority in (1, 2):
        await step(database, events, clock)
        await write(database, clock, {"name": "s", "priority": priority})
        clock.advance(1)
    await step(database, events, clock)

    page = await history(database, "s", 1)

    assert [(each.outcome, each.fire_at) for each in page] == [
        ("enqueued", at(1)),
        ("withdrawn", at(1)),
        ("withdrawn", at(1)),
    ]


# ---- fire by hand


async def test_a_fire_by_hand_is_a_job_of_its_own_and_touches_no_tick(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "args": {"a": 1}, "retry": {"max_attempts": 3}})
    before = sql.execute("SELECT * FROM pillars.schedules").fetchall()

    fired = [await fire(database, "s", now=clock.now) for _ in range(3)]

    assert sql.execute("SELECT * FROM pillars.schedules").fetchall() == before
    assert len({each.fire_at for each in fired}) == 3
    assert all(each.fire_at.microsecond for each in fired)
    rows = sql.execute(
        "SELECT id, state::text, args, reason, max_attempts, concurrency_key FROM pillars.jobs"
        " ORDER BY id"
    ).fetchall()
    assert rows == [
        (each.job_id, "available", {"a": 1}, "fired by hand", 3, None) for each in fired
    ]
    clock.advance(60)
    await step(database, events, clock)
    assert await told(database, outcome=Outcome.ENQUEUED, limit=1) == [("enqueued", 1, 1)]


async def test_a_paused_schedule_can_be_fired_by_hand(database: Database, clock: FakeClock) -> None:
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)

    assert (await fire(database, "s", now=clock.now)).state == "available"


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        ("allow", ["available", "available", "available"]),
        ("skip", ["available", "skipped", "skipped"]),
        ("buffer_one", ["available", "available", "skipped"]),
        ("cancel_other", ["cancelled", "cancelled", "available"]),
    ],
)
async def test_a_fire_by_hand_obeys_the_overlap_policy(
    database: Database,
    sql: psycopg.Connection[Any],
    clock: FakeClock,
    overlap: str,
    states: list[str],
) -> None:
    await write(database, clock, {"name": "s", "overlap": overlap})

    for _ in range(3):
        await fire(database, "s", now=clock.now)

    assert [
        state for (state,) in sql.execute("SELECT state::text FROM pillars.jobs ORDER BY id")
    ] == states


async def test_a_forced_fire_runs_beside_whatever_runs(
    database: Database, sql: psycopg.Connection[Any], clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "overlap": "skip"})
    await fire(database, "s", now=clock.now)

    forced = await fire(database, "s", force=True, now=clock.now)

    assert not forced.skipped
    assert sql.execute(
        "SELECT concurrency_key FROM pillars.jobs WHERE id = %s", (forced.job_id,)
    ).fetchone() == (None,)


# ---- backfill


async def test_a_backfill_enqueues_each_tick_once_however_often_it_is_repeated(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "priority": 5})
    clock.advance(60)
    await step(database, events, clock)
    clock.advance(60)

    first = await backfill(database, "s", at(-2), at(2), pace=2, now=clock.now, emit=events)
    again = await backfill(database, "s", at(-2), at(2), pace=2, now=clock.now)

    assert (first.ticks, first.enqueued, first.takes) == (4, 3, 1.0)
    assert (again.ticks, again.enqueued) == (4, 0)
    assert events.of(JobsEnqueued) == [JobsEnqueued("default", 3)]
    rows = sql.execute(
        "SELECT fire_at, run_at, priority, reason FROM pillars.jobs ORDER BY fire_at"
    ).fetchall()
    assert rows == [
        *((at(n), clock.now + timedelta(seconds=(n + 2) / 2), 105, "backfilled") for n in (-2, -1)),
        (at(0), clock.now + timedelta(seconds=1), 105, "backfilled"),
        (at(1), at(1), 5, None),
    ]


async def test_a_backfill_keeps_its_pace_where_some_ticks_have_a_job(
    database: Database,
    sql: psycopg.Connection[Any],
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backfill_module, "_CHUNK", 4)
    await write(database, clock, {"name": "s"})
    await backfill(database, "s", at(-8), at(-5), now=clock.now)

    done = await backfill(database, "s", at(-8), at(0), pace=1, now=clock.now)

    starts = sql.execute(
        "SELECT extract(epoch FROM run_at - %s)::int FROM pillars.jobs"
        " WHERE fire_at >= %s ORDER BY fire_at",
        (clock.now, at(-5)),
    ).fetchall()
    assert (done.enqueued, done.takes) == (5, 4.0)
    assert [seconds for (seconds,) in starts] == [0, 1, 2, 3, 4]


async def test_a_backfill_of_recorded_ticks_leaves_the_record_of_all_others(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_module, "_CHUNK", 2)
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)
    clock.advance(10 * 60)
    await resume(database, "s", now=clock.now)
    assert await told(database) == [("missed", 1, 10)]

    done = await backfill(database, "s", at(3), at(6), now=clock.now)

    assert done.enqueued == 3
    assert await told(database) == [
        ("missed", 1, 2),
        ("enqueued", 3, 1),
        ("enqueued", 4, 1),
        ("enqueued", 5, 1),
        ("missed", 6, 5),
    ]
    assert len(set(await reasons(database, Outcome.MISSED))) == 1


async def test_a_backfill_of_a_paused_schedule_records_the_pause_until_then(
    database: Database, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)
    clock.advance(3 * 60)

    await backfill(database, "s", at(1), at(2), now=clock.now)
    clock.advance(2 * 60)
    await resume(database, "s", now=clock.now)

    assert await told(database) == [("enqueued", 1, 1), ("missed", 2, 2), ("missed", 4, 2)]
    assert {(reason or "")[:32] for reason in await reasons(database, Outcome.MISSED)} == {
        "paused from 2030-01-01T12:00:00Z"
    }


async def test_a_backfill_after_an_edit_keeps_what_the_old_timing_missed(
    database: Database, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)
    clock.advance(6 * 60)
    await write(database, clock, {"name": "s", "cron": "*/3 * * * *"})
    await resume(database, "s", now=clock.now)
    assert await told(database) == [("missed", 1, 6)]

    await backfill(database, "s", at(-3), at(6), now=clock.now)

    assert await told(database) == [
        ("enqueued", -3, 1),
        ("enqueued", 0, 1),
        ("missed", 1, 6),
        ("enqueued", 3, 1),
    ]


async def test_a_record_of_another_timing_makes_room_for_a_tick_that_is_backfilled(
    database: Database, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    await pause(database, "s", now=clock.now)
    clock.advance(6 * 60)
    await write(database, clock, {"name": "s", "cron": "1-59/2 * * * *"})
    await resume(database, "s", now=clock.now)

    await backfill(database, "s", at(1), at(2), now=clock.now)

    found = await history(database, "s")
    assert [(each.outcome, each.ticks) for each in found] == [("missed", 5), ("enqueued", 1)]
    assert found[0].fire_at == at(1) + timedelta(microseconds=1)


async def test_a_backfill_leaves_to_cron_what_is_cron_s(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "catchup": "all"})
    clock.advance(10 * 60)

    done = await backfill(database, "s", at(-2), at(9), now=clock.now)
    await step(database, events, clock)

    assert (done.end, done.enqueued) == (at(1), 3)
    assert await told(database) == [("enqueued", n, 1) for n in range(-2, 11)]


async def test_a_tick_that_was_skipped_is_backfilled(
    database: Database, events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s", "overlap": "skip"})
    for _ in range(2):
        clock.advance(60)
        await step(database, events, clock)
    assert await told(database) == [("enqueued", 1, 1), ("skipped", 2, 1)]

    done = await backfill(database, "s", at(1), at(2) + timedelta(seconds=0), now=clock.now)
    assert done.enqueued == 0
    clock.advance(1)
    done = await backfill(database, "s", at(1), clock.now, now=clock.now)

    assert done.enqueued == 1
    assert await told(database) == [("enqueued", 1, 1), ("enqueued", 2, 1)]


@pytest.mark.parametrize("overlap", ["skip", "buffer_one", "cancel_other"])
async def test_jobs_of_a_backfill_take_turns_and_stand_in_no_tick_s_way(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
    overlap: str,
) -> None:
    await write(database, clock, {"name": "s", "overlap": overlap})
    await backfill(database, "s", at(-3), at(0), now=clock.now)

    clock.advance(60)
    await step(database, events, clock)

    assert await told(database) == [("enqueued", n, 1) for n in (-3, -2, -1, 1)]
    keys = sql.execute("SELECT DISTINCT concurrency_key, concurrency_limit FROM pillars.jobs")
    assert keys.fetchall() == [("schedule:s", 1)]


async def test_a_dry_run_counts_and_writes_nothing(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "s"})
    clock.advance(60)
    await step(database, events, clock)
    clock.advance(60)
    tables = "SELECT (SELECT json_agg(s) FROM pillars.schedules s)::text, json_agg(j)::text"
    before = sql.execute(f"{tables} FROM pillars.jobs AS j").fetchone()

    done = await backfill(database, "s", at(-2), at(2), dry_run=True, now=clock.now)

    assert (done.ticks, done.enqueued) == (4, 3)
    assert sql.execute(f"{tables} FROM pillars.jobs AS j").fetchone() == before


async def test_times_without_an_offset_are_the_schedule_s_own(
    database: Database, sql: psycopg.Connection[Any], clock: FakeClock
) -> None:
    zone = {"timezone": "Asia/Tokyo"}
    await write(database, clock, {"name": "s", "cron": "0 6 * * *", **zone})
    day = datetime(2029, 12, 31)  # noqa: DTZ001 - naive on purpose

    await backfill(database, "s", day, day + timedelta(days=1), now=clock.now)

    assert sql.execute("SELECT fire_at FROM pillars.jobs").fetchall() == [
        (datetime(2029, 12, 30, 21, tzinfo=UTC),)
    ]


@pytest.mark.parametrize(
    ("start", "end", "pace", "sentence"),
    [
        (at(0), at(0), 10.0, "is empty: its end is not part of it"),
        (at(-9), at(1), 10.0, "lies in the future, which is cron's"),
        (at(-9), at(0), 0.0, "pace 0 is out of range: up to 10,000 jobs a second"),
        (
            datetime(2029, 3, 25, 2, 30),  # noqa: DTZ001 - naive on purpose
            at(0),
            10.0,
            "2029-03-25 02:30:00 does not exist in Europe/Berlin: add an offset",
        ),
        (
            datetime(2029, 1, 1, tzinfo=UTC),
            at(0),
            10.0,
            "backfill a part at a time, the first one up to 2029-03-11T10:40:00Z",
        ),
    ],
)
async def test_a_backfill_that_cannot_be_says_how_to_mend_it(
    database: Database,
    sql: psycopg.Connection[Any],
    clock: FakeClock,
    start: datetime,
    end: datetime,
    pace: float,
    sentence: str,
) -> None:
    berlin = {"name": "s", "cron": "* * * * *", "timezone": "Europe/Berlin"}
    await write(database, clock, berlin)

    with pytest.raises(BackfillError) as caught:
        await backfill(database, "s", start, end, pace=pace, now=clock.now)

    assert sentence in str(caught.value)
    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (0,)


async def test_unknown_schedules_have_neither_history_nor_backfill(
    database: Database, clock: FakeClock
) -> None:
    await write(database, clock, {"name": "invoices"})

    for asked in (
        history(database, "invoice"),
        fire(database, "invoice"),
        backfill(database, "invoice", at(-1), at(0), now=clock.now),
    ):
        with pytest.raises(ScheduleNotFoundError, match="did you mean 'invoices'"):
            await asked
