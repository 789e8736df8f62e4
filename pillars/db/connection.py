"""How every connection is made, so that a dead or cut-off process harms nobody.

- The server ends a statement, a lock wait or an idle transaction that lasts too long.
- Both ends notice a link that was cut without a word: keepalives while it is idle,
  `tcp_user_timeout` while data is in flight, `client_connection_check_interval` during a query.
- The client has a time limit of its own on each statement, and on the begin and the end of each
  transaction, so it never depends on the server's.

The server-side settings travel as a startup parameter. A pooler may refuse that parameter (the
connection is then made without it) or swallow it (PgBouncer does either, as it is told); explicit
transactions then set the same limits with SET LOCAL.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from psycopg import AsyncConnection

    from pillars.db.statements import Statement
    from pillars.ground.settings import Secret

STATEMENT_TIMEOUT = 10.0
# The client's own limit lets the server's be the first.
PATIENCE = STATEMENT_TIMEOUT + 1.0
CONNECT_TIMEOUT = 3.0
OLDEST_SERVER = 140_000

_CLIENT = {
    "connect_timeout": str(int(CONNECT_TIMEOUT)),
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
}
NO_SETTINGS: Final[Mapping[str, str]] = {}
_SERVER = {
    "statement_timeout": f"{int(STATEMENT_TIMEOUT * 1000)}",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "5000",
    "client_connection_check_interval": "500",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "3000",
    "TimeZone": "UTC",
    "jit": "off",
    # A plan prepared while a table was small is kept when it has grown: claims then took seconds.
    # Statements that must be fast have an index each; the others scan all the same.
    "enable_seqscan": "off",
    # Of no effect: read back, it tells whether the others arrived.
    "pillars.limits": "on",
}
# For a loop that sends the same few statements for ever: each is planned once, by its index. To do
# so for the values of each time takes longer than to find that nothing is due.
PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_bitmapscan": "off"}
# The limits that matter inside an explicit transaction when startup parameters were refused.
LOCAL_LIMITS = "; ".join(
    f"SET LOCAL {name} = {_SERVER[name]}"
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
)


class DatabaseUnusableError(PillarsError):
    """The database cannot be used as it is; trying again would not help."""


def conninfo(
    dsn: Secret,
    application_name: str,
    *,
    limits: bool = True,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> str:
    """Return the libpq connection string with our client and (if `limits`) server settings.

    `settings` are further ones of the server.

    What the user's own URL sets wins over ours.

    Raises:
        DatabaseUnusableError: the URL cannot be parsed.
    """
    try:
        given = conninfo_to_dict(dsn.reveal())
    except psycopg.ProgrammingError:
        raise DatabaseUnusableError(
            "PILLARS_DATABASE_URL cannot be parsed: "
            "write postgresql://user:password@host:5432/database (percent-encode the password)",
        ) from None
    ours = dict(_CLIENT, application_name=application_name)
    if limits:
        options = " ".join(f"-c {name}={value}" for name, value in {**_SERVER, **settings}.items())
        ours["options"] = f"{options} {given.pop('options', '') or ''}".strip()
    return make_conninfo("", **{**ours, **given})


def connect_patience(info: str) -> float:
    """Return how many seconds a connection may take: each host of a list has its own time."""
    hosts = str(conninfo_to_dict(info).get("host") or "").count(",") + 1
    return hosts * CONNECT_TIMEOUT + 2.0


def describe_dsn(dsn: Secret) -> str:
    """Return host, port and database of a URL for people to read; never user or password."""
    try:
        parts = conninfo_to_dict(dsn.reveal())
    except psycopg.ProgrammingError:
        return "(unreadable URL)"
    return (
        f"{parts.get('dbname', '?')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    )


async def connect(
    dsn: Secret, application_name: str, settings: Mapping[str, str] = NO_SETTINGS
) -> tuple[AsyncConnection[Any], bool]:
    """Open one autocommit connection; also tell whether the server took our limits.

    `settings` are further ones of the server; like the limits they may not be taken.

    Raises:
        psycopg.OperationalError: the database cannot be reached now.
        DatabaseUnusableError: it can be, but will not do.
    """
    try:
        connection = await _open(conninfo(dsn, application_name, settings=settings))
        limits = await _took_limits(connection)
    except psycopg.OperationalError as error:
        if "startup parameter" not in str(error):
            raise
        connection = await _open(conninfo(dsn, application_name, limits=False))
        limits = False
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        await connection.close()
        raise DatabaseUnusableError(
            f"PostgreSQL {version // 10_000} is too old: Pillars needs 14 or newer",
        )
    return connection, limits


async def fetch(
    connection: AsyncConnection[Any],
    statement: Statement,
    params: Mapping[str, Any] | None = None,
    timeout: float = PATIENCE,  # noqa: ASYNC109 - the default bounds every statement
) -> Sequence[tuple[Any, ...]]:
    """Run a named statement and return its rows (none for one that returns no rows)."""
    async with asyncio.timeout(timeout):
        # The connection may be a user's, with a row factory of its own.
        cursor = connection.cursor(binary=True, row_factory=tuple_row)
        await cursor.execute(statement.sql, params)
        # Not `description`, which makes an object of each column.
        return await cursor.fetchall() if cursor.rownumber is not None else ()


@asynccontextmanager
async def transaction(
    connection: AsyncConnection[Any], *, limits: bool = True
) -> AsyncIterator[None]:
    """Open a transaction; commits unless the block raises.

    Its begin and its end are bounded like a statement; the block may last as long as it likes. The
    server's limits do not cover a commit that waits for a standby. When the time runs out, nobody
    knows what became of the transaction: the connection is closed.

    Args:
        connection: in a transaction already, this is a savepoint of it.
        limits: whether the server has our limits; if not, they are set for this transaction.

    Raises:
        TimeoutError: the server did not answer.
    """
    loop = asyncio.get_running_loop()
    patience = asyncio.timeout(PATIENCE)
    try:
        async with patience, connection.transaction():
            if not limits:
                await connection.execute(LOCAL_LIMITS)
            patience.reschedule(None)
            try:
                yield
            finally:
                patience.reschedule(loop.time() + PATIENCE)
    finally:
        if patience.expired():
            await connection.close()


async def _took_limits(connection: AsyncConnection[Any]) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            cursor = await connection.execute("SELECT current_setting('pillars.limits', true)")
            return await cursor.fetchone() == ("on",)
    except BaseException:
        await connection.close()
        raise


async def _open(info: str) -> AsyncConnection[Any]:
    # A server that accepts the connection and then says nothing would hang libpq for ever.
    async with asyncio.timeout(connect_patience(info)):
        return await psycopg.AsyncConnection.connect(info, autocommit=True)
