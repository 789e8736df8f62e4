"""How many jobs start in each minute of a window, to find stampedes: a pure function of timings.

Jitter counts: a job starts at its tick plus its jitter. Schedules of equal timing and jitter share
their ticks, so ten thousand of them cost little more than one. For schedules that fire more often
than once a minute jitter is left out: it changes nothing that a picture by minutes shows.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pillars.cron.definition import jitter_of
from pillars.cron.fires import fires_between
from pillars.cron.progress import nobody

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pillars.cron.definition import Timing
    from pillars.cron.progress import Told
    from pillars.cron.survey import Firing

MINUTE: Final = 60
# Minutes told of, and schedules named for each.
_BUSIEST: Final = 10
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Busy:
    """A minute that begins at `at`, epoch seconds; `names` are some of its `schedules`."""

    at: int
    starts: int
    schedules: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Starts by minute, the first one beginning at `start`, epoch seconds; the busiest minutes."""

    start: int
    counts: tuple[int, ...]
    schedules: int
    busiest: tuple[Busy, ...]


def spread(
    firings: Iterable[Firing],
    start: int,
    end: int,
    told: Told = nobody,
) -> Spread:
    """Count the jobs with `start <= start of the job < end`, two full minutes in epoch seconds.

    Args:
        firings: the schedules.
        start: the first minute's beginning.
        end: the last minute's end.
        told: hears how many groups of schedules have been counted.
    """
    groups: defaultdict[tuple[Timing, int], list[str]] = defaultdict(list)
    for firing in firings:
        groups[firing.timing, firing.jitter].append(firing.name)
    herds = [_Herd(timing, jitter, names) for (timing, jitter), names in groups.items()]
    counts: Counter[int] = Counter()
    for number, herd in enumerate(herds, 1):
        herd.count(counts, start, end)
        told("counted", number, len(herds))
    few = heapq.nsmallest(_BUSIEST, counts, key=lambda minute: (-counts[minute], minute))
    return Spread(
        start,
        tuple(counts[minute] for minute in range(start // MINUTE, end // MINUTE)),
        sum(len(names) for names in groups.values()),
        tuple(_busy(minute, counts[minute], herds) for minute in few),
    )


class _Herd:
    """Schedules of one timing and jitter; minutes are counted from the epoch."""

    def __init__(self, timing: Timing, jitter: int, names: Sequence[str]) -> None:
        self._timing = timing
        self._jitter = jitter
        self._names = names
        self._ticks: Sequence[int] = ()
        self._minutes: Counter[int] = Counter()

    def count(self, into: Counter[int], start: int, end: int) -> None:
        """Add the starts within a window."""
        seconds = end - start + self._jitter
        ticks = fires_between(self._timing, start - self._jitter - 1, end - 1, seconds)
        if len(ticks) > seconds // MINUTE + 1 or not self._jitter:
            self._jitter = 0
            ticks = ticks[bisect_left(ticks, start) :]
            self._minutes = Counter(tick // MINUTE for tick in ticks)
            for minute, starts in self._minutes.items():
                into[minute] += starts * len(self._names)
            return
        self._ticks = ticks
        for name in self._names:
            into.update(
                minute
                for minute in (self._start(name, tick) for tick in ticks)
                if start <= minute * MINUTE < end
            )

    def starting(self, minute: int) -> Iterator[str]:
        """Yield the names of those that start in a minute."""
        if not self._jitter:
            yield from self._names if minute in self._minutes else ()
            return
        first = bisect_left(self._ticks, minute * MINUTE - self._jitter)
        last = bisect_left(self._ticks, (minute + 1) * MINUTE)
        near = self._ticks[first:last]
        for name in self._names if near else ():
            if any(self._start(name, tick) == minute for tick in near):
                yield name

    def _start(self, name: str, tick: int) -> int:
        return int(tick + jitter_of(name, tick, self._jitter)) // MINUTE


def _busy(minute: int, starts: int, herds: Iterable[_Herd]) -> Busy:
    names = sorted(name for herd in herds for name in herd.starting(minute))
    return Busy(minute * MINUTE, starts, len(names), tuple(names[:_NAMED]))
