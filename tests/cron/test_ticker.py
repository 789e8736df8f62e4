from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars.cluster.ring import SLOTS, slot_of
from pillars.cron.firing import BATCH, EACH, MOST_TICKS, Fired
from pillars.cron.ticker import POLL, OwnTicker
from pillars.ground.events import PassCompleted, ScheduleBroken, TickFired, TicksFired
from tests.cron.ticking import ALL_SLOTS, NOON, at, own, rows, schedule, sweep, write
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from pillars.db.database import Database
    from tests.helpers import RecordingListener

NO_SLOTS = bytes(SLOTS // 8)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


async def test_a_tick_is_enqueued_ahead_of_its_time(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(), cursor=at(5))

    await own(database, events, clock).step()

    assert rows(sql, "state, fire_at, run_at") == [("available", at(5), at(5))]
    assert [event.lateness for event in events.of(TicksFired)] == [(0.0,)]
    assert sql.execute("SELECT next_fire_at, version FROM pillars.schedules").fetchall() == [
        (at(10), 2),
    ]


@pytest.mark.parametrize(("schedules", "told"), [(EACH, EACH), (EACH + 1, 0)])
async def test_few_ticks_are_told_of_one_by_one_and_many_are_counted(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
    schedules: int,
    told: int,
) -> None:
    await write(database, sql, *(schedule(f"s{n}") for n in range(schedules)), cursor=at(5))

    await own(database, events, clock).step()

    (event,) = events.of(TicksFired)
    assert event.outcomes == {"enqueued": schedules}
    assert event.queues == {"default": schedules}
    jobs = rows(sql, "schedule, fire_at, id")
    assert sorted(event.ticks) == sorted(
        TickFired(name, fire_at, job_id, "default", "enqueued", None)
        for name, fire_at, job_id in jobs[:told]
    )


async def test_nothing_is_enqueued_beyond_the_horizon(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(), cursor=at(6))

    delay = await own(database, events, clock).step()

    assert rows(sql) == []
    assert delay == pytest.approx(0.5)


async def test_the_ticker_wakes_when_the_next_schedule_comes_within_the_horizon(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(), cursor=at(5.25))

    assert await own(database, events, clock).step() == pytest.approx(0.25)


async def test_a_dense_schedule_gets_all_its_ticks_up_to_the_horizon_in_one_statement(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(every="1s"), cursor=at(1))

    await own(database, events, clock).step()

    assert [fire_at for _, fire_at in rows(sql)] == [at(n) for n in range(1, 6)]
    assert len(events.of(TicksFired)) == 1


async def test_schedules_of_other_slots_are_left_to_their_owners(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule("mine"), schedule("theirs"))
    slots = bytearray(NO_SLOTS)
    slots[slot_of("mine") >> 3] |= 1 << (slot_of("mine") & 7)

    await own(database, events, clock, bytes(slots)).step()

    assert {name for (name,) in rows(sql, "schedule")} == {"mine"}


async def test_a_plan_made_from_an_older_version_changes_nothing(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule())
    slow = own(database, events, clock)
    fire = slow._firing.fire

    async def overtaken(polled: Any, at_: float) -> Fired:
        await own(database, events, clock).step()
        return await fire(polled, at_)

    slow._firing.fire = overtaken  # type: ignore[method-assign] # a race, made certain
    await slow.step()

    assert len(rows(sql)) == 1
    assert [(event.schedules, event.lost_races) for event in events.of(TicksFired)] == [
        (1, 0),
        (0, 1),
    ]


async def test_a_tick_that_is_already_a_job_is_not_written_again(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule())
    await own(database, events, clock).step()
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s", (NOON,))

    await own(database, events, clock).step()

    assert len(rows(sql)) == 1
    assert events.of(TicksFired)[-1].outcomes == {"duplicate": 1}


async def test_the_sweep_takes_what_an_owner_left_too_long(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule("soon"), schedule("later"))
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s WHERE name = 'soon'", (at(1),))
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s WHERE name = 'later'", (at(1.1),))

    await sweep(database, events, clock).step()

    assert rows(sql, "schedule") == [("soon",)]
    assert [event.swept for event in events.of(TicksFired)] == [True]


async def test_a_process_with_a_backlog_of_its_own_sweeps_each_five_seconds_only(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule())
    sweeper = sweep(database, events, clock, busy=lambda: True)

    clock.advance(4.9)
    assert await sweeper.step() > 0
    assert rows(sql) == []

    clock.advance(0.2)
    await sweeper.step()
    assert rows(sql) != []


async def test_a_poll_that_leaves_something_is_a_backlog(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pillars.cron.ticker.POLL", 2)
    await write(database, sql, *(schedule(f"s{n}") for n in range(3)))
    ticker = own(database, events, clock)

    await ticker.step()
    assert ticker.behind

    await ticker.step()
    assert not ticker.behind


async def test_while_an_edit_holds_a_schedule_the_sweep_fires_the_others(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule("held"), schedule("other"))

    async with database.transaction() as connection:
        await connection.execute("SELECT FROM pillars.schedules WHERE name = 'held' FOR UPDATE")
        await sweep(database, events, clock).step()

    assert rows(sql, "schedule") == [("other",)]


async def test_while_somebody_holds_a_schedule_its_owner_fires_the_others_and_then_that_one(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule("held"), schedule("other"))
    ticker = own(database, events, clock)

    async with database.transaction() as connection:
        await connection.execute("SELECT FROM pillars.schedules WHERE name = 'held' FOR UPDATE")
        for _ in range(3):
            await ticker.step()
        assert rows(sql, "schedule") == [("other",)]
    await ticker.step()

    assert sorted(rows(sql, "schedule, fire_at")) == [("held", NOON), ("other", NOON)]


async def test_a_backlog_that_others_hold_is_not_looked_at_without_a_pause(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pillars.cron.ticker.POLL", 2)
    await write(database, sql, *(schedule(f"s{n}") for n in range(3)))
    ticker = own(database, events, clock)

    async with database.transaction() as connection:
        await connection.execute("SELECT FROM pillars.schedules FOR UPDATE")
        assert await ticker.step() > 0


async def test_a_step_that_the_database_refuses_is_progress_and_one_that_hangs_is_none(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule())
    sql.execute("ALTER TABLE pillars.jobs ADD CONSTRAINT full_disk CHECK (false)")
    progress: list[None] = []
    ticker = own(database, events, clock, progressed=lambda: progress.append(None))

    with pytest.raises(psycopg.errors.CheckViolation):
        await ticker.step()
    assert len(progress) == 1

    asked, never = asyncio.Event(), asyncio.Event()

    async def hangs(*_: Any) -> Any:
        asked.set()
        await never.wait()

    ticker._link.fetch = hangs  # type: ignore[method-assign] # no answer ever
    hung = asyncio.create_task(ticker.step())
    await asked.wait()
    assert len(progress) == 1
    hung.cancel()


async def test_a_poll_is_fired_in_several_statements_each_planned_while_one_is_under_way(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, *(schedule(f"s{n}") for n in range(2 * BATCH + 1)))

    await own(database, events, clock).step()

    assert [event.schedules for event in events.of(TicksFired)] == [BATCH, BATCH, 1]
    assert len(rows(sql)) == 2 * BATCH + 1


async def test_late_ticks_within_the_grace_are_all_enqueued(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(every="1s", catchup="none"), cursor=at(-10))

    await own(database, events, clock, lookahead=0.0).step()

    assert [state for state, _ in rows(sql)] == ["available"] * 11


@pytest.mark.parametrize(
    ("keys", "enqueued"),
    [
        ({"catchup": "none"}, []),
        ({"catchup": "last"}, [-60]),
        ({"catchup": "all"}, [-300, -240, -180, -120, -60]),
        ({"catchup": "all", "catchup_limit": 2}, [-120, -60]),
        ({"catchup": "all", "catchup_window": "3m"}, [-180, -120, -60]),
    ],
)
async def test_after_an_outage_the_catchup_policy_decides_and_the_rest_is_recorded(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
    keys: dict[str, Any],
    enqueued: list[int],
) -> None:
    clock.now = at(-1)
    await write(database, sql, schedule(every="1m", **keys), cursor=at(-300))

    await own(database, events, clock).step()

    got = {state: [f for s, f in rows(sql) if s == state] for state in ("available", "missed")}
    overdue = [at(n) for n in range(-300, 0, 60)]
    assert got["available"] == [*(at(n) for n in enqueued), at(0)]
    assert got["missed"] == [instant for instant in overdue if instant not in got["available"]]


async def test_a_long_outage_of_a_dense_schedule_is_folded_and_takes_bounded_passes(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(every="1s"), cursor=at(-2500))
    ticker = own(database, events, clock, lookahead=0.0)

    for _ in range(3):
        await ticker.step()

    folded = [row for row in rows(sql, "state, fire_at, ticks, fire_until") if row[2]]
    assert folded[0] == ("missed", at(-2500), 1000, at(-1501))
    assert sum(row[2] for row in folded) == 2500 - 30
    assert len([1 for (state, _) in rows(sql) if state == "available"]) == 31


async def test_more_than_a_poll_takes_several_steps_and_one_pass(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, *(schedule(f"s{n}") for n in range(POLL + 1)))
    ticker = own(database, events, clock)

    assert await ticker.step() == 0.0
    assert events.of(PassCompleted) == []
    await ticker.step()

    assert len(rows(sql)) == POLL + 1
    assert len(events.of(PassCompleted)) == 1


async def test_what_is_due_after_a_herd_does_not_wait_for_the_end_of_it(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, *(schedule(f"s{n}") for n in range(2 * POLL + 1)), schedule("after"))
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s WHERE name = 'after'", (at(3),))
    ticker = own(database, events, clock)

    await ticker.step()
    first = {name for (name,) in rows(sql, "schedule")}
    await ticker.step()
    second = {name for (name,) in rows(sql, "schedule")}
    await ticker.step()

    assert "after" not in first
    assert "after" in second
    assert (len(first), len(second), len(rows(sql))) == (POLL, 2 * POLL, 2 * POLL + 2)
    assert len(events.of(PassCompleted)) == 1


async def test_a_backlog_of_many_ticks_is_fired_in_statements_of_bounded_size(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    schedules = (
        schedule(f"s{n}", every="1s", catchup="all", catchup_limit=1000) for n in range(10)
    )
    await write(database, sql, *schedules, cursor=at(-999))
    ticker = own(database, events, clock, lookahead=0.0)

    while await ticker.step() == 0.0:
        pass

    sizes = [sum(event.outcomes.values()) for event in events.of(TicksFired)]
    assert sum(sizes) == 10 * 1000
    assert max(sizes) < MOST_TICKS + 1000
    assert len(sizes) == 3


async def test_a_schedule_that_cannot_be_planned_does_not_stop_the_others(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule("bad"), schedule("good"))
    sql.execute("UPDATE pillars.schedules SET timing = '{\"cron\": 1}' WHERE name = 'bad'")

    ticker = own(database, events, clock)
    await ticker.step()
    await ticker.step()

    assert rows(sql, "schedule") == [("good",)]
    assert len(events.of(ScheduleBroken)) == 1


async def test_a_one_shot_fires_once_and_is_done(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(at="2030-01-01T12:00:00Z"))

    ticker = own(database, events, clock)
    await ticker.step()
    await ticker.step()

    assert rows(sql, "fire_at") == [(NOON,)]
    assert sql.execute("SELECT next_fire_at FROM pillars.schedules").fetchall() == [(None,)]


async def test_jitter_delays_the_start_and_leaves_the_tick(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, *(schedule(f"s{n}", jitter="30s") for n in range(20)))

    await own(database, events, clock, lookahead=0.0).step()

    shifts = {(run_at - NOON).total_seconds() for (run_at,) in rows(sql, "run_at")}
    assert {fire_at for (fire_at,) in rows(sql, "fire_at")} == {NOON}
    assert len(shifts) > 10
    assert 0 <= min(shifts) <= max(shifts) < 30


async def test_a_pass_goes_on_from_where_the_last_one_ended_and_leaves_older_ticks_to_the_sweep(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(), cursor=at(0))
    ticker = own(database, events, clock)
    await ticker.step()
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s", (at(-20),))

    await ticker.step()
    assert len(rows(sql)) == 1
    await sweep(database, events, clock).step()

    assert ("available", at(-20)) in rows(sql)


async def test_slots_that_come_to_a_cron_bring_their_overdue_ticks(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(), cursor=at(-20))
    slots = NO_SLOTS
    ticker = OwnTicker(
        database.link("ticker"),
        slots=lambda: slots,
        progressed=lambda: None,
        lookahead=5.0,
        emit=events,
        clock=clock,
    )
    await ticker.step()
    assert rows(sql) == []

    slots = ALL_SLOTS
    await ticker.step()

    assert ("available", at(-20)) in rows(sql)


@pytest.mark.parametrize(("seconds", "longest"), [([8.0], 1.2), ([8.0, 0.0], 1.2), ([8.0] * 2, 36)])
async def test_sweeps_come_more_rarely_when_they_are_slow_but_not_for_a_single_one(
    database: Database,
    events: RecordingListener,
    clock: FakeClock,
    seconds: list[float],
    longest: float,
) -> None:
    sweeper = sweep(database, events, clock)
    fetch, durations = sweeper._link.fetch, iter(seconds)

    async def stalled(*query: Any) -> Any:
        clock.advance(next(durations))
        return await fetch(*query)

    sweeper._link.fetch = stalled  # type: ignore[method-assign] # a database that stood still
    pauses = [await sweeper.step() for _ in seconds]

    assert longest / 1.5 <= pauses[-1] <= longest
