"""Cron expressions as users may write them: `parse_cron` checks, advises and spreads `H`.

Five fields (minute, hour, day, month, weekday) or six with the seconds first; names; `@daily` and
kin; `L`, `15W`, `L5`, `mon#1`, `?`; and `H`, `H(a-b)`, `H/n`, `H(a-b)/n`, each a value chosen by a
hash of the schedule's name, independently in each field, so that schedules spread instead of all
starting at full minutes and hours.

What can never do what its author means is an error. What is legal but often a slip is a lint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import mmh3

from pillars.cron.dial import dial, never
from pillars.cron.faults import Fault, ScheduleError
from pillars.ground.errors import did_you_mean

LONGEST_TEXT: Final = 256
ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_WITHOUT_SECONDS, _WITH_SECONDS, _WITH_YEAR = 5, 6, 7


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression; `text` is its normal form, with the seconds first when it has any."""

    text: str
    lints: tuple[str, ...] = ()


def parse_cron(text: str, *, name: str) -> Expression:
    """Check an expression and put it in its normal form; `name` decides what `H` becomes.

    Raises:
        ScheduleError: it is refused; each fault says what to write instead.

    """
    if len(text) > LONGEST_TEXT:
        raise _refused(f"is {len(text)} characters long, the limit is {LONGEST_TEXT}")
    # Only H depends on the name: all others share one entry.
    return _parse(text, name if "h" in text.lower() else "")


@dataclass(frozen=True, slots=True)
class _Part:
    """A field: its range, the highest value `H` may take, and what its cycle is called."""

    label: str
    low: int
    high: int
    hash_high: int
    cycle: str
    unit: str
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SECOND = _Part("second", 0, 59, 59, "minute", "s")
_MINUTE = _Part("minute", 0, 59, 59, "hour", "m")
_HOUR = _Part("hour", 0, 23, 23, "day", "h")
# H stops at 28, so that it exists in every month.
_DAY = _Part("day of month", 1, 31, 28, "month", "d")
_WEEKDAY = _Part("weekday", 0, 6, 6, "week", "", _WEEKDAYS)
_MONTH = _Part("month", 1, 12, 12, "year", "", _MONTHS)
_PARTS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)

_HASHED = re.compile(r"h(?:\((\d{1,4})-(\d{1,4})\))?(?:/(\d{1,4}))?", re.ASCII)
_SPAN = re.compile(r"(?:(\*)|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]+))?", re.ASCII)
_NEAREST = re.compile(r"(?:(\d{1,2})w|w(\d{1,2}))", re.ASCII)
_NTH = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)?)#(\w+)", re.ASCII)
_LAST_WEEKDAY = re.compile(r"l([0-7])", re.ASCII)


@lru_cache(maxsize=16_384)
def _parse(text: str, name: str) -> Expression:
    words = _words(text)
    lints: list[str] = []
    faults: list[Fault] = []
    normal: list[str] = []
    for index, word in enumerate(words, len(_PARTS) - len(words)):
        try:
            # Only H depends on the name.
            plain, found = _field(index, word, name if "h" in word else "")
        except ValueError as error:
            faults.append(Fault("cron", f"{_PARTS[index].label} {word!r}: {error}"))
        else:
            normal.append(plain)
            lints += found
    if faults:
        raise ScheduleError(faults)
    plain = " ".join(normal)
    return Expression(plain, (*lints, *_check_whole(plain, text)))


def _words(text: str) -> list[str]:
    plain = text.strip(" \t\r\n").lower()
    if odd := next((char for char in plain if not (" " <= char <= "~" or char == "\t")), None):
        raise _refused(f"contains {odd!r} (U+{ord(odd):04X}); use plain letters, digits and blanks")
    if plain.startswith("@"):
        return _alias(plain).split()
    words = plain.split()
    if len(words) == _WITH_YEAR:
        raise _refused("has seven fields; years are not supported: use start_at and end_at")
    if len(words) not in (_WITHOUT_SECONDS, _WITH_SECONDS):
        raise _refused(
            f"has {len(words)} fields; write five: minute hour day month weekday,"
            " or six with the seconds first"
        )
    return words


def _alias(plain: str) -> str:
    if plain in ALIASES:
        return ALIASES[plain]
    if plain == "@reboot":
        raise _refused("@reboot is not supported: no machine belongs to a schedule")
    if plain.startswith("@every"):
        duration = plain.removeprefix("@every").strip() or "5m"
        raise _refused(f"write 'every: {duration}' instead of 'cron: @every'")
    raise _refused(f"unknown {plain!r}{did_you_mean(plain, ALIASES)}")


@lru_cache(maxsize=16_384)
def _field(index: int, word: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the normal form of a field, one of _PARTS, and its lints."""
    part = _PARTS[index]
    if word == "?":
        if part not in (_DAY, _WEEKDAY):
            raise ValueError("? is for day and weekday only; write *")
        return "*", ()
    items = word.split(",")
    if len(items) > 1 and any(_NEAREST.fullmatch(item) for item in items):
        raise ValueError("W stands alone, not in a list; write two schedules")
    if len({"#" in item or item.startswith("l") for item in items}) > 1 and part is _WEEKDAY:
        raise ValueError("plain weekdays do not mix with # and L; write two schedules")
    lints: list[str] = []
    return ",".join(_item(part, item, name, lints) for item in items), tuple(lints)


def _item(part: _Part, item: str, name: str, lints: list[str]) -> str:
    if not item:
        raise ValueError("there is nothing between two commas, or at an end")
    if item.startswith("r"):
        raise ValueError("R changes with every restart; write H, which is fixed by the name")
    if match := _HASHED.fullmatch(item):
        return _hashed(part, match, name, lints)
    if part is _DAY and (special := _special_day(item)):
        return special
    if part is _WEEKDAY and (special := _special_weekday(item)):
        return special
    return _span(part, item, lints)


def _special_day(item: str) -> str | None:
    if item == "l":
        return item
    if match := _NEAREST.fullmatch(item):
        _check_range(_DAY, int(match[1] or match[2]))
        return item
    if "w" in item:
        raise ValueError("W follows one day of the month, as in 15W")
    if "l" in item:
        raise ValueError("L stands alone for the last day of the month")
    return None


def _special_weekday(item: str) -> str | None:
    if match := _NTH.fullmatch(item):
        if match[2] not in "12345":
            advice = "; write L5 for the last Friday" if match[2] == "l" else ""
            raise ValueError(f"the number after # is 1 to 5{advice}")
        return f"{_span(_WEEKDAY, match[1], [])}#{match[2]}"
    if _LAST_WEEKDAY.fullmatch(item):
        return item
    stem = item.replace("l", "", 1)
    if "l" in item and (stem in _WEEKDAYS or stem in "01234567"):
        number = _WEEKDAYS.index(stem) if stem in _WEEKDAYS else stem
        raise ValueError(f"write L{number} for the last such weekday of the month")
    return None


def _span(part: _Part, item: str, lints: list[str]) -> str:
    match = _SPAN.fullmatch(item)
    if match is None:
        raise ValueError(f"{item!r} is not a value, a range a-b, a step */n or a list of these")
    star, low, high, step_text = match.groups()
    first = part.low if star else _value(part, low)
    last = _value(part, high) if high else None
    if last is not None:
        _check_band(part, item, first, last, lints)
    if step_text:
        step = _check_step(part, int(step_text[:9]))
        lints += _step_lints(part, item, (first, last), step)
    return item


def _value(part: _Part, text: str) -> int:
    if text in part.names:
        return part.names.index(text) + part.low
    if not text.isdigit():
        kind = "a name or number" if part.names else "a number"
        raise ValueError(f"{text!r} is not {kind}{did_you_mean(text[:3], part.names)}")
    number = int(text[:9])
    # Both 0 and 7 are Sunday.
    return _check_range(part, number, part.high + (part is _WEEKDAY))


def _check_range(part: _Part, number: int, high: int | None = None) -> int:
    high = part.high if high is None else high
    if not part.low <= number <= high:
        raise ValueError(f"{number} is out of range, {part.label}s are {part.low} to {high}")
    return number


def _check_band(part: _Part, item: str, first: int, last: int, lints: list[str]) -> None:
    same = first == last or (part is _WEEKDAY and (first, last) == (7, 0))
    if same:
        raise ValueError(f"{item} would mean every {part.label}; write {first} for one")
    # A week is a circle by nature: fri-mon is what one says.
    if first > last and part is not _WEEKDAY:
        lints.append(
            f"{part.label} {item} wraps round: {first} to {part.high}, then {part.low} to {last}"
        )


def _check_step(part: _Part, step: int) -> int:
    if step == 0:
        raise ValueError("a step cannot be 0")
    if step > part.count:
        raise ValueError(f"a step of {step} is longer than the {part.cycle}{_pace(part, step)}")
    return step


def _step_lints(part: _Part, item: str, bounds: tuple[int, int | None], step: int) -> list[str]:
    first, last = bounds
    if first + step > (part.high if last is None else last) >= first:
        return [f"{part.label} {item} matches {first} only"]
    if last is None and (part.count % step or (part is _DAY and step > 1)):
        pace = _pace(part, step)
        return [f"{part.label} {item} starts over with each {part.cycle}: steps differ{pace}"]
    return []


def _pace(part: _Part, step: int) -> str:
    return f"; for that pace write 'every: {step}{part.unit}'" if part.unit else ""


def _hashed(part: _Part, match: re.Match[str], name: str, lints: list[str]) -> str:
    low, high = part.low, part.hash_high
    if match[1]:
        low, high = int(match[1]), int(match[2])
        for bound in (low, high):
            _check_range(part, bound, part.hash_high)
        if low > high:
            raise ValueError(f"the range of H is from low to high; write H({high}-{low})")
    chosen = mmh3.hash(name, 1 + _PARTS.index(part), signed=False)
    if not match[3]:
        return str(low + chosen % (high - low + 1))
    step = _check_step(part, int(match[3]))
    if step == 1 and not match[1]:
        return "*"
    first = low + chosen % min(step, high - low + 1)
    lints += _step_lints(part, match[0].upper(), (first, high if match[1] else None), step)
    # A range of one value would be read as the whole cycle.
    return str(first) if first + step > high else f"{first}-{high}/{step}"


@lru_cache(maxsize=16_384)
def _check_whole(plain: str, text: str) -> tuple[str, ...]:
    """Check what no field shows alone, and return the lints of the whole; `text` is as written."""
    normal = plain.split()
    _check_days(normal[-3], normal[-1])
    try:
        dial(plain)
    except ValueError:
        raise _refused(f"{text!r} cannot be read; five fields, or six with seconds first") from None
    if never(plain):
        raise _refused(f"{text!r} never fires: there is no such day in any such month")
    return _lints_across(normal)


def _check_days(day: str, weekday: str) -> None:
    if day == "*" or weekday == "*":
        return
    if "w" in day or "#" in weekday or re.search(r"\bl", weekday):
        raise _refused("W, # and L of a weekday cannot join day and weekday; write two schedules")


def _lints_across(normal: list[str]) -> tuple[str, ...]:
    *second, minute, hour, day, month, weekday = normal
    lints = []
    if second == ["*"] and minute != "*":
        lints.append("fires at each second of the matching minutes; write 0 first for once")
    if minute == "*" and hour.isdigit():
        lints.append(f"fires at each minute of hour {hour}; write '0 {hour}' for once")
    if day != "*" and weekday != "*":
        lints.append("day and weekday are both given: it fires when either matches, not both")
    if re.fullmatch(r"(29|30|31)(-\d+)?", day) and month != "2":
        lints.append(f"months without a day {day[:2]} are passed over; write L for the last day")
    return tuple(lints)


def _refused(message: str) -> ScheduleError:
    return ScheduleError([Fault("cron", message)])
