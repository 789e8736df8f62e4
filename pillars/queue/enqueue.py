"""Putting jobs on the queue: one, many, in a transaction of the caller's or one of our own."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from psycopg import Cursor
from psycopg.rows import tuple_row

from pillars.db.connection import fetch, transaction
from pillars.ground.events import JobsEnqueued
from pillars.queue.jobs import queue_of
from pillars.queue.placing import Placed, place, takes_several_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import AsyncConnection, Connection

    from pillars.db.database import Database
    from pillars.ground.events import Emit
    from pillars.queue.jobs import NewJob
    from pillars.queue.states import JobId


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
    return (await _insert(connection, jobs, emit, wake=True)).ids


async def enqueue_alone(database: Database, jobs: Sequence[NewJob], emit: Emit) -> Placed:
    """Insert jobs in a transaction of their own, all or none, and return what became of them.

    The workers are notified at once if they have not been for a few milliseconds, else a moment
    later, so that many who enqueue at a time do not wait for each other.

    Raises:
        JobError: a job is not well-formed; none is inserted.
    """
    notices = database.job_notices
    carried = notices.carry()
    async with database.connection() as connection:
        placed = await _insert(connection, jobs, emit, wake=carried is not None)
    if placed.soon:
        if carried is None:
            notices.owe()
        else:
            notices.pay(carried)
    return placed


def enqueue_sync(connection: Connection[Any], jobs: Sequence[NewJob]) -> list[JobId]:
    """Do the same over a connection that blocks: Django's, or of an SQLAlchemy session.

    The caller's settings bound the time it takes.

    Raises:
        JobError: a job is not well-formed; none is inserted.
    """
    if not jobs:
        return []
    placing = place(jobs, wake=True)
    with connection.transaction() if _needs_transaction(connection, jobs) else nullcontext():
        request = next(placing)
        while True:
            # A framework may have set a cursor of its own as the connection's usual one.
            with Cursor(connection, row_factory=tuple_row) as cursor:
                cursor.execute(request.statement.sql, request.params, binary=True)
                rows = cursor.fetchall()
            try:
                request = placing.send(rows)
            except StopIteration as end:
                placed: Placed = end.value
                return placed.ids


async def _insert(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
    emit: Emit | None,
    *,
    wake: bool,
) -> Placed:
    if not jobs:
        return Placed([], [], soon=False)
    if _needs_transaction(connection, jobs):
        async with transaction(connection):
            placed = await _place(connection, jobs, wake=wake)
    else:
        placed = await _place(connection, jobs, wake=wake)
    if emit is not None:
        if len(placed.inserted) == 1:
            emit(JobsEnqueued(queue_of(placed.inserted[0]), 1))
        else:
            for queue, count in Counter(map(queue_of, placed.inserted)).items():
                emit(JobsEnqueued(queue, count))
    return placed


async def _place(
    connection: AsyncConnection[Any],
    jobs: Sequence[NewJob],
    *,
    wake: bool,
) -> Placed:
    placing = place(jobs, wake=wake)
    request = next(placing)
    while True:
        rows = await fetch(connection, *request)
        try:
            request = placing.send(rows)
        except StopIteration as end:
            placed: Placed = end.value
            return placed


def _needs_transaction(
    connection: AsyncConnection[Any] | Connection[Any],
    jobs: Sequence[NewJob],
) -> bool:
    # One that does not commit by itself is in the caller's transaction, or begins it now: one of
    # ours would be the outermost and commit.
    return connection.autocommit and takes_several_statements(jobs)
