"""Faults of the database, and of the sessions it has."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, LiteralString

import psycopg

from ops.chaos.pair import send_signal

if TYPE_CHECKING:
    from ops.chaos.field import Field

# Seconds: of outages, of what a standby never gets.
_OUTAGE, _LONG_OUTAGE = 6.0, 15.0
# In leases: whoever does not get on for three of them would be taken for hung.
_FULL_FOR = 3.5
_LAG = 1.5
_TERMINATE: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pillars %'"
)
# How a disk that is full looks to whoever writes.
FULL: LiteralString = """
CREATE FUNCTION nemesis.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION USING ERRCODE = 'disk_full',
        MESSAGE = 'could not extend file: No space left on device';
END $$
"""
_FILL: LiteralString = (
    "CREATE TRIGGER nemesis_full BEFORE INSERT ON pillars.jobs EXECUTE FUNCTION nemesis.full()"
)
_FREE: LiteralString = "DROP TRIGGER nemesis_full ON pillars.jobs"
# More than there are connections in the pools of two workers.
_HOGS: LiteralString = (
    "SELECT pillars.enqueue('nemesis.hog', '{\"seconds\": 3}') FROM generate_series(1, 12)"
)
_MOST_SESSIONS = 500


async def db_restart(ground: Field) -> None:
    """Stop the database at once, without a word to its clients, and start it."""
    await _down(ground, "db-restart", 0.0)


async def db_down(ground: Field) -> None:
    """Stop the database at once and let it be down for longer than lease and look-ahead."""
    await _down(ground, "db-down", _OUTAGE)


async def db_down_long(ground: Field) -> None:
    """Stop the database at once and let it be down for a quarter of a minute."""
    await _down(ground, "db-down-long", _LONG_OUTAGE)


async def db_stall(ground: Field) -> None:
    """Let the database stand still for longer than the lease: it is there and does not answer."""
    since = time.time()
    # The postmaster first: from then on there are no new sessions.
    send_signal(ground.server.sessions()[:1], signal.SIGSTOP)
    everyone = ground.server.sessions()
    send_signal(everyone, signal.SIGSTOP)
    try:
        await ground.wait(1.5 * ground.lease, 2.0 * ground.lease)
    finally:
        send_signal(everyone[::-1], signal.SIGCONT)
    ground.did("db-stall", since)


async def db_full(ground: Field) -> None:
    """Let every insert of a job fail as on a full disk, for longer than three leases."""
    async with ground.asking() as connection:
        await connection.execute(_FILL)
        since = time.time()
        await asyncio.sleep(_FULL_FOR * ground.lease)
        await connection.execute(_FREE)
    ground.did("db-full", since)


async def promote_sync(ground: Field) -> None:
    """Lose the primary and promote a synchronous standby: nothing acknowledged may be lost."""
    await ground.server.follow(synchronous=True)
    await ground.wait(0.5, 2.0)
    since = time.time()
    _, promoted = await ground.server.lose_primary()
    ground.did("promote-sync", since, until=promoted)


async def promote_async(ground: Field) -> None:
    """Lose the primary and promote a standby that lacks the last moments; edits are among them."""
    await ground.server.follow(synchronous=False)
    await ground.wait(0.5, 2.0)
    async with ground.files.held:
        lagging = asyncio.create_task(ground.server.lag(_LAG))
        since = time.time()
        ground.files.write()
        await lagging
        # What is committed until the last process of the primary is dead is lost as well.
        lost, promoted = await ground.server.lose_primary()
        ground.did("promote-async", since, until=promoted, forgets=(since, lost))
        # A database that forgot them must be told again.
        await ground.in_force("after a promotion")


async def terminate(ground: Field) -> None:
    """End every session of ours, several times."""
    since = time.time()
    for _ in range(3):
        async with ground.asking() as connection:
            await connection.execute(_TERMINATE)
        await ground.wait(0.2, 1.0)
    ground.did("terminate", since)


async def crowd(ground: Field) -> None:
    """Let others take every connection that the server has, for longer than the lease."""
    since = time.time()
    harmed = set(ground.crew.pids())
    taken: list[psycopg.AsyncConnection[tuple[object, ...]]] = []
    try:
        async with ground.asking() as connection:
            until = time.monotonic() + 1.5 * ground.lease
            while time.monotonic() < until:
                await connection.execute(_TERMINATE)
                await _take_all(ground, taken)
                await asyncio.sleep(0.5)
    finally:
        for each in taken:
            await each.close()
    ground.did("crowd", since, sorted(harmed | set(ground.crew.pids())))


async def hog(ground: Field) -> None:
    """Let handlers hold every connection of their worker's pool, and others wait for one."""
    since = time.time()
    async with ground.asking() as connection:
        await connection.execute(_HOGS)
    await asyncio.sleep(_OUTAGE)
    ground.did("hog", since)


async def _take_all(
    ground: Field, taken: list[psycopg.AsyncConnection[tuple[object, ...]]]
) -> None:
    """Open sessions until there is no room for one more."""
    dsn = ground.server.dsn.reveal()
    while len(taken) < _MOST_SESSIONS:
        try:
            taken.append(await psycopg.AsyncConnection.connect(dsn, application_name="nemesis"))
        except psycopg.OperationalError:
            return


async def _down(ground: Field, fault: str, seconds: float) -> None:
    since = time.time()
    await asyncio.to_thread(ground.server.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(ground.server.start)
    ground.did(fault, since)
