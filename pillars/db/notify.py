"""LISTEN/NOTIFY as an accelerator only: everything must work when no notification ever arrives.

A notification means "look now"; its payload hints at what to look for, and is never trusted. Behind
a pooler in transaction mode LISTEN receives nothing: give the server's own address in
PILLARS_DIRECT_DATABASE_URL.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pillars.db.connection import CONNECT_TIMEOUT, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import AsyncConnection

    from pillars.db.database import Database
    from pillars.ground.settings import Secret

RING_CHANNEL = "pillars_ring"
JOBS_CHANNEL = "pillars_jobs"
# The payload on JOBS_CHANNEL when a running job shall be stopped; without one, jobs may be claimed.
CANCEL = "cancel"
# A listening connection says nothing by itself; a look this often finds one that has died.
_CHECK_EVERY = 10.0
# Between two notifications; one that is owed waits a little longer for a statement to carry it.
_PAUSE, _PATIENCE = 0.005, 0.001


class Notices:
    """Sends notifications on one channel, at most one each few milliseconds.

    NOTIFY takes a lock on the whole database and holds it through the commit, so statements that
    each carry one wait for each other's disk: eight at a time are then slower than one. So a
    statement carries it only where none has been sent for a while; those that follow commit without
    and owe one. The next that carries it pays for all that were committed before it began; if none
    comes in time, one is sent alone.
    """

    def __init__(self, database: Database, channel: str) -> None:
        """Send over the database's pool."""
        self._database = database
        self._channel = channel
        self._sent_at = float("-inf")
        self._owed = self._paid = 0
        self._sending: asyncio.Task[None] | None = None

    def carry(self) -> int | None:
        """Return, for a statement that begins now and shall carry it, what it will have paid.

        None: it shall not carry it.
        """
        now = time.monotonic()
        if now - self._sent_at < _PAUSE:
            return None
        self._sent_at = now
        return self._owed

    def pay(self, owed: int) -> None:
        """Take what `carry` told for paid: the statement and its notification are committed."""
        self._paid = max(self._paid, owed)

    def owe(self) -> None:
        """Let one follow: a statement has been committed without."""
        self._owed += 1
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Send what is owed, now."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        if self._paid < self._owed:
            await self._notify()

    async def _send(self) -> None:
        while self._paid < self._owed:
            # A statement that began meanwhile carries one, and is given as long as the last had.
            wait = self._sent_at + _PAUSE + _PATIENCE - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self._notify()

    async def _notify(self) -> None:
        owed, self._sent_at = self._owed, time.monotonic()
        # Lost with the connection, it is made good by the polling of whoever listens.
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT), self._database.connection() as connection:
                await connection.execute("SELECT pg_notify(%s, '')", (self._channel,))
        self.pay(owed)


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
            self._connection = connection
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    for channel in self._callbacks:
                        listen = sql.SQL("LISTEN {}").format(sql.Identifier(channel))
                        await connection.execute(listen)
            except BaseException:
                await self.close()
                raise
            # What was announced while nobody listened is unknown: look once.
            for callback in self._callbacks.values():
                callback("")
        return self._connection
