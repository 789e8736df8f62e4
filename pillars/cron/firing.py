"""Firing: what both tickers do with the schedules they found: plan, fire, report.

A fire is one statement: compare-and-swap of the version, the cursor's move, the jobs. While the
database does one, the next is planned.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pillars.cron.plan import AVAILABLE, Due, Plan, plan_fires
from pillars.cron.statements import SQL
from pillars.db.arrays import int_array
from pillars.db.notify import JOBS_CHANNEL
from pillars.db.statements import composed
from pillars.ground.events import ScheduleBroken, TickFired, TicksFired
from pillars.ground.loop import describe
from pillars.queue.jobs import SQL as QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit

# Schedules and ticks of one fire statement; a plan more may come on top. After an outage a schedule
# can have many ticks, and a statement that meets its time limit would meet it again for ever.
BATCH, MOST_TICKS = 1_000, 4_000
# Statements of one poll: enough to plan one while another is under way, and over in tenths of a
# second, for what has become due meanwhile is not among them.
MOST_STATEMENTS = 4
# A schedule that cannot be planned is tried again after this many seconds.
_BROKEN_FOR = 60.0
# Of a poll's rows; the database's clock comes next.
_COLUMNS = len(Due._fields)
# So many ticks of one statement are told of one by one.
EACH = 20
# Overdue by more than this many seconds is worth an alarm.
_OVERDUE = 1.0


FIRE = composed(
    "fire",
    "schedules_pkey",
    SQL["move_cursors"],
    SQL["count_fired"],
    inserted=QUEUE["insert_ticks"],
)
# For batches with schedules whose ticks cancel the jobs of earlier ones.
FIRE_AND_CANCEL = composed(
    "fire_and_cancel",
    "schedules_pkey",
    SQL["move_cursors"],
    SQL["count_fired"],
    inserted=QUEUE["insert_ticks"],
    cancelled=QUEUE["cancel_overlapped"],
)


class Fired(NamedTuple):
    """What came of a poll.

    Attributes:
        overdue: how many of the schedules it found were.
        all: whether all of them were fired.
        earliest: the first of the instants their cursors stand at now, in epoch seconds.
    """

    overdue: int
    all: bool
    earliest: float


class _Batch(NamedTuple):
    """What one fire statement does: those it is about, their plans, its parameters."""

    dues: Sequence[Due]
    plans: Sequence[Plan]
    params: dict[str, object]


class Firing:
    """What both tickers do with the schedules they found: plan, fire, report."""

    def __init__(
        self, link: Link, emit: Emit, clock: Clock, lookahead: float, *, swept: bool
    ) -> None:
        """Fire over this link; `lookahead` in seconds."""
        self._link = link
        self._emit = emit
        self._clock = clock
        self._lookahead = lookahead
        self._swept = swept
        self._broken: dict[int, float] = {}

    def broken(self) -> list[int]:
        """Return the ids of schedules to be left alone for now."""
        now = self._clock.monotonic()
        self._broken = {key: until for key, until in self._broken.items() if until > now}
        return list(self._broken)

    async def fire(self, rows: Sequence[tuple[Any, ...]], polled_at: float) -> Fired:
        """Fire what a poll found, as far as a few statements of bounded size go.

        Args:
            rows: of the statements `due` or `overdue`.
            polled_at: monotonic time when the poll's answer came.
        """
        now: float = rows[0][_COLUMNS]
        batches = self._batches(rows, now)
        batch = next(batches, None)
        told: TicksFired | None = None
        looked_at, overdue, earliest = 0, 0, float("inf")
        while batch is not None:
            writing = asyncio.create_task(self._write(batch))
            # Now it is sent; what follows is done while the database works on it.
            await asyncio.sleep(0)
            if told is not None:
                self._emit(told)
            looked_at += len(batch.dues)
            overdue += sum(due.next_fire_at < now - _OVERDUE for due in batch.dues)
            cursors = [each.next_fire_at for each in batch.plans if each.next_fire_at is not None]
            earliest = min(earliest, *cursors) if cursors else earliest
            following = next(batches, None)
            answer = await writing
            committed = now + self._clock.monotonic() - polled_at
            told = self._fired(batch.plans, answer, committed) if batch.plans else None
            batch = following
        if told is not None:
            self._emit(told)
        return Fired(overdue, looked_at == len(rows), earliest)

    def _batches(self, rows: Sequence[tuple[Any, ...]], now: float) -> Iterator[_Batch]:
        """Plan what one statement takes, and the next one only when it is asked for."""
        looked_at = 0
        for _ in range(MOST_STATEMENTS):
            if looked_at == len(rows):
                return
            dues: list[Due] = []
            plans: list[Plan] = []
            ticks = 0
            while looked_at < len(rows) and len(dues) < BATCH and ticks < MOST_TICKS:
                due = Due(*rows[looked_at][:_COLUMNS])
                dues.append(due)
                looked_at += 1
                plan = self._plan(due, now)
                if plan is not None:
                    plans.append(plan)
                    ticks += len(plan.ticks)
            # In order of id: two replicas that fire the same schedules never wait crosswise.
            plans.sort(key=lambda plan: plan.due.id)
            yield _Batch(dues, plans, parameters(plans))

    async def _write(self, batch: _Batch) -> Sequence[tuple[Any, ...]]:
        if not batch.plans:
            return ()
        cancelling = any(plan.due.cancels for plan in batch.plans)
        return await self._link.fetch(FIRE_AND_CANCEL if cancelling else FIRE, batch.params)

    def _plan(self, due: Due, now: float) -> Plan | None:
        try:
            return plan_fires(due, now, self._lookahead)
        except Exception as error:  # noqa: BLE001 - one bad schedule must not stop the others
            self._broken[due.id] = self._clock.monotonic() + _BROKEN_FOR
            self._emit(ScheduleBroken(due.id, describe(error), _BROKEN_FOR))
            return None

    def _fired(
        self,
        plans: Sequence[Plan],
        answer: Sequence[tuple[Any, ...]],
        committed: float,
    ) -> TicksFired:
        _, _, moved, ids, *_ = answer[0]
        won = plans if ids is None else [plan for plan in plans if plan.due.id in ids]
        outcomes: Counter[str] = Counter()
        queues: Counter[str] = Counter()
        ticks: list[TickFired] = []
        for state, queue, count, _, schedule, fire_at, job_id, reason in answer[1:]:
            outcome = "enqueued" if state == AVAILABLE else state
            outcomes[outcome] += count
            if state == AVAILABLE:
                queues[queue] += count
            if job_id is not None:
                ticks.append(TickFired(schedule, fire_at, job_id, queue, outcome, reason))
        planned = sum(len(plan.ticks) for plan in won)
        if planned > outcomes.total():
            outcomes["duplicate"] = planned - outcomes.total()
        lateness = tuple(
            max(0.0, committed - tick.fire_at)
            for plan in won
            for tick in plan.ticks
            if tick.state == AVAILABLE
        )
        return TicksFired(
            schedules=moved,
            outcomes=dict(outcomes),
            lateness=lateness,
            lost_races=len(plans) - moved,
            swept=self._swept,
            queues=dict(queues),
            ticks=tuple(ticks),
        )


def parameters(plans: Sequence[Plan]) -> dict[str, object]:
    """Return the parameters of the fire statement."""
    plain = [_is_plain(plan) for plan in plans]
    ticks = [
        (plan.due.id, tick)
        for plan, alone in zip(plans, plain, strict=True)
        if not alone
        for tick in plan.ticks
    ]
    return {
        "channel": JOBS_CHANNEL,
        "planned": len(plans),
        "each": sum(len(plan.ticks) for plan in plans) <= EACH,
        "ids": int_array(plan.due.id for plan in plans),
        "versions": int_array(plan.due.version for plan in plans),
        "next": int_array(plan.next_fire_at for plan in plans),
        "last": int_array(plan.last_fire_at for plan in plans),
        "plain": int_array(map(int, plain)),
        "tick_ids": [schedule_id for schedule_id, _ in ticks],
        "fire_at": [tick.fire_at for _, tick in ticks],
        "run_at": [tick.run_at for _, tick in ticks],
        "states": [tick.state for _, tick in ticks],
        "reasons": [tick.reason for _, tick in ticks],
        "ticks": [tick.ticks for _, tick in ticks],
        "fire_until": [tick.fire_until for _, tick in ticks],
    }


def _is_plain(plan: Plan) -> bool:
    """Tell whether all there is to write is the last tick, to be run at its time."""
    tick = plan.ticks[0]
    return len(plan.ticks) == 1 and tick.state == AVAILABLE and tick.run_at == tick.fire_at
