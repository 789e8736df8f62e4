"""`pillars schedules spread`: a picture of how many jobs start in each minute of a day."""

from __future__ import annotations

import math
import sys
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from pillars.cli.context import settings_from, with_database
from pillars.cli.files import load_code
from pillars.cli.output import console, print_json, print_table, write_file
from pillars.cli.progress import progress_bar
from pillars.cron import readers
from pillars.cron.code import load_set
from pillars.cron.spread import MINUTE, spread
from pillars.cron.survey import Firing, firings_in_force
from pillars.ground.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pillars.cron.spread import Spread

_HOUR: Final = 60
_DAY: Final = 86_400
# From nothing to the busiest minute, by orders of magnitude: a stampede does not hide the rest.
_PLAIN: Final = " .:-=+*#%@"
_BLOCKS: Final = " ░▒▓█"
_COLOURS: Final = ("black", "green", "cyan", "yellow", "red")
_HEX: Final = ("#f4f4f4", "#bfe3c0", "#7cc4d8", "#f2c14e", "#d1495b")
# A minute with so many times the mean, and so many schedules, is worth advice.
_STAMPEDE, _HERD = 3, 5
_CELL: Final = 12


def show_spread(arguments: argparse.Namespace) -> int:
    """Show in which minutes of a day jobs start, and the busiest ones."""
    zone = _zone(arguments.timezone)
    start, end = _window(arguments.date, zone)
    firings = _firings(arguments)
    with progress_bar() as bar:
        told = spread(firings, start, end, bar)
    if arguments.svg is not None:
        write_file(arguments.svg, _svg(told, zone), overwrite=True)
    if arguments.json:
        _print_json(told, end, arguments.timezone)
    else:
        _print_picture(told, zone)
        _print_busiest(told, zone)
    return 0


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(readers.zone().read(name))
    except ValueError as error:
        raise UsageError(f"--timezone: {error}") from None


def _window(day: date | None, zone: ZoneInfo) -> tuple[int, int]:
    """Return a day of the zone, of 23 to 25 hours, or 24 hours from the full hour before now."""
    if day is None:
        now = datetime.now(UTC).astimezone(zone)
        start = int(now.timestamp()) - now.minute * MINUTE - now.second
        return start, start + _DAY
    midnights = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    start, end = (int(midnight.timestamp()) for midnight in midnights)
    return start, end


def _firings(arguments: argparse.Namespace) -> list[Firing]:
    if arguments.installed:
        return with_database(arguments, firings_in_force)
    settings = settings_from(arguments)
    found = load_set(settings.schedules_dir, load_code(settings))
    return [Firing(s.name, s.timing, s.jitter) for s in found.schedules if s.enabled]


def _print_json(told: Spread, end: int, zone: str) -> None:
    print_json(
        {
            "start": datetime.fromtimestamp(told.start, UTC),
            "end": datetime.fromtimestamp(end, UTC),
            "timezone": zone,
            "schedules": told.schedules,
            "starts": sum(told.counts),
            "counts": told.counts,
            "busiest": [
                {
                    "at": datetime.fromtimestamp(busy.at, UTC),
                    "starts": busy.starts,
                    "schedules": busy.schedules,
                    "names": busy.names,
                }
                for busy in told.busiest
            ],
        }
    )


def _print_picture(told: Spread, zone: ZoneInfo) -> None:
    from rich.text import Text  # noqa: PLC0415 - costly, and JSON does not need it

    terminal = sys.stdout.isatty()
    ramp = _BLOCKS if terminal else _PLAIN
    most = max(told.counts, default=0)
    scale = _Scale(told.counts, len(ramp))
    print(f"{'':6}{''.join(f':{minute:02}      ' for minute in range(0, _HOUR, 10))}".rstrip())
    for label, counts in _hours(told, zone):
        line = Text(f"{label} ")
        for count in counts:
            level = scale.level(count)
            line.append(ramp[level], style=_COLOURS[level] if terminal and level else "")
        console().print(line.plain.rstrip() if not terminal else line, soft_wrap=True)
    mean = sum(told.counts) / len(told.counts)
    if most:
        print(f"starts a minute: {scale.legend(ramp)}")
    print(
        f"{told.schedules:,} schedules, {sum(told.counts):,} starts;"
        f" a minute: {mean:,.1f} in the mean, {most:,} at most"
    )


def _hours(told: Spread, zone: ZoneInfo) -> Iterator[tuple[str, Sequence[int]]]:
    for first in range(0, len(told.counts), _HOUR):
        at = datetime.fromtimestamp(told.start + first * MINUTE, zone)
        yield f"{at:%H:%M}", told.counts[first : first + _HOUR]


class _Scale:
    """The level of a count: from nothing, or from what is in every minute, to the busiest one."""

    def __init__(self, counts: Sequence[int], levels: int) -> None:
        base, most = min(counts, default=0), max(counts, default=0)
        self._most = most
        self._top = levels - 1
        self._zero = math.log1p(base)
        span = math.log1p(most) - self._zero
        # What fires all the time is the ground, not a stampede: there the top is ten times as much.
        self._span = max(span, math.log(10)) if base else span or 1.0
        self._least = max(1, base)

    def level(self, count: int) -> int:
        """Return the level, 0 for none."""
        if not count:
            return 0
        part = (math.log1p(count) - self._zero) / self._span
        return max(1, math.ceil(part * self._top - 1e-9))

    def legend(self, ramp: str) -> str:
        """Return each sign with the least count it stands for; some stand for none."""
        steps = (self._zero + self._span * level / self._top for level in range(1, self._top))
        least = [self._least, *(math.ceil(math.expm1(step) + 1e-9) for step in steps)]
        return "  ".join(
            f"{ramp[level]} {count:,}+"
            for level, count in enumerate(least, 1)
            if count <= self._most and self.level(count) == level
        )


def _print_busiest(told: Spread, zone: ZoneInfo) -> None:
    if not told.busiest:
        return
    print()
    print_table(
        ("BUSIEST", "STARTS", "SCHEDULES", "AMONG THEM"),
        [
            (
                f"{datetime.fromtimestamp(busy.at, zone):%a %H:%M}",
                busy.starts,
                busy.schedules,
                ", ".join(busy.names),
            )
            for busy in told.busiest
        ],
        "",
    )
    mean = sum(told.counts) / len(told.counts)
    first = told.busiest[0]
    if first.schedules >= _HERD and first.starts >= _STAMPEDE * mean:
        print(
            "\nto spread a herd: `H` for a minute or hour that may be any"
            ' (cron: "H 6 * * *"),\n`jitter: 10m` where the time must be near, `phase` for `every`'
        )


def _svg(told: Spread, zone: ZoneInfo) -> str:
    """Return the picture as SVG: a row an hour, a square a minute, its count in its title."""
    scale = _Scale(told.counts, len(_HEX))
    rows = list(_hours(told, zone))
    size = f'width="{(_HOUR + 5) * _CELL}" height="{(len(rows) + 1) * _CELL}"'
    font = 'font-family="sans-serif" font-size="9"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>']
    for row, (label, counts) in enumerate(rows):
        y = row * _CELL
        parts.append(f'<text x="2" y="{y + _CELL - 3}">{escape(label)}</text>')
        for column, count in enumerate(counts):
            colour = _HEX[scale.level(count)]
            parts.append(
                f'<rect x="{(column + 4) * _CELL}" y="{y}" width="{_CELL - 1}"'
                f' height="{_CELL - 1}" fill="{colour}">'
                f"<title>{escape(label[:3])}{column:02}: {count:,}</title></rect>"
            )
    return "\n".join([*parts, "</svg>\n"])
