"""Members, ring and fires together: whatever a fleet of crons goes through, in whatever order.

Stories are chosen by hypothesis, down to the order of single statements, and played on a real
database by a clock of their own. They are judged after each transaction, after each sweep and at
the end, by accounts that know nothing of cursors, versions or streaks. Each judgement is shown to
fail once the guard that holds it is taken away.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.cluster import agent, members, ring
from pillars.cron import firing, ticker
from tests.cron.guards import UNIQUE_KEY, act, no_version, resume_catches_up, without
from tests.cron.world import TIMINGS, Act
from tests.properties.fleet import LOOPS, MOST, SCHEDULES, Fleet
from tests.properties.loops import AFTER, BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from pillars.db.database import Database

Play = Any
# Derandomised on CI, where hypothesis says so itself.
STORIES = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


WHICH = st.integers(0, MOST - 1)
FEW = st.integers(0, 6)
LOOP = st.sampled_from(LOOPS)
CUT = st.sampled_from([None, BEFORE, AFTER])
TIME = (
    act("live", st.integers(1, 8), WHICH)
    | act("live", st.integers(1, 8), WHICH, WHICH)
    | act("stall", st.integers(3, 20) | st.just(200))
    | act("wait", st.integers(1, 4))
)
COMING = act("join", FEW)
GOING = act("die", WHICH) | act("leave", WHICH, CUT)
STATEMENTS = act("hold", WHICH, LOOP, FEW) | act("step", WHICH, LOOP, CUT)
SCHEDULE = st.integers(0, len(SCHEDULES) - 1)
CHANGE = (
    act("pause", SCHEDULE)
    | act("resume", SCHEDULE)
    | act("toggle", SCHEDULE)
    | act("edit", SCHEDULE, st.integers(0, len(TIMINGS) - 1))
    | act("edit_args")
    | act("prune")
)


@st.composite
def stories(draw: st.DrawFn) -> list[Act]:
    """Crons that come and go, changes in between, and time that passes for all or for some."""
    story = [draw(COMING), draw(COMING), draw(act("live", st.integers(1, 8), WHICH))]
    for _ in range(6):
        story += draw(st.lists(STATEMENTS, max_size=3))
        story.append(draw(COMING | GOING | CHANGE | CHANGE))
        story.append(draw(TIME))
    return story


@pytest.fixture
def play(database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> Play:
    """Play a story with a new fleet; returns the faults."""
    links = [[database.link(f"{cron} {loop}") for loop in LOOPS] for cron in range(MOST)]
    numbers = itertools.count(1)
    monkeypatch.setattr(agent, "uuid4", lambda: UUID(int=next(numbers)))

    async def played(story: Sequence[Act], *loops: str) -> list[str]:
        return await Fleet(database, sql, links, loops or LOOPS).play(story)

    return played


@STORIES
@given(story=stories())
async def test_whatever_befalls_a_fleet_nothing_is_lost_twice_late_or_expelled_wrongly(
    play: Play, story: list[Act]
) -> None:
    assert await play(story) == []


@STORIES
@given(story=stories())
async def test_the_owners_alone_lose_nothing(play: Play, story: list[Act]) -> None:
    assert await play(story, "heart", "ticker") == []


@STORIES
@given(story=stories())
async def test_the_sweep_alone_loses_nothing(play: Play, story: list[Act]) -> None:
    assert await play(story, "sweep") == []


# ---- each can fail: a guard is taken away, and these acts show it


def no_streak(patch: pytest.MonkeyPatch) -> None:
    drop(patch, members.SQL, "expel", r"AND me.streak_at .*?(?=AND)")


def no_fresh_heartbeat(patch: pytest.MonkeyPatch) -> None:
    drop(patch, members.SQL, "expel", r"AND me.heartbeat_at .*?(?=AND)")


def no_quota(patch: pytest.MonkeyPatch) -> None:
    def all_for_all(seats: Sequence[Any]) -> None:
        for seat in seats:
            seat.quota = ring.SLOTS

    patch.setattr(ring, "_set_quotas", all_for_all)


def map_from_nothing(patch: pytest.MonkeyPatch) -> None:
    true = members.assign
    patch.setattr(members, "assign", lambda _, crons: true((None,) * ring.SLOTS, crons))


def no_rebalance(patch: pytest.MonkeyPatch) -> None:
    async def rebalance(*_: Any) -> None:
        pass

    patch.setattr(members, "rebalance", rebalance)


def horizon_of_other_slots(patch: pytest.MonkeyPatch) -> None:
    class Whatever:
        def __eq__(self, _: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    kept = property(lambda _: Whatever(), lambda *_: None)
    patch.setattr(ticker.OwnTicker, "_fired_slots", kept, raising=False)


def drop(patch: pytest.MonkeyPatch, statements: Any, name: str, pattern: str) -> None:
    patch.setitem(statements, name, without(statements[name], pattern))


TWO: list[Act] = [("join", 6), ("join", 6)]
# The first one looks at what is due and is stopped; the other one fires it, and it is run.
OVERTAKEN: list[Act] = [
    *TWO,
    ("live", 14, 0),
    ("wait", 1),
    ("hold", 0, "ticker", 1),
    ("live", 12, 1, 0),
]
ALL, OWNERS = LOOPS, ("heart", "ticker")


@pytest.mark.parametrize(
    ("guard", "loops", "story", "found"),
    [
        (
            no_streak,
            ALL,
            [*TWO, ("live", 8, 0), ("stall", 20), ("step", 0, "heart", None)],
            "expelled wrongly",
        ),
        (
            no_fresh_heartbeat,
            ALL,
            [
                *TWO,
                ("join", 6),
                ("live", 8, 0),
                ("die", 2),
                ("live", 5, 0),
                ("wait", 1),
                ("hold", 0, "heart", 1),
                ("stall", 20),
                ("step", 0, "heart", None),
            ],
            "expelled wrongly",
        ),
        (no_quota, ALL, TWO, "shares that differ"),
        (map_from_nothing, ALL, [*TWO, ("join", 6), ("leave", 0, None)], "moves without need"),
        (no_rebalance, ALL, TWO, "slots without an active owner"),
        (
            no_version,
            ALL,
            [*OVERTAKEN, ("prune",), ("step", 0, "ticker", None), ("live", 1, 0)],
            "s4: run twice",
        ),
        (
            horizon_of_other_slots,
            OWNERS,
            [*TWO, ("live", 8, 0), ("die", 1), ("stall", 200), ("live", 12, 0)],
            "s0: lost",
        ),
        (
            resume_catches_up,
            ALL,
            [*TWO, ("live", 8, 0), ("pause", 0), ("live", 50, 0), ("resume", 0), ("live", 3, 0)],
            "s0: run out of turn",
        ),
    ],
)
async def test_each_judgement_fails_without_its_guard(
    play: Play,
    monkeypatch: pytest.MonkeyPatch,
    guard: Callable[[pytest.MonkeyPatch], None],
    loops: Sequence[str],
    story: list[Act],
    found: str,
) -> None:
    assert await play(story, *loops) == []

    guard(monkeypatch)

    assert found in await play(story, *loops)


async def test_without_the_fence_of_the_version_the_unique_key_still_lets_no_tick_run_twice(
    play: Play, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    story: list[Act] = [*OVERTAKEN, ("step", 0, "ticker", None), ("live", 1, 0)]
    no_version(monkeypatch)
    assert await play(story) == []

    sql.execute("DROP INDEX pillars.jobs_tick")
    monkeypatch.setattr(firing, "FIRE", without(firing.FIRE, UNIQUE_KEY))

    assert "s4: run twice" in await play(story)
