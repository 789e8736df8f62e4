from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pillars.cluster.agent import Membership
from pillars.cluster.heart import Heart
from pillars.db.database import Database
from pillars.ground.clock import SystemClock
from pillars.ground.events import LoopFailed, MemberLeft
from pillars.queue.upkeep import rescue

if TYPE_CHECKING:
    from pillars.ground.events import Emit
    from pillars.ground.settings import Secret
    from tests.helpers import RecordingListener


@pytest.fixture
async def heart(dsn: Secret, events: RecordingListener) -> Heart:
    database = Database(dsn, "heart", lambda _: None)

    def build(emit: Emit) -> Membership:
        return Membership(
            database.link("heartbeat"),
            role="cron",
            name="a",
            pid=1,
            url="",
            app_version="0",
            lease=60.0,
            on_expel=rescue,
            emit=emit,
            clock=SystemClock(),
        )

    heart = Heart(database, build, events)
    await heart.start()
    return heart


async def test_a_leave_that_meets_an_outage_is_made_when_the_database_is_back(
    heart: Heart,
    postgres: Secret,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    name = Identifier(sql.info.dbname)
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        sql.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'heart%'",
        )

        leaving = asyncio.create_task(heart.stop())
        await events.until(LoopFailed, where=lambda event: event.loop == "leave")
        admin.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        await leaving

    assert events.of(MemberLeft)
    assert sql.execute("SELECT count(*) FROM pillars.members").fetchall() == [(0,)]
