"""I4 and I5: who owns what, and who was taken for dead."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ops.chaos.invariants.silence import Silence
from ops.chaos.invariants.verdict import Verdict

if TYPE_CHECKING:
    from ops.chaos.evidence import Evidence

SLOTS = 4096


def ring_is_whole(evidence: Evidence) -> Verdict:
    """I4."""
    verdict = Verdict("I4", "each slot has one active owner, shares differ by one, moves are few")
    sizes = Counter(evidence.ring.owners)
    for owner in evidence.ring.owners:
        verdict.require(owner in evidence.ring.crons, f"a slot is owned by {owner}")
    verdict.require(len(evidence.ring.owners) == SLOTS, f"{len(evidence.ring.owners)} slots")
    shares = [sizes[cron] for cron in evidence.ring.crons]
    verdict.require(bool(shares) and max(shares) - min(shares) <= 1, f"shares are {shares}")
    _check_moves(evidence, verdict)
    return verdict


def nobody_expelled_wrongly(evidence: Evidence) -> Verdict:
    """I5."""
    verdict = Verdict("I5", "nobody is expelled who was not dead, stopped or cut off for a lease")
    silence = Silence(evidence)
    expelled = set()
    for line in evidence.lines:
        if line.event == "MemberExpelled":
            expelled.add(line.fields["member_id"])
            who = silence.process.get(line.fields["member_id"]) or line.fields["member_name"]
            verdict.require(
                silence.explains_expulsion(line),
                f"{who} at {line.at:.1f}: {line.message} (by {line.process})",
            )
    for line in evidence.lines:
        if line.event == "MembershipLost":
            verdict.require(
                line.fields["member_id"] in expelled or silence.explains_loss(line),
                f"{line.process} at {line.at:.1f}: {line.message}, and nobody had a reason",
            )
    return verdict


def _check_moves(evidence: Evidence, verdict: Verdict) -> None:
    """Hold each change to the fewest slots that it has to move.

    Who joins takes a share, who leaves leaves one; those that are expelled leave as many as they
    had, at most a share of what there were before.
    """
    before = 0
    for change in evidence.ring_log:
        if change.reason == "expel":
            fewest = max(0, before - change.members) * _share(before)
        else:
            fewest = _share(change.members + (change.reason == "leave"))
        if not change.members:
            fewest = SLOTS
        verdict.require(
            change.moved <= fewest,
            f"ring {change.version} moved {change.moved} slots: {change.reason} to "
            f"{change.members} members from {before}",
        )
        before = change.members


def _share(members: int) -> int:
    return -(-SLOTS // max(members, 1))
