"""The application the cluster tests run: each attempt leaves a row before and after its work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from pillars import App, current_job

app = App()
# Whoever starts where a test has laid a pipe waits until that opens it.
if Path("gate").is_fifo():
    Path("gate").read_bytes()


@app.job("crew.step", max_attempts=3)
async def step(seconds: float = 0.05) -> None:
    context = current_job()
    async with app.database.connection() as connection:
        await connection.execute(
            "INSERT INTO crew (job_id, attempt) VALUES (%s, %s)",
            (context.id, context.attempt),
        )
    # The work itself takes time, so that a kill finds jobs under way.
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
