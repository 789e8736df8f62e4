"""Unique keys, expiry, batches, and what is refused at the door."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from pillars.ground.clock import SystemClock
from pillars.ground.events import JobsEnqueued
from pillars.queue.attempt import Ended
from pillars.queue.claims import Claims
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import LONGEST_BATCH, JobError, NewJob, check_job, check_jobs
from pillars.queue.retry import RetryPolicy
from pillars.queue.states import JobState
from pillars.queue.upkeep import Pruner, rescue
from tests.helpers import new_member, put

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener


FAR_EAST = timezone(timedelta(hours=14))


def nested(depth: int) -> list[Any]:
    """Lists in each other, so many in all."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


async def run_all(database: Database, sql: psycopg.Connection[Any]) -> int:
    claims, worker = Claims(database.link("claims"), SystemClock()), new_member(sql)
    jobs = await claims.claim(worker, [], 100)
    await claims.finish(worker, [Ended(job.id, job.attempt, JobState.SUCCEEDED) for job in jobs])
    return len(jobs)


def count(sql: psycopg.Connection[Any]) -> int:
    return len(sql.execute("SELECT FROM pillars.jobs").fetchall())


async def test_while_an_unfinished_job_has_the_key_its_id_is_the_answer(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    first = await put(database, NewJob("a", unique_key="k"))

    assert await put(database, NewJob("b", unique_key="k")) == first
    assert count(sql) == 1


async def test_once_the_job_has_ended_its_key_is_free(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    first = await put(database, NewJob("a", unique_key="k"))
    await run_all(database, sql)

    assert await put(database, NewJob("a", unique_key="k")) != first


async def test_a_key_with_a_window_is_kept_after_the_job_has_ended(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    job = NewJob("a", unique_key="k", unique_for=3600)
    first = await put(database, job)
    await run_all(database, sql)

    assert await put(database, job) == first


async def test_a_key_is_free_when_its_window_is_over_and_the_job_has_ended(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    job = NewJob("a", unique_key="k", unique_for=3600)
    first = await put(database, job)
    sql.execute("UPDATE pillars.jobs SET unique_until = now() - interval '1 s'")
    assert await put(database, job) == first
    await run_all(database, sql)

    assert await put(database, job) != first


async def test_in_one_batch_each_job_gets_its_id_and_a_repeated_key_the_first_ones(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    (taken,) = await put(database, NewJob("old", unique_key="old"))

    ids = await put(
        database,
        NewJob("plain"),
        NewJob("a", unique_key="k"),
        NewJob("again", unique_key="k"),
        NewJob("b", unique_key="old"),
        NewJob("last"),
    )

    rows = sql.execute("SELECT type, id FROM pillars.jobs")
    named: dict[str, int] = dict(rows.fetchall())
    assert ids == [named["plain"], named["a"], named["a"], taken, named["last"]]
    assert "again" not in named


async def test_of_many_who_enqueue_the_same_key_at_once_one_does_and_all_learn_its_id(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    found = await asyncio.gather(*(put(database, NewJob("a", unique_key="k")) for _ in range(20)))

    assert len({ids[0] for ids in found}) == 1
    assert count(sql) == 1


async def test_two_batches_of_the_same_keys_in_opposite_order_do_not_wait_crosswise(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    jobs = [NewJob("a", unique_key=f"k{n}") for n in range(2000)]

    forth, back = await asyncio.gather(put(database, *jobs), put(database, *reversed(jobs)))

    assert forth == back[::-1]
    assert count(sql) == 2000


async def test_only_jobs_that_were_inserted_are_reported(
    database: Database, events: RecordingListener
) -> None:
    async with database.connection() as connection:
        jobs = [NewJob("a", unique_key="k"), NewJob("b", unique_key="k")]
        await enqueue(connection, jobs, events)

    assert events.of(JobsEnqueued) == [JobsEnqueued("default", 1)]


async def test_a_batch_that_fails_leaves_none(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    with pytest.raises(JobError, match="unique_key"):
        await put(database, NewJob("a", unique_key="k"), NewJob("b", unique_key=""))

    assert count(sql) == 0


async def test_a_key_that_is_kept_for_a_time_outlives_the_retention_of_its_job(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    await put(database, NewJob("a", unique_key="k", unique_for=3600), NewJob("b"))
    await run_all(database, sql)
    sql.execute("UPDATE pillars.jobs SET finished_at = now() - interval '1 h'")

    await Pruner(database.link("prune"), 60.0, 60.0, events).step()

    assert sql.execute("SELECT type FROM pillars.jobs").fetchall() == [("a",)]


async def test_a_job_that_is_claimed_too_late_is_marked_expired(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await put(database, NewJob("late", expires_in=60), NewJob("good", expires_in=60), NewJob("any"))
    sql.execute("UPDATE pillars.jobs SET expires_at = now() - interval '1 s' WHERE type = 'late'")

    jobs = await Claims(database.link("claims"), SystemClock()).claim(new_member(sql), [], 10)

    expired = "expired: it could not be started in the time it was given"
    assert {job.type: job.refusal for job in jobs} == {"late": expired, "good": None, "any": None}


async def test_a_job_that_expired_before_it_was_started_swallows_no_successor(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    first = await put(database, NewJob("a", unique_key="k", expires_in=60))
    sql.execute("UPDATE pillars.jobs SET expires_at = now() - interval '1 s'")

    (second,) = await put(database, NewJob("b", unique_key="k", expires_in=60))
    sql.execute("UPDATE pillars.jobs SET expires_at = now() - interval '1 s'")
    by_sql = "SELECT pillars.enqueue('c', unique_key => 'k')"
    ((third,),) = sql.execute(by_sql).fetchall()

    expired = "expired: it could not be started in the time it was given"
    assert sql.execute("SELECT id, state, error FROM pillars.jobs ORDER BY id").fetchall() == [
        (*first, "cancelled", expired),
        (second, "cancelled", expired),
        (third, "available", None),
    ]


@pytest.mark.parametrize("held", ["started", "kept for a time"])
async def test_a_job_that_expired_keeps_the_key_where_it_was_started_or_has_it_for_a_time(
    database: Database, sql: psycopg.Connection[Any], worker: UUID, held: str
) -> None:
    first = await put(
        database,
        NewJob("a", unique_key="k", expires_in=60, unique_for=None if held == "started" else 3600),
    )
    if held == "started":
        await Claims(database.link("claims"), SystemClock()).claim(worker, [], 1)
    sql.execute("UPDATE pillars.jobs SET expires_at = now() - interval '1 s'")

    assert await put(database, NewJob("b", unique_key="k")) == first
    assert sql.execute("SELECT pillars.enqueue('c', unique_key => 'k')").fetchall() == [(first[0],)]


@pytest.mark.parametrize("how", ["failed", "available", "rescued"])
async def test_a_job_that_was_started_in_time_may_be_tried_again_later(
    database: Database, sql: psycopg.Connection[Any], how: str
) -> None:
    await put(database, NewJob("a", expires_in=60))
    claims, worker = Claims(database.link("claims"), SystemClock()), new_member(sql)
    (job,) = await claims.claim(worker, [], 1)
    if how == "rescued":
        async with database.transaction() as connection:
            await rescue(connection, [worker])
    else:
        await claims.finish(worker, [Ended(job.id, 1, JobState(how), "boom", retry_in=0.0)])

    assert sql.execute("SELECT expires_at FROM pillars.jobs").fetchone() == (None,)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (NewJob("a", unique_for=5), "unique_for needs a unique_key"),
        (NewJob("a", concurrency_limit=5), "concurrency_limit needs a concurrency_key"),
        (NewJob("a", concurrency_key="k", concurrency_limit=0), "out of range: 1 to 1000"),
        (NewJob("a", concurrency_key="schedule:x"), "may not begin with 'schedule:'"),
        (NewJob("a", unique_key="k" * 257), "1 to 256 characters"),
        (NewJob("a", unique_key="k\0"), "NUL"),
        (NewJob("a", unique_key="\ud800"), "unique_key holds half a surrogate pair"),
        (NewJob("a", concurrency_key="\udc00"), "concurrency_key holds half a surrogate pair"),
        (NewJob("\ud800"), "is not a name"),
        (
            NewJob("a", {"s": "s3cret", "\ud800": 1}),
            "^args of 'a' hold half a surrogate pair, [^3]+$",
        ),
        (NewJob("a", {"a": nested(200)}), "^args of 'a' are nested more than 200 deep$"),
        (NewJob("a", {"a": nested(5_000)}), "^args of 'a' are nested more than 200 deep$"),
        (NewJob("a", run_at=datetime(1, 1, 1, tzinfo=FAR_EAST)), "run_at .* is out of range"),
        (NewJob("a", run_at=datetime(1970, 1, 1, tzinfo=FAR_EAST)), "run_at .* is out of range"),
        (NewJob("a", run_at=datetime(9000, 1, 1, tzinfo=UTC)), "run_at .* is out of range"),
        (NewJob("a", expires_in=0), "expires_in 0 is out of range"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(job: NewJob, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        check_job(job)


@pytest.mark.parametrize("bad", [{"x": "\udfff"}, {"x": nested(200)}, {"x": nested(5_000)}])
async def test_of_a_batch_the_job_whose_args_no_worker_could_read_is_named(
    database: Database, bad: Any
) -> None:
    with pytest.raises(JobError, match="args of 'bad'"):
        await put(database, NewJob("a", {"x": "\U0001f600 [["}), NewJob("bad", bad))


async def test_a_worker_reads_the_deepest_args_and_every_character(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    args = {"deep": nested(199), "text": "\U0001f600 \\ud800 [ [ {", "\x7f": 1}
    await put(database, NewJob("one", args))
    await put(database, NewJob("a", args), NewJob("b", args))

    jobs = await Claims(database.link("claims"), SystemClock()).claim(new_member(sql), [], 10)

    assert [job.args for job in jobs] == [args] * 3


async def test_args_count_by_the_bytes_that_are_stored_not_those_that_are_sent(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await put(database, NewJob("a", {"text": "ü" * 500_000}))

    assert count(sql) == 1
    with pytest.raises(JobError, match="take 1,200,012 bytes"):
        check_job(NewJob("a", {"text": "ü" * 600_000}))


def test_a_batch_that_is_too_large_for_one_statement_shall_be_split() -> None:
    jobs = [NewJob("a", {"text": "x" * 1_000_000})] * 34

    with pytest.raises(JobError, match=r"args of these 34 jobs take .*: split the batch"):
        check_jobs(jobs)
    assert len(check_jobs(jobs[1:])) < LONGEST_BATCH


async def test_jobs_of_a_batch_keep_each_its_own(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    retry = RetryPolicy(max_attempts=2)
    await put(
        database,
        NewJob("a", {"text": 'say "hi", \\ \n {ü}'}, queue="q", priority=-3, timeout=1.5),
        NewJob("b", {"n": [1, None]}, delay=60, max_attempts=4),
        NewJob("c", retry=retry),
    )

    rows = sql.execute(
        "SELECT type, args, queue, priority, timeout, run_at > now(), max_attempts, retry "
        "FROM pillars.jobs ORDER BY id"
    ).fetchall()
    assert rows == [
        ("a", {"text": 'say "hi", \\ \n {ü}'}, "q", -3, 1.5, False, None, None),
        ("b", {"n": [1, None]}, "default", 0, None, True, 4, None),
        ("c", {}, "default", 0, None, False, 2, retry.as_dict()),
    ]


async def test_only_the_args_of_one_job_are_limited_in_size(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await put(database, *(NewJob("a", {"text": "x" * 600_000}) for _ in range(2)))
    with pytest.raises(JobError, match="args of 'big' take"):
        await put(database, NewJob("a"), NewJob("big", {"text": "x" * 1_100_000}))

    assert count(sql) == 2


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": object()}, {"x": "\0"}, 7])
async def test_of_a_batch_the_job_whose_args_are_none_is_named(
    database: Database, bad: Any
) -> None:
    with pytest.raises(JobError, match="args of 'bad'"):
        await put(database, NewJob("a", {"text": "\\u0000"}), NewJob("bad", bad))


async def test_seconds_may_be_whole_or_not_in_one_batch(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await put(
        database,
        NewJob("a", delay=5, timeout=30, unique_key="a", unique_for=60, expires_in=3),
        NewJob("b", delay=0.5, timeout=2.5, unique_key="b", unique_for=0.5, expires_in=0.5),
    )

    rows = sql.execute("SELECT timeout FROM pillars.jobs ORDER BY id").fetchall()
    assert rows == [(30.0,), (2.5,)]


@pytest.mark.parametrize("number", [1e300, -1e-300])
async def test_args_are_measured_as_they_are_written_out(database: Database, number: float) -> None:
    with pytest.raises(JobError, match=r"take [0-9,]+ bytes, the limit is 1,048,576"):
        check_job(NewJob("a", {"n": [number] * 4_000}))

    await put(database, NewJob("a", {"n": [number] * 3_000}))


def test_what_looks_like_an_exponent_in_a_text_takes_no_room() -> None:
    check_job(NewJob("a", {"ids": ["9e-999"] * 20_000, '\\"': "\\"}))
