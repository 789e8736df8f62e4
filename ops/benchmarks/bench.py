"""What a benchmark is, and the ground it stands on: a fresh database on an embedded PostgreSQL."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from pillars.db.database import Database
from pillars.db.embedded import EmbeddedPostgres
from pillars.db.migrate import migrate
from pillars.ground.events import nobody
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


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
        name = f"bench_{next(_numbers)}"
        self._admin(f"CREATE DATABASE {name}")
        database = Database(
            Secret(make_conninfo(self.server.reveal(), dbname=name)), "bench", nobody
        )
        try:
            await migrate(database, nobody)
            yield database
        finally:
            await database.close()
            self._admin(f"DROP DATABASE {name} WITH (FORCE)")

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self.server.reveal(), autocommit=True) as connection:
            connection.execute(statement.encode())
            # Each benchmark starts from the same place: nothing left to be written.
            connection.execute("CHECKPOINT")


@contextmanager
def embedded_server() -> Iterator[Secret]:
    """Run a PostgreSQL with the settings of `pillars up`: default durability."""
    with tempfile.TemporaryDirectory(prefix="pillars-bench-") as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            yield server.start()
        finally:
            server.stop("immediate")


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


_numbers = itertools.count()
