"""What users import: an app knows its job types, enqueues jobs, and may have routes of its own.

A module of theirs defines one, and `PILLARS_APP=module:app` names it to the processes:

    app = App()

    @app.job("mail.welcome", queue="mail", max_attempts=5, timeout=30)
    async def send_welcome(to: str) -> None: ...

    @app.schedule("digest-morning", cron="0 6 * * *", timezone="Europe/Berlin")
    @app.job("digest")
    async def send_digest() -> None: ...

    await app.enqueue("mail.welcome", {"to": "a@example.org"})
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pillars.db.database import Database
from pillars.ground.errors import PillarsError
from pillars.ground.events import nobody
from pillars.ground.settings import Secret
from pillars.queue.enqueue import enqueue, enqueue_alone, enqueue_sync
from pillars.queue.jobs import NewJob, in_trace
from pillars.queue.retry import DEFAULT_RETRY, RetryPolicy
from pillars.telemetry.tracing import current_trace
from pillars.worker.builtin import register_builtins
from pillars.worker.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from aiohttp import web
    from psycopg import AsyncConnection, Connection

    from pillars.cron.code import CodeSchedules
    from pillars.cron.files import ScheduleSet
    from pillars.ground.events import Emit
    from pillars.queue.states import JobId

F = TypeVar("F", bound="Callable[..., Any]")
_URL = "PILLARS_DATABASE_URL"


class AppNotBoundError(PillarsError):
    """This app knows no database: set PILLARS_DATABASE_URL, or pass `connection=`."""


class App:
    """The job types of an application and its way to the queue."""

    def __init__(self) -> None:
        """Know the built-in job types; no database yet."""
        self.registry = Registry()
        register_builtins(self.registry)
        self._database: Database | None = None
        self._own: Database | None = None
        self._emit: Emit = nobody
        self._web: web.Application | None = None
        self._scheduled: CodeSchedules | None = None

    def job(
        self,
        type: str,  # noqa: A002 - the contract's name
        *,
        queue: str = "default",
        max_attempts: int | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        store_result: bool = False,
    ) -> Callable[[F], F]:
        """Register the decorated function, async or plain, as the handler of a job type.

        Args:
            type: the job type's name.
            queue: where its jobs go unless told otherwise.
            max_attempts: overrides the policy's.
            timeout: seconds an attempt may take.
            retry: how often and when a failed attempt is repeated; default: 5 attempts,
                exponential from 10 s.
            store_result: keep what the function returns with the job, as JSON of up to 64 KiB; what
                cannot be kept does not make the job fail, its `error` says why.

        Raises:
            JobError: a name or number cannot be used.
            RegistrationError: the type is taken, or the function cannot be a handler.
        """
        policy = retry or DEFAULT_RETRY
        if max_attempts is not None:
            policy = replace(policy, max_attempts=max_attempts)

        def register(function: F) -> F:
            self.registry.register(
                type,
                function,
                queue=queue,
                policy=policy,
                timeout=timeout,
                store_result=store_result,
            )
            return function

        return register

    def schedule(self, name: str, **keys: Any) -> Callable[[F], F]:  # noqa: ANN401 - as in YAML
        """Schedule the jobs of the decorated handler, or of any type where `job` is given.

        As a decorator it stands above or below `@app.job`; with `job` a plain call is enough:

            app.schedule("cleanup", job="files.cleanup", every="15m")

        Args:
            name: unique among all schedules, in code and in files.
            keys: those of the schedule files, with the same values and defaults; `queue` defaults
                to the job type's where it is registered here.

        Raises:
            CodeScheduleError: with all that is wrong with the definition, and where it stands.
        """
        if self._scheduled is None:
            from pillars.cron.code import CodeSchedules  # noqa: PLC0415 - few workers need croniter

            self._scheduled = CodeSchedules()
        caller = sys._getframe(1)  # noqa: SLF001 - the way to one's caller without reading source
        place = f"{caller.f_globals.get('__name__', '?')}:{caller.f_lineno}"
        return self._scheduled.add(name, keys, place)

    def schedules(self) -> ScheduleSet:
        """Return the schedules in code, once every module that has some is imported.

        Raises:
            CodeScheduleError: with each that has no job type.
        """
        from pillars.cron.code import CodeSchedules  # noqa: PLC0415 - as in schedule

        def queue_of(job: str) -> str | None:
            handler = self.registry.get(job)
            return handler.queue if handler else None

        return (self._scheduled or CodeSchedules()).read(self.registry.types_of, queue_of)

    def check(self) -> None:
        """Find what shows only once every module is imported.

        Raises:
            CodeScheduleError: a schedule in code has no job type.
        """
        if self._scheduled is not None:
            self.schedules()

    async def enqueue(
        self,
        type: str,  # noqa: A002 - the contract's name
        args: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: float | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
        retry: RetryPolicy | None = None,
        unique_key: str | None = None,
        unique_for: float | None = None,
        concurrency_key: str | None = None,
        concurrency_limit: int | None = None,
        expires_in: float | None = None,
        trace: str | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> JobId:
        """Put a job on the queue and return its id, or of the one that holds its unique key.

        Args:
            type: the job type; a worker must know it, this process need not.
            args: the handler's keyword arguments; JSON.
            queue: default: the job type's queue where it is registered here.
            priority: lower first, as in `nice`.
            run_at: not before this instant.
            delay: not before this many seconds from now, by the database's clock.
            max_attempts: for this job alone.
            timeout: seconds an attempt may take, for this job alone.
            retry: a policy for this job alone.
            unique_key: while an unfinished job has this key, no other is enqueued with it.
            unique_for: seconds from now that the key is kept even if the job has ended.
            concurrency_key: of the jobs that share this key, `concurrency_limit` run at a time,
                over all workers; the others wait in order.
            concurrency_limit: see there; 1 unless given.
            expires_in: seconds after its time by which the job must be started, else it is
                cancelled.
            trace: W3C `traceparent` of what causes this job; default: OpenTelemetry's current span,
                or, in a handler, what caused its job.
            connection: insert over this connection, in its transaction if one is open: the job
                exists if and when it commits.

        Raises:
            JobError: the job is not well-formed.
            AppNotBoundError: no connection is given and no database known.
        """
        job = NewJob(
            type,
            args or {},
            queue=queue,
            priority=priority,
            run_at=run_at,
            delay=delay,
            max_attempts=max_attempts,
            timeout=timeout,
            retry=retry,
            unique_key=unique_key,
            unique_for=unique_for,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
            expires_in=expires_in,
            trace=trace,
        )
        return (await self.enqueue_many([job], connection))[0]

    async def enqueue_many(
        self,
        jobs: Sequence[NewJob],
        connection: AsyncConnection[Any] | None = None,
    ) -> list[JobId]:
        """Put many jobs on the queue at once: all or none; returns their ids in order.

        A job that names no queue goes to its type's, where that is registered here; one without a
        trace continues the current one, if there is one.

        Raises:
            JobError: a job is not well-formed.
            AppNotBoundError: no connection is given and no database known.
        """
        jobs = in_trace([self.registry.at_home(job) for job in jobs], current_trace())
        if connection is not None:
            return await enqueue(connection, jobs)
        return (await enqueue_alone(self.database, jobs, self._emit)).ids

    def enqueue_sync(self, connection: Connection[Any], jobs: Sequence[NewJob]) -> list[JobId]:
        """Put jobs on the queue over a connection that blocks, in its transaction.

        For Django, sessions of SQLAlchemy and scripts: the jobs exist if and when it commits.

        Raises:
            JobError: a job is not well-formed.
        """
        jobs = in_trace([self.registry.at_home(job) for job in jobs], current_trace())
        return enqueue_sync(connection, jobs)

    def bind(self, database: Database, emit: Emit) -> None:
        """Use this database from now on, and tell `emit` of enqueued jobs."""
        self._database = database
        self._emit = emit

    async def close(self) -> None:
        """Close the connections this app has opened itself; for scripts that enqueue.

        A database it was bound to stays open: whoever bound it closes it.
        """
        database, self._own = self._own, None
        if database is not None:
            if self._database is database:
                self._database = None
            await database.close()

    @property
    def web(self) -> web.Application:
        """The user's own routes, which `pillars server` serves beside its API."""
        if self._web is None:
            from aiohttp import web  # noqa: PLC0415 - workers and crons need not load it

            self._web = web.Application()
        return self._web

    @property
    def database(self) -> Database:
        """The database this app is bound to.

        Raises:
            AppNotBoundError: none, and PILLARS_DATABASE_URL is not set.
        """
        if self._database is None:
            url = os.environ.get(_URL, "").strip()
            if not url:
                raise AppNotBoundError
            self._database = self._own = Database(Secret(url), "pillars app", self._emit)
        return self._database
