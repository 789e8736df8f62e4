"""The tables of the cluster: members, ring and ring_log, read and written here alone.

Every change of who takes part holds the lock of the ring's row and computes the new map from the
stored one in the same transaction, so the map and the members never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillars.cluster.ring import RingMember, assign, moved
from pillars.db.connection import fetch
from pillars.db.notify import RING_CHANNEL
from pillars.db.statements import load_statements
from pillars.ground.events import RingMoved

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection

    from pillars.db.database import Database

SQL = load_statements("pillars.cluster")
# How many leases a member may heartbeat without its loop doing any work. A cron that does nothing
# holds up its slots, though others sweep them; a worker may be in a handler that blocks its loop.
CRON_PATIENCE = 3
PATIENCE = 12


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A live process as the table has it; ages in seconds by the database's clock."""

    id: UUID
    role: str
    name: str
    state: str
    pid: int
    url: str | None
    app_version: str
    started_at: datetime
    heartbeat_age: float
    progress_age: float
    slots: int
    schedules: int
    schedules_digest: str | None


@dataclass(frozen=True, slots=True)
class RingChange:
    """One change of the ring."""

    version: int
    reason: str
    member_name: str | None
    moved: int
    members: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class RingState:
    """The ring's version, its size, and its latest changes, newest first."""

    version: int
    slots: int
    log: list[RingChange]


@dataclass(frozen=True, slots=True)
class Expelled:
    """A member that was removed; ages in seconds."""

    id: UUID
    role: str
    name: str
    heartbeat_age: float
    progress_age: float


async def list_members(database: Database) -> list[MemberRecord]:
    """Return all members by role and name."""
    return [MemberRecord(*row) for row in await database.fetch(SQL["list_members"])]


async def ring_state(database: Database, changes: int = 20) -> RingState:
    """Return the ring with its latest changes."""
    ((version, slots),) = await database.fetch(SQL["ring_state"])
    log = await database.fetch(SQL["ring_log"], {"limit": changes})
    return RingState(version, slots, [RingChange(*row) for row in log])


async def set_state(connection: AsyncConnection[Any], member_id: UUID, state: str) -> bool:
    """Move a member to a state; False when it is no member any more."""
    return bool(await fetch(connection, SQL["set_state"], {"id": member_id, "state": state}))


async def expel(
    connection: AsyncConnection[Any],
    me: UUID,
    lease: float,
    now: datetime | None = None,
) -> list[Expelled]:
    """Remove members that are silent, if our own heartbeats were not interrupted for a lease.

    To be called in a transaction that holds the ring (`lock_ring`). `now` overrides the database's
    clock.
    """
    params = {
        "id": me,
        "now": now,
        "lease": lease,
        "cron_patience": CRON_PATIENCE,
        "patience": PATIENCE,
    }
    rows = await fetch(connection, SQL["expel"], params)
    return [Expelled(*row) for row in rows]


async def holders(
    connection: AsyncConnection[Any],
    digest: str,
    me: UUID | None,
) -> int:
    """Return how many crons other than `me`, not expelled yet, hold a set of schedule files."""
    rows = await fetch(connection, SQL["holders"], {"digest": digest, "id": me})
    return int(rows[0][0])


async def hold_set(connection: AsyncConnection[Any], digest: str, me: UUID | None) -> None:
    """Note that `me` holds a set of schedule files, in the transaction that put it into force."""
    await fetch(connection, SQL["hold_set"], {"digest": digest, "id": me})


async def lock_ring(connection: AsyncConnection[Any]) -> tuple[int, list[UUID | None]]:
    """Hold the ring until the transaction ends; return its version and map."""
    ((version, owners),) = await fetch(connection, SQL["lock_ring"])
    return version, owners


async def rebalance(
    connection: AsyncConnection[Any],
    ring: tuple[int, list[UUID | None]],
    reason: str,
    member: RingMember,
) -> RingMoved | None:
    """Share the slots among the active crons; None when nothing has to move.

    To be called in the transaction that locked `ring`. The result is an event to be emitted after
    the commit.
    """
    version, current = ring
    rows = await fetch(connection, SQL["ring_members"])
    members = [RingMember(*row) for row in rows]
    new = assign(current, members)
    count = moved(current, new)
    if not count:
        return None
    await fetch(
        connection,
        SQL["move_ring"],
        {
            "map": list(new),
            "reason": reason,
            "member_id": member.id,
            "member_name": member.name,
            "moved": count,
            "members": len(members),
            "channel": RING_CHANNEL,
        },
    )
    return RingMoved(version + 1, reason, count)
