"""Claims while entries of finished jobs cannot be cleared away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars.ground.clock import SystemClock
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import Claims
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import NewJob
from pillars.queue.states import JobState

if TYPE_CHECKING:
    from uuid import UUID

    from pillars.db.database import Database
    from tests.helpers import FakeClock


def slow(claims: Claims, seconds: float = 5.0) -> None:
    """What two looks at all lanes report when they have taken so long."""
    for _ in range(2):
        claims._lanes.looked(seconds, 0)


async def put(database: Database, clock: FakeClock, *types: str, **more: Any) -> None:
    jobs = [NewJob(type_, run_at=clock.now - timedelta(seconds=10), **more) for type_ in types]
    async with database.connection() as connection:
        await enqueue(connection, jobs)


def types(jobs: list[Job]) -> list[str]:
    return [job.type for job in jobs]


async def test_after_a_slow_claim_the_next_goes_on_from_its_end(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a", "b", "c")
    first = await claims.claim(worker, [], 1)
    slow(claims)

    assert types(first + await claims.claim(worker, [], 10)) == ["a", "b", "c"]


async def test_a_job_that_appears_before_that_place_is_found_by_the_next_look(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a", "b")
    first, second = await claims.claim(worker, [], 10)
    result = Ended(second.id, second.attempt, JobState.SUCCEEDED)
    await claims.finish(worker, [result])
    slow(claims)
    await claims.give_back(worker, [first])

    assert await claims.claim(worker, [], 10) == []
    clock.advance(100)
    assert types(await claims.claim(worker, [], 10)) == ["a"]


async def test_a_new_lane_is_found_by_the_next_look(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a")
    await claims.claim(worker, [], 10)
    slow(claims)
    await put(database, clock, "b", queue="new")
    await put(database, clock, "c")

    assert types(await claims.claim(worker, [], 10)) == ["c"]
    clock.advance(100)
    assert types(await claims.claim(worker, [], 10)) == ["b"]


async def test_the_next_due_job_of_known_lanes_is_known_without_a_look(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a")
    await claims.claim(worker, [], 10)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("b", run_at=clock.now + timedelta(seconds=7))])
    slow(claims)

    assert await claims.next_due([]) == pytest.approx(7.0)


async def test_one_slow_look_alone_keeps_no_job_waiting(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    claims._lanes.looked(8.0, 0)
    await put(database, clock, "a")

    assert types(await claims.claim(worker, [], 10)) == ["a"]


async def test_while_the_known_lanes_bring_enough_looks_are_rare(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a", "b", "c", "d")
    await claims.claim(worker, [], 1)
    slow(claims, seconds=1.0)
    await put(database, clock, "first", priority=-1)
    clock.advance(19)

    assert types(await claims.claim(worker, [], 1)) == ["b"]
    clock.advance(2)
    assert types(await claims.claim(worker, [], 1)) == ["first"]


async def test_once_they_bring_less_the_next_look_comes_sooner(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    slow(claims, seconds=1.0)
    await put(database, clock, "a")
    clock.advance(4)
    assert await claims.claim(worker, [], 10) == []
    clock.advance(2)

    assert types(await claims.claim(worker, [], 10)) == ["a"]


async def test_however_slow_looks_are_the_next_comes_within_a_minute(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    slow(claims, seconds=100.0)
    await put(database, clock, "a")
    clock.advance(60)

    assert types(await claims.claim(worker, [], 10)) == ["a"]


async def test_a_look_that_the_server_ends_for_its_length_was_slow(
    database: Database, clock: FakeClock, worker: UUID
) -> None:
    claims = Claims(database.link("claims", {"statement_timeout": "200"}), SystemClock())
    await put(database, clock, "a")
    async with database.transaction() as holding:
        await holding.execute("LOCK pillars.jobs")
        for _ in range(2):
            with pytest.raises(psycopg.errors.QueryCanceled):
                await claims.claim(worker, [], 10)

    assert not claims._lanes.look()


async def test_a_line_for_one_key_is_gone_through_without_a_look_for_each(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    names = [f"n{number}" for number in range(30)]
    await put(database, clock, *names, concurrency_key="k")
    slow(claims)
    claims._lanes._places["default", 0] = (clock.now - timedelta(seconds=10), 0)

    done: list[str] = []
    for _ in names:
        (job,) = await claims.claim(worker, [], 20)
        done.append(job.type)
        await claims.finish(worker, [Ended(job.id, job.attempt, JobState.SUCCEEDED)])
        await claims.make_room([job])

    assert done == names


async def test_a_quick_claim_is_followed_by_a_look(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, clock, "a")
    slow(claims, seconds=0.005)

    assert types(await claims.claim(worker, [], 10)) == ["a"]
