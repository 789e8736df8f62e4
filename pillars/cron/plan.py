"""What to enqueue for a schedule that is due: a pure function of its row, the time and the horizon.

Ticks later than `now` are enqueued ahead. Ticks that are overdue by no more than MISFIRE_GRACE are
merely late (a hand-over, a failover of the database) and are all enqueued. Older ones were missed:
the schedule's catch-up policy decides which of them are enqueued, and the others are recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pillars.cron.definition import Catchup, Timing, jitter_of
from pillars.cron.fires import fires_between, next_fire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Seconds; longer than any failover the tests provoke, shorter than what people call an outage.
MISFIRE_GRACE = 30
# Ticks of one schedule that one plan looks at. A longer backlog takes several passes, so neither
# time nor memory depends on how long cron was down.
CHUNK = 1_000
# Runs of missed ticks longer than this become one row with a count.
FOLD = 100


AVAILABLE, MISSED, SKIPPED = "available", "missed", "skipped"
_OVERTAKEN = "overlap: a later tick was due as well, and stands for this one"


# Named tuples, not dataclasses: one of each is made for every fire, at a fifth of the cost.
class Due(NamedTuple):
    """A schedule row whose cursor is within the horizon; instants in epoch seconds.

    `cancels` says that a tick cancels the jobs of earlier ones (overlap: cancel_other).
    """

    id: int
    version: int
    next_fire_at: int
    timing: str
    catchup: str
    catchup_window: int | None
    catchup_limit: int
    ahead: bool
    jitter: int
    name: str | None
    cancels: bool = False


class Tick(NamedTuple):
    """One row for the jobs table.

    Attributes:
        fire_at: the tick's instant, the first one's for a folded row.
        run_at: the same with jitter.
        state: available (to be enqueued), missed or skipped.
        reason: why it is missed or skipped.
        ticks, fire_until: number and last instant of the ticks folded into this row.
    """

    fire_at: int
    run_at: float
    state: str = AVAILABLE
    reason: str | None = None
    ticks: int | None = None
    fire_until: int | None = None


class Plan(NamedTuple):
    """What one fire statement does for one schedule."""

    due: Due
    ticks: tuple[Tick, ...]
    last_fire_at: int
    next_fire_at: int | None


def plan_fires(due: Due, now: float, lookahead: float) -> Plan:
    """Return the ticks to write and where the cursor goes.

    Args:
        due: the schedule; its cursor is a tick that has not been written.
        now: epoch seconds by the database's clock.
        lookahead: seconds; how far ahead of their time ticks are enqueued.
    """
    timing = Timing.decode(due.timing)
    horizon = int(now + lookahead) if due.ahead else int(now)
    first = due.next_fire_at
    following = next_fire(timing, first)
    if (following is None or following > horizon) and first >= int(now) - MISFIRE_GRACE:
        # Nearly every fire is this one: a single tick that is not overdue.
        return Plan(due, (_enqueued(due, first),), first, following)
    instants = [first, *fires_between(timing, first, horizon, CHUNK - 1)]
    last = instants[-1]
    following = next_fire(timing, last)
    ticks = tuple(_ticks(due, timing, instants, int(now)))
    if not due.ahead:
        ticks = _newest_alone(ticks, more=following is not None and following <= horizon)
    return Plan(due, ticks, last, following)


def _enqueued(due: Due, instant: int) -> Tick:
    shift = jitter_of(due.name, instant, due.jitter) if due.jitter and due.name else 0.0
    return Tick(instant, instant + shift)


def _ticks(due: Due, timing: Timing, instants: Sequence[int], now: int) -> Iterator[Tick]:
    overdue = [instant for instant in instants if instant < now - MISFIRE_GRACE]
    wanted = _caught_up(due, timing, overdue, now) if overdue else frozenset()
    missed: list[int] = []
    for instant in instants:
        if instant < now - MISFIRE_GRACE and instant not in wanted:
            missed.append(instant)
            continue
        yield from _missed(due, missed, now)
        missed = []
        yield _enqueued(due, instant)
    yield from _missed(due, missed, now)


def _newest_alone(ticks: tuple[Tick, ...], *, more: bool) -> tuple[Tick, ...]:
    """Skip all but the newest of the ticks that an exclusive schedule would enqueue at once.

    Where `more` ticks are due than this plan looks at, the newest is among those: whatever lets one
    tick be enqueued lets a later one.
    """
    newest = max(
        (tick.fire_at for tick in ticks if tick.state == AVAILABLE and not more), default=0
    )
    return tuple(
        tick._replace(state=SKIPPED, reason=_OVERTAKEN)
        if tick.state == AVAILABLE and tick.fire_at != newest
        else tick
        for tick in ticks
    )


def _caught_up(
    due: Due,
    timing: Timing,
    overdue: Sequence[int],
    now: int,
) -> frozenset[int]:
    """Return which overdue ticks are enqueued all the same."""
    limit = {Catchup.NONE: 0, Catchup.LAST: 1, Catchup.ALL: due.catchup_limit}
    budget = limit[Catchup(due.catchup)]
    # The newest ticks count first: those up to now that are not overdue, and those of later chunks.
    later = fires_between(timing, overdue[-1], now, budget) if budget else []
    if Catchup(due.catchup) is Catchup.ALL:
        later = [instant for instant in later if instant < now - MISFIRE_GRACE]
    budget = max(0, budget - len(later))
    oldest = now - due.catchup_window if due.catchup_window is not None else overdue[0]
    allowed = [instant for instant in overdue if instant >= oldest]
    return frozenset(allowed[max(0, len(allowed) - budget) :])


def _missed(due: Due, instants: Sequence[int], now: int) -> Iterator[Tick]:
    if not instants:
        return
    if len(instants) > FOLD:
        first, last = instants[0], instants[-1]
        yield Tick(
            first,
            float(first),
            MISSED,
            _reason(due, last, now),
            len(instants),
            last,
        )
        return
    for instant in instants:
        yield Tick(instant, float(instant), MISSED, _reason(due, instant, now))


def _reason(due: Due, instant: int, now: int) -> str:
    if due.catchup_window is not None and instant < now - due.catchup_window:
        return "cron was down; older than catchup_window"
    match Catchup(due.catchup):
        case Catchup.NONE:
            return "cron was down; catchup: none"
        case Catchup.LAST:
            return "cron was down; catchup: last, and a later tick was due"
        case Catchup.ALL:
            return "cron was down; beyond catchup_limit"
