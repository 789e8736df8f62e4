"""Readiness as data: named checks, each with a reason, and the checks of each role.

A process that merely lives is `/healthz`; `/readyz` tells whether it does its work: a cron has
completed a pass a short while ago and leaves nothing overdue, a worker asks for jobs, all reach
the database. Once a stop was asked for, nothing is ready any more.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillars.ground.events import PassCompleted, ProcessStopping
from pillars.telemetry.snapshot import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.ground.events import Events

DATABASE_TIMEOUT = 2.0
DATABASE_CACHE = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """What one probe found; `seconds` is the age or duration it looked at, if any."""

    ok: bool
    reason: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the process does its work, and each check that says so."""

    ok: bool
    checks: Mapping[str, Check]


Probe = Callable[[], Check | Awaitable[Check]]


class Health:
    """The probes of one process."""

    def __init__(self, events: Events, clock: Clock) -> None:
        """Start without probes: ready until told to stop."""
        self._events = events
        self._clock = clock
        self._probes: dict[str, Probe] = {}
        self._ages: dict[str, AgeCheck] = {}
        self._stopping: str | None = None
        events.subscribe(ProcessStopping, self._process_stopping)

    def add(self, name: str, probe: Probe) -> None:
        """Ask this probe too; an `AgeCheck` is fed by `progress(name)`."""
        self._probes[name] = probe
        if isinstance(probe, AgeCheck):
            self._ages[name] = probe

    def progress(self, name: str) -> None:
        """Note that the work of this name went on; unknown names are ignored."""
        if name in self._ages:
            self._ages[name].touch()

    def expect_cron(self, lease: float, link: Link) -> None:
        """Add what makes a cron ready: recent passes, nothing overdue for a lease, database."""
        passes = age_check("pass", lease, self._clock)
        overdue = OverdueCheck(lease, self._clock)

        def completed(event: PassCompleted) -> None:
            passes.touch()
            overdue.seen(event.overdue)

        self._events.subscribe(PassCompleted, completed)
        self.add("pass", passes)
        self.add("overdue", overdue)
        self.add("database", DatabaseCheck(link, self._clock))

    def expect_worker(self, limit: float, link: Link) -> None:
        """Add what makes a worker ready: `progress("claim")` within `limit` s, database."""
        self.add("claim", age_check("claim", limit, self._clock))
        self.add("database", DatabaseCheck(link, self._clock))

    def expect_server(self, link: Link) -> None:
        """Add what makes a server ready: the database."""
        self.add("database", DatabaseCheck(link, self._clock))

    async def readiness(self) -> Readiness:
        """Ask all probes at once; one that raises is not ok."""
        if self._stopping is not None:
            return Readiness(ok=False, checks={"running": Check(ok=False, reason=self._stopping)})
        found = await asyncio.gather(*(_ask(probe) for probe in self._probes.values()))
        checks = dict(zip(self._probes, found, strict=True))
        return Readiness(ok=all(check.ok for check in found), checks=checks)

    def _process_stopping(self, event: ProcessStopping) -> None:
        self._stopping = f"stopping: {event.reason}"


class AgeCheck:
    """Ok while the last `touch` is at most `limit` seconds old."""

    def __init__(self, name: str, limit: float, clock: Clock) -> None:
        """Not ok before the first touch."""
        self._name = name
        self._limit = limit
        self._clock = clock
        self._touched: float | None = None

    def touch(self) -> None:
        """Note that it happened now."""
        self._touched = self._clock.monotonic()

    def __call__(self) -> Check:
        """Compare the age with the limit."""
        if self._touched is None:
            return Check(ok=False, reason=f"no {self._name} yet")
        age = self._clock.monotonic() - self._touched
        if age <= self._limit:
            return Check(ok=True, seconds=age)
        reason = f"the last {self._name} was {age:.1f}s ago, more than {self._limit:g}s"
        return Check(ok=False, reason=reason, seconds=age)


class OverdueCheck:
    """Ok unless every pass for longer than `limit` seconds left something overdue."""

    def __init__(self, limit: float, clock: Clock) -> None:
        """Ok until something is overdue."""
        self._limit = limit
        self._clock = clock
        self._count = 0
        self._since: float | None = None

    def seen(self, count: int) -> None:
        """Note how many were overdue just now."""
        self._count = count
        if not count:
            self._since = None
        elif self._since is None:
            self._since = self._clock.monotonic()

    def __call__(self) -> Check:
        """Compare the time since nothing was overdue with the limit."""
        if self._since is None:
            return Check(ok=True, seconds=0.0)
        age = self._clock.monotonic() - self._since
        if age <= self._limit:
            return Check(ok=True, seconds=age)
        reason = f"{self._count} schedules overdue, some for {age:.1f}s, more than {self._limit:g}s"
        return Check(ok=False, reason=reason, seconds=age)


class DatabaseCheck:
    """Ok while the database answers in DATABASE_TIMEOUT; asked at most once a DATABASE_CACHE."""

    def __init__(self, link: Link, clock: Clock) -> None:
        """Ask over a link of its own, so that an emptied pool is not taken for a dead database."""
        self._link = link
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: Check | None = None
        self._asked = 0.0

    async def __call__(self) -> Check:
        """Return the latest answer; whoever comes while one is awaited shares it."""
        async with self._lock:
            if self._last is None or self._clock.monotonic() - self._asked >= DATABASE_CACHE:
                self._last = await self._ask()
                self._asked = self._clock.monotonic()
            return self._last

    async def _ask(self) -> Check:
        asked = self._clock.monotonic()
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT):
                await self._link.fetch(SQL["ping"])
        except TimeoutError:
            return Check(ok=False, reason=f"no answer within {DATABASE_TIMEOUT:g}s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
            # The type alone: the text may name hosts and users, and anyone may read this.
            return Check(ok=False, reason=f"cannot be reached ({type(error).__name__})")
        return Check(ok=True, seconds=self._clock.monotonic() - asked)


def age_check(name: str, limit: float, clock: Clock) -> AgeCheck:
    """Return a probe that is ok while what `name` calls happened at most `limit` seconds ago."""
    return AgeCheck(name, limit, clock)


async def _ask(probe: Probe) -> Check:
    try:
        found = probe()
        return await found if inspect.isawaitable(found) else found
    except Exception as error:  # noqa: BLE001 - a broken probe must not break the endpoint
        return Check(ok=False, reason=f"the check failed ({type(error).__name__})")
