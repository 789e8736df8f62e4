"""What a handler can see of its own job, and how it can say more than "failed"."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pillars.ground.errors import PillarsError
from pillars.queue.trace import trace_id

if TYPE_CHECKING:
    from datetime import datetime

    from pillars.queue.attempt import Job
    from pillars.queue.states import JobId

LOGGER = logging.getLogger("pillars.job")
# A pause may come from anywhere; PostgreSQL must be able to add it to an instant.
LONGEST_PAUSE = 366 * 86_400.0


class NotInJobError(PillarsError):
    """current_job() was called outside of a job."""


class PermanentError(PillarsError):
    """This job can never succeed: it becomes dead at once, without further attempts."""


class Discard(PillarsError):  # noqa: N818 - `raise Discard("...")` is an order, not an error
    """This job is of no use any more: it ends as cancelled."""


class Snooze(PillarsError):  # noqa: N818 - as above
    """Not now: the job is tried again after `seconds`, and this attempt does not count."""

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        """Say for how long, and why, which is kept as the job's `error` meanwhile.

        Raises:
            ValueError: `seconds` is not a number from 0 to LONGEST_PAUSE.
        """
        if not 0 <= seconds <= LONGEST_PAUSE:
            raise ValueError(
                f"a snooze of {seconds} s is out of range: 0 to {LONGEST_PAUSE:,.0f} s"
            )
        super().__init__(reason or f"snoozed for {seconds:g} s")
        # As all pauses: a batch of ints and floats is no array to the driver.
        self.seconds = float(seconds)
        self.reason = reason


class JobContext:
    """The attempt under way; `id` stays the same over all attempts: it is the idempotency key.

    Made for each job, so it copies nothing and makes what is rarely asked for on demand.
    """

    __slots__ = ("_cancelled", "_is_cancelled", "_job")

    def __init__(self, job: Job) -> None:
        """Show this job."""
        self._job = job
        self._is_cancelled = False
        self._cancelled: threading.Event | None = None

    @property
    def id(self) -> JobId:
        """The job's id."""
        return self._job.id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; those lost with their workers are counted too."""
        return self._job.attempt

    @property
    def type(self) -> str:
        """The job type."""
        return self._job.type

    @property
    def queue(self) -> str:
        """The queue the job came from."""
        return self._job.queue

    @property
    def schedule(self) -> str | None:
        """The name of the schedule that made this job, None when none did."""
        return self._job.schedule

    @property
    def fire_at(self) -> datetime | None:
        """The tick this job is for; None when no schedule made it."""
        return self._job.fire_at

    @property
    def trace(self) -> str | None:
        """W3C `traceparent` of whoever enqueued the job; None when that was no part of a trace."""
        return self._job.trace

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger `pillars.job`, whose records carry `log_fields`."""
        return logging.LoggerAdapter(LOGGER, self.log_fields)

    @property
    def log_fields(self) -> dict[str, Any]:
        """What identifies the attempt in a log record, by attribute."""
        job = self._job
        return {
            "job_id": job.id,
            "job_type": job.type,
            "queue": job.queue,
            "attempt": job.attempt,
            "schedule": job.schedule,
            "fire_at": job.fire_at,
            "trace_id": trace_id(job.trace),
        }

    @property
    def cancelled(self) -> threading.Event:
        """Set once the result is wanted no more (timeout, cancel, shutdown); for threads.

        A thread cannot be stopped from outside: a long plain function should look at this now and
        then. An `async` handler is cancelled where it awaits and needs it only for its own threads.
        """
        with _lock:
            if self._cancelled is None:
                self._cancelled = threading.Event()
        # Looked at after the event is in place: cancel() goes the other way round, so one of both
        # sees the other.
        if self._is_cancelled:
            self._cancelled.set()
        return self._cancelled

    def cancel(self) -> None:
        """Tell the handler that its result is wanted no more."""
        self._is_cancelled = True
        if self._cancelled is not None:
            self._cancelled.set()


_lock = threading.Lock()
_current: ContextVar[JobContext] = ContextVar("pillars_job")
enter_job = _current.set


def running_job() -> JobContext | None:
    """Return the job this code runs for, None when it runs for none."""
    return _current.get(None)


def current_job() -> JobContext:
    """Return the job this code runs for; works in async handlers, their tasks, and in threads.

    Raises:
        NotInJobError: this code does not run for a job.
    """
    try:
        return _current.get()
    except LookupError:
        raise NotInJobError from None
