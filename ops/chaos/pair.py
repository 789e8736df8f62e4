"""The database of a run: a primary, and at times a standby that takes its place.

Two directories take turns. The URL names both as hosts, and whoever connects takes the one that may
be written to. Promotion is as after the loss of a machine: every process of the primary is killed
at once, then the standby is promoted, and nothing of the old primary is ever used again; so there
is no second primary, which is the business of who promotes (Patroni, a cloud's failover), not ours.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg

from pillars.db.embedded import EmbeddedPostgres
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET = ".s.PGSQL.5432"
_LOOK_EVERY = 0.05
_PATIENCE = 30.0
_FOLLOWS: LiteralString = (
    "SELECT pid FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = %s"
)
_SYNCHRONOUS: tuple[LiteralString, ...] = (
    "ALTER SYSTEM SET synchronous_standby_names = '*'",
    "SELECT pg_reload_conf()",
)


class PairError(Exception):
    """The database does not do what a fault needs."""


class Pair:
    """Runs the primary, and makes a standby when one is to be promoted.

    Attributes:
        door: a directory that always has the primary's socket, for those that take one host.
    """

    def __init__(self, directory: Path) -> None:
        """Name the directory; nothing is started yet."""
        self.door = directory / "primary"
        self._primary, self._other = (_Server(directory / name) for name in ("one", "two"))
        hosts = f"{self._primary.cluster},{self._other.cluster}"
        self._url = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"

    @property
    def dsn(self) -> Secret:
        """The URL that names both hosts."""
        return Secret(self._url)

    def start(self) -> None:
        """Start the primary."""
        self._primary.start()
        self._open_door()

    def stop(self, mode: str = "immediate") -> None:
        """Stop the primary."""
        self._primary.stop(mode)

    def end(self) -> None:
        """Stop whatever runs."""
        for server in (self._primary, self._other):
            server.stop("immediate")

    def sessions(self) -> list[int]:
        """Return the ids of the primary's processes, its postmaster first.

        Raises:
            PairError: it does not run.
        """
        running = self._primary.running()
        if running is None:
            raise PairError("PostgreSQL does not run")
        pid = running.pid
        return [
            pid,
            *(int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
        ]

    async def follow(self, *, synchronous: bool) -> None:
        """Let a new standby follow the primary, and wait until it does.

        Raises:
            PairError: it does not.
        """
        await asyncio.to_thread(self._other.start_behind, self._primary)
        if synchronous:
            await self._ask(*_SYNCHRONOUS)
        async with asyncio.timeout(_PATIENCE):
            while not await self._sender(synchronous=synchronous):  # noqa: ASYNC110 - a look
                await asyncio.sleep(_LOOK_EVERY)

    async def lag(self, seconds: float) -> None:
        """Send the asynchronous standby nothing for a while, and never again."""
        sender = await self._sender(synchronous=False)
        send_signal([sender], signal.SIGSTOP)
        await asyncio.sleep(seconds)

    async def lose_primary(self) -> tuple[float, float]:
        """Kill the primary's every process at once and promote the standby.

        Returns:
            when the primary was dead, and when there was one again.
        """
        # The postmaster first: from then on there are no new sessions.
        send_signal(self.sessions()[:1], signal.SIGSTOP)
        send_signal(self.sessions(), signal.SIGKILL)
        died = time.time()
        self._primary, self._other = self._other, self._primary
        await asyncio.to_thread(self._primary.promote)
        self._open_door()
        promoted = time.time()
        await asyncio.to_thread(self._other.forget)
        return died, promoted

    async def _sender(self, *, synchronous: bool) -> int:
        rows = await self._ask(_FOLLOWS, params=("sync" if synchronous else "async",))
        return int(rows[0][0]) if rows else 0

    async def _ask(
        self, *queries: LiteralString, params: Sequence[object] = ()
    ) -> list[tuple[int]]:
        rows: list[tuple[int]] = []
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            for query in queries:
                cursor = await connection.execute(query, params or None)
                rows = await cursor.fetchall() if cursor.description else []
        return rows

    def _open_door(self) -> None:
        new = self.door.with_suffix(".new")
        new.symlink_to(self._primary.cluster)
        new.replace(self.door)


def send_signal(pids: Sequence[int], number: signal.Signals) -> None:
    """Signal processes that may end at any time."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class _Server(EmbeddedPostgres):
    """One of the two."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._leader: EmbeddedPostgres | None = None

    def start_behind(self, leader: EmbeddedPostgres) -> None:
        """Start as a copy of the leader that follows it."""
        self.forget()
        self._leader = leader
        self.start()

    def promote(self) -> None:
        """Become a primary."""
        self._run("pg_ctl", "promote", "-w", *self._where)

    def forget(self) -> None:
        """Let go of what is left of a cluster that was killed."""
        self.stop("immediate")
        shutil.rmtree(self.cluster, ignore_errors=True)

    def _create(self) -> None:
        if self._leader is None:
            super()._create()
            return
        self._run(
            *("pg_basebackup", "--pgdata", str(self.cluster), "--checkpoint=fast", "--no-sync"),
            *("--write-recovery-conf", "--host", str(self._leader.cluster), "--username=postgres"),
        )
        self.cluster.chmod(0o700)
        # The leader's socket lies in its directory, and so does the copy of its lock.
        for copy in self.cluster.glob(f"{SOCKET}*"):
            copy.unlink()
