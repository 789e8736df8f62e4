"""The ring: how even the shares are, what moves, and what a join and a leave take."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from uuid import UUID

from ops.benchmarks.bench import Figure, Ground, bare
from pillars.cluster.agent import Membership
from pillars.cluster.ring import SLOTS, RingMember, assign, moved, slot_of
from pillars.ground.clock import SystemClock
from pillars.ground.events import nobody

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pillars.cluster.ring import Map
    from pillars.db.database import Database

# Members, and for each schedule of the benchmark's size how many: 10^6 and 10^7 by default.
_SIMULATED = ((64, 20), (1_000, 200))
_CRONS = 64
_MEMBERS = """
INSERT INTO pillars.members (id, role, name, state, pid, app_version)
SELECT gen_random_uuid(), 'cron', 'cron-' || n, 'active', 1, '0' FROM generate_series(1, %s) AS n
"""


async def dealing(ground: Ground) -> list[Figure]:
    """The map is simulated with names; the transactions are real, beside as many members."""
    figures: list[Figure] = []
    for members, times in _SIMULATED:
        ground.tell(f"ring: {members:,} members, {times * ground.size:,} schedules")
        figures += _simulate(members, times * ground.size)
    transactions = [
        Figure(f"transaction of a cron that {what}, {_CRONS} others", "ms", goal="< 100 ms")
        for what in ("joins", "leaves")
    ]
    for number in range(ground.rounds):
        ground.tell(f"ring, round {number + 1}")
        async with ground.database() as database:
            for figure, seconds in zip(transactions, await _change(database), strict=True):
                figure.ours.append(1e3 * seconds)
    return [*figures, *transactions]


def _simulate(count: int, schedules: int) -> Iterator[Figure]:
    in_slot = [0] * SLOTS
    for number in range(schedules):
        in_slot[slot_of(f"schedule-{number}")] += 1
    members = [RingMember(UUID(int=n + 1), f"cron-{n}") for n in range(count + 1)]
    began = time.perf_counter()
    before = assign([None] * SLOTS, members[:count])
    dealt = time.perf_counter() - began
    began = time.perf_counter()
    joined = assign(before, members)
    joining = time.perf_counter() - began
    left = assign(before, members[1:count])
    at, goals = f"{count:,} crons", count == _CRONS
    yield Figure(
        f"{at}, {schedules:,} schedules: largest share to mean",
        "",
        [_peak(before, in_slot)],
        goal="<= 1.03" if goals else "",
    )
    yield Figure(
        f"{at}: slots that a join moves, to the ideal",
        "",
        [moved(before, joined) / (SLOTS / (count + 1))],
        goal="<= 1.02" if goals else "",
    )
    yield Figure(
        f"{at}: slots that a leave moves, to those it had",
        "",
        [moved(before, left) / before.count(members[0].id)],
        goal="<= 1.02" if goals else "",
    )
    others = _churn(before, joined, members[-1].id) + _churn(left, before, members[0].id)
    yield Figure(f"{at}: slots moved between those that stay", "slots", [others], goal="0")
    yield Figure(f"{at}: all slots dealt anew", "ms", [1e3 * dealt])
    yield Figure(f"{at}: a join dealt", "ms", [1e3 * joining], goal="< 100 ms" if goals else "")


def _peak(owners: Map, in_slot: Sequence[int]) -> float:
    shares: dict[UUID | None, int] = {}
    for owner, schedules in zip(owners, in_slot, strict=True):
        shares[owner] = shares.get(owner, 0) + schedules
    return max(shares.values()) * len(shares) / sum(shares.values())


def _churn(before: Map, after: Map, extra: UUID) -> int:
    """Count the slots that moved though neither owner is the one that came or went."""
    return sum(
        old != new and extra not in (old, new) for old, new in zip(before, after, strict=True)
    )


async def _change(database: Database) -> tuple[float, float]:
    with bare(database) as connection:
        connection.execute(_MEMBERS, (_CRONS - 1,))
    first, second = _member(database, "first"), _member(database, "second")
    await first.join()
    await first.activate()
    await second.join()
    began = time.perf_counter()
    await second.activate()
    joined = time.perf_counter()
    await second.begin_leave()
    return joined - began, time.perf_counter() - joined


def _member(database: Database, name: str) -> Membership:
    async def nothing(*_: object) -> tuple[int, Sequence[object]]:
        return 0, ()

    return Membership(
        database.link(name),
        role="cron",
        name=name,
        pid=os.getpid(),
        url="",
        app_version="0",
        lease=60.0,
        on_expel=nothing,  # type: ignore[arg-type] # of no events
        emit=nobody,
        clock=SystemClock(),
    )
