"""A schedule's life as a sequence of acts, and an independent account of what should come of it.

The account knows when the schedule had which timing and whether it fired then, and finds the ticks
by asking of each second whether it is one. It does not know cursors, plans or records.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.cluster.ring import SLOTS
from pillars.cron import backfill as backfill_room
from pillars.cron import life
from pillars.cron.book import reconcile
from pillars.cron.definition import parse_schedule
from pillars.cron.firing import Firing
from pillars.cron.ticker import DUE, OwnTicker, SweepTicker
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from pillars.db.database import Database, Link
    from tests.helpers import RecordingListener

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
# Long, so that nearly always something is enqueued ahead.
LOOKAHEAD = 15
_PASS = 6
ALL_SLOTS = b"\xff" * (SLOTS // 8)
TIMINGS: Sequence[tuple[dict[str, str], Callable[[int], bool]]] = (
    ({"every": "20s"}, lambda second: second % 20 == 0),
    ({"every": "1m", "phase": "10s"}, lambda second: second % 60 == 10),
    ({"cron": "*/2 * * * *"}, lambda second: second % 120 == 0),
    ({"cron": "10,40 * * * * *"}, lambda second: second % 60 in {10, 40}),
)

Act = tuple[Any, ...]


class Stretch(NamedTuple):
    """A time during which nothing about the schedule changed: after `start`, until `end`."""

    timing: int
    fires: bool
    start: int
    end: int

    def ticks(self) -> set[int]:
        """All its ticks."""
        is_tick = TIMINGS[self.timing][1]
        return {second for second in range(self.start + 1, self.end + 1) if is_tick(second)}


class World:
    """Plays acts, and keeps the account."""

    def __init__(
        self,
        database: Database,
        sql: psycopg.Connection[Any],
        events: RecordingListener,
        links: tuple[Link, Link],
        *,
        forgetful: bool = False,
        **keys: str,
    ) -> None:
        self._database = database
        self._sql = sql
        self._keys = keys
        self._forgetful = forgetful
        self._clock = FakeClock(NOON)
        self._events = events
        own, self._other = links
        self._ticker = OwnTicker(
            own,
            slots=lambda: ALL_SLOTS,
            progressed=lambda: None,
            lookahead=LOOKAHEAD,
            emit=events,
            clock=self._clock,
        )
        self._sweeper = SweepTicker(
            self._other, lookahead=LOOKAHEAD, emit=events, clock=self._clock
        )
        self._timing, self._enabled, self._paused, self._edition = 0, True, False, 0
        self._changed_at = self._now
        self._stretches: list[Stretch] = []
        self.ran: Counter[int] = Counter()
        self._backfilled: set[int] = set()
        self._recorded: list[tuple[int, int]] = []

    async def play(self, acts: Sequence[Act]) -> None:
        """Begin with a new schedule, do what is asked, and let it come to rest."""
        self._sql.execute(
            "TRUNCATE pillars.schedules, pillars.jobs, pillars.withdrawn_ticks,"
            " pillars.removed_schedules"
        )
        await self._write()
        await self._do(acts)
        if self._paused:
            await self._resume()
        if not self._enabled:
            await self._toggle()
        await self._advance(1)
        await self._step()
        await self._work()
        await self._prune()
        self._close()

    def twice(self) -> list[int]:
        """Ticks that were run more than once."""
        return [tick - self._noon for tick, times in self.ran.items() if times > 1]

    def lost(self) -> list[int]:
        """Ticks that were neither run nor recorded."""
        accounted = set(self.ran)
        for first, until in self._recorded:
            accounted |= set(range(first, until + 1))
        expected = set().union(*(stretch.ticks() for stretch in self._stretches))
        return [tick - self._noon for tick in sorted(expected - accounted)]

    def out_of_turn(self) -> list[int]:
        """Ticks that were run, not by a backfill, and were none of the timing in force."""
        live = (stretch.ticks() for stretch in self._stretches if stretch.fires)
        allowed = set().union(*live) | self._backfilled
        return [tick - self._noon for tick in self.ran if tick not in allowed]

    # ---- the acts

    async def _do(self, acts: Sequence[Act]) -> None:
        for name, *values in acts:
            await getattr(self, f"_{name}")(*values)

    async def _live(self, seconds: int) -> None:
        """Time passes, and cron and workers do their work."""
        for _ in range(0, seconds, _PASS):
            self._clock.advance(_PASS)
            await self._step()
            await self._work()

    async def _advance(self, seconds: int) -> None:
        """Time passes, and nobody is there."""
        self._clock.advance(seconds)

    async def _step(self) -> None:
        for each in (self._ticker, self._sweeper):
            while await each.step() == 0:
                pass

    async def _work(self) -> None:
        """Run all that is due."""
        rows = self._sql.execute(
            "UPDATE pillars.jobs SET state = 'succeeded', attempt = 1, finished_at = now()"
            " WHERE finished_at IS NULL AND run_at <= %s"
            " RETURNING fire_at, reason = 'backfilled'",
            (self._clock.now,),
        ).fetchall()
        for fire_at, backfilled in rows:
            if not fire_at.microsecond:
                self.ran[int(fire_at.timestamp())] += 1
                if backfilled:
                    self._backfilled.add(int(fire_at.timestamp()))
        if self._forgetful:
            await self._prune()

    async def _prune(self) -> None:
        """Delete what has ended: from now on no row tells of it."""
        rows = self._sql.execute(
            "DELETE FROM pillars.jobs WHERE finished_at IS NOT NULL"
            " RETURNING state::text, fire_at, coalesce(fire_until, fire_at)"
        ).fetchall()
        self._recorded += [
            (int(first.timestamp()), int(until.timestamp()))
            for state, first, until in rows
            if state in {"missed", "skipped"}
        ]

    async def _pause(self) -> None:
        if not self._paused:
            self._close()
        self._paused = True
        await life.pause(self._database, "s", now=self._clock.now)

    async def _resume(self) -> None:
        if self._paused:
            self._close()
        self._paused = False
        await life.resume(self._database, "s", now=self._clock.now)

    async def _toggle(self) -> None:
        """Disable or enable it by an edit."""
        self._close()
        self._enabled = not self._enabled
        await self._write()

    async def _edit(self, timing: int) -> None:
        self._close()
        self._timing = timing
        await self._write()

    async def _edit_args(self) -> None:
        self._edition += 1
        await self._write()

    async def _fire(self) -> None:
        await life.fire(self._database, "s", force=True, now=self._clock.now)

    async def _backfill(self, ago: int, seconds: int) -> None:
        end = self._clock.now - timedelta(seconds=ago)
        start = end - timedelta(seconds=seconds)
        await backfill_room.backfill(
            self._database, "s", start, end, pace=10_000, now=self._clock.now
        )

    async def _overtaken(self, acts: Sequence[Act]) -> None:
        """A second replica looks for what is due, sleeps meanwhile, and fires by what it knew."""
        params = {
            "slots": ALL_SLOTS,
            "since": float("-inf"),
            "now": self._clock.now,
            "lookahead": LOOKAHEAD,
            "except": [],
            "limit": 100,
        }
        polled = await self._other.fetch(DUE, params)
        await self._do(acts)
        if polled:
            firing = Firing(self._other, self._events, self._clock, LOOKAHEAD, swept=True)
            await firing.fire(polled, self._clock.monotonic())

    # ---- the account

    async def _write(self) -> None:
        raw = {
            "name": "s",
            "job": "noop",
            "enabled": self._enabled,
            "args": {"edition": self._edition},
            "catchup_limit": 1_000,
            **TIMINGS[self._timing][0],
            **self._keys,
        }
        async with self._database.transaction() as connection:
            await reconcile(connection, [parse_schedule(raw)], {}, now=self._clock.now)

    def _close(self) -> None:
        fires = self._enabled and not self._paused
        self._stretches.append(Stretch(self._timing, fires, self._changed_at, self._now))
        self._changed_at = self._now

    @property
    def _now(self) -> int:
        return int(self._clock.now.timestamp())

    @property
    def _noon(self) -> int:
        return int(NOON.timestamp())
