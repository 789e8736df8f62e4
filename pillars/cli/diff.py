"""`pillars schedules diff`: what applying the files would change, and for which fires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from pillars.cli.context import settings_from, with_database
from pillars.cli.files import load_to_apply
from pillars.cli.output import console, print_json
from pillars.cli.output import text as shown
from pillars.cron import book
from pillars.cron.changes import database_time
from pillars.cron.definition import Timing
from pillars.cron.duration import format_duration
from pillars.cron.fires import next_fire
from pillars.cron.forecast import Effect, Forecast, clock_changes, forecast
from pillars.cron.survey import records_of
from pillars.cron.turn import refuse_half_a_set

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from pillars.cron.book import Difference, ScheduleRecord
    from pillars.cron.definition import Schedule
    from pillars.cron.files import ScheduleSet
    from pillars.cron.forecast import ClockChange, Move
    from pillars.db.database import Database

_DAY: Final = 86_400
# Fires shown of each kind, and schedules told of in full: nobody reads more.
_FEW: Final = 3
_MANY: Final = 100
_LONGEST_VALUE: Final = 80
_SIGNS: Final = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
_EFFECTS: Final = {
    Effect.SHIFTED: "does not exist: fires at the jump (dst.missing: shift)",
    Effect.SKIPPED: "does not exist: does not fire",
    Effect.FIRST: "comes twice: fires at the first (dst.ambiguous: first)",
    Effect.LAST: "comes twice: fires at the last (dst.ambiguous: last)",
    Effect.REPEATED: "comes twice: fires at both",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One schedule that is added, changed or removed, and what that does to its fires.

    `keys` are those of the definition that change, `fires` None where the timing stays.
    """

    name: str
    kind: str
    place: str | None
    zone: str
    paused: bool
    keys: Mapping[str, tuple[Any, Any]]
    fires: Forecast | None
    first: int | None
    clock_changes: Sequence[ClockChange]


def diff(arguments: argparse.Namespace) -> int:
    """Show what applying the files would change."""
    found = load_to_apply(settings_from(arguments))

    async def work(database: Database) -> tuple[Difference, dict[str, ScheduleRecord], int]:
        async with database.connection() as connection:
            await refuse_half_a_set(connection, found)
            difference = await book.compare(connection, found.schedules, found.code)
            names = [*difference.changed[:_MANY], *difference.removed[:_MANY]]
            known = await records_of(connection, names)
            return difference, known, int(await database_time(connection))

    difference, known, now = with_database(arguments, work)
    until = now + arguments.days * _DAY
    changes = list(_changes(difference, known, found, (now, until)))
    total = len(difference.added) + len(difference.changed) + len(difference.removed)
    if arguments.json:
        print_json(
            {
                "added": difference.added,
                "changed": difference.changed,
                "removed": difference.removed,
                "since": _iso(now),
                "until": _iso(until),
                "schedules": [_as_dict(change) for change in changes],
                "left_out": total - len(changes),
            },
        )
        return 0
    for change in changes:
        _print_change(change, arguments.days, until)
    if total > len(changes):
        print(f"and {total - len(changes):,} more; --json names them all")
    if not difference:
        print("nothing would change")
    return 0


def _changes(
    difference: Difference,
    known: Mapping[str, ScheduleRecord],
    found: ScheduleSet,
    window: tuple[int, int],
) -> Iterator[Change]:
    wanted = {schedule.name: schedule for schedule in found.schedules}
    for kind in _SIGNS:
        for name in getattr(difference, kind)[:_MANY]:
            old, new = known.get(name), wanted.get(name)
            place = found.origins.get(name) or (old.origin if old else None)
            yield _change((name, kind, place), old, new, window)


def _change(
    head: tuple[str, str, str | None],
    old: ScheduleRecord | None,
    new: Schedule | None,
    window: tuple[int, int],
) -> Change:
    paused = old is not None and old.paused_at is not None
    before = Timing.decode(old.timing) if old is not None and old.enabled else None
    after = new.timing if new is not None and new.enabled and not paused else None
    keys: dict[str, tuple[Any, Any]] = {}
    if old is not None and new is not None:
        keys = _changed_keys(old.definition, new.as_dict())
        if not keys:
            # A new version of Pillars spreads `H` otherwise.
            keys = {"timing": (old.timing, new.timing.encode())}
    zone = new.timing if new is not None else before
    return Change(
        *head,
        zone="UTC" if zone is None else zone.timezone,
        paused=paused,
        keys=keys,
        fires=None if before == after else forecast(before, after, *window),
        first=None if after is None else next_fire(after, window[0]),
        clock_changes=() if after in {None, before} else clock_changes(after, *window),
    )


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return old and new values by dotted key; None stands for a key that is not given."""
    changed: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys((*old, *new)):
        was, becomes = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(becomes, dict):
            inner = _changed_keys(was, becomes)
            changed |= {f"{key}.{name}": pair for name, pair in inner.items()}
        elif was != becomes:
            changed[key] = (was, becomes)
    return changed


def _as_dict(change: Change) -> dict[str, Any]:
    fires = change.fires
    return {
        "name": change.name,
        "change": change.kind,
        "place": change.place,
        "paused": change.paused,
        "keys": {key: {"old": old, "new": new} for key, (old, new) in change.keys.items()},
        "first_fire": None if change.first is None else _iso(change.first),
        "fires": fires
        and {
            "until": _iso(fires.until),
            "appear": {
                "count": len(fires.appear),
                "first": [_iso(fire) for fire in fires.appear[:_FEW]],
            },
            "vanish": {
                "count": len(fires.vanish),
                "first": [_iso(fire) for fire in fires.vanish[:_FEW]],
            },
            "move": {
                "count": len(fires.move),
                "first": [[_iso(fire) for fire in move] for move in fires.move[:_FEW]],
            },
            "stay": fires.stay,
        },
        "clock_changes": [
            {
                "at": _iso(each.at),
                "timezone": change.zone,
                "seconds": each.after - each.before,
                "effect": each.effect,
                "times": [f"{_wall(wall):%Y-%m-%dT%H:%M:%S}" for wall in each.walls],
                "more": each.more,
            }
            for each in change.clock_changes
        ],
    }


def _print_change(change: Change, days: int, until: int) -> None:
    from rich.text import Text  # noqa: PLC0415 - costly, and JSON does not need it

    sign, colour = _SIGNS[change.kind]
    head = Text(f"{sign} {change.name}", style=colour)
    if change.place:
        head.append(f"  {change.place}", style="dim")
    lines = [head, *(Text(f"    {line}") for line in _lines(change, days, until))]
    for line in lines:
        console().print(line, soft_wrap=True)


def _lines(change: Change, days: int, until: int) -> Iterator[str]:
    for key, pair in change.keys.items():
        yield f"{key}: {' -> '.join(_value(value) for value in pair)}"
    if change.paused and change.kind == "changed":
        yield "is paused: fires at no time until it is resumed"
    if change.fires is not None:
        yield from _fire_lines(change, change.fires, days)
        if change.fires.until < until:
            yield f"it fires often: looked at until {_told(change.fires.until, change.zone)} only"
    zone = ZoneInfo(change.zone)
    for each in change.clock_changes:
        walls = ", ".join(f"{_wall(wall):%H:%M}" for wall in each.walls)
        turn = each.after - each.before
        way = "forward" if turn > 0 else "back"
        yield (
            f"{datetime.fromtimestamp(each.at, zone):%a %Y-%m-%d} clocks go {way} by "
            f"{format_duration(abs(turn))}: {walls}{' and more' if each.more else ''} "
            f"{_EFFECTS[each.effect]}"
        )


def _fire_lines(change: Change, fires: Forecast, days: int) -> Iterator[str]:
    zone = change.zone
    within = f"in {days} {'day' if days == 1 else 'days'}"
    if not (fires.appear or fires.vanish or fires.move or fires.stay):
        first = None if change.first is None else _told(change.first, zone)
        yield f"no fire {within}" + (f"; the first is {first}" if first else "")
        return
    for verb, instants in (("appear", fires.appear), ("vanish", fires.vanish)):
        if instants:
            few = [_told(fire, zone) for fire in instants[:_FEW]]
            yield f"{_fires(len(instants), verb)} {within}: {_listed(few, len(instants))}"
    if fires.move:
        few = [_move(move, zone) for move in fires.move[:_FEW]]
        yield (
            f"{_fires(len(fires.move), 'move')}{_shift(fires.move)} {within}: "
            f"{_listed(few, len(fires.move))}"
        )
    if fires.stay:
        yield f"{_fires(fires.stay, 'stay')} {within}"


def _fires(count: int, verb: str) -> str:
    return f"1 fire {verb}s" if count == 1 else f"{count:,} fires {verb}"


def _listed(few: Sequence[str], count: int) -> str:
    more = count - len(few)
    return ", ".join(few) + (f" and {more:,} more" if more else "")


def _move(move: Move, zone: str) -> str:
    old, new = (datetime.fromtimestamp(fire, ZoneInfo(zone)) for fire in move)
    if (old.date(), old.utcoffset()) == (new.date(), new.utcoffset()):
        return f"{_told(move.old, zone)} -> {_clock(new)}"
    return f"{_told(move.old, zone)} -> {_told(move.new, zone)}"


def _shift(moves: Sequence[Move]) -> str:
    """Return by how much fires move, where that is the same for all."""
    shifts = {move.new - move.old for move in moves}
    if len(shifts) > 1:
        return ""
    (shift,) = shifts
    return f" {format_duration(abs(shift))} {'later' if shift > 0 else 'earlier'}"


def _value(value: object) -> str:
    text = "not given" if value is None else shown(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _told(instant: int, zone: str) -> str:
    at = datetime.fromtimestamp(instant, ZoneInfo(zone))
    return f"{at:%a %Y-%m-%d} {_clock(at)} {at:%z}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"


def _wall(wall: int) -> datetime:
    return datetime.fromtimestamp(wall, UTC)


def _iso(instant: int) -> datetime:
    return datetime.fromtimestamp(instant, UTC)
