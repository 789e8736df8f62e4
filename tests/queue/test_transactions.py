"""Jobs in the caller's own transaction: they exist if and when it commits.

The recipes of the README for SQLAlchemy and Django, each with a commit and a rollback.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import django
import django.conf
import psycopg
import pytest
from django.db import connection as django_connection
from django.db import connections, transaction
from django.db.utils import ConnectionHandler
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pillars import App, NewJob, enqueue_sync
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillars.ground.settings import Secret

ALCHEMY = "postgresql+psycopg://"
SPECIAL = [NewJob("a", unique_key="u"), NewJob("b", concurrency_key="c"), NewJob("c")]


def types(sql: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in sql.execute("SELECT type FROM pillars.jobs ORDER BY id")]


# ---- psycopg


@pytest.mark.parametrize("jobs", [[NewJob("a")], [NewJob("a"), NewJob("b")], SPECIAL])
def test_jobs_of_a_transaction_that_is_rolled_back_never_were(
    dsn: Secret, sql: psycopg.Connection[Any], jobs: list[NewJob]
) -> None:
    with closing(psycopg.connect(dsn.reveal())) as connection:
        enqueue_sync(connection, jobs)
        connection.rollback()

    assert types(sql) == []


@pytest.mark.parametrize("jobs", [[NewJob("a")], [NewJob("a"), NewJob("b")], SPECIAL])
async def test_jobs_of_an_awaited_transaction_that_is_rolled_back_never_were(
    dsn: Secret, sql: psycopg.Connection[Any], jobs: list[NewJob]
) -> None:
    connection = await psycopg.AsyncConnection.connect(dsn.reveal())
    await enqueue(connection, jobs)
    await connection.rollback()
    await connection.close()

    assert types(sql) == []


@pytest.mark.parametrize("jobs", [[NewJob("a")], [NewJob("a"), NewJob("b")], SPECIAL])
def test_jobs_of_a_transaction_exist_once_it_commits(
    dsn: Secret, sql: psycopg.Connection[Any], jobs: list[NewJob]
) -> None:
    with closing(psycopg.connect(dsn.reveal())) as connection:
        ids = enqueue_sync(connection, jobs)
        assert types(sql) == []
        connection.commit()

    assert types(sql) == [job.type for job in jobs]
    assert [row[0] for row in sql.execute("SELECT id FROM pillars.jobs ORDER BY id")] == ids


def test_without_a_transaction_jobs_are_there_at_once_all_or_none(
    sql: psycopg.Connection[Any],
) -> None:
    assert enqueue_sync(sql, []) == []
    (first,) = enqueue_sync(sql, [NewJob("a", unique_key="u")])
    ids = enqueue_sync(sql, [NewJob("b"), NewJob("c", unique_key="u"), NewJob("d", expires_in=9)])
    with pytest.raises(JobError, match="no good"):
        enqueue_sync(sql, [NewJob("e", unique_key="v"), NewJob("no good")])

    assert ids[1] == first
    assert types(sql) == ["a", "b", "d"]


def test_the_workers_are_woken_by_the_commit(dsn: Secret, sql: psycopg.Connection[Any]) -> None:
    sql.execute("LISTEN pillars_jobs")
    with closing(psycopg.connect(dsn.reveal())) as connection:
        enqueue_sync(connection, [NewJob("a"), NewJob("b")])
        assert list(sql.notifies(timeout=0)) == []
        connection.commit()

    assert len(list(sql.notifies(timeout=30, stop_after=1))) == 1


def test_an_app_puts_a_job_on_its_types_queue(sql: psycopg.Connection[Any]) -> None:
    app = App()
    app.job("mail", queue="post")(print)

    app.enqueue_sync(sql, [NewJob("mail"), NewJob("mail", queue="other")])

    rows = sql.execute("SELECT queue FROM pillars.jobs ORDER BY id").fetchall()
    assert rows == [("post",), ("other",)]


# ---- SQLAlchemy


def test_a_job_of_a_session_shares_its_fate(dsn: Secret, sql: psycopg.Connection[Any]) -> None:
    engine = create_engine(ALCHEMY, connect_args=conninfo_to_dict(dsn.reveal()))

    for kind, end in (("undone", Session.rollback), ("done", Session.commit)):
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            driver = session.connection().connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            enqueue_sync(driver, [NewJob(kind, unique_key="u"), NewJob(kind)])
            end(session)
    engine.dispose()

    assert types(sql) == ["done", "done"]


async def test_a_job_of_an_awaited_session_shares_its_fate(
    dsn: Secret, sql: psycopg.Connection[Any]
) -> None:
    app, engine = App(), create_async_engine(ALCHEMY, connect_args=conninfo_to_dict(dsn.reveal()))

    for kind, end in (("undone", AsyncSession.rollback), ("done", AsyncSession.commit)):
        async with AsyncSession(engine) as session:
            raw = await (await session.connection()).get_raw_connection()
            await app.enqueue(kind, unique_key="u", connection=raw.driver_connection)
            await end(session)
    await engine.dispose()

    assert types(sql) == ["done"]


# ---- Django


@pytest.fixture
def django_database(dsn: Secret) -> Iterator[None]:
    """Django's default connection leads to the test's database."""
    if not django.conf.settings.configured:
        django.conf.settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
        django.setup()
    given = conninfo_to_dict(dsn.reveal())
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given["dbname"],
        "USER": given.get("user", ""),
        "HOST": given["host"],
        "PORT": str(given.get("port", "")),
    }
    connections["default"] = ConnectionHandler({"default": database})["default"]
    yield
    connections["default"].close()
    del connections["default"]


def put_in_django(kind: str) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["of the application"])
    enqueue_sync(django_connection.connection, [NewJob(kind, {"n": 1}), NewJob(kind, expires_in=9)])


@pytest.mark.usefixtures("django_database")
def test_a_job_of_an_atomic_block_shares_its_fate(sql: psycopg.Connection[Any]) -> None:
    def think_again() -> None:
        with transaction.atomic():
            put_in_django("undone")
            raise ValueError("second thoughts")

    with pytest.raises(ValueError, match="second thoughts"):
        think_again()
    with transaction.atomic():
        put_in_django("done")
        assert types(sql) == []

    assert types(sql) == ["done", "done"]


@pytest.mark.usefixtures("django_database")
def test_a_job_of_a_savepoint_that_is_undone_never_was(sql: psycopg.Connection[Any]) -> None:
    with transaction.atomic():
        put_in_django("done")
        savepoint = transaction.savepoint()
        put_in_django("undone")
        transaction.savepoint_rollback(savepoint)

    assert types(sql) == ["done", "done"]


@pytest.mark.usefixtures("django_database")
def test_any_connection_can_call_the_function(sql: psycopg.Connection[Any]) -> None:
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute("SELECT pillars.enqueue(%s, %s::jsonb, queue => %s)", ["a", "{}", "mail"])

    assert types(sql) == ["a"]
