"""The claimer: keeps the buffer so full that no slot waits for a round trip, and no fuller."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple

from pillars.ground.events import JobsClaimed, JobsReturned
from pillars.ground.loop import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit
    from pillars.queue.attempt import Job
    from pillars.queue.claims import Claims
    from pillars.queue.lanes import Place
    from pillars.queue.states import JobId

POLL = 0.5
# The shortest pause before a job that is due and was not to be had is looked for again.
FLOOR = 0.004
LARGEST_CLAIM = 1_000
# Jobs are claimed ahead of free slots for this long a stretch of work at the present pace: enough
# to bridge one claim, little enough that a slow job's successors stay with whoever is free.
PREFETCH = 0.05
# A claim whose answer was lost may still commit until the server's own limits have ended it.
LOST_CLAIM = 15.0
_PACE_PERIOD = 0.005


class Claimed(NamedTuple):
    """A job and the worker id it was claimed under."""

    worker_id: UUID
    job: Job


class Claimer:
    """Claims jobs into a buffer that the slots take from; never two claims at once."""

    def __init__(
        self,
        claims: Claims,
        queues: tuple[str, ...],
        *,
        identity: Callable[[], UUID | None],
        free_slots: Callable[[], int],
        held: Callable[[], Iterable[JobId]],
        give_back: Callable[[Iterable[Claimed]], None],
        completed: Callable[[], None],
        emit: Emit,
        clock: Clock,
    ) -> None:
        """Claim over `claims`.

        Args:
            claims: the queue's side; used by this object alone.
            queues: the queues to serve; none named means all.
            identity: the id to claim under; None while there must be no claim.
            free_slots: how many slots have nothing to do.
            held: the claimed jobs that are neither in the buffer nor written as ended.
            give_back: returns jobs that were not started to the queue.
            completed: called after each completed pass.
            emit: receives JobsClaimed, and JobsReturned for jobs of lost claims.
            clock: measures the pace.
        """
        self._claims = claims
        self._queues = queues
        self._identity = identity
        self._free_slots = free_slots
        self._held = held
        self._give_back = give_back
        self._completed = completed
        self._emit = emit
        self._clock = clock
        self._stepper = Stepper("claim", self._step, emit)
        # None tells a slot to end.
        self._buffer: asyncio.Queue[Claimed | None] = asyncio.Queue()
        self._refill_at = 0
        # There may be more to claim than the last claim brought.
        self._more = True
        self._woken = False
        self._fruitless = 0
        self._suspicions: list[float] = []
        self._searched: Sequence[Place] | None = None
        self._done = 0
        self._done_since = self._moved_at = clock.monotonic()
        self._pace = 0.0

    async def run(self) -> None:
        """Claim until stopped."""
        await self._stepper.run()

    async def take(self) -> Claimed | None:
        """Return the next job for a slot; None tells the slot to end."""
        if self._more and self._buffer.qsize() <= self._refill_at:
            self._stepper.wake()
        return await self._buffer.get()

    def job_done(self) -> None:
        """Take note that a slot has got through a job; sets the pace."""
        self._done += 1

    def wake(self) -> None:
        """Look now: jobs were announced, or will soon be due."""
        self._woken = self._more = True
        self._stepper.wake()

    def retry_comes(self, seconds: float) -> None:
        """Take note that a job is due again after `seconds`."""
        # Later ones are found by the poll in good time.
        if seconds <= POLL:
            self.wake()

    def stop(self) -> None:
        """Claim no more once the pass under way has ended."""
        self._stepper.stop()

    def empty(self) -> list[Claimed]:
        """Return what is in the buffer and take it out."""
        entries = [self._buffer.get_nowait() for _ in range(self._buffer.qsize())]
        return [entry for entry in entries if entry is not None]

    def end(self, slots: int) -> None:
        """Let this many slots end, each after what it does."""
        for _ in range(slots):
            self._buffer.put_nowait(None)

    async def _step(self) -> float:
        """Make one pass; return the seconds until the next."""
        worker_id = self._identity()
        if worker_id is None:
            return _jittered(POLL)
        self._woken = False
        wanted = self._wanted()
        if wanted > 0:
            delay = await self._claim(worker_id, wanted)
        else:
            self._more, delay = True, POLL
            self._give_back_what_waits()
        self._completed()
        if await self._recover_lost_claims(worker_id):
            return 0.0
        return min(delay, _jittered(POLL))

    def _wanted(self) -> int:
        ahead = int(self._jobs_per_second() * PREFETCH)
        self._refill_at = ahead // 2
        return min(LARGEST_CLAIM, self._free_slots() + ahead - self._buffer.qsize())

    def _jobs_per_second(self) -> float:
        """Return the pace of late: quick to rise, slow to fall."""
        now = self._clock.monotonic()
        elapsed = now - self._done_since
        if elapsed >= _PACE_PERIOD:
            if self._done:
                self._moved_at = now
            self._pace = max(self._done / elapsed, self._pace / 2)
            self._done, self._done_since = 0, now
        return self._pace

    def _give_back_what_waits(self) -> None:
        """Let others have the buffer when slow jobs came after fast ones and nothing moves."""
        if self._buffer.qsize() and self._clock.monotonic() - self._moved_at >= POLL:
            self._pace = 0.0
            self._give_back(self.empty())

    async def _claim(self, worker_id: UUID, wanted: int) -> float:
        try:
            jobs = await self._claims.claim(worker_id, self._queues, wanted)
        except BaseException:
            now = self._clock.monotonic()
            self._suspicions, self._searched = [now, now + LOST_CLAIM], None
            raise
        for job in jobs:
            self._buffer.put_nowait(Claimed(worker_id, job))
        if jobs:
            delays = tuple([(job.queue, job.start_delay) for job in jobs])
            self._emit(JobsClaimed(len(jobs), delays))
        self._more = self._woken or len(jobs) == wanted
        if self._woken:
            return 0.0
        if self._more:
            # The slots call for more as they get through these.
            return POLL
        return await self._until_next_due(found=bool(jobs))

    async def _until_next_due(self, *, found: bool) -> float:
        due = await self._claims.next_due(self._queues)
        if due is None:
            return POLL
        if due > 0 or found:
            self._fruitless = 0
            return max(due, 0.0)
        # Due and yet not to be had: others hold it, or we were expelled and do not know yet.
        pause = FLOOR * 2.0 ** min(self._fruitless, 9)
        self._fruitless += 1
        return pause

    async def _recover_lost_claims(self, worker_id: UUID) -> bool:
        """Give back what a claim took whose answer never came: by the table we run it.

        A page at a time, after a claim each; tells whether to go on at once.
        """
        began = self._clock.monotonic()
        if not self._suspicions or began < self._suspicions[0]:
            return False
        try:
            count, places = await self._claims.give_back_others(
                worker_id, self._known(), self._searched
            )
        except Exception:
            # It may take too long each time; claims go on meanwhile.
            now = self._clock.monotonic()
            self._suspicions[0] = now + 2 * (now - began)
            raise
        self._searched = places or None
        if not places:
            self._suspicions.pop(0)
        if count:
            self._emit(JobsReturned(count))
        return bool(places) or count > 0

    def _known(self) -> list[JobId]:
        # The queue's entries cannot be looked at; one turn of it leaves them as they were.
        buffered = self.empty()
        for entry in buffered:
            self._buffer.put_nowait(entry)
        return [*(entry.job.id for entry in buffered), *self._held()]


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter is no secret
