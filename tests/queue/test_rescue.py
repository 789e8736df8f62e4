"""Jobs of lost workers go back, however many jobs lie around them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pillars.ground.clock import SystemClock
from pillars.ground.events import JobLost, JobsRescued
from pillars.queue import claims as claiming
from pillars.queue import upkeep
from pillars.queue.attempt import Ended
from pillars.queue.claims import Claims
from pillars.queue.desk import cancel_job, retry_job
from pillars.queue.jobs import NewJob
from pillars.queue.states import JobState
from pillars.queue.upkeep import MOST_RESCUES, Rescuer, rescue
from tests.helpers import new_member, put, until_one_waits_for_a_lock

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from pillars.queue.attempt import Job
    from tests.helpers import RecordingListener


# Seconds that a job takes.
SLOW = 10.0


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


async def test_neighbours_of_a_job_that_kills_its_workers_survive_it(
    database: Database, claims: Claims, sql: psycopg.Connection[Any]
) -> None:
    # However chance has it: the culprit is in each loss, so no other is ever in more of them.
    await put(database, NewJob("poison"), *(NewJob("slow") for _ in range(9)))
    worker, losses, clock = new_member(sql), 0, 0.0
    running: list[tuple[Job, float]] = []
    while True:
        claimed = await claims.claim(worker, [], 20)
        running += [(job, clock + SLOW) for job in claimed]
        if any(job.type == "poison" for job in claimed):
            await lose(database, sql, worker)
            worker, losses, running = new_member(sql), losses + 1, []
        done = [job for job, end in running if end <= clock]
        await claims.finish(
            worker, [Ended(job.id, job.attempt, JobState.SUCCEEDED) for job in done]
        )
        running = [(job, end) for job, end in running if end > clock]
        due = await claims.next_due([])
        waits = [end - clock for _, end in running] + ([] if due is None else [max(due, 0.0)])
        if not waits:
            break
        clock += min(waits)
        sql.execute(
            "UPDATE pillars.jobs SET run_at = run_at - make_interval(secs => %s)", (min(waits),)
        )

    assert sql.execute("SELECT type, state FROM pillars.jobs ORDER BY id").fetchall() == [
        ("poison", "dead"),
        *[("slow", "succeeded")] * 9,
    ]
    assert losses >= MOST_RESCUES


async def test_jobs_lost_once_are_due_at_once_and_those_lost_again_after_pauses_of_their_own(
    database: Database, claims: Claims, sql: psycopg.Connection[Any]
) -> None:
    await put(database, *(NewJob("a") for _ in range(20)))
    first, second = new_member(sql), new_member(sql)

    assert len(await claims.claim(first, [], 20)) == 20
    await lose(database, sql, first)
    assert len(await claims.claim(second, [], 20)) == 20
    await lose(database, sql, second)

    pauses = "SELECT count(DISTINCT run_at), max(run_at) < now() + interval '4 s' FROM pillars.jobs"
    ((instants, soon),) = sql.execute(pauses)
    # Seldom the same microsecond of four seconds: more than three times in twenty never.
    assert instants > 16
    assert soon


async def test_jobs_that_were_lost_equally_often_are_spared_but_not_for_ever(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, *(NewJob("a") for _ in range(2)))
    sql.execute("UPDATE pillars.jobs SET rescues = %s", (MOST_RESCUES * 4 - 2,))
    await claims.claim(worker, [], 2)
    last = new_member(sql)

    assert await lose(database, sql, worker) == 2
    sql.execute("UPDATE pillars.jobs SET run_at = now()")
    await claims.claim(last, [], 2)
    assert await lose(database, sql, last) == 0


async def test_a_lost_job_that_shall_be_cancelled_is_due_at_once_however_often_it_was_lost(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    (job_id,) = await put(database, NewJob("a"))
    sql.execute("UPDATE pillars.jobs SET rescues = 3")
    await claims.claim(worker, [], 1)
    await cancel_job(database, job_id, "asked")
    await lose(database, sql, worker)

    assert [job.refusal for job in await claims.claim(new_member(sql), [], 1)] == ["asked"]


async def test_attempts_that_were_lost_do_not_count_as_failures_after_a_retry_by_hand(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    (job_id,) = await put(database, NewJob("a"))
    sql.execute("UPDATE pillars.jobs SET rescues = %s, attempt = 4", (MOST_RESCUES - 1,))
    await claims.claim(worker, [], 1)
    await lose(database, sql, worker)

    await retry_job(database, job_id)
    (job,) = await claims.claim(new_member(sql), [], 1)

    assert (job.attempt, job.failures) == (MOST_RESCUES + 1, 0)


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

    returned, (more, places) = 0, await claims.give_back_others(worker, [jobs[0].id])
    while places:
        returned += more
        more, places = await claims.give_back_others(worker, [jobs[0].id], places)
    assert returned + more == 8
    assert running(sql) == 2
