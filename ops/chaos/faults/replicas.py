"""Faults of single replicas: a wrong clock, old files, somebody else's name."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ops.chaos.field import Field

_HOUR = 3600.0
# A clock that drifts by a tenth of a second each quarter of a second.
_DRIFTS, _DRIFT, _DRIFT_EVERY = 12, 0.1, 0.25
_TWIN = "cron-twin"
_SHARED: LiteralString = (
    "SELECT (SELECT count(DISTINCT owner) FROM pillars.ring, unnest(map) AS owner "
    "JOIN pillars.members ON members.id = owner) "
    "= (SELECT count(*) FROM pillars.members WHERE role = 'cron' AND state = 'active')"
)


async def clocks(ground: Field) -> None:
    """Let the clocks of a cron and a worker be an hour off, jump, and drift."""
    since = time.time()
    names = [ground.one("cron"), ground.one("worker")]
    await _restart(
        ground,
        names,
        lambda name: ground.clocks.environment(name, _HOUR if name == names[0] else -_HOUR),
    )
    harmed = [ground.crew.id(name) for name in names]
    for name, incarnation, ahead in zip(names, harmed, (_HOUR, -_HOUR), strict=True):
        ground.clocks.set(name, incarnation, ahead)
    for ahead in (-_HOUR, _HOUR):
        await ground.wait(1.5, 2.5)
        for name, incarnation in zip(names, harmed, strict=True):
            ground.clocks.set(name, incarnation, ahead)
    for drift in range(_DRIFTS):
        for name, incarnation in zip(names, harmed, strict=True):
            ground.clocks.set(name, incarnation, drift * _DRIFT)
        await asyncio.sleep(_DRIFT_EVERY)
    await _restart(ground, names, lambda _: {})
    ground.did("clocks", since, harmed)


async def old_files(ground: Field) -> None:
    """Restart a cron with the files of before, as a roll-out that is half done does."""
    since = time.time()
    name = ground.one("cron")
    # Both editions come into force one after the other, and nobody writes a third between them.
    async with ground.files.held:
        await ground.in_force("before the next")
        ground.files.write()
        await ground.in_force("before it is superseded")
        old = str(ground.files.superseded())
    await _restart(ground, [name], lambda _: {"PILLARS_SCHEDULES_DIR": old})
    await ground.wait(ground.lease, 1.5 * ground.lease)
    await _restart(ground, [name], lambda _: {})
    ground.did("old-files", since)


async def twin(ground: Field) -> None:
    """Let a second cron join under the name, and from the host, of one that lives."""
    since = time.time()
    ground.crew.start(_TWIN, known_as=ground.one("cron"))
    await ground.crew.joined(_TWIN)
    await ground.until(_SHARED, (True,), "two crons of one name have a share each")
    await ground.wait(1.0, 3.0)
    await ground.crew.stop([_TWIN])
    ground.did("twin", since)


async def _restart(
    ground: Field, names: list[str], settings: Callable[[str], Mapping[str, str]]
) -> None:
    await ground.crew.stop(names)
    for name in names:
        ground.crew.start(name, **settings(name))
    await _all(ground.crew.joined, names)


async def _all(verb: Callable[[str], Awaitable[None]], names: list[str]) -> None:
    await asyncio.gather(*(verb(name) for name in names))
