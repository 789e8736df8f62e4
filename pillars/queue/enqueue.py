"""Putting jobs on the queue: one, many, in a transaction of the caller's or one of our own."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.ground.events import JobsEnqueued
from pillars.queue.jobs import SQL, JobError, NewJob, check_job, queue_of
from pillars.queue.states import JobId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from psycopg import AsyncConnection

    from pillars.ground.events import Emit

# A unique key can be let go between the refusal and the question who holds it; then once more.
_TRIES = 5


async def enqueue(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
    emit: Emit | None = None,
) -> list[JobId]:
    """Insert jobs over the caller's connection, inside its transaction if it has one open.

    All or none. Returns their ids in order; for a job whose unique key is taken, the id of the one
    that holds it. The workers are notified once for the batch, on commit. `emit` receives
    JobsEnqueued; give it only where the connection commits by itself, since events report what is
    committed.

    Raises:
        JobError: a job is not well-formed; none is inserted.
    """
    if not jobs:
        return []
    columns = _columns(jobs)
    if not any(_is_special(job) for job in jobs):
        rows = await fetch(connection, SQL["enqueue"], columns)
        ids = [JobId(row[0]) for row in rows]
        inserted: Sequence[NewJob] = jobs
    else:
        async with _one_transaction(connection, jobs):
            ids, inserted = await _enqueue_special(connection, jobs)
    if emit is not None:
        for queue, count in Counter(map(queue_of, inserted)).items():
            emit(JobsEnqueued(queue, count))
    return ids


async def _enqueue_special(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
) -> tuple[list[JobId], list[NewJob]]:
    ids: dict[int, JobId] = {}
    inserted: list[NewJob] = []
    waiting = list(range(len(jobs)))
    for _ in range(_TRIES):
        batch = [jobs[place] for place in waiting]
        params = _columns(batch) | _special_columns(batch)
        for place, job_id, _ in await fetch(connection, SQL["enqueue_special"], params):
            ids[waiting[place - 1]] = JobId(job_id)
            inserted.append(batch[place - 1])
        waiting = [place for place in waiting if place not in ids]
        if waiting:
            keys = [jobs[place].unique_key for place in waiting]
            holders = dict(await fetch(connection, SQL["holders_of_keys"], {"keys": keys}))
            ids |= {
                place: JobId(holders[key])
                for place, key in zip(waiting, keys, strict=True)
                if key in holders
            }
            waiting = [place for place in waiting if place not in ids]
        if not waiting:
            return [ids[place] for place in range(len(jobs))], inserted
    raise JobError(f"unique_key {jobs[waiting[0]].unique_key!r} is taken and let go all the time")


@asynccontextmanager
async def _one_transaction(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
) -> AsyncIterator[None]:
    # One job is one statement in nearly all cases, and a repeat of it loses nothing.
    if len(jobs) == 1:
        yield
        return
    async with connection.transaction():
        yield


def _is_special(job: NewJob) -> bool:
    return not (
        job.unique_key is None
        and job.concurrency_key is None
        and job.expires_in is None
        and job.trace is None
    )


def _columns(jobs: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "channel": JOBS_CHANNEL,
        "args": [check_job(job) for job in jobs],
        "types": [job.type for job in jobs],
        "queues": [queue_of(job) for job in jobs],
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


def _special_columns(jobs: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "unique_keys": [job.unique_key for job in jobs],
        "unique_for": [job.unique_for for job in jobs],
        "concurrency_keys": [job.concurrency_key for job in jobs],
        "concurrency_limits": [
            job.concurrency_limit or 1 if job.concurrency_key is not None else None for job in jobs
        ],
        "expires_in": [job.expires_in for job in jobs],
        "traces": [job.trace for job in jobs],
    }
