"""Faults of the ways to the database that some processes have."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.chaos.field import Field

# Seconds, each way.
_DELAY = 0.1


async def cut(ground: Field) -> None:
    """Cut the link of some processes without a FIN, while data is in flight."""
    since = time.time()
    harmed = set(_linked(ground))
    await ground.proxy.cut(ground.chance.uniform(1.5, 2.0) * ground.lease)
    # Meanwhile others may have been started in their place.
    ground.did("cut", since, sorted(harmed | set(_linked(ground))))


async def slow(ground: Field) -> None:
    """Make the link of some processes slow."""
    since = time.time()
    await ground.proxy.slow(ground.chance.uniform(3.0, 6.0), _DELAY)
    ground.did("slow", since)


def _linked(ground: Field) -> list[str]:
    return [ground.crew.id(name) for name in ground.crew.alive() if name in ground.crew.linked]
