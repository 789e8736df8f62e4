"""How jobs become rows: which statements, with which columns, and what their answers mean.

Written as a generator that asks for statements and is sent their rows, so that it is the same for
connections that are awaited and for those that block.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pillars.db.arrays import text_array
from pillars.db.notify import JOBS_CHANNEL
from pillars.queue.jobs import DEFAULT_QUEUE, SQL, JobError, NewJob, check_job, check_jobs, queue_of
from pillars.queue.states import JobId

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pillars.db.statements import Statement

# A unique key can be let go between the refusal and the question who holds it; then once more.
_TRIES = 5


class Request(NamedTuple):
    """A statement to be run now."""

    statement: Statement
    params: dict[str, Any]


class Placed(NamedTuple):
    """What became of a batch.

    Attributes:
        ids: in order; of a job whose unique key was taken, the id of the one that holds it.
        inserted: the jobs that are new.
        soon: whether a worker could start one within a second.
    """

    ids: list[JobId]
    inserted: Sequence[NewJob]
    soon: bool


Placing: TypeAlias = "Generator[Request, Sequence[tuple[Any, ...]], Placed]"


def place(jobs: Sequence[NewJob], *, wake: bool) -> Placing:
    """Insert jobs; `wake` notifies the workers with the commit if there is work for them.

    Raises:
        JobError: a job is not well-formed; nothing was asked for.
    """
    common = {"channel": JOBS_CHANNEL, "wake": wake}
    if any(map(_is_special, jobs)):
        return (yield from _place_special(jobs, common))
    if len(jobs) == 1:
        rows = yield Request(SQL["enqueue_one"], _row(jobs[0]) | common)
    else:
        rows = yield Request(SQL["enqueue"], _columns(jobs) | common)
    return Placed([row[0] for row in rows], jobs, any(row[1] for row in rows))


def takes_several_statements(jobs: Sequence[NewJob]) -> bool:
    """Whether all or none of these needs a transaction.

    One job is one statement in nearly all cases, and a repeat of it loses nothing.
    """
    return len(jobs) > 1 and any(map(_is_special, jobs))


def _place_special(jobs: Sequence[NewJob], common: dict[str, Any]) -> Placing:
    ids: dict[int, JobId] = {}
    inserted: list[NewJob] = []
    soon = False
    waiting = list(range(len(jobs)))
    for _ in range(_TRIES):
        batch = [jobs[place] for place in waiting]
        params = common | _columns(batch) | _special_columns(batch)
        for place, job_id, is_soon, _ in (yield Request(SQL["enqueue_special"], params)):
            ids[waiting[place - 1]] = JobId(job_id)
            inserted.append(batch[place - 1])
            soon |= is_soon
        waiting = [place for place in waiting if place not in ids]
        if waiting:
            keys = [jobs[place].unique_key for place in waiting]
            rows = yield Request(SQL["holders_of_keys"], {"keys": keys})
            holders: dict[str | None, int] = dict(rows)
            ids |= {
                place: JobId(holders[key])
                for place, key in zip(waiting, keys, strict=True)
                if key in holders
            }
            waiting = [place for place in waiting if place not in ids]
        if not waiting:
            return Placed([ids[place] for place in range(len(jobs))], inserted, soon)
    raise JobError(f"unique_key {jobs[waiting[0]].unique_key!r} is taken and let go all the time")


def _is_special(job: NewJob) -> bool:
    return not (
        job.unique_key is None
        and job.concurrency_key is None
        and job.expires_in is None
        and job.trace is None
    )


def _row(job: NewJob) -> dict[str, Any]:
    return {
        "type": job.type,
        "args": check_job(job),
        "queue": queue_of(job),
        "priority": job.priority,
        "run_at": job.run_at,
        "delay": job.delay,
        "max_attempts": _max_attempts(job),
        "timeout": job.timeout,
        "retry": _retry(job),
    }


def _columns(jobs: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "args": check_jobs(jobs),
        "types": text_array([job.type for job in jobs]),
        "queues": _texts([None if job.queue == DEFAULT_QUEUE else job.queue for job in jobs]),
        "priorities": _given([job.priority or None for job in jobs]),
        "run_at": _given([job.run_at for job in jobs]),
        "delays": _seconds([job.delay for job in jobs]),
        "max_attempts": _given([_max_attempts(job) for job in jobs]),
        "timeouts": _seconds([job.timeout for job in jobs]),
        "retries": _texts([_retry(job) for job in jobs]),
    }


def _special_columns(jobs: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "unique_keys": _texts([job.unique_key for job in jobs]),
        "unique_for": _seconds([job.unique_for for job in jobs]),
        "concurrency_keys": _texts([job.concurrency_key for job in jobs]),
        "concurrency_limits": _given(
            [job.concurrency_limit or 1 if job.concurrency_key else None for job in jobs],
        ),
        "expires_in": _seconds([job.expires_in for job in jobs]),
        "traces": _texts([job.trace for job in jobs]),
    }


def _max_attempts(job: NewJob) -> int | None:
    return job.retry.max_attempts if job.retry and not job.max_attempts else job.max_attempts


def _retry(job: NewJob) -> str | None:
    return json.dumps(job.retry.as_dict()) if job.retry else None


# What no job of the batch has is sent as an empty array: unnest fills it up with NULLs, and the
# statements know the defaults.


def _texts(values: list[str | None]) -> str:
    return "{}" if values.count(None) == len(values) else text_array(values)


def _given(values: list[Any]) -> list[Any] | str:
    return "{}" if values.count(None) == len(values) else values


def _seconds(values: list[float | None]) -> list[Any] | str:
    # Ints and floats in one list are no array to the driver.
    return _given([value if value is None else float(value) for value in values])
