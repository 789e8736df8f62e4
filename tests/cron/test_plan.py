"""Plans against a model that looks at every second: what becomes of each tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillars.cron import plan
from pillars.cron.definition import Timing, jitter_of
from pillars.cron.plan import AVAILABLE, MISSED, SKIPPED, Due, Tick, plan_fires

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 30
MOST_TICKS = 120


@dataclass(frozen=True)
class Case:
    """An interval schedule, the instant its cursor stands at, and the time it is looked at."""

    every: int
    phase: int
    end_at: int | None
    catchup: str
    window: int | None
    limit: int
    ahead: bool
    jitter: int
    first: int
    now: float
    lookahead: float

    @property
    def horizon(self) -> float:
        return self.now + self.lookahead if self.ahead else self.now

    def due(self, cursor: int) -> Due:
        timing = Timing(every=self.every, phase=self.phase, end_at=self.end_at)
        return Due(
            id=1,
            version=1,
            next_fire_at=cursor,
            timing=timing.encode(),
            catchup=self.catchup,
            catchup_window=self.window,
            catchup_limit=self.limit,
            ahead=self.ahead,
            jitter=self.jitter,
            name="s" if self.jitter else None,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    every = draw(st.integers(1, 40) | st.sampled_from([60, 300]))
    phase = draw(st.integers(0, every - 1))
    now = 1_900_000_000 + draw(st.integers(0, 99)) + draw(st.sampled_from([0.0, 0.25, 0.999]))
    lookahead = draw(st.sampled_from([0.0, 0.5, 5.0, 60.0]))
    ahead = draw(st.booleans())
    last = int(now + lookahead if ahead else now)
    last -= (last - phase) % every
    first = last - every * draw(st.integers(0, MOST_TICKS))
    end_at = draw(st.none() | st.integers(first, last + every))
    return Case(
        every=every,
        phase=phase,
        end_at=end_at,
        catchup=draw(st.sampled_from(["none", "last", "all"])),
        window=draw(st.none() | st.integers(1, every * MOST_TICKS)),
        limit=draw(st.integers(1, 12) | st.just(1_000)),
        ahead=ahead,
        jitter=draw(st.sampled_from([0, 0, 1, 30])),
        first=first,
        now=now,
        lookahead=lookahead,
    )


def is_tick(case: Case, second: int) -> bool:
    return second % case.every == case.phase and (case.end_at is None or second <= case.end_at)


def model(case: Case) -> dict[int, str]:
    """What is to become of each tick from the cursor to the horizon; every second is looked at."""
    ticks = [s for s in range(case.first, int(case.horizon) + 1) if is_tick(case, s)]
    past = [tick for tick in ticks if tick <= case.now]
    fate: dict[int, str] = {}
    caught_up = 0
    for tick in reversed(ticks):
        if tick >= int(case.now) - GRACE:
            fate[tick] = AVAILABLE
            continue
        recent = case.window is None or tick >= int(case.now) - case.window
        if case.catchup == "all":
            chosen = recent and caught_up < case.limit
            caught_up += 1
        else:
            chosen = recent and case.catchup == "last" and tick == past[-1]
        fate[tick] = AVAILABLE if chosen else MISSED
    if not case.ahead:
        # Jobs of an exclusive schedule that would all start at once: the newest stands for all.
        enqueued = sorted(tick for tick, state in fate.items() if state == AVAILABLE)
        fate |= dict.fromkeys(enqueued[:-1], SKIPPED)
    return {tick: fate[tick] for tick in ticks}


def unfolded(case: Case, tick: Tick) -> Iterator[int]:
    """The ticks a row stands for."""
    if tick.ticks is None:
        assert tick.fire_until is None
        yield tick.fire_at
        return
    assert tick.fire_until is not None
    inside = [s for s in range(tick.fire_at, tick.fire_until + 1) if is_tick(case, s)]
    assert (len(inside), inside[0], inside[-1]) == (tick.ticks, tick.fire_at, tick.fire_until)
    yield from inside


def carried_out(case: Case) -> tuple[list[tuple[int, str]], list[Tick]]:
    """Plan until the cursor has passed the horizon, as the ticker does."""
    fates: list[tuple[int, str]] = []
    rows: list[Tick] = []
    cursor: int | None = case.first
    while cursor is not None and cursor <= case.horizon:
        made = plan_fires(case.due(cursor), case.now, case.lookahead)
        covered = [(at, tick.state) for tick in made.ticks for at in unfolded(case, tick)]
        assert 1 <= len(covered) <= plan.CHUNK
        assert (covered[0][0], covered[-1][0]) == (cursor, made.last_fire_at)
        fates += covered
        rows += made.ticks
        cursor = made.next_fire_at
    assert cursor is None or is_tick(case, cursor)
    return fates, rows


@pytest.fixture(scope="module", params=[(1, 100), (2, 1), (7, 3), (50, 100), (1_000, 100)], ids=str)
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """How many ticks a plan looks at, and from how many a run of missed ones is folded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CHUNK", request.param[0])
        patch.setattr(plan, "FOLD", request.param[1])
        yield


@pytest.mark.usefixtures("sizes")
@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_each_tick_comes_to_what_the_policy_demands_once_and_in_order(case: Case) -> None:
    fates, _ = carried_out(case)

    assert fates == list(model(case).items())


@pytest.mark.usefixtures("sizes")
@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_jobs_start_at_their_tick_or_within_the_jitter_after_it(case: Case) -> None:
    _, rows = carried_out(case)

    for tick in rows:
        shift = jitter_of("s", tick.fire_at, case.jitter) if tick.state != MISSED else 0
        assert tick.run_at == tick.fire_at + shift
        assert 0 <= shift <= case.jitter
        assert (tick.reason is None) == (tick.state == AVAILABLE)


@pytest.mark.usefixtures("sizes")
@settings(max_examples=100, deadline=None)
@given(case=cases(), pauses=st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_no_tick_is_lost_or_repeated_while_time_passes_between_plans(
    case: Case, pauses: list[float]
) -> None:
    seen: list[int] = []
    cursor: int | None = case.first
    now = case.now
    for pause in pauses:
        horizon = now + case.lookahead if case.ahead else now
        if cursor is not None and cursor <= horizon:
            made = plan_fires(case.due(cursor), now, case.lookahead)
            seen += [at for tick in made.ticks for at in unfolded(case, tick)]
            cursor = made.next_fire_at
        now += pause

    assert seen == [s for s in range(case.first, seen[-1] + 1) if is_tick(case, s)]
    further = range(seen[-1] + 1, seen[-1] + case.every + 1)
    assert cursor == next((s for s in further if is_tick(case, s)), None)


def test_a_backlog_within_the_limit_is_caught_up_whole() -> None:
    now = 1_900_000_040
    case = Case(60, 20, None, "all", None, 100, True, 0, now - 60 * 60, float(now), 5.0)

    fates, _ = carried_out(case)

    assert [state for _, state in fates] == [AVAILABLE] * 61


def test_a_long_run_of_missed_ticks_is_one_row_and_a_short_one_a_row_each() -> None:
    now = 1_900_000_000
    case = Case(60, 40, None, "none", None, 100, True, 0, now - 60 * 101, float(now), 5.0)
    assert is_tick(case, case.first)

    _, rows = carried_out(case)
    assert [(tick.state, tick.ticks) for tick in rows] == [(MISSED, 101), (AVAILABLE, None)]

    _, rows = carried_out(Case(**{**vars(case), "first": case.first + 60}))
    assert [(tick.state, tick.ticks) for tick in rows] == [(MISSED, None)] * 100 + [
        (AVAILABLE, None)
    ]
