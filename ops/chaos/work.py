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
_BEGIN = (
    "INSERT INTO nemesis.runs (job_id, attempt, pid) "
    "SELECT * FROM unnest(%s::bigint[], %s::integer[], %s::integer[])"
)
_END = (
    "UPDATE nemesis.runs SET ended = clock_timestamp() "
    "FROM unnest(%s::bigint[], %s::integer[], %s::integer[]) AS done (job_id, attempt, pid) "
    "WHERE runs.job_id = done.job_id AND runs.attempt = done.attempt AND runs.pid = done.pid"
)
# The handlers write to the database themselves: while it is away they fail, and are tried again.
_RETRY = RetryPolicy(max_attempts=200, backoff=Backoff.CONSTANT, base=1.0)

app = App()


class _Ledger:
    """Writes rows one statement at a time; what comes meanwhile goes with the next.

    A job waits until its row is committed, as it would with a statement of its own.
    """

    def __init__(self, statement: str) -> None:
        self._statement = statement
        self._waiting: list[tuple[tuple[int, int, int], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, row: tuple[int, int, int]) -> None:
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((row, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await written

    async def _write(self) -> None:
        while self._waiting:
            waiting: list[tuple[tuple[int, int, int], asyncio.Future[None]]] = []
            failed: Exception | None = None
            try:
                async with app.database.connection() as connection:
                    # Whoever was cancelled meanwhile is not to leave a row that is late.
                    waiting = [each for each in self._waiting if not each[1].done()]
                    self._waiting.clear()
                    if waiting:
                        rows = zip(*(row for row, _ in waiting), strict=True)
                        await connection.execute(self._statement, [list(row) for row in rows])
            except Exception as error:  # noqa: BLE001 - each of those who wait is to be told
                failed = error
                waiting += self._waiting
                self._waiting.clear()
            for _, written in waiting:
                if written.done():
                    continue
                if failed is None:
                    written.set_result(None)
                else:
                    written.set_exception(failed)


_began, _ended = _Ledger(_BEGIN), _Ledger(_END)


@app.job("nemesis.step", retry=_RETRY, store_result=True)
async def step(seconds: float = 0.02, edition: int = 0) -> dict[str, int]:
    """Work for a while; the result tells which attempt it is of."""
    async with _recorded():
        await asyncio.sleep(seconds)
    return {"attempt": current_job().attempt, "edition": edition}


@app.job("nemesis.flaky", retry=_RETRY, store_result=True)
async def flaky() -> dict[str, int]:
    """Fail at the first attempt."""
    async with _recorded():
        if current_job().attempt == 1:
            raise ConnectionError("the first attempt fails")
    return {"attempt": current_job().attempt}


@app.job("nemesis.hog", retry=_RETRY, store_result=True)
async def hog(seconds: float) -> dict[str, int]:
    """Keep one of the application's few connections for a while."""
    async with _recorded(), app.database.connection():
        await asyncio.sleep(seconds)
    return {"attempt": current_job().attempt}


@app.job("nemesis.hopeless")
async def hopeless() -> None:
    """Never succeed."""
    raise PermanentError("this job is given up at once")


@asynccontextmanager
async def _recorded() -> AsyncIterator[None]:
    job = current_job()
    who = (job.id, job.attempt, os.getpid())
    await _began.write(who)
    try:
        yield
    finally:
        # Also where it fails or is cancelled: whoever counts what runs at once needs its end.
        await _ended.write(who)
