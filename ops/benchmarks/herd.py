"""A herd: schedules that all fire at the full minute, and bare statements that fire them."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from ops.benchmarks.bench import bare
from pillars.cluster.ring import SLOTS
from pillars.cron.definition import parse_schedule
from pillars.cron.ticker import OwnTicker
from pillars.db.connection import PLANNED_ONCE
from pillars.ground.clock import SystemClock
from pillars.ground.events import TicksFired

if TYPE_CHECKING:
    from datetime import datetime

    from pillars.db.database import Database
    from pillars.ground.events import Event

ALL_SLOTS = b"\xff" * (SLOTS // 8)
# Whatever the second, the next full minute lies within.
LOOKAHEAD = 61.0
_FILL = """
INSERT INTO pillars.schedules (name, slot, next_fire_at, timing, job, args, definition, fingerprint)
SELECT 's' || n, hashtext('s' || n) & 4095, date_trunc('minute', now()) + interval '1 minute', %s,
    'noop', '{"n": 1}', '{}', 'x'
FROM generate_series(1, %s) AS n
"""
POLL: LiteralString = """
SELECT id, version FROM pillars.schedules
WHERE enabled AND next_fire_at <= now() + interval '61 s' ORDER BY next_fire_at LIMIT %s
"""
# Compare-and-swap and insert, and nothing else: no overlap, no answer to who won.
FIRE: LiteralString = """
WITH moved AS (
    UPDATE pillars.schedules AS schedules
    SET version = schedules.version + 1, last_fire_at = next_fire_at,
        next_fire_at = next_fire_at + interval '1 minute'
    FROM unnest(%s::bigint[], %s::integer[]) AS plan (id, version)
    WHERE schedules.id = plan.id AND schedules.version = plan.version
    RETURNING schedules.*
)
INSERT INTO pillars.jobs (schedule_id, fire_at, run_at, slot, type, queue, args, schedule)
SELECT id, last_fire_at, last_fire_at, slot, job, queue, args, name FROM moved
"""


class HeldClock(SystemClock):
    """A clock whose database time can be held at an instant."""

    now: datetime | None = None

    def database_now(self) -> datetime | None:
        """The instant, if any."""
        return self.now


class Cron:
    """A ticker that owns every slot, and counts what it fires."""

    def __init__(self, database: Database) -> None:
        """Fire over a link of its own."""
        self.fired = 0
        self.clock = HeldClock()
        self._ticker = OwnTicker(
            database.link("ticker", PLANNED_ONCE),
            slots=lambda: ALL_SLOTS,
            progressed=lambda: None,
            lookahead=LOOKAHEAD,
            emit=self._count,
            clock=self.clock,
        )

    async def fire(self, ticks: int) -> None:
        """Go on until so many more ticks are fired."""
        wanted = self.fired + ticks
        while self.fired < wanted:
            await self._ticker.step()

    async def step(self) -> None:
        """Do one step."""
        await self._ticker.step()

    def _count(self, event: Event) -> None:
        if isinstance(event, TicksFired):
            self.fired += sum(event.outcomes.values())


def fill(database: Database, size: int) -> None:
    """Make so many schedules that fire each minute."""
    timing = parse_schedule({"name": "s", "job": "noop", "cron": "* * * * *"}).timing.encode()
    with bare(database) as connection:
        connection.execute(_FILL, (timing, size))
        connection.execute("VACUUM ANALYZE pillars.schedules")
