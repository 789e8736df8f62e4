"""Charts as inline SVG, drawn without a library: lines over time, and bars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WIDTH, _HEIGHT = 960, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 26, 34
_STEPS = (1, 2, 5, 10)
_LINES, _LABELS = 4, 8
# Colours that also the colour-blind tell apart (Paul Tol, "bright" and "muted").
COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377",
    "#332288", "#ddcc77", "#117733", "#882255", "#44aa99", "#999933",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, and points (seconds, value) in order."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time, in seconds."""

    at: float
    words: str


def lines(
    series: Sequence[Series],
    marks: Sequence[Mark],
    shown: Callable[[float], str],
    span: tuple[float, float],
) -> str:
    """Return lines over a span of seconds; `shown` words a value."""
    top = _nice(max((y for each in series for _, y in each.points), default=0.0))
    start, end = span

    def x(at: float) -> float:
        part = (min(max(at, start), end) - start) / (end - start)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    parts = [*_grid(top, shown), *_time_axis(start, end, x)]
    parts += [
        f'<line x1="{x(mark.at):.1f}" x2="{x(mark.at):.1f}" y1="{_TOP}" '
        f'y2="{_HEIGHT - _BOTTOM}" stroke="#bbb" stroke-dasharray="3 3">'
        f"<title>{escape(mark.words)}</title></line>"
        for mark in marks
    ]
    for number, each in enumerate(series):
        path = " ".join(f"{x(at):.1f},{_y(value, top):.1f}" for at, value in each.points)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5">'
            f"<title>{escape(each.name)}</title></polyline>"
        )
    return _svg([*parts, *_legend([each.name for each in series])])


def bars(values: Sequence[tuple[str, int]]) -> str:
    """Return a bar for each label, by orders of magnitude: one late tick shows beside a million."""
    most = max((value for _, value in values), default=0)
    width = (_WIDTH - _LEFT - _RIGHT) / max(1, len(values))
    top = math.log10(1 + most) or 1.0
    parts = []
    for number, (label, value) in enumerate(values):
        y = _y(math.log10(1 + value), top)
        left, middle = _LEFT + number * width, _LEFT + (number + 0.5) * width
        parts.append(
            f'<rect x="{left + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - y:.1f}" fill="{COLOURS[0]}"/>'
            f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">{value:,}</text>'
            f'<text x="{middle:.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">'
            f"{escape(label)}</text>"
        )
    return _svg(parts)


def _svg(parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="11" role="img">'
    )
    return "\n".join([head, *parts, "</svg>"])


def _grid(top: float, shown: Callable[[float], str]) -> Iterator[str]:
    for number in range(_LINES + 1):
        value = top * number / _LINES
        y = _y(value, top)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>'
        yield (
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(shown(value))}</text>'
        )


def _time_axis(start: float, end: float, x: Callable[[float], float]) -> Iterator[str]:
    step = max(1.0, _nice((end - start) / _LABELS))
    at = math.ceil(start / step) * step
    while at <= end:
        yield (
            f'<text x="{x(at):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">'
            f"{at:g}s</text>"
        )
        at += step


def _legend(names: Sequence[str]) -> Iterator[str]:
    room = (_WIDTH - _LEFT) / max(1, len(names))
    for number, name in enumerate(names):
        left = _LEFT + number * min(room, 190)
        colour = COLOURS[number % len(COLOURS)]
        yield f'<rect x="{left:.1f}" y="4" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{left + 14:.1f}" y="13">{escape(name)}</text>'


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - max(0.0, value) / top * (_HEIGHT - _TOP - _BOTTOM)


def _nice(value: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))
