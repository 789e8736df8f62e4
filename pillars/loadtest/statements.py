"""The statements of this package, and a connection for those that take long."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from pillars.db.connection import connect
from pillars.db.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

    from pillars.ground.settings import Secret

SQL = load_statements("pillars.loadtest")
_SETTINGS: LiteralString = (
    "SET statement_timeout = '900s'; SET enable_seqscan = on; SET work_mem = '128MB'"
)
# Counting twenty million rows takes minutes, and nobody is in its way. Seconds: one more than the
# server's own limit.
PATIENCE = 901.0


@asynccontextmanager
async def patient(dsn: Secret) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection for statements that read whole tables; await each for PATIENCE seconds."""
    connection, _ = await connect(dsn, "pillars loadtest")
    try:
        await connection.execute(_SETTINGS)
        yield connection
    finally:
        await connection.close()
