"""The ticker: looks for what is due, plans it, fires it.

    poll (one SELECT) -> plan (pure) -> fire (one statement: compare-and-swap, cursor, jobs)

As long as more is due than one poll takes in, polls begin in turn at what is due first and at what
is due last: a herd, or all that an outage left behind, gets on, and so does what comes after it.

Safety is in the fire statement alone. It changes a schedule only if its version is still the one
the plan was made from, so it does not matter who polls what: a replica that was paused between poll
and fire, or that believes in an old ring, changes zero rows. The unique key (schedule_id, fire_at)
is the second lock on the same door.

Two tickers run in each cron process, with a link each:

- `OwnTicker` fires the slots this process owns, `lookahead` before their time;
- `SweepTicker` looks, about once a second, for ticks of any slot that their owner should long have
  fired, so one living replica is enough for nothing to be missed, whatever the membership says.

Neither waits for what others hold, as an edit does: the other schedules of a batch are fired.

What happens on failures: the process dies before the fire, and another fires from the same cursor;
it dies after the commit, and the cursor has moved; the commit's answer is lost, and the next poll
reads the truth; the database is gone, and the loop tries again for ever.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from pillars.cron.firing import BATCH, MOST_STATEMENTS, Firing
from pillars.cron.statements import SQL
from pillars.db.statements import composed
from pillars.ground.events import PassCompleted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pillars.db.database import Link
    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit

DUE = composed("due", "schedules_due", SQL["due"], SQL["soonest_first"])
DUE_LAST = composed("due_last", "schedules_due", SQL["due"], SQL["latest_first"])
# Schedules of one poll.
POLL = BATCH * MOST_STATEMENTS
# The longest sleep of the own ticker, seconds: a new or edited schedule is noticed within it.
WINDOW = 0.5
SWEEP_EVERY = 1.0
# A tick that is decided at its time is left to its owner for this long.
SWEEP_LATE = 0.25
# A pass leaves no cursor before this many seconds ago, save those of long backlogs; what comes in
# later from before, as a change that took long to commit does, is found by the sweep.
_MARGIN = 5.0
# A sweep looks at everything from the front, so sweeps that take long come more rarely. A single
# slow one tells of a database that stood still: all replicas saw it, and none of them may rest.
_SWEEP_SHARE, _LONGEST_PAUSE = 10, 30.0
# Seconds until a backlog is looked at again of which others hold whatever was found.
_ALL_HELD = 0.05
# For so many seconds at most no sweep is made while this process has a backlog of its own. All
# replicas have one at a full minute, and sweeps would only race the owners for their rows.
_BUSY_FOR = 5.0


class OwnTicker:
    """Fires the schedules in the slots this process owns."""

    def __init__(
        self,
        link: Link,
        *,
        slots: Callable[[], bytes],
        progressed: Callable[[], None],
        lookahead: float,
        emit: Emit,
        clock: Clock,
    ) -> None:
        """Set up the ticker.

        Args:
            link: a connection of its own.
            slots: returns the owned slots as get_bit counts them.
            progressed: called after each step, also one that failed: to expel a cron for what the
                database refuses would help nobody. One that hangs calls no more.
            lookahead: seconds before its time that a tick is enqueued.
            emit: receives TicksFired, PassCompleted and ScheduleBroken.
            clock: monotonic time; a test's clock also owns the database's time.
        """
        self._link = link
        self._slots = slots
        self._progressed = progressed
        self._lookahead = lookahead
        self._emit = emit
        self._clock = clock
        self._firing = Firing(link, emit, clock, lookahead, swept=False)
        self._began: float | None = None
        self._overdue = 0
        self._since = float("-inf")
        self._earliest = float("inf")
        self._fired_slots = b""
        self._from_the_end = False
        # Whether the last poll left something to be fired.
        self.behind = False

    async def step(self) -> float:
        """Fire one batch of what is due; returns the seconds until there may be more."""
        try:
            return await self._batch()
        finally:
            self._progressed()

    async def _batch(self) -> float:
        if self._began is None:
            self._began, self._overdue = self._clock.monotonic(), 0
            self._earliest = float("inf")
        slots = self._slots()
        params = {
            "slots": slots,
            # Slots that came to us may hold ticks that are long overdue.
            "since": self._since if slots == self._fired_slots else float("-inf"),
            "now": self._clock.database_now(),
            "lookahead": self._lookahead,
            "except": self._firing.broken(),
            "limit": POLL,
            "window": WINDOW,
        }
        found = await self._link.fetch(DUE_LAST if self._from_the_end else DUE, params)
        more = len(found) == POLL
        rows = await self._not_held(found)
        if rows:
            fired = await self._firing.fire(rows, self._clock.monotonic())
            self._overdue += fired.overdue
            self._earliest = min(self._earliest, fired.earliest)
            more = more or not fired.all
        self._from_the_end = more and not self._from_the_end
        self.behind = more
        if more:
            return 0.0 if rows else _jittered(_ALL_HELD)
        self._emit(PassCompleted(self._clock.monotonic() - self._began, self._overdue))
        self._began = None
        ((delay, now),) = await self._link.fetch(SQL["upcoming"], params)
        self._since, self._fired_slots = min(now - _MARGIN, self._earliest), slots
        return WINDOW if delay is None else min(WINDOW, max(0.0, delay))

    async def _not_held(self, found: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Leave out what others hold: the rest of a batch must not wait for the end of an edit.

        What is left out is found by the next pass. Who takes hold of a row only now is waited for,
        at most as long as any lock is.
        """
        marked = [row[0] for row in found if row[-1]]
        if not marked:
            return found
        free = {key for (key,) in await self._link.fetch(SQL["not_held"], {"ids": marked})}
        held = [row[2] for row in found if row[-1] and row[0] not in free]
        self._earliest = min([self._earliest, *held])
        return [row for row in found if not row[-1] or row[0] in free]


class SweepTicker:
    """Fires what any owner should long have fired."""

    def __init__(
        self,
        link: Link,
        *,
        lookahead: float,
        emit: Emit,
        clock: Clock,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Set up the ticker.

        Args:
            link: a connection of its own.
            lookahead: seconds before its time that an owner enqueues a tick.
            emit: receives TicksFired and ScheduleBroken.
            clock: monotonic time; a test's clock also owns the database's time.
            busy: whether this process has a backlog of its own.
        """
        self._link = link
        self._busy = busy
        self._swept_at = clock.monotonic()
        self._lookahead = lookahead
        self._emit = emit
        self._clock = clock
        self._firing = Firing(link, emit, clock, lookahead, swept=True)
        self._last_took = 0.0

    async def step(self) -> float:
        """Take one batch of neglected schedules; returns the seconds until the next sweep."""
        began = self._clock.monotonic()
        if self._busy() and began - self._swept_at < _BUSY_FOR:
            return _jittered(SWEEP_EVERY)
        self._swept_at = began
        rows = await self._link.fetch(
            SQL["overdue"],
            {
                "now": self._clock.database_now(),
                # Half of nothing is nothing: without look-ahead the owner needs a head start.
                "ahead_by": self._lookahead / 5 if self._lookahead > 0 else -SWEEP_LATE,
                "late_by": SWEEP_LATE,
                "except": self._firing.broken(),
                "limit": POLL,
            },
        )
        if rows and not (await self._firing.fire(rows, self._clock.monotonic())).all:
            return 0.0
        if len(rows) == POLL:
            return 0.0
        took = self._clock.monotonic() - began
        slow, self._last_took = min(took, self._last_took), took
        pause = max(SWEEP_EVERY, min(_SWEEP_SHARE * slow, _LONGEST_PAUSE))
        return _jittered(pause)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter is no secret
