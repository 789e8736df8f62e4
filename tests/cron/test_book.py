from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars.cluster.ring import SLOTS
from pillars.cron import edits
from pillars.cron.book import (
    Difference,
    ScheduleConflictError,
    ScheduleNotFoundError,
    compare,
    list_schedules,
    reconcile,
    show_schedule,
)
from pillars.cron.definition import parse_schedule
from pillars.cron.edits import PAGE
from pillars.cron.life import pause, remove, resume
from pillars.cron.ticker import OwnTicker
from tests.helpers import FakeClock, until_one_waits_for_a_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pillars.cron.definition import Schedule
    from pillars.db.database import Database
    from tests.helpers import RecordingListener

# What is done to the book is judged by the database's own clock, so ticks here are far apart: an
# edit that takes a while changes nothing. `NOW` is the test database's time, to the second.
NOW = "date_trunc('second', now())"


def schedule(name: str = "s", **keys: Any) -> Schedule:
    timing = {} if keys.keys() & {"cron", "every", "at"} else {"every": "1h"}
    return parse_schedule({"name": name, "job": "noop", **timing, **keys})


async def write(
    database: Database,
    *schedules: Schedule,
    origins: Mapping[str, str] | None = None,
) -> Difference:
    async with database.transaction() as connection:
        return await reconcile(connection, schedules, origins or {})


def now(sql: psycopg.Connection[Any]) -> datetime:
    row = sql.execute(f"SELECT {NOW}").fetchone()
    assert row
    return datetime.fromtimestamp(row[0].timestamp(), UTC)


def cursors(sql: psycopg.Connection[Any]) -> dict[str, datetime | None]:
    rows = sql.execute("SELECT name, next_fire_at FROM pillars.schedules").fetchall()
    return dict(rows)


def move(sql: psycopg.Connection[Any], cursor: datetime, last: datetime | None = None) -> None:
    """Put every schedule's cursor, and its last fire, where a test wants them."""
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s, last_fire_at = %s", (cursor, last))


def put_tick(
    sql: psycopg.Connection[Any],
    fire_at: datetime,
    state: str = "available",
    attempt: int = 0,
    name: str = "s",
) -> None:
    """Write a job as a ticker would, or as it looks when a worker had it."""
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, schedule, fire_at, run_at, type, state, attempt,"
        " finished_at) SELECT id, name, %(at)s, %(at)s, job, %(state)s::pillars.job_state,"
        " %(attempt)s, CASE WHEN %(state)s = 'succeeded' THEN now() END"
        " FROM pillars.schedules WHERE name = %(name)s",
        {"at": fire_at, "state": state, "attempt": attempt, "name": name},
    )


def ticks(sql: psycopg.Connection[Any]) -> list[tuple[str, datetime]]:
    return sql.execute("SELECT state, fire_at FROM pillars.jobs ORDER BY fire_at").fetchall()


def ticker(database: Database, events: RecordingListener, clock: FakeClock) -> OwnTicker:
    return OwnTicker(
        database.link("ticker"),
        slots=lambda: b"\xff" * (SLOTS // 8),
        progressed=lambda: None,
        lookahead=5.0,
        emit=events,
        clock=clock,
    )


# ---- a set and what it changes


async def test_a_new_schedule_fires_first_at_its_next_tick(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    before = now(sql)

    difference = await write(database, schedule(every="1h"), origins={"s": "a.yaml:2"})

    assert difference == Difference(added=("s",), changed=(), removed=())
    (cursor,) = [at for at in cursors(sql).values() if at]
    assert before < cursor <= before + timedelta(hours=1, seconds=30)
    record = await show_schedule(database, "s")
    assert (record.source, record.origin, record.last_fire_at) == ("file", "a.yaml:2", None)


async def test_a_set_of_many_pages_comes_edits_and_goes_in_one_transaction_each(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    count = 2 * PAGE + 1
    names = [f"s{number:04}" for number in range(count)]
    kept, edited, removed, added = (
        [schedule(name) for name in names[: PAGE + 1]],
        [schedule(name, every="2h") for name in names[PAGE + 1 : -1]],
        names[-1:],
        [schedule(f"t{number:04}") for number in range(PAGE + 1)],
    )

    first = await write(database, *map(schedule, names))
    second = await write(database, *kept, *edited, *added)

    assert first == Difference(added=tuple(names), changed=(), removed=())
    assert second.added == tuple(each.name for each in added)
    assert second.changed == tuple(each.name for each in edited)
    assert second.removed == tuple(removed)
    rows = sql.execute(
        "SELECT definition ->> 'every', count(*), count(DISTINCT xmin::text)"
        " FROM pillars.schedules GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("1h", 2 * PAGE + 2, 2), ("2h", PAGE - 1, 1)]


async def test_applying_a_set_tells_how_far_it_is(database: Database) -> None:
    heard: list[tuple[str, int, int]] = []
    many = [schedule(f"s{number:04}") for number in range(PAGE + 1)]

    async with database.transaction() as connection:
        await reconcile(connection, many, {}, told=lambda *news: heard.append(news))

    total = len(many)
    assert heard == [
        (what, done, total) for what in ("compared", "written") for done in (PAGE, total)
    ]


async def test_if_the_last_page_fails_nothing_of_the_set_is_there(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    names = [f"s{number:04}" for number in range(PAGE + 1)]
    sql.execute(
        f"ALTER TABLE pillars.schedules ADD CONSTRAINT no_last CHECK (name <> '{names[-1]}')"
    )

    with pytest.raises(psycopg.errors.CheckViolation):
        await write(database, *map(schedule, names))

    assert cursors(sql) == {}


async def test_ticks_that_pass_while_many_pages_are_written_are_neither_fired_nor_missed(
    database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    instants = [datetime(2030, 1, 1, 12, tzinfo=UTC) + timedelta(minutes=10 * n) for n in range(3)]
    told = iter(instants)

    async def instant(*_: object) -> datetime:
        return next(told)

    monkeypatch.setattr(edits, "instant_of_change", instant)
    names = [f"s{number:04}" for number in range(PAGE + 1)]

    await write(database, schedule("dense", every="1m"), *map(schedule, names[1:]))

    at = cursors(sql)
    assert at["dense"] == instants[-1] + timedelta(minutes=1)
    assert at[names[-1]] == instants[0] + timedelta(hours=1)


async def test_one_that_keeps_its_timing_keeps_the_ticks_that_pass_while_many_pages_are_written(
    database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    told = iter([noon, *(noon + timedelta(minutes=10 * n) for n in range(3))])

    async def instant(*_: object) -> datetime:
        return next(told)

    monkeypatch.setattr(edits, "instant_of_change", instant)
    await write(database, schedule("kept", every="15m"))
    names = [f"s{number:04}" for number in range(PAGE)]

    # Its page is written at ten past, and all is committed at twenty past.
    await write(database, schedule("kept", every="15m", priority=1), *map(schedule, names))

    assert cursors(sql)["kept"] == noon + timedelta(minutes=15)


async def test_the_same_set_again_changes_nothing(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule("a"), schedule("b"))
    before = sql.execute("SELECT * FROM pillars.schedules ORDER BY id").fetchall()

    assert not await write(database, schedule("b"), schedule("a"))

    assert sql.execute("SELECT * FROM pillars.schedules ORDER BY id").fetchall() == before


async def test_compare_tells_what_reconcile_would_do_and_does_nothing(database: Database) -> None:
    await write(database, schedule("kept"), schedule("edited"), schedule("gone"))
    new = [schedule("kept"), schedule("edited", every="2h"), schedule("new")]

    async with database.connection() as connection:
        told = await compare(connection, new)

    assert told == Difference(added=("new",), changed=("edited",), removed=("gone",))
    assert [r.name for r in await list_schedules(database)] == ["edited", "gone", "kept"]
    assert await write(database, *new) == told


async def test_a_schedule_that_moved_to_another_line_is_no_change_but_its_origin_is_known(
    database: Database,
) -> None:
    await write(database, schedule(), origins={"s": "a.yaml:2"})

    assert not await write(database, schedule(), origins={"s": "b.yaml:9"})

    assert (await show_schedule(database, "s")).origin == "b.yaml:9"


async def test_schedules_are_listed_page_by_page(database: Database) -> None:
    await write(database, *(schedule(name) for name in "abc"))

    first = await list_schedules(database, limit=2)
    second = await list_schedules(database, limit=2, after=first[-1].name)

    assert [[r.name for r in page] for page in (first, second)] == [["a", "b"], ["c"]]


# ---- edits


async def test_a_new_timing_takes_back_what_is_not_due_and_goes_on_after_the_commit(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    start = now(sql)
    past, ahead = start - timedelta(hours=1), start + timedelta(hours=1)
    put_tick(sql, past)
    put_tick(sql, ahead)
    move(sql, ahead + timedelta(hours=1), last=ahead)

    await write(database, schedule(every="2h"))

    assert ticks(sql) == [("available", past)]
    cursor = cursors(sql)["s"]
    assert cursor is not None
    assert start < cursor <= now(sql) + timedelta(hours=2)
    assert cursor.timestamp() % 7200 == 0
    last = (await show_schedule(database, "s")).last_fire_at
    assert last is not None
    assert start <= last <= cursor


@pytest.mark.parametrize(("state", "attempt"), [("succeeded", 1), ("failed", 1), ("available", 1)])
async def test_what_a_worker_has_had_in_hand_is_never_taken_back(
    database: Database, sql: psycopg.Connection[Any], state: str, attempt: int
) -> None:
    await write(database, schedule())
    ahead = now(sql) + timedelta(hours=1)
    put_tick(sql, ahead, state, attempt)

    await write(database, schedule(every="2h"))

    assert ticks(sql) == [(state, ahead)]


async def test_an_edit_takes_back_the_jobs_of_its_own_schedule_only(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule("a"), schedule("b"))
    ahead = now(sql) + timedelta(hours=1)
    put_tick(sql, ahead, name="a")
    put_tick(sql, ahead, name="b")

    await write(database, schedule("a", every="2h"), schedule("b"))

    assert sql.execute("SELECT schedule FROM pillars.jobs").fetchall() == [("b",)]


async def test_no_tick_that_was_fired_is_fired_again_whatever_the_edit(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await write(database, schedule(every="1s"))
    clock = FakeClock(now(sql))
    move(sql, clock.now)
    await ticker(database, events, clock).step()
    sql.execute(
        "UPDATE pillars.jobs SET state = 'succeeded', attempt = 1, finished_at = now()"
        " WHERE fire_at <= %s",
        (clock.now,),
    )
    done = ticks(sql)[0]

    await write(database, schedule(every="1s", args={"edited": True}))
    clock.advance(3600)
    await ticker(database, events, clock).step()

    assert ticks(sql)[0] == done
    instants = [at for _, at in ticks(sql)]
    assert len(set(instants)) == len(instants)
    assert sorted(instants) == instants


async def test_new_args_keep_ticks_that_are_overdue(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    overdue = now(sql) - timedelta(minutes=90)
    move(sql, overdue)

    await write(database, schedule(every="1h", args={"a": 1}))

    assert cursors(sql) == {"s": overdue}
    assert ticks(sql) == []


async def test_new_args_reach_the_ticks_that_were_enqueued_ahead(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await write(database, schedule(every="1h", args={"version": 1}))
    (tick,) = [at for at in cursors(sql).values() if at]
    clock = FakeClock(tick - timedelta(seconds=3))
    await ticker(database, events, clock).step()

    await write(database, schedule(every="1h", args={"version": 2}))
    assert ticks(sql) == []
    await ticker(database, events, clock).step()

    assert sql.execute("SELECT fire_at, args FROM pillars.jobs").fetchall() == [
        (tick, {"version": 2}),
    ]


async def test_ticks_of_the_old_timing_that_were_overdue_are_recorded_as_missed(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    overdue = now(sql).replace(minute=0, second=0) - timedelta(hours=3)
    move(sql, overdue)

    await write(database, schedule(every="2h"))

    recorded = sql.execute(
        "SELECT state::text, fire_at, ticks, fire_until, reason FROM pillars.jobs"
    ).fetchall()
    state, first, count, until, reason = recorded[0]
    assert (len(recorded), state, first) == (1, "missed", overdue)
    assert (count, until) == (4, overdue + timedelta(hours=3))
    assert reason == "the schedule was edited before cron came to fire it"


async def test_a_fire_that_commits_while_an_edit_is_under_way_leaves_no_job_of_the_old_timing(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    (ahead,) = [at for at in cursors(sql).values() if at]
    with sql.transaction():
        # A ticker's statement, held just before its commit.
        put_tick(sql, ahead)
        move(sql, ahead + timedelta(hours=1), last=ahead)
        sql.execute("UPDATE pillars.schedules SET version = version + 1")
        edit = asyncio.create_task(write(database, schedule(every="2h")))
        await until_one_waits_for_a_lock(database)
    await edit

    assert ticks(sql) == []


async def test_a_fire_that_commits_while_new_args_are_written_is_not_undone(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    overdue = now(sql).replace(minute=0, second=0) - timedelta(hours=1)
    move(sql, overdue)
    with sql.transaction():
        put_tick(sql, overdue)
        move(sql, overdue + timedelta(hours=2), last=overdue)
        edit = asyncio.create_task(write(database, schedule(every="1h", args={"a": 1})))
        await until_one_waits_for_a_lock(database)
    await edit

    cursor = cursors(sql)["s"]
    assert cursor is not None
    assert cursor > overdue


async def test_a_fire_that_commits_while_its_schedule_is_removed_leaves_no_job(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(every="1h"))
    (ahead,) = [at for at in cursors(sql).values() if at]
    with sql.transaction():
        put_tick(sql, ahead)
        move(sql, ahead + timedelta(hours=1), last=ahead)
        removal = asyncio.create_task(remove(database, "s"))
        await until_one_waits_for_a_lock(database)
    await removal

    assert ticks(sql) == []


async def test_a_schedule_that_left_the_files_is_removed_with_its_jobs_that_were_not_due(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule("kept"), schedule("gone"))
    past, ahead = now(sql) - timedelta(hours=1), now(sql) + timedelta(hours=1)
    put_tick(sql, past, name="gone")
    put_tick(sql, ahead, name="gone")

    await write(database, schedule("kept"))

    assert [record.name for record in await list_schedules(database)] == ["kept"]
    assert ticks(sql) == [("available", past)]


async def test_a_definition_that_is_disabled_keeps_its_place_and_does_not_catch_up(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule(enabled=False))
    move(sql, now(sql) - timedelta(hours=5))

    await write(database, schedule(enabled=True))

    cursor = cursors(sql)["s"]
    assert cursor is not None
    assert cursor > now(sql) - timedelta(seconds=30)
    assert {state for state, _ in ticks(sql)} == {"missed"}


# ---- what files may not touch


@pytest.mark.parametrize("source", ["api", "code"])
async def test_definitions_from_elsewhere_are_left_alone(
    database: Database, sql: psycopg.Connection[Any], source: str
) -> None:
    await write(database, schedule("theirs"))
    sql.execute("UPDATE pillars.schedules SET source = %s", (source,))

    difference = await write(database, schedule("ours"))

    assert difference == Difference(added=("ours",), changed=(), removed=())
    assert [record.name for record in await list_schedules(database)] == ["ours", "theirs"]


async def test_a_name_that_belongs_to_another_source_is_refused_and_nothing_is_changed(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule("theirs"), schedule("ours"))
    sql.execute("UPDATE pillars.schedules SET source = 'api' WHERE name = 'theirs'")

    with pytest.raises(ScheduleConflictError) as caught:
        await write(database, schedule("theirs"), origins={"theirs": "a.yaml:7"})

    assert str(caught.value) == (
        "a.yaml:7: schedule 'theirs' was made by api: rename it here, "
        "or `pillars schedules remove theirs` first"
    )
    assert [record.name for record in await list_schedules(database)] == ["ours", "theirs"]


# ---- pause, resume, remove


async def test_pause_takes_back_what_is_not_due_and_stops_the_firing(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await write(database, schedule())
    past, ahead = now(sql) - timedelta(hours=1), now(sql) + timedelta(hours=1)
    put_tick(sql, past)
    put_tick(sql, ahead)

    await pause(database, "s")

    await ticker(database, events, FakeClock(ahead + timedelta(days=1))).step()
    assert ticks(sql) == [("available", past)]
    record = await show_schedule(database, "s")
    assert not record.enabled
    assert record.paused_at is not None


async def test_paused_time_is_not_caught_up_and_resuming_does_not_fire(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await write(database, schedule(catchup="all"))
    await pause(database, "s")
    move(sql, now(sql) - timedelta(days=1))
    before = now(sql)

    await resume(database, "s")

    cursor = cursors(sql)["s"]
    assert cursor is not None
    assert cursor > before
    await ticker(database, events, FakeClock(cursor - timedelta(minutes=1))).step()
    assert {state for state, _ in ticks(sql)} == {"missed"}
    await ticker(database, events, FakeClock(cursor)).step()
    assert ticks(sql)[-1] == ("available", cursor)


async def test_a_plan_made_before_a_pause_fires_nothing_after_it(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await write(database, schedule())
    (tick,) = [at for at in cursors(sql).values() if at]
    slow = ticker(database, events, FakeClock(tick))
    fire = slow._firing.fire

    async def overtaken(polled: Any, at: float) -> int:
        await pause(database, "s")
        await resume(database, "s")
        return await fire(polled, at)

    slow._firing.fire = overtaken  # type: ignore[method-assign] # a race, made certain
    await slow.step()

    assert ticks(sql) == []


async def test_pausing_twice_keeps_the_first_pause(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule())
    await pause(database, "s")
    before = sql.execute("SELECT * FROM pillars.schedules").fetchall()

    await pause(database, "s")

    assert sql.execute("SELECT * FROM pillars.schedules").fetchall() == before


async def test_a_pause_survives_an_edit_and_a_disabled_definition_a_resume(
    database: Database,
) -> None:
    await write(database, schedule("paused"), schedule("disabled", enabled=False))
    await pause(database, "paused")
    await pause(database, "disabled")

    await write(database, schedule("paused", args={"a": 1}), schedule("disabled", enabled=False))
    await resume(database, "disabled")

    assert {record.name: record.enabled for record in await list_schedules(database)} == {
        "paused": False,
        "disabled": False,
    }


async def test_a_schedule_that_never_fired_has_no_last_fire_after_pause_and_edit(
    database: Database,
) -> None:
    await write(database, schedule())

    await pause(database, "s")
    await resume(database, "s")
    await write(database, schedule(every="2h"))

    assert (await show_schedule(database, "s")).last_fire_at is None


async def test_remove_takes_back_what_is_not_due(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await write(database, schedule())
    past, ahead = now(sql) - timedelta(hours=1), now(sql) + timedelta(hours=1)
    put_tick(sql, past)
    put_tick(sql, ahead)

    await remove(database, "s")

    assert ticks(sql) == [("available", past)]
    assert await list_schedules(database) == []


@pytest.mark.parametrize("verb", [pause, resume, remove, show_schedule])
async def test_an_unknown_schedule_gets_a_guess_at_what_was_meant(
    database: Database, verb: Any
) -> None:
    await write(database, schedule("invoices"))

    with pytest.raises(
        ScheduleNotFoundError, match=r"no schedule 'invoice', did you mean 'invoices'"
    ):
        await verb(database, "invoice")
