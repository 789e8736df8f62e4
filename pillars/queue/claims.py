"""Taking jobs off the queue and saying how they ended; batches in both directions.

Each write that follows a claim is fenced by worker and attempt: a worker that was taken for dead
and comes back changes nothing. Where an attempt does not count, its number is used again, perhaps
by this very worker before it knows that its write was committed: such a write is fenced by the
instant of the claim as well.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from pillars.db.arrays import int_array
from pillars.db.connection import fetch
from pillars.ground.errors import PillarsError
from pillars.queue.attempt import Ended, Job, read_jobs
from pillars.queue.gate import Gate
from pillars.queue.jobs import SQL
from pillars.queue.lanes import (
    CLAIM,
    CLAIM_ON,
    CLAIM_WITHIN,
    CLAIM_WITHIN_ON,
    NEXT_DUE,
    NEXT_DUE_ON,
    Lanes,
    Pages,
    Place,
)
from pillars.queue.limits import Limits
from pillars.queue.states import JobId, JobState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from pillars.db.database import Link
    from pillars.db.statements import Statement
    from pillars.ground.clock import Clock

# Claims in a row that find jobs whose concurrency keys have no room.
_LONGEST_LINE = 20
_TRIES = 5
_RETURN, _PAGE = Pages("give_back_others"), 5_000
# What a value meets that the driver cannot send or the server not store, and never will.
_UNWRITABLE = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


class BusyRowError(PillarsError):
    """Rows changed whenever they were to be written; they will be yet."""


class UnwritableError(PillarsError):
    """The database cannot store what one of these results says, and never will."""


class Claims:
    """One worker's claims, over a link of its own."""

    def __init__(self, link: Link, clock: Clock) -> None:
        """Use this link; the clock lets a test own the time."""
        self._link = link
        self._clock = clock
        self._gate = Gate(link, clock)
        self._limits = Limits(clock)
        self._lanes = Lanes(clock)

    async def claim(self, worker_id: UUID, queues: Sequence[str], limit: int) -> list[Job]:
        """Take up to `limit` due jobs of these queues (none named: of all), best first."""
        jobs: list[Job] = []
        for _ in range(_LONGEST_LINE):
            wanted = limit - len(jobs)
            if wanted <= 0:
                break
            found = await self._claim(worker_id, queues, wanted)
            admitted = await self._admitted(worker_id, found)
            if len(admitted) < len(found):
                await self._limits.not_started(self._link, _counted(found) - _counted(admitted))
            # Those that wait for their keys will lie before the others, and go first.
            self._lanes.passed(admitted)
            jobs += admitted
            if len(found) < wanted or len(admitted) == len(found):
                break
        # UPDATE ... RETURNING has no order of its own.
        jobs.sort(key=lambda job: (job.priority, job.run_at, job.id))
        return jobs

    async def next_due(self, queues: Sequence[str]) -> float | None:
        """Return the seconds until the next waiting job is due, None when none waits."""
        statement, lanes = self._lanes.over(NEXT_DUE, NEXT_DUE_ON)
        now, since = self._clock.database_now(), self._limits.seen_at
        params = {"queues": list(queues), "now": now, "since": since} | lanes
        ((seconds,),) = await self._link.fetch(statement, params)
        await self._limits.refresh(self._link, queues)
        due = [wait for wait in (seconds, self._limits.wait) if wait is not None]
        return min(due, default=None)

    async def finish(self, worker_id: UUID, results: Sequence[Ended]) -> list[JobId]:
        """Write how attempts ended; return the jobs whose result was refused by the fence.

        A write is refused too when it is repeated because its acknowledgement was lost, and when
        the row changed under it (a request to cancel the job): the table tells these apart.

        Raises:
            BusyRowError: rows change all the time; nothing is lost by trying again.
            UnwritableError: one of several is at fault; what of them is written stays so.
        """
        refused = await self._finish(worker_id, results)
        for _ in range(_TRIES):
            if not refused:
                return []
            standing = await self._standing(worker_id, refused)
            lost = [result.job_id for result in refused if result.job_id not in standing]
            held = [result for result in refused if standing.get(result.job_id) is False]
            if not held:
                return lost
            refused = await self._finish(worker_id, held)
            refused += [result for result in results if result.job_id in lost]
        raise BusyRowError

    async def make_room(self, jobs: Sequence[Job]) -> bool:
        """Let jobs run that waited for the end of these; tell whether there may be any."""
        keys = {job.concurrency_key for job in jobs if job.concurrency_key is not None}
        opened = await self._gate.open(keys) if keys else 0
        return bool(opened) or any(job.counted for job in jobs)

    async def cancel_requests(self, worker_id: UUID) -> dict[tuple[JobId, int], str]:
        """Return the attempts of this worker that shall be stopped, as id and number, and why."""
        rows = await self._link.fetch(SQL["cancel_requests"], {"worker_id": worker_id})
        return {(job_id, attempt): reason for job_id, attempt, reason in rows}

    async def give_back(
        self, worker_id: UUID, jobs: Sequence[Job], *, started: bool = False
    ) -> int:
        """Return claimed jobs without a result; returns how many were still ours.

        Args:
            worker_id: who claimed them.
            jobs: whose attempt shall not count.
            started: whether they were begun, in time: then they never expire any more.

        Raises:
            BusyRowError: rows change all the time; nothing is lost by trying again.
        """
        returned = await self._give_back(worker_id, jobs, started=started)
        if not started:
            back = _counted([job for job in jobs if job.id in returned])
            await self._limits.not_started(self._link, back)
        return len(returned)

    async def give_back_others(
        self, worker_id: UUID, held: Sequence[JobId], places: Sequence[Place] | None = None
    ) -> tuple[int, Sequence[Place]]:
        """Return this worker's running jobs other than those it knows it holds, of one page.

        They are jobs of a claim that was committed and whose answer never arrived. Not to be called
        while a claim is under way.

        Returns:
            how many, and the places for the next page; none after the last one.
        """
        params = {"worker_ids": [worker_id], "held": list(held), "limit": _PAGE}
        statement, lanes = _RETURN.page(places)
        rows = await self._link.fetch(statement, params | lanes)
        further = [Place(*place) for is_job, *place in rows if not is_job]
        return len(rows) - len(further), further

    async def _give_back(
        self, worker_id: UUID, jobs: Sequence[Job], *, started: bool = False
    ) -> set[JobId]:
        returned: set[JobId] = set()
        ours = list(jobs)
        for _ in range(_TRIES):
            params = {
                "ids": [job.id for job in ours],
                "attempts": [job.attempt for job in ours],
                "started_at": [job.started_at for job in ours],
                "worker_id": worker_id,
                "started": started,
            }
            returned |= {row[0] for row in await self._link.fetch(SQL["give_back"], params)}
            rest = [
                Ended(job.id, job.attempt, JobState.RUNNING, started_at=job.started_at)
                for job in ours
                if job.id not in returned
            ]
            # A row that was just being changed is refused, although it is still ours.
            standing = await self._standing(worker_id, rest) if rest else {}
            ours = [job for job in ours if standing.get(job.id) is False]
            if not ours:
                return returned
        raise BusyRowError

    async def _claim(self, worker_id: UUID, queues: Sequence[str], limit: int) -> list[Job]:
        ready = await self._limits.ready(self._link, self._lanes, queues)
        params = {
            "worker_id": worker_id,
            "queues": list(queues),
            "limit": limit,
            "limited": [],
            "now": self._clock.database_now(),
        }
        if ready:
            return await self._claim_within_limits(ready, params)
        return await self._take(self._link.fetch, (CLAIM, CLAIM_ON), params)

    async def _claim_within_limits(
        self, ready: Sequence[str], params: Mapping[str, Any]
    ) -> list[Job]:
        """Claim while those of these limited queues are held that nobody else holds."""
        async with self._link.transaction() as connection:
            rooms = await self._limits.hold(connection, ready, params["limit"])
            held = {"limited": list(rooms), "rooms": list(rooms.values())}
            jobs = [
                job._replace(counted=job.queue in rooms and (job.refusal is None or job.unreadable))
                for job in await self._take(
                    partial(fetch, connection), (CLAIM_WITHIN, CLAIM_WITHIN_ON), {**params, **held}
                )
            ]
            await self._limits.started(connection, dict.fromkeys(rooms, 0) | _counted(jobs))
        return jobs

    async def _take(
        self,
        fetch: Callable[[Statement, dict[str, Any]], Awaitable[Sequence[tuple[Any, ...]]]],
        statements: tuple[Statement, Statement],
        params: dict[str, Any],
    ) -> list[Job]:
        """Claim by the statement that looks at all lanes or the one that knows its places."""
        look, began = self._lanes.look(), self._clock.monotonic()
        statement, lanes = self._lanes.over(*statements)
        jobs: list[Job] = []
        try:
            jobs = read_jobs(await fetch(statement, params | lanes))
        except psycopg.errors.QueryCanceled:
            # By the server's time limit: too slow a look to be made each time.
            if look:
                self._lanes.looked(self._clock.monotonic() - began, 0)
            raise
        if look:
            self._lanes.looked(self._clock.monotonic() - began, len(jobs))
        elif len(jobs) < params["limit"]:
            self._lanes.fell_short()
        return jobs

    async def _admitted(self, worker_id: UUID, jobs: list[Job]) -> list[Job]:
        """Return the jobs that may run: those without a concurrency key, and those with room."""
        keyed = [job for job in jobs if job.concurrency_key is not None]
        if not keyed:
            return jobs
        decided = await self._gate.admit(worker_id, keyed)
        undecided = [job for job in keyed if job.id not in decided]
        if undecided:
            await self._give_back(worker_id, undecided)
        return [job for job in jobs if job.concurrency_key is None or decided.get(job.id)]

    async def _finish(self, worker_id: UUID, results: Sequence[Ended]) -> list[Ended]:
        plain = [result for result in results if result.is_plain]
        others = [result for result in results if not result.is_plain]
        good = [result for result in others if result.state is JobState.SUCCEEDED]
        bad = [result for result in others if result.state is not JobState.SUCCEEDED]
        taken: set[int] = set()
        if plain:
            taken.update(await self._write("succeed", worker_id, plain))
        if good:
            extra: dict[str, list[Any]] = {
                "results": [result.result for result in good],
                "errors": [result.error for result in good],
            }
            taken.update(await self._write("succeed_with_result", worker_id, good, extra))
        if bad:
            extra = {
                "states": [result.state.value for result in bad],
                "errors": [result.error for result in bad],
                "retry_in": [result.retry_in for result in bad],
                "unstarted": [not result.started for result in bad],
                "started_at": [result.started_at for result in bad],
            }
            taken.update(await self._write("fail", worker_id, bad, extra))
        return [result for result in results if result.job_id not in taken]

    async def _standing(self, worker_id: UUID, results: Sequence[Ended]) -> dict[JobId, bool]:
        rows = await self._link.fetch(
            SQL["standing"],
            {
                "ids": int_array(result.job_id for result in results),
                "attempts": int_array(result.attempt for result in results),
                "states": [result.state.value for result in results],
                "started_at": [result.started_at for result in results],
                "worker_id": worker_id,
            },
        )
        return dict(rows)

    async def _write(
        self,
        statement: str,
        worker_id: UUID,
        results: Sequence[Ended],
        extra: Mapping[str, list[Any]] | None = None,
    ) -> list[int]:
        params = {
            "ids": int_array(result.job_id for result in results),
            "attempts": int_array(result.attempt for result in results),
            "worker_id": worker_id,
            "now": self._clock.database_now(),
            **(extra or {}),
        }
        try:
            rows = await self._link.fetch(SQL[statement], params)
        except _UNWRITABLE as error:
            raise UnwritableError(str(error).partition("\n")[0]) from error
        return list(rows[0][0])


def _counted(jobs: Sequence[Job]) -> Counter[str]:
    """How many jobs of each limited queue start."""
    return Counter(job.queue for job in jobs if job.counted)
