"""Time zones as stretches of constant offset from UTC.

zoneinfo answers "which offset now", not "until when"; the transitions are found by looking once a
day and bisecting. Instants are epoch seconds, offsets seconds east of Greenwich.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

_DAY: Final = 86_400
# About four years: few enough looks to be quick, long enough to be rarely needed.
_ERA: Final = 1_461 * _DAY
# A wall clock is never turned by more than 26 hours; what lies further off cannot matter.
_MARGIN: Final = 4 * _DAY


class Stretch(NamedTuple):
    """A time of constant offset, `start <= t < end`, and the offsets of its neighbours.

    `known_until <= end`: where the next stretch is to be asked for. An end that is no transition
    is the edge of what was looked at; its neighbour then has the same offset.
    """

    start: int
    end: int
    known_until: int
    offset: int
    before: int
    after: int


def zone_names() -> frozenset[str]:
    """Return the IANA names that may be used."""
    return _zone_names()


def stretch_at(zone: str, instant: int) -> Stretch:
    """Return the stretch that holds an instant, with true ends wherever they matter to it.

    Raises:
        ZoneInfoNotFoundError: there is no such zone.

    """
    starts, stretches = _era(zone, instant // _ERA)
    return stretches[bisect_right(starts, instant) - 1]


def offset_at(zone: str, instant: int) -> int:
    """Return the offset at an instant."""
    return stretch_at(zone, instant).offset


def instants_of(zone: str, wall: int) -> tuple[int, ...]:
    """Return the instants at which clocks show a wall time: one, two, or none in a gap."""
    offsets = {offset_at(zone, wall + shift) for shift in (-_DAY, 0, _DAY)}
    return tuple(
        sorted(wall - offset for offset in offsets if offset_at(zone, wall - offset) == offset)
    )


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # These two mean something else on each machine.
    return frozenset(available_timezones() - {"localtime", "Factory"})


@lru_cache(maxsize=4096)
def _era(zone: str, number: int) -> tuple[tuple[int, ...], tuple[Stretch, ...]]:
    """Return starts and stretches that cover an era and a margin on both sides."""
    info = ZoneInfo(zone)
    first, last = number * _ERA - _MARGIN, (number + 1) * _ERA + _MARGIN
    starts, offsets = [first], [_offset(info, first)]
    for look in range(first + _DAY, last + 1, _DAY):
        if (offset := _offset(info, look)) != offsets[-1]:
            starts.append(_transition(info, look - _DAY, look))
            offsets.append(offset)
    ends = [*starts[1:], last]
    befores = [offsets[0], *offsets[:-1]]
    afters = [*offsets[1:], offsets[-1]]
    known = [min(end, (number + 1) * _ERA) for end in ends]
    rows = zip(starts, ends, known, offsets, befores, afters, strict=True)
    return tuple(starts), tuple(Stretch(*row) for row in rows)


def _transition(info: ZoneInfo, low: int, high: int) -> int:
    """Return the first instant after `low` with the offset of `high`."""
    offset = _offset(info, high)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(info, middle) == offset:
            high = middle
        else:
            low = middle
    return high


def _offset(info: ZoneInfo, instant: int) -> int:
    offset = datetime.fromtimestamp(instant, info).utcoffset()
    return 0 if offset is None else offset.days * _DAY + offset.seconds
