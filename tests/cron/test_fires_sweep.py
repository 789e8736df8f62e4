"""Every change of clocks in every zone, 2020 to 2035, against a reference that knows no shortcuts.

The reference looks at each minute of UTC around a transition, asks zoneinfo what the wall shows,
and cronsim, on naive time, whether the expression matches; then it applies the rule in its plainest
form. Zones with the same transitions are tried once, and so are transitions that zones share.

The default run takes a part of the transitions, more of the odd zones; `ops/sweep` takes all of
them, looked for hour by hour, and prints the result.
"""

import itertools
import os
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim

from pillars.cron import fires
from pillars.cron.definition import Ambiguous, Missing, Timing
from pillars.cron.fires import fires_between

FULL = os.environ.get("PILLARS_FULL_SWEEP") == "1"
# No stretch is as short as four days; the full sweep takes nobody's word for that.
STEP = 3600 if FULL else 4 * 86_400
HOUR = 3600
FIRST = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
LAST = int(datetime(2036, 1, 1, tzinfo=UTC).timestamp())
# Their transitions differ in length, hour or number from everyone else's.
ODD = {
    "Australia/Lord_Howe", "Pacific/Chatham", "Antarctica/Casey", "Antarctica/Troll",
    "Antarctica/Vostok", "Africa/Casablanca", "America/Scoresbysund", "America/Nuuk", "Asia/Gaza",
    "Europe/Dublin", "Europe/Volgograd", "Africa/Juba", "Asia/Amman",
}  # fmt: skip
# Odd numbers: with even ones a zone would show its springs or its autumns only.
ONE_IN = 1 if FULL else 47
ONE_IN_ODD = 1 if FULL else 7

WILDCARD = ["* * * * *", "*/20 1-3 * * *", "15 */2 * * *", "*/7 0,2 * * sun", "45 * * * *"]
FIXED = [
    "30 2 * * *", "0,20,40 2 * * *", "15,45 0-3 * * *", "0 0 * * *", "59 23 * * *", "0 3 * * *",
    "0 1,2,3 * * sun", "10-50/5 1 * * *", "0-59 2 * * *",
]  # fmt: skip
POLICIES = [(missing, ambiguous) for missing in Missing for ambiguous in Ambiguous]


class Transition(NamedTuple):
    """A change of offset; `zone` is one of those that have it."""

    at: int
    before: int
    after: int
    zone: str


def test_every_change_of_clocks_fires_as_the_reference_does() -> None:
    tried = list(transitions())
    differences = [
        f"{each.zone} {datetime.fromtimestamp(each.at, UTC)} {timing.encode()}: "
        f"expected {expected}, actual {actual}"
        for each in tried
        for timing in timings(each.zone)
        for expected, actual in [compare(each, timing)]
        if expected != actual
    ]
    print(  # noqa: T201 - what `ops/sweep` shows
        f"{len(tried):,} transitions, {len(timings('UTC'))} timings each: "
        f"{len(differences)} differences from the reference"
    )
    assert [] == differences
    assert len(tried) > 30


@pytest.mark.parametrize("broken", ["no shift", "no overlap", "transition ignored"])
def test_the_sweep_can_fail(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "no shift":
        monkeypatch.setattr(fires, "_jumped_over", lambda *_: False)
    elif broken == "no overlap":
        monkeypatch.setattr(fires, "_told", lambda s, _: (s.start + s.offset, s.end + s.offset))
    else:
        true = fires.stretch_at
        monkeypatch.setattr(
            fires, "stretch_at", lambda zone, at: true(zone, at - 1)._replace(known_until=at + HOUR)
        )
    fires._next_cron.cache_clear()
    berlin = [each for each in transitions() if each.zone == "Australia/Lord_Howe"]
    pairs = [compare(each, timing) for each in berlin for timing in timings(each.zone)]
    fires._next_cron.cache_clear()
    assert any(expected != actual for expected, actual in pairs)


def timings(zone: str) -> list[Timing]:
    return [
        Timing(cron=cron, timezone=zone, missing=missing, ambiguous=ambiguous)
        for cron in WILDCARD + FIXED
        for missing, ambiguous in (POLICIES if cron in FIXED else POLICIES[:1])
    ]


def compare(each: Transition, timing: Timing) -> tuple[list[int], list[int]]:
    first, last = each.at - 24 * HOUR, each.at + 24 * HOUR
    actual = fires_between(timing, first - 1, last, 10**6)
    return [tick for tick in reference(each, timing) if first <= tick <= last], actual


def reference(each: Transition, timing: Timing) -> list[int]:
    """The ticks around a transition, from every minute of UTC."""
    cron = timing.cron or ""
    around = around_of(each)
    matching = matches_within(cron, around.first_day, around.last_day)
    if cron in WILDCARD:
        return [instant for instant, wall in around.walls.items() if wall in matching]
    ticks = set()
    for wall in matching:
        times = around.shown.get(wall)
        if times is None:
            if timing.missing is Missing.SHIFT:
                ticks |= {to for low, high, to in around.jumps if low < wall < high}
        elif timing.ambiguous is Ambiguous.BOTH:
            ticks |= set(times)
        else:
            ticks.add(times[0] if timing.ambiguous is Ambiguous.FIRST else times[-1])
    return sorted(ticks)


class Around(NamedTuple):
    """Three days around a transition: what the wall shows at each minute, and when it jumps."""

    walls: dict[int, datetime]
    shown: dict[datetime, list[int]]
    jumps: list[tuple[datetime, datetime, int]]
    first_day: int
    last_day: int


@lru_cache(maxsize=2)
def around_of(each: Transition) -> Around:
    zone = ZoneInfo(each.zone)
    walls = {
        minute: datetime.fromtimestamp(minute, zone).replace(tzinfo=None, fold=0)
        for minute in range(each.at - 36 * HOUR, each.at + 36 * HOUR, 60)
    }
    shown = defaultdict(list)
    for instant, wall in walls.items():
        shown[wall].append(instant)
    minutes = list(walls)
    jumps = [
        (walls[earlier], walls[minute], minute)
        for earlier, minute in itertools.pairwise(minutes)
        if walls[minute] - walls[earlier] > timedelta(minutes=1)
    ]
    days = [wall.toordinal() for wall in walls.values()]
    return Around(walls, dict(shown), jumps, min(days), max(days))


@lru_cache(maxsize=100)
def matches_within(cron: str, first_day: int, last_day: int) -> frozenset[datetime]:
    return frozenset().union(*(matches(cron, day) for day in range(first_day, last_day + 1)))


@lru_cache(maxsize=100_000)
def matches(cron: str, day: int) -> frozenset[datetime]:
    """All matching minutes of a day, by cronsim on naive time."""
    start = datetime.fromordinal(day)
    found = []
    for wall in CronSim(cron, start - timedelta(seconds=1)):
        if wall >= start + timedelta(days=1):
            break
        found.append(wall)
    return frozenset(found)


@lru_cache(maxsize=1)
def transitions() -> tuple[Transition, ...]:
    """The distinct transitions of all zones; a part of them unless all are wanted."""
    found: dict[tuple[int, int, int], str] = {}
    known: set[tuple[tuple[int, int, int], ...]] = set()
    # The odd zones first, so that what they share carries their name.
    for name in sorted(available_timezones(), key=lambda name: (name not in ODD, name)):
        changes = changes_of(ZoneInfo(name))
        if changes in known:
            continue
        known.add(changes)
        for number, change in enumerate(changes):
            if (number + len(known)) % (ONE_IN_ODD if name in ODD else ONE_IN) == 0:
                found.setdefault(change, name)
    return tuple(Transition(*change, zone) for change, zone in sorted(found.items()))


def changes_of(zone: ZoneInfo) -> tuple[tuple[int, int, int], ...]:
    def offset(instant: int) -> int:
        shift = datetime.fromtimestamp(instant, zone).utcoffset()
        return 0 if shift is None else int(shift.total_seconds())

    changes = []
    before = offset(FIRST)
    for look in range(FIRST + STEP, LAST, STEP):
        after = offset(look)
        if after != before:
            span = range(look - STEP, look, 60)
            minute = bisect_left(span, 1, key=lambda at: int(offset(at) == after))
            changes.append((look - STEP + minute * 60, before, after))
            before = after
    return tuple(changes)
