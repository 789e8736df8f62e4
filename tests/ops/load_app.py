"""The application of the dashboard check: jobs that succeed, fail at first, and are given up."""

from __future__ import annotations

import asyncio

from pillars import App, PermanentError, current_job

app = App()


@app.job("load.quick")
async def quick() -> None:
    """Do nothing, well."""


@app.job("load.slow", queue="reports")
async def slow(seconds: float = 1.5) -> None:
    """Take a while."""
    await asyncio.sleep(seconds)


@app.job("load.flaky", queue="mail", max_attempts=3)
async def flaky() -> None:
    """Fail at the first attempt."""
    if current_job().attempt == 1:
        raise ConnectionError("the first attempt fails")


@app.job("load.hopeless", queue="mail")
async def hopeless() -> None:
    """Never succeed."""
    raise PermanentError("this job is given up at once")
