"""The next tick of a schedule: a pure function of its timing and an instant.

So it survives restarts and hand-overs, and any replica computes the same. Instants are epoch
seconds; ticks are whole seconds.

Clock changes follow Debian's cron (its manual, and DST handling in cron.c), made exact:

- A *wildcard* expression, whose minute or hour field begins with `*`, follows elapsed time: it
  fires whenever the wall shows a matching time. Each stretch of constant offset is its own clock:
  jumped-over times do not fire, repeated ones fire twice. The policies do not touch it.
- A *fixed-time* expression means each wall time once.
  A time that the clocks jump over fires at the jump, the first instant of the new offset
  (`missing: shift`), or not (`skip`). However many of its times one jump passes, and whether or not
  the jump ends at a matching time, there is one tick at that instant.
  A time that comes twice fires at the first, at the last, or at both.
- Unlike Debian, which takes changes of three hours and more for corrections of the clock, this
  holds for jumps of any length: also for Apia, which passed over a whole day in 2011.
- A seconds field changes nothing in this; the wildcard is decided by minute and hour. `H` counts
  as what it stands for: `0 H/2 * * *` is fixed-time, `H/5 * * * *` is a wildcard by its hour.

The rule needs transitions further apart than the clocks are turned: a test holds it for all zones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pillars.cron.definition import Ambiguous, Missing, Timing
from pillars.cron.dial import dial
from pillars.cron.zones import stretch_at

if TYPE_CHECKING:
    from pillars.cron.dial import Dial
    from pillars.cron.zones import Stretch

# 3000-01-01: nothing is looked for beyond.
_HORIZON: Final = 32_503_680_000


def next_fire(timing: Timing, after: int) -> int | None:
    """Return the first tick strictly after an instant; None when there is none any more."""
    if timing.start_at is not None and after < timing.start_at:
        after = timing.start_at - 1
    if timing.cron is not None:
        tick = _next_cron(timing.cron, timing.timezone, timing.missing, timing.ambiguous, after)
    elif timing.every is not None:
        tick = after + timing.every - (after - timing.phase) % timing.every
    elif timing.at is not None and timing.at > after:
        tick = timing.at
    else:
        tick = None
    if tick is None or (timing.end_at is not None and tick > timing.end_at):
        return None
    return tick


def fires_between(timing: Timing, after: int, until: int, limit: int) -> list[int]:
    """Return the ticks with `after < tick <= until` in order, at most `limit` of them."""
    ticks: list[int] = []
    while len(ticks) < limit:
        tick = next_fire(timing, after)
        if tick is None or tick > until:
            break
        ticks.append(tick)
        after = tick
    return ticks


# A herd of schedules shares expression and instant: it costs one computation, then a look-up each.
@lru_cache(maxsize=65_536)
def _next_cron(
    cron: str, timezone: str, missing: Missing, ambiguous: Ambiguous, after: int
) -> int | None:
    """Return the next tick of an expression, stretch by stretch from the one after `after`."""
    face = dial(cron)
    if face.wildcard:
        missing, ambiguous = Missing.SKIP, Ambiguous.BOTH
    instant = after + 1
    while instant < _HORIZON:
        stretch = stretch_at(timezone, instant)
        if instant == stretch.start and missing is Missing.SHIFT and _jumped_over(face, stretch):
            return instant
        first, last = _told(stretch, ambiguous)
        wall = face.next(max(instant + stretch.offset, first) - 1)
        if wall is None:
            return None
        if wall < min(last, stretch.known_until + stretch.offset):
            return wall - stretch.offset
        instant = stretch.known_until
    return None


def _jumped_over(face: Dial, stretch: Stretch) -> bool:
    """Say whether the jump into this stretch passed over a matching wall time."""
    if stretch.before >= stretch.offset:
        return False
    wall = face.next(stretch.start + stretch.before - 1)
    return wall is not None and wall < stretch.start + stretch.offset


def _told(stretch: Stretch, ambiguous: Ambiguous) -> tuple[int, int]:
    """Return the wall times, end excluded, at which a clock counts in this stretch.

    A repeated time counts in one stretch only, unless both are wanted.
    """
    first, last = stretch.offset, stretch.offset
    if ambiguous is Ambiguous.FIRST:
        first = max(stretch.offset, stretch.before)
    elif ambiguous is Ambiguous.LAST:
        last = min(stretch.offset, stretch.after)
    return stretch.start + first, stretch.end + last
