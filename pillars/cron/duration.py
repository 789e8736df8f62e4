"""Durations as people write them, `1h30m`, to seconds and back."""

from __future__ import annotations

import re
from functools import lru_cache

from pillars.ground.errors import did_you_mean

# Longest first: `format_duration` spends them in this order.
UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# Ten years: fits an integer column, and more is a slip of the unit.
LONGEST = 315_360_000
_LONGEST_TEXT = 40
PATTERN = r"^ *(\d+(\.\d+)? *(ms|[wdhms]) *)+$"

_PART = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)", re.ASCII)
_WHOLE = re.compile(PATTERN, re.ASCII)
_ALMOST = re.compile(r"(-?)(\d{1,20})([A-Za-z]{0,20})", re.ASCII)
_SPELLED = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w"}


def parse_duration(raw: object) -> float:
    """Return seconds for `15m`, `1h30m`, `1d`, `500ms` or a plain number of seconds.

    Raises:
        ValueError: not a duration, or longer than ten years; the message says what to write.

    """
    if isinstance(raw, str):
        seconds = _parse_text(raw)
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        seconds = float(min(raw, 2 * LONGEST))
    else:
        raise ValueError("must be a duration such as 15m, 1h30m, 1d, or a number of seconds")  # noqa: TRY004
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"{_shown(raw)} is out of range: a duration is 0 to {LONGEST // 86400}d")
    return round(seconds, 3)


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads back as this: `1h30m`, `0s`, `1.5s`.

    Milliseconds are the finest grain. Weeks are written as days, which people compare more easily.
    """
    whole, milli = divmod(round(seconds * 1000), 1000)
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    if milli:
        parts.append(f"{milli}ms")
    return "".join(parts) or "0s"


def _parse_text(text: str) -> float:
    compact = text.strip().replace(" ", "")
    # A number of hundreds of digits is refused before float() turns it into infinity.
    if len(compact) <= _LONGEST_TEXT and _WHOLE.fullmatch(compact):
        return _sum(compact)
    raise ValueError(f"{_shown(text)} is not a duration{_advice(compact)}; write it like 15m or 1d")


# Thousands of schedules share a few durations.
@lru_cache(maxsize=1024)
def _sum(compact: str) -> float:
    return sum(float(count) * UNITS[unit] for count, unit in _PART.findall(compact))


def _advice(compact: str) -> str:
    match = _ALMOST.fullmatch(compact)
    if match is None:
        return ""
    sign, count, unit = match.groups()
    if sign:
        return ": it cannot be negative"
    meant = _unit_meant(unit.lower())
    return f", did you mean '{count}{meant}'?" if meant else f": there is no unit {unit!r}"


def _unit_meant(unit: str) -> str | None:
    if not unit:
        return "s"
    if unit in UNITS:
        return unit
    for word, short in _SPELLED.items():
        if did_you_mean(unit.removesuffix("s"), (word, word[:3])):
            return short
    return None


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
