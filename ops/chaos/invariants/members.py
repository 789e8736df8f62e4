"""I4 and I5: who owns what, and who was taken for dead."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ops.chaos.invariants.verdict import Verdict

if TYPE_CHECKING:
    from ops.chaos.evidence import Deed, Evidence

SLOTS = 4096
# A heartbeat comes each fifth of a lease, jittered: the silence may have begun before the harm.
HEARTBEAT_SHARE = 0.3
# Without a way to the database, whoever has none is as good as dead. libfaketime itself, not the
# wrong time, slows a thread that beats beside a busy one.
_SILENT = ("kill", "stop", "cut", "crowd", "clocks")


def ring_is_whole(evidence: Evidence) -> Verdict:
    """I4."""
    verdict = Verdict("I4", "each slot has one active owner, shares differ by one, moves are few")
    sizes = Counter(evidence.ring.owners)
    for owner in evidence.ring.owners:
        verdict.require(owner in evidence.ring.crons, f"a slot is owned by {owner}")
    verdict.require(len(evidence.ring.owners) == SLOTS, f"{len(evidence.ring.owners)} slots")
    shares = [sizes[cron] for cron in evidence.ring.crons]
    verdict.require(bool(shares) and max(shares) - min(shares) <= 1, f"shares are {shares}")
    for change in evidence.ring_log:
        if change.reason in {"join", "leave"}:
            parts = change.members + (change.reason == "leave")
            fewest = -(-SLOTS // max(parts, 1)) if change.members else SLOTS
            verdict.require(
                change.moved <= fewest,
                f"ring {change.version} moved {change.moved} slots: {change.reason} to "
                f"{change.members} members",
            )
    return verdict


def nobody_expelled_wrongly(evidence: Evidence) -> Verdict:
    """I5."""
    verdict = Verdict("I5", "nobody is expelled who was not dead, stopped or cut off for a lease")
    incarnations = {
        line.fields["member_id"]: line.process
        for line in evidence.lines
        if line.event == "MemberJoined"
    }
    for line in evidence.lines:
        if line.event != "MemberExpelled":
            continue
        member = incarnations.get(line.fields["member_id"])
        # One that was harmed before it could say that it had joined is known by its name.
        who = member or line.fields["member_name"]
        justified = any(
            _was_dark(deed, who, line.at, evidence.lease)
            for deed in evidence.deeds
            for harmed in deed.harmed
            if harmed == who or (member is None and harmed.rsplit(".", 1)[0] == who)
        )
        verdict.require(justified, f"{who} at {line.at:.1f}: {line.message} (by {line.process})")
    return verdict


def _was_dark(deed: Deed, who: str, at: float, lease: float) -> bool:
    """Tell whether a deed made its victim silent for a lease before an instant."""
    silent = deed.fault.startswith(_SILENT)
    long_enough = at - deed.at >= lease * (1 - HEARTBEAT_SHARE)
    # One that is killed stays silent for ever; another may be expelled just as it wakes.
    not_over = deed.fault.startswith("kill") or at <= deed.until + lease / 5
    return bool(who) and silent and long_enough and not_over
