from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psycopg.rows import dict_row

from pillars.queue import desk
from pillars.queue.desk import (
    LONGEST_IN_LIST,
    JobNotFoundError,
    JobStateError,
    QueueDepth,
    cancel_job,
    depths,
    list_jobs,
    retry_job,
    retry_jobs,
    show_job,
)
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import JobError, NewJob
from pillars.queue.states import JobState
from tests.helpers import put

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database


async def test_depths_count_each_queue_by_state(database: Database) -> None:
    await put(
        database,
        NewJob("a", queue="one"),
        NewJob("a", queue="one", delay=60),
        NewJob("a", queue="two"),
    )

    found = [
        (d.queue, d.available, d.running, d.failed, d.scheduled) for d in await depths(database)
    ]

    assert found == [("one", 1, 0, 0, 1), ("two", 1, 0, 0, 0)]


async def test_many_lanes_are_each_counted_to_less(
    database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "DEPTH_TOTAL", 300)
    sql.execute("SELECT pillars.enqueue('a', queue => 'q' || n % 2) FROM generate_series(1, 400) n")

    assert [(each.queue, each.available) for each in await depths(database)] == [
        ("q0", 150),
        ("q1", 150),
    ]


async def test_no_unfinished_jobs_means_no_depths(database: Database) -> None:
    assert await depths(database) == list[QueueDepth]()


async def test_jobs_are_listed_newest_first_and_page_by_page(database: Database) -> None:
    ids = await put(database, *(NewJob(f"t{n}") for n in range(5)))

    first = await list_jobs(database, limit=2)
    second = await list_jobs(database, limit=2, before=first[-1].id)

    assert [job.id for job in (*first, *second)] == ids[:0:-1]


async def test_a_list_has_no_long_args_and_results_the_job_itself_has(database: Database) -> None:
    short, long = {"text": "x"}, {"text": "x" * LONGEST_IN_LIST}
    (first,) = await put(database, NewJob("a", long))
    await put(database, NewJob("a", short))

    assert [job.args for job in await list_jobs(database)] == [short, None]
    assert [job.args for job in await list_jobs(database, longest=None)] == [short, long]
    assert (await show_job(database, first)).args == long


async def test_jobs_are_found_by_state_type_and_queue(database: Database) -> None:
    await put(database, NewJob("a", queue="q"), NewJob("b", queue="q"), NewJob("a"))

    found = await list_jobs(database, state=JobState.AVAILABLE, type="a", queue="q")

    assert [(job.type, job.queue) for job in found] == [("a", "q")]


async def test_a_job_that_waits_is_cancelled_and_can_be_retried(database: Database) -> None:
    (job_id,) = await put(database, NewJob("a"))

    await cancel_job(database, job_id, "changed my mind")
    assert (await show_job(database, job_id)).state == "cancelled"
    await retry_job(database, job_id)

    assert (await show_job(database, job_id)).state == "available"


async def test_a_retry_of_many_leaves_those_whose_unique_key_is_taken(database: Database) -> None:
    (first,) = await put(database, NewJob("a", unique_key="k"))
    await cancel_job(database, first, "x")
    await put(database, NewJob("a", unique_key="k"))
    (other,) = await put(database, NewJob("a"))
    await cancel_job(database, other, "x")

    assert await retry_jobs(database, state=JobState.CANCELLED, limit=10) == (1, 1)
    assert (await show_job(database, first)).state == "cancelled"
    assert (await show_job(database, other)).state == "available"


async def test_a_key_that_a_finished_job_had_for_a_time_that_is_over_stops_no_retry(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    (first,) = await put(database, NewJob("a", unique_key="k"))
    await cancel_job(database, first, "x")
    (second,) = await put(database, NewJob("a", unique_key="k", unique_for=3600))
    await cancel_job(database, second, "x")

    with pytest.raises(JobStateError, match="another job holds its unique key 'k'"):
        await retry_job(database, first)
    sql.execute(
        "UPDATE pillars.jobs SET unique_until = now() - interval '1 h' WHERE id = %s", (second,)
    )
    await retry_job(database, first)

    assert (await show_job(database, first)).state == "available"


async def test_what_cannot_be_done_says_why(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    (job_id,) = await put(database, NewJob("a"))
    sql.execute("UPDATE pillars.jobs SET state = 'succeeded', finished_at = now()")

    with pytest.raises(JobStateError, match=f"job {job_id} is succeeded: it cannot be cancelled"):
        await cancel_job(database, job_id, "")
    with pytest.raises(JobNotFoundError, match="there is no job 12345"):
        await retry_job(database, 12345)


async def test_a_job_enqueued_in_a_transaction_that_rolls_back_does_not_exist(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    class Undo(Exception):  # noqa: N818 - a signal, not an error
        pass

    async def enqueue_and_undo() -> None:
        async with database.transaction() as connection:
            await enqueue(connection, [NewJob("a")])
            raise Undo

    with pytest.raises(Undo):
        await enqueue_and_undo()

    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (0,)


async def test_a_connection_of_the_users_may_have_rows_of_any_shape(database: Database) -> None:
    async with database.connection() as connection:
        connection.row_factory = dict_row  # type: ignore[assignment] # as a user's would be
        ids = await enqueue(connection, [NewJob("a")])

    assert (await show_job(database, ids[0])).type == "a"


async def test_any_language_can_enqueue_by_sql(sql: psycopg.Connection[Any]) -> None:
    sql.execute("""SELECT pillars.enqueue('mail', '{"to": "a"}', priority => -5)""")

    assert sql.execute("SELECT type, args, priority, state FROM pillars.jobs").fetchall() == [
        ("mail", {"to": "a"}, -5, "available"),
    ]


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        (NewJob(""), "is not a name"),
        (NewJob("a b"), "is not a name"),
        (NewJob("a", queue="ü"), "is not a name"),
        (NewJob("a", priority=40_000), "priority 40000 is out of range"),
        (NewJob("a", {"x": object()}), "not a JSON object"),
        (NewJob("a", {"x": float("nan")}), "not a JSON object"),
        (NewJob("a", {"x": "y" * 1_100_000}), "store the data elsewhere"),
        (NewJob("a", {"x": "\0"}), "NUL"),
        (NewJob("a", delay=-1), "delay -1 is out of range"),
        (NewJob("a", max_attempts=0), "max_attempts 0 is out of range"),
        (NewJob("a", timeout=5e-324), "timeout 5e-324 is out of range"),
    ],
)
async def test_bad_jobs_are_refused_at_the_door(
    database: Database,
    sql: psycopg.Connection[Any],
    job: NewJob,
    fault: str,
) -> None:
    with pytest.raises(JobError, match=fault):
        await put(database, NewJob("good"), job)

    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (0,)


async def test_a_backslash_before_u0000_is_no_nul(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    await put(database, NewJob("a", {"x": "\\u0000"}))

    assert sql.execute("SELECT args ->> 'x' FROM pillars.jobs").fetchone() == ("\\u0000",)
