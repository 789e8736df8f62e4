"""Several crons in one process on one database, with a clock of the test's own.

Each has three loops, as a process has: heart, ticker and sweep. Every statement of each can be
held, so that a story decides in which order the statements of all come: a cron that is stopped
between its look at what is due and its fire, or between its heartbeat and the expulsion of others.

A notification only makes a heart beat sooner: one that is lost is a heart that is not stepped, one
that is repeated a heart that is stepped again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pillars.cluster.agent import HAND_OVER_LIMIT, Membership
from pillars.cron import life
from pillars.cron.book import reconcile
from pillars.cron.definition import parse_schedule
from pillars.cron.ticker import OwnTicker, SweepTicker
from pillars.ground.events import Event, ScheduleBroken
from pillars.queue.upkeep import rescue
from tests.cron.world import NOON, TIMINGS, Act
from tests.helpers import FakeClock
from tests.properties.loops import Line, Loop
from tests.properties.ring_watch import LEASE, RingWatch, slots_in
from tests.properties.tick_ledger import TickLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from pillars.db.database import Database, Link

MOST = 4
LOOPS = ("heart", "ticker", "sweep")
LOOKAHEAD = 5.0
# By policy; there is one schedule of each.
SCHEDULES: Sequence[dict[str, Any]] = (
    {"catchup": "all"},
    {"catchup": "last"},
    {"catchup": "none"},
    {"catchup": "all", "overlap": "skip"},
    {"catchup": "all", "jitter": "7s"},
)
_MOST_STEPS = 30
# Seconds in which whoever is dead is found to be.
_UNTIL_REST = int(2 * LEASE) + 2


class Cron:
    """One process: heart, ticker and sweep with a link each."""

    def __init__(self, fleet: Fleet, number: int, links: Sequence[Link]) -> None:
        self.links = links
        self.leaving_since: float | None = None
        self.version = 0
        heart, own, swept = (
            cast("Link", Line(link, fleet.clock, fleet.watch.seen, fleet.watch.committed))
            for link in links
        )
        self.membership = Membership(
            heart,
            role="cron",
            # Names are for people: some crons share one.
            name=f"cron-{number % 3}",
            pid=number,
            url="",
            app_version="0",
            lease=LEASE,
            on_expel=rescue,
            emit=fleet.heard,
            clock=fleet.clock,
        )
        ticker = OwnTicker(
            own,
            slots=lambda: self.membership.slots,
            progressed=self.membership.progressed,
            lookahead=LOOKAHEAD,
            emit=fleet.heard,
            clock=fleet.clock,
        )
        sweeper = SweepTicker(swept, lookahead=LOOKAHEAD, emit=fleet.heard, clock=fleet.clock)
        self.loops = {
            "heart": Loop(self.membership.step),
            "ticker": Loop(ticker.step),
            "sweep": Loop(sweeper.step),
        }

    async def handed_over(self) -> bool:
        """Tell whether all others have taken over what this one gave away."""
        seen = Loop(partial(self.membership.handed_over, self.version))
        return bool(await seen.whole())

    async def drop(self) -> None:
        """End without a word."""
        for loop in self.loops.values():
            await loop.drop()


class Fleet:
    """Plays a story, and judges what came of it."""

    def __init__(
        self,
        database: Database,
        sql: psycopg.Connection[Any],
        links: Sequence[Sequence[Link]],
        loops: Sequence[str] = LOOPS,
    ) -> None:
        self.clock = FakeClock(NOON)
        self.watch = RingWatch(sql, self.clock)
        self._database = database
        self._sql = sql
        self._free = list(links)
        self._loops = loops
        self._crons: list[Cron] = []
        self._joined = self._edition = 0
        self._ledgers = {
            f"s{number}": TickLedger(keys["catchup"], keys.get("overlap", "allow"), self._now)
            for number, keys in enumerate(SCHEDULES)
        }
        self._faults: list[str] = []

    async def play(self, story: Sequence[Act]) -> list[str]:
        """Begin without a cron, do what is told, come to rest; return the faults."""
        self._sql.execute(
            "TRUNCATE pillars.schedules, pillars.jobs, pillars.withdrawn_ticks,"
            " pillars.removed_schedules, pillars.members, pillars.ring_log;"
            " UPDATE pillars.ring SET version = 0, map = array_fill(NULL::uuid, ARRAY[4096])"
        )
        try:
            await self._write()
            for name, *values in story:
                await getattr(self, f"_{name}")(*values)
            await self._rest()
        finally:
            for cron in self._crons:
                await cron.drop()
        found = (
            f"{name}: {fault}" for name, led in self._ledgers.items() for fault in led.faults()
        )
        return sorted({*self._faults, *self.watch.faults, *found})

    def heard(self, event: Event) -> None:
        """Take what the loops tell."""
        if isinstance(event, ScheduleBroken):
            self._faults.append(event.error)

    # ---- acts: crons

    async def _join(self, statements: int) -> None:
        """Start a cron that may be stopped on its way into the ring."""
        if self._free:
            self._joined += 1
            cron = Cron(self, self._joined, self._free.pop())
            self._crons.append(cron)
            if "heart" in self._loops:
                await cron.loops["heart"].some(statements)

    async def _die(self, which: int) -> None:
        if cron := self._pick(which):
            await self._end(cron)

    async def _leave(self, which: int, cut: str | None) -> None:
        """Begin to leave; the rest comes while time passes."""
        cron = self._pick(which)
        if cron and cron.leaving_since is None and "heart" in self._loops:
            cron.leaving_since = self.clock.monotonic()
            cron.version = await Loop(cron.membership.begin_leave).whole(cut) or 0

    async def _hold(self, which: int, loop: str, statements: int) -> None:
        """Begin a step or go on with it for a few statements, and stop in the middle."""
        if (cron := self._pick(which)) and loop in self._loops:
            await cron.loops[loop].some(statements)

    async def _step(self, which: int, loop: str, cut: str | None) -> None:
        """Do a step or what is left of one; its first statement may be cut."""
        if (cron := self._pick(which)) and loop in self._loops:
            await self._whole(cron, loop, cut)

    # ---- acts: time

    async def _live(self, seconds: int, first: int, frozen: int | None = None) -> None:
        """Time passes and all do their work, save one that is frozen perhaps."""
        stopped = None if frozen is None else self._pick(frozen)
        await self._lives(seconds, 1.0, first, stopped)

    async def _lives(
        self, times: int, seconds: float, first: int = 0, stopped: Cron | None = None
    ) -> None:
        for _ in range(times):
            self.clock.advance(seconds)
            start = first % max(1, len(self._crons))
            for cron in [*self._crons[start:], *self._crons[:start]]:
                if cron is not stopped:
                    await self._work(cron)
            self._run_jobs()

    async def _wait(self, seconds: int) -> None:
        """Time passes, and nobody happens to do anything."""
        self.clock.advance(seconds)

    async def _stall(self, seconds: int) -> None:
        """Time passes, and nobody reaches the database."""
        self.clock.advance(seconds)
        self.watch.stalled()

    # ---- acts: schedules

    async def _pause(self, which: int) -> None:
        name, ledger = self._schedule(which)
        if not ledger.paused:
            ledger.changes(self._now)
            ledger.paused = True
        await life.pause(self._database, name, now=self.clock.now)

    async def _resume(self, which: int) -> None:
        name, ledger = self._schedule(which)
        if ledger.paused:
            ledger.changes(self._now)
            ledger.paused = False
        await life.resume(self._database, name, now=self.clock.now)

    async def _toggle(self, which: int) -> None:
        """Disable or enable it by an edit."""
        _, ledger = self._schedule(which)
        ledger.changes(self._now)
        ledger.enabled = not ledger.enabled
        await self._write()

    async def _edit(self, which: int, timing: int) -> None:
        _, ledger = self._schedule(which)
        if ledger.timing != timing:
            ledger.changes(self._now)
            ledger.timing = timing
            await self._write()

    async def _edit_args(self) -> None:
        self._edition += 1
        await self._write()

    async def _prune(self) -> None:
        """Run what is due, and delete what has ended: from now on no row tells of it."""
        self._run_jobs()
        for state, name, first, until in self._sql.execute(
            "DELETE FROM pillars.jobs WHERE finished_at IS NOT NULL"
            " RETURNING state::text, schedule, fire_at, coalesce(fire_until, fire_at)"
        ).fetchall():
            if state in {"missed", "skipped"}:
                self._ledgers[name].recorded(int(first.timestamp()), int(until.timestamp()))

    # ---- helpers

    async def _work(self, cron: Cron) -> None:
        """Do what a cron does in a second."""
        for loop in self._loops:
            await self._whole(cron, loop)
        if cron.leaving_since is None:
            return
        late = self.clock.monotonic() - cron.leaving_since >= HAND_OVER_LIMIT
        if await cron.handed_over() or late:
            self.watch.leaves(cron.membership.member_id)
            await Loop(cron.membership.leave).whole()
            await self._end(cron)

    async def _whole(self, cron: Cron, name: str, cut: str | None = None) -> None:
        """Step a loop until it has nothing more to do now."""
        loop = cron.loops[name]
        # What was held before saw an older state.
        fresh = not loop.held and cut is None
        for _ in range(_MOST_STEPS):
            pause = await loop.whole(cut=cut)
            if pause != 0.0:
                break
            cut = None
        else:
            self._faults.append(f"the {name} does not come to rest")
        if name == "sweep" and fresh:
            self._after_a_sweep()

    def _after_a_sweep(self) -> None:
        late = self._sql.execute(
            "SELECT name FROM pillars.schedules WHERE enabled AND next_fire_at < %s",
            (self.clock.now,),
        ).fetchall()
        self._faults += [f"{name}: late after a sweep" for (name,) in late]
        for ledger in self._ledgers.values():
            ledger.looked(self._now)

    def _run_jobs(self) -> None:
        """Run all that is due."""
        rows = self._sql.execute(
            "UPDATE pillars.jobs SET state = 'succeeded', attempt = 1, finished_at = now()"
            " WHERE finished_at IS NULL AND run_at <= %s RETURNING schedule, fire_at",
            (self.clock.now,),
        ).fetchall()
        for name, fire_at in rows:
            self._ledgers[name].ran(int(fire_at.timestamp()))
            if fire_at > self.clock.now:
                self._faults.append(f"{name}: started before its time")

    async def _rest(self) -> None:
        """Let everything go on, and all that is under way come to its end."""
        for number, ledger in enumerate(self._ledgers.values()):
            if ledger.paused:
                await self._resume(number)
            if not ledger.enabled:
                await self._toggle(number)
        await self._lives(int(HAND_OVER_LIMIT) + 1, 1.0)
        if not self._crons:
            await self._join(0)
        await self._lives(_UNTIL_REST, 1.0)
        # What is due in this very second is left to its owner for a moment.
        await self._lives(2, 0.25)
        if "heart" in self._loops:
            await self.watch.committed()
            self._judge_the_members()
        for ledger in self._ledgers.values():
            ledger.changes(self._now)
        # What was enqueued ahead is not judged; what jitter holds back still comes.
        self._sql.execute("DELETE FROM pillars.jobs WHERE fire_at > %s", (self.clock.now,))
        await self._wait(10)
        await self._prune()

    def _judge_the_members(self) -> None:
        alive = [cron.membership for cron in self._crons]
        rows = self._sql.execute("SELECT id FROM pillars.members").fetchall()
        if {row[0] for row in rows} != {member.member_id for member in alive}:
            self._faults.append("members that are none, or none that are")
        for member in alive:
            if slots_in(self.watch.map, str(member.member_id)) != member.slots:
                self._faults.append("a cron that does not know its slots")

    async def _end(self, cron: Cron) -> None:
        await cron.drop()
        self._crons.remove(cron)
        self._free.append(cron.links)

    def _pick(self, which: int) -> Cron | None:
        return self._crons[which % len(self._crons)] if self._crons else None

    def _schedule(self, which: int) -> tuple[str, TickLedger]:
        name = f"s{which % len(SCHEDULES)}"
        return name, self._ledgers[name]

    async def _write(self) -> None:
        schedules = [
            parse_schedule(
                {
                    "name": name,
                    "job": "noop",
                    "enabled": ledger.enabled,
                    "args": {"edition": self._edition},
                    "catchup_limit": 1_000,
                    **TIMINGS[ledger.timing][0],
                    **keys,
                }
            )
            for (name, ledger), keys in zip(self._ledgers.items(), SCHEDULES, strict=True)
        ]
        async with self._database.transaction() as connection:
            await reconcile(connection, schedules, {}, now=self.clock.now)

    @property
    def _now(self) -> int:
        return int(self.clock.now.timestamp())
