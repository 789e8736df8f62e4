"""Watches members and ring from outside, transaction by transaction: who may go, what may move."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pillars.cluster.ring import SLOTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import psycopg

    from tests.helpers import FakeClock

LEASE = 5.0
# How many leases a cron may heartbeat without doing anything.
_PATIENCE = 3
NOBODY = "nobody"


def slots_in(owners: Sequence[str], member: str) -> bytes:
    """Return a member's slots as PostgreSQL's get_bit counts them."""
    bits = sum(1 << slot for slot, owner in enumerate(owners) if owner == member)
    return bits.to_bytes(SLOTS // 8, "little")


class RingWatch:
    """Keeps its own account of signs of life, and every map there was."""

    def __init__(self, sql: psycopg.Connection[Any], clock: FakeClock) -> None:
        self._sql = sql
        self._clock = clock
        self._beat: dict[UUID, float] = {}
        self._worked: dict[UUID, float] = {}
        self._stalled_until = float("-inf")
        self._leaving: UUID | None = None
        self._version = 0
        self.map: Sequence[str] = [NOBODY] * SLOTS
        self.faults: list[str] = []

    def stalled(self) -> None:
        """Note that until now nobody could reach the database, for longer than half a lease."""
        self._stalled_until = self._now

    def leaves(self, member: UUID | None) -> None:
        """Note whose row may go by its own will."""
        self._leaving = member

    def seen(
        self, statement: str, params: Mapping[str, Any], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Note signs of life."""
        if statement == "join":
            self._beat[params["id"]] = self._worked[params["id"]] = self._now
        elif statement == "heartbeat" and rows:
            self._beat[params["id"]] = self._now
            self._worked[params["id"]] = self._now - params["progress_age"]

    async def committed(self) -> None:
        """Look at what a transaction left."""
        rows = self._sql.execute("SELECT id, state FROM pillars.members").fetchall()
        self._judge_the_gone(set(self._beat) - {row[0] for row in rows})
        active = {str(member) for member, state in rows if state == "active"}
        ((version, text),) = self._sql.execute(
            "SELECT version, array_to_string(map, ',', %s) FROM pillars.ring", (NOBODY,)
        )
        owners = text.split(",")
        self._judge_the_map(version, owners, active)
        self._version, self.map = version, owners

    def _judge_the_gone(self, gone: set[UUID]) -> None:
        for member in gone:
            beat, worked = self._beat.pop(member), self._worked.pop(member)
            silent = self._now - max(beat, self._stalled_until) >= LEASE
            idle = (
                self._now - worked >= _PATIENCE * LEASE
                and self._now - max(worked, self._stalled_until) >= LEASE
            )
            if member != self._leaving and not silent and not idle:
                self.faults.append("expelled wrongly")

    def _judge_the_map(self, version: int, owners: Sequence[str], active: set[str]) -> None:
        moves = sum(old != new for old, new in zip(self.map, owners, strict=True))
        if version != self._version + (moves > 0):
            self.faults.append("a version that does not count the maps")
        held = Counter(owners)
        shares = [held[member] for member in active]
        if set(held) - (active or {NOBODY}):
            self.faults.append("slots without an active owner")
        elif active and max(shares) - min(shares) > 1:
            self.faults.append("shares that differ")
        elif active and moves > self._fewest_moves(active):
            self.faults.append("moves without need")

    def _fewest_moves(self, active: set[str]) -> int:
        """Return how many slots cannot stay where equal shares are wanted."""
        held = Counter(self.map)
        base, extra = divmod(SLOTS, len(active))
        counts = sorted((held[member] for member in active), reverse=True)
        return SLOTS - sum(min(count, base + (n < extra)) for n, count in enumerate(counts))

    @property
    def _now(self) -> float:
        return self._clock.now.timestamp()
