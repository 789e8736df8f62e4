"""The worker: one claimer feeds all slots; the package's docstring tells the whole protocol."""

from __future__ import annotations

import asyncio
import random
from contextvars import copy_context
from typing import TYPE_CHECKING

from pillars.ground.events import JobsClaimed, JobsReturned, SlotsUsed
from pillars.ground.loop import Stepper
from pillars.queue.claims import Claims
from pillars.worker.attempts import Attempts
from pillars.worker.finisher import Finisher, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from uuid import UUID

    from pillars.db.database import Database
    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit
    from pillars.queue.claims import Ended, Job
    from pillars.queue.states import JobId
    from pillars.worker.registry import Registry

POLL = 0.5
# The shortest pause before a job that is due in a moment is looked for again.
FLOOR = 0.002
LARGEST_CLAIM = 1_000
# Jobs are claimed ahead of free slots for this long a stretch of work at the present pace: enough
# to bridge one claim, little enough that a slow job's successors stay with whoever is free.
PREFETCH = 0.05
# A handler that kept the loop this long lets heartbeats and the other slots have their turn.
YIELD_AFTER = 0.001
# After the deadline of a stop: how long cancelled handlers may take, then the last write.
CUT_GRACE = 2.0
WRITE_GRACE = 5.0
# A claim whose answer was lost may still commit until the server's own limits have ended it.
LOST_CLAIM = 15.0
_PACE_PERIOD = 0.005


class Worker:
    """Claims jobs and runs up to `concurrency` of them at once."""

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        identity: Callable[[], UUID | None],
        progressed: Callable[[], None],
        queues: tuple[str, ...],
        concurrency: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        """Put the parts together; nothing runs yet.

        Args:
            database: where the queue is; two links of it are used.
            registry: the handlers.
            identity: this worker's member id; None while it is no member and must not claim.
            progressed: called after each completed pass of the claimer.
            queues: the queues to serve; none named means all.
            concurrency: how many jobs run at once.
            emit: receives what happened.
            clock: measures durations; gives tests the database's time.
        """
        self._identity = identity
        self._progressed = progressed
        self._queues = queues
        self._concurrency = concurrency
        self._emit = emit
        self._clock = clock
        self._claims = Claims(database.link("claim"), clock)
        self._finisher = Finisher(
            Claims(database.link("finish"), clock),
            emit,
            clock,
            self._retry_comes,
        )
        self._attempts = Attempts(registry, concurrency)
        self._claimer = Stepper("claim", self._claim, emit)
        # None, one for each slot, ends the slots.
        self._buffer: asyncio.Queue[tuple[UUID, Job] | None] = asyncio.Queue()
        # What each slot runs; a slot whose thread outlived its timeout is busy and runs nothing.
        self._running: list[tuple[UUID, Job] | None] = [None] * concurrency
        self._busy = 0
        self._pace = _Pace(clock)
        self._more = True
        self._woken = False
        self._fruitless = 0
        self._refill_at = 0
        self._suspicions: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._slots_closed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._fault: BaseException | None = None

    async def run(self) -> None:
        """Work until `stop` was called and everything is put away.

        Raises:
            Exception: a fault of Pillars itself, never of a handler.
        """
        self._context = copy_context()
        # The current job is the one variable a slot's own context has in addition.
        self._clean = len(self._context) + 1
        self._claiming = self._spawn(self._claimer.run())
        self._spawn(self._finisher.run())
        for number in range(self._concurrency):
            self._open_slot(number)
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            await self._put_away()
        if self._fault is not None:
            raise self._fault

    def wake(self) -> None:
        """Look for jobs now: some were announced."""
        self._woken = self._more = True
        self._claimer.wake()

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - the time others are given
        """Claim no more, give back what is not started, let the rest finish; then return.

        Jobs that still run after `timeout` seconds are cancelled and given back: it is not their
        fault, so the attempt does not count. A second call may shorten the first one's timeout.
        """
        self._stopping.set()
        self._claimer.stop()
        later = asyncio.get_running_loop().call_later
        deadlines = (
            later(timeout, self._cut_short),
            later(timeout + CUT_GRACE, self._slots_closed.set),
            later(timeout + CUT_GRACE + WRITE_GRACE, self._finisher.abandon),
        )
        try:
            await self._stopped.wait()
        finally:
            for deadline in deadlines:
                deadline.cancel()

    # ---- claiming

    async def _claim(self) -> float:
        """Make one pass; return the seconds until the next."""
        worker_id = self._identity()
        if worker_id is None:
            return _jittered(POLL)
        self._woken = False
        await self._recover_lost_claims(worker_id)
        wanted = self._wanted()
        if wanted > 0:
            delay = await self._claim_up_to(wanted, worker_id)
        else:
            self._more = True
            delay = POLL
        self._emit(SlotsUsed(self._busy, self._concurrency - self._busy))
        self._progressed()
        return 0.0 if self._woken and wanted > 0 else min(delay, _jittered(POLL))

    def _wanted(self) -> int:
        ahead = int(self._pace.per_second() * PREFETCH)
        self._refill_at = ahead // 2
        free = self._concurrency - self._busy
        return min(LARGEST_CLAIM, free + ahead - self._buffer.qsize())

    async def _claim_up_to(self, wanted: int, worker_id: UUID) -> float:
        try:
            jobs = await self._claims.claim(worker_id, self._queues, wanted)
        except BaseException:
            now = self._clock.monotonic()
            self._suspicions = [now, now + LOST_CLAIM]
            raise
        self._more = len(jobs) == wanted
        if jobs:
            for job in jobs:
                self._buffer.put_nowait((worker_id, job))
            delays = tuple((job.queue, job.start_delay) for job in jobs)
            self._emit(JobsClaimed(len(jobs), delays))
        if self._more or self._woken:
            # Slots call for more as they get through these.
            return POLL
        return await self._until_next_due(found=bool(jobs))

    async def _until_next_due(self, *, found: bool) -> float:
        due = await self._claims.next_due(self._queues)
        if due is None:
            return POLL
        # Due and yet not to be had: others hold it, or we were expelled and do not know yet.
        self._fruitless = self._fruitless + 1 if due <= 0 and not found else 0
        return max(due, FLOOR * 2.0 ** min(self._fruitless, 10))

    async def _recover_lost_claims(self, worker_id: UUID) -> None:
        """Give back what a claim took whose answer never came: the database thinks we run it."""
        if not self._suspicions or self._clock.monotonic() < self._suspicions[0]:
            return
        count = await self._claims.give_back_others(worker_id, self._held())
        self._suspicions.pop(0)
        if count:
            self._emit(JobsReturned(count))

    def _held(self) -> list[JobId]:
        # The queue has no way to look at its entries; a turn of it leaves them as they were.
        buffered = [self._buffer.get_nowait() for _ in range(self._buffer.qsize())]
        for entry in buffered:
            self._buffer.put_nowait(entry)
        return [
            *(entry[1].id for entry in (*buffered, *self._running) if entry is not None),
            *(outcome.job.id for outcome in self._finisher.held()),
        ]

    def _retry_comes(self, seconds: float) -> None:
        # Later ones are found by the poll in good time.
        if seconds <= POLL:
            self.wake()

    # ---- slots

    async def _slot(self, number: int) -> None:
        """Run jobs one after the other, until told to end or until a job left its mark."""
        while True:
            await self._finisher.room()
            if self._more and self._buffer.qsize() <= self._refill_at:
                self._claimer.wake()
            entry = await self._buffer.get()
            if entry is None:
                return
            self._busy += 1
            self._running[number] = entry
            try:
                await self._run(number, *entry)
            finally:
                self._busy -= 1
                self._pace.done += 1
            if self._is_marked():
                self._open_slot(number)
                return

    async def _run(self, number: int, worker_id: UUID, job: Job) -> None:
        ended, thread = None, None
        began = self._clock.monotonic()
        # Expelled since the claim? Then others have the job, or will once it is given back.
        if worker_id is self._identity():
            try:
                ended, thread = await self._attempts.run(job)
            except asyncio.CancelledError:
                self._finish(number, ended, 0.0)
                raise
        seconds = self._clock.monotonic() - began
        self._finish(number, ended, seconds)
        if thread is not None:
            await asyncio.wait((thread,))
        elif seconds > YIELD_AFTER:
            await asyncio.sleep(0)

    def _finish(self, number: int, ended: Ended | None, seconds: float) -> None:
        entry, self._running[number] = self._running[number], None
        if entry is not None:
            self._finisher.put(Outcome(*entry, ended, seconds))

    def _is_marked(self) -> bool:
        """Tell whether the job left context variables or a cancellation to the slot's next jobs."""
        task = asyncio.current_task()
        return len(copy_context()) > self._clean or (task is not None and task.cancelling() > 0)

    def _open_slot(self, number: int) -> None:
        # A copy of the context run() was called in, not of the one the last job has left.
        slot = self._spawn(self._slot(number), self._context.copy())
        self._slots.add(slot)
        slot.add_done_callback(self._slot_closed)

    def _slot_closed(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        if not self._slots:
            self._slots_closed.set()

    # ---- stopping

    async def _drain(self) -> None:
        await asyncio.wait((self._claiming,))
        while not self._buffer.empty():
            entry = self._buffer.get_nowait()
            if entry is not None:
                self._finisher.put(Outcome(*entry, None, 0.0))
        for _ in range(self._concurrency):
            self._buffer.put_nowait(None)
        await self._slots_closed.wait()
        # Still there: handlers that ignore their cancellation. Their jobs are for others now.
        for number in range(self._concurrency):
            self._finish(number, None, 0.0)
        await self._finisher.drain()

    def _cut_short(self) -> None:
        self._attempts.cutting = True
        for task in (self._claiming, *self._slots):
            task.cancel()

    async def _put_away(self) -> None:
        self._attempts.cutting = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CUT_GRACE)
        self._attempts.close()
        self._stopped.set()

    def _spawn(
        self,
        work: Coroutine[None, None, None],
        context: Context | None = None,
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = error
            self._stopping.set()


class _Pace:
    """Jobs done per second, lately: quick to rise, slow to fall."""

    def __init__(self, clock: Clock) -> None:
        self.done = 0
        self._clock = clock
        self._since = clock.monotonic()
        self._rate = 0.0

    def per_second(self) -> float:
        now = self._clock.monotonic()
        elapsed = now - self._since
        if elapsed >= _PACE_PERIOD:
            self._rate = max(self.done / elapsed, self._rate / 2)
            self.done, self._since = 0, now
        return self._rate


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter is no secret
