"""`pillars worker --processes N`: several worker processes that are operated as one.

The parent runs no jobs and needs no database. It starts the workers, starts again those that die,
passes a stop on and waits for it, and answers for all: `/metrics` adds theirs up, `/readyz` is
ready when all are. Each worker is a member of its own, under the name `NAME#1`, `NAME#2`...; all
have the parent's URL, so that Prometheus finds one target.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp

from pillars.ground.clock import SystemClock
from pillars.ground.events import Events, ProcessesStarted, ProcessStopped
from pillars.ground.loop import Stepper
from pillars.processes.children import (
    PARENT_VARIABLE,
    URL_VARIABLE,
    Child,
    Supervisor,
    parent_is_gone,
    tell_parent,
)
from pillars.telemetry.endpoints import OpsServer, ops_routes
from pillars.telemetry.health import Check, Readiness
from pillars.telemetry.logs import LogListener, configure_logging
from pillars.telemetry.merge import Merged
from pillars.telemetry.metrics import encode

if TYPE_CHECKING:
    from pillars.ground.settings import Secret, Settings

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# One that ran for so long was well: its next death is the first again.
_WELL_AFTER = 60.0
# What a worker may take beyond its drain before it is killed; less than `pillars up` gives us.
_STOP_GRACE = 15.0
_PARENT_EVERY = 1.0
_ANSWER_WITHIN = aiohttp.ClientTimeout(total=3.0)


class Workers:
    """The parent of several workers."""

    def __init__(self, settings: Settings, dsn: Secret) -> None:
        """Decide what runs; nothing is started yet."""
        self._settings = settings
        self._dsn = dsn
        self._name = settings.name or f"{socket.gethostname()}-worker-{os.getpid()}"
        self._clock = SystemClock()
        self._events = Events()
        configure_logging(settings.log, "worker", self._name)
        self._log = LogListener(self._events, self._clock)
        self._merged = Merged()
        self._deaths: dict[str, int] = {}
        self._supervisor = Supervisor(
            "worker",
            self._name,
            pause=self._pause,
            emit=self._events,
            clock=self._clock,
        )

    async def run(self) -> int:
        """Run until asked to stop and all workers have ended; returns the exit code.

        Raises:
            PortError: the metrics port cannot be used.
        """
        self._supervisor.handle_signals()
        ops = OpsServer(self._settings.host, self._settings.metrics_port, ops_routes(self, self))
        url = await ops.start()
        watcher = Stepper("parent", partial(self._heed_parent, url), self._events)
        watching = asyncio.create_task(watcher.run(), name="parent")
        async with aiohttp.ClientSession(timeout=_ANSWER_WITHIN) as self._session:
            try:
                self._supervisor.start(self._children(url))
                self._events(ProcessesStarted(self._name, self._settings.processes, url))
                await self._supervisor.asked.wait()
            finally:
                limit = self._settings.drain_timeout + _STOP_GRACE
                await self._supervisor.stop(self._supervisor.children, limit=limit)
                watching.cancel()
                await ops.stop()
                self._events(ProcessStopped("worker", self._name))
        return self._supervisor.failed

    async def rendered(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all workers as those of one, and their content type."""
        await asyncio.gather(*map(self._look, self._supervisor.children))
        return await asyncio.to_thread(encode, self._merged.now(), accept)

    async def readiness(self) -> Readiness:
        """Ask all workers; what does not answer is not ready."""
        if self._supervisor.asked.is_set():
            return Readiness(ok=False, checks={"running": Check(ok=False, reason="stopping")})
        answers = await asyncio.gather(*map(self._ask, self._supervisor.children))
        checks = {name: check for answer in answers for name, check in answer.items()}
        return Readiness(ok=all(check.ok for check in checks.values()), checks=checks)

    def _children(self, url: str) -> list[Child]:
        settings = self._settings
        # Everything that may have come by a flag; the rest is in the environment already.
        environment = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            URL_VARIABLE: url,
            "PILLARS_DATABASE_URL": self._dsn.reveal(),
            "PILLARS_APP": settings.app or "",
            "PILLARS_CONCURRENCY": str(settings.concurrency),
            "PILLARS_QUEUES": ",".join(settings.queues),
            "PILLARS_PROCESSES": "1",
            "PILLARS_HOST": "127.0.0.1",
            "PILLARS_METRICS_PORT": "0",
        }
        names = [f"{self._name}#{number + 1}" for number in range(settings.processes)]
        return [Child("worker", name, environment | {"PILLARS_NAME": name}) for name in names]

    async def _look(self, child: Child) -> None:
        url = child.url
        if url is None:
            return
        try:
            async with self._session.get(f"{url}/metrics", raise_for_status=True) as response:
                text = await response.text()
        except (OSError, TimeoutError, aiohttp.ClientError):
            # It dies or is very busy: what it said last is nearer to the truth than nothing.
            return
        # Unless it ended meanwhile: then what it counted is kept already.
        if child.url == url:
            self._merged.saw(child.name, text)

    async def _ask(self, child: Child) -> dict[str, Check]:
        if child.url is None:
            reason = child.fate or "starting"
            return {child.name: Check(ok=False, reason=reason)}
        try:
            async with self._session.get(f"{child.url}/readyz") as response:
                answer: dict[str, Any] = await response.json()
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            reason = f"does not answer: {type(error).__name__}"
            return {child.name: Check(ok=False, reason=reason)}
        return {f"{child.name} {key}": Check(**check) for key, check in answer["checks"].items()}

    def _pause(self, child: Child, ran: float) -> float:
        self._merged.ended(child.name)
        deaths = 0 if ran >= _WELL_AFTER else self._deaths.get(child.name, 0)
        self._deaths[child.name] = deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(deaths, 10))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    async def _heed_parent(self, url: str) -> float:
        if parent_is_gone():
            self._supervisor.ask_to_stop("its parent is gone")
        if any(child.was_ready for child in self._supervisor.children):
            tell_parent(url)
        return _PARENT_EVERY


def run_workers(settings: Settings, dsn: Secret) -> int:
    """Run `settings.processes` workers; returns the exit code."""

    async def run() -> int:
        return await Workers(settings, dsn).run()

    return asyncio.run(run())
