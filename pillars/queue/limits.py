"""Limits of whole queues: how many of a queue's jobs run at a time, how many start a second, pause.

A queue without a row in `pillars.queues` has none, and its claims know nothing of all this. A queue
with a row is left out by the claims of everything; those of a limited one are made one worker at a
time under its row's lock, for as many jobs as its limits allow now.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.ground.errors import PillarsError
from pillars.queue.jobs import SQL, JobError, NewJob, check_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.db.database import Database, Link
    from pillars.ground.clock import Clock

# How long a worker goes by what it knows of the limited queues.
_KNOWN_FOR = 1.0
_LARGEST = 2**31 - 1
_HIGHEST_RATE = 1e6
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)/([smh])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
# By default as many may start at once as in this many seconds: claiming one by one is slow.
_BURST_SECONDS = 0.1


class QueueLimitError(PillarsError):
    """These limits make no sense."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """A queue that is limited or paused.

    Attributes:
        name: the queue.
        concurrency: how many of its jobs run at a time, over all workers; None: any number.
        rate: starts a second on average; None: any number.
        burst: how many may start at once after a lull; None: those of a tenth of a second.
        paused_at: since when none is started.
    """

    name: str
    concurrency: int | None = None
    rate: float | None = None
    burst: int | None = None
    paused_at: datetime | None = None


class Room(NamedTuple):
    """How many jobs of a queue may start now; if its rate lets none, the seconds until one may."""

    jobs: int
    wait: float | None


class Limits:
    """What a claimer asks of the limited queues; remembers which there are for a second."""

    def __init__(self, clock: Clock) -> None:
        """Know nothing yet."""
        self._clock = clock
        self._names: tuple[str, ...] = ()
        self._read_at = float("-inf")

    async def names(self, link: Link, queues: Sequence[str]) -> Sequence[str]:
        """Return the limited queues among these (none named: all)."""
        return await self._known(link, queues, _KNOWN_FOR)

    async def refresh(self, link: Link, queues: Sequence[str]) -> None:
        """Read them while there is nothing to claim, so that the next claim need not."""
        await self._known(link, queues, _KNOWN_FOR / 4)

    async def _known(self, link: Link, queues: Sequence[str], age: float) -> Sequence[str]:
        now = self._clock.monotonic()
        if now - self._read_at >= age:
            rows = await link.fetch(SQL["limited_queues"], {"queues": list(queues)})
            self._names, self._read_at = tuple(row[0] for row in rows), now
        return self._names

    async def hold(self, connection: AsyncConnection[Any], name: str, wanted: int) -> Room:
        """Lock a queue until the transaction ends and return how many jobs may start."""
        params = {"name": name, "now": self._clock.database_now()}
        rows = await fetch(connection, SQL["hold_queue"], params)
        if not rows:
            return Room(0, None)
        ((concurrency, tokens, wait),) = rows
        room = wanted
        if tokens is not None:
            room = min(room, max(0, tokens))
        if concurrency is not None and room:
            count = {"name": name, "limit": concurrency}
            ((running,),) = await fetch(connection, SQL["count_holding"], count)
            room = min(room, concurrency - running)
        # A queue that is full by its concurrency waits for the end of a job, however high its rate.
        return Room(room, float(wait) if tokens is not None and tokens < 1 else None)

    async def started(self, connection: AsyncConnection[Any], name: str, count: int) -> None:
        """Account for jobs that were claimed under the lock."""
        params = {"name": name, "count": count, "now": self._clock.database_now()}
        await fetch(connection, SQL["take_tokens"], params)

    async def not_started(self, link: Link, name: str, count: int) -> None:
        """Take back the account of jobs that were claimed and have to wait for their key."""
        params = {"name": name, "count": -count, "now": self._clock.database_now()}
        await link.fetch(SQL["take_tokens"], params)


async def limit_queue(database: Database, limits: QueueLimits) -> None:
    """Set how many jobs of a queue run at a time and start a second; neither lifts the limits.

    It holds for jobs that are claimed from now on.

    Raises:
        QueueLimitError: the name is none, or a number cannot be used.
    """
    _check(limits)
    usual = max(1, math.ceil((limits.rate or 0.0) * _BURST_SECONDS))
    params = {
        "name": limits.name,
        "concurrency": limits.concurrency,
        "rate": limits.rate,
        "burst": usual if limits.burst is None else limits.burst,
        "channel": JOBS_CHANNEL,
    }
    async with database.transaction() as connection:
        await fetch(connection, SQL["put_queue"], params)
        await fetch(connection, SQL["tidy_queues"])


async def pause_queue(database: Database, name: str, *, paused: bool) -> None:
    """Start no more jobs of a queue, or start them again; those that run go on.

    Raises:
        QueueLimitError: the name is none.
    """
    _check_name(name)
    params = {"name": name, "paused": paused, "channel": JOBS_CHANNEL}
    async with database.transaction() as connection:
        await fetch(connection, SQL["pause_queue"], params)
        await fetch(connection, SQL["tidy_queues"])


async def list_limits(database: Database) -> list[QueueLimits]:
    """Return the queues that are limited or paused."""
    return [QueueLimits(*row) for row in await database.fetch(SQL["list_queues"])]


def parse_rate(text: str) -> float:
    """Return starts a second for `10/s`, `100/m` or `5000/h`.

    Raises:
        ValueError: it is none of these.
    """
    match = _RATE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError("not a rate: write 10/s, 100/m or 5000/h")
    return float(match[1]) / _SECONDS[match[2]]


def format_rate(rate: float) -> str:
    """Return starts a second in the first unit that makes it a whole number: 10/s, 100/m."""
    for unit, seconds in _SECONDS.items():
        count = round(rate * seconds)
        if count and math.isclose(count, rate * seconds, rel_tol=1e-9):
            return f"{count}/{unit}"
    return f"{rate * 3600:.6g}/h"


def _check_name(name: str) -> None:
    try:
        check_job(NewJob("noop", queue=name))
    except JobError as error:
        raise QueueLimitError(str(error)) from None


def _check(limits: QueueLimits) -> None:
    _check_name(limits.name)
    if limits.concurrency is not None and not 1 <= limits.concurrency <= _LARGEST:
        raise QueueLimitError(f"concurrency {limits.concurrency} is out of range: from 1")
    if limits.rate is not None and not 0 < limits.rate <= _HIGHEST_RATE:
        raise QueueLimitError(f"rate {limits.rate} is out of range: up to 1,000,000 a second")
    if limits.burst is not None and limits.rate is None:
        raise QueueLimitError("burst needs a rate")
    if limits.burst is not None and not 1 <= limits.burst <= _LARGEST:
        raise QueueLimitError(f"burst {limits.burst} is out of range: from 1")
