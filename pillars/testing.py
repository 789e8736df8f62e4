"""For tests of applications: assert what was enqueued, and run it, on a real database.

    async def test_a_sign_up_sends_a_mail() -> None:
        await sign_up("a@example.org")

        (job,) = await enqueued(app, type="mail.welcome")
        assert job.args == {"to": "a@example.org"}
        (job,) = await run_due_jobs(app)
        assert job.state == "succeeded"

Jobs run in the calling test by the code and the statements that a worker uses; there is no second
queue for tests that could differ. What is to be seen must be committed.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

from pillars import __version__
from pillars.app import App
from pillars.cluster.agent import Membership
from pillars.db.database import Database
from pillars.db.migrate import migrate
from pillars.ground.clock import SystemClock
from pillars.ground.errors import PillarsError
from pillars.ground.events import nobody
from pillars.ground.settings import Secret
from pillars.queue.claims import Claims
from pillars.queue.desk import list_jobs, show_job
from pillars.queue.states import JobState
from pillars.queue.upkeep import rescue
from pillars.worker.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from pillars.ground.clock import Clock
    from pillars.queue.attempt import Ended, Job
    from pillars.queue.desk import JobRecord
    from pillars.queue.states import JobId
    from pillars.worker.attempts import Run

__all__ = ["EndlessJobsError", "JobFailedError", "enqueued", "migrated", "run_due_jobs"]
MOST_ATTEMPTS = 1_000
_PAGE = 1_000
_LEASE = 3600.0


class JobFailedError(PillarsError):
    """A job failed without an exception of its handler: a timeout, or nobody knows its type."""


class EndlessJobsError(PillarsError):
    """There is always a job that is due: one that enqueues itself, or a snooze of no time."""


async def migrated(dsn: str) -> None:
    """Bring the schema of a test's database up to date; does nothing where it is already."""
    database = Database(Secret(dsn), "pillars testing", nobody)
    try:
        await migrate(database, nobody)
    finally:
        await database.close()


async def enqueued(
    where: App | Database,
    *,
    type: str | None = None,  # noqa: A002 - the column's name is the clearest
    queue: str | None = None,
) -> list[JobRecord]:
    """Return the jobs that wait, also for their time or for a retry, in the order they were put."""
    database = where.database if isinstance(where, App) else where
    waiting: list[JobRecord] = []
    for state in (JobState.AVAILABLE, JobState.FAILED):
        before = None
        while page := await list_jobs(
            database,
            state=state,
            type=type,
            queue=queue,
            before=before,
            limit=_PAGE,
            longest=None,
        ):
            waiting += page
            before = page[-1].id
    return sorted(waiting, key=lambda job: job.id)


async def run_due_jobs(
    app: App,
    *,
    queues: Sequence[str] = (),
    now: datetime | None = None,
    raise_errors: bool = True,
    limit: int = MOST_ATTEMPTS,
) -> list[JobRecord]:
    """Run all jobs that are due with the app's handlers, one after the other, until none is.

    That includes jobs that these jobs enqueue, and retries that are due. Concurrency keys and
    limits of queues hold as they do for a worker.

    Args:
        app: its handlers, and the database it is bound to.
        queues: run jobs of these queues alone; none named means all.
        now: run what is due at this instant instead of now: jobs of later, and retries.
        raise_errors: raise what a handler raised, once the failure is written; else it is in the
            job's `error`, and the other jobs run.
        limit: so many attempts at most.

    Returns:
        The jobs that were run, in the order they were begun, as they stand now.

    Raises:
        EndlessJobsError: after `limit` attempts a job was still due.
        JobFailedError: a job failed without an exception of its handler.
        Exception: what a handler raised.
    """
    database = Database(app.database.dsn, "pillars testing", nobody)
    bench = _Bench(app, database, _FixedClock(now) if now is not None else SystemClock())
    try:
        async with bench.joined() as worker_id:
            ids = await bench.run(worker_id, queues, limit, raise_errors=raise_errors)
        return [await show_job(database, job_id) for job_id in ids]
    finally:
        await database.close()


class _Bench:
    """A worker with one slot, which ends when nothing is due."""

    def __init__(self, app: App, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._link = database.link("claims")
        self._raised = _Raised()
        self._attempts = Attempts(app.registry, 1, lambda job: job.refusal, self._raised)

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[UUID]:
        """Be a member, as whoever claims jobs must be."""
        membership = Membership(
            self._database.link("heartbeat"),
            role="worker",
            name="pillars testing",
            pid=os.getpid(),
            url="",
            app_version=__version__,
            lease=_LEASE,
            on_expel=rescue,
            emit=nobody,
            clock=SystemClock(),
        )
        await membership.join()
        try:
            if membership.member_id is None:
                raise RuntimeError("joined, and no member")
            yield membership.member_id
        finally:
            self._attempts.close()
            await membership.leave()

    @property
    def _claims(self) -> Claims:
        # New ones, which know of no place to go on from: each looks at all that is due.
        return Claims(self._link, self._clock)

    async def run(
        self,
        worker_id: UUID,
        queues: Sequence[str],
        limit: int,
        *,
        raise_errors: bool,
    ) -> list[JobId]:
        """Make attempts until nothing is due; return the jobs in the order they were begun."""
        begun: dict[JobId, None] = {}
        attempts = 0
        while jobs := await self._claims.claim(worker_id, queues, 1):
            if attempts == limit:
                await self._claims.give_back(worker_id, jobs)
                raise EndlessJobsError
            attempts += 1
            begun[jobs[0].id] = None
            error = await self._attempt(worker_id, jobs[0])
            if error is not None and raise_errors:
                raise error
        return list(begun)

    async def _attempt(self, worker_id: UUID, job: Job) -> BaseException | None:
        self._raised.error = None
        # A task of its own, as in a worker: what a handler leaves in its context is not the test's.
        ended, thread = await asyncio.create_task(self._attempts.run(job), context=copy_context())
        await self._claims.finish(worker_id, [ended])
        await self._claims.make_room([job])
        if thread is not None:
            await thread
        return self._error(ended)

    def _error(self, ended: Ended) -> BaseException | None:
        if ended.started and ended.state not in (JobState.FAILED, JobState.DEAD):
            return None
        return self._raised.error or JobFailedError(ended.error or "")


class _Raised:
    """Keeps what a handler raises."""

    error: BaseException | None = None

    def follow(self, run: Run) -> Run:
        return run

    def raised(self, error: BaseException) -> None:
        self.error = error


class _FixedClock:
    """The database's time is one instant."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.monotonic = SystemClock().monotonic

    def database_now(self) -> datetime:
        return self._now
