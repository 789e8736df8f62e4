from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pillars import NewJob
from pillars.ground.clock import SystemClock
from pillars.ground.events import (
    FinishRefused,
    JobFinished,
    JobsFinished,
    JobsReturned,
    LoopFailed,
    LoopRecovered,
)
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import Claims
from pillars.queue.states import JobState
from pillars.worker.finisher import BATCH, CAPACITY, Finisher, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import psycopg

    from pillars.ground.events import Event
    from tests.worker.conftest import Bench


@pytest.fixture
def claims(bench: Bench) -> Claims:
    return Claims(bench.database.link("claims"), SystemClock())


async def claimed(bench: Bench, claims: Claims, count: int) -> tuple[UUID, list[Job]]:
    await bench.app.enqueue_many([NewJob("noop")] * count)
    worker_id = bench.join()
    return worker_id, await claims.claim(worker_id, [], count)


def success(worker_id: UUID, job: Job) -> Outcome:
    return Outcome(worker_id, job, Ended(job.id, job.attempt, JobState.SUCCEEDED), 0.0)


@asynccontextmanager
async def running(finisher: Finisher) -> AsyncIterator[None]:
    task = asyncio.create_task(finisher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_outcomes_of_all_kinds_and_ids_are_written_each_under_its_own(
    bench: Bench,
    claims: Claims,
) -> None:
    first, (a, b) = await claimed(bench, claims, 2)
    second, (c, d) = await claimed(bench, claims, 2)
    pauses: list[float] = []
    finisher = Finisher(claims, bench.events, pauses.append)

    finisher.put(success(first, a))
    finisher.put(Outcome(first, b, Ended(b.id, 1, JobState.FAILED, "boom\nwhere", 3.0), 0.5))
    finisher.put(success(second, c))
    finisher.put(Outcome(second, d, None, 0.0))
    async with running(finisher):
        await finisher.drain()
        # It is no longer this worker's to give back.
        finisher.put(Outcome(second, d, None, 0.0))
        await finisher.drain()

    assert bench.jobs("state, attempt") == [
        ("succeeded", 1),
        ("failed", 1),
        ("succeeded", 1),
        ("available", 0),
    ]
    assert [event.error for event in bench.events.of(JobFinished)] == [None, "boom", None]
    assert bench.events.of(JobsReturned) == [JobsReturned(1)]
    assert pauses == [3.0]


async def test_slots_wait_while_too_much_is_unwritten(bench: Bench, claims: Claims) -> None:
    worker_id, jobs = await claimed(bench, claims, CAPACITY)
    finisher = Finisher(claims, bench.events, lambda _: None)

    for job in jobs:
        finisher.put(success(worker_id, job))
    waiting = asyncio.create_task(finisher.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    async with running(finisher):
        await waiting
        assert len(bench.events.of(JobFinished)) <= BATCH
        await finisher.drain()

    assert bench.jobs() == ["succeeded"] * CAPACITY


async def test_what_was_written_and_never_acknowledged_counts_as_finished(
    bench: Bench,
    claims: Claims,
    sql: psycopg.Connection[Any],
) -> None:
    worker_id, (written, late) = await claimed(bench, claims, 2)
    sql.execute("ALTER TABLE pillars.jobs RENAME TO away")

    def repair(event: Event) -> None:
        # Between the failed write and its repeat: the one result stands, the other is too late.
        if isinstance(event, LoopFailed):
            sql.execute("ALTER TABLE pillars.away RENAME TO jobs")
            sql.execute(
                "UPDATE pillars.jobs SET state = 'succeeded', finished_at = now() WHERE id = %s",
                (written.id,),
            )
            sql.execute(
                "UPDATE pillars.jobs SET state = 'available', worker_id = NULL WHERE id = %s",
                (late.id,),
            )
        bench.events(event)

    finisher = Finisher(claims, repair, lambda _: None)
    finisher.put(success(worker_id, written))
    finisher.put(success(worker_id, late))
    async with running(finisher):
        await finisher.drain()

    assert len(bench.events.of(LoopFailed)) == 1
    assert [event.job_id for event in bench.events.of(JobFinished)] == [written.id]
    assert bench.events.of(FinishRefused) == [FinishRefused((late.id,))]


async def test_a_listener_that_fails_has_nothing_written_twice(
    bench: Bench,
    claims: Claims,
) -> None:
    worker_id, (job,) = await claimed(bench, claims, 1)
    told: list[Event] = []

    def emit(event: Event) -> None:
        told.append(event)
        if isinstance(event, JobsFinished):
            raise ZeroDivisionError

    finisher = Finisher(claims, emit, lambda _: None)
    finisher.put(success(worker_id, job))
    async with running(finisher):
        await finisher.drain()

    assert [type(event) for event in told] == [JobsFinished, LoopFailed, LoopRecovered]
    assert bench.jobs() == ["succeeded"]


async def test_drain_returns_when_the_rest_is_given_up(bench: Bench, claims: Claims) -> None:
    worker_id, (job,) = await claimed(bench, claims, 1)
    finisher = Finisher(claims, bench.events, lambda _: None)
    finisher.put(success(worker_id, job))

    draining = asyncio.create_task(finisher.drain())
    finisher.abandon()
    await draining

    assert finisher.held() == [success(worker_id, job)]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("{", "invalid input syntax for type json"),
        ("[" * 50_000 + "]" * 50_000, "stack depth limit"),
    ],
    ids=["no JSON", "too deep"],
)
async def test_a_result_that_cannot_be_stored_keeps_no_other_back(
    bench: Bench, claims: Claims, result: str, reason: str
) -> None:
    worker_id, (a, b, c) = await claimed(bench, claims, 3)
    finisher = Finisher(claims, bench.events, lambda _: None)

    for job, text in ((a, '"one"'), (b, result), (c, '"three"')):
        ended = Ended(job.id, job.attempt, JobState.SUCCEEDED, result=text)
        finisher.put(Outcome(worker_id, job, ended, 0.0))
    async with running(finisher):
        await finisher.drain()

    assert bench.jobs("state, result") == [
        ("succeeded", "one"),
        ("succeeded", None),
        ("succeeded", "three"),
    ]
    assert bench.jobs("error")[1].startswith(f"the result was not stored: {reason}")
    assert [event.job_id for event in bench.events.of(JobFinished)] == [a.id, b.id, c.id]
    assert bench.events.of(FinishRefused) == bench.events.of(LoopFailed) == []


async def test_a_failure_that_cannot_be_stored_is_the_jobs_last(
    bench: Bench, claims: Claims
) -> None:
    worker_id, (a, b) = await claimed(bench, claims, 2)
    finisher = Finisher(claims, bench.events, lambda _: None)

    for job, error in ((a, "boom"), (b, "\0")):
        ended = Ended(job.id, job.attempt, JobState.FAILED, error, 60.0)
        finisher.put(Outcome(worker_id, job, ended, 0.0))
    async with running(finisher):
        await finisher.drain()

    assert bench.jobs() == ["failed", "dead"]
    assert bench.jobs("error")[1].startswith("the outcome was not stored: ")


async def test_what_comes_after_the_rest_was_given_up_is_not_waited_for(
    bench: Bench, claims: Claims
) -> None:
    worker_id, (job,) = await claimed(bench, claims, 1)
    finisher = Finisher(claims, bench.events, lambda _: None)

    finisher.abandon()
    finisher.put(success(worker_id, job))
    await finisher.drain()

    assert finisher.held() == [success(worker_id, job)]
