"""What the faults provoked, so that one that met nobody does not pass for one that was survived."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.chaos.evidence import Evidence, Line

# What stands in a log, and what it is a sign of.
_SIGNS = {
    "No space left on device": "inserts refused by a full disk",
    "too many clients": "connections refused by a crowd",
    "remaining connection slots": "connections refused by a crowd",
    "couldn't get a connection": "waits for a pool in vain",
    "read-only": "answers of a server that was not the primary",
}
_EVENTS = {
    "MemberExpelled": "members expelled",
    "MembershipLost": "members that found themselves expelled",
    "SchedulesWaiting": "older files held back",
    "LoopFailed": "passes that failed and were repeated",
}
_WRONG = 1.0


def provoked(evidence: Evidence) -> dict[str, int]:
    """Count what was provoked, by what it is."""
    found = Counter(dict.fromkeys([*_EVENTS.values(), *_SIGNS.values()], 0))
    for line in evidence.lines:
        if line.event in _EVENTS:
            found[_EVENTS[line.event]] += 1
        if line.event == "FinishRefused":
            # A list too long for a line is told by its length.
            ids = line.fields["job_ids"]
            found["late results refused"] += ids if isinstance(ids, int) else len(ids)
        if _is_wrong(line):
            found["lines told by a wrong clock"] += 1
        for sign, what in _SIGNS.items():
            if sign in line.message:
                found[what] += 1
                break
    known = {job.id for job in evidence.jobs}
    found["jobs lost with their workers"] = sum(job.rescues > 0 for job in evidence.jobs)
    found["acknowledged jobs forgotten with an asynchronous primary"] = len(
        evidence.acknowledged.keys() - known
    )
    found["editions of the files"] = evidence.edition
    found["backfills"] = len(evidence.backfilled)
    found["pauses"] = len(evidence.paused)
    return dict(found)


def _is_wrong(line: Line) -> bool:
    told = line.fields.get("ts")
    return told is not None and abs(datetime.fromisoformat(told).timestamp() - line.at) > _WRONG
