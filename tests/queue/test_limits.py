"""Limits of whole queues: at a time, a second, and not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pillars.db.notify import JOBS_CHANNEL
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import Claims
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import NewJob
from pillars.queue.limits import (
    QueueLimitError,
    QueueLimits,
    format_rate,
    limit_queue,
    list_limits,
    parse_rate,
    pause_queue,
)
from pillars.queue.states import JobState
from tests.helpers import FakeClock, new_member, notifications

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from pillars.ground.settings import Secret

# A lock leaves its transaction in the row.
LOCKERS = "SELECT name, xmax::text FROM pillars.queues ORDER BY name"


async def put(database: Database, queue: str, count: int, **more: Any) -> None:
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("noop", queue=queue, **more) for _ in range(count)])


def queues(jobs: Sequence[Job]) -> list[str]:
    return sorted(job.queue for job in jobs)


async def test_of_a_limited_queue_no_more_run_than_its_limit_and_others_go_on(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("slow", concurrency=2))
    await put(database, "slow", 5)
    await put(database, "fast", 3)

    assert queues(await claims.claim(worker, [], 10)) == ["fast"] * 3 + ["slow"] * 2
    assert await claims.claim(worker, [], 10) == []


async def test_the_end_of_a_job_makes_room_for_the_next_of_its_queue(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("slow", concurrency=1))
    await put(database, "slow", 2)
    (job,) = await claims.claim(worker, [], 10)

    await claims.finish(worker, [Ended(job.id, job.attempt, JobState.SUCCEEDED)])

    assert await claims.make_room([job])
    assert len(await claims.claim(worker, [], 10)) == 1


async def test_the_limit_counts_the_jobs_of_all_workers(
    database: Database, clock: FakeClock, sql: psycopg.Connection[Any]
) -> None:
    await limit_queue(database, QueueLimits("slow", concurrency=3))
    await put(database, "slow", 20)
    sides = [Claims(database.link(f"w{n}"), clock) for n in range(4)]

    for _ in range(3):
        await asyncio.gather(*(side.claim(new_member(sql), [], 2) for side in sides))

    rows = sql.execute("SELECT count(*) FROM pillars.jobs WHERE state = 'running'").fetchone()
    assert rows == (3,)


async def test_a_rate_lets_a_burst_start_and_then_so_many_a_second(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("api", rate=2.0, burst=3))
    await put(database, "api", 20, run_at=clock.now)

    found = []
    for _ in range(4):
        found.append(len(await claims.claim(worker, [], 10)))
        clock.now += timedelta(seconds=1)

    assert found == [3, 2, 2, 2]


async def test_the_claimer_learns_when_the_rate_lets_the_next_job_start(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("api", rate=0.25))
    await put(database, "api", 2, run_at=clock.now)
    assert len(await claims.claim(worker, [], 10)) == 1

    await claims.claim(worker, [], 10)

    assert await claims.next_due([]) == pytest.approx(4.0)


async def test_of_a_paused_queue_no_job_starts_and_once_resumed_all_do(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await put(database, "q", 2, run_at=clock.now)
    await pause_queue(database, "q", paused=True)

    assert await claims.claim(worker, [], 10) == []
    assert await claims.next_due([]) is None

    await pause_queue(database, "q", paused=False)

    assert len(await claims.claim(worker, [], 10)) == 2


async def test_workers_are_woken_when_a_queue_is_resumed_or_limited_anew_but_not_by_a_pause(
    database: Database, dsn: Secret
) -> None:
    with notifications(dsn, JOBS_CHANNEL) as heard:
        await pause_queue(database, "q", paused=True)
        assert heard() == []

        await pause_queue(database, "q", paused=False)
        assert heard() == [""]

        await limit_queue(database, QueueLimits("q", concurrency=2))
        assert heard() == [""]


async def test_a_pause_leaves_the_limits_alone_and_the_limits_the_pause(
    database: Database,
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=2))
    await pause_queue(database, "q", paused=True)
    await limit_queue(database, QueueLimits("q", concurrency=4, rate=1.5, burst=2))

    (limits,) = await list_limits(database)

    assert (limits.concurrency, limits.rate, limits.burst) == (4, 1.5, 2)
    assert limits.paused_at is not None


async def test_unless_told_otherwise_the_starts_of_a_tenth_of_a_second_are_a_burst(
    database: Database,
) -> None:
    await limit_queue(database, QueueLimits("slow", rate=2.0))
    await limit_queue(database, QueueLimits("fast", rate=250.0))

    found = {limits.name: limits.burst for limits in await list_limits(database)}
    assert found == {"slow": 1, "fast": 25}


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/s", 10.0), ("100/m", 100 / 60), ("5000/h", 5000 / 3600), ("1/h", 1 / 3600)],
)
def test_a_rate_is_written_as_it_is_read(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)
    assert format_rate(parse_rate(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("60/m", "1/s"), ("0.5/s", "30/m"), ("0.1/h", "0.1/h"), ("2 / s", "2/s")]
)
def test_a_rate_is_shown_as_a_whole_number_where_there_is_one(text: str, shown: str) -> None:
    assert format_rate(parse_rate(text)) == shown


@pytest.mark.parametrize("text", ["", "10", "10/d", "/s", "-1/s", "1e3/s", "ten/s", "٣/s"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write 10/s, 100/m or 5000/h"):
        parse_rate(text)


async def test_a_queue_without_limits_has_no_row(database: Database) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=2))
    await limit_queue(database, QueueLimits("q"))

    assert await list_limits(database) == []


async def test_a_full_queue_is_not_asked_again_at_the_pace_of_its_rate(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1, rate=1000.0))
    await put(database, "q", 2)
    await claims.claim(worker, [], 10)
    clock.advance(1.0)

    assert await claims.claim(worker, [], 10) == []
    assert await claims.next_due([]) is None


async def test_a_worker_of_other_queues_leaves_the_limited_one_alone(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("slow", concurrency=2))
    await put(database, "slow", 1)

    assert await claims.claim(worker, ["fast"], 10) == []


async def test_a_job_counts_against_its_key_and_its_queue(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=3))
    await put(database, "q", 2, concurrency_key="a")
    await put(database, "q", 4)

    found = [await claims.claim(worker, [], 10) for _ in range(3)]

    assert [sum(job.concurrency_key == "a" for job in jobs) for jobs in found] == [1, 0, 0]
    assert sum(map(len, found)) == 3


@pytest.mark.parametrize(
    "limits",
    [
        QueueLimits("q", concurrency=0),
        QueueLimits("q", rate=-1.0),
        QueueLimits("q", rate=1.0, burst=0),
        QueueLimits("q", burst=3),
        QueueLimits("no name"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(
    database: Database, limits: QueueLimits
) -> None:
    with pytest.raises(QueueLimitError):
        await limit_queue(database, limits)


async def test_a_job_that_waits_for_its_key_costs_its_queue_no_token(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("mail", rate=1.0, burst=3))
    await put(database, "mail", 2, concurrency_key="k")
    await put(database, "mail", 3)

    assert len(await claims.claim(worker, [], 10)) == 2

    assert len(await claims.claim(worker, [], 10)) == 1


async def test_jobs_are_taken_by_priority_whether_their_queue_is_limited_or_not(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("bulk", concurrency=100))
    await put(database, "bulk", 20, priority=100)
    await put(database, "plain", 2, priority=100)
    await put(database, "urgent", 2, priority=-100)

    assert queues(await claims.claim(worker, [], 3)) == ["bulk", "urgent", "urgent"]


async def test_within_a_priority_the_queue_whose_first_job_is_oldest_comes_first(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("limited", concurrency=100))
    for seconds, queue in ((3, "a"), (2, "limited"), (1, "b")):
        await put(database, queue, 1, run_at=clock.now - timedelta(seconds=seconds))

    found = [await claims.claim(worker, [], 1) for _ in range(3)]

    assert [job.queue for (job,) in found] == ["a", "limited", "b"]


async def test_the_limit_of_a_queue_holds_over_all_its_priorities_and_the_best_come_first(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=3))
    for priority in (2, 1, 0):
        await put(database, "q", 2, priority=priority)

    assert [job.priority for job in await claims.claim(worker, [], 10)] == [0, 0, 1]


async def test_a_full_queue_keeps_no_other_limited_queue_waiting(
    database: Database, claims: Claims, worker: UUID
) -> None:
    for queue in ("a", "b"):
        await limit_queue(database, QueueLimits(queue, concurrency=1))
        await put(database, queue, 3)

    assert queues([job for _ in range(2) for job in await claims.claim(worker, [], 1)]) == [
        "a",
        "b",
    ]


async def test_a_queue_that_another_worker_holds_keeps_no_other_waiting_and_is_soon_tried_again(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await limit_queue(database, QueueLimits("held", concurrency=1))
    await limit_queue(database, QueueLimits("limited", concurrency=1))
    for queue in ("held", "limited", "plain"):
        await put(database, queue, 1)
    with sql.transaction():
        sql.execute("SELECT FROM pillars.queues WHERE name = 'held' FOR UPDATE")
        assert queues(await claims.claim(worker, [], 10)) == ["limited", "plain"]

    assert 0 < (await claims.next_due([]) or 0) < 0.1


async def test_a_claim_locks_no_queue_that_is_empty_or_full(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await limit_queue(database, QueueLimits("full", concurrency=1))
    await limit_queue(database, QueueLimits("empty", concurrency=1))
    await put(database, "full", 2)
    await claims.claim(worker, [], 10)
    before = sql.execute(LOCKERS).fetchall()

    assert await claims.claim(worker, [], 10) == []

    assert sql.execute(LOCKERS).fetchall() == before


async def test_the_next_job_of_a_limited_queue_is_met_when_it_is_due(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1))
    await put(database, "q", 1, run_at=clock.now + timedelta(seconds=7))
    await claims.claim(worker, [], 10)

    assert await claims.next_due([]) == pytest.approx(7.0)


async def test_a_job_of_a_limited_queue_that_became_due_since_the_claim_looked_is_not_overlooked(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1))
    await put(database, "q", 1, run_at=clock.now + timedelta(seconds=1))
    await claims.claim(worker, [], 10)

    clock.now += timedelta(seconds=2)

    assert await claims.next_due([]) == pytest.approx(-1.0)


async def test_a_due_job_that_a_limit_holds_back_sets_no_timer(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1))
    await put(database, "q", 2, run_at=clock.now)
    await claims.claim(worker, [], 10)
    await claims.claim(worker, [], 10)

    assert await claims.next_due([]) is None


async def test_jobs_that_expired_cost_no_token_and_no_room(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1, rate=1.0, burst=1))
    await put(database, "q", 3, run_at=clock.now - timedelta(hours=1), expires_in=1.0)
    await put(database, "q", 2, run_at=clock.now)

    jobs = await claims.claim(worker, [], 10)

    assert [job.counted for job in jobs] == [False] * 3 + [True]
    assert [job.refusal is None for job in jobs] == [False] * 3 + [True]


async def test_jobs_that_expired_leave_the_others_their_whole_limit(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("q", concurrency=1))
    await put(database, "q", 3, run_at=clock.now - timedelta(hours=1), expires_in=1.0)
    await put(database, "q", 1, run_at=clock.now)
    assert len(await claims.claim(worker, [], 3)) == 3

    (job,) = await claims.claim(worker, [], 3)

    assert job.refusal is None


async def test_a_rate_goes_on_after_the_clock_of_the_server_was_set_back(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("api", rate=1.0))
    await put(database, "api", 5, run_at=clock.now - timedelta(hours=2))
    found = [len(await claims.claim(worker, [], 10))]
    clock.now -= timedelta(hours=1)

    for _ in range(3):
        found.append(len(await claims.claim(worker, [], 10)))
        clock.now += timedelta(seconds=1)

    assert found == [1, 0, 1, 1]


async def test_after_the_last_token_is_taken_the_claimer_knows_when_the_next_one_comes(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("api", rate=2.0))
    await put(database, "api", 2, run_at=clock.now)

    assert len(await claims.claim(worker, [], 10)) == 1

    assert await claims.next_due([]) == pytest.approx(0.5)


async def test_a_job_that_was_not_started_after_all_gives_its_start_back(
    database: Database, claims: Claims, worker: UUID, clock: FakeClock
) -> None:
    await limit_queue(database, QueueLimits("api", rate=0.001, burst=3))
    await put(database, "api", 5, run_at=clock.now)
    jobs = await claims.claim(worker, [], 10)
    assert len(jobs) == 3

    await claims.give_back(worker, jobs[:1])
    await claims.give_back(worker, jobs[1:2], started=True)

    assert len(await claims.claim(worker, [], 10)) == 1
