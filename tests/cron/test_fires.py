"""The next tick: examples in words, and properties over many timings."""

from datetime import UTC, datetime, timedelta
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pillars.cron import fires, zones
from pillars.cron.definition import Ambiguous, Missing, Timing
from pillars.cron.dial import Dial
from pillars.cron.fires import fires_between, next_fire

BERLIN = "Europe/Berlin"
SPRING = "2026-03-29"  # 02:00 becomes 03:00
AUTUMN = "2026-10-25"  # 03:00 becomes 02:00


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def on(day: str, timing: Timing) -> list[str]:
    """The ticks of a day in the timing's zone, as wall times with offset in hours."""
    zone = ZoneInfo(timing.timezone)
    first = datetime.fromisoformat(day).replace(tzinfo=zone)
    last = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=zone)
    ticks = fires_between(timing, int(first.timestamp()) - 1, int(last.timestamp()) - 1, 10**6)
    shown = (datetime.fromtimestamp(tick, zone) for tick in ticks)
    return [f"{each:%H:%M}{each.utcoffset() // timedelta(hours=1):+d}" for each in shown]


def test_a_tick_is_strictly_after() -> None:
    timing = Timing(cron="0 6 * * *")
    six = instant("2026-01-01T06:00")
    assert [six, six + 86400] == [next_fire(timing, six - 1), next_fire(timing, six)]


def test_a_fixed_time_that_is_jumped_over_runs_once_at_the_jump() -> None:
    assert ["03:00+2"] == on(SPRING, Timing(cron="30 2 * * *", timezone=BERLIN))
    assert ["03:00+2"] == on(SPRING, Timing(cron="0,10,30 2 * * *", timezone=BERLIN))
    assert ["03:00+2"] == on(SPRING, Timing(cron="0 2,3 * * *", timezone=BERLIN))
    assert ["03:00+2"] == on(SPRING, Timing(cron="15 30 2 * * *", timezone=BERLIN))


def test_a_fixed_time_that_is_jumped_over_can_be_skipped() -> None:
    timing = Timing(cron="30 2 * * *", timezone=BERLIN, missing=Missing.SKIP)
    assert [] == on(SPRING, timing)


@pytest.mark.parametrize(
    ("ambiguous", "times"),
    [
        (Ambiguous.FIRST, ["02:30+2"]),
        (Ambiguous.LAST, ["02:30+1"]),
        (Ambiguous.BOTH, ["02:30+2", "02:30+1"]),
    ],
)
def test_a_fixed_time_that_comes_twice_runs_as_told(ambiguous: Ambiguous, times: list[str]) -> None:
    assert times == on(AUTUMN, Timing(cron="30 2 * * *", timezone=BERLIN, ambiguous=ambiguous))


@pytest.mark.parametrize("cron", ["*/30 * * * *", "*/30 1-3 * * *", "0,30 * * * *"])
@pytest.mark.parametrize("missing", list(Missing))
@pytest.mark.parametrize("ambiguous", list(Ambiguous))
def test_a_wildcard_follows_elapsed_time(cron: str, missing: Missing, ambiguous: Ambiguous) -> None:
    timing = Timing(cron=cron, timezone=BERLIN, missing=missing, ambiguous=ambiguous)
    night = [tick for tick in on(SPRING, timing) if "01:00" <= tick < "04:00"]
    assert ["01:00+1", "01:30+1", "03:00+2", "03:30+2"] == night
    night = [tick for tick in on(AUTUMN, timing) if "02:00" <= tick < "03:30"]
    assert ["02:00+2", "02:30+2", "02:00+1", "02:30+1", "03:00+1"] == night


def test_the_gap_and_the_overlap_of_lord_howe_are_half_an_hour() -> None:
    howe = "Australia/Lord_Howe"
    assert ["02:30+11"] == on("2026-10-04", Timing(cron="15 2 * * *", timezone=howe))
    assert ["01:45+11"] == on("2026-04-05", Timing(cron="45 1 * * *", timezone=howe))
    twice = Timing(cron="45 1 * * *", timezone=howe, ambiguous=Ambiguous.BOTH)
    assert ["01:45+11", "01:45+10"] == on("2026-04-05", twice)


def test_a_day_that_apia_never_had_runs_at_its_end() -> None:
    daily = Timing(cron="0 9 * * *", timezone="Pacific/Apia")
    ticks = fires_between(daily, instant("2011-12-29T12:00"), instant("2011-12-31T12:00"), 9)
    assert [
        instant("2011-12-29T19:00"),  # the 29th, 09:00 -10
        instant("2011-12-30T10:00"),  # the 31st begins, +14
        instant("2011-12-30T19:00"),  # the 31st, 09:00 +14
    ] == ticks


def test_ramadan_in_casablanca_is_two_changes() -> None:
    daily = Timing(cron="30 2 * * *", timezone="Africa/Casablanca")
    ticks = fires_between(daily, instant("2026-02-01T00:00"), instant("2026-04-01T00:00"), 99)
    assert 59 == len(ticks)


@pytest.mark.parametrize("hours", [7, 24, 241])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0-59/10 1-3 * * *", "*/30 * * * *"])
@pytest.mark.parametrize("ambiguous", list(Ambiguous))
def test_where_the_eras_of_zones_meet_is_not_to_be_seen(
    hours: int, cron: str, ambiguous: Ambiguous, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = Timing(cron=cron, timezone=BERLIN, ambiguous=ambiguous)
    days = [(instant(f"{day}T00:00") - 86_400, instant(f"{day}T00:00") + 2 * 86_400)
            for day in (SPRING, AUTUMN)]  # fmt: skip
    expected = [fires_between(timing, first, last, 10**6) for first, last in days]
    with monkeypatch.context() as patch:
        patch.setattr(zones, "_ERA", hours * 3600)
        forget()
        actual = [fires_between(timing, first, last, 10**6) for first, last in days]
    forget()
    assert expected == actual


def test_a_look_far_ahead_trusts_no_clock_change_it_cannot_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timing = Timing(cron="30 2 * * sun", timezone=BERLIN, ambiguous=Ambiguous.LAST)
    starts = [instant(f"{AUTUMN}T00:30") - hours * 3600 for hours in range(24 * 6)]
    with monkeypatch.context() as patch:
        patch.setattr(zones, "_ERA", 3600)
        forget()
        actual = {next_fire(timing, start) for start in starts}
    forget()
    assert actual == {instant(f"{AUTUMN}T01:30")}


def forget() -> None:
    zones._era.cache_clear()
    fires._next_cron.cache_clear()


def test_intervals_are_anchored_to_the_epoch_and_their_phase() -> None:
    timing = Timing(every=900, phase=60)
    assert [60, 960, 1860] == fires_between(timing, 0, 10_000, 3)
    assert 60 == next_fire(timing, -800)


def test_a_single_time_fires_once() -> None:
    timing = Timing(at=1000)
    assert [1000, None] == [next_fire(timing, 999), next_fire(timing, 1000)]


def test_start_and_end_belong_to_the_time_between() -> None:
    timing = Timing(every=60, start_at=120, end_at=240)
    assert [120, 180, 240] == fires_between(timing, 0, 10_000, 99)
    assert next_fire(timing, 240) is None
    assert next_fire(Timing(cron="* * * * *", start_at=120, end_at=120), 0) == 120


def test_the_limit_bounds_the_ticks() -> None:
    assert 5 == len(fires_between(Timing(every=1), 0, 10**9, 5))
    assert [] == fires_between(Timing(every=1), 0, 10**9, 0)


def test_rare_days_are_found_and_impossible_ones_end() -> None:
    leap = Timing(cron="0 0 29 2 *", timezone=BERLIN)
    assert instant("2104-02-28T23:00") == next_fire(leap, instant("2096-03-01T00:00"))
    assert next_fire(Timing(cron="0 0 30 2 *"), 0) is None
    assert next_fire(Timing(cron="0 0 * * *"), 10**12) is None


def test_times_before_1970_are_times() -> None:
    assert -86400 == next_fire(Timing(cron="0 0 * * *"), -86401)


def test_a_herd_costs_one_computation() -> None:
    timing = Timing(cron="7 3 * * mon", timezone=BERLIN)
    after = instant("2026-05-05T05:05")
    next_fire(timing, after)
    begin = process_time()
    for _ in range(100_000):
        next_fire(timing, after)
    # About 0.45 µs each; the bound leaves room for a slow machine.
    assert process_time() - begin < 0.5


def test_dense_expressions_are_cheap() -> None:
    timing = Timing(cron="*/5 * * * * *", timezone=BERLIN)
    after = instant(f"{SPRING}T00:00")
    begin = process_time()
    assert 17_280 == len(fires_between(timing, after, after + 86_400, 10**6))
    assert process_time() - begin < 1


MINUTES = ["*", "*/15", "0", "30", "0,30", "5-50/15", "59", "0-59"]
HOURS = ["*", "*/2", "0", "2", "2,3", "1-3", "23", "0-23"]
DAYS = ["* * *", "* * mon-fri", "1 * *", "l * *", "15w * *", "* * sun#2", "* * l0", "29 2 *"]
ZONES = [
    "UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham",
    "Africa/Casablanca", "Antarctica/Casey", "Antarctica/Troll", "America/Scoresbysund",
]  # fmt: skip
YEARS = st.integers(instant("2020-01-01"), instant("2036-01-01"))

timings = st.builds(
    lambda second, minute, hour, days, zone, missing, ambiguous: Timing(
        cron=f"{second}{minute} {hour} {days}",
        timezone=zone,
        missing=missing,
        ambiguous=ambiguous,
    ),
    st.sampled_from(["", "", "0 ", "30 ", "*/20 "]),
    st.sampled_from(MINUTES),
    st.sampled_from(HOURS),
    st.sampled_from(DAYS),
    st.sampled_from(ZONES),
    st.sampled_from(Missing),
    st.sampled_from(Ambiguous),
)


@settings(max_examples=300, deadline=None)
@given(timings, YEARS, st.data())
def test_the_next_tick_from_anywhere_is_that_of_the_sequence(
    timing: Timing, after: int, data: st.DataObject
) -> None:
    sequence = fires_between(timing, after, after + 400 * 86_400, 30)
    assume(sequence)
    assert sorted(set(sequence)) == sequence
    somewhere = data.draw(st.integers(after, sequence[-1] - 1))
    assert next(tick for tick in sequence if tick > somewhere) == next_fire(timing, somewhere)


@settings(max_examples=200, deadline=None)
@given(timings, YEARS)
def test_a_range_is_the_sum_of_its_parts(timing: Timing, after: int) -> None:
    middle, until = after + 43_200, after + 86_400
    whole = fires_between(timing, after, until, 10**6)
    parts = [
        *fires_between(timing, after, middle, 10**6),
        *fires_between(timing, middle, until, 10**6),
    ]
    assert whole == parts


@settings(max_examples=200, deadline=None)
@given(timings, st.integers(2020, 2035))
def test_a_year_of_a_daily_job_has_a_tick_for_each_day(timing: Timing, year: int) -> None:
    daily = Timing(
        cron="30 2 * * *",
        timezone=timing.timezone,
        missing=Missing.SHIFT,
        ambiguous=Ambiguous.LAST if timing.ambiguous is Ambiguous.LAST else Ambiguous.FIRST,
    )
    zone = ZoneInfo(daily.timezone)
    first = int(datetime(year, 1, 1, 12, tzinfo=zone).timestamp())
    last = int(datetime(year + 1, 1, 1, 12, tzinfo=zone).timestamp())
    days = (datetime(year + 1, 1, 1) - datetime(year, 1, 1)).days  # noqa: DTZ001
    assert days == len(fires_between(daily, first, last, 1000))


@settings(max_examples=300, deadline=None)
@given(timings, YEARS)
def test_the_dial_shows_what_croniter_and_cronsim_show(timing: Timing, wall: int) -> None:
    text = timing.cron or ""
    fields = text.split()
    start = datetime.fromtimestamp(wall, UTC).replace(tzinfo=None)
    found = Dial(text).next(wall)
    assert found is not None
    shown = datetime.fromtimestamp(found, UTC).replace(tzinfo=None)
    assert croniter(text, start, second_at_beginning=len(fields) == 6).get_next(datetime) == shown
    if "w" not in text and "l0" not in text:
        assert next(CronSim(text, start)) == shown
