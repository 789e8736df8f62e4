from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillars.cron.definition import Ambiguous, Missing, Timing
from pillars.cron.fires import fires_between
from pillars.cron.forecast import (
    MOST_WALLS,
    ClockChange,
    Effect,
    Forecast,
    Move,
    clock_changes,
    forecast,
)

DAY = 86_400
HOUR = 3600
NOW = int(datetime(2026, 10, 20, 12, tzinfo=UTC).timestamp())
# In Berlin clocks go back on 2026-10-25 at 01:00 UTC, and forward on 2027-03-28 at 01:00 UTC.
BACK = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp())
FORWARD = int(datetime(2027, 3, 28, 1, tzinfo=UTC).timestamp())


def cron(text: str, zone: str = "UTC", **policies: object) -> Timing:
    return Timing(cron=text, timezone=zone, **policies)  # type: ignore[arg-type]


def of_2026(month: int, day: int, hour: int = 0) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp())


def moved(old: str, new: str, days: int = 3) -> Forecast:
    return forecast(cron(old), cron(new), NOW, NOW + days * DAY)


# ---- fires


def test_a_schedule_that_is_added_has_fires_that_appear() -> None:
    told = forecast(None, cron("0 6 * * *"), NOW, NOW + 2 * DAY)

    assert told == Forecast(NOW + 2 * DAY, appear=(of_2026(10, 21, 6), of_2026(10, 22, 6)))


def test_a_schedule_that_is_removed_has_fires_that_vanish() -> None:
    told = forecast(cron("0 6 * * *"), None, NOW, NOW + DAY)

    assert told == Forecast(NOW + DAY, vanish=(of_2026(10, 21, 6),))


def test_equal_timings_have_fires_that_stay() -> None:
    assert moved("0 6 * * *", "0 6 * * *") == Forecast(NOW + 3 * DAY, stay=3)


@pytest.mark.parametrize(("hour", "shift"), [("7", 1), ("4", -2), ("18", 12)])
def test_another_hour_moves_each_fire_within_its_day(hour: str, shift: int) -> None:
    told = forecast(cron("0 6 * * *"), cron(f"0 {hour} * * *"), of_2026(10, 20), of_2026(10, 23))

    fires = [of_2026(10, day, 6) for day in (20, 21, 22)]
    assert told == Forecast(
        of_2026(10, 23), move=tuple(Move(fire, fire + shift * HOUR) for fire in fires)
    )


def test_fewer_fires_at_the_old_times_vanish_without_moving() -> None:
    told = moved("0 6 * * *", "0 6 * * wed")

    assert (told.stay, told.move, len(told.vanish)) == (1, (), 2)


def test_of_several_fires_that_come_near_an_old_one_the_nearest_is_the_moved_one() -> None:
    told = forecast(cron("0 6 * * *"), cron("0 8,9 * * *"), of_2026(10, 20), of_2026(10, 21))

    assert told.move == (Move(of_2026(10, 20, 6), of_2026(10, 20, 8)),)
    assert told.appear == (of_2026(10, 20, 9),)


def test_each_second_schedules_are_looked_at_as_far_as_the_limit_reaches() -> None:
    told = forecast(Timing(every=1), Timing(every=2), 0, 365 * DAY, most=100)

    assert told == Forecast(100, vanish=tuple(range(1, 100, 2)), stay=50)


TIMINGS = st.one_of(
    st.none(),
    st.builds(Timing, every=st.integers(600, 2 * DAY), phase=st.integers(0, 599)),
    st.sampled_from(
        [
            cron(text, zone)
            for text in ("0 6 * * *", "30 2 * * *", "*/20 */3 * * *", "15 1-3 * * mon", "0 0 1 * *")
            for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe")
        ]
    ),
)


@given(TIMINGS, TIMINGS, st.integers(0, 400), st.integers(1, 80))
def test_every_fire_of_both_timings_is_told_exactly_once(
    old: Timing | None, new: Timing | None, day: int, most: int
) -> None:
    after = NOW + day * DAY
    told = forecast(old, new, after, after + 9 * DAY, most)

    def fires(timing: Timing | None) -> list[int]:
        return [] if timing is None else fires_between(timing, after, told.until, 10_000)

    common = set(fires(old)) & set(fires(new))
    gone = [*told.vanish, *(move.old for move in told.move)]
    come = [*told.appear, *(move.new for move in told.move)]
    assert told.stay == len(common)
    assert sorted(gone) == [fire for fire in fires(old) if fire not in common]
    assert sorted(come) == [fire for fire in fires(new) if fire not in common]
    assert max(len(fires(old)), len(fires(new))) <= most


# ---- clock changes


def wall(hour: int, minute: int, day: datetime) -> int:
    return int(day.replace(hour=hour, minute=minute, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("missing", "effect"), [(Missing.SHIFT, Effect.SHIFTED), (Missing.SKIP, Effect.SKIPPED)]
)
def test_a_fixed_time_that_is_jumped_over_is_flagged(missing: Missing, effect: Effect) -> None:
    timing = cron("30 2 * * *", "Europe/Berlin", missing=missing)

    told = clock_changes(timing, FORWARD - 3 * DAY, FORWARD + 3 * DAY)

    walls = (wall(2, 30, datetime(2027, 3, 28)),)  # noqa: DTZ001 - a wall time
    assert told == [ClockChange(FORWARD, HOUR, 2 * HOUR, effect, walls, more=False)]


@pytest.mark.parametrize(
    ("ambiguous", "effect"),
    [
        (Ambiguous.FIRST, Effect.FIRST),
        (Ambiguous.LAST, Effect.LAST),
        (Ambiguous.BOTH, Effect.REPEATED),
    ],
)
def test_a_fixed_time_that_comes_twice_is_flagged(ambiguous: Ambiguous, effect: Effect) -> None:
    timing = cron("30 2 * * *", "Europe/Berlin", ambiguous=ambiguous)

    (told,) = clock_changes(timing, NOW, NOW + 7 * DAY)

    assert (told.at, told.effect) == (BACK, effect)


def test_a_wildcard_of_some_hours_is_skipped_and_repeated() -> None:
    timing = cron("*/30 1-2 * * *", "Europe/Berlin")

    told = clock_changes(timing, NOW, NOW + 365 * DAY)

    assert [change.effect for change in told] == [Effect.REPEATED, Effect.SKIPPED]


@pytest.mark.parametrize("text", ["*/5 * * * *", "17 * * * *", "0 4 * * *", "30 2 * * mon"])
def test_a_schedule_that_does_not_notice_the_change_is_not_flagged(text: str) -> None:
    assert clock_changes(cron(text, "Europe/Berlin"), NOW, NOW + 7 * DAY) == []


def test_an_hourly_schedule_notices_a_change_of_half_an_hour() -> None:
    told = clock_changes(cron("15,45 * * * *", "Australia/Lord_Howe"), NOW, NOW + 365 * DAY)

    assert [change.effect for change in told] == [Effect.REPEATED, Effect.SKIPPED]


def test_intervals_and_single_times_know_no_clock_changes() -> None:
    berlin = "Europe/Berlin"

    assert clock_changes(Timing(every=60, timezone=berlin), NOW, NOW + 365 * DAY) == []
    assert clock_changes(Timing(at=BACK, timezone=berlin), NOW, NOW + 365 * DAY) == []


def test_a_schedule_that_has_ended_or_not_begun_is_not_flagged() -> None:
    ended = cron("30 2 * * *", "Europe/Berlin", end_at=BACK - DAY)
    later = cron("30 2 * * *", "Europe/Berlin", start_at=BACK + DAY)

    assert clock_changes(ended, NOW, NOW + 7 * DAY) == []
    assert clock_changes(later, NOW, NOW + 7 * DAY) == []


def test_only_a_few_of_many_wall_times_are_named() -> None:
    (told,) = clock_changes(cron("0-59 2 * * *", "Europe/Berlin"), NOW, NOW + 7 * DAY)

    assert (len(told.walls), told.more) == (MOST_WALLS, True)


def test_clock_changes_are_found_over_many_years() -> None:
    told = clock_changes(cron("30 2 * * *", "Europe/Berlin"), NOW, NOW + 20 * 365 * DAY)

    assert len(told) == 40
