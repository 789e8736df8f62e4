from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

import pillars.db.database
from pillars.db.connection import (
    CONNECT_TIMEOUT,
    DatabaseUnusableError,
    connect,
    connect_patience,
    conninfo,
    describe_dsn,
    fetch,
)
from pillars.db.database import Database
from pillars.db.statements import Statement
from pillars.ground.events import DatabaseReached, DatabaseUnreachable, StatementRun
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from pillars.db.database import Link
    from tests.helpers import RecordingListener

URL = Secret("postgresql://ann:hunter2@db.example:6543/app?options=-c%20work_mem%3D8MB")
BROKEN = Secret("postgresql://ann:hunter2@[db/app")
NOWHERE = Secret("postgresql://ann:hunter2@/app?host=/nonexistent")


def statement(sql: Any) -> Statement:
    return Statement("test", sql, "A test's.", None)


async def backend(link: Link) -> int:
    ((pid,),) = await link.fetch(statement("SELECT pg_backend_pid()"))
    return int(pid)


def test_options_of_the_users_own_are_kept_beside_ours() -> None:
    options = conninfo_to_dict(conninfo(URL, "cron"))["options"]

    assert "-c statement_timeout=10000" in str(options)
    assert str(options).endswith("-c work_mem=8MB")


def test_without_limits_only_the_users_options_travel() -> None:
    assert conninfo_to_dict(conninfo(URL, "cron", limits=False))["options"] == "-c work_mem=8MB"


def test_what_the_url_sets_wins() -> None:
    url = Secret("postgresql://db/app?connect_timeout=30&application_name=mine&keepalives=0")

    parts = conninfo_to_dict(conninfo(url, "cron"))

    assert (parts["connect_timeout"], parts["application_name"], parts["keepalives"]) == (
        "30",
        "mine",
        "0",
    )


@pytest.mark.parametrize(
    ("url", "described"),
    [
        (URL, "app at db.example:6543"),
        (Secret("postgresql://ann:hunter2@db/app"), "app at db:5432"),
        (Secret("dbname=app password=hunter2"), "app at localhost:5432"),
        (BROKEN, "(unreadable URL)"),
    ],
)
def test_a_url_is_described_without_user_and_password(url: Secret, described: str) -> None:
    assert describe_dsn(url) == described


def test_a_url_that_cannot_be_parsed_gives_advice_and_shows_nothing() -> None:
    with pytest.raises(DatabaseUnusableError) as caught:
        conninfo(BROKEN, "cron")

    assert "write postgresql://user:password@host:5432/database" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__


async def test_an_unreachable_database_is_told_without_a_password() -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        await connect(NOWHERE, "cron")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("client_connection_check_interval", "500ms"),
        ("TimeZone", "UTC"),
        ("jit", "off"),
        ("enable_seqscan", "off"),
        ("application_name", "cron"),
    ],
)
async def test_the_servers_limits_are_in_force(dsn: Secret, setting: str, value: str) -> None:
    connection, limits = await connect(dsn, "cron")

    async with connection:
        answer = await fetch(connection, statement(f"SHOW {setting}"))

    assert limits
    assert answer == [(value,)]


async def test_they_are_in_force_on_pooled_connections_too(database: Database) -> None:
    assert await database.fetch(statement("SHOW statement_timeout")) == [("10s",)]


async def test_where_the_server_did_not_take_them_a_transaction_sets_them(
    database: Database,
) -> None:
    link = database.link("test")
    # As if a pooler had refused them: the session has others, and the database knows.
    await link.fetch(statement("SET statement_timeout = '99s'"))
    database.limits = False

    async with link.transaction() as connection:
        inside = await fetch(connection, statement("SHOW statement_timeout"))
    outside = await link.fetch(statement("SHOW statement_timeout"))

    assert (inside, outside) == ([("10s",)], [("99s",)])


async def test_a_statement_beyond_the_clients_own_limit_is_cancelled(
    dsn: Secret,
    sql: psycopg.Connection[Any],
) -> None:
    connection, _ = await connect(dsn, "patient")

    async with connection:
        with pytest.raises(TimeoutError):
            await fetch(connection, statement("SELECT pg_sleep(60)"), timeout=0.01)

    running = sql.execute(
        "SELECT query FROM pg_stat_activity "
        "WHERE application_name = 'patient' AND state = 'active'",
    )
    assert running.fetchall() == []


async def test_a_statement_without_rows_gives_none(dsn: Secret) -> None:
    connection, _ = await connect(dsn, "cron")

    async with connection:
        assert await fetch(connection, statement("SET work_mem = '1MB'")) == ()


async def test_a_link_whose_server_went_away_while_it_lay_idle_makes_a_new_connection(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    link = database.link("test")
    old = await backend(link)
    sql.execute("SELECT pg_terminate_backend(%s, 5000)", (old,))

    assert await backend(link) != old


async def test_a_link_keeps_its_connection_while_all_is_well(database: Database) -> None:
    link = database.link("test")

    assert await backend(link) == await backend(link)


async def test_a_failed_statement_costs_a_link_its_connection(database: Database) -> None:
    link = database.link("test")
    old = await backend(link)

    with pytest.raises(psycopg.errors.DivisionByZero):
        await link.fetch(statement("SELECT 1 / 0"))

    assert await backend(link) != old


async def test_a_transaction_is_undone_when_its_block_raises(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    link = database.link("test")

    async def think_again() -> None:
        async with link.transaction() as connection:
            await connection.execute("CREATE TABLE made ()")
            raise ValueError("second thoughts")

    with pytest.raises(ValueError, match="second thoughts"):
        await think_again()

    assert sql.execute("SELECT to_regclass('made')").fetchall() == [(None,)]


async def test_the_pool_replaces_a_connection_that_died_while_it_lay_there(
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    ((old,),) = await database.fetch(statement("SELECT pg_backend_pid()"))
    sql.execute("SELECT pg_terminate_backend(%s, 5000)", (old,))

    ((new,),) = await database.fetch(statement("SELECT pg_backend_pid()"))

    assert new != old


async def test_who_waits_for_the_pool_is_served_though_it_had_given_up_connecting(
    database: Database, postgres: Secret, sql: psycopg.Connection[Any]
) -> None:
    gave_up = asyncio.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "reconnection attempt" in record.getMessage():
                gave_up.set()

    pool = logging.getLogger("psycopg.pool")
    pool.addHandler(ear := Ear())
    # There is a pool only once the database was reached.
    assert await database.fetch(statement("SELECT 1")) == [(1,)]
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {sql.info.dbname} ALLOW_CONNECTIONS false")
        admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = %s",
            (database.name, sql.info.dbname),
        )
        waiting = asyncio.create_task(database.fetch(statement("SELECT 1")))
        await gave_up.wait()
        admin.execute(f"ALTER DATABASE {sql.info.dbname} ALLOW_CONNECTIONS true")
    pool.removeHandler(ear)

    assert await waiting == [(1,)]


async def test_a_pooled_connection_to_a_server_that_may_only_be_read_is_not_kept(
    database: Database,
) -> None:
    async with database.connection() as connection:
        old = connection.info.backend_pid
        # As on a primary that has become a standby.
        await connection.execute("SET default_transaction_read_only = on")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await database.fetch(statement("CREATE TABLE made ()"))

    async with database.connection() as connection:
        assert connection.info.backend_pid != old


async def test_of_several_hosts_one_that_lives_is_found(dsn: Secret) -> None:
    parts = conninfo_to_dict(dsn.reveal())
    host, name = f"/nonexistent,{parts['host']}", parts["dbname"]
    url = Secret(f"postgresql://postgres@/{name}?host={host}&target_session_attrs=read-write")

    connection, _ = await connect(url, "cron")

    async with connection:
        assert await fetch(connection, statement("SHOW transaction_read_only")) == [("off",)]


def test_each_of_several_hosts_has_its_own_time_to_answer() -> None:
    one, three = (f"host={hosts}" for hosts in ("a", "a,b,c"))

    assert connect_patience(three) - connect_patience(one) == 2 * CONNECT_TIMEOUT


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were asked whether they live."""
    asked: list[Any] = []

    async def check(connection: Any) -> None:
        asked.append(connection)

    monkeypatch.setattr(AsyncConnectionPool, "check_connection", check)
    return asked


async def test_a_connection_that_was_just_used_is_used_again_unasked(
    database: Database,
    checks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pillars.db.database, "_TRUSTED_FOR", 3600.0)
    await database.fetch(statement("SELECT 1"))
    checks.clear()

    await database.fetch(statement("SELECT 1"))

    assert checks == []


async def test_a_connection_that_lay_idle_for_a_while_is_asked_whether_it_lives(
    database: Database,
    checks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pillars.db.database, "_TRUSTED_FOR", -1.0)
    await database.fetch(statement("SELECT 1"))
    checks.clear()

    await database.fetch(statement("SELECT 1"))

    assert len(checks) == 1


async def test_a_transaction_that_was_left_open_is_undone_before_the_next_use(
    database: Database,
) -> None:
    async with database.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE made ()")

    rows = await database.fetch(statement("SELECT to_regclass('made')::text"))

    assert rows == [(None,)]


async def test_waiting_for_a_database_tells_each_attempt_and_the_arrival(
    dsn: Secret,
    events: RecordingListener,
) -> None:
    def listen(event: Any) -> None:
        events(event)
        database.dsn = dsn

    database = Database(NOWHERE, "cron", listen)

    await database.wait_until_reachable()

    (failed,) = events.of(DatabaseUnreachable)
    assert (failed.database, failed.attempts) == ("app at /nonexistent:5432", 1)
    assert "hunter2" not in str(dataclasses.asdict(failed))
    assert [event.attempts for event in events.of(DatabaseReached)] == [1]


async def test_waiting_for_a_url_that_will_never_do_ends_at_once(
    events: RecordingListener,
) -> None:
    with pytest.raises(DatabaseUnusableError):
        await Database(BROKEN, "cron", events).wait_until_reachable()

    assert events.events == []


async def test_each_statement_that_was_answered_is_told_of_by_name(
    database: Database,
    events: RecordingListener,
) -> None:
    link = database.link("test")

    await database.fetch(statement("SELECT 1"))
    await link.fetch(statement("SELECT 1"))
    with pytest.raises(psycopg.errors.SyntaxError):
        await link.fetch(statement("SELEKT 1"))

    assert [event.name for event in events.of(StatementRun)] == ["test", "test"]
