"""Small pieces of the wording: counts, lists and durations as people write them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MANY = 5
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_MILLISECOND = 0.001
# What rounding would carry over is the next unit: no `1000 ms`, no `60.0 s`.
_ALMOST = 0.9991


def duration(seconds: float) -> str:
    """Write seconds as people do: `850 µs`, `12 ms`, `3.4 s`, `2m 5s`, `1h 3m`, `2d 4h`."""
    if seconds < _MILLISECOND:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < _ALMOST:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < _ALMOST * _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "m"),
        (_MINUTE, "m", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // smaller}{smaller_name}"
    return f"{whole} s"


def retry(seconds: float) -> str:
    """Write a pause; one that is next to nothing is 1 ms."""
    return duration(max(seconds, _MILLISECOND))


def plural(count: int, noun: str) -> str:
    """Return the noun as the count asks for it."""
    return noun if count == 1 else f"{noun}s"


def some(items: Sequence[str], separator: str = ", ") -> str:
    """List the first few items and say how many there are besides."""
    shown = separator.join(items[:_MANY])
    rest = len(items) - _MANY
    return f"{shown}{separator}and {rest:,} more" if rest > 0 else shown


def first_line(text: str | None) -> str:
    """Return the first line of a text, empty where there is none."""
    return text.strip().partition("\n")[0].strip() if text else ""


def ended(code: int) -> str:
    """Word an exit code as `subprocess` gives it: minus the signal's number, or the code."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def power_of_two(count: int) -> bool:
    """Tell whether the count is 1, 2, 4, 8 and so on: what repeats is told ever more rarely."""
    return count & (count - 1) == 0
