"""Fields of other cron dialects made ours, where they mean the same.

Where they do not, an error says so: a schedule that fires at other times than before is worse
than one that is not imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pillars.cron.imports.draft import UntranslatableError


class Days(Enum):
    """How a dialect joins day of month and weekday when both are given."""

    # Either matches, as here.
    EITHER = "either"
    # Both must match.
    BOTH = "both"
    # Either, but both when one begins with `*`, as in `*/2`.
    VIXIE = "vixie"


@dataclass(frozen=True, slots=True)
class _Range:
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES: Final = (
    _Range(0, 59),
    _Range(0, 23),
    _Range(1, 31),
    _Range(1, 12, _MONTHS),
    _Range(0, 6, _WEEKDAYS),
)
_ITEM: Final = re.compile(
    r"(?:(?P<star>\*)|(?P<first>[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?)(?:/(?P<step>\d{1,9}))?",
    re.ASCII,
)
_RANDOM: Final = re.compile(r"(\d{0,2})~(\d{0,2})", re.ASCII)
_FIELDS: Final = 5
_FEW: Final = 100


def our_cron(words: list[str], days: Days) -> str:
    """Return our expression for five fields: minute, hour, day, month, weekday.

    Raises:
        UntranslatableError: it cannot be said in ours, and why.
    """
    if len(words) != _FIELDS:
        raise UntranslatableError(f"has {len(words)} fields instead of five")
    fields = [
        ",".join(_item(item, bounds) for item in word.lower().split(","))
        for word, bounds in zip(words, _RANGES, strict=True)
    ]
    _check_days(words[2], words[4], days)
    return " ".join(fields)


def _check_days(day: str, weekday: str, days: Days) -> None:
    if day in {"*", "?"} or weekday in {"*", "?"}:
        return
    starred = day.startswith("*") or weekday.startswith("*")
    if days is Days.BOTH or (days is Days.VIXIE and starred):
        raise UntranslatableError(
            f"day {day!r} and weekday {weekday!r} must both match there; here it fires when either"
            " does: keep one of them and test the other in the job"
        )


def _item(item: str, bounds: _Range) -> str:
    if match := _RANDOM.fullmatch(item):
        low, high = match.groups()
        return f"H({low or bounds.low}-{high or bounds.high})" if low or high else "H"
    match = _ITEM.fullmatch(item)
    if match is None:
        # Not of the dialects' common part; our own parser judges it.
        return item
    step = int(match["step"] or 0)
    if match["star"]:
        return str(bounds.low) if step > bounds.high - bounds.low else item
    first, last = _name(match["first"], bounds), match["last"] and _name(match["last"], bounds)
    if last is None:
        return first + (f"/{step}" if step else "")
    return _span(first, last, step, bounds)


def _span(first: str, last: str, step: int, bounds: _Range) -> str:
    low, high = _number(first, bounds), _number(last, bounds)
    if step and low is not None and high is not None:
        return _stepped(low, high, step, bounds)
    return first if low is not None and low == high else f"{first}-{last}"


def _stepped(low: int, high: int, step: int, bounds: _Range) -> str:
    """Return a stepped range, as a list where readers differ: it wraps round, or ends at day 7."""
    if low + step <= high <= bounds.high and low >= bounds.low:
        return f"{low}-{high}/{step}"
    values = [*range(low, high + 1)]
    if low > high:
        values = [*range(low, bounds.high + 1), *range(bounds.low, high + 1)]
    return ",".join(map(str, values[::step][:_FEW]))


def _number(text: str, bounds: _Range) -> int | None:
    if text.isdigit():
        # What is out of any range stays so.
        return min(int(text[:9]), _FEW)
    return bounds.names.index(text) + bounds.low if text in bounds.names else None


def _name(text: str, bounds: _Range) -> str:
    """Shorten `monday` to `mon`, which is all we read."""
    return text[:3] if text[:3] in bounds.names else text
