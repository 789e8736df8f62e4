"""Fixtures: one embedded PostgreSQL for the whole run, a template database cloned for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo

from pillars.db.database import Database
from pillars.db.embedded import EmbeddedPostgres
from pillars.db.migrate import migrate
from pillars.ground.settings import Secret
from tests.helpers import RecordingListener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEMPLATE = "pillars_template"
# A test's data is worth nothing: no test waits for a disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}

# A machine that stands still for a moment makes no example too slow. On CI, where hypothesis says
# so itself, the examples are always the same.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


def pytest_configure() -> None:
    """Let the processes that tests start hear what a background job, or one of nohup, ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # It ends those of tests, as a handler is not handed down, and not the tests.
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Secret]:
    """The URL of a server with the migrated template database: embedded, or TEST_SERVER_URL's."""
    if given := os.environ.get("TEST_SERVER_URL"):
        dsn = Secret(given)
        _make_template(dsn)
        yield dsn
        return
    # Not below pytest's own directory: each new run of pytest closes that one to other users, and
    # under root the server of a run that is under way is another user's.
    with tempfile.TemporaryDirectory(prefix="pillars-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory), FAST)
        dsn = server.start()
        try:
            _make_template(dsn)
            yield dsn
        finally:
            server.stop("immediate")


@pytest.fixture
def dsn(postgres: Secret) -> Iterator[Secret]:
    """The URL of a fresh database of the test's own, migrated."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        yield database_url(postgres, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def events() -> RecordingListener:
    """Records what is emitted; `await events.until(JobFinished, count=3)`."""
    return RecordingListener()


@pytest.fixture
async def database(dsn: Secret, events: RecordingListener) -> AsyncIterator[Database]:
    """The test's database, open."""
    database = Database(dsn, "test", events)
    yield database
    await database.close()


@pytest.fixture
def sql(dsn: Secret) -> Iterator[psycopg.Connection[Any]]:
    """A plain autocommit connection, for arranging and looking."""
    with psycopg.connect(dsn.reveal(), autocommit=True) as connection:
        yield connection


def database_url(server: Secret, name: str) -> Secret:
    """The same server's URL for another database."""
    return Secret(make_conninfo(server.reveal(), dbname=name))


_numbers = itertools.count(1)


def _make_template(server: Secret) -> None:
    with psycopg.connect(server.reveal(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        admin.execute(f"CREATE DATABASE {TEMPLATE}")
    asyncio.run(_migrate(database_url(server, TEMPLATE)))


async def _migrate(dsn: Secret) -> None:
    database = Database(dsn, "template", lambda _: None)
    await migrate(database, lambda _: None)
    await database.close()
