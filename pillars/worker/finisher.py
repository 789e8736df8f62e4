"""Writes how attempts ended, in batches.

Results gather while the last batch is being written, and for LINGER more when little is going on:
one commit carries hundreds. Nothing is forgotten: a batch whose write failed is written again for
ever (the fence makes a repeat harmless), and events are emitted only after the commit. A batch that
can never be written is taken apart, and the one at fault ends without what it wanted to say.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pillars.ground.events import FinishRefused, JobFinished, JobsFinished, JobsReturned
from pillars.ground.loop import Stepper
from pillars.queue.attempt import Ended
from pillars.queue.claims import UnwritableError
from pillars.queue.states import JobState
from pillars.queue.trace import trace_id
from pillars.worker.failures import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from uuid import UUID

    from pillars.ground.events import Emit
    from pillars.queue.attempt import Job
    from pillars.queue.claims import Claims
    from pillars.queue.states import JobId

BATCH = 500
# Results that may wait for a write; when they are this many, slots start no further job.
CAPACITY = 2_000
LINGER = 0.005
_IDLE = 60.0


class Outcome(NamedTuple):
    """What became of a claimed job; `ended` is None for one to be given back, started or not."""

    worker_id: UUID
    job: Job
    ended: Ended | None
    seconds: float
    started: bool = True


class Finisher:
    """Takes outcomes from the slots and writes them."""

    def __init__(self, claims: Claims, emit: Emit, retrying: Callable[[float], None]) -> None:
        """Write over `claims`.

        Args:
            claims: the queue's side; used by this object alone.
            emit: receives JobsFinished, FinishRefused and JobsReturned.
            retrying: told the seconds until the first of a batch's retries.
        """
        self._claims = claims
        self._emit = emit
        self._retrying = retrying
        self._waiting: list[Outcome] = []
        self._lingered = False
        # What is being written: results and returns apart, by the worker id that claimed them.
        self._batches: list[list[Outcome]] = []
        self._linger = LINGER
        self._stepper = Stepper("finish", self._step, emit)
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._abandoned = False

    def put(self, outcome: Outcome) -> None:
        """Take over an outcome; never refuses one, so that none can be lost."""
        self._waiting.append(outcome)
        count = len(self._waiting)
        if count == 1:
            if not self._abandoned:
                self._empty.clear()
            self._stepper.wake()
        elif count == BATCH:
            self._stepper.wake()
        if count >= CAPACITY:
            self._room.clear()

    async def room(self) -> None:
        """Wait until fewer than CAPACITY outcomes wait; slots ask before they start a job."""
        if not self._room.is_set():
            await self._room.wait()

    def held(self) -> list[Outcome]:
        """Return the outcomes that are not written yet."""
        return [*self._waiting, *(outcome for batch in self._batches for outcome in batch)]

    async def run(self) -> None:
        """Write until cancelled."""
        await self._stepper.run()

    async def drain(self) -> None:
        """Return once all outcomes are written; from now on none lingers."""
        self._linger = 0.0
        self._stepper.wake()
        await self._empty.wait()

    def abandon(self) -> None:
        """Let `drain` return although not all could be written; a rescue will see to the rest."""
        self._abandoned = True
        self._empty.set()

    async def _step(self) -> float:
        if not self._batches:
            if not self._waiting:
                self._empty.set()
                return _IDLE
            if not self._lingered and len(self._waiting) < BATCH:
                self._lingered = True
                return self._linger
            self._take()
        while self._batches:
            try:
                await self._write(self._batches[0])
            except UnwritableError as error:
                parts = _apart(self._batches[0], error)
                if parts == [self._batches[0]]:
                    raise
                self._batches[:1] = parts
        return 0.0

    def _take(self) -> None:
        taken, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        # Those left over have waited already.
        self._lingered = bool(self._waiting)
        if len(self._waiting) < CAPACITY:
            self._room.set()
        groups: dict[tuple[UUID, bool, bool], list[Outcome]] = defaultdict(list)
        for outcome in taken:
            groups[outcome.worker_id, outcome.ended is None, outcome.started].append(outcome)
        self._batches = list(groups.values())

    async def _write(self, batch: Sequence[Outcome]) -> None:
        worker_id = batch[0].worker_id
        results = [outcome.ended for outcome in batch if outcome.ended is not None]
        if results:
            refused = set(await self._claims.finish(worker_id, results))
        else:
            jobs = [outcome.job for outcome in batch]
            count = await self._claims.give_back(worker_id, jobs, started=batch[0].started)
        # Before anything is told of it: a listener that fails must not have it written again.
        self._batches.pop(0)
        if results:
            self._report(batch, refused)
        elif count:
            self._emit(JobsReturned(count))
        if await self._claims.make_room([outcome.job for outcome in batch]):
            self._retrying(0.0)

    def _report(self, batch: Sequence[Outcome], refused: Collection[JobId]) -> None:
        finished = [
            finished_job(outcome.job, outcome.ended, outcome.seconds)
            for outcome in batch
            if outcome.ended is not None and outcome.job.id not in refused
        ]
        if finished:
            self._emit(JobsFinished(tuple(finished)))
        if refused:
            self._emit(FinishRefused(tuple(sorted(refused))))
        if pauses := [job.retry_in for job in finished if job.retry_in is not None]:
            self._retrying(min(pauses))


def _apart(batch: Sequence[Outcome], error: UnwritableError) -> list[list[Outcome]]:
    """Return an unwritable batch in batches of one; one alone without what it said."""
    if len(batch) > 1:
        return [[outcome] for outcome in batch]
    (outcome,) = batch
    if outcome.ended is None:
        return [[outcome]]
    ended = outcome.ended
    succeeded = ended.state is JobState.SUCCEEDED
    bare = Ended(
        ended.job_id,
        ended.attempt,
        JobState.SUCCEEDED if succeeded else JobState.DEAD,
        storable(f"the {'result' if succeeded else 'outcome'} was not stored: {error}"),
    )
    return [[outcome._replace(ended=bare)]]


def finished_job(job: Job, ended: Ended, seconds: float) -> JobFinished:
    """Return what is told of an attempt that took so long."""
    # By position: named, they would cost as much again.
    return JobFinished(
        job.id,
        job.type,
        job.queue,
        job.attempt,
        ended.outcome,
        seconds,
        job.schedule,
        ended.error.partition("\n")[0] if ended.error else None,
        ended.retry_in,
        job.fire_at,
        trace_id(job.trace),
    )
