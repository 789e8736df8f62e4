"""What commands share: settings from flags and environment, and the database to talk to."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from pillars.ground.errors import PillarsError
from pillars.ground.events import nobody
from pillars.ground.settings import Settings, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pillars.db.database import Database
    from pillars.ground.settings import Secret

T = TypeVar("T")


class NoDatabaseError(PillarsError):
    """No database is known."""


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the settings; flags win over the environment.

    Raises:
        SettingsError: with every fault.
    """
    names = {field.name for field in fields(Settings)}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    if isinstance(given.get("queues"), str):
        given["queues"] = tuple(part for part in given["queues"].split(",") if part)
    return load_settings(os.environ, **given)


def dsn_from(settings: Settings) -> Secret:
    """Return the URL of the configured database, or of the embedded one that runs here.

    Raises:
        NoDatabaseError: neither is there.
    """
    if settings.database_url is not None:
        return settings.database_url
    from pillars.db.embedded import EmbeddedError, EmbeddedPostgres  # noqa: PLC0415 - rarely used

    try:
        return EmbeddedPostgres(settings.data_dir).dsn
    except EmbeddedError:
        raise NoDatabaseError(
            f"no database: PILLARS_DATABASE_URL is not set, and no `pillars up` "
            f"runs with its data in {settings.data_dir.absolute()}",
        ) from None


def with_database(
    arguments: argparse.Namespace,
    work: Callable[[Database], Awaitable[T]],
) -> T:
    """Run some work on the database and close it."""

    async def run() -> T:
        async with opened(settings_from(arguments)) as database:
            return await work(database)

    return asyncio.run(run())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Open the database for one command; it fails at once where it cannot be reached."""
    from pillars.db.connection import connect  # noqa: PLC0415 - psycopg takes 0.2 s to import
    from pillars.db.database import Database  # noqa: PLC0415

    dsn = dsn_from(settings)
    connection, limits = await connect(dsn, "pillars cli")
    await connection.close()
    database = Database(dsn, "pillars cli", nobody)
    database.limits = limits
    try:
        yield database
    finally:
        await database.close()
