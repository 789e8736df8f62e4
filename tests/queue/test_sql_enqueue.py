"""The SQL function that other languages call: it takes what Python takes, and refuses the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from pillars.db.notify import JOBS_CHANNEL
from pillars.queue.desk import list_jobs
from pillars.queue.jobs import LONGEST_ARGS, JobError, NewJob, check_job
from pillars.queue.retry import Backoff, RetryPolicy
from tests.helpers import notifications, put

if TYPE_CHECKING:
    from pillars.db.database import Database
    from pillars.ground.settings import Secret

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
ALL = NewJob(
    "a",
    {"n": 1},
    queue="q",
    priority=5,
    run_at=datetime(2100, 1, 1, tzinfo=UTC),
    max_attempts=3,
    timeout=2.5,
    retry=RetryPolicy(max_attempts=7, backoff=Backoff.LINEAR, base=0.5, max=60.0),
    unique_key="u",
    unique_for=60,
    concurrency_key="c",
    concurrency_limit=4,
    expires_in=10,
    trace=TRACE,
)
KEPT = (
    "SELECT type, args, queue, priority, run_at, max_attempts, timeout, retry, slot, unique_key, "
    "unique_until - created_at, concurrency_key, concurrency_limit, expires_at - run_at, trace "
    "FROM pillars.jobs ORDER BY id"
)


def call(sql: psycopg.Connection[Any], job: NewJob) -> int:
    """Enqueue by the SQL function."""
    given: dict[str, object] = {
        "type": job.type,
        "args": Jsonb(job.args),
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "max_attempts": job.max_attempts,
        "timeout": job.timeout,
        "unique_key": job.unique_key,
        "unique_for": _interval(job.unique_for),
        "concurrency_key": job.concurrency_key,
        "concurrency_limit": job.concurrency_limit,
        "expires_in": _interval(job.expires_in),
        "retry": job.retry and Jsonb(job.retry.as_dict()),
        "trace": job.trace,
    }
    row = sql.execute(
        "SELECT pillars.enqueue(%(type)s, %(args)s, %(queue)s, %(priority)s, %(run_at)s, "
        "%(max_attempts)s, %(timeout)s, %(unique_key)s, %(unique_for)s, %(concurrency_key)s, "
        "%(concurrency_limit)s, %(expires_in)s, %(retry)s, %(trace)s)",
        given,
    ).fetchone()
    assert row is not None
    return int(row[0])


def nested(depth: int) -> object:
    """Objects and lists in each other, so many in all."""
    value: object = {}
    for number in range(depth - 1):
        value = [value] if number % 2 else {"a": value}
    return value


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


@pytest.mark.parametrize("job", [NewJob("a"), NewJob("b", retry=RetryPolicy(2)), ALL])
async def test_the_sql_function_makes_the_row_that_python_makes(
    database: Database, sql: psycopg.Connection[Any], job: NewJob
) -> None:
    await put(database, job)
    by_python = sql.execute(KEPT).fetchall()
    sql.execute("TRUNCATE pillars.jobs")

    call(sql, job)

    by_sql = sql.execute(KEPT).fetchall()
    if job is not ALL:  # their slots are chance, their time is now
        by_python, by_sql = (
            [row[:4] + row[5:8] + row[9:] for row in each] for each in (by_python, by_sql)
        )
    assert by_sql == by_python


@pytest.mark.parametrize(
    "job",
    [
        NewJob(""),
        NewJob("no spaces"),
        NewJob("a" * 129),
        NewJob("a", queue="no/slash"),
        NewJob("a", [1]),  # type: ignore[arg-type]
        NewJob("a", {"text": "x" * LONGEST_ARGS}),
        NewJob("a", {"text": "ü" * (LONGEST_ARGS // 2)}),
        NewJob("a", {"n": [1] * 350_000}),
        NewJob("a", {"a": nested(200)}),
        NewJob("a", run_at=datetime(1969, 12, 31, tzinfo=UTC)),
        NewJob("a", run_at=datetime(9000, 1, 1, tzinfo=UTC)),
        NewJob("a", priority=32_768),
        NewJob("a", max_attempts=0),
        NewJob("a", timeout=0.0),
        NewJob("a", timeout=3_000_000.0),
        NewJob("a", unique_key=""),
        NewJob("a", unique_key="k" * 257),
        NewJob("a", unique_for=5),
        NewJob("a", unique_key="k", unique_for=0),
        NewJob("a", concurrency_key=""),
        NewJob("a", concurrency_key="schedule:x"),
        NewJob("a", concurrency_limit=5),
        NewJob("a", concurrency_key="k", concurrency_limit=0),
        NewJob("a", concurrency_key="k", concurrency_limit=1_001),
        NewJob("a", expires_in=-1),
        NewJob("a", expires_in=4e9),
        NewJob("a", trace="00-1-2-3"),
        NewJob("a", trace=f"00-{'0' * 32}-{'b' * 16}-01"),
        NewJob("a", retry=RetryPolicy(max_attempts=0)),
        NewJob("a", retry=RetryPolicy(base=-1)),
        NewJob("a", retry=RetryPolicy(max=1e12)),
        NewJob("a", retry=RetryPolicy(backoff="fibonacci")),  # type: ignore[arg-type]
    ],
    ids=lambda job: str(job)[:60],
)
def test_both_doors_refuse_it_and_name_the_same_field(
    sql: psycopg.Connection[Any], job: NewJob
) -> None:
    with pytest.raises(JobError) as by_python:
        check_job(job)
    assert len(str(by_python.value)) < 300
    with pytest.raises(errors.InvalidParameterValue) as by_sql:
        call(sql, job)

    assert str(by_sql.value).split()[0] == str(by_python.value).split()[0]
    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (0,)


@pytest.mark.parametrize(
    "retry", ["[]", "null", '{"tries": 3}', '{"base": "10s"}', '{"max_attempts": 2.5}']
)
def test_what_is_no_retry_policy_is_refused(sql: psycopg.Connection[Any], retry: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="retry is no policy: give"):
        sql.execute("SELECT pillars.enqueue('a', retry => %s::jsonb)", [retry])


@pytest.mark.parametrize(
    "args",
    [
        {"text": "ü" * 500_000},
        {"n": [1] * 349_000},
        {"n": 10**4299},
        {"a": nested(199)},
        {"text": "[" * 5_000},
    ],
    ids=lambda args: str(args)[:20],
)
async def test_both_doors_let_in_what_is_just_within_the_limits(
    database: Database, sql: psycopg.Connection[Any], args: dict[str, Any]
) -> None:
    await put(database, NewJob("a", args))
    call(sql, NewJob("a", args))

    rows = sql.execute("SELECT args FROM pillars.jobs").fetchall()
    assert rows == [(args,), (args,)]


@pytest.mark.parametrize("instant", ["0044-03-15 BC", "20000-01-01", "infinity", "-infinity"])
async def test_an_instant_that_no_worker_could_read_is_refused(
    database: Database, sql: psycopg.Connection[Any], instant: str
) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=r"run_at .* is out of range: from"):
        sql.execute("SELECT pillars.enqueue('a', '{\"p\": \"s3cret\"}', run_at => %s)", [instant])
    sql.execute("SELECT pillars.enqueue('a', run_at => '8999-12-31', expires_in => '100 years')")

    assert [job.run_at.year for job in await list_jobs(database)] == [8999]


@pytest.mark.parametrize("number", ["1e5000", "-1e4300", "[[1e4300]]"])
def test_a_number_of_more_digits_than_python_reads_is_refused(
    sql: psycopg.Connection[Any], number: str
) -> None:
    with pytest.raises(JobError, match="args of 'a' are not a JSON object: Exceeds the limit"):
        check_job(NewJob("a", {"n": 10**4300}))
    with pytest.raises(errors.InvalidParameterValue, match="args of a hold a number of more than"):
        sql.execute("SELECT pillars.enqueue('a', %s)", [f'{{"n": {number}}}'])


def test_a_number_of_attempts_may_be_written_with_a_fraction_of_nought(
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute("""SELECT pillars.enqueue('a', retry => '{"max_attempts": 3.0}')""")

    assert sql.execute("SELECT max_attempts FROM pillars.jobs").fetchone() == (3,)


def test_what_is_null_is_not_given(sql: psycopg.Connection[Any]) -> None:
    sql.execute("SELECT pillars.enqueue('a', NULL, NULL, NULL)")

    row = sql.execute("SELECT args, queue, priority FROM pillars.jobs").fetchone()
    assert row == ({}, "default", 0)


def test_the_id_is_that_of_the_job_that_holds_the_key(sql: psycopg.Connection[Any]) -> None:
    job = NewJob("a", unique_key="k", unique_for=3600)

    assert call(sql, job) == call(sql, job)
    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (1,)


def test_a_key_whose_time_is_over_is_free(sql: psycopg.Connection[Any]) -> None:
    job = NewJob("a", unique_key="k", unique_for=3600)
    first = call(sql, job)
    sql.execute(
        "UPDATE pillars.jobs SET state = 'cancelled', finished_at = now(), "
        "unique_until = now() - interval '1 s'"
    )

    assert call(sql, job) != first


def test_the_workers_are_woken_if_there_is_something_new_to_do(
    sql: psycopg.Connection[Any], dsn: Secret
) -> None:
    with notifications(dsn, JOBS_CHANNEL) as heard:
        sql.execute("SELECT pillars.enqueue('a', unique_key => 'k')")
        assert heard() == [""]

        sql.execute("SELECT pillars.enqueue('a', unique_key => 'k')")
        sql.execute("SELECT pillars.enqueue('a', run_at => now() + interval '1 h')")
        assert heard() == []
