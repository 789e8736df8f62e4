"""What keeps the queue healthy: jobs of lost workers go back, finished jobs go away."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.db.connection import fetch
from pillars.ground.events import JobLost, JobsPruned
from pillars.queue.jobs import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from pillars.db.database import Link
    from pillars.ground.events import Emit

# A job that outlived this many workers kills them: it is dead and does no more harm.
MOST_RESCUES = 5
PRUNE_PAGE = 5_000
_PRUNE_LOCK = 0x7072756E65
_BETWEEN_PAGES = 0.2
_BETWEEN_ROUNDS = 30.0


class Rescued(NamedTuple):
    """How many jobs went back to the queue, and which did not; events for after the commit."""

    returned: int
    dead: list[JobLost]


async def rescue(connection: AsyncConnection[Any], lost_workers: Sequence[UUID]) -> Rescued:
    """Put the running jobs of lost workers back on the queue, in the caller's transaction.

    Their attempt does not count as a failure, but a job that was lost with MOST_RESCUES workers
    becomes dead.
    """
    rows = await fetch(
        connection,
        SQL["rescue"],
        {
            "worker_ids": list(lost_workers),
            "most_rescues": MOST_RESCUES,
            "error": "the worker that ran this job gave no sign of life any more",
        },
    )
    dead = [JobLost(*job) for is_dead, *job in rows if is_dead]
    return Rescued(len(rows) - len(dead), dead)


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
        return _BETWEEN_PAGES
