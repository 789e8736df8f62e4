"""`pillars up`: the whole system on one machine, each pillar in processes of its own.

It stops its children in order: crons and server first, then the workers, the database last. A
child that dies is started again after three leases: long enough to see the others take over, as
they would if its machine was gone. A database that dies is started again at once.
A child that cannot start at all, because of a wrong setting, stops everything with its message.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from pillars.db.connection import describe_dsn
from pillars.db.database import Database
from pillars.db.embedded import EmbeddedPostgres
from pillars.ground.clock import SystemClock
from pillars.ground.events import (
    DatabaseStarted,
    DatabaseStopped,
    Events,
    SystemStarted,
)
from pillars.ground.loop import Stepper
from pillars.processes.children import PARENT_VARIABLE, Child, Supervisor
from pillars.processes.frame import prepare, unless_set
from pillars.processes.server import PortInUseError, port_advice
from pillars.telemetry.endpoints import reachable_host
from pillars.telemetry.logs import LogListener, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillars.ground.settings import Secret, Settings

RESTART_LEASES = 3
_DATABASE_EVERY = 1.0
# What a child may take beyond its drain before it is killed.
_STOP_GRACE = 20.0


class Up:
    """Starts everything, keeps it running, stops it in order."""

    def __init__(self, settings: Settings, *, crons: int, workers: int) -> None:
        """Decide what runs; nothing is started yet."""
        self._settings = settings
        self._clock = SystemClock()
        self._events = Events()
        configure_logging(settings.log, "up", "pillars")
        self._log = LogListener(self._events, self._clock)
        self._postgres = EmbeddedPostgres(settings.data_dir) if not settings.database_url else None
        self._minder = Stepper("database", self._mind_database, self._events)
        self._minding: asyncio.Task[None] | None = None
        self._crons = crons
        self._workers = workers
        self._supervisor = Supervisor(
            "up",
            "pillars",
            pause=lambda *_: RESTART_LEASES * settings.lease,
            emit=self._events,
            clock=self._clock,
        )

    async def run(self) -> int:
        """Run until asked to stop; returns the exit code.

        Raises:
            PillarsError: the database, the port or the data directory cannot be used.
        """
        self._check_port()
        self._supervisor.handle_signals()
        try:
            dsn = await self._start_database()
            if not self._supervisor.asked.is_set():
                await self._start_children(dsn)
            await self._supervisor.asked.wait()
        finally:
            await self._stop_children()
            await self._stop_database()
        return self._supervisor.failed

    def _check_port(self) -> None:
        settings = self._settings
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                # Port 0 is settled here: the server keeps its address when it is started again.
                self._settings = replace(settings, port=probe.getsockname()[1])
        except OSError as error:
            raise PortInUseError(port_advice(settings, error)) from None

    async def _start_database(self) -> Secret:
        if self._postgres is None:
            dsn = self._settings.database_url
            if dsn is None:
                raise RuntimeError("no database was chosen")
        else:
            dsn = await asyncio.to_thread(self._postgres.start)
            self._events(DatabaseStarted(str(self._postgres.data_dir), describe_dsn(dsn)))
            self._minding = asyncio.create_task(self._minder.run(), name="database")
        database = Database(dsn, "pillars up", self._events)
        try:
            await unless_set(self._supervisor.asked, prepare(database, self._events))
        finally:
            await database.close()
        return dsn

    async def _start_children(self, dsn: Secret) -> None:
        environment = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            "PILLARS_DATABASE_URL": dsn.reveal(),
        }
        # The metrics port of a fixed number could serve one child only.
        environment.pop("PILLARS_METRICS_PORT", None)
        names = [("server", "server")]
        names += [("cron", f"cron-{number + 1}") for number in range(self._crons)]
        names += [("worker", f"worker-{number + 1}") for number in range(self._workers)]
        self._supervisor.start(
            Child(role, name, environment | {"PILLARS_NAME": name}, tuple(self._flags(role)))
            for role, name in names
        )
        settings = self._settings
        self._events(
            SystemStarted(
                url=f"http://{await reachable_host(settings.host)}:{settings.port}",
                crons=self._crons,
                workers=self._workers,
                schedules_dir=str(settings.schedules_dir),
                app=settings.app or "",
            ),
        )

    def _flags(self, role: str) -> Iterator[str]:
        settings = self._settings
        yield from ("--schedules-dir", str(settings.schedules_dir)) if role == "cron" else ()
        yield from ("--host", settings.host)
        if role == "server":
            yield from ("--port", str(settings.port))
        if settings.app:
            yield from ("--app", settings.app)

    async def _stop_children(self) -> None:
        children = self._supervisor.children
        first = [child for child in children if child.role != "worker"]
        workers = [child for child in children if child.role == "worker"]
        limit = self._settings.drain_timeout + _STOP_GRACE
        await self._supervisor.stop(first, workers, limit=limit)

    async def _mind_database(self) -> float:
        postgres = self._postgres
        if postgres is not None and await asyncio.to_thread(postgres.running) is None:
            dsn = await asyncio.to_thread(postgres.start)
            self._events(DatabaseStarted(str(postgres.data_dir), describe_dsn(dsn)))
        return _DATABASE_EVERY

    async def _stop_database(self) -> None:
        if self._minding is not None:
            self._minder.stop()
            await self._minding
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
            if self._minding is not None:
                self._events(DatabaseStopped(str(self._postgres.data_dir)))


def run_up(settings: Settings, *, crons: int, workers: int) -> int:
    """Run the whole system; returns the exit code."""
    return asyncio.run(Up(settings, crons=crons, workers=workers).run())
