"""Putting jobs on the queue: one, many, in a transaction of the caller's or one of our own."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.db.statements import load_statements
from pillars.ground.errors import PillarsError
from pillars.ground.events import JobsEnqueued
from pillars.queue.states import JobId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.ground.events import Emit
    from pillars.queue.retry import RetryPolicy

SQL = load_statements("pillars.queue")
LONGEST_ARGS = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
# A hundred years: longer is a slip of the unit.
_LONGEST_DELAY = 3_155_760_000
_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 0.001, 30 * 86_400
# An escaped NUL, told from an escaped backslash before a u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_LOWEST_PRIORITY, _HIGHEST_PRIORITY = -32_768, 32_767


class JobError(PillarsError):
    """A job cannot be enqueued as it is."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued.

    Attributes:
        type: the name a handler was registered under.
        args: the handler's keyword arguments; JSON.
        queue: workers may serve some queues only.
        priority: lower first, as in `nice`; -32768 to 32767.
        run_at: not before this instant; None is at once.
        delay: not before this many seconds from now, by the database's clock.
        max_attempts: None leaves it to the job type's policy.
        timeout: seconds an attempt may take; None leaves it to the job type.
        retry: a policy for this job alone; None leaves it to the job type.
    """

    type: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    run_at: datetime | None = None
    delay: float | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    retry: RetryPolicy | None = None


async def enqueue(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
    emit: Emit | None = None,
) -> list[JobId]:
    """Insert jobs over the caller's connection, inside its transaction if it has one open.

    The workers are notified once for the batch, on commit. `emit` receives JobsEnqueued; give it
    only where the connection commits by itself, since events report what is committed.

    Raises:
        JobError: a job is not well-formed; none is inserted.
    """
    if not jobs:
        return []
    rows = await fetch(connection, SQL["enqueue"], {"channel": JOBS_CHANNEL, **_columns(jobs)})
    if emit is not None:
        for queue, count in Counter(job.queue for job in jobs).items():
            emit(JobsEnqueued(queue, count))
    return [JobId(row[0]) for row in rows]


def check_job(job: NewJob) -> str:
    """Return the job's args as JSON text.

    Raises:
        JobError: what is wrong and how to mend it.
    """
    for what, value in (("type", job.type), ("queue", job.queue)):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise JobError(
                f"{what} {value!r} is not a name: use letters, digits and _ . : - (up to 128)",
            )
    if not _LOWEST_PRIORITY <= job.priority <= _HIGHEST_PRIORITY:
        raise JobError(f"priority {job.priority} is out of range: -32768 (first) to 32767 (last)")
    if job.max_attempts is not None and not 1 <= job.max_attempts <= _HIGHEST_PRIORITY:
        raise JobError(f"max_attempts {job.max_attempts} is out of range: 1 to 32767")
    if job.timeout is not None and not _SHORTEST_TIMEOUT <= job.timeout <= _LONGEST_TIMEOUT:
        raise JobError(
            f"timeout {job.timeout} is out of range: 0.001 to {_LONGEST_TIMEOUT:,} s, or none",
        )
    if job.run_at is not None and job.run_at.tzinfo is None:
        raise JobError("run_at has no time zone: give an aware datetime")
    if job.delay is not None and job.run_at is not None:
        raise JobError("run_at and delay are both given: a job starts at one time")
    if job.delay is not None and not 0 <= job.delay <= _LONGEST_DELAY:
        raise JobError(f"delay {job.delay} is out of range: 0 to {_LONGEST_DELAY:,} seconds")
    return _encode(job)


def _encode(job: NewJob) -> str:
    try:
        text = json.dumps(dict(job.args), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise JobError(f"args of {job.type!r} are not a JSON object: {error}") from None
    if len(text) > LONGEST_ARGS:
        raise JobError(
            f"args of {job.type!r} take {len(text):,} bytes, the limit is {LONGEST_ARGS:,}: "
            "store the data elsewhere and pass its key",
        )
    if _NUL.search(text):
        raise JobError(f"args of {job.type!r} hold a NUL character, which PostgreSQL cannot store")
    return text


def _columns(jobs: Sequence[NewJob]) -> dict[str, list[Any]]:
    return {
        "args": [check_job(job) for job in jobs],
        "types": [job.type for job in jobs],
        "queues": [job.queue for job in jobs],
        "priorities": [job.priority for job in jobs],
        "run_at": [job.run_at for job in jobs],
        "delays": [job.delay for job in jobs],
        "max_attempts": [
            job.retry.max_attempts if job.retry and not job.max_attempts else job.max_attempts
            for job in jobs
        ],
        "timeouts": [job.timeout for job in jobs],
        "retries": [json.dumps(job.retry.as_dict()) if job.retry else None for job in jobs],
    }
