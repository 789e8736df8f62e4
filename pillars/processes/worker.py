"""A worker process: claims jobs, runs the application's handlers."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from pillars.db.notify import JOBS_CHANNEL
from pillars.processes.frame import ENDED, Frame
from pillars.queue.gate import GateKeeper
from pillars.queue.upkeep import Pruner, Rescuer
from pillars.telemetry.tracing import attempt_spans
from pillars.worker.worker import Worker

if TYPE_CHECKING:
    from pillars.app import App
    from pillars.ground.settings import Secret, Settings

# A claim pass takes milliseconds; a worker without one for this long is not ready for work.
_CLAIM_LIMIT = 10.0
# To announce a leave: longer than the server waits for a lock. The leave itself says it again.
_ANNOUNCE_LIMIT = 6.0


async def run_worker(settings: Settings, dsn: Secret, app: App) -> None:
    """Run a worker until it is asked to stop and its jobs are done or handed back.

    Raises:
        PillarsError: it cannot start.
    """
    frame = Frame("worker", settings, dsn)
    async with frame.running():
        if frame.stopping:
            return
        app.bind(frame.database, frame.events)
        frame.health.expect_worker(_CLAIM_LIMIT, frame.database.link("health"))
        async with frame.endpoints() as url:
            await frame.join(url)
            await _work(frame, app)


async def _work(frame: Frame, app: App) -> None:
    settings, membership = frame.settings, frame.membership

    def progressed() -> None:
        membership.progressed()
        frame.health.progress("claim")

    worker = Worker(
        database=frame.database,
        registry=app.registry,
        identity=lambda: membership.member_id,
        progressed=progressed,
        queues=settings.queues,
        concurrency=settings.concurrency,
        emit=frame.events,
        clock=frame.clock,
        tracing=attempt_spans(),
    )
    upkeep = frame.database.link("upkeep")
    gate_keeper = GateKeeper(upkeep, frame.clock)
    pruner = Pruner(
        upkeep,
        settings.retention,
        settings.retention_failed,
        frame.events,
    )

    def ended(_: asyncio.Task[None]) -> None:
        # Should the worker itself break, the process ends with its error instead of idling.
        if not frame.stopping:
            frame.stop("the worker ended")

    working = asyncio.create_task(worker.run(), name="worker")
    working.add_done_callback(ended)
    frame.listen(JOBS_CHANNEL, worker.notified)
    frame.loop("prune", pruner.step)
    frame.loop("gates", gate_keeper.step)
    frame.loop("rescue", Rescuer(upkeep, frame.events).step)
    await frame.until_stopped()
    # Beside each other: to announce the leave may take a while, and not another job may start.
    await asyncio.gather(_drain(frame, worker), _announce(frame))
    await working


async def _announce(frame: Frame) -> None:
    if frame.heart is not None:
        announcing = frame.heart.call(frame.membership.begin_leave())
        await frame.bounded("leaving", announcing, ENDED, _ANNOUNCE_LIMIT)


async def _drain(frame: Frame, worker: Worker) -> None:
    """Stop claiming and let running jobs end; a second signal cuts that short."""
    limit = frame.settings.drain_timeout
    draining = asyncio.create_task(worker.stop(limit))
    hurried = asyncio.create_task(frame.hurry.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if hurried.done() and not draining.done():
        await frame.bounded("cut short", worker.stop(0.0), ENDED)
    hurried.cancel()
    await frame.bounded("drain", draining, ENDED, inf)
