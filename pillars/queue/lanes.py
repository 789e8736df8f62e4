"""Lanes, a queue and a priority each, and from which place in them a worker claims.

The index holds a lane's unfinished jobs in working order, and in front of them what is left of
finished ones until vacuum clears it away. That is little, as a rule, and a claim looks at every
lane from its front. But while somebody keeps a transaction open nothing can be cleared away, and
each claim would pass all of it again: a hundred thousand jobs later claims were thirty times
slower. So after a claim that was slow the next ones go on in the lanes they know from where the
last one ended. Jobs appear before that place too, given back, rescued, or committed late by a long
transaction, and lanes are new; a look from the front finds these, as often as a twentieth of the
time allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pillars.db.statements import composed
from pillars.queue.jobs import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pillars.db.statements import Statement
    from pillars.ground.clock import Clock
    from pillars.queue.claims import Job

# Seconds that a claim takes at most, and each of its jobs, where nothing lies in its way.
_QUICK, _QUICK_JOB = 0.010, 0.0001
_SHARE, _LONGEST_PAUSE = 20, 10.0
_MOST = 64


def _over(lanes: str, name: str) -> Statement:
    return composed(f"{name} of {lanes}", SQL[name].index, SQL[lanes], SQL[name])


CLAIM, CLAIM_ON = _over("all_lanes", "claim"), _over("known_lanes", "claim")
NEXT_DUE, NEXT_DUE_ON = _over("all_lanes", "next_due"), _over("known_lanes", "next_due")
DEPTH = _over("all_lanes", "depth")


class Lanes:
    """Where one worker's next claims begin."""

    def __init__(self, clock: Clock) -> None:
        """Begin at the front of all."""
        self._clock = clock
        self._look_at = float("-inf")
        self._last_look = 0.0
        self._places: dict[tuple[str, int], tuple[datetime, int]] = {}

    def look(self) -> bool:
        """Tell whether it is time to look at all lanes from the front."""
        return self._clock.monotonic() >= self._look_at

    def looked(self, seconds: float, jobs: int) -> None:
        """Take note of how long a claim took that looked at all lanes and brought so many jobs."""
        look = seconds - jobs * _QUICK_JOB
        slow, self._last_look = min(look, self._last_look), look
        if slow > _QUICK:
            self._look_at = self._clock.monotonic() + min(_SHARE * slow, _LONGEST_PAUSE)

    def passed(self, jobs: Iterable[Job]) -> None:
        """Go on from these jobs."""
        for job in sorted(jobs, key=lambda job: (job.run_at, job.id)):
            # Put anew: the lanes used last are the last in order, and the first ones are forgotten.
            self._places.pop((job.queue, job.priority), None)
            self._places[job.queue, job.priority] = (job.run_at, job.id)
        while len(self._places) > _MOST:
            self._places.pop(next(iter(self._places)))

    def columns(self) -> dict[str, list[Any]]:
        """Return the parameters that name the known lanes and the places in them."""
        return {
            "lane_queues": [queue for queue, _ in self._places],
            "lane_priorities": [priority for _, priority in self._places],
            "from_run_at": [run_at for run_at, _ in self._places.values()],
            "from_ids": [job_id for _, job_id in self._places.values()],
        }
