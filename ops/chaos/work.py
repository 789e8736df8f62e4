"""The application the nemesis runs: each attempt leaves a row, by the database's clock."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pillars import App, PermanentError, current_job
from pillars.queue.retry import Backoff, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TABLES = """
CREATE SCHEMA nemesis;
CREATE TABLE nemesis.runs (
    job_id bigint, attempt integer, pid integer,
    began timestamptz DEFAULT clock_timestamp(), ended timestamptz
);
CREATE INDEX ON nemesis.runs (job_id)
"""
_BEGIN = "INSERT INTO nemesis.runs (job_id, attempt, pid) VALUES (%s, %s, %s)"
_END = (
    "UPDATE nemesis.runs SET ended = clock_timestamp() "
    "WHERE job_id = %s AND attempt = %s AND pid = %s"
)
# The handlers write to the database themselves: while it is away they fail, and are tried again.
_RETRY = RetryPolicy(max_attempts=200, backoff=Backoff.CONSTANT, base=1.0)

app = App()


@app.job("nemesis.step", retry=_RETRY, store_result=True)
async def step(seconds: float = 0.02) -> dict[str, int]:
    """Work for a while; the result tells which attempt it is of."""
    async with _recorded():
        await asyncio.sleep(seconds)
    return {"attempt": current_job().attempt}


@app.job("nemesis.flaky", retry=_RETRY, store_result=True)
async def flaky() -> dict[str, int]:
    """Fail at the first attempt."""
    async with _recorded():
        if current_job().attempt == 1:
            raise ConnectionError("the first attempt fails")
    return {"attempt": current_job().attempt}


@app.job("nemesis.hopeless")
async def hopeless() -> None:
    """Never succeed."""
    raise PermanentError("this job is given up at once")


@asynccontextmanager
async def _recorded() -> AsyncIterator[None]:
    job = current_job()
    who = (job.id, job.attempt, os.getpid())
    async with app.database.connection() as connection:
        await connection.execute(_BEGIN, who)
    try:
        yield
    finally:
        # Also where it fails or is cancelled: whoever counts what runs at once needs its end.
        async with app.database.connection() as connection:
            await connection.execute(_END, who)
