"""What it costs to tell of a finished job and of a fired tick: building the event, metrics, log."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ops.benchmarks.bench import Figure, Ground
from pillars.cron.firing import BATCH as FIRES
from pillars.ground.clock import SystemClock
from pillars.ground.events import Events, JobsFinished, TicksFired
from pillars.queue.attempt import Ended, Job
from pillars.queue.states import JobId, JobState
from pillars.telemetry.logs import LogListener
from pillars.telemetry.metrics import Metrics
from pillars.worker.finisher import BATCH as JOBS
from pillars.worker.finisher import finished_job

if TYPE_CHECKING:
    from collections.abc import Callable

# Batches in one timing.
_BATCHES = 100


async def telling(ground: Ground) -> list[Figure]:
    """What telemetry takes of a busy worker and a busy cron."""
    job = Figure("tell of a finished job", "ns", goal="< 2,000 ns")
    fire = Figure("tell of a fired tick", "ns", goal="< 200 ns")
    # The first lines of a second are written; here nobody reads them.
    logger = logging.getLogger("pillars")
    logger.disabled = True
    try:
        for _ in range(ground.rounds):
            job.ours.append(_took(_finish(_listened("worker"))) / JOBS)
            fire.ours.append(_took(_fire(_listened("cron"))) / FIRES)
    finally:
        logger.disabled = False
    return [job, fire]


def _listened(role: str) -> Events:
    events = Events()
    Metrics(events, role)
    LogListener(events, SystemClock())
    return events


def _finish(emit: Events) -> Callable[[], None]:
    now = datetime.now(UTC)
    jobs = [
        Job(JobId(n), "noop", "default", {}, 1, 0, 0, None, None, None, "s", now, now, 0.0)
        for n in range(JOBS)
    ]
    pairs = [(job, Ended(job.id, job.attempt, JobState.SUCCEEDED)) for job in jobs]
    return lambda: emit(JobsFinished(tuple(finished_job(job, end, 0.01) for job, end in pairs)))


def _fire(emit: Events) -> Callable[[], None]:
    lateness = (0.0,) * FIRES
    outcomes, queues = {"enqueued": FIRES}, {"default": FIRES}
    return lambda: emit(TicksFired(FIRES, outcomes, lateness, 0, swept=False, queues=queues))


def _took(batch: Callable[[], None]) -> float:
    """Return the nanoseconds of CPU that one batch takes."""
    began = time.process_time_ns()
    for _ in range(_BATCHES):
        batch()
    return (time.process_time_ns() - began) / _BATCHES
