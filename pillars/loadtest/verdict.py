"""What a load test came to, counted in the database when all crons have stopped.

Lateness is the time from a tick's instant to its job's `created_at`, when the fire statement that
wrote it began; until its commit it takes some milliseconds more, which are in the crons' own metric
`pillars_cron_lateness_seconds`. What was written before its instant counts as 0, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.db.arrays import int_array, text_array
from pillars.db.connection import fetch
from pillars.loadtest.statements import PATIENCE, SQL, patient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import AsyncConnection

    from pillars.db.statements import Statement
    from pillars.ground.settings import Secret

# Upper ends of the histogram's buckets, seconds; the first one is of what was not late.
EDGES = (1e-6, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MOST_BINS = 600


@dataclass(frozen=True, slots=True)
class Window:
    """Whose ticks, and which: `since < tick <= until`, epoch seconds by the database's clock."""

    queue: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Ticks.

    Attributes:
        expected: that there should be.
        enqueued: of those, that have a job.
        missed: of those, that have none, or one that says that it was missed.
        double: jobs beyond the first of a tick.
        unexpected: that have a job, and that should not be.
    """

    expected: int
    enqueued: int
    missed: int
    double: int
    unexpected: int

    def __bool__(self) -> bool:
        """Tell whether each tick was enqueued once, and no other."""
        return not (self.missed or self.double or self.unexpected)


@dataclass(frozen=True, slots=True)
class Lateness:
    """Of all ticks in the window, in seconds; epoch seconds for `first` and `last`.

    Attributes:
        p50, p99, worst: percentiles and maximum.
        late: how many came to the workers after their tick at all.
        buckets: how many there are up to each of EDGES, and beyond.
        first, last: when the first and the last were written; None where there are none.
    """

    p50: float
    p99: float
    worst: float
    late: int
    buckets: tuple[int, ...]
    first: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class Course:
    """What happened when; the time axis is seconds since the window's start.

    Attributes:
        bin: the width of a bin in seconds.
        timeline: (time of ticks, how many, 99th percentile and maximum of their lateness).
        throughput: (time, jobs enqueued, jobs ended).
        rebalances: (time, reason, whose, slots moved, crons).
    """

    bin: int
    timeline: list[tuple[float, int, float, float]]
    throughput: list[tuple[float, int, int]]
    rebalances: list[tuple[float, str, str | None, int, int]]


async def judge(
    dsn: Secret, window: Window, demanded: Mapping[str, Sequence[int]], before: float
) -> tuple[Counts, Lateness, Course]:
    """Count.

    Args:
        dsn: the database.
        window: the ticks.
        demanded: by encoded timing, the ticks of each schedule that has it.
        before: so many seconds before the window the first cron was started.
    """
    async with patient(dsn) as connection:
        return (
            await _count(connection, window, demanded),
            await _lateness(connection, window),
            await _course(connection, window, before),
        )


async def _count(
    connection: AsyncConnection[Any], window: Window, demanded: Mapping[str, Sequence[int]]
) -> Counts:
    pairs = [(timing, tick) for timing, ticks in demanded.items() for tick in ticks]
    ((expected, enqueued, double, unexpected),) = await _fetch(
        connection,
        SQL["verdict"],
        window,
        timings=text_array(timing for timing, _ in pairs),
        ticks=int_array(tick for _, tick in pairs),
    )
    return Counts(expected, enqueued, expected - enqueued, double, unexpected)


async def _lateness(connection: AsyncConnection[Any], window: Window) -> Lateness:
    ((percentiles, late, buckets, first, last),) = await _fetch(
        connection, SQL["lateness"], window, edges=list(EDGES)
    )
    p50, p99, worst = percentiles or (0.0, 0.0, 0.0)
    return Lateness(p50, p99, worst, late, tuple(buckets), first, last)


async def _course(connection: AsyncConnection[Any], window: Window, before: float) -> Course:
    width = -(-(window.until - window.since) // _MOST_BINS)
    timeline = await _fetch(connection, SQL["timeline"], window, bin=width)
    throughput = await _fetch(connection, SQL["throughput"], window, bin=width)
    rebalances = await _fetch(connection, SQL["rebalances"], window, before=before)
    return Course(
        width,
        [(at * width, count, *late) for at, count, late in timeline],
        [(at * width, enqueued, ended) for at, enqueued, ended in throughput],
        [(*row,) for row in rebalances],
    )


async def _fetch(
    connection: AsyncConnection[Any], statement: Statement, window: Window, **others: object
) -> Sequence[tuple[Any, ...]]:
    params = {
        "queue": window.queue,
        "since": float(window.since),
        "until": float(window.until),
        **others,
    }
    return await fetch(connection, statement, params, PATIENCE)
