"""The processes over HTTP: members, the ring."""

from __future__ import annotations

from pillars.cluster.members import MemberRecord, RingState, list_members, ring_state
from pillars.server.operations import Answer, Call, Context, Operation
from pillars.server.records import listing, schema_of, to_json


async def list_all_members(context: Context, _: Call) -> Answer:
    """Return every live process."""
    return Answer({"members": to_json(await list_members(context.database))})


async def show_ring(context: Context, _: Call) -> Answer:
    """Return the ring with its latest changes."""
    return Answer(to_json(await ring_state(context.database)))


OPERATIONS = (
    Operation(
        "GET",
        "/api/v1/members",
        "listMembers",
        "Every live process with its share of the ring",
        list_all_members,
        answer=listing("members", MemberRecord),
    ),
    Operation(
        "GET",
        "/api/v1/ring",
        "showRing",
        "The ring and its latest changes",
        show_ring,
        answer=schema_of(RingState),
    ),
)
