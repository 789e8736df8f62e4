"""The gate: how many of the jobs that share a concurrency key run at a time.

A claim takes such a job like any other, and then asks for its admission. Under a lock of the key,
which every admission takes first and holds until it commits, the worker counts the jobs that hold
the key and decides: a job with room becomes `holding` and runs; one without is parked, out of the
sight of claims. Whoever ends a job of the key admits again, which opens the parked job that is
next. So a waiting job costs one claim at most, however long the line, and nothing is counted
twice: what holds a key is read from the jobs themselves, never from a counter that could drift.
Jobs of several queues may share a key; those of a queue that is paused, or served by no worker,
keep none of the others waiting.

A worker that dies between its claim and the admission leaves a running job, which is rescued like
any other; one that dies between the end of a job and the admission leaves a parked job with room,
which the `GateKeeper` of any worker opens within a second or two; where a hundred thousand keys
have parked jobs, within a minute.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING
from uuid import UUID

from pillars.db.connection import fetch
from pillars.queue.jobs import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.queue.attempt import Job
    from pillars.queue.states import JobId

# Advisory locks of two numbers: this one and the hash of the key.
_LOCK = 0x676174
_TURN = 0x67617465
_PAGE = 500
# Open jobs of each key that one admission parks along with those it was asked for.
_FURTHER = 500
_LOOK_EVERY = 1.0
_BETWEEN_PAGES = 0.25
# Keys that are locked together: the server has room for some thousands of locks, all in all.
_KEYS_AT_ONCE = 100
_NOBODY = UUID(int=0)


class Gate:
    """Admits jobs over a link of the caller's."""

    def __init__(self, link: Link, clock: Clock) -> None:
        """Use this link; the clock lets a test own the time."""
        self._link = link
        self._clock = clock

    async def admit(self, worker_id: UUID, jobs: Sequence[Job]) -> dict[JobId, bool]:
        """Say of each claimed job whether it may run; one that may not is on the queue again.

        A job that is missing in the answer changed meanwhile: nothing was decided.
        """
        claimed: dict[str, list[JobId]] = defaultdict(list)
        for job in jobs:
            if job.concurrency_key is not None:
                claimed[job.concurrency_key].append(job.id)
        rows = await self._decide(worker_id, claimed)
        return {job_id: admitted for job_id, whose, admitted in rows if whose == "mine"}

    async def open(self, keys: Iterable[str]) -> int:
        """Open parked jobs of these keys as far as there is room; returns how many."""
        rows = await self._decide(_NOBODY, {key: [] for key in keys})
        return sum(whose == "parked" for _, whose, _ in rows)

    async def _decide(
        self,
        worker_id: UUID,
        claimed: Mapping[str, Sequence[JobId]],
    ) -> list[tuple[JobId, str, bool]]:
        """Admit jobs of these keys, those claimed by this worker among them."""
        rows: list[tuple[JobId, str, bool]] = []
        keys = sorted(claimed)
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[begin : begin + _KEYS_AT_ONCE]
            params = {
                "worker_id": worker_id,
                "ids": [job_id for key in some for job_id in claimed[key]],
                "keys": some,
                "lock": _LOCK,
                "further": _FURTHER,
                "now": self._clock.database_now(),
            }
            async with self._link.transaction() as connection:
                # Two statements: the second must see what was committed while the first waited.
                await fetch(connection, SQL["lock_keys"], params)
                rows += await fetch(connection, SQL["admit"], params)
        return rows


class GateKeeper:
    """Looks for parked jobs that nobody will open; one worker at a time does."""

    def __init__(self, link: Link, clock: Clock) -> None:
        """Look over this link."""
        self._link = link
        self._gate = Gate(link, clock)
        self._after = ("", "")

    async def step(self) -> float:
        """Look at a page of keys; returns the seconds until the next."""
        key, queue = self._after
        params = {"after_key": key, "after_queue": queue, "limit": _PAGE, "lock": _TURN}
        rows = await self._link.fetch(SQL["stuck_keys"], params)
        if rows:
            await self._gate.open({row[0] for row in rows})
        last_of_page = [(key, queue) for key, queue, last in rows if last]
        self._after = last_of_page[0] if last_of_page else ("", "")
        pause = _BETWEEN_PAGES if last_of_page else _LOOK_EVERY
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter is no secret
