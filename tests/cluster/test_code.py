"""Schedules in code, with real cron processes that import an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.cron.book import put
from pillars.cron.definition import parse_schedule
from tests.cluster.crew import Crew, eventually, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from pillars.db.database import Database
    from pillars.ground.settings import Secret

pytestmark = pytest.mark.cluster
APP = """
from pillars import App
app = App()

@app.schedule("every-second", every="1s")
@app.job("t")
def handler(): ...
"""


@pytest.fixture
def crew(dsn: Secret, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(dsn, tmp_path)
    yield crew
    crew.end()


def fired(sql: psycopg.Connection[Any], name: str) -> int:
    return int(one(sql, "SELECT count(*) FROM pillars.jobs WHERE schedule = %s", name))


def test_a_cron_fires_the_schedules_of_its_application(
    crew: Crew, tmp_path: Path, sql: psycopg.Connection[Any]
) -> None:
    (tmp_path / "jobs.py").write_text(APP)

    crew.start("cron", "cron-1", "--app", "jobs:app")

    eventually("it fires", lambda: fired(sql, "every-second") > 1)
    origin = one(sql, "SELECT origin FROM pillars.schedules WHERE source = 'code'")
    assert origin == "jobs:handler"
    assert crew.stop("cron-1") == [0]


async def test_a_cron_whose_application_is_broken_says_so_and_fires_what_is_in_force(
    crew: Crew, tmp_path: Path, database: Database, sql: psycopg.Connection[Any]
) -> None:
    async with database.transaction() as connection:
        await put(connection, [parse_schedule({"name": "s", "every": "1s", "job": "noop"})])
    (tmp_path / "broken.py").write_text("import nothing.like.it")

    crew.start("cron", "cron-1", "--app", "broken:app")

    eventually("it fires", lambda: fired(sql, "s") > 1)
    assert "broken cannot be imported: " in crew.output("cron-1")
    assert crew.stop("cron-1") == [0]
