"""Who could give no sign of life, and when: what makes it right to take somebody for dead."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.chaos.evidence import Evidence, Line

    Span = tuple[float, float]

# A heartbeat comes each fifth of a lease, jittered: the silence may have begun before the harm, and
# between two harms there need not have been one.
HEARTBEAT_SHARE = 0.3
# A gap of half a lease ends the right to expel others: a longer stall of the database excuses none.
_STREAK_GAP = 0.5
# Without a way to the database, whoever has none is as good as dead. libfaketime itself, not the
# wrong time, slows a thread that beats beside a busy one.
_SILENT = ("kill", "stop", "cut", "crowd", "clocks")
# Those that break connections of everybody, or of those that might have told of what they did.
AWAY = ("db", "promote", "terminate", "crowd")
# Of these a member's row may be left that nobody knows of: the answer to its joining was lost.
_UNANSWERED = (*AWAY, "cut")
# An expulsion is told by who did it, unless that is killed, or does not learn that it was done.
_UNTOLD = (*_UNANSWERED, "kill")


def union(spans: Iterable[Span], bridge: float = 0.0) -> list[Span]:
    """Return these stretches in order, those that overlap or are at most `bridge` apart as one."""
    merged: list[Span] = []
    for since, until in sorted(spans):
        if merged and since <= merged[-1][1] + bridge:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, until))
    return merged


class Silence:
    """What is known of the members of a run: who each one was, when it was silent, when it ended.

    Attributes:
        process: incarnations by the id they had as a member.
    """

    def __init__(self, evidence: Evidence) -> None:
        """Read the logs once."""
        self._evidence = evidence
        self._lease = evidence.lease
        self.process: dict[str, str] = {}
        self._joined: dict[str, float] = {}
        self._gone: defaultdict[str, list[float]] = defaultdict(list)
        self._last: dict[str, float] = {}
        for line in evidence.lines:
            self._read(line)
        self._own: defaultdict[str, list[Span]] = defaultdict(list)
        for deed in evidence.deeds:
            if deed.fault.startswith(_SILENT):
                # One that is killed stays silent for ever.
                until = inf if deed.fault.startswith("kill") else deed.until
                for harmed in deed.harmed:
                    self._own[harmed].append((deed.at, until))
        self._shared = [
            (deed.at, deed.until)
            for deed in evidence.deeds
            if deed.fault.startswith(AWAY) and deed.until - deed.at < _STREAK_GAP * self._lease
        ]

    def explains_expulsion(self, line: Line) -> bool:
        """Tell whether the member that a line tells of was rightly taken for dead by then."""
        member, name, at = line.fields["member_id"], line.fields["member_name"], line.at
        # A database that forgot its end has it once more, and it ends once more.
        if any(gone < at for gone in self._gone[member]):
            return True
        who = self.process.get(member)
        if who is not None:
            return self._ended(who, at) or self._dark(who, at - self._lease / 5, at)
        # One that was harmed before it could say that it had joined is known by its name.
        namesakes = [
            each
            for each in {*self._own, *self._evidence.exits}
            if each == name or each.rsplit(".", 1)[0] == name
        ]
        return self._was(_UNANSWERED, at) or any(
            self._ended(each, at) or self._dark(each, at - self._lease / 5, at)
            for each in namesakes
        )

    def explains_loss(self, line: Line) -> bool:
        """Tell whether a member could find itself expelled although nobody told of having done it.

        Either the database forgot that it had joined; or it was silent for long enough, and whoever
        expelled it was kept from telling.
        """
        member = line.fields["member_id"]
        joined = self._joined.get(member)
        if joined is not None and self._evidence.forgotten(joined - 1, joined + 1):
            return True
        who = self.process.get(member, line.process)
        return self._was(_UNTOLD, line.at) and self._dark(who, line.at - 2 * self._lease, line.at)

    def _read(self, line: Line) -> None:
        self._last[line.process] = max(line.at, self._last.get(line.process, line.at))
        if line.event == "MemberJoined":
            self.process[line.fields["member_id"]] = line.process
            self._joined[line.fields["member_id"]] = line.at
        elif line.event in {"MemberExpelled", "MembershipLost", "MemberLeft"}:
            self._gone[line.fields["member_id"]].append(line.at)

    def _ended(self, who: str, at: float) -> bool:
        """Tell whether an incarnation that was asked to stop had said its last word by then."""
        return who in self._evidence.exits and self._last.get(who, at) <= at

    def _dark(self, who: str, since: float, until: float) -> bool:
        """Tell whether one was silent for a lease that ended in this stretch.

        All that befell it counts together, also that the database was away for a moment; but that
        alone is no reason to expel anybody.
        """
        own = [span for span in self._own[who] if span[0] <= until]
        return any(
            min(stretch[1], until) - stretch[0] >= self._lease * (1 - HEARTBEAT_SHARE)
            and stretch[1] >= since
            and any(stretch[0] <= span[1] and span[0] <= stretch[1] for span in own)
            for stretch in union([*own, *self._shared], HEARTBEAT_SHARE * self._lease)
        )

    def _was(self, faults: tuple[str, ...], at: float) -> bool:
        """Tell whether one of these happened in the leases before an instant."""
        return any(
            deed.at <= at and deed.until >= at - 3 * self._lease
            for deed in self._evidence.deeds
            if deed.fault.startswith(faults)
        )
