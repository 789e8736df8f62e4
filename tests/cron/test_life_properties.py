"""No tick twice, no tick lost, and an edit never repeats one: whatever is done to a schedule.

Random acts on a real database, judged by an account of its own (`world`). Each property is shown to
fail once the guard that holds it is taken away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.cron import backfill, edits, firing, life
from tests.cron.guards import UNIQUE_KEY, act, no_version, resume_catches_up, without
from tests.cron.world import TIMINGS, Act, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

Play = Any
FEW = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


LIVE = act("live", st.integers(1, 40))
OUTAGE = act("advance", st.integers(10, 120) | st.just(3_000))
CHANGES = [
    act("pause"),
    act("resume"),
    act("toggle"),
    act("edit", st.integers(0, len(TIMINGS) - 1)),
    act("edit", st.integers(0, len(TIMINGS) - 1)),
    act("edit_args"),
    act("fire"),
]
BACKFILL = act("backfill", st.integers(0, 200), st.integers(1, 600))
PRUNE = act("prune")
POLICIES = st.fixed_dictionaries(
    {
        "catchup": st.sampled_from(["none", "last", "all"]),
        "overlap": st.sampled_from(["allow", "allow", "skip"]),
    }
)


@st.composite
def stories(draw: st.DrawFn, *further: st.SearchStrategy[Act]) -> list[Act]:
    """Changes with time between them, some overtaken by a replica that acts on what it knew."""
    change = st.one_of(*CHANGES, *further)
    story: list[Act] = []
    for _ in range(8):
        story.append(draw(LIVE | LIVE | OUTAGE))
        if draw(st.integers(0, 3)):
            story.append(draw(change))
        else:
            story.append(("overtaken", draw(st.lists(LIVE | change, min_size=1, max_size=3))))
    return story


@pytest.fixture
def play(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> Callable[..., Any]:
    """Play acts in a new world, and return it."""
    links = database.link("own"), database.link("other")

    async def played(story: Sequence[Act], *, forgetful: bool = False, **keys: str) -> World:
        world = World(database, sql, events, links, forgetful=forgetful, **keys)
        await world.play(story)
        return world

    return played


@FEW
@given(story=stories(BACKFILL), policies=POLICIES)
async def test_no_tick_is_run_twice(play: Play, story: list[Act], policies: dict[str, str]) -> None:
    assert (await play(story, **policies)).twice() == []


@FEW
@given(story=stories(), policies=POLICIES)
async def test_no_tick_is_run_twice_even_if_no_row_tells_of_it_any_more(
    play: Play, story: list[Act], policies: dict[str, str]
) -> None:
    assert (await play(story, forgetful=True, **policies)).twice() == []


@FEW
@given(story=stories(BACKFILL, PRUNE), policies=POLICIES)
async def test_no_tick_is_lost(play: Play, story: list[Act], policies: dict[str, str]) -> None:
    assert (await play(story, **policies)).lost() == []


@FEW
@given(story=stories(), policies=POLICIES)
async def test_nothing_is_run_but_ticks_of_the_timing_in_force(
    play: Play, story: list[Act], policies: dict[str, str]
) -> None:
    assert (await play(story, **policies)).out_of_turn() == []


# ---- each can fail: a guard is taken away, and these acts show it


async def nothing(*_: Any, **__: Any) -> None:
    """Stand in for a guard."""


async def every_tick(_connection: object, _known: object, chunk: Sequence[int]) -> list[int]:
    """Stand in for the look for ticks that have a job."""
    return list(chunk)


def no_unique_key(patch: pytest.MonkeyPatch, sql: psycopg.Connection[Any]) -> None:
    sql.execute("DROP INDEX pillars.jobs_tick")
    patch.setattr(backfill, "BACKFILL", without(backfill.BACKFILL, UNIQUE_KEY))
    patch.setattr(backfill, "_without_job", every_tick)
    patch.setattr(firing, "FIRE", without(firing.FIRE, UNIQUE_KEY))


def cursor_moves_alone(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    only = firing.FIRE.sql.replace("WHERE moved.plain = 1 OR", "WHERE false AND")
    patch.setattr(firing, "FIRE", replace(firing.FIRE, sql=only))


def edit_moves_the_cursor_back(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    true = edits.next_fire
    patch.setattr(edits, "next_fire", lambda timing, after: true(timing, after - 60))


def edit_withdraws_nothing(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    patch.setattr(edits, "withdraw", nothing)


def edit_records_nothing(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    patch.setattr(edits, "record", nothing)


def pause_records_nothing(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    patch.setattr(life, "record_left", nothing)


def backfill_overwrites_runs(patch: pytest.MonkeyPatch, _: psycopg.Connection[Any]) -> None:
    patch.setattr(backfill, "_split_runs", nothing)


RUN: list[Act] = [("live", 30)]
PAUSED: list[Act] = [("pause",), ("advance", 100), ("resume",)]


@pytest.mark.parametrize(
    ("guard", "story", "found"),
    [
        (
            no_version,
            [("advance", 10), ("overtaken", [*RUN, ("prune",)])],
            {"twice": [20]},
        ),
        (no_unique_key, [*RUN, ("backfill", 0, 20)], {"twice": [20]}),
        (cursor_moves_alone, RUN, {"lost": [20]}),
        (edit_moves_the_cursor_back, [*RUN, ("prune",), ("edit_args",)], {"twice": [20]}),
        (edit_withdraws_nothing, [*RUN, ("edit", 1), ("live", 24)], {"out": [40]}),
        (edit_records_nothing, [("advance", 50), ("edit", 1)], {"lost": [20, 40]}),
        (pause_records_nothing, PAUSED, {"lost": [20, 40, 60, 80, 100]}),
        (resume_catches_up, PAUSED, {"out": [60, 80, 100]}),
        (backfill_overwrites_runs, [*PAUSED, ("backfill", 60, 30)], {"lost": [40, 60, 80]}),
    ],
)
async def test_each_property_fails_without_its_guard(
    play: Play,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    guard: Callable[[pytest.MonkeyPatch, psycopg.Connection[Any]], None],
    story: list[Act],
    found: dict[str, list[int]],
) -> None:
    assert await judged(play, story) == {}

    guard(monkeypatch, sql)

    broken = await judged(play, story)
    assert all(set(ticks) <= set(broken.get(what, ())) for what, ticks in found.items()), broken


async def judged(play: Play, story: list[Act]) -> dict[str, list[int]]:
    world = await play(story, catchup="all")
    verdict = {"twice": world.twice(), "lost": world.lost(), "out": world.out_of_turn()}
    return {what: ticks for what, ticks in verdict.items() if ticks}
