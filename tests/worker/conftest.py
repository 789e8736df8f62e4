"""A worker under test: real database, real member row, every event recorded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pillars.app import App
from pillars.ground.clock import SystemClock
from pillars.worker.worker import Worker
from tests.helpers import PATIENCE, new_member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener


@dataclass
class Bench:
    """Starts workers and looks into the jobs table."""

    app: App
    database: Database
    events: RecordingListener
    sql: psycopg.Connection[Any]
    identity: UUID | None = None
    passes: int = 0
    clock: Any = field(default_factory=SystemClock)

    def join(self) -> UUID:
        """Become a member under a new id."""
        self.identity = new_member(self.sql)
        return self.identity

    def worker(self, concurrency: int = 4, queues: tuple[str, ...] = ()) -> Worker:
        if self.identity is None:
            self.join()
        return Worker(
            database=self.database,
            registry=self.app.registry,
            identity=lambda: self.identity,
            progressed=self._progressed,
            queues=queues,
            concurrency=concurrency,
            emit=self.events,
            clock=self.clock,
        )

    @asynccontextmanager
    async def working(self, concurrency: int = 4, patience: float = 20.0) -> AsyncIterator[Worker]:
        """Run a worker; stop it in order at the end."""
        worker = self.worker(concurrency)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            await worker.stop(patience)
            await running

    def jobs(self, columns: str = "state") -> list[Any]:
        rows = self.sql.execute(f"SELECT {columns} FROM pillars.jobs ORDER BY id").fetchall()  # type: ignore[arg-type]
        return [row[0] if len(row) == 1 else row for row in rows]

    def _progressed(self) -> None:
        self.passes += 1


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends once it is told to has all the time it takes to end."""
    for name in ("CUT_GRACE", "WRITE_GRACE"):
        monkeypatch.setattr(f"pillars.worker.worker.{name}", PATIENCE)


@pytest.fixture
def app(database: Database, events: RecordingListener) -> App:
    app = App()
    app.bind(database, events)
    return app


@pytest.fixture
def bench(
    app: App,
    database: Database,
    events: RecordingListener,
    sql: psycopg.Connection[Any],
) -> Bench:
    return Bench(app, database, events, sql)
