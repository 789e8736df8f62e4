from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from pillars.cron.definition import parse_schedule
from pillars.cron.fires import fires_between
from pillars.loadtest.mix import Mix
from pillars.loadtest.mixes import Load, Pattern, Regular, Wall, load_of

ALL = 100_000
MANY = 1_000
HOUR = 3600
# A plain day, the end of a month and a year, and days on which clocks are changed.
STARTS = [
    datetime(2026, 11, 24, 11, 59, 59, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2027, 2, 28, 20, 0, 1, tzinfo=UTC),
    datetime(2027, 3, 14, 6, 50, tzinfo=UTC),
    datetime(2027, 3, 28, 0, 30, tzinfo=UTC),
    datetime(2027, 4, 3, 16, 0, tzinfo=UTC),
    datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
]


def ticks_of_cron(pattern: Pattern, after: int, until: int) -> list[int]:
    timing = parse_schedule({"name": "s", "job": "noop", **pattern.keys}).timing
    return fires_between(timing, after, until, ALL)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("mix", Mix)
def test_the_plain_arithmetic_agrees_with_cron(mix: Mix, start: datetime) -> None:
    after = int(start.timestamp())
    until = after + 4 * HOUR if mix is Mix.REALISTIC else after + 180

    patterns = load_of(mix, 100, seed=1).patterns
    if len(patterns) > MANY:
        # Another tenth of them on each day.
        patterns = patterns[STARTS.index(start) :: 10]

    wrong = [
        pattern.keys
        for pattern in patterns
        if list(pattern.ticks(after, until)) != ticks_of_cron(pattern, after, until)
    ]
    assert wrong == []


def test_a_wrong_arithmetic_would_be_seen() -> None:
    after = int(STARTS[0].timestamp())
    wrong = Wall(12, 1, "UTC")

    assert [] != list(Regular({"every": "1m"}, 60).ticks(after, after + 60))
    assert list(wrong.ticks(after, after + HOUR)) != ticks_of_cron(
        Wall(12, 2, "UTC"), after, after + HOUR
    )


@pytest.mark.parametrize("mix", Mix)
@pytest.mark.parametrize("schedules", [1, 7, 1_000, 12_345])
def test_a_mix_has_as_many_schedules_as_were_asked_for(mix: Mix, schedules: int) -> None:
    load = load_of(mix, schedules, seed=1)

    assert schedules == len(load.which)
    assert max(load.which) < len(load.patterns)


def test_the_same_seed_makes_the_same_load_and_another_seed_another() -> None:
    def times(seed: int) -> list[str]:
        load = load_of(Mix.REALISTIC, 1_000, seed)
        return [str(load.patterns[index].keys) for index in load.which]

    assert times(1) == times(1)
    assert times(1) != times(2)


@pytest.mark.parametrize(
    ("mix", "rate"),
    [(Mix.EACH_SECOND, 1_000.0), (Mix.EACH_MINUTE, 16.6), (Mix.REALISTIC, 2.6), (Mix.HERD, 16.6)],
)
def test_a_thousand_schedules_demand_so_many_ticks_a_second(mix: Mix, rate: float) -> None:
    assert load_of(mix, 10_000, seed=1).rate() / 10 == pytest.approx(rate, rel=0.02)


def test_the_realistic_mix_has_cron_texts_and_intervals_in_many_zones() -> None:
    load = load_of(Mix.REALISTIC, 10_000, seed=1)
    keys = [load.patterns[index].keys for index in load.which]

    assert Counter("every" in each for each in keys) == {False: 8_875, True: 1_125}
    assert len({each.get("timezone") for each in keys}) == 6


def test_neighbours_do_not_fire_together() -> None:
    load: Load = load_of(Mix.REALISTIC, 1_000, seed=1)

    assert list(load.which) != sorted(load.which)
