"""Figures of the whole database, read on a timer and exported by the server alone.

A scrape never queries the database: it would be slow when the database is, and cost as much as
there are scrapers. What was read is exported for MAX_AGE seconds, then left out.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import PoolTimeout

from pillars.db.statements import load_statements
from pillars.queue.desk import depths
from pillars.telemetry.catalog import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pillars.db.database import Database
    from pillars.ground.clock import Clock
    from pillars.telemetry.metrics import Metrics

SQL = load_statements("pillars.telemetry")
INTERVAL = 5.0
MAX_AGE = 60.0
# Depths of queues with a million jobs take half a second: at most a twentieth of the time.
_REST = 20
ROLES = ("server", "worker", "cron")

Holder = tuple[str, str, float | None]


class Snapshot:
    """Reads the database-wide figures; `step` is for a `Stepper`."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        clock: Clock,
        lease: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet, so nothing is exported.

        Args:
            database: what to look at.
            metrics: where the figures go.
            clock: tells how old they are.
            lease: seconds without a heartbeat after which an owner of slots is none.
            wall: the wall clock, in seconds since 1970, for the timestamp that is exported.
        """
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._lease = lease
        self._wall = wall
        self._read_at: dict[str, float] = {}
        self._horizon = Horizon(clock)
        for name in (*(m.name for m in METRICS if m.database_wide), "pillars_ring_version"):
            metrics.family(name).export_while(partial(self.fresh, name))

    async def step(self) -> float:
        """Read everything once; returns INTERVAL with jitter, or more when reading takes long.

        What cannot be read does not keep the rest from being read.

        Raises:
            psycopg.Error, TimeoutError: something could not be read; what was read before stands
                for MAX_AGE.
        """
        began = self._clock.monotonic()
        failed = None
        for read in (self._read_cluster, self._read_overdue, self._read_queues, self._read_upkeep):
            try:
                await read()
            except PoolTimeout:
                raise  # no connection: the others would wait as long for none
            except (psycopg.Error, TimeoutError) as error:
                failed = failed or error
        if failed:
            raise failed
        self._metrics.family("pillars_db_snapshot_timestamp_seconds").cell().value = self._wall()
        took = self._clock.monotonic() - began
        delay = max(INTERVAL, min(_REST * took, MAX_AGE / 2))
        return delay * random.uniform(0.9, 1.1)  # noqa: S311 - jitter is no secret

    def fresh(self, name: str) -> bool:
        """Tell whether this metric's figures are young enough to be shown."""
        return self._clock.monotonic() - self._read_at.get(name, float("-inf")) <= MAX_AGE

    async def _read_cluster(self) -> None:
        counts: dict[tuple[str, ...], float] = {(role,): 0.0 for role in ROLES}
        for role, count in await self._database.fetch(SQL["members"]):
            counts[role,] = count
        self._show("pillars_members", counts)
        ((version, unowned),) = await self._database.fetch(SQL["ring"], {"lease": self._lease})
        self._show("pillars_ring_version", {(): version})
        self._show("pillars_ring_unowned_slots", {(): unowned})

    async def _read_overdue(self) -> None:
        self._show("pillars_schedules_overdue_seconds", {(): await overdue_for(self._database)})

    async def _read_queues(self) -> None:
        depth: dict[tuple[str, ...], float] = {}
        oldest: dict[tuple[str, ...], float] = {}
        for queue in await depths(self._database):
            name = self._metrics.admit_queue(queue.queue)
            for state in ("available", "scheduled", "running", "failed"):
                depth[name, state] = depth.get((name, state), 0.0) + getattr(queue, state)
            oldest[name,] = max(oldest.get((name,), 0.0), queue.oldest)
        self._show("pillars_queue_depth", depth)
        self._show("pillars_queue_oldest_seconds", oldest)

    async def _read_upkeep(self) -> None:
        holders = await self._database.fetch(SQL["horizon"])
        age = self._horizon.age([(who, xid, seconds) for who, xid, seconds in holders])
        self._show("pillars_db_oldest_xmin_age_seconds", {(): age})
        tables = await self._database.fetch(SQL["dead_tuples"])
        self._show("pillars_db_dead_tuples", {(table,): dead for table, dead in tables})

    def _show(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        self._metrics.family(name).replace(values)
        self._read_at[name] = self._clock.monotonic()


class Horizon:
    """The age of the oldest thing that holds back vacuum.

    Replication slots, and sessions of standbys, hold a transaction without saying since when:
    theirs is the time since they were first seen to hold that very transaction.
    """

    def __init__(self, clock: Clock) -> None:
        """Know of nobody yet."""
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def age(self, holders: list[Holder]) -> float:
        """Return the greatest age in seconds, 0 when there are no holders.

        Args:
            holders: for each its name, the transaction it holds, seconds or None if not known.
        """
        now = self._clock.monotonic()
        timeless = {(who, xid) for who, xid, age in holders if age is None}
        self._since = {key: self._since.get(key, now) for key in timeless}
        known = [age for _, _, age in holders if age is not None]
        return max([*known, *(now - since for since in self._since.values())], default=0.0)


async def overdue_for(database: Database) -> float:
    """Return for how many seconds the oldest tick that is due has not been enqueued; 0: none is."""
    first = await database.fetch(SQL["overdue_for"])
    return max(0.0, float(first[0][0])) if first else 0.0
