"""The schedules of a load test, and the ticks they demand, by plain arithmetic.

A mix has some thousand patterns (a timing each) that M schedules share. A pattern's ticks in a
window are a few lines of arithmetic here and do not come from `pillars.cron`; so a mistake of the
cron's own computation shows as ticks that are missing or that nobody expected.

`realistic` is what an installation with a schedule or two for each of its customers looks like: of
10,000 schedules 5 fire each second and 175 once a year, and most rest at any moment. It demands
about 2.6 ticks a second of each 1,000 schedules.
"""

from __future__ import annotations

import itertools
import random
from array import array
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from pillars.loadtest.mix import Mix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Zones, and by how many seconds a full hour there begins after one of UTC. Clocks are changed by
# whole hours and before 4 in the morning, so neither their hours nor the times below are touched.
_ZONES = {
    "UTC": 0,
    "Europe/Berlin": 0,
    "America/New_York": 0,
    "Asia/Kolkata": 1800,
    "Australia/Adelaide": 1800,
}
_MINUTE, _HOUR = 60, 3600
_FIRST_HOUR = 4
_DAYS_OF_EACH_MONTH = 28
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Different times of day, week, month or year that the schedules of one kind have at most.
_MOST_TIMES = 2_000


class Pattern(Protocol):
    """When some schedules fire: `keys` as in a YAML file, and its ticks."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """The timing in the vocabulary of the YAML files."""

    def ticks(self, after: int, until: int) -> Iterable[int]:
        """Return the ticks with `after < tick <= until`, epoch seconds."""


@dataclass(frozen=True, slots=True)
class Regular:
    """Fires whenever the epoch second, divided by `step`, leaves `phase`."""

    keys: Mapping[str, Any]
    step: int
    phase: int = 0

    def ticks(self, after: int, until: int) -> range:
        """Return the ticks with `after < tick <= until`, epoch seconds."""
        return range(after + self.step - (after - self.phase) % self.step, until + 1, self.step)


@dataclass(frozen=True, slots=True)
class Wall:
    """Fires once on each day that fits, at a wall time of a zone; `month` 1 to 12, `weekday` 0."""

    hour: int
    minute: int
    zone: str
    weekday: int | None = None
    day: int | None = None
    month: int | None = None

    @property
    def keys(self) -> Mapping[str, Any]:
        """The timing in the vocabulary of the YAML files."""
        weekday = "*" if self.weekday is None else _WEEKDAYS[self.weekday]
        fields = (self.minute, self.hour, self.day or "*", self.month or "*", weekday)
        return {"cron": " ".join(map(str, fields)), "timezone": self.zone}

    def ticks(self, after: int, until: int) -> Iterator[int]:
        """Return the ticks with `after < tick <= until`, epoch seconds."""
        zone = ZoneInfo(self.zone)
        today = datetime.fromtimestamp(after, UTC).astimezone(zone).date()
        last = datetime.fromtimestamp(until, UTC).astimezone(zone).date()
        while today <= last:
            at = datetime(today.year, today.month, today.day, self.hour, self.minute, tzinfo=zone)
            tick = int(at.timestamp())
            if after < tick <= until and self._fits(today):
                yield tick
            today += timedelta(days=1)

    def _fits(self, today: date) -> bool:
        return (
            self.weekday in (None, today.weekday())
            and self.day in (None, today.day)
            and self.month in (None, today.month)
        )


@dataclass(frozen=True, slots=True)
class Load:
    """All schedules of a run: `which` has for each the index of its pattern."""

    patterns: Sequence[Pattern]
    which: Sequence[int]

    def rate(self) -> float:
        """Return the ticks a second that are demanded in an hour of an ordinary day."""
        hour = datetime(2030, 1, 2, tzinfo=UTC)
        start = int(hour.timestamp())
        of_pattern = [sum(1 for _ in p.ticks(start, start + _HOUR)) for p in self.patterns]
        return sum(of_pattern[index] for index in self.which) / _HOUR


def load_of(mix: Mix, schedules: int, seed: int) -> Load:
    """Return the schedules of a mix, in an order that the seed decides."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    patterns: list[Pattern] = []
    which = array("I")
    for kind, count in _shared_out(_kinds(mix, chance), schedules):
        turns = itertools.cycle(range(len(patterns), len(patterns) + len(kind)))
        patterns += kind
        which.extend(itertools.islice(turns, count))
    # As users add them: neighbours in the table do not fire together.
    chance.shuffle(which)
    return Load(patterns, which)


def _kinds(mix: Mix, chance: random.Random) -> list[tuple[float, Sequence[Pattern]]]:
    """Return kinds of schedules with the weight of each."""
    match mix:
        case Mix.EACH_SECOND:
            cron = [Regular({"cron": "* * * * * *", "timezone": zone}, 1) for zone in _ZONES]
            return [(1, _intervals(1)), (1, cron)]
        case Mix.EACH_MINUTE:
            return [(1, _intervals(_MINUTE)), (1, _at_seconds())]
        case Mix.HERD:
            cron = [Regular({"cron": "* * * * *", "timezone": zone}, _MINUTE) for zone in _ZONES]
            return [(1, cron), (1, [Regular({"every": "1m"}, _MINUTE)])]
        case Mix.REALISTIC:
            return _realistic(chance)


def _realistic(chance: random.Random) -> list[tuple[float, Sequence[Pattern]]]:
    """Return the kinds with how many of 10,000 schedules each has."""
    times = [(hour, minute) for hour in range(_FIRST_HOUR, 24) for minute in range(_MINUTE)]
    days = range(1, _DAYS_OF_EACH_MONTH + 1)

    def some(kinds: Iterable[Wall]) -> list[Wall]:
        found = list(kinds)
        return chance.sample(found, min(_MOST_TIMES, len(found)))

    def zone() -> str:
        return chance.choice(list(_ZONES))

    return [
        (5, _intervals(1)),
        (20, _intervals(10)),
        (100, _intervals(30)),
        (250, _intervals(_MINUTE)),
        (250, _at_seconds()),
        (1_500, _each_minutes(5)),
        (750, _each_minutes(15)),
        (750, _intervals(15 * _MINUTE)),
        (2_500, _each_hour()),
        (2_500, some(Wall(*time, name) for time in times for name in _ZONES)),
        (800, some(Wall(*time, zone(), weekday=n) for time in times for n in range(7))),
        (400, some(Wall(*time, zone(), day=n) for time in times for n in days)),
        (175, some(Wall(*t, zone(), day=n, month=1 + n % 12) for t in times for n in days)),
    ]


def _intervals(step: int) -> list[Pattern]:
    return [
        Regular({"every": f"{step}s"} | ({"phase": f"{phase}s"} if phase else {}), step, phase)
        for phase in range(step)
    ]


def _at_seconds() -> list[Pattern]:
    """Once a minute, by a seconds field."""
    return [
        Regular({"cron": f"{second} * * * * *", "timezone": zone}, _MINUTE, second)
        for second in range(_MINUTE)
        for zone in _ZONES
    ]


def _each_minutes(minutes: int) -> list[Pattern]:
    """Each so many minutes, a divisor of 15, at any of them."""
    return [
        Regular(
            {"cron": f"{first}-59/{minutes} * * * *", "timezone": zone},
            minutes * _MINUTE,
            first * _MINUTE,
        )
        for first in range(minutes)
        for zone in _ZONES
    ]


def _each_hour() -> list[Pattern]:
    return [
        Regular(
            {"cron": f"{minute} * * * *", "timezone": zone},
            _HOUR,
            (minute * _MINUTE + begins) % _HOUR,
        )
        for minute in range(_MINUTE)
        for zone, begins in _ZONES.items()
    ]


def _shared_out(
    kinds: Sequence[tuple[float, Sequence[Pattern]]], schedules: int
) -> Iterator[tuple[Sequence[Pattern], int]]:
    """Share schedules out by weight, so that the counts add up."""
    total = sum(weight for weight, _ in kinds)
    weights = 0.0
    given = 0
    for weight, kind in kinds:
        weights += weight
        upto = round(schedules * weights / total)
        yield kind, upto - given
        given = upto
