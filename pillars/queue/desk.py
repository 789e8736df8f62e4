"""What people and dashboards ask of the queue: look, try again, cancel, count."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pillars.db.notify import JOBS_CHANNEL
from pillars.ground.errors import PillarsError
from pillars.queue.jobs import SQL
from pillars.queue.lanes import DEPTH
from pillars.queue.limits import QueueLimits, format_rate, list_limits
from pillars.queue.states import JobState

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pillars.db.database import Database

# Jobs of one queue and priority beyond this are not counted: counting millions each few seconds
# helps nobody, and the age of the oldest says more. With more lanes than share the total between
# them each is counted to less.
DEPTH_LIMIT, DEPTH_TOTAL = 10_000, 200_000
# Bytes of JSON text.
LONGEST_IN_LIST = 8_192
_NEWEST = 1_000
# A unique key can be taken again as soon as it is let go.
_TRIES = 5


class JobNotFoundError(PillarsError):
    """No such job."""


class JobStateError(PillarsError):
    """The job is not in a state that allows this."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands in the table; in lists long `args` and `result` are None."""

    id: int
    type: str
    state: str
    queue: str
    priority: int
    args: dict[str, Any] | None
    attempt: int
    max_attempts: int | None
    schedule: str | None
    fire_at: datetime | None
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: UUID | None
    error: str | None
    reason: str | None
    ticks: int | None
    fire_until: datetime | None
    timeout: float | None
    gate: str
    unique_key: str | None
    concurrency_key: str | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    result: Any
    trace: str | None


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Unfinished jobs of a queue; `oldest` is the age in seconds of the oldest that waits."""

    queue: str
    available: int
    running: int
    failed: int
    scheduled: int
    oldest: float


@dataclass(frozen=True, slots=True)
class QueueRecord(QueueDepth):
    """A queue that holds unfinished jobs, is limited or is paused; limits as in QueueLimits."""

    concurrency: int | None
    rate: float | None
    burst: int | None
    paused_at: datetime | None

    def limits_in_words(self) -> str:
        """Return as people say it: `paused`, `5 at a time, 10/s`; empty without limits."""
        words = []
        if self.paused_at is not None:
            words.append("paused")
        if self.concurrency is not None:
            words.append(f"{self.concurrency:,} at a time")
        if self.rate is not None:
            words.append(format_rate(self.rate))
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the newest ticks' jobs were written: of `ticks` many, in seconds."""

    ticks: int
    p50: float
    p99: float
    longest: float


async def list_jobs(
    database: Database,
    *,
    state: JobState | None = None,
    type: str | None = None,  # noqa: A002 - the column's name is the clearest
    queue: str | None = None,
    schedule: str | None = None,
    before: int | None = None,
    limit: int = 50,
    longest: int | None = LONGEST_IN_LIST,
) -> list[JobRecord]:
    """Return jobs, newest first; `before` is the id to go on from.

    Args and results of over `longest` bytes are left out, None of any: `show_job` has them.
    """
    rows = await database.fetch(
        SQL["list_jobs"],
        {
            "state": state.value if state else None,
            "type": type,
            "queue": queue,
            "schedule": schedule,
            "before": before,
            "limit": limit,
            "longest": longest,
        },
    )
    return [JobRecord(*row) for row in rows]


async def recent_lateness(database: Database) -> Lateness:
    """Return how late the jobs of schedules among the newest thousand jobs were written."""
    (row,) = await database.fetch(SQL["recent_lateness"], {"limit": _NEWEST})
    return Lateness(*row)


async def show_job(database: Database, job_id: int) -> JobRecord:
    """Return one job.

    Raises:
        JobNotFoundError: there is none with this id.
    """
    rows = await database.fetch(SQL["show_job"], {"id": job_id})
    if not rows:
        raise JobNotFoundError(f"there is no job {job_id}")
    return JobRecord(*rows[0])


async def retry_job(database: Database, job_id: int) -> None:
    """Make a dead, cancelled or failed job available at once; it gets one more attempt at least.

    That attempt may be its last: neither its failures nor the workers it was lost with are
    forgotten.

    Raises:
        JobNotFoundError: there is none with this id.
        JobStateError: it waits, runs or ended well, or another job holds its unique key.
    """
    for _ in range(_TRIES):
        with suppress(psycopg.errors.UniqueViolation):
            await _change(database, "retry_job", {"id": job_id}, "retried")
            return
        job = await show_job(database, job_id)
        # Where nobody holds it any more it was let go of just now.
        if await database.fetch(SQL["holders_of_keys"], {"keys": [job.unique_key]}):
            break
    raise JobStateError(
        f"job {job.id} cannot be retried: another job holds its unique key {job.unique_key!r}",
    )


async def retry_jobs(
    database: Database,
    *,
    state: JobState,
    type: str | None = None,  # noqa: A002 - the column's name is the clearest
    queue: str | None = None,
    limit: int,
) -> tuple[int, int]:
    """Retry the newest `limit` jobs of a state, each on its own.

    Returns how many were retried, and how many could not be: others hold their unique keys, or they
    changed meanwhile.
    """
    retried = left = 0
    for job in await list_jobs(database, state=state, type=type, queue=queue, limit=limit):
        try:
            await retry_job(database, job.id)
        except (JobStateError, JobNotFoundError):
            left += 1
        else:
            retried += 1
    return retried, left


async def cancel_job(database: Database, job_id: int, reason: str) -> JobState:
    """Cancel a job that waits, or ask the worker of one that runs to stop it.

    Returns `cancelled`, or `running` where the worker was asked: an async handler is cancelled
    where it awaits, a plain function when it looks at `current_job().cancelled`.

    Raises:
        JobNotFoundError: there is none with this id.
        JobStateError: it has ended.
    """
    params = {"id": job_id, "reason": reason, "channel": JOBS_CHANNEL}
    return JobState(await _change(database, "cancel_job", params, "cancelled"))


async def depths(database: Database) -> list[QueueDepth]:
    """Return the depth of each queue that holds unfinished jobs, in order of name."""
    rows = await database.fetch(DEPTH, {"limit": DEPTH_LIMIT, "total": DEPTH_TOTAL})
    return [QueueDepth(*row) for row in rows]


async def list_queues(database: Database) -> list[QueueRecord]:
    """Return every queue that holds unfinished jobs, is limited or is paused, in order of name."""
    depth_of = {depth.queue: depth for depth in await depths(database)}
    limits_of = {limits.name: limits for limits in await list_limits(database)}
    return [
        _record(depth_of.get(name) or _empty(name), limits_of.get(name) or QueueLimits(name))
        for name in sorted({*depth_of, *limits_of})
    ]


async def show_queue(database: Database, name: str) -> QueueRecord:
    """Return one queue; one that nobody knows is empty and has no limits."""
    for record in await list_queues(database):
        if record.queue == name:
            return record
    return _record(_empty(name), QueueLimits(name))


def _empty(name: str) -> QueueDepth:
    return QueueDepth(name, available=0, running=0, failed=0, scheduled=0, oldest=0.0)


def _record(depth: QueueDepth, limits: QueueLimits) -> QueueRecord:
    return QueueRecord(
        **asdict(depth),
        concurrency=limits.concurrency,
        rate=limits.rate,
        burst=limits.burst if limits.rate is not None else None,
        paused_at=limits.paused_at,
    )


async def _change(database: Database, statement: str, params: dict[str, Any], verb: str) -> Any:  # noqa: ANN401 - the first column
    rows = await database.fetch(SQL[statement], params)
    if rows:
        return rows[0][0]
    job = await show_job(database, params["id"])
    raise JobStateError(f"job {job.id} is {job.state}: it cannot be {verb}")
