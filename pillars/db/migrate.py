"""Numbered `.sql` migrations, each in its own transaction under one lock.

Any number of processes may start at once: the lock is a transaction-level advisory lock, so it
works behind a pooler and dies with its holder. A process that finds nothing to do takes no lock
and needs no right to create anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, LiteralString

from pillars.ground.events import MigrationApplied

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from pillars.db.database import Database
    from pillars.ground.events import Emit

# "pillars" as a number: any constant will do that no other application uses.
_LOCK = 0x70696C6C617273
# A migration may rewrite a table, and others wait for it.
_PATIENCE = "SET LOCAL statement_timeout = '120s'; SET LOCAL lock_timeout = '120s'"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: LiteralString


def migrations() -> list[Migration]:
    """Return all migrations in order."""
    found = []
    for file in files("pillars.db").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(database: Database, emit: Emit) -> int:
    """Bring the schema up to date; return the number of migrations applied.

    A schema made by a newer Pillars is left alone: migrations keep older processes working.
    """
    applied = 0
    link = database.link("migrate")
    try:
        for migration in migrations():
            async with link.transaction() as connection:
                if await _version(connection) >= migration.number:
                    continue
                await connection.execute(_PATIENCE)
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                # Another process may have done it while this one waited for the lock.
                if await _version(connection) >= migration.number:
                    continue
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO pillars.migrations (number, name) VALUES (%s, %s)",
                    (migration.number, migration.name),
                )
            applied += 1
            emit(MigrationApplied(migration.number, migration.name))
    finally:
        await link.close()
    return applied


async def _version(connection: AsyncConnection[Any]) -> int:
    # Not to_regclass: its cached "no such schema" can outlive the wait for the lock.
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables "
        "WHERE schemaname = 'pillars' AND tablename = 'migrations')",
    )
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return 0
    cursor = await connection.execute("SELECT coalesce(max(number), 0) FROM pillars.migrations")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
