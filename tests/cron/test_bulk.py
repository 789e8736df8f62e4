from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pillars.cron.book import put, show_schedule
from pillars.cron.bulk import Patterns, aim_after, remove_many
from pillars.cron.definition import parse_schedule

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAILY = {
    "name": "a", "cron": "0 9 * * *", "timezone": "Europe/Berlin", "job": "noop",
    "args": {"n": 1}, "queue": "q", "overlap": "skip", "jitter": "30s", "priority": 3,
    "retry": {"max_attempts": 2},
}  # fmt: skip
EACH_MINUTE = {"name": "b", "every": "1m", "job": "noop", "queue": "q"}
PATTERNS = [parse_schedule(DAILY), parse_schedule(EACH_MINUTE)]
ALL_BUT_IDENTITY = """
SELECT to_jsonb(schedules) - 'id' - 'name' - 'slot' - 'created_at' - 'updated_at' - 'fingerprint'
    - 'definition' FROM pillars.schedules WHERE name = %s
"""


async def test_what_is_added_in_bulk_is_like_what_is_put_one_by_one(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    async with database.transaction() as connection:
        await put(connection, PATTERNS, now=NOW)

    await Patterns(PATTERNS, NOW).add(database.link("bulk"), ["x", "y", "z"], [1, 0, 1])

    for name, like in (("x", "b"), ("y", "a"), ("z", "b")):
        assert (
            sql.execute(ALL_BUT_IDENTITY, (name,)).fetchall()
            == sql.execute(ALL_BUT_IDENTITY, (like,)).fetchall()
        )
        record = await show_schedule(database, name)
        assert record.definition["name"] == name
        assert record.slot == parse_schedule({**EACH_MINUTE, "name": name}).slot


async def test_cursors_that_would_be_passed_are_set_after_the_instant_and_no_other(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    link = database.link("bulk")
    await Patterns(PATTERNS, NOW).add(link, ["x", "y"], [1, 0])
    later = datetime(2030, 1, 1, 0, 5, tzinfo=UTC)

    assert await aim_after(link, "other", later) == 0
    assert await aim_after(link, "q", later) == 1
    assert await aim_after(link, "q", later) == 0

    assert sql.execute("SELECT next_fire_at FROM pillars.schedules ORDER BY id").fetchall() == [
        (datetime(2030, 1, 1, 0, 6, tzinfo=UTC),),
        (datetime(2030, 1, 1, 8, 0, tzinfo=UTC),),
    ]


async def test_schedules_of_one_queue_are_removed(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    link = database.link("bulk")
    others = parse_schedule({**EACH_MINUTE, "queue": "others"})
    await Patterns([PATTERNS[0], others], NOW).add(link, ["x", "y"], [0, 1])

    assert await remove_many(link, "q")
    assert not await remove_many(link, "q")

    assert sql.execute("SELECT name FROM pillars.schedules").fetchall() == [("y",)]
