"""Behind a real PgBouncer in transaction mode, with and without its leave to ignore our options."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from pillars import App
from pillars.db.connection import connect, fetch
from pillars.db.database import Database
from pillars.db.notify import Listener
from pillars.db.statements import Statement
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import psycopg

    from tests.helpers import RecordingListener

PROGRAM = shutil.which("pgbouncer")
PORT = 6432

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not on PATH")


@pytest.fixture(params=["refused", "ignored"])
def pooled(request: pytest.FixtureRequest, dsn: Secret, tmp_path: Path) -> Iterator[Secret]:
    """The test's database through PgBouncer, to which our startup options are refused or ignored.

    In both cases the server never sees them.
    """
    parts = conninfo_to_dict(dsn.reveal())
    sockets, database = str(parts["host"]), str(parts["dbname"])
    ignored = "ignore_startup_parameters = options" if request.param == "ignored" else ""
    # PgBouncer will not run as root either; the owner of the sockets may use them.
    owner = pwd.getpwuid(Path(sockets).stat().st_uid)
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(
        f"""
[databases]
{database} = host={sockets} user=postgres
[pgbouncer]
unix_socket_dir = {sockets}
listen_port = {PORT}
auth_type = any
pool_mode = transaction
default_pool_size = 2
{f"user = {owner.pw_name}" if os.geteuid() == 0 else ""}
{ignored}
""",
    )
    with subprocess.Popen(
        [str(PROGRAM), str(configuration)],
        stderr=subprocess.PIPE,
        text=True,
    ) as pooler:
        assert pooler.stderr
        said = []
        for line in pooler.stderr:
            said.append(line)
            if "process up" in line:
                break
        assert "process up" in "".join(said[-1:]), said
        yield Secret(f"postgresql://postgres@/{database}?host={sockets}&port={PORT}")
        pooler.terminate()


@pytest.fixture
async def behind(pooled: Secret, events: RecordingListener) -> AsyncIterator[Database]:
    database = Database(pooled, "test", events)
    yield database
    await database.close()


def statement(sql: Any) -> Statement:
    return Statement("test", sql, "A test's.", None)


async def test_it_is_known_that_our_limits_are_not_in_force(pooled: Secret) -> None:
    connection, limits = await connect(pooled, "test")

    async with connection:
        assert await fetch(connection, statement("SHOW statement_timeout")) == [("0",)]
    assert not limits


async def test_a_transaction_has_the_limits_all_the_same(behind: Database) -> None:
    await behind.wait_until_reachable()
    link = behind.link("loop")

    async with link.transaction() as connection:
        by_link = await fetch(connection, statement("SHOW statement_timeout"))
    async with behind.transaction() as connection:
        by_pool = await fetch(connection, statement("SHOW statement_timeout"))

    assert (by_link, by_pool) == ([("10s",)], [("10s",)])


async def test_statements_used_often_work_over_connections_that_change_hands(
    behind: Database,
) -> None:
    await behind.wait_until_reachable()
    one, two = behind.link("one"), behind.link("two")
    echo = statement("SELECT %(n)s::int")

    for n in range(10):
        for way in (one, two, behind):
            assert await way.fetch(echo, {"n": n}) == [(n,)]


async def test_a_listener_knows_that_nothing_would_reach_it(
    pooled: Secret,
    sql: psycopg.Connection[Any],
) -> None:
    called: list[None] = []
    listener = Listener(pooled, "ear", {"jobs": called.append}, direct=False)

    assert await listener.step() == 60.0
    assert called == []
    assert sql.execute("SELECT count(*) FROM pg_listening_channels()").fetchall() == [(0,)]


async def test_an_app_of_ones_own_enqueues_through_it_without_more_ado(
    pooled: Secret, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", pooled.reveal())
    app = App()

    # As often as makes a statement a prepared one, over several connections at once.
    for _ in range(10):
        await asyncio.gather(*(app.enqueue("noop") for _ in range(4)))
    await app.close()

    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchall() == [(40,)]
