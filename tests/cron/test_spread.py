from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pillars.cron.definition import Timing, jitter_of
from pillars.cron.fires import fires_between
from pillars.cron.spread import Busy, spread
from pillars.cron.survey import Firing

DAY = 86_400
START = 1_790_000_000 // DAY * DAY


def firing(name: str, cron: str, jitter: int = 0) -> Firing:
    return Firing(name, Timing(cron=cron), jitter)


def test_a_day_has_a_count_for_each_minute() -> None:
    told = spread([firing("a", "30 6 * * *"), firing("b", "30 * * * *")], START, START + DAY)

    assert (len(told.counts), sum(told.counts), told.schedules) == (1440, 25, 2)
    assert (told.counts[6 * 60 + 30], told.counts[30]) == (2, 1)


def test_the_busiest_minute_comes_first_with_the_names_of_its_schedules() -> None:
    herd = [firing(f"s{n}", "0 0 * * *") for n in range(9)]

    told = spread([*herd, firing("other", "5 * * * *")], START, START + DAY)

    assert told.busiest[0] == Busy(START, 9, 9, ("s0", "s1", "s2", "s3", "s4"))


def test_jitter_spreads_a_herd() -> None:
    herd = [firing(f"s{n}", "0 * * * *", jitter=600) for n in range(1000)]

    told = spread(herd, START, START + 3600)

    assert sum(told.counts) == sum(told.counts[:10]) == 1000
    assert max(told.counts) < 150


def test_a_start_that_jitter_moves_into_the_window_counts() -> None:
    herd = [firing(f"s{n}", "59 23 * * *", jitter=120) for n in range(100)]

    told = spread(herd, START, START + 3600)

    assert 20 < told.counts[0] < 80
    assert sum(told.counts) == told.counts[0]


def test_each_second_schedules_start_sixty_times_a_minute() -> None:
    told = spread([Firing("pulse", Timing(every=1), 5)], START, START + DAY)

    assert set(told.counts) == {60}
    assert told.busiest[0].names == ("pulse",)


FIRINGS = st.lists(
    st.builds(
        Firing,
        st.text("abc", min_size=1, max_size=4),
        st.builds(Timing, every=st.integers(61, 9000))
        | st.sampled_from([Timing(cron="*/7 * * * *"), Timing(cron="0 3 * * *")]),
        st.sampled_from([0, 0, 30, 7200]),
    ),
    max_size=6,
)


@given(FIRINGS)
def test_the_counts_are_those_of_every_tick_with_its_jitter(firings: list[Firing]) -> None:
    starts = [
        (int(tick + jitter_of(each.name, tick, each.jitter)) // 60, each.name)
        for each in firings
        for tick in fires_between(each.timing, START - 8000, START + DAY, 10_000)
    ]
    expected = Counter(minute for minute, _ in starts)

    told = spread(firings, START, START + DAY)

    assert told.counts == tuple(expected[START // 60 + n] for n in range(1440))
    for busy in told.busiest:
        names = sorted({name for minute, name in starts if minute == busy.at // 60})
        assert set(busy.names) <= set(names)
        assert busy.starts == expected[busy.at // 60]
