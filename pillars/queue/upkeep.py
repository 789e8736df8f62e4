"""What keeps the queue healthy: jobs of lost workers go back, finished jobs go away."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.db.connection import fetch
from pillars.ground.events import JobLost, JobsPruned, JobsRescued
from pillars.queue.jobs import SQL
from pillars.queue.lanes import Pages, Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from pillars.db.database import Link
    from pillars.db.statements import Statement
    from pillars.ground.events import Emit

# A job that outlived this many workers, and more than any other that was lost with the last one,
# kills them: it is dead and does no more harm.
MOST_RESCUES = 5
PRUNE_PAGE = 5_000
_PRUNE_LOCK = 0x7072756E65
# After most pages, and after those of which every job was deleted: there is a backlog.
_BETWEEN_PAGES, _BETWEEN_FULL_PAGES = 0.2, 0.02
_BETWEEN_ROUNDS = 30.0
_RESCUE = Pages("rescue")
# Jobs of each lane.
_FIRST_LOOK, _RESCUE_PAGE = 1_000, 5_000
_LOOK_EVERY, _BETWEEN_LOOKS = 1.0, 0.01


class Rescued(NamedTuple):
    """How many jobs went back to the queue, and which did not; events for after the commit."""

    returned: int
    dead: list[JobLost]


async def rescue(connection: AsyncConnection[Any], lost_workers: Sequence[UUID]) -> Rescued:
    """Put the running jobs of lost workers back on the queue, in the caller's transaction.

    Their attempt does not count as a failure. They are due at once, those that were lost before
    after a random pause, longer each time, which parts a job that kills its workers from its
    neighbours: of what a worker had, the one that was lost more often than the others becomes dead
    once that was with MOST_RESCUES workers. The caller holds locks that others wait for, so this
    looks at the front of each lane only; where more jobs are due, the `Rescuer` of any worker looks
    at the rest.
    """
    rescued, places = await _rescue(
        partial(fetch, connection), lost_workers, None, limit=_FIRST_LOOK
    )
    if places:
        await fetch(connection, SQL["leave_to_rescuer"], {"worker_ids": list(lost_workers)})
    return rescued


class Rescuer:
    """Looks page by page for the jobs of lost workers that the first look did not reach."""

    def __init__(self, link: Link, emit: Emit) -> None:
        """Look over this link; `emit` receives JobsRescued and JobLost."""
        self._link = link
        self._emit = emit
        self._workers: list[UUID] = []
        self._places: list[Place] | None = None

    async def step(self) -> float:
        """Look at one page of each lane; returns the seconds until the next.

        Where a worker fails in between, or is not through in half a minute, another begins from the
        front, too: each job goes back once, whoever finds it.
        """
        if not self._workers:
            self._workers = [row[0] for row in await self._link.fetch(SQL["take_lost_workers"])]
            self._places = None
        if not self._workers:
            return _LOOK_EVERY * random.uniform(0.8, 1.2)  # noqa: S311 - jitter is no secret
        workers, self._workers = self._workers, []
        rescued, places = await _rescue(self._link.fetch, workers, self._places, limit=_RESCUE_PAGE)
        if rescued.returned:
            self._emit(JobsRescued(rescued.returned))
        for event in rescued.dead:
            self._emit(event)
        if places:
            self._workers, self._places = workers, places
            return _BETWEEN_LOOKS
        await self._link.fetch(SQL["forget_lost_workers"], {"worker_ids": workers})
        return 0.0


async def _rescue(
    run: Callable[[Statement, Mapping[str, Any]], Awaitable[Sequence[tuple[Any, ...]]]],
    workers: Sequence[UUID],
    places: Sequence[Place] | None,
    limit: int,
) -> tuple[Rescued, list[Place]]:
    """Rescue what a page of each lane holds; return where the next begins, empty at the end."""
    statement, lanes = _RESCUE.page(places)
    rows = await run(
        statement,
        {
            "worker_ids": list(workers),
            "most_rescues": MOST_RESCUES,
            "error": "the worker that ran this job gave no sign of life any more",
            "limit": limit,
            **lanes,
        },
    )
    jobs = [row[1:] for row in rows if row[0]]
    dead = [
        JobLost(job_id, type_, queue, attempt, schedule)
        for queue, _, _, job_id, is_dead, type_, attempt, schedule in jobs
        if is_dead
    ]
    return Rescued(len(jobs) - len(dead), dead), [Place(*row[1:5]) for row in rows if not row[0]]


async def remove_jobs(link: Link, queue: str, limit: int) -> bool:
    """Delete so many jobs at most of a queue that is to be forgotten; tells whether any was."""
    return bool(await link.fetch(SQL["remove_jobs"], {"queue": queue, "limit": limit}))


class Pruner:
    """Deletes expired jobs page by page along the primary key, so it needs no index of its own."""

    def __init__(self, link: Link, retention: float, retention_failed: float, emit: Emit) -> None:
        """Keep dead and cancelled jobs `retention_failed` s, all others and notes `retention` s."""
        self._link = link
        self._retention = retention
        self._retention_failed = retention_failed
        self._emit = emit
        self._after = 0

    async def step(self) -> float:
        """Prune one page; one process at a time does, the others find the lock taken."""
        rows = await self._link.fetch(
            SQL["prune"],
            {
                "after": self._after,
                "limit": PRUNE_PAGE,
                "lock": _PRUNE_LOCK,
                "retention": self._retention,
                "retention_failed": self._retention_failed,
            },
        )
        deleted, last, rest_is_young = rows[0]
        if deleted:
            self._emit(JobsPruned(deleted))
        if last is None or rest_is_young:
            self._after = 0
            await self._link.fetch(
                SQL["prune_withdrawn"], {"retention": self._retention, "limit": PRUNE_PAGE}
            )
            return _BETWEEN_ROUNDS * random.uniform(0.5, 1.5)  # noqa: S311 - jitter is no secret
        self._after = last
        return _BETWEEN_PAGES if deleted < PRUNE_PAGE else _BETWEEN_FULL_PAGES
