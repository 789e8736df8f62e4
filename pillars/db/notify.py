"""LISTEN/NOTIFY as an accelerator only: everything must work when no notification ever arrives.

A notification means "look now"; its payload hints at what to look for, and is never trusted. Behind
a pooler in transaction mode LISTEN receives nothing: give the server's own address in
PILLARS_DIRECT_DATABASE_URL.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pillars.db.connection import CONNECT_TIMEOUT, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import AsyncConnection

    from pillars.ground.settings import Secret

RING_CHANNEL = "pillars_ring"
JOBS_CHANNEL = "pillars_jobs"
# The payload on JOBS_CHANNEL when a running job shall be stopped; without one, jobs may be claimed.
CANCEL = "cancel"
# A listening connection says nothing by itself; a look this often finds one that has died.
_CHECK_EVERY = 10.0


class Listener:
    """Listens on some channels over one connection and calls back on each notification."""

    def __init__(
        self,
        dsn: Secret,
        name: str,
        callbacks: Mapping[str, Callable[[str], None]],
        *,
        direct: bool,
    ) -> None:
        """Say where to listen and what to call.

        Args:
            dsn: the database, past any pooler.
            name: application name.
            callbacks: channel to function, which gets the payload; called in the event loop, must
                not block.
            direct: whether `dsn` surely leads past any pooler.
        """
        self._dsn = dsn
        self._name = name
        self._callbacks = callbacks
        self._direct = direct
        self._connection: AsyncConnection[Any] | None = None

    async def step(self) -> float:
        """Listen until the connection breaks or a while has passed; run by a Stepper."""
        connection = await self._listening()
        if connection is None:
            return 60.0
        try:
            async for notification in connection.notifies(timeout=_CHECK_EVERY):
                callback = self._callbacks.get(notification.channel)
                if callback is not None:
                    callback(notification.payload)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.execute("SELECT 1")
        except BaseException:
            await self.close()
            raise
        return 0.0

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _listening(self) -> AsyncConnection[Any] | None:
        if self._connection is None:
            connection, limits = await connect(self._dsn, self._name)
            if not limits and not self._direct:
                # A pooler stands between: LISTEN would reach nobody.
                await connection.close()
                return None
            for channel in self._callbacks:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self._connection = connection
            # What was announced while nobody listened is unknown: look once.
            for callback in self._callbacks.values():
                callback("")
        return self._connection
