from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pillars.queue.upkeep import Pruner

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener


async def test_notes_of_withdrawn_ticks_are_kept_for_the_retention(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener
) -> None:
    sql.execute(
        "INSERT INTO pillars.withdrawn_ticks (schedule_id, fire_at, schedule, reason, withdrawn_at)"
        " SELECT n, now(), 's', 'withdrawn: ...', now() - make_interval(mins => n)"
        " FROM generate_series(1, 4) AS n"
    )

    await Pruner(database.link("prune"), 150.0, 9_999.0, events).step()

    assert sql.execute(
        "SELECT schedule_id FROM pillars.withdrawn_ticks ORDER BY schedule_id"
    ).fetchall() == [(1,), (2,)]
