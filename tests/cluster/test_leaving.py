"""A worker leaves although a handler of the application does not end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.crew import Crew, eventually, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from pillars.ground.settings import Secret

pytestmark = pytest.mark.cluster
APP = """
import asyncio
import threading

from pillars import App

app = App()


@app.job("thread")
async def thread():
    await asyncio.to_thread(threading.Event().wait)


@app.job("deaf")
async def deaf():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""


@pytest.fixture
def crew(dsn: Secret, tmp_path: Path) -> Iterator[Crew]:
    (tmp_path / "stubborn.py").write_text(APP)
    crew = Crew(dsn, tmp_path)
    yield crew
    crew.end()


@pytest.mark.parametrize("handler", ["thread", "deaf"])
def test_its_job_is_handed_back_and_the_process_ends(
    crew: Crew, sql: psycopg.Connection[Any], handler: str
) -> None:
    sql.execute("SELECT pillars.enqueue(%s)", (handler,))
    crew.start("worker", "w", "--app", "stubborn:app", PILLARS_DRAIN_TIMEOUT="0.1")
    eventually("it runs", lambda: one(sql, "SELECT state FROM pillars.jobs") == "running")

    assert crew.stop("w") == [0]

    assert "something of the application still runs" in crew.output("w")
    assert one(sql, "SELECT state FROM pillars.jobs") == "available"
    assert one(sql, "SELECT count(*) FROM pillars.members") == 0
