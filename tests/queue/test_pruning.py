from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pillars.db.connection import fetch
from pillars.ground.events import JobsPruned
from pillars.queue import upkeep
from pillars.queue.jobs import SQL
from pillars.queue.upkeep import Pruner

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg
    import pytest

    from pillars.db.database import Database
    from pillars.queue.claims import Claims
    from tests.helpers import RecordingListener


async def test_notes_of_withdrawn_ticks_are_kept_for_the_retention(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    sql.execute(
        "INSERT INTO pillars.withdrawn_ticks (schedule_id, fire_at, schedule, reason, withdrawn_at)"
        " SELECT n, now(), 's', 'withdrawn: ...', now() - make_interval(mins => n)"
        " FROM generate_series(1, 4) AS n"
    )

    await Pruner(database.link("prune"), 150.0, 9_999.0, events).step()

    assert sql.execute(
        "SELECT schedule_id FROM pillars.withdrawn_ticks ORDER BY schedule_id"
    ).fetchall() == [(1,), (2,)]


def finished(sql: psycopg.Connection[Any], state: str, *days: float) -> None:
    """Jobs of this state that ended so many days ago."""
    for age in days:
        sql.execute(
            "INSERT INTO pillars.jobs (type, state, created_at, finished_at)"
            " SELECT %s, %s, at, at FROM (SELECT now() - make_interval(secs => %s)) AS past (at)",
            (f"{state} {age:g}", state, age * 86_400),
        )


def types(sql: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in sql.execute("SELECT type FROM pillars.jobs ORDER BY id")]


def pruner(database: Database, events: RecordingListener) -> Pruner:
    return Pruner(database.link("prune"), 7 * 86_400.0, 30 * 86_400.0, events)


async def test_jobs_are_kept_for_the_retention_of_their_state_and_unfinished_ones_for_ever(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    for state in ("succeeded", "skipped", "missed"):
        finished(sql, state, 6, 8)
    for state in ("dead", "cancelled"):
        finished(sql, state, 8, 31)
    sql.execute("INSERT INTO pillars.jobs (type, created_at) VALUES ('waits', '2020-01-01Z')")

    await pruner(database, events).step()

    assert types(sql) == [
        *("succeeded 6", "skipped 6", "missed 6"),
        *("dead 8", "cancelled 8", "waits"),
    ]
    assert events.of(JobsPruned) == [JobsPruned(5)]


async def test_jobs_are_deleted_page_by_page_and_young_ones_are_not_looked_through(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "PRUNE_PAGE", 2)
    finished(sql, "succeeded", 9, 9, 9, 8, 1, 1, 1, 1)
    pruning = pruner(database, events)

    pauses = [await pruning.step() for _ in range(3)]

    assert types(sql) == ["succeeded 1"] * 4
    assert [event.count for event in events.of(JobsPruned)] == [2, 2]
    # Hardly a pause while there is more to delete.
    assert pauses[:2] == [upkeep._BETWEEN_FULL_PAGES] * 2
    assert pauses[2] > 1


async def test_one_process_at_a_time_prunes(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    finished(sql, "succeeded", 8)
    with sql.transaction():
        sql.execute("SELECT pg_advisory_xact_lock(%s)", (upkeep._PRUNE_LOCK,))

        await pruner(database, events).step()

    assert types(sql) == ["succeeded 8"]


async def test_a_claim_does_not_wait_for_the_pruning(
    database: Database, sql: psycopg.Connection[Any], claims: Claims, worker: UUID
) -> None:
    finished(sql, "succeeded", 8, 8)
    sql.execute("INSERT INTO pillars.jobs (type, run_at) VALUES ('waits', '2020-01-01Z')")
    params = {
        "after": 0,
        "limit": upkeep.PRUNE_PAGE,
        "lock": upkeep._PRUNE_LOCK,
        "retention": 60.0,
        "retention_failed": 60.0,
    }
    async with database.transaction() as connection:
        await fetch(connection, SQL["prune"], params)

        jobs = await claims.claim(worker, [], 10)

    assert [job.type for job in jobs] == ["waits"]
    assert types(sql) == ["waits"]
