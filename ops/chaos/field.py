"""What the faults meet, and in which order they come."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.chaos.evidence import Deed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.chaos.clocks import Clocks
    from ops.chaos.crew import Crew
    from ops.chaos.files import Files
    from ops.chaos.pair import Pair
    from ops.chaos.proxy import Proxy

# Seconds between faults.
_PAUSE = (2.0, 4.0)


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
        deeds: what was done, in order.
        unsettled: what did not come to pass while it was looked for.
    """

    crew: Crew
    proxy: Proxy
    server: Pair
    files: Files
    clocks: Clocks
    lease: float
    chance: random.Random
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
        forgets: tuple[float, float] | None = None,
    ) -> None:
        """Note a deed that is over now."""
        self.deeds.append(Deed(fault, since, time.time(), tuple(harmed), forgets))


def deck(seed: int, faults: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield faults for ever, each as often as the others, and the pause before each in seconds."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        cards = list(faults)
        chance.shuffle(cards)
        for card in cards:
            yield card, chance.uniform(*_PAUSE)
