"""Limits of whole queues: how many of a queue's jobs run at a time, how many start a second, pause.

A queue without a row in `pillars.queues` has none, and its claims know nothing of all this. A queue
with a row is left out by claims, unless the claimer holds the row of a limited one: then as many of
its jobs as its limits allow now are claimed along with those of all others, in the order of
priorities. Before that a look without locks tells which limited queues are worth to be held, so
that those which are empty or full cost next to nothing.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.db.connection import fetch
from pillars.db.notify import JOBS_CHANNEL
from pillars.ground.errors import PillarsError
from pillars.queue.jobs import SQL, JobError, NewJob, check_job
from pillars.queue.lanes import LIMITED_DUE, LIMITED_DUE_ON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.db.database import Database, Link
    from pillars.ground.clock import Clock
    from pillars.queue.lanes import Lanes

# How long a worker goes by what it knows of there being limited queues.
_KNOWN_FOR = 1.0
# Seconds until a worker looks again for jobs of a queue that another one holds for its claim.
_HELD_FOR = 0.05
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


class Limits:
    """What a claimer asks of the limited queues; remembers for a second whether there are any.

    Attributes:
        wait: after a claim, seconds until more of a limited queue may start; None: nobody knows.
        seen_at: when the claim looked at limited queues, by the database's clock; None: it did not.
    """

    def __init__(self, clock: Clock) -> None:
        """Know nothing yet."""
        self.wait: float | None = None
        self.seen_at: datetime | None = None
        self._clock = clock
        self._exist = False
        self._read_at = float("-inf")

    async def ready(self, link: Link, lanes: Lanes, queues: Sequence[str]) -> Sequence[str]:
        """Return those of these queues (none named: all) of which the limits let start a job."""
        self.wait = self.seen_at = None
        await self._refresh(link, queues, _KNOWN_FOR)
        if not self._exist:
            return ()
        statement, places = lanes.over(LIMITED_DUE, LIMITED_DUE_ON)
        params = {"queues": list(queues), "now": self._clock.database_now()} | places
        ((self.seen_at, names, self.wait),) = await link.fetch(statement, params)
        return tuple(names)

    async def refresh(self, link: Link, queues: Sequence[str]) -> None:
        """Read whether there are any while nothing is to be claimed: the next claim need not."""
        await self._refresh(link, queues, _KNOWN_FOR / 4)

    async def hold(
        self, connection: AsyncConnection[Any], names: Sequence[str], wanted: int
    ) -> dict[str, int]:
        """Lock queues until the transaction ends; return how many jobs of each may start."""
        params = {"names": list(names), "limit": wanted, "now": self._clock.database_now()}
        rows = await fetch(connection, SQL["hold_queues"], params)
        if len(rows) < min(wanted, len(names)):
            # Somebody else holds one, who may not take all that is due.
            self._wait_at_most(_HELD_FOR * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        limits = {name: limit for name, limit, _ in rows if limit is not None}
        running = {}
        if limits:
            count = {"names": list(limits), "limits": list(limits.values())}
            running = dict(await fetch(connection, SQL["count_holding"], count))
        rooms = {name: wanted if tokens is None else tokens for name, _, tokens in rows}
        for name, limit in limits.items():
            rooms[name] = min(rooms[name], limit - running.get(name, 0))
        return rooms

    async def started(self, connection: AsyncConnection[Any], counts: Mapping[str, int]) -> None:
        """Account for jobs that were claimed under the lock, so many of each queue that is held."""
        for (wait,) in await fetch(connection, SQL["take_tokens"], self._account(counts)):
            if wait > 0:
                self._wait_at_most(wait)

    async def not_started(self, link: Link, counts: Mapping[str, int]) -> None:
        """Take back the account of jobs that were claimed and have to wait for their key."""
        # One by one: two claimers must not wait crosswise for each other's queues.
        for name, count in counts.items():
            await link.fetch(SQL["take_tokens"], self._account({name: -count}))

    async def _refresh(self, link: Link, queues: Sequence[str], age: float) -> None:
        now = self._clock.monotonic()
        if now - self._read_at >= age:
            ((self._exist,),) = await link.fetch(SQL["are_limited"], {"queues": list(queues)})
            self._read_at = now

    def _account(self, counts: Mapping[str, int]) -> dict[str, Any]:
        return {
            "names": list(counts),
            "counts": list(counts.values()),
            "now": self._clock.database_now(),
        }

    def _wait_at_most(self, seconds: float) -> None:
        self.wait = seconds if self.wait is None else min(self.wait, seconds)


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
