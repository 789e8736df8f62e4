"""What goes on during a load test, once a second.

What it tells is taken from the database without holding it up, and is near enough for people; the
report does not rest on it, save for CPU and memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pillars.loadtest.meter import server_cpu
from pillars.loadtest.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.loadtest.crew import Crew

EVERY = 1.0
# A look takes a tenth of the time at most, also where it is slow.
_REST = 10


@dataclass(frozen=True, slots=True)
class Look:
    """A moment.

    Attributes:
        at: seconds since the first instant of the run, by the database's clock.
        fires: jobs enqueued a second since the look before.
        p50: how late those were, in seconds; None where there were none.
        p99: the same, 99th percentile.
        worst: the same, at most.
        overdue: schedules that should have been fired.
        depth: jobs that are due and wait for a worker.
        shares: slots by cron.
        database: CPU of the database, in cores; None where it is not known.
        cpu: CPU of each process, in cores, by name.
        resident: memory of each process, in bytes, by name.
    """

    at: float
    fires: float
    p50: float | None
    p99: float | None
    worst: float | None
    overdue: int
    depth: int
    shares: dict[str, int]
    database: float | None
    cpu: dict[str, float] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)


class Watch:
    """Looks at database and processes; `step` is for a `Stepper`."""

    def __init__(
        self,
        link: Link,
        crew: Crew,
        clock: Clock,
        *,
        queue: str,
        start: int,
        postmaster: int | None,
        told: Callable[[Look], None],
    ) -> None:
        """Watch from now on.

        Args:
            link: a connection of its own.
            crew: the processes.
            clock: measures between looks.
            queue: of the run.
            start: the run's first instant in epoch seconds.
            postmaster: the database's process, if it runs here.
            told: is given each look.
        """
        self.looks: list[Look] = []
        self._link = link
        self._crew = crew
        self._clock = clock
        self._queue = queue
        self._start = start
        self._postmaster = postmaster
        self._told = told
        self._newest: int | None = None
        self._last = clock.monotonic()
        self._cpu: dict[str, float] = {}

    async def step(self) -> float:
        """Look once; returns the seconds until the next look."""
        began = self._clock.monotonic()
        await self._look(began)
        return max(EVERY, _REST * (self._clock.monotonic() - began))

    async def _look(self, began: float) -> None:
        if self._newest is None:
            ((self._newest,),) = await self._link.fetch(SQL["newest"])
        ((now,),) = await self._link.fetch(SQL["clock"])
        params = {"queue": self._queue, "after": self._newest}
        ((count, late, self._newest),) = await self._link.fetch(SQL["looked_at"], params)
        ((overdue, depth),) = await self._link.fetch(SQL["waiting"], params)
        shares = await self._link.fetch(SQL["shares"])
        seconds, self._last = max(began - self._last, 1e-3), began
        self._crew.look()
        used = {hand.label: hand.usage for hand in self._crew.running() if hand.usage}
        cpu = {
            name: self._per_second(name, usage.cpu, seconds) or 0.0 for name, usage in used.items()
        }
        p50, p99, worst = late or (None, None, None)
        look = Look(
            at=now - self._start,
            fires=count / seconds,
            p50=p50,
            p99=p99,
            worst=worst,
            overdue=overdue,
            depth=depth,
            shares={name.removeprefix(f"{self._queue}-"): slots for name, slots in shares},
            database=self._postmaster
            and self._per_second("", server_cpu(self._postmaster), seconds),
            cpu=cpu,
            resident={name: usage.resident for name, usage in used.items()},
        )
        self.looks.append(look)
        self._told(look)

    def _per_second(self, name: str, cpu: float, seconds: float) -> float | None:
        before, self._cpu[name] = self._cpu.get(name), cpu
        return None if before is None else max(0.0, cpu - before) / seconds
