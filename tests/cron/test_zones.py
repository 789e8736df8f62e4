"""Stretches of constant offset: true to zoneinfo, and far enough apart for the rule."""

import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from pillars.cron.zones import instants_of, offset_at, stretch_at, zone_names

FULL = os.environ.get("PILLARS_FULL_SWEEP") == "1"
NAMES = sorted(zone_names())


def epoch(year: int, month: int = 1, day: int = 1, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp())


def zoneinfo_offset(zone: str, instant: int) -> int:
    there = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant)).astimezone(
        ZoneInfo(zone)
    )
    return int((there.utcoffset() or timedelta()).total_seconds())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.integers(epoch(1960), epoch(2100)))
def test_a_stretch_is_what_zoneinfo_says(zone: str, instant: int) -> None:
    stretch = stretch_at(zone, instant)
    assert stretch.start <= instant < stretch.end
    assert instant < stretch.known_until <= stretch.end
    assert [stretch.before, stretch.offset, stretch.offset, stretch.after] == [
        zoneinfo_offset(zone, at)
        for at in (stretch.start - 1, stretch.start, stretch.end - 1, stretch.end)
    ]
    assert zoneinfo_offset(zone, instant) == stretch.offset


def test_clocks_are_turned_less_far_than_turns_lie_apart() -> None:
    first, last = epoch(1970 if FULL else 2020), epoch(2037)
    too_close = []
    # Neighbours in the alphabet share their transitions more often than not.
    for zone in NAMES if FULL else NAMES[::5]:
        instant = first
        while instant < last:
            stretch = stretch_at(zone, instant)
            turned = max(
                abs(stretch.offset - stretch.before) + abs(stretch.after - stretch.offset), 86_400
            )
            if stretch.end - stretch.start <= turned:
                too_close.append((zone, stretch))
            instant = stretch.known_until
    assert [] == too_close


def test_a_wall_time_is_shown_once_twice_or_never() -> None:
    berlin = "Europe/Berlin"
    assert (epoch(2026, 7, 1, 10),) == instants_of(berlin, epoch(2026, 7, 1, 12))
    assert () == instants_of(berlin, epoch(2026, 3, 29, 2, 30))
    assert (epoch(2026, 10, 25, 0, 30), epoch(2026, 10, 25, 1, 30)) == instants_of(
        berlin, epoch(2026, 10, 25, 2, 30)
    )
    assert () == instants_of("Pacific/Apia", epoch(2011, 12, 30, 12))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.integers(epoch(2000), epoch(2040)))
def test_an_instant_is_among_those_of_its_wall_time(zone: str, instant: int) -> None:
    assert instant in instants_of(zone, instant + offset_at(zone, instant))


def test_names_that_differ_by_machine_are_no_zones() -> None:
    assert "localtime" not in zone_names()
    assert {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"} <= zone_names()
