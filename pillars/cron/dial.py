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
from typing import Final

from croniter import CroniterError, croniter

DAY: Final = 86_400
_ORIGIN: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (wall time has no zone)
_FIELDS_WITH_SECONDS: Final = 6


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
        words = text.split()
        with_seconds = len(words) == _FIELDS_WITH_SECONDS
        minute, hour, day, month, weekday, *second = croniter.expand(
            text, second_at_beginning=with_seconds
        )[0]
        self.wildcard = any(word.startswith("*") for word in words[with_seconds:][:2])
        every_day = day == month == weekday == ["*"]
        self._days = None if every_day else " ".join(words[-3:])
        self._hours = _values(hour, 24)
        self._minutes = _values(minute, 60)
        self._seconds = _values(second[0], 60) if second else (0,)

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
    words = text.split()
    try:
        croniter.expand(text, second_at_beginning=len(words) == _FIELDS_WITH_SECONDS, strict=True)
    except CroniterError:
        return True
    return dial(text).next(0) is None


@lru_cache(maxsize=65_536)
def _matching_day(days: str, day: int) -> int | None:
    """Return the first day from this one on that the day, month and weekday fields match."""
    try:
        start = _ORIGIN + timedelta(days=day, seconds=-1)
        found = croniter(f"0 0 {days}", start).get_next(datetime)
    except (CroniterError, OverflowError):
        return None
    return (found - _ORIGIN).days


@lru_cache(maxsize=1024)
def _interned(values: tuple[int, ...]) -> tuple[int, ...]:
    return values


def _values(expanded: list[int | str], count: int) -> tuple[int, ...]:
    if expanded == ["*"]:
        return _interned(tuple(range(count)))
    return _interned(tuple(sorted(int(value) for value in expanded)))
