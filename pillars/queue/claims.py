"""Taking jobs off the queue and saying how they ended; batches in both directions.

Each write that follows a claim is fenced by worker and attempt: a worker that was taken for dead
and comes back changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.db.arrays import int_array
from pillars.queue.jobs import SQL
from pillars.queue.states import JobId, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pillars.db.database import Link
    from pillars.ground.clock import Clock


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: one attempt of it is this worker's to make.

    Attributes:
        failures: attempts before this one that ended in failure; lost workers do not count.
        max_attempts, timeout, retry: the job's own policy; None leaves it to the job type.
        start_delay: seconds from `run_at` to the claim, by the database's clock.
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
    retry: Mapping[str, Any] | None
    schedule: str | None
    fire_at: datetime | None
    run_at: datetime
    start_delay: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        state: succeeded, failed, dead or cancelled.
        retry_in: seconds until the next attempt; set for failed alone.
    """

    job_id: JobId
    attempt: int
    state: JobState
    error: str | None = None
    retry_in: float | None = None


class Claims:
    """One worker's claims, over a link of its own."""

    def __init__(self, link: Link, clock: Clock) -> None:
        """Use this link; the clock lets a test own the time."""
        self._link = link
        self._clock = clock

    async def claim(self, worker_id: UUID, queues: Sequence[str], limit: int) -> list[Job]:
        """Take up to `limit` due jobs of these queues (none named: of all), best first."""
        rows = await self._link.fetch(
            SQL["claim"],
            {
                "worker_id": worker_id,
                "queues": list(queues),
                "limit": limit,
                "now": self._clock.database_now(),
            },
        )
        jobs = [_job(row) for row in rows]
        # UPDATE ... RETURNING has no order of its own.
        jobs.sort(key=lambda job: (job.priority, job.run_at, job.id))
        return jobs

    async def next_due(self, queues: Sequence[str]) -> float | None:
        """Return the seconds until the next waiting job is due, None when none waits."""
        rows = await self._link.fetch(
            SQL["next_due"],
            {"queues": list(queues), "now": self._clock.database_now()},
        )
        return rows[0][0] if rows else None

    async def finish(self, worker_id: UUID, results: Sequence[Ended]) -> list[JobId]:
        """Write how attempts ended; return the jobs whose result was refused by the fence."""
        good = [result for result in results if result.state is JobState.SUCCEEDED]
        bad = [result for result in results if result.state is not JobState.SUCCEEDED]
        taken: set[int] = set()
        if good:
            taken.update(await self._write("succeed", worker_id, good))
        if bad:
            extra: dict[str, list[Any]] = {
                "states": [result.state.value for result in bad],
                "errors": [result.error for result in bad],
                "retry_in": [result.retry_in for result in bad],
            }
            taken.update(await self._write("fail", worker_id, bad, extra))
        return [result.job_id for result in results if result.job_id not in taken]

    async def written(self, worker_id: UUID, results: Sequence[Ended]) -> list[JobId]:
        """Return those of these results that stand in the table.

        A write whose acknowledgement was lost is refused when it is repeated, like one that comes
        too late; this tells one from the other.
        """
        rows = await self._link.fetch(
            SQL["written"],
            {
                "ids": int_array(result.job_id for result in results),
                "attempts": int_array(result.attempt for result in results),
                "states": [result.state.value for result in results],
                "worker_id": worker_id,
            },
        )
        return [JobId(row[0]) for row in rows]

    async def give_back(self, worker_id: UUID, jobs: Sequence[Job]) -> int:
        """Return claimed jobs that were not started; returns how many were still ours."""
        if not jobs:
            return 0
        rows = await self._link.fetch(
            SQL["give_back"],
            {
                "ids": [job.id for job in jobs],
                "attempts": [job.attempt for job in jobs],
                "worker_id": worker_id,
            },
        )
        return len(rows)

    async def give_back_others(self, worker_id: UUID, held: Sequence[JobId]) -> int:
        """Return this worker's running jobs other than those it knows it holds; returns how many.

        They are jobs of a claim that was committed and whose answer never arrived. Not to be called
        while a claim is under way.
        """
        params = {"worker_id": worker_id, "held": list(held)}
        return len(await self._link.fetch(SQL["give_back_others"], params))

    async def _write(
        self,
        statement: str,
        worker_id: UUID,
        results: Sequence[Ended],
        extra: Mapping[str, list[Any]] | None = None,
    ) -> list[int]:
        rows = await self._link.fetch(
            SQL[statement],
            {
                "ids": int_array(result.job_id for result in results),
                "attempts": int_array(result.attempt for result in results),
                "worker_id": worker_id,
                "now": self._clock.database_now(),
                **(extra or {}),
            },
        )
        return list(rows[0][0])


def _job(row: tuple[Any, ...]) -> Job:
    (job_id, type_, queue, text, attempt, rescues, priority, *rest) = row
    # Text, because the driver's own way to read jsonb costs three times as much; many have no args.
    args = {} if text == "{}" else json.loads(text)
    return Job(job_id, type_, queue, args, attempt, attempt - 1 - rescues, priority, *rest)
