"""A write that was waiting for a row while its worker lost the job changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from psycopg.conninfo import make_conninfo

from pillars.db.connection import fetch
from pillars.db.database import Database
from pillars.ground.clock import SystemClock
from pillars.ground.events import nobody
from pillars.ground.settings import Secret
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import BusyRowError, Claims
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import SQL, NewJob
from pillars.queue.states import JobState
from pillars.queue.upkeep import Pruner, rescue
from tests.helpers import new_member, until_one_waits_for_a_lock

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.statements import Statement


async def write(claims: Claims, what: str, worker: UUID, job: Job) -> list[int] | int:
    if what == "give_back":
        return await claims.give_back(worker, [job])
    retry_in = {"failed": 30.0, "available": 0.0}.get(what)
    started_at = job.started_at if what == "available" else None
    return await claims.finish(
        worker,
        [Ended(job.id, job.attempt, JobState(what), retry_in=retry_in, started_at=started_at)],
    )


@pytest.mark.parametrize("what", ["succeeded", "failed", "dead", "give_back"])
async def test_a_job_rescued_while_its_result_waited_for_the_row_stays_rescued(
    database: Database,
    sql: psycopg.Connection[Any],
    what: str,
) -> None:
    worker = new_member(sql)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("a")])
    claims = Claims(database.link("claims"), SystemClock())
    (job,) = await claims.claim(worker, [], 1)

    async with database.transaction() as connection:
        await rescue(connection, [worker])
        late = asyncio.create_task(write(claims, what, worker, job))
        await until_one_waits_for_a_lock(database)

    assert await late == (0 if what == "give_back" else [job.id])
    assert sql.execute("SELECT state, attempt, rescues FROM pillars.jobs").fetchall() == [
        ("available", 1, 1),
    ]


@pytest.mark.parametrize("what", ["available", "give_back"])
async def test_a_repeat_for_a_lost_answer_leaves_alone_what_its_worker_has_claimed_again(
    database: Database,
    sql: psycopg.Connection[Any],
    worker: UUID,
    what: str,
) -> None:
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("a")])
    claims = Claims(database.link("claims"), SystemClock())
    (job,) = await claims.claim(worker, [], 1)
    assert await write(claims, what, worker, job) == (1 if what == "give_back" else [])
    (again,) = await claims.claim(worker, [], 1)

    repeated = await write(claims, what, worker, job)

    assert again.attempt == job.attempt
    assert repeated == (0 if what == "give_back" else [job.id])
    assert sql.execute("SELECT state FROM pillars.jobs").fetchall() == [("running",)]


@pytest.mark.parametrize("run_at", ["now()", "now() - interval '30 years'", "'1970-01-01'"])
async def test_the_instant_of_a_claim_is_known_however_long_the_job_was_due(
    database: Database,
    sql: psycopg.Connection[Any],
    worker: UUID,
    run_at: LiteralString,
) -> None:
    sql.execute(f"INSERT INTO pillars.jobs (type, run_at) VALUES ('a', {run_at})")
    claims = Claims(database.link("claims"), SystemClock())
    (job,) = await claims.claim(worker, [], 1)

    assert await claims.give_back(worker, [job]) == 1


@pytest.mark.parametrize("run_at", ["2020-01-01", "2020-07-01"])
async def test_it_is_known_where_the_session_has_a_zone_whose_clocks_changed_since(
    dsn: Secret,
    sql: psycopg.Connection[Any],
    worker: UUID,
    run_at: str,
) -> None:
    sql.execute("INSERT INTO pillars.jobs (type, run_at) VALUES ('a', %s)", (run_at,))
    url = make_conninfo(dsn.reveal(), options="-c TimeZone=America/New_York")
    database = Database(Secret(url), "test", nobody)
    claims = Claims(database.link("claims"), SystemClock())
    (job,) = await claims.claim(worker, [], 1)

    assert await claims.give_back(worker, [job]) == 1
    await database.close()


async def test_a_job_that_is_tried_again_while_it_is_being_pruned_stays(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    async with database.connection() as connection:
        (job_id,) = await enqueue(connection, [NewJob("a")])
    sql.execute("UPDATE pillars.jobs SET state = 'dead', finished_at = now() - interval '9 days'")
    sql.execute("UPDATE pillars.jobs SET created_at = finished_at")
    pruner = Pruner(database.link("prune"), 60.0, 60.0, lambda _: None)

    async with database.transaction() as connection:
        await fetch(connection, SQL["retry_job"], {"id": job_id})
        pruning = asyncio.create_task(pruner.step())
        await until_one_waits_for_a_lock(database)

    await pruning
    assert sql.execute("SELECT state FROM pillars.jobs").fetchall() == [("available",)]


class BusyRows:
    """A link whose statements of one name each find that somebody is just changing the rows."""

    def __init__(self, database: Database, busy: str, times: int) -> None:
        self.database = database
        self.link = database.link("busy")
        self.busy = busy
        self.left = times

    async def fetch(self, statement: Statement, params: Any = None) -> Any:
        if statement.name != self.busy or not self.left:
            return await self.link.fetch(statement, params)
        self.left -= 1
        async with self.database.transaction() as connection:
            await connection.execute("UPDATE pillars.jobs SET cancel_requested_at = now()")
            late = asyncio.create_task(self.link.fetch(statement, params))
            await until_one_waits_for_a_lock(self.database)
        return await late


async def test_a_job_whose_row_changes_again_and_again_is_given_back_all_the_same(
    database: Database,
    sql: psycopg.Connection[Any],
    worker: UUID,
) -> None:
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("a")])
    (job,) = await Claims(database.link("claims"), SystemClock()).claim(worker, [], 1)
    busy: Any = BusyRows(database, "give_back", times=3)

    returned = await Claims(busy, SystemClock()).give_back(worker, [job])

    assert busy.left == 0
    assert returned == 1
    assert sql.execute("SELECT state, attempt FROM pillars.jobs").fetchall() == [("available", 0)]


async def test_rows_that_never_rest_are_reported_and_what_is_to_be_given_back_is_kept(
    database: Database,
    worker: UUID,
) -> None:
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("a")])
    (job,) = await Claims(database.link("claims"), SystemClock()).claim(worker, [], 1)
    busy: Any = BusyRows(database, "give_back", times=100)

    with pytest.raises(BusyRowError):
        await Claims(busy, SystemClock()).give_back(worker, [job])
