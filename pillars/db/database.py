"""A database as the pillars see it: links for loops, a pool for requests.

A loop that decides who lives and what fires must not wait for a pool that others have emptied, so
each has a `Link`: a connection of its own, made when first needed and made anew after any failure.
Trying again is the loop's business (`Stepper` pauses with jitter), for ever.
"""

from __future__ import annotations

import asyncio
import random
import select
import time
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pillars.db.connection import (
    CONNECT_TIMEOUT,
    NO_SETTINGS,
    STATEMENT_TIMEOUT,
    connect,
    conninfo,
    describe_dsn,
    fetch,
    transaction,
)
from pillars.db.notify import JOBS_CHANNEL, Notices
from pillars.ground.events import DatabaseReached, DatabaseUnreachable, StatementRun
from pillars.ground.loop import describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pillars.db.statements import Statement
    from pillars.ground.events import Emit
    from pillars.ground.settings import Secret

POOL_SIZE = 4
LONGEST_RETRY = 2.0
# A connection that was used within so many seconds, and on which nothing arrived since, is alive.
_TRUSTED_FOR = 1.0
# Seconds, longer than the pool tries to connect.
_ASK_AGAIN_AFTER = 2.0
# What a pooler older than PgBouncer 1.21 answers when a prepared statement lives elsewhere.
_PREPARED_LOST = (
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.InvalidSqlStatementName,
)


class _Pooled(AsyncConnection[Any]):
    """A connection that knows when it was last given back."""

    used_at = float("-inf")


class Database:
    """One PostgreSQL database and the ways to reach it."""

    def __init__(self, dsn: Secret, name: str, emit: Emit) -> None:
        """Remember the URL; nothing is opened yet.

        Args:
            dsn: the connection URL.
            name: application name shown in pg_stat_activity.
            emit: receives DatabaseUnreachable, DatabaseReached and StatementRun.
        """
        self.dsn = dsn
        self.name = name
        self.job_notices = Notices(self, JOBS_CHANNEL)
        self._emit = emit
        # None until a connection was made: who is in between shows only then.
        self._limits: bool | None = None
        self._prepare: int | None = 5
        self._opening = asyncio.Lock()
        self._pool: AsyncConnectionPool[_Pooled] | None = None
        self._links: list[Link] = []

    @property
    def limits(self) -> bool:
        """Whether the server took our time limits, as far as is known."""
        return self._limits is not False

    @limits.setter
    def limits(self, taken: bool) -> None:
        self._limits = taken

    async def wait_until_reachable(self) -> None:
        """Return once a connection could be made; tries for ever with a jittered pause.

        Raises:
            DatabaseUnusableError: the database answers but will not do.
        """
        attempts = 0
        while True:
            try:
                connection, self.limits = await connect(self.dsn, self.name)
            except (psycopg.OperationalError, TimeoutError) as error:
                attempts += 1
                pause = min(LONGEST_RETRY, 0.1 * 2 ** min(attempts, 10))
                pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
                self._emit(
                    DatabaseUnreachable(describe_dsn(self.dsn), describe(error), attempts, pause),
                )
                await asyncio.sleep(pause)
            else:
                await connection.close()
                break
        if attempts:
            self._emit(DatabaseReached(describe_dsn(self.dsn), attempts))

    def link(self, purpose: str, settings: Mapping[str, str] = NO_SETTINGS) -> Link:
        """Return a new self-healing connection for one loop; `settings` are of the server."""
        link = Link(self, f"{self.name} {purpose}", settings)
        self._links.append(link)
        return link

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Borrow an autocommit connection from the pool, for at most STATEMENT_TIMEOUT's wait.

        Raises:
            psycopg_pool.PoolTimeout: none became free or the database cannot be reached.
        """
        return _Borrowed(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Borrow a connection and open a transaction on it; commits unless the block raises."""
        async with (
            self.connection() as connection,
            transaction(connection, limits=self.limits),
        ):
            yield connection

    async def fetch(
        self,
        statement: Statement,
        params: Mapping[str, Any] | None = None,
    ) -> Sequence[tuple[Any, ...]]:
        """Run one statement on a pooled connection and return its rows."""
        async with self.connection() as connection:
            return await self.fetch_on(connection, statement, params)

    async def fetch_on(
        self,
        connection: AsyncConnection[Any],
        statement: Statement,
        params: Mapping[str, Any] | None,
    ) -> Sequence[tuple[Any, ...]]:
        """Run one statement on this connection, and tell how long the answer took."""
        began = time.monotonic()
        rows = await fetch(connection, statement, params)
        self._emit(StatementRun(statement.name, time.monotonic() - began))
        return rows

    async def close(self) -> None:
        """Close the pool and all links; a notification that is owed is sent before."""
        await self.job_notices.close()
        for link in self._links:
            await link.close()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def open_for(
        self, application_name: str, settings: Mapping[str, str]
    ) -> AsyncConnection[Any]:
        """Open a connection for a link, with the prepared-statement switch this server needs."""
        connection, self.limits = await connect(self.dsn, application_name, settings)
        connection.prepare_threshold = self.threshold
        return connection

    def prepared_statements_lost(self) -> None:
        """Stop preparing statements: a pooler in between does not keep them."""
        self._prepare = None

    @property
    def threshold(self) -> int | None:
        """After how many uses a statement is prepared, None for never."""
        # Without our settings a plan must not outlive its use: it would scan what has grown.
        return self._prepare if self.limits else None

    async def opened_pool(self) -> AsyncConnectionPool[_Pooled]:
        """Return the pool, which is opened when it is first needed.

        Raises:
            psycopg_pool.PoolTimeout: the database cannot be reached.
        """
        if self._pool is not None:
            return self._pool
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT), self._opening:
                if self._limits is None:
                    await self.wait_until_reachable()
        except TimeoutError:
            raise PoolTimeout(f"no connection after {STATEMENT_TIMEOUT:.2f} sec") from None
        if self._pool is None:
            self._pool = AsyncConnectionPool(
                conninfo(self.dsn, self.name, limits=self.limits),
                connection_class=_Pooled,
                kwargs={"autocommit": True},
                min_size=0,
                max_size=POOL_SIZE,
                # Short, so that each new request tries anew instead of waiting out a long pause.
                reconnect_timeout=1.0,
                check=_check,
                open=False,
            )
            await self._pool.open()
        return self._pool


class _Borrowed:
    """A pooled connection while it is lent; a generator in its place costs each enqueue 5 us."""

    __slots__ = ("_connection", "_database", "_pool")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> _Pooled:
        self._pool = await self._database.opened_pool()
        self._connection = await _lent(self._pool)
        # Each time: what a connection met with another borrower holds for all.
        self._connection.prepare_threshold = self._database.threshold
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.used_at = time.monotonic()
        elif issubclass(kind, psycopg.errors.ReadOnlySqlTransaction):
            # The primary became a standby: a new connection is made to the server that is one now.
            await self._connection.close()
        elif issubclass(kind, _PREPARED_LOST):
            self._database.prepared_statements_lost()
            await self._connection.close()
        # A transaction that was left open is rolled back, a broken connection not kept.
        await self._pool.putconn(self._connection)


async def _lent(pool: AsyncConnectionPool[_Pooled]) -> _Pooled:
    # A pool that gave up connecting leaves those who wait to their time limit, and tries again only
    # for who comes then: so each comes again.
    deadline = time.monotonic() + STATEMENT_TIMEOUT
    while True:
        try:
            return await pool.getconn(_ASK_AGAIN_AFTER)
        except PoolTimeout:
            if time.monotonic() >= deadline:
                raise


async def _check(connection: _Pooled) -> None:
    # A round trip for each use would cost as much as the use. A server that goes away says so on
    # the socket, or, cut off, is found by the first use or by the check after some idling.
    if time.monotonic() - connection.used_at > _TRUSTED_FOR or _has_news(connection.fileno()):
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await AsyncConnectionPool.check_connection(connection)
        except TimeoutError:
            await connection.close()
            raise psycopg.OperationalError("the server does not answer") from None


def _has_news(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Link:
    """A connection of one loop's own. After any failure the next use makes a new one."""

    def __init__(
        self,
        database: Database,
        application_name: str,
        settings: Mapping[str, str],
    ) -> None:
        """Belong to a database; nothing is opened yet."""
        self._database = database
        self._application_name = application_name
        self._settings = settings
        self._connection: AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    @property
    def dsn(self) -> Secret:
        """The database's URL."""
        return self._database.dsn

    async def fetch(
        self,
        statement: Statement,
        params: Mapping[str, Any] | None = None,
    ) -> Sequence[tuple[Any, ...]]:
        """Run one statement, autocommit, and return its rows."""
        async with self._mine() as connection:
            return await self._database.fetch_on(connection, statement, params)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Open a transaction; commits unless the block raises."""
        async with (
            self._mine() as connection,
            transaction(connection, limits=self._database.limits),
        ):
            yield connection

    async def close(self) -> None:
        """Close the connection if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _mine(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._lock:
            if self._connection is None or not _is_usable(self._connection):
                await self.close()
                self._connection = await self._database.open_for(
                    self._application_name, self._settings
                )
            try:
                yield self._connection
            except BaseException as error:
                if isinstance(error, _PREPARED_LOST):
                    self._database.prepared_statements_lost()
                # Whatever went wrong, its session state is unknown: a new one costs little.
                await self.close()
                raise


def _is_usable(connection: AsyncConnection[Any]) -> bool:
    # A server that went away while nothing was asked of it has said so on the socket.
    return not (connection.closed or _has_news(connection.fileno()))
