from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg

from pillars.db.database import Database
from pillars.db.migrate import migrate, migrations
from pillars.ground.events import MigrationApplied
from tests.conftest import database_url

if TYPE_CHECKING:
    from pillars.ground.settings import Secret
    from tests.helpers import RecordingListener


async def test_ten_processes_that_start_at_once_apply_each_migration_once(
    postgres: Secret,
    events: RecordingListener,
) -> None:
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE bare")
    databases = [Database(database_url(postgres, "bare"), f"p{n}", events) for n in range(10)]

    await asyncio.gather(*(migrate(database, events) for database in databases))

    for database in databases:
        await database.close()
    assert [m.number for m in migrations()] == [e.number for e in events.of(MigrationApplied)]
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute("DROP DATABASE bare")


async def test_a_schema_that_is_up_to_date_is_left_alone(
    database: Database,
    events: RecordingListener,
) -> None:
    assert await migrate(database, events) == 0
    assert events.of(MigrationApplied) == []
