"""What a change of timing does to the fires of a window: pure functions of timings and instants.

`forecast` tells which fires appear, vanish, move or stay; `clock_changes` on which days the clocks
of a schedule's zone change what it does. Instants are epoch seconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from pillars.cron.definition import Ambiguous, Missing
from pillars.cron.dial import dial
from pillars.cron.fires import fires_between
from pillars.cron.zones import stretch_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pillars.cron.definition import Timing
    from pillars.cron.zones import Stretch

# Fires of one timing that are looked at: each minute of a week, or three hours of seconds.
MOST_FIRES: Final = 7 * 24 * 60
# Wall times named for one clock change.
MOST_WALLS: Final = 4
_HOUR: Final = 3600


class Move(NamedTuple):
    """A fire that comes at another instant than before."""

    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of the fires up to `until`, which is short of the window when it holds too many.

    `stay` counts those that both timings have.
    """

    until: int
    appear: tuple[int, ...] = ()
    vanish: tuple[int, ...] = ()
    move: tuple[Move, ...] = ()
    stay: int = 0


class Effect(StrEnum):
    """What a clock change does to a schedule's wall times."""

    SHIFTED = "shifted"
    SKIPPED = "skipped"
    FIRST = "first"
    LAST = "last"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A clock change that touches a schedule, with offsets in seconds east of Greenwich.

    `walls` are the first of the schedule's wall times that do not exist or come twice, in seconds
    since 1970-01-01T00:00:00 on the wall; `more` says that there are others.
    """

    at: int
    before: int
    after: int
    effect: Effect
    walls: tuple[int, ...]
    more: bool


def forecast(
    old: Timing | None,
    new: Timing | None,
    after: int,
    until: int,
    most: int = MOST_FIRES,
) -> Forecast:
    """Compare the fires of two timings with `after < fire <= until`; None has none.

    An old and a new fire of which neither stays are one that moved if each is the other's nearest.
    At most `most` fires of each timing are looked at; `Forecast.until` tells how far that reached.
    """
    found = [
        [] if timing is None else fires_between(timing, after, until, most + 1)
        for timing in (old, new)
    ]
    until = min([until, *(fires[most] - 1 for fires in found if len(fires) > most)])
    olds, news = (fires[: bisect_right(fires, until)] for fires in found)
    staying = {*olds}.intersection(news)
    gone = [fire for fire in olds if fire not in staying]
    come = [fire for fire in news if fire not in staying]
    moves = tuple(_moves(gone, come))
    left, arrived = {move.old for move in moves}, {move.new for move in moves}
    return Forecast(
        until,
        appear=tuple(fire for fire in come if fire not in arrived),
        vanish=tuple(fire for fire in gone if fire not in left),
        move=moves,
        stay=len(staying),
    )


def clock_changes(timing: Timing, after: int, until: int) -> list[ClockChange]:
    """Return the clock changes with `after < at <= until` that touch a cron expression's fires.

    A wildcard expression of every hour goes on through a change of whole hours as if there were
    none, and is not touched by it.
    """
    if timing.cron is None:
        return []
    if timing.start_at is not None:
        after = max(after, timing.start_at - 1)
    if timing.end_at is not None:
        until = min(until, timing.end_at)
    found = (_touch(timing, stretch) for stretch in _stretches(timing.timezone, after, until))
    return [change for change in found if change is not None]


def _moves(gone: Sequence[int], come: Sequence[int]) -> Iterator[Move]:
    for old in gone:
        new = _nearest(come, old, later=True)
        if new is not None and _nearest(gone, new, later=False) == old:
            yield Move(old, new)


def _nearest(fires: Sequence[int], to: int, *, later: bool) -> int | None:
    """Return the nearest of sorted fires; of two as near, the later or the earlier one."""
    place = bisect_left(fires, to)
    around = fires[max(0, place - 1) : place + 1]
    if later:
        around = around[::-1]
    return min(around, key=lambda fire: abs(fire - to), default=None)


def _stretches(zone: str, after: int, until: int) -> Iterator[Stretch]:
    """Yield the stretches of constant offset that begin within `after < start <= until`."""
    instant = after
    while instant <= until:
        stretch = stretch_at(zone, instant)
        # The start of what was looked at is no clock change.
        if stretch.start == instant > after and stretch.before != stretch.offset:
            yield stretch
        instant = stretch.known_until


def _touch(timing: Timing, stretch: Stretch) -> ClockChange | None:
    face = dial(timing.cron or "")
    turn = stretch.offset - stretch.before
    every_hour = (timing.cron or "").split()[-4] == "*"
    if face.wildcard and every_hour and turn % _HOUR == 0:
        return None
    first = stretch.start + min(stretch.before, stretch.offset)
    last = stretch.start + max(stretch.before, stretch.offset)
    walls: list[int] = []
    wall = face.next(first - 1)
    while wall is not None and wall < last and len(walls) <= MOST_WALLS:
        walls.append(wall)
        wall = face.next(wall)
    if not walls:
        return None
    return ClockChange(
        at=stretch.start,
        before=stretch.before,
        after=stretch.offset,
        effect=_effect(timing, wildcard=face.wildcard, forward=turn > 0),
        walls=tuple(walls[:MOST_WALLS]),
        more=len(walls) > MOST_WALLS,
    )


def _effect(timing: Timing, *, wildcard: bool, forward: bool) -> Effect:
    if forward:
        shifted = timing.missing is Missing.SHIFT and not wildcard
        return Effect.SHIFTED if shifted else Effect.SKIPPED
    if wildcard:
        return Effect.REPEATED
    return {
        Ambiguous.FIRST: Effect.FIRST,
        Ambiguous.LAST: Effect.LAST,
        Ambiguous.BOTH: Effect.REPEATED,
    }[timing.ambiguous]
