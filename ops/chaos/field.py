"""What the faults meet, and in which order they come."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, LiteralString

import psycopg

from ops.chaos.evidence import Deed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ops.chaos.clocks import Clocks
    from ops.chaos.crew import Crew
    from ops.chaos.files import Files
    from ops.chaos.pair import Pair
    from ops.chaos.proxy import Proxy

# Seconds between faults; longer where others happen meanwhile.
PAUSE, LONG_PAUSE = (2.0, 4.0), (2.0, 20.0)
# Longer than an outage and what follows it.
_PATIENCE, _LOOK_EVERY = 30.0, 0.2
_EDITION: LiteralString = (
    "SELECT max((args ->> 'edition')::bigint) FROM pillars.schedules WHERE args ? 'edition'"
)


@dataclass(slots=True)
class Field:
    """Whom the faults meet; durations in seconds.

    Attributes:
        crew: the processes.
        proxy: the way to the database of some of them.
        server: the database.
        files: the schedules' files.
        clocks: wrong clocks for processes.
        lease: silence after which a member is taken for dead.
        chance: decides on whom and when.
        lane: what is harmed by these faults, where others happen at the same time.
        deeds: what was done, in the order of its end.
        unsettled: what did not come to pass while it was looked for.
    """

    crew: Crew
    proxy: Proxy
    server: Pair
    files: Files
    clocks: Clocks
    lease: float
    chance: random.Random = field(default_factory=random.Random)
    lane: str = ""
    deeds: list[Deed] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    def one(self, *roles: str) -> str:
        """Pick a living process of one of these roles."""
        return self.chance.choice([name for role in roles for name in self.crew.alive(role)])

    async def wait(self, least: float, most: float) -> None:
        """Let time pass, some."""
        await asyncio.sleep(self.chance.uniform(least, most))

    def did(
        self,
        fault: str,
        since: float,
        harmed: Sequence[str] = (),
        until: float | None = None,
        forgets: tuple[float, float] | None = None,
    ) -> None:
        """Note a deed that is over: since then, or now."""
        until = time.time() if until is None else until
        self.deeds.append(Deed(fault, since, until, tuple(harmed), forgets, self.lane))

    async def in_force(self, when: str) -> None:
        """Wait until the latest files are in force; that they never were is noted."""
        edition = self.files.edition
        await self.until(_EDITION, (edition,), f"edition {edition} is in force {when}")

    async def until(self, query: LiteralString, row: tuple[object, ...], what: str) -> None:
        """Wait until a query returns a row, through whatever befalls the database meanwhile."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError, TimeoutError):
                async with asyncio.timeout(_PATIENCE), self.asking() as connection:
                    if await (await connection.execute(query)).fetchall() == [row]:
                        return
            await asyncio.sleep(_LOOK_EVERY)
        self.unsettled.append(what)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
        """Connect to the database directly."""
        async with await psycopg.AsyncConnection.connect(
            self.server.dsn.reveal(), autocommit=True, application_name="nemesis"
        ) as connection:
            yield connection


def deck(
    chance: random.Random, faults: Sequence[str], pause: tuple[float, float]
) -> Iterator[tuple[str, float]]:
    """Yield faults for ever, each as often as the others, and the pause before each in seconds."""
    while faults:
        cards = list(faults)
        chance.shuffle(cards)
        for card in cards:
            yield card, chance.uniform(*pause)
