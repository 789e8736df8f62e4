"""The verdict is held to rows that are written, removed and doubled by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.loadtest import filling
from pillars.loadtest.filling import Filling, begin_after, clear
from pillars.loadtest.mixes import Load, Regular
from pillars.loadtest.verdict import Counts, Window, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from pillars.db.database import Database
    from pillars.ground.settings import Secret

START = 1_900_000_020
WINDOW = Window("q", START, START + 20)
# Three schedules fire each 10 seconds, one each second: 2 * 3 + 20 ticks.
LOAD = Load([Regular({"every": "10s"}, 10), Regular({"cron": "* * * * * *"}, 1)], [0, 0, 1, 0])
ENQUEUE_ALL = """
INSERT INTO pillars.jobs (schedule_id, fire_at, run_at, created_at, queue, type)
SELECT id, at, at, at - interval '5 s', queue, 'noop'
FROM pillars.schedules, generate_series(1, 20) AS second,
    LATERAL (SELECT to_timestamp(%s + second) AS at) AS tick
WHERE timing LIKE '%%* * *%%' OR second %% 10 = 0
"""


@pytest.fixture
async def counted(
    database: Database, sql: psycopg.Connection[Any], dsn: Secret
) -> Callable[[], Any]:
    """All ticks enqueued; returns what counts them."""
    loaded = Filling(database.link("fill"), LOAD, "q")
    await loaded.add(range(len(LOAD.which)), START, lambda _: None)
    sql.execute(ENQUEUE_ALL, (START,))
    demanded = {
        timing: list(pattern.ticks(WINDOW.since, WINDOW.until))
        for timing, pattern in zip(loaded.timings, LOAD.patterns, strict=True)
    }

    async def count() -> Any:
        return await judge(dsn, WINDOW, demanded, 4.0)

    return count


async def test_all_is_well_where_each_tick_was_enqueued_once(counted: Callable[[], Any]) -> None:
    counts, lateness, course = await counted()

    assert counts == Counts(26, 26, 0, 0, 0)
    assert counts
    assert (lateness.p50, lateness.p99, lateness.worst, lateness.late) == (0.0, 0.0, 0.0, 0)
    assert lateness.buckets == (26, *[0] * 12)
    assert [ticks for _, ticks, *_ in course.timeline] == [1] * 9 + [4] + [1] * 9 + [4]


async def test_a_lost_tick_is_missed(
    counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute("DELETE FROM pillars.jobs WHERE id = (SELECT min(id) FROM pillars.jobs)")

    counts, _, _ = await counted()

    assert counts == Counts(26, 25, 1, 0, 0)
    assert not counts


@pytest.mark.parametrize("state", ["missed", "skipped"])
async def test_a_tick_that_is_recorded_as_not_enqueued_is_missed(
    counted: Callable[[], Any], sql: psycopg.Connection[Any], state: str
) -> None:
    sql.execute(
        "UPDATE pillars.jobs SET state = %s, finished_at = now() "
        "WHERE id = (SELECT min(id) FROM pillars.jobs)",
        (state,),
    )

    counts, _, _ = await counted()

    assert counts == Counts(26, 25, 1, 0, 0)


async def test_a_tick_with_two_jobs_is_double_also_beside_one_that_is_lost(
    counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute("DROP INDEX pillars.jobs_tick")
    sql.execute("DELETE FROM pillars.jobs WHERE id = (SELECT min(id) FROM pillars.jobs)")
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, fire_at, queue, type) "
        "SELECT schedule_id, fire_at, queue, type FROM pillars.jobs ORDER BY id LIMIT 1"
    )

    counts, _, _ = await counted()

    assert counts == Counts(26, 25, 1, 1, 0)


async def test_a_tick_that_nobody_expected_stands_for_none_that_is_lost(
    counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "UPDATE pillars.jobs SET fire_at = fire_at + interval '0.5 s' "
        "WHERE id = (SELECT min(id) FROM pillars.jobs)"
    )

    counts, _, _ = await counted()

    assert counts == Counts(26, 25, 1, 0, 1)
    assert not counts


async def test_ticks_outside_the_window_and_jobs_of_others_do_not_count(
    counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, fire_at, queue, type) "
        "SELECT id, to_timestamp(%s), 'q', 'noop' FROM pillars.schedules",
        (START + 21,),
    )
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, fire_at, queue, type) "
        "VALUES (999, to_timestamp(%s), 'theirs', 'noop')",
        (START + 5,),
    )

    counts, _, _ = await counted()

    assert counts == Counts(26, 26, 0, 0, 0)


async def test_lateness_is_from_the_tick_to_its_job_and_early_is_not_late(
    counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "UPDATE pillars.jobs SET created_at = fire_at + interval '2 s' "
        "WHERE id = (SELECT min(id) FROM pillars.jobs)"
    )

    _, lateness, _ = await counted()

    assert (lateness.p50, lateness.worst, lateness.late) == (0.0, 2.0, 1)
    assert [number for number, ticks in enumerate(lateness.buckets) if ticks] == [0, 8]


async def test_what_is_added_is_there_until_it_is_cleared_and_nothing_else_goes(
    database: Database, counted: Callable[[], Any], sql: psycopg.Connection[Any]
) -> None:
    sql.execute("SELECT pillars.enqueue('precious')")
    assert (await counted())[0]

    await clear(database.link("clear"), "q")

    assert sql.execute("SELECT count(*) FROM pillars.schedules").fetchall() == [(0,)]
    assert sql.execute("SELECT type FROM pillars.jobs").fetchall() == [("precious",)]


async def test_pages_of_schedules_follow_each_other(
    database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "CHUNK", 2)
    added: list[int] = []

    await Filling(database.link("fill"), LOAD, "q").add(range(1, 4), START, added.append)

    assert added == [2, 1]
    assert sql.execute("SELECT name, timing FROM pillars.schedules ORDER BY id").fetchall() == [
        ("q-0000001", '{"every":10}'),
        ("q-0000002", '{"cron":"* * * * * *"}'),
        ("q-0000003", '{"every":10}'),
    ]


async def test_schedules_begin_after_a_later_instant_where_filling_took_long(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    link = database.link("fill")
    await Filling(link, LOAD, "q").add(range(1, 4), START, lambda _: None)

    await begin_after(link, "q", START + 7)

    rows = sql.execute(
        "SELECT extract(epoch FROM next_fire_at)::bigint - %s, version FROM pillars.schedules "
        "ORDER BY id",
        (START,),
    ).fetchall()
    assert rows == [(10, 1), (8, 2), (10, 1)]
