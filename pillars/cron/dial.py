"""A cron expression as a clock face: wall times without zone or clock change.

This is the only module that touches croniter, and only for what croniter does well: reading
fields, and finding days. Hours, minutes and seconds are looked up here, which makes a step some
microseconds where croniter takes a hundred, and a dense expression as cheap as a sparse one.

Wall times are seconds since 1970-01-01T00:00:00 on the wall.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from croniter import CroniterError, croniter

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY: Final = 86_400
_ORIGIN: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (wall time has no zone)


class Dial:
    """The wall times at which an expression matches.

    `wildcard` is Debian cron's distinction: minute or hour begins with `*`.
    """

    __slots__ = ("_days", "_hours", "_minutes", "_seconds", "wildcard")

    def __init__(self, text: str) -> None:
        """Read an expression of five fields, or six with the seconds first.

        Raises:
            ValueError: croniter refuses it.

        """
        *second, minute, hour, day, month, weekday = text.split()
        self.wildcard = minute.startswith("*") or hour.startswith("*")
        days = f"{day} {month} {weekday}"
        self._days = None if _every_day(days) else days
        self._hours = _hours(hour)
        self._minutes = _minutes(minute)
        # Both read 0 to 59.
        self._seconds = _minutes(*second) if second else (0,)

    def next(self, after: int) -> int | None:
        """Return the first matching wall time after this one; None when 50 years hold none."""
        day, time = divmod(after + 1, DAY)
        found = self._day_from(day)
        if found == day:
            if (match := self._time_from(time)) is not None:
                return day * DAY + match
            found = self._day_from(day + 1)
        if found is None:
            return None
        first = self._hours[0] * 3600 + self._minutes[0] * 60 + self._seconds[0]
        return found * DAY + first

    def _day_from(self, day: int) -> int | None:
        return day if self._days is None else _matching_day(self._days, day)

    def _time_from(self, time: int) -> int | None:
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        for hours in self._hours[bisect_left(self._hours, hour) :]:
            if hours > hour:
                return hours * 3600 + self._minutes[0] * 60 + self._seconds[0]
            for minutes in self._minutes[bisect_left(self._minutes, minute) :]:
                if minutes > minute:
                    return hours * 3600 + minutes * 60 + self._seconds[0]
                place = bisect_left(self._seconds, second)
                if place < len(self._seconds):
                    return hours * 3600 + minutes * 60 + self._seconds[place]
        return None


@lru_cache(maxsize=16_384)
def dial(text: str) -> Dial:
    """Return the dial of an expression; the same object for the same text.

    Raises:
        ValueError: croniter refuses it.

    """
    return Dial(text)


def never(text: str) -> bool:
    """Say whether an expression names days that no month of it has, or that never come."""
    return _never(" ".join(text.split()[-3:]))


@lru_cache(maxsize=65_536)
def _matching_day(days: str, day: int) -> int | None:
    """Return the first day from this one on that the day, month and weekday fields match."""
    try:
        start = _ORIGIN + timedelta(days=day, seconds=-1)
        found = croniter(f"0 0 {days}", start).get_next(datetime)
    except (CroniterError, OverflowError):
        return None
    return (found - _ORIGIN).days


@lru_cache(maxsize=4096)
def _never(days: str) -> bool:
    try:
        croniter.expand(f"0 0 {days}", strict=True)
    except CroniterError:
        return True
    return _matching_day(days, 0) is None


# Fields do not depend on each other, and there are few different ones: each is read once.
@lru_cache(maxsize=4096)
def _every_day(days: str) -> bool:
    return croniter.expand(f"0 0 {days}")[0][2:] == [["*"], ["*"], ["*"]]


@lru_cache(maxsize=4096)
def _minutes(text: str) -> tuple[int, ...]:
    return _values(croniter.expand(f"{text} 0 * * *")[0][0], 60)


@lru_cache(maxsize=4096)
def _hours(text: str) -> tuple[int, ...]:
    return _values(croniter.expand(f"0 {text} * * *")[0][1], 24)


def _values(expanded: Sequence[int | str], count: int) -> tuple[int, ...]:
    if expanded == ["*"]:
        return tuple(range(count))
    return tuple(sorted(int(value) for value in expanded))
