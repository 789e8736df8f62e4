"""What a benchmark is, and the ground it stands on: a fresh database on an embedded PostgreSQL."""

from __future__ import annotations

import statistics
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from pillars.db.database import Database
from pillars.db.migrate import migrate
from pillars.db.scratch import scratch_database
from pillars.ground.events import nobody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pillars.ground.settings import Secret


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity.

    Attributes:
        name: what was measured.
        unit: of `ours` and `bare`.
        ours: one value a round.
        bare: the reference's value of the same rounds; empty where there is none.
        goal: what the project aims for, for people.
    """

    name: str
    unit: str
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of ours to bare."""
        if not self.bare:
            return None
        return statistics.median(
            ours / bare for ours, bare in zip(self.ours, self.bare, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "median": statistics.median(self.ours), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a benchmark runs: the server, how much it does, how often."""

    server: Secret
    size: int
    rounds: int
    tell: Callable[[str], None]

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """A fresh migrated database, dropped afterwards."""
        async with scratch_database(self.server, "bench") as dsn:
            database = Database(dsn, "bench", nobody)
            try:
                await migrate(database, nobody)
                # Each benchmark starts from the same place: nothing left to be written.
                with bare(database) as connection:
                    connection.execute("CHECKPOINT")
                yield database
            finally:
                await database.close()


@contextmanager
def bare(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection, for what we are compared with."""
    with psycopg.connect(database.dsn.reveal(), autocommit=True) as connection:
        connection.prepare_threshold = 0
        yield connection


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
