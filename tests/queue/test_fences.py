"""A write that was waiting for a row while its worker lost the job changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pillars.db.connection import fetch
from pillars.ground.clock import SystemClock
from pillars.queue.claims import Claims, Ended, Job
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import SQL, NewJob
from pillars.queue.states import JobState
from pillars.queue.upkeep import Pruner, rescue
from tests.helpers import until_one_waits_for_a_lock

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database


async def write(claims: Claims, what: str, worker: UUID, job: Job) -> list[int] | int:
    if what == "give_back":
        return await claims.give_back(worker, [job])
    retry_in = 30.0 if what == "failed" else None
    return await claims.finish(
        worker,
        [Ended(job.id, job.attempt, JobState(what), retry_in=retry_in)],
    )


@pytest.mark.parametrize("what", ["succeeded", "failed", "dead", "give_back"])
async def test_a_job_rescued_while_its_result_waited_for_the_row_stays_rescued(
    database: Database,
    sql: psycopg.Connection[Any],
    what: str,
) -> None:
    worker = uuid4()
    sql.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, app_version) "
        "VALUES (%s, 'worker', 'w', 'active', 1, '0')",
        (worker,),
    )
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
