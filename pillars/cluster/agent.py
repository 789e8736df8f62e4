"""Membership of one process: join, heartbeat, notice others' death and one's own, leave.

    join ------> joining --activate--> active --hand_over--> leaving --leave--> (no row)
                                          |
                                          +-- silent for a lease, or without progress: expelled

Who is authoritative: the tables. What this process believes (its slots, the version of the ring)
is a copy that is at most one heartbeat old, and nothing unsafe follows from a stale copy: a fire is
fenced by the schedule's version, a claim by the member's row, a finish by worker and attempt.

- The lease runs on the database's clock. Only a member whose own heartbeats were not interrupted
  for a whole lease may expel others, so after a stall of the database nobody is expelled wrongly.
- A member that could not heartbeat for 0.8 lease, by its own monotonic clock and counted from when
  the last good heartbeat was sent, stops firing by ownership.
- A member that finds its row gone drops its slots and joins anew under a new id.
- A cron that leaves goes on firing its old slots until every active cron has seen the new map, or
  3 s: the overlap costs lost races, and there is no gap.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from pillars.cluster import members
from pillars.cluster.members import CRON_PATIENCE, PATIENCE, SQL, Expelled
from pillars.cluster.ring import SLOTS, RingMember, mask
from pillars.db.connection import fetch
from pillars.ground.events import (
    ClockMeasured,
    HeartbeatSent,
    MemberExpelled,
    MemberJoined,
    MemberLeft,
    MembershipLost,
    RingSeen,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit, Event

    OnExpel = Callable[
        [AsyncConnection[Any], Sequence[UUID]],
        Awaitable[tuple[int, Sequence[Event]]],
    ]

HEARTBEATS_PER_LEASE = 5
TRUST = 0.8
HAND_OVER_LIMIT = 3.0
_NO_SLOTS = bytes(SLOTS // 8)
_OFFSET_SAMPLES = 60


class _Seen(NamedTuple):
    """Which map: a standby that is promoted may give one version twice, and not at one time."""

    version: int
    changed_at: datetime | None


_NO_RING = _Seen(0, None)


class Membership:
    """One process's place in the cluster. `step` is run by a Stepper; the rest are verbs."""

    def __init__(
        self,
        link: Link,
        *,
        role: str,
        name: str,
        pid: int,
        url: str,
        app_version: str,
        lease: float,
        on_expel: OnExpel,
        emit: Emit,
        clock: Clock,
        queues: Sequence[str] = (),
    ) -> None:
        """Describe the process; nothing is written yet.

        Args:
            link: a connection of the heartbeat's own, so that a full pool never looks like death.
            role: server, worker or cron; crons alone take part in the ring.
            name: its name for people and on the ring; need not be unique.
            pid: process id.
            url: where its /metrics and /readyz are.
            app_version: the version of Pillars.
            lease: seconds of silence after which a member is taken for dead.
            on_expel: called in the transaction that removes workers with their ids; returns how
                many jobs it rescued, and events to be emitted after the commit.
            emit: receives the events of the cluster.
            clock: monotonic time; a test's clock also owns the database's time.
            queues: what a worker serves; none named means all.
        """
        self.member_id: UUID | None = None
        self.role = role
        self.name = name
        self._link = link
        self._row = {
            "role": role,
            "name": name,
            "pid": pid,
            "url": url,
            "app_version": app_version,
            "queues": list(queues),
        }
        self._lease = lease
        self._on_expel = on_expel
        self._emit = emit
        self._clock = clock
        self._schedules_digest: str | None = None
        self._mask = _NO_SLOTS
        self._seen = _NO_RING
        self._active = False
        self._leaving = False
        self._progressed_at = clock.monotonic()
        self._beat_at = clock.monotonic()
        self._offsets: deque[tuple[float, float]] = deque(maxlen=_OFFSET_SAMPLES)

    # ---- what others read

    @property
    def slots(self) -> bytes:
        """The owned slots as get_bit counts them; none while ownership cannot be trusted."""
        trusted = self._clock.monotonic() - self._beat_at < TRUST * self._lease
        return self._mask if trusted else _NO_SLOTS

    @property
    def ring_version(self) -> int:
        """The version of the map that the owned slots are by; 0 before there is one."""
        return self._seen.version

    @property
    def slot_count(self) -> int:
        """How many slots this process owns by its latest map."""
        return int.from_bytes(self._mask, "big").bit_count()

    def progressed(self) -> None:
        """Note that the process's loop did real work; without it the member is expelled."""
        self._progressed_at = self._clock.monotonic()

    def holds(self, digest: str) -> None:
        """Note which set of schedule files this process holds; told with the next heartbeat."""
        self._schedules_digest = digest

    # ---- verbs

    async def join(self) -> None:
        """Enter the members under a new id."""
        member_id = uuid4()
        params = {
            "id": member_id,
            "now": self._clock.database_now(),
            "schedules_digest": self._schedules_digest,
            **self._row,
        }
        await self._link.fetch(SQL["join"], params)
        self.member_id = member_id
        self._beat_at = self._clock.monotonic()
        self.progressed()

    async def activate(self) -> None:
        """Take part: for a cron, take a fair share of the slots in the same transaction."""
        member = self._me()
        sent = self._clock.monotonic()
        async with self._link.transaction() as connection:
            ring = await members.lock_ring(connection)
            alive = await members.set_state(connection, member.id, "active")
            moved = (
                await members.rebalance(connection, ring, "join", member)
                if alive and self.role == "cron"
                else None
            )
        if not alive:
            self._lost()
            return
        self._active = True
        self._beat_at = sent
        if moved:
            self._emit(moved)
        if self.role == "cron":
            await self._take_over_ring()
        self._emit(
            MemberJoined(self.role, self.name, str(member.id), self.slot_count, self.ring_version),
        )

    async def step(self) -> float:
        """Heartbeat once and act on what it showed; returns the seconds until the next."""
        pause = self._lease / HEARTBEATS_PER_LEASE * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        if self._leaving and self.member_id is None:
            return pause
        if not self._active and not self._leaving:
            return await self._take_part(pause)
        beat = await self._heartbeat()
        if beat is None:
            self._lost()
            return 0.0
        seen, suspects = beat
        moved = suspects and self._active and await self._expel()
        if (moved or seen != self._seen) and self.role == "cron" and not self._leaving:
            self._emit(await self._take_over_ring())
            # Tell at once that the new map is in use: a leaving cron waits for it.
            return 0.0
        return pause

    async def begin_leave(self) -> int:
        """Announce the leave; a cron gives its slots away but may still fire them.

        Returns the ring version that the others must have seen, 0 when nothing has to be seen.
        """
        if self.member_id is None:
            return 0
        self._leaving = True
        member = self._me()
        async with self._link.transaction() as connection:
            ring = await members.lock_ring(connection)
            await members.set_state(connection, member.id, "leaving")
            moved = (
                await members.rebalance(connection, ring, "leave", member)
                if self.role == "cron" and self._active
                else None
            )
        if moved is None:
            return 0
        self._emit(moved)
        return moved.version

    async def handed_over(self, version: int) -> bool:
        """Tell whether every active cron has taken over this version of the ring."""
        rows = await self._link.fetch(SQL["not_yet_seen"], {"version": version})
        return bool(rows[0][0] == 0)

    async def leave(self) -> None:
        """Remove the row; jobs this process still held go back to the queue."""
        if self.member_id is None:
            return
        member = self._me()
        moved = None
        lost: Sequence[Event] = ()
        async with self._link.transaction() as connection:
            ring = await members.lock_ring(connection)
            await fetch(connection, SQL["remove"], {"id": member.id})
            if self.role == "worker":
                _, lost = await self._on_expel(connection, [member.id])
            if self.role == "cron":
                # Nothing to move after a hand-over; without one the slots must not stay with us.
                moved = await members.rebalance(connection, ring, "leave", member)
        for event in (*lost, *((moved,) if moved else ())):
            self._emit(event)
        self._emit(MemberLeft(self.role, self.name, str(member.id)))
        self.member_id = None
        self._mask = _NO_SLOTS

    # ---- helpers

    def _me(self) -> RingMember:
        if self.member_id is None:
            raise RuntimeError("join first")
        return RingMember(self.member_id, self.name)

    async def _take_part(self, pause: float) -> float:
        """Join and activate, for the first time or anew; a failure in between is made up for."""
        # A process whose loop hangs would be expelled again and again: it waits until it moves.
        if self._clock.monotonic() - self._progressed_at > CRON_PATIENCE * self._lease:
            return pause
        if self.member_id is None:
            await self.join()
        await self.activate()
        return 0.0

    async def _heartbeat(self) -> tuple[_Seen, bool] | None:
        sent, sent_wall = self._clock.monotonic(), time.time()
        rows = await self._link.fetch(
            SQL["heartbeat"],
            {
                "id": self.member_id,
                "now": self._clock.database_now(),
                "lease": self._lease,
                "progress_age": sent - self._progressed_at,
                "ring_version": self.ring_version,
                "schedules_digest": self._schedules_digest,
                "cron_patience": CRON_PATIENCE,
                "patience": PATIENCE,
            },
        )
        took = self._clock.monotonic() - sent
        if not rows:
            return None
        ((version, changed_at, database_time, suspects),) = rows
        self._beat_at = sent
        self._emit(HeartbeatSent(took))
        # The sample with the shortest round trip is the least wrong.
        self._offsets.append((took, sent_wall + took / 2 - database_time))
        self._emit(ClockMeasured(min(self._offsets)[1]))
        return _Seen(version, changed_at), suspects

    async def _expel(self) -> bool:
        """Remove who gives no sign of life; tells whether the ring was moved."""
        me = self._me()
        rescued: dict[UUID, int] = {}
        lost: list[Event] = []
        moved = None
        async with self._link.transaction() as connection:
            ring = await members.lock_ring(connection)
            now = self._clock.database_now()
            gone = await members.expel(connection, me.id, self._lease, now)
            for member in gone:
                if member.role == "worker":
                    rescued[member.id], dead = await self._on_expel(connection, [member.id])
                    lost += dead
            crons = [RingMember(member.id, member.name) for member in gone if member.role == "cron"]
            if crons:
                moved = await members.rebalance(connection, ring, "expel", crons[0])
        for member in gone:
            self._emit(self._expelled(member, rescued.get(member.id, 0)))
        for event in lost:
            self._emit(event)
        if moved is None:
            return False
        self._emit(moved)
        return True

    def _expelled(self, member: Expelled, rescued: int) -> MemberExpelled:
        silent = member.heartbeat_age > self._lease
        return MemberExpelled(
            role=member.role,
            name=member.name,
            member_id=str(member.id),
            reason="silent" if silent else "no progress",
            silent_for=member.heartbeat_age if silent else member.progress_age,
            jobs_rescued=rescued,
        )

    async def _take_over_ring(self) -> RingSeen:
        ((version, changed_at, owners),) = await self._link.fetch(SQL["ring"])
        old, new = self._mask, mask(owners, self._me().id)
        self._mask = new
        self._seen = _Seen(version, changed_at)
        return RingSeen(
            version=version,
            slots=_bits(new),
            gained=_bits(_minus(new, old)),
            lost=_bits(_minus(old, new)),
        )

    def _lost(self) -> None:
        self._emit(MembershipLost(self.role, self.name, str(self.member_id)))
        self.member_id = None
        self._active = False
        self._mask = _NO_SLOTS
        self._seen = _NO_RING


def _bits(slots: bytes) -> int:
    return int.from_bytes(slots, "big").bit_count()


def _minus(one: bytes, other: bytes) -> bytes:
    return bytes(a & ~b & 0xFF for a, b in zip(one, other, strict=True))
