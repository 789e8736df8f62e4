"""Databases that live as long as a measurement: nothing of anybody's is in them."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString
from uuid import uuid4

from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

from pillars.db.connection import connect
from pillars.db.embedded import EmbeddedPostgres
from pillars.ground.errors import PillarsError
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# Creating and dropping copy or delete files, on disks that may be busy.
_PATIENCE: LiteralString = "SET statement_timeout = '120s'"


class ScratchRefusedError(PillarsError):
    """This user may not create databases."""


@contextmanager
def temporary_postgres(prefix: str) -> Iterator[Secret]:
    """Run a PostgreSQL with the settings of `pillars up`; it and its directory go away afterwards.

    Raises:
        EmbeddedError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            yield server.start()
        finally:
            server.stop("immediate")


@asynccontextmanager
async def scratch_database(server: Secret, prefix: str) -> AsyncIterator[Secret]:
    """Create an empty database beside the one that is named; it is dropped afterwards.

    Raises:
        ScratchRefusedError: this user may not create databases.
    """
    name = f"{prefix}_{uuid4().hex[:12]}"
    try:
        await _administer(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except InsufficientPrivilege:
        raise ScratchRefusedError from None
    try:
        yield Secret(make_conninfo(server.reveal(), dbname=name))
    finally:
        statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        await _administer(server, statement)


async def _administer(server: Secret, statement: sql.Composed) -> None:
    connection, _ = await connect(server, "pillars scratch")
    try:
        await connection.execute(_PATIENCE)
        await connection.execute(statement)
    finally:
        await connection.close()
