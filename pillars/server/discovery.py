"""Prometheus finds all members here: its HTTP service discovery, so nobody lists them by hand.

Each target carries the labels `role` and `name`. Some metrics have a label `role` of their own,
which `honor_labels: true` keeps; ops/prometheus/prometheus.yml is a whole configuration. Workers of
one `pillars worker --processes N` are one target: they share a URL, and their names are that of the
whole with a number, `NAME#1`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pillars.cluster.members import list_members
from pillars.server.operations import Answer, Call, Context, Operation

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from pillars.cluster.members import MemberRecord


_NUMBER = re.compile(r"#\d+$")


async def targets(context: Context, _: Call) -> Answer:
    """Return one target group for each member that serves metrics.

    A member is live until another expels it: the table is the one judge of that, here as elsewhere.
    """
    members = await list_members(context.database)
    by_url = {member.url: member for member in members if member.url}
    return Answer([_group(member, urlsplit(url)) for url, member in by_url.items()])


def _group(member: MemberRecord, url: SplitResult) -> dict[str, Any]:
    name = _NUMBER.sub("", member.name) if member.role == "worker" else member.name
    labels = {"role": member.role, "name": name}
    if url.scheme == "https":
        labels["__scheme__"] = "https"
    return {"targets": [url.netloc], "labels": labels}


_GROUP = {
    "type": "object",
    "required": ["targets", "labels"],
    "properties": {
        "targets": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
OPERATIONS = (
    Operation(
        "GET",
        "/sd/prometheus",
        "discoverTargets",
        "All live members, as Prometheus' HTTP service discovery wants them",
        targets,
        answer={"type": "array", "items": _GROUP},
    ),
)
