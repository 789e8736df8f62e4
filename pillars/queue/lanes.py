"""Lanes, a queue and a priority each, and from which place in them a worker claims.

The index holds a lane's unfinished jobs in working order, and in front of them what is left of
finished ones until vacuum clears it away. That is little, as a rule, and a claim looks at every
lane from its front. But while somebody keeps a transaction open nothing can be cleared away, and
each claim would pass all of it again: a hundred thousand jobs later claims were thirty times
slower. So after a claim that was slow the next ones go on in the lanes they know from where the
last one ended. Jobs appear before that place too, given back, rescued, or committed late by a long
transaction, and lanes are new; a look from the front finds these, as often as a twentieth of the
time allows, or a fifth where the known lanes bring less than is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.db.statements import composed
from pillars.queue.jobs import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from pillars.db.statements import Statement
    from pillars.ground.clock import Clock
    from pillars.queue.attempt import Job

# Seconds that a claim takes at most, and each of its jobs, where nothing lies in its way.
_QUICK, _QUICK_JOB = 0.010, 0.0001
_SHARE, _SHARE_WHEN_SHORT, _LONGEST_PAUSE = 20, 5, 60.0
_MOST = 64
_LANES = ("all_lanes", "known_lanes")


def _over(lanes: str, name: str) -> Statement:
    return composed(f"{name} of {lanes}", SQL[name].index, SQL[lanes], SQL[name])


def _claim(lanes: str, limits: str, name: str) -> Statement:
    front = composed("", None, SQL[lanes], SQL[limits])
    return composed(f"{name} of {lanes}", SQL["claim"].index, front, SQL["claim"])


CLAIM, CLAIM_ON = (_claim(lanes, "unlimited", "claim") for lanes in _LANES)
CLAIM_WITHIN, CLAIM_WITHIN_ON = (_claim(lanes, "within_limits", "claim_within") for lanes in _LANES)
NEXT_DUE, NEXT_DUE_ON = (_over(lanes, "next_due") for lanes in _LANES)
LIMITED_DUE, LIMITED_DUE_ON = (_over(lanes, "limited_due") for lanes in _LANES)
DEPTH = _over("all_lanes", "depth")


class Place(NamedTuple):
    """How far somebody has come in a lane: a job of it."""

    queue: str
    priority: int
    run_at: datetime
    id: int


class Pages:
    """A statement that looks at each lane from its front on, page by page."""

    def __init__(self, name: str) -> None:
        """Take the statement of this name, which goes on after the part `held_in_page`."""
        self._first, self._next = (
            composed(
                f"{name} of {lanes}",
                SQL[name].index,
                composed("", None, SQL[lanes], SQL["held_in_page"]),
                SQL[name],
            )
            for lanes in _LANES
        )

    def page(self, places: Sequence[Place] | None) -> tuple[Statement, dict[str, Any]]:
        """Return the statement, and its lanes, for the page after these places; None: the first."""
        return (self._first, {}) if places is None else (self._next, columns(places))


def columns(places: Sequence[Place]) -> dict[str, list[Any]]:
    """Return the parameters that name lanes and the places in them."""
    return {
        "lane_queues": [place.queue for place in places],
        "lane_priorities": [place.priority for place in places],
        "from_run_at": [place.run_at for place in places],
        "from_ids": [place.id for place in places],
    }


class Lanes:
    """Where one worker's next claims begin."""

    def __init__(self, clock: Clock) -> None:
        """Begin at the front of all."""
        self._clock = clock
        self._look_at = self._look_when_short_at = float("-inf")
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
            now = self._clock.monotonic()
            self._look_at = now + min(_SHARE * slow, _LONGEST_PAUSE)
            self._look_when_short_at = now + min(_SHARE_WHEN_SHORT * slow, _LONGEST_PAUSE)

    def fell_short(self) -> None:
        """Take note that the known lanes brought less than was wanted: more may lie elsewhere."""
        self._look_at = min(self._look_at, self._look_when_short_at)

    def passed(self, jobs: Iterable[Job]) -> None:
        """Go on from these jobs."""
        for job in sorted(jobs, key=lambda job: (job.run_at, job.id)):
            # Put anew: the lanes used last are the last in order, and the first ones are forgotten.
            self._places.pop((job.queue, job.priority), None)
            self._places[job.queue, job.priority] = (job.run_at, job.id)
        while len(self._places) > _MOST:
            self._places.pop(next(iter(self._places)))

    def over(self, front: Statement, on: Statement) -> tuple[Statement, dict[str, Any]]:
        """Return which one to use, from the front or going on, and its lanes."""
        if self.look():
            return front, {}
        return on, columns([Place(*lane, *place) for lane, place in self._places.items()])
