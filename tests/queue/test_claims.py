from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg import errors

from pillars.ground.clock import SystemClock
from pillars.queue.attempt import Ended
from pillars.queue.claims import Claims
from pillars.queue.desk import cancel_job
from pillars.queue.jobs import NewJob
from pillars.queue.limits import QueueLimits, limit_queue
from pillars.queue.states import JobState
from pillars.queue.upkeep import MOST_RESCUES, rescue
from tests.helpers import FakeClock, new_member, put

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database.link("claims"), SystemClock())


def states(sql: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in sql.execute("SELECT state FROM pillars.jobs ORDER BY id")]


async def test_lower_priority_numbers_come_first_then_first_in_first_out(
    database: Database,
    claims: Claims,
    worker: UUID,
) -> None:
    await put(database, *(NewJob(f"t{n}", priority=n % 2) for n in range(6)))

    jobs = await claims.claim(worker, [], 10)

    assert [job.type for job in jobs] == ["t0", "t2", "t4", "t1", "t3", "t5"]


async def test_a_limit_takes_the_best_jobs_and_leaves_the_others_unlocked(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
) -> None:
    await put(database, *(NewJob(f"t{n}", queue=f"q{n % 3}", priority=n) for n in range(6)))

    jobs = await claims.claim(worker, [], 2)

    assert [job.type for job in jobs] == ["t0", "t1"]
    assert states(sql) == ["running"] * 2 + ["available"] * 4


async def test_only_the_queues_asked_for_are_served(
    database: Database,
    claims: Claims,
    worker: UUID,
) -> None:
    await put(database, NewJob("a", queue="one"), NewJob("b", queue="two"))

    jobs = await claims.claim(worker, ["two"], 10)

    assert [job.type for job in jobs] == ["b"]


async def test_a_job_is_not_taken_before_its_time(
    database: Database,
    worker: UUID,
) -> None:
    clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    claims = Claims(database.link("claims"), clock)
    await put(database, NewJob("later", run_at=clock.now + timedelta(seconds=10)))

    assert await claims.claim(worker, [], 10) == []
    assert await claims.next_due([]) == pytest.approx(10)
    clock.advance(10)
    assert [job.type for job in await claims.claim(worker, [], 10)] == ["later"]


async def test_a_worker_that_is_no_member_gets_nothing(database: Database, claims: Claims) -> None:
    await put(database, NewJob("a"))

    assert await claims.claim(uuid4(), [], 10) == []


async def test_a_finish_is_refused_once_the_job_was_given_to_another(
    database: Database,
    claims: Claims,
    sql: psycopg.Connection[Any],
    worker: UUID,
) -> None:
    await put(database, NewJob("a"))
    (late,) = await claims.claim(worker, [], 1)
    async with database.transaction() as connection:
        assert await rescue(connection, [worker]) == (1, [])
    other = new_member(sql)
    (again,) = await claims.claim(other, [], 1)

    refused = await claims.finish(worker, [Ended(late.id, late.attempt, JobState.SUCCEEDED)])
    accepted = await claims.finish(other, [Ended(again.id, again.attempt, JobState.SUCCEEDED)])

    assert refused == [late.id]
    assert accepted == []
    assert (again.attempt, again.failures) == (2, 0)
    assert states(sql) == ["succeeded"]


async def test_a_failed_job_waits_for_its_retry_and_a_dead_one_stays(
    database: Database,
    sql: psycopg.Connection[Any],
    worker: UUID,
) -> None:
    clock = FakeClock()
    claims = Claims(database.link("claims"), clock)
    await put(
        database,
        NewJob("a", run_at=clock.now),
        NewJob("b", run_at=clock.now),
    )
    first, second = await claims.claim(worker, [], 2)

    await claims.finish(
        worker,
        [
            Ended(first.id, 1, JobState.FAILED, "boom", retry_in=30.0),
            Ended(second.id, 1, JobState.DEAD, "boom"),
        ],
    )

    assert states(sql) == ["failed", "dead"]
    assert await claims.claim(worker, [], 2) == []
    clock.advance(30)
    assert [(job.type, job.failures) for job in await claims.claim(worker, [], 2)] == [("a", 1)]


async def test_a_job_given_back_has_not_used_an_attempt(
    database: Database,
    claims: Claims,
    worker: UUID,
) -> None:
    await put(database, NewJob("a"))
    jobs = await claims.claim(worker, [], 1)

    assert await claims.give_back(worker, jobs) == 1
    assert [job.attempt for job in await claims.claim(worker, [], 1)] == [1]


@pytest.mark.parametrize("started", [False, True])
async def test_a_job_given_back_expires_only_if_it_was_never_started(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    started: bool,
) -> None:
    await put(database, NewJob("a", expires_in=60))

    await claims.give_back(worker, await claims.claim(worker, [], 1), started=started)

    assert sql.execute("SELECT expires_at IS NULL FROM pillars.jobs").fetchone() == (started,)


async def test_a_job_that_outlives_too_many_workers_is_dead(
    database: Database,
    claims: Claims,
    sql: psycopg.Connection[Any],
) -> None:
    await put(database, NewJob("poison"))

    for _ in range(MOST_RESCUES):
        lost = new_member(sql)
        # From the second time on it comes back later.
        sql.execute("UPDATE pillars.jobs SET run_at = now()")
        assert len(await claims.claim(lost, [], 1)) == 1
        async with database.transaction() as connection:
            returned, dead = await rescue(connection, [lost])

    assert states(sql) == ["dead"]
    assert returned == 0
    assert [(job.type, job.attempt) for job in dead] == [("poison", MOST_RESCUES)]


async def test_two_workers_never_get_the_same_job(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    await put(database, *(NewJob("a") for _ in range(50)))
    one, two = (Claims(database.link(f"c{n}"), SystemClock()) for n in range(2))

    first, second = (
        await one.claim(new_member(sql), [], 30),
        await two.claim(new_member(sql), [], 30),
    )

    assert len({job.id for job in first + second}) == len(first) + len(second) == 50


async def test_a_job_that_was_tried_ever_so_often_keeps_no_other_from_its_worker(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, NewJob("often", max_attempts=32_767), NewJob("other"))
    sql.execute("UPDATE pillars.jobs SET attempt = 32767, rescues = 1 WHERE type = 'often'")

    jobs = await claims.claim(worker, [], 10)

    assert [(job.type, job.attempt) for job in jobs] == [("often", 32_768), ("other", 1)]


DURABILITY = """
CREATE TABLE durability (queue text, state text, waits_for_disk text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO durability
    VALUES (new.queue, new.state, current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON pillars.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
"""


async def test_only_a_claim_from_queues_without_limits_does_not_wait_for_the_disk(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute(f"ALTER DATABASE {sql.info.dbname} SET synchronous_commit = on")
    sql.execute(DURABILITY)
    await limit_queue(database, QueueLimits("limited", concurrency=9))
    await put(database, NewJob("a", queue="plain"))
    jobs = await claims.claim(worker, [], 10)
    await put(database, NewJob("b", queue="limited"))
    jobs += await claims.claim(worker, [], 10)

    await claims.finish(worker, [Ended(job.id, job.attempt, JobState.SUCCEEDED) for job in jobs])

    assert sql.execute("SELECT * FROM durability ORDER BY queue, state").fetchall() == [
        ("limited", "running", "on"),
        ("limited", "succeeded", "on"),
        ("plain", "running", "off"),
        ("plain", "succeeded", "on"),
    ]


async def test_a_claim_that_a_crash_of_the_server_forgot_is_made_again_and_its_end_refused(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
) -> None:
    await put(database, NewJob("a"))
    sql.execute("CREATE TABLE before AS SELECT * FROM pillars.jobs")
    (forgotten,) = await claims.claim(worker, [], 1)
    # What a recovery finds that did not get the claim.
    sql.execute("DELETE FROM pillars.jobs")
    sql.execute("INSERT INTO pillars.jobs OVERRIDING SYSTEM VALUE SELECT * FROM before")
    (again,) = await claims.claim(new_member(sql), [], 1)

    ended = Ended(forgotten.id, forgotten.attempt, JobState.SUCCEEDED)

    assert (again.id, again.attempt) == (forgotten.id, forgotten.attempt)
    assert await claims.finish(worker, [ended]) == [forgotten.id]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.AVAILABLE])
async def test_a_job_whose_cancellation_was_asked_for_while_it_failed_does_not_wait_for_its_retry(
    database: Database,
    claims: Claims,
    worker: UUID,
    state: JobState,
) -> None:
    await put(database, NewJob("a"))
    (job,) = await claims.claim(worker, [], 1)
    await cancel_job(database, job.id, "not wanted")
    await claims.finish(worker, [Ended(job.id, job.attempt, state, "boom", retry_in=3600.0)])

    (again,) = await claims.claim(worker, [], 1)

    assert again.refusal == "not wanted"


# What no door lets in, but an INSERT does.
UNREADABLE = {"digits": '{"n": 1e5000}', "depth": f'{{"a": {"[" * 1200}{"]" * 1200}}}'}


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("args", UNREADABLE.values(), ids=UNREADABLE)
async def test_args_that_cannot_be_read_end_their_job_and_keep_no_other_from_its_worker(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    args: str,
    limited: bool,
) -> None:
    if limited:
        await limit_queue(database, QueueLimits("default", concurrency=9))
    sql.execute("INSERT INTO pillars.jobs (type, args) VALUES ('bad', %s)", [args])
    await put(database, NewJob("good", {"n": 1}))

    bad, good = await claims.claim(worker, [], 10)

    assert (bad.unreadable, bad.args) == (True, {})
    assert (bad.refusal or "").startswith("its args cannot be read: ")
    assert (good.unreadable, good.refusal, good.args) == (False, None, {"n": 1})


async def test_a_job_that_shall_be_cancelled_is_whatever_its_args(
    claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "INSERT INTO pillars.jobs (type, args, reason, cancel_requested_at)"
        " VALUES ('bad', %s, 'not wanted', now())",
        [UNREADABLE["digits"]],
    )

    (bad,) = await claims.claim(worker, [], 10)

    assert (bad.unreadable, bad.refusal) == (False, "not wanted")


@pytest.mark.parametrize("retry", ['{"max_attempts": 1e5000}', "[" * 1200 + "]" * 1200])
async def test_a_policy_that_cannot_be_read_keeps_no_job_from_its_worker(
    claims: Claims, worker: UUID, sql: psycopg.Connection[Any], retry: str
) -> None:
    sql.execute("INSERT INTO pillars.jobs (type, retry) VALUES ('a', %s)", [retry])

    assert len(await claims.claim(worker, [], 10)) == 1


@pytest.mark.parametrize("column", ["run_at", "fire_at", "expires_at"])
@pytest.mark.parametrize("instant", ["0044-03-15 BC", "20000-01-01", "infinity", "-infinity"])
def test_an_instant_that_no_driver_can_read_stands_in_no_row(
    sql: psycopg.Connection[Any], column: str, instant: str
) -> None:
    with pytest.raises(errors.CheckViolation):
        sql.execute(f"INSERT INTO pillars.jobs (type, {column}) VALUES ('a', %s)", [instant])
