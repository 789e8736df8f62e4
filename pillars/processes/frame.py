"""What every process has: events and their listeners, a database, a heart, loops, signals.

A process starts from the bottom up and stops in reverse. The heart, in a thread of its own, stops
last, so that nobody is taken for dead while it finishes its work.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from pillars import __version__
from pillars.cluster.agent import Membership
from pillars.cluster.heart import Heart
from pillars.db.database import Database
from pillars.db.migrate import migrate
from pillars.db.notify import Listener
from pillars.ground.clock import SystemClock
from pillars.ground.events import (
    Events,
    LoopFailed,
    ProcessStarted,
    ProcessStopped,
    ProcessStopping,
)
from pillars.ground.loop import Stepper, describe
from pillars.processes.children import parent_is_gone, tell_parent
from pillars.queue.upkeep import rescue
from pillars.telemetry.endpoints import OpsServer, ops_routes
from pillars.telemetry.health import Health
from pillars.telemetry.logs import LogListener, configure_logging
from pillars.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from pillars.ground.events import Emit, Event
    from pillars.ground.settings import Secret, Settings

Role = Literal["server", "worker", "cron"]

# A stop must end even when the database does not answer. First a role ends its own work: a worker
# has its drain time for that, the others so many seconds.
_ENDING = 8.0
# Each step of the stop is over so long after that, at the latest. With a drain time of 25 s that is
# within the 30 s that Kubernetes gives, of which a busy machine takes one to end the interpreter.
ENDED, LOOPS_ENDED, LEFT, CLOSED = 2.5, 2.8, 3.6, 3.8
_STEP_LIMIT = 10.0
_LOOPS_LIMIT = 5.0
_LEAVE_LIMIT = 5.0
_PARENT_EVERY = 1.0
_PROGRESS_EVERY = 1.0


class Frame:
    """The common part of server, worker and cron."""

    def __init__(self, role: Role, settings: Settings, dsn: Secret) -> None:
        """Build the listeners and the database; nothing is opened yet."""
        self.role: Role = role
        self.name = settings.name or f"{socket.gethostname()}-{role}-{os.getpid()}"
        self.settings = settings
        self.dsn = dsn
        self.clock = SystemClock()
        self.events = Events()
        configure_logging(settings.log, role, self.name)
        self._log = LogListener(self.events, self.clock)
        self.metrics = Metrics(self.events, role)
        self.health = Health(self.events, self.clock)
        self.database = Database(dsn, f"pillars {self.name}", self.events)
        self.heart: Heart | None = None
        self.hurry = asyncio.Event()
        self._stopping = asyncio.Event()
        self._why = "finished"
        self._ends_at: float | None = None
        self._loops: list[tuple[Stepper, asyncio.Task[None]]] = []
        self._listening: asyncio.Task[None] | None = None

    @property
    def membership(self) -> Membership:
        """This process's membership; it has one once it joined."""
        if self.heart is None:
            raise RuntimeError("join first")
        return self.heart.membership

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reach the database and bring its schema up to date; put everything away afterwards."""
        self._handle_signals()
        self.loop("log", self._log.step)
        self.loop("parent", self._watch_parent)
        try:
            await unless_set(self._stopping, prepare(self.database, self.events))
            yield
        finally:
            await self.end_loops()
            if self.heart is not None:
                await self.bounded("leave", self.heart.stop(), LEFT, _LEAVE_LIMIT)
            await self.bounded("close", self.database.close(), CLOSED)
            self.events(ProcessStopped(self.role, self.name))

    @asynccontextmanager
    async def endpoints(self) -> AsyncIterator[str]:
        """Serve health and metrics on a port of their own; gives the URL the others are told.

        Raises:
            PortError: the port cannot be used.
        """
        settings = self.settings
        routes = ops_routes(self.metrics, self.health)
        server = OpsServer(settings.host, settings.metrics_port, routes)
        try:
            yield tell_parent(await server.start())
        finally:
            await server.stop()

    async def join(self, url: str) -> None:
        """Become an active member; from here on the others know this process."""

        def build(emit: Emit) -> Membership:
            return Membership(
                database.link("heartbeat"),
                role=self.role,
                name=self.name,
                pid=os.getpid(),
                url=url,
                app_version=__version__,
                lease=self.settings.lease,
                on_expel=rescue,
                emit=emit,
                clock=self.clock,
                queues=self.settings.queues,
            )

        main = asyncio.get_running_loop()

        def hand_over(event: Event) -> None:
            # Its statements run in the heart's thread; the listeners live in this one.
            main.call_soon_threadsafe(self.events, event)

        database = Database(self.dsn, f"pillars {self.name}", hand_over)
        self.heart = Heart(database, build, self.events)
        if self.role != "cron":
            # A cron's progress is its ticker's; the others are well while their event loop turns,
            # also while they drain.
            self.loop("progress", self._progress)
        await unless_set(self._stopping, self.heart.start())
        member_id = str(self.membership.member_id)
        if not self.stopping:
            self.events(ProcessStarted(self.role, self.name, member_id, url))

    def loop(self, name: str, step: Callable[[], Awaitable[float]]) -> Stepper:
        """Run a step again and again until the process stops."""
        stepper = Stepper(name, step, self.events)
        self._loops.append((stepper, asyncio.create_task(stepper.run(), name=name)))
        return stepper

    def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call back with the payload of a channel's notifications, as an accelerator."""
        direct = self.settings.direct_database_url
        listener = Listener(
            direct or self.dsn,
            f"pillars {self.name} listen",
            {channel: callback},
            direct=direct is not None,
        )
        stepper = Stepper("listen", listener.step, self.events)
        self._listening = asyncio.create_task(stepper.run(), name="listen")

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopping.is_set()

    async def until_stopped(self) -> None:
        """Wait for a signal, then say that the process is stopping."""
        await self._stopping.wait()
        self.events(ProcessStopping(self.role, self.name, self._why))

    def stop(self, why: str) -> None:
        """Ask for a stop; asked a second time, running jobs are not waited for."""
        now = self.clock.monotonic()
        if self._stopping.is_set():
            self._ends_at = min(now, self._ends_at or now)
            self.hurry.set()
            return
        self._ends_at = now + (self.settings.drain_timeout if self.role == "worker" else _ENDING)
        self._why = why
        self._stopping.set()

    async def bounded(
        self,
        what: str,
        step: Awaitable[Any],
        by: float,
        limit: float = _STEP_LIMIT,
    ) -> None:
        """Run one step of the stop; whatever it meets is told and does not hold up the rest.

        It gets `limit` seconds, and is over `by` seconds after the role's own work should be.
        """
        try:
            async with asyncio.timeout(min(limit, self._left(by))):
                await step
        except Exception as error:  # noqa: BLE001 - the stop goes on; others will expel this one
            self.events(LoopFailed(what, describe(error), 1, 0.0))

    async def end_loops(self) -> None:
        """Let every loop finish the step it is in, for a few seconds."""
        if self._listening is not None:
            self._listening.cancel()
        for stepper, _ in self._loops:
            stepper.stop()
        tasks = [task for _, task in self._loops]
        self._loops = []
        if tasks:
            limit = min(_LOOPS_LIMIT, self._left(LOOPS_ENDED))
            _, late = await asyncio.wait(tasks, timeout=limit)
            for task in late:
                task.cancel()

    def _left(self, by: float) -> float:
        now = self.clock.monotonic()
        if self._ends_at is None:
            self._ends_at = now
        return max(0.0, self._ends_at + by - now)

    async def _progress(self) -> float:
        self.membership.progressed()
        return _PROGRESS_EVERY

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)

    async def _watch_parent(self) -> float:
        if parent_is_gone():
            self.stop("its parent is gone")
        return _PARENT_EVERY


async def prepare(database: Database, emit: Emit) -> None:
    """Reach the database and migrate it, however often it goes away meanwhile.

    Raises:
        DatabaseUnusableError: the database answers but will not do.
    """
    failures = 0
    while True:
        await database.wait_until_reachable()
        try:
            await migrate(database, emit)
        except (psycopg.OperationalError, TimeoutError) as error:
            failures += 1
            pause = random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
            emit(LoopFailed("migrate", describe(error), failures, pause))
            await asyncio.sleep(pause)
        else:
            return


async def unless_set(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do some work; given up as soon as the event is set."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
