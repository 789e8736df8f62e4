from __future__ import annotations

import asyncio
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from pillars.db.database import Database
from pillars.ground.events import Events
from pillars.ground.settings import Secret
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import NewJob
from pillars.telemetry.metrics import Metrics
from pillars.telemetry.snapshot import INTERVAL, MAX_AGE, Horizon, Snapshot
from tests.helpers import FakeClock

WALL = 1_800_000_000.0
LEASE = 60.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Events(), "server")


@pytest.fixture
def snapshot(database: Database, metrics: Metrics, clock: FakeClock) -> Snapshot:
    return Snapshot(database, metrics, clock, LEASE, wall=lambda: WALL)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def member(sql: psycopg.Connection[Any], role: str, state: str = "active") -> None:
    sql.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, app_version) "
        "VALUES (%s, %s, 'm', %s, 1, '0')",
        (uuid4(), role, state),
    )


async def test_nothing_is_exported_before_it_was_read(metrics: Metrics, snapshot: Snapshot) -> None:
    assert not snapshot.fresh("pillars_db_oldest_xmin_age_seconds")
    assert value(metrics, "pillars_db_oldest_xmin_age_seconds") is None


async def test_live_members_are_counted_by_role_and_absent_roles_are_zero(
    sql: psycopg.Connection[Any],
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    for role, state in (("cron", "active"), ("cron", "joining"), ("cron", "leaving")):
        member(sql, role, state)
    member(sql, "worker")

    delay = await snapshot.step()

    counts = {role: value(metrics, "pillars_members", role=role) for role in ("cron", "worker")}
    assert counts == {"cron": 2, "worker": 1}
    assert value(metrics, "pillars_members", role="server") == 0
    assert delay == pytest.approx(INTERVAL, rel=0.1)


async def test_slots_are_unowned_until_a_cron_that_is_alive_has_them(
    sql: psycopg.Connection[Any],
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    async def unowned_after(change: LiteralString) -> float | None:
        sql.execute(change)
        await snapshot.step()
        return value(metrics, "pillars_ring_unowned_slots")

    member(sql, "cron")
    at_first = await unowned_after("SELECT")
    owned = await unowned_after(
        "UPDATE pillars.ring SET version = 7, map = array_fill(id, ARRAY[4096]) "
        "FROM pillars.members",
    )
    gone = await unowned_after(
        "UPDATE pillars.ring SET map[1:96] = array_fill(gen_random_uuid(), ARRAY[96])",
    )
    silent = await unowned_after(
        "UPDATE pillars.members SET heartbeat_at = now() - interval '61 seconds'",
    )

    assert [at_first, owned, gone, silent] == [4096, 0, 96, 4096]
    assert value(metrics, "pillars_ring_version") == 7


async def test_the_oldest_tick_that_nobody_enqueued_is_told_whoever_should_have(
    sql: psycopg.Connection[Any],
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    overdue = []
    for minutes in (10, -1, -5):
        sql.execute(
            "INSERT INTO pillars.schedules (name, slot, next_fire_at, timing, job, definition, "
            "fingerprint) "
            "VALUES (%s, 1, now() + make_interval(mins => %s), '', 'noop', 'null', '')",
            (str(minutes), minutes),
        )
        await snapshot.step()
        overdue.append(value(metrics, "pillars_schedules_overdue_seconds"))
    sql.execute("UPDATE pillars.schedules SET enabled = false")
    await snapshot.step()

    assert overdue == [0, pytest.approx(90, abs=30), pytest.approx(330, abs=30)]
    assert value(metrics, "pillars_schedules_overdue_seconds") == 0


async def test_queues_are_measured_by_depth_and_age_and_vanish_when_empty(
    database: Database,
    sql: psycopg.Connection[Any],
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("a", queue="mail"), NewJob("b", queue="mail")])
    sql.execute("UPDATE pillars.jobs SET run_at = now() - interval '1 minute'")

    await snapshot.step()

    assert value(metrics, "pillars_queue_depth", queue="mail", state="available") == 2
    assert value(metrics, "pillars_queue_depth", queue="mail", state="running") == 0
    assert value(metrics, "pillars_queue_oldest_seconds", queue="mail") == pytest.approx(90, abs=30)

    sql.execute("DELETE FROM pillars.jobs")
    await snapshot.step()

    assert value(metrics, "pillars_queue_depth", queue="mail", state="available") is None


async def test_a_transaction_that_holds_back_vacuum_is_seen_until_it_ends(
    dsn: Secret,
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    name = "pillars_db_oldest_xmin_age_seconds"
    await snapshot.step()
    before = value(metrics, name)
    with psycopg.connect(dsn.reveal()) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM pillars.jobs")
        await snapshot.step()
        during = value(metrics, name)
    await snapshot.step()

    assert (before, value(metrics, name)) == (0, 0)
    assert during is not None
    assert during > 0


async def test_dead_rows_are_reported_for_our_tables(metrics: Metrics, snapshot: Snapshot) -> None:
    await snapshot.step()

    tables = ("jobs", "schedules", "members", "ring")
    dead = [value(metrics, "pillars_db_dead_tuples", table=table) for table in tables]
    assert None not in dead


async def test_figures_too_old_to_be_true_are_left_out_until_read_again(
    clock: FakeClock,
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    await snapshot.step()
    clock.advance(MAX_AGE)
    at_the_limit = value(metrics, "pillars_members", role="cron")
    clock.advance(1)
    beyond = value(metrics, "pillars_members", role="cron")
    when = value(metrics, "pillars_db_snapshot_timestamp_seconds")
    await snapshot.step()

    assert (at_the_limit, beyond) == (0, None)
    assert when == WALL
    assert value(metrics, "pillars_members", role="cron") == 0


async def test_what_cannot_be_read_does_not_hide_the_rest(
    sql: psycopg.Connection[Any],
    metrics: Metrics,
    snapshot: Snapshot,
) -> None:
    member(sql, "cron")
    sql.execute("ALTER TABLE pillars.jobs RENAME COLUMN run_at TO gone")

    with pytest.raises(psycopg.errors.UndefinedColumn):
        await snapshot.step()

    assert value(metrics, "pillars_members", role="cron") == 1
    assert value(metrics, "pillars_db_oldest_xmin_age_seconds") == 0
    assert value(metrics, "pillars_db_snapshot_timestamp_seconds") is None


async def test_what_takes_too_long_to_read_does_not_hide_the_rest(
    metrics: Metrics, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_long() -> None:
        raise TimeoutError

    monkeypatch.setattr(snapshot, "_read_overdue", too_long)

    with pytest.raises(TimeoutError):
        await snapshot.step()

    assert value(metrics, "pillars_db_oldest_xmin_age_seconds") == 0
    assert value(metrics, "pillars_db_snapshot_timestamp_seconds") is None


async def test_a_scrape_never_waits_for_the_database(clock: FakeClock, metrics: Metrics) -> None:
    nowhere = Database(Secret("postgresql://127.0.0.1:1/none"), "test", lambda _: None)
    Snapshot(nowhere, metrics, clock, LEASE)

    text, _ = await asyncio.to_thread(metrics.render)

    assert b"# TYPE pillars_members gauge" in text


def test_a_holder_without_a_start_is_as_old_as_we_have_known_it(clock: FakeClock) -> None:
    horizon = Horizon(clock)

    first = horizon.age([("slot a", "700", None)])
    clock.advance(30)
    same = horizon.age([("slot a", "700", None), ("session 1", "710", 12.0)])
    moved = horizon.age([("slot a", "720", None)])

    assert (first, same, moved, horizon.age([])) == (0, 30, 0, 0)
