"""Jobs of lost workers go back, however many jobs lie around them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pillars.ground.clock import SystemClock
from pillars.ground.events import JobLost, JobsRescued
from pillars.queue import claims as claiming
from pillars.queue import upkeep
from pillars.queue.claims import Claims
from pillars.queue.jobs import NewJob
from pillars.queue.upkeep import MOST_RESCUES, Rescuer, rescue
from tests.helpers import new_member, put, until_one_waits_for_a_lock

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database.link("claims"), SystemClock())


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes in two jobs of each lane."""
    monkeypatch.setattr(upkeep, "_FIRST_LOOK", 2)
    monkeypatch.setattr(upkeep, "_RESCUE_PAGE", 2)
    monkeypatch.setattr(claiming, "_PAGE", 2)


async def lose(database: Database, sql: psycopg.Connection[Any], worker: UUID) -> int:
    sql.execute("DELETE FROM pillars.members WHERE id = %s", (worker,))
    async with database.transaction() as connection:
        return (await rescue(connection, [worker])).returned


def running(sql: psycopg.Connection[Any]) -> int:
    ((count,),) = sql.execute("SELECT count(*) FROM pillars.jobs WHERE state = 'running'")
    return int(count)


def to_do(sql: psycopg.Connection[Any]) -> int:
    ((count,),) = sql.execute("SELECT count(*) FROM pillars.lost_workers")
    return int(count)


@pytest.mark.usefixtures("short_pages")
async def test_what_the_first_look_does_not_reach_is_found_page_by_page(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    lanes = [("a", 0), ("a", 1), ("b", 0)]
    await put(database, *(NewJob("x", queue=q, priority=p) for q, p in lanes for _ in range(7)))
    await put(database, NewJob("keyed", queue="b", concurrency_key="k"))
    assert len(await claims.claim(worker, [], 100)) == 22
    returned = await lose(database, sql, worker)
    rescuer = Rescuer(database.link("rescuer"), events)
    steps = 0
    while to_do(sql):
        await rescuer.step()
        steps += 1

    assert returned == 2 * len(lanes) + 1
    assert running(sql) == 0
    assert sum(event.count for event in events.of(JobsRescued)) == 22 - returned
    # Eight jobs of lane (b, 0), two at a time, and a look that finds its end.
    assert steps == 5


@pytest.mark.usefixtures("short_pages")
async def test_a_job_that_killed_too_many_workers_is_dead_wherever_it_lies(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    await put(database, *(NewJob(f"t{n}") for n in range(5)))
    await claims.claim(worker, [], 100)
    sql.execute("UPDATE pillars.jobs SET rescues = %s WHERE type = 't4'", (MOST_RESCUES - 1,))
    await lose(database, sql, worker)
    rescuer = Rescuer(database.link("rescuer"), events)
    while to_do(sql):
        await rescuer.step()

    assert [event.type for event in events.of(JobLost)] == ["t4"]
    assert sql.execute("SELECT type FROM pillars.jobs WHERE state = 'dead'").fetchall() == [("t4",)]


async def test_where_one_look_is_enough_nothing_is_left_to_do(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, *(NewJob("x") for _ in range(5)))
    await claims.claim(worker, [], 100)

    assert await lose(database, sql, worker) == 5
    assert to_do(sql) == 0


@pytest.mark.usefixtures("short_pages")
async def test_of_several_rescuers_one_does_the_work(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    await put(database, *(NewJob("x") for _ in range(5)))
    await claims.claim(worker, [], 100)
    await lose(database, sql, worker)
    one, other = (Rescuer(database.link(name), events) for name in ("one", "other"))

    # The one goes on at once, the other looks again when it may be needed.
    assert await one.step() < upkeep._BETWEEN_LOOKS * 2 < await other.step()


async def test_a_job_that_is_just_being_changed_is_rescued_all_the_same(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, NewJob("x"))
    await claims.claim(worker, [], 1)
    sql.execute("DELETE FROM pillars.members")

    async with database.transaction() as changing, database.transaction() as rescuing:
        await changing.execute("UPDATE pillars.jobs SET cancel_requested_at = now()")
        late = asyncio.create_task(rescue(rescuing, [worker]))
        await until_one_waits_for_a_lock(database)
        await changing.execute("COMMIT")
        assert (await late).returned == 1

    assert running(sql) == 0


@pytest.mark.usefixtures("short_pages")
async def test_a_worker_finds_what_a_lost_answer_claimed_however_deep_it_lies(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, *(NewJob("x") for _ in range(9)))
    jobs = await claims.claim(worker, [], 100)
    other = new_member(sql)
    await put(database, NewJob("y"))
    await claims.claim(other, [], 1)

    assert await claims.give_back_others(worker, [jobs[0].id]) == 8
    assert running(sql) == 2
