"""An attempt of a job, as its worker knows it: the job when it is claimed, and how it ended."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.queue.states import JobId, JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# What json.loads calls, without its checks of what PostgreSQL has written.
_decode = json.JSONDecoder().raw_decode
_ARGS = 3


# Tuples: a frozen dataclass of so many fields takes eight times as long to make.
class Job(NamedTuple):
    """A claimed job: one attempt of it is this worker's to make.

    Attributes:
        failures: attempts before this one that ended in failure; lost workers do not count.
        max_attempts, timeout, retry: the job's own policy, `retry` as JSON text; None leaves it to
            the job type.
        start_delay: seconds from `run_at` to the claim, by the database's clock.
        concurrency_key: the key it shares with others, of which so many run at a time.
        trace: W3C `traceparent` of whoever enqueued it.
        refusal: why it ends as cancelled without a start: it expired, or somebody asked for it.
        counted: it starts under the limit of its queue, and its end makes room.
        unreadable: its args cannot be read, as `refusal` says: it ends as dead.
    """

    id: JobId
    type: str
    queue: str
    args: dict[str, Any]
    attempt: int
    failures: int
    priority: int
    max_attempts: int | None
    timeout: float | None
    retry: str | None
    schedule: str | None
    fire_at: datetime | None
    run_at: datetime
    start_delay: float
    concurrency_key: str | None = None
    trace: str | None = None
    refusal: str | None = None
    counted: bool = False
    unreadable: bool = False

    @property
    def started_at(self) -> datetime:
        """When it was claimed, by the database's clock, to a few microseconds.

        Worked out: to read it would cost every job a microsecond, and few are ever asked.
        """
        # In UTC: behind a pooler the session has a time zone of its own, whose clocks may change.
        return self.run_at.astimezone(UTC) + timedelta(seconds=self.start_delay)


class Ended(NamedTuple):
    """How an attempt ended.

    Attributes:
        state: succeeded, failed, dead, cancelled, or available for one that was snoozed, or whose
            type is unknown here.
        error: why; of one that succeeded, why its result is not stored.
        retry_in: seconds until the next attempt; set for failed and available alone.
        result: what the handler returned, as JSON text, if it is to be stored.
        started: whether there was a handler to be called; a job without one may expire yet.
        started_at: the job's; set for available alone, whose number will be used again.
    """

    job_id: JobId
    attempt: int
    state: JobState
    error: str | None = None
    retry_in: float | None = None
    result: str | None = None
    started: bool = True
    started_at: datetime | None = None

    @property
    def outcome(self) -> str:
        """What people call the state: succeeded, failed, dead, cancelled, snoozed or unknown."""
        if not self.started:
            return "unknown"
        return "snoozed" if self.state is JobState.AVAILABLE else self.state.value

    @property
    def is_plain(self) -> bool:
        """Whether it succeeded and there is nothing else to say, as of nearly all."""
        return self.state is JobState.SUCCEEDED and self.result is None and self.error is None


def read_jobs(rows: Sequence[tuple[Any, ...]]) -> list[Job]:
    """Return the jobs that a claim returned; one whose args cannot be read says so."""
    # The claim is committed: what raised here would come back for ever, and the others with it.
    try:
        return [_job(row) for row in rows]
    except (ValueError, RecursionError):
        return [_job_or_what_is_left(row) for row in rows]


def _job_or_what_is_left(row: tuple[Any, ...]) -> Job:
    try:
        return _job(row)
    except (ValueError, RecursionError) as error:
        job = _job((*row[:_ARGS], "{}", *row[_ARGS + 1 :]))
        if job.refusal is not None:
            return job
        return job._replace(refusal=f"its args cannot be read: {error}", unreadable=True)


def _job(row: tuple[Any, ...]) -> Job:
    (job_id, type_, queue, text, attempt, rescues, priority, *rest) = row
    # Text, because the driver's own way to read jsonb costs three times as much; many have no args.
    args = {} if text == "{}" else _decode(text)[0]
    return Job(job_id, type_, queue, args, attempt, attempt - 1 - rescues, priority, *rest)
