"""The ring: which member owns which slot. Values and pure functions only.

Consistent hashing with a quota. A schedule's slot is the top 12 bits of mmh3 of its name. Each
member prefers slots by rendezvous hash (Thaler and Ravishankar, 1998: highest random weight), mmh3
of the slot seeded by the member's name. Every member holds floor or ceil of 4096/N slots, so the
shares are equal, and whoever holds a slot keeps it unless the quota forces a move, so a change
moves as few slots as any assignment with equal shares could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mmh3

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

SLOTS = 4096
_SLOT_KEYS = [slot.to_bytes(2, "big") for slot in range(SLOTS)]

Map = tuple["UUID | None", ...]


@dataclass(frozen=True, slots=True)
class RingMember:
    """A cron that takes part in the ring."""

    id: UUID
    name: str


def slot_of(name: str) -> int:
    """Return the slot of a schedule name: the top 12 bits of its 32-bit mmh3 hash."""
    return mmh3.hash(name, signed=False) >> 20


def assign(current: Sequence[UUID | None], members: Collection[RingMember]) -> Map:
    """Return the map for these members that moves the fewest slots of the current one.

    Args:
        current: 4096 owners, None for a slot without one; owners that are no members count as None.
        members: who takes part; their order does not matter.
    """
    if not members:
        return (None,) * SLOTS
    seats = [_Seat(member) for member in sorted(members, key=lambda member: member.id)]
    seat_of = {seat.member.id: seat for seat in seats}
    free: list[int] = []
    for slot, owner in enumerate(current):
        seat = seat_of.get(owner) if owner is not None else None
        if seat is None:
            free.append(slot)
        else:
            seat.held.append(slot)
    _set_quotas(seats)
    takers = [seat for seat in seats if len(seat.held) < seat.quota]
    for seat in seats:
        free += seat.release(takers)
    for slot in sorted(free):
        taker = max(takers, key=lambda seat: (seat.weight(slot), seat.member.id))
        taker.held.append(slot)
        if len(taker.held) == taker.quota:
            takers.remove(taker)
    return _as_map(seats)


def moved(old: Sequence[UUID | None], new: Sequence[UUID | None]) -> int:
    """Return how many slots have another owner."""
    return sum(before != after for before, after in zip(old, new, strict=True))


def mask(owners: Sequence[UUID | None], member: UUID) -> bytes:
    """Return the slots of a member as 512 bytes: slot s is bit s % 8 of byte s // 8.

    This is how PostgreSQL's get_bit(bytea, n) counts.
    """
    bits = bytearray(SLOTS // 8)
    for slot, owner in enumerate(owners):
        if owner == member:
            bits[slot >> 3] |= 1 << (slot & 7)
    return bytes(bits)


class _Seat:
    """A member while slots are being assigned."""

    def __init__(self, member: RingMember) -> None:
        self.member = member
        self.held: list[int] = []
        self.quota = 0
        self._seed = mmh3.hash(member.name, signed=False)

    def weight(self, slot: int) -> int:
        return mmh3.hash(_SLOT_KEYS[slot], self._seed, signed=False)

    def release(self, takers: Sequence[_Seat]) -> list[int]:
        """Give up what is over the quota: the slots that the takers want most."""
        excess = len(self.held) - self.quota
        if excess <= 0:
            return []
        wanted = sorted(
            self.held,
            key=lambda slot: max(taker.weight(slot) for taker in takers),
            reverse=True,
        )
        self.held = wanted[excess:]
        return wanted[:excess]


def _set_quotas(seats: Sequence[_Seat]) -> None:
    base, extra = divmod(SLOTS, len(seats))
    # The larger quota goes to those who hold most already: fewer slots have to move.
    for rank, seat in enumerate(sorted(seats, key=lambda seat: (-len(seat.held), seat.member.id))):
        seat.quota = base + (rank < extra)


def _as_map(seats: Sequence[_Seat]) -> Map:
    owners: list[UUID | None] = [None] * SLOTS
    for seat in seats:
        for slot in seat.held:
            owners[slot] = seat.member.id
    return tuple(owners)
