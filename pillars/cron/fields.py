"""The keys of a schedule, declared once.

The loader's checks, the JSON Schema for editors and the documentation derive from `SCHEDULE`: each
`Field` has its sentence of documentation, its default as one would write it, and its `Kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pillars.cron import readers
from pillars.cron.faults import Fault
from pillars.cron.policies import Ambiguous, Catchup, Missing, Overlap
from pillars.ground.errors import did_you_mean
from pillars.queue.retry import Backoff


@dataclass(frozen=True, slots=True)
class Field:
    """A key and what may stand under it: a kind of value, or a group of further fields.

    `default` is as one would write it; `value` is what it is read as, once for all schedules.
    """

    name: str
    kind: readers.Kind | tuple[Field, ...]
    doc: str
    default: Any = None
    required: bool = False
    value: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Read the default."""
        value = self.default
        if isinstance(self.kind, tuple):
            value = None if value is None else {each.name: each.value for each in self.kind}
        elif value is not None:
            value = self.kind.read(value)
        object.__setattr__(self, "value", value)


DST: Final = (
    Field(
        "missing",
        readers.choice(Missing),
        "A fixed time that clocks jump over: run at the jump (shift) or not at all (skip).",
        "shift",
    ),
    Field(
        "ambiguous",
        readers.choice(Ambiguous),
        "A fixed time that comes twice: run at the first, at the last, or at both.",
        "first",
    ),
)
RETRY: Final = (
    Field("max_attempts", readers.integer(1, 1000), "How often a job is tried, in all.", 5),
    Field(
        "backoff", readers.choice(Backoff), "How the pause grows with each failure.", "exponential"
    ),
    Field("base", readers.duration(0, whole=False), "The first pause.", "10s"),
    Field("max", readers.duration(0, whole=False), "No pause is longer.", "1h"),
)
SCHEDULE: Final = (
    Field(
        "name",
        readers.schedule_name(),
        "Unique in all files; its hash is the schedule's place on the ring.",
        required=True,
    ),
    Field(
        "cron",
        readers.cron_text(),
        "Cron expression in quotes: minute hour day month weekday; six fields put seconds first; "
        "H spreads by name.",
    ),
    Field("every", readers.duration(1, whole=True), "Interval, counted from 1970 plus phase: 15m."),
    Field("at", readers.moment(), "One single time; without an offset it is in the timezone."),
    Field("phase", readers.duration(0, whole=True), "Moves the ticks of `every` by this much."),
    Field(
        "timezone", readers.zone(), "IANA time zone of cron, and of times without offset.", "UTC"
    ),
    Field("job", readers.word(), "Type of the job to enqueue.", required=True),
    Field("args", readers.arguments(), "Arguments of the job, at most 64 KiB as JSON.", {}),
    Field("queue", readers.word(), "Queue of the job.", "default"),
    Field(
        "priority",
        readers.integer(-32768, 32767),
        "Order within the queue, lower first, as in `nice`.",
        0,
    ),
    Field(
        "catchup",
        readers.choice(Catchup),
        "Ticks missed while no cron ran: enqueue none, the last, or all.",
        "last",
    ),
    Field(
        "catchup_window",
        readers.duration(0, whole=True),
        "Missed ticks older than this are only recorded as missed.",
    ),
    Field(
        "catchup_limit",
        readers.integer(1, 10_000),
        "At most so many with `catchup: all`; the rest are recorded as missed.",
        100,
    ),
    Field(
        "overlap",
        readers.choice(Overlap),
        "While the job of an earlier tick has not ended: allow another, skip the tick, let one "
        "tick wait for its end, or cancel it.",
        "allow",
    ),
    Field(
        "jitter",
        readers.duration(0, whole=True),
        "Spread starts over this time by a hash of schedule and tick.",
        0,
    ),
    Field("dst", DST, "What happens to fixed times when clocks change.", {}),
    Field("start_at", readers.moment(), "No tick before this time."),
    Field("end_at", readers.moment(), "No tick after this time."),
    Field("enabled", readers.flag(), "False keeps the schedule without firing it.", default=True),
    Field(
        "timeout",
        readers.duration(0.001, whole=False),
        "The job is stopped after this long; default: the job type's own.",
    ),
    Field("retry", RETRY, "How failed jobs are tried again; default: the job type's own."),
)
# What identifies a schedule, or is one of the three ways to say when, is no default for others.
NOT_IN_DEFAULTS: Final = frozenset({"name", "cron", "every", "at"})
DEFAULTS: Final = tuple(each for each in SCHEDULE if each.name not in NOT_IN_DEFAULTS)


def read_mapping(
    raw: Mapping[Any, Any], known: tuple[Field, ...] = SCHEDULE, prefix: str = ""
) -> tuple[dict[str, Any], list[Fault]]:
    """Return the values of all known keys, defaults filled in, and every fault.

    Args:
        raw: what the user wrote.
        known: the keys there are.
        prefix: stands before the keys of faults, `dst.`.

    """
    values: dict[str, Any] = {}
    faults = unknown_keys(raw, known, prefix)
    for each in known:
        name = each.name
        values[name] = None
        if name not in raw:
            values[name] = each.value
            if each.required:
                faults.append(Fault(prefix + name, f"the key {name!r} is missing"))
        elif (given := raw[name]) is None:
            faults.append(Fault(prefix + name, f"{name!r} has no value"))
        else:
            values[name], wrong = read_value(each, given, prefix)
            faults += wrong
    return values, faults


def read_value(each: Field, raw: object, prefix: str = "") -> tuple[Any, list[Fault]]:
    """Return the value of one key and its faults."""
    key = prefix + each.name
    if isinstance(each.kind, tuple):
        if isinstance(raw, Mapping):
            return read_mapping(raw, each.kind, f"{key}.")
        keys = ", ".join(inner.name for inner in each.kind)
        return None, [Fault(key, f"{each.name!r} must be a mapping with the keys {keys}")]
    try:
        return each.kind.read(raw), []
    except ValueError as error:
        return None, [Fault(key, f"{each.name!r} {error}")]


def unknown_keys(raw: Mapping[Any, Any], known: tuple[Field, ...], prefix: str = "") -> list[Fault]:
    """Return a fault for each key that does not exist."""
    names = [each.name for each in known]
    if raw.keys() <= set(names):
        return []
    return [
        Fault(f"{prefix}{key}", f"unknown key {_short(key)!r}{did_you_mean(str(key)[:60], names)}")
        for key in raw
        if key not in names
    ]


def _short(key: object) -> object:
    return key[:60] if isinstance(key, str) else key
