"""The application the cluster tests run: each attempt leaves a row before and after its work."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

from pillars import App, current_job

app = App()
# Whoever starts waits for as long as a test wants.
while Path("wait").exists():
    threading.Event().wait(0.05)


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
