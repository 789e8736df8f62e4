"""The worker: its slots, and how it stops; the package's docstring tells the whole protocol."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from pillars.db.notify import CANCEL
from pillars.ground.events import JobStopping, SlotsUsed
from pillars.queue.claims import Claims
from pillars.worker.attempts import Attempts
from pillars.worker.canceller import Canceller
from pillars.worker.claimer import Claimed, Claimer
from pillars.worker.finisher import Finisher, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from contextvars import Context
    from uuid import UUID

    from pillars.db.database import Database
    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit
    from pillars.queue.attempt import Ended
    from pillars.queue.states import JobId
    from pillars.worker.attempts import Tracing
    from pillars.worker.canceller import AttemptKey
    from pillars.worker.registry import Registry

# A handler that kept the loop this long lets heartbeats and the other slots have their turn.
YIELD_AFTER = 0.001
# After the deadline of a stop: how long cancelled handlers may take, then the last writes, and then
# whatever still runs.
CUT_GRACE = 1.2
WRITE_GRACE = 0.8
END_GRACE = 0.5


class Worker:
    """Runs up to `concurrency` jobs at once until it is stopped."""

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
        tracing: Tracing | None = None,
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
            tracing: follows each attempt, where somebody wants that.
        """
        self._identity = identity
        self._progressed = progressed
        self._concurrency = concurrency
        self._emit = emit
        self._clock = clock
        claims = Claims(database.link("claim"), clock)
        self._claimer = Claimer(
            claims,
            queues,
            identity=identity,
            free_slots=lambda: self._concurrency - self._busy,
            held=self._held,
            give_back=self._give_back,
            completed=self._pass_completed,
            emit=emit,
            clock=clock,
        )
        self._finisher = Finisher(
            Claims(database.link("finish"), clock),
            emit,
            retrying=self._claimer.retry_comes,
        )
        # Over the claimer's link, which has little to do while jobs run that are worth a stop.
        self._canceller = Canceller(
            claims,
            identity=identity,
            busy=lambda: self._busy > 0,
            stop=self._stop_attempts,
            emit=emit,
        )
        self._attempts = Attempts(registry, concurrency, self._canceller.refusal, tracing)
        self._attempt = tracing.follow(self._attempts.run) if tracing else self._attempts.run
        # What each slot runs; a slot whose thread outlived its timeout is busy and runs nothing.
        self._running: list[Claimed | None] = [None] * concurrency
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[int, asyncio.Task[None]] = {}
        self._claiming: asyncio.Task[None] | None = None
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
        self._spawn(self._canceller.run())
        for number in range(self._concurrency):
            self._open_slot(number)
        try:
            await self._stopping.wait()
            if self._fault is None:
                await self._drain(self._claiming)
        finally:
            await self._put_away()
        if self._fault is not None:
            raise self._fault

    def wake(self) -> None:
        """Look for jobs now: some were announced."""
        self._claimer.wake()

    def notified(self, payload: str) -> None:
        """Look now for what a notification on JOBS_CHANNEL tells of."""
        if payload == CANCEL:
            self._canceller.wake()
        else:
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

    # ---- slots

    def _open_slot(self, number: int) -> None:
        # A copy of the context run() was called in, not of the one the last job has left.
        slot = self._spawn(self._slot(number), self._context.copy())
        self._slots[number] = slot
        slot.add_done_callback(partial(self._slot_closed, number))

    async def _slot(self, number: int) -> None:
        """Run jobs one after the other, until told to end or until a job left its mark."""
        task = asyncio.current_task()
        while True:
            await self._finisher.room()
            claimed = await self._claimer.take()
            if claimed is None:
                return
            self._busy += 1
            self._running[number] = claimed
            try:
                await self._run(number, claimed)
            finally:
                self._busy -= 1
                self._claimer.job_done()
            # Variables or a cancellation left behind are not for the next job to inherit.
            if len(copy_context()) > self._clean or (task and task.cancelling()):
                self._open_slot(number)
                return

    async def _run(self, number: int, claimed: Claimed) -> None:
        ended, thread = None, None
        began = self._clock.monotonic()
        # Expelled since the claim? Then others have the job, or will once it is given back.
        if claimed.worker_id == self._identity():
            try:
                ended, thread = await self._attempt(claimed.job)
            except asyncio.CancelledError:
                self._finish(number, None, 0.0)
                raise
        seconds = self._clock.monotonic() - began
        self._finish(number, ended, seconds)
        if thread is not None:
            await asyncio.wait((thread,))
        elif seconds > YIELD_AFTER:
            await asyncio.sleep(0)

    def _finish(self, number: int, ended: Ended | None, seconds: float) -> None:
        claimed, self._running[number] = self._running[number], None
        if claimed is not None:
            self._finisher.put(Outcome(claimed.worker_id, claimed.job, ended, seconds))

    def _slot_closed(self, number: int, slot: asyncio.Task[None]) -> None:
        if self._slots.get(number) is slot:
            del self._slots[number]
        if not self._slots:
            self._slots_closed.set()

    def _stop_attempts(self, requests: Mapping[AttemptKey, str]) -> None:
        for number, claimed in enumerate(self._running):
            if claimed is None or claimed.worker_id != self._identity():
                continue
            job = claimed.job
            if (reason := requests.get((job.id, job.attempt))) is not None:
                self._emit(JobStopping(job.id, job.type, reason))
                self._slots[number].cancel()

    def _held(self) -> Iterator[JobId]:
        yield from (claimed.job.id for claimed in self._running if claimed is not None)
        yield from (outcome.job.id for outcome in self._finisher.held())

    def _give_back(self, entries: Iterable[Claimed]) -> None:
        for claimed in entries:
            self._finisher.put(Outcome(claimed.worker_id, claimed.job, None, 0.0, started=False))

    def _pass_completed(self) -> None:
        self._emit(SlotsUsed(self._busy, self._concurrency - self._busy))
        self._progressed()

    # ---- stopping

    async def _drain(self, claiming: asyncio.Task[None]) -> None:
        closed = asyncio.create_task(self._slots_closed.wait())
        # A claim that is not answered must not keep what has ended from being written.
        await asyncio.wait((claiming, closed), return_when=asyncio.FIRST_COMPLETED)
        closed.cancel()
        self._give_back(self._claimer.empty())
        self._claimer.end(self._concurrency)
        await self._slots_closed.wait()
        # Still there: handlers that ignore their cancellation. Their jobs are for others now.
        for number in range(self._concurrency):
            self._finish(number, None, 0.0)
        await self._finisher.drain()

    def _cut_short(self) -> None:
        self._attempts.cutting = True
        for task in (self._claiming, *self._slots.values()):
            if task is not None:
                task.cancel()

    async def _put_away(self) -> None:
        self._attempts.cutting = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_GRACE)
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
