"""A beat_schedule of Celery: a mapping of names to entries, read or alive, to drafts.

Source: Celery's manual of periodic tasks and celery.schedules. A crontab() there fires when *all*
its fields match, here when day or weekday does; so both together cannot be translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.duration import LONGEST, format_duration
from pillars.cron.imports.draft import Draft, UntranslatableError, settle
from pillars.cron.imports.fields import Days, our_cron

if TYPE_CHECKING:
    from pillars.cron.imports.draft import Imported

# In the order of crontab()'s own parameters, which is not that of a cron expression.
CRONTAB_FIELDS: Final = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
_OUR_ORDER: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_ENTRY_KEYS: Final = frozenset({"task", "schedule", "args", "kwargs", "options", "relative"})
_SAID: Final = {
    "priority": "Celery's priority has the direction of its broker; ours is lower first",
    "expires": "expires: a job that waits does not expire here; catchup_window bounds late fires",
}
_MOST_VALUES: Final = 100
# How much of an expression a note repeats.
_LONGEST: Final = 200
_REMARK: Final = (
    "Intervals are counted from 1970 on here, from the start of beat there; add `phase` to move one"
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that source code makes, with what could be read of its arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """An expression that only running the code could tell."""

    text: str


def read_beat_schedule(
    entries: Mapping[Any, Any],
    *,
    timezone: str | None,
    notes: tuple[str, ...] = (),
) -> Imported:
    """Return drafts of a beat_schedule.

    Args:
        entries: as Celery takes it; its objects may be Celery's own, or `Call` and `Unread`.
        timezone: Celery's setting; None assumes UTC and says so.
        notes: what was seen beside the entries.
    """
    drafts = [_draft(name, entry, timezone) for name, entry in entries.items()]
    if timezone is None and any(draft.keys and "cron" in draft.keys for draft in drafts):
        notes = (*notes, "no timezone is set there: UTC, as Celery assumes; --timezone for another")
    intervals = any(draft.keys and "every" in draft.keys for draft in drafts)
    return settle(drafts, {}, notes, (_REMARK,) if intervals else ())


def _draft(name: object, entry: object, timezone: str | None) -> Draft:
    label = name.text if isinstance(name, Unread) else str(name)
    original = _shown(entry)
    notes: list[str] = []
    keys: dict[str, Any] | None
    try:
        entry = _mapping(entry)
        keys = _when(entry.get("schedule"), timezone) | _task(entry)
        keys |= {"args": args} if (args := _arguments(entry, notes)) else {}
        keys |= _options(entry, notes)
        if rest := sorted(str(key) for key in entry if key not in _ENTRY_KEYS):
            notes.append(f"not carried over: {', '.join(rest)}")
    except UntranslatableError as error:
        keys = None
        notes.append(str(error))
    return Draft(label, keys, "beat_schedule", original, tuple(notes))


def _mapping(entry: object) -> Mapping[Any, Any]:
    if isinstance(entry, Mapping):
        return entry
    raise UntranslatableError(_unread(entry))


def _task(entry: Mapping[Any, Any]) -> dict[str, Any]:
    task = entry.get("task")
    if not isinstance(task, str):
        raise UntranslatableError(f"task: {_unread(task)}")
    return {"job": task}


def _when(raw: object, timezone: str | None) -> dict[str, Any]:
    call = raw if isinstance(raw, Call) else _call_of(raw)
    if isinstance(raw, bool) or call is None:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return _every(raw)
        raise UntranslatableError(f"schedule: {_unread(raw)}")
    if call.name == "crontab":
        return _crontab(call, timezone)
    if call.name == "solar":
        raise UntranslatableError("solar() follows the sun: there is nothing like it here")
    if call.name == "timedelta":
        return _every(_timedelta(call))
    if call.name == "schedule":
        inner = dict(call.kwargs).get("run_every", call.args[0] if call.args else None)
        return _when(inner, timezone)
    raise UntranslatableError(f"schedule: {_unread(call)}")


def _call_of(raw: object) -> Call | None:
    """Return what an object of Celery's was made by, told by its attributes."""
    if isinstance(raw, timedelta):
        return Call("timedelta", kwargs=(("seconds", raw.total_seconds()),))
    if hasattr(raw, "_orig_minute"):
        fields = ((key, getattr(raw, f"_orig_{key}", "*")) for key in CRONTAB_FIELDS)
        return Call("crontab", kwargs=tuple(fields))
    if hasattr(raw, "run_every"):
        return Call("schedule", (raw.run_every,))
    if hasattr(raw, "event") and hasattr(raw, "lat"):
        return Call("solar")
    return None


def _timedelta(call: Call) -> float:
    names = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")
    given = {**dict(zip(names, call.args, strict=False)), **dict(call.kwargs)}
    try:
        return timedelta(**given).total_seconds()
    except (TypeError, OverflowError, ValueError):
        raise UntranslatableError(f"schedule: {_unread(Unread(call.text))}") from None


def _every(seconds: float) -> dict[str, Any]:
    if not 1 <= seconds <= LONGEST:
        raise UntranslatableError(f"every {seconds:g} s: an interval is 1 second to ten years")
    if seconds != int(seconds):
        raise UntranslatableError(f"every {seconds:g} s: an interval is whole seconds")
    return {"every": format_duration(seconds)}


def _crontab(call: Call, timezone: str | None) -> dict[str, Any]:
    given = {**dict(zip(CRONTAB_FIELDS, call.args, strict=False)), **dict(call.kwargs)}
    words = [_field(key, given.get(key, "*")) for key in _OUR_ORDER]
    found = {"cron": our_cron(words, Days.BOTH)}
    return found if timezone in {None, "UTC"} else {**found, "timezone": str(timezone)}


def _field(key: str, raw: object) -> str:
    if raw is None:
        return "*"
    if isinstance(raw, str):
        return raw.replace(" ", "")
    if _whole(raw):
        return str(raw)
    if isinstance(raw, list | tuple | set | frozenset | range) and raw and all(map(_whole, raw)):
        return ",".join(str(each) for each in sorted(raw)[:_MOST_VALUES])
    raise UntranslatableError(f"{key}: {_unread(raw)}")


def _whole(raw: object) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool)


def _arguments(entry: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    named, positional = entry.get("kwargs"), entry.get("args")
    if not isinstance(named, Mapping | None):
        raise UntranslatableError(f"kwargs: {_unread(named)}")
    if not isinstance(positional, list | tuple | None):
        raise UntranslatableError(f"args: {_unread(positional)}")
    args = {str(key): _plain(value) for key, value in (named or {}).items()}
    if positional:
        if "args" in args:
            raise UntranslatableError(
                "has positional arguments, and a keyword argument called args"
            )
        args["args"] = [_plain(value) for value in positional]
        notes.append("jobs take named arguments only: the positional ones stand in args.args")
    return args


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Unread | Call):
        raise UntranslatableError(f"an argument: {_unread(value)}")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _options(entry: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    options = entry.get("options")
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        notes.append(f"options: {_unread(options)}")
        return {}
    notes += (_SAID[key] for key in options if key in _SAID)
    rest = sorted(str(key) for key in options if key not in _SAID and key != "queue")
    if rest:
        notes.append(f"options not carried over: {', '.join(rest)}")
    queue = options.get("queue")
    if queue is None:
        return {}
    if not isinstance(queue, str):
        notes.append(f"queue: {_unread(queue)}")
        return {}
    return {"queue": queue}


def _unread(raw: object) -> str:
    if raw is None:
        return "is missing"
    if isinstance(raw, Unread | Call):
        return f"{raw.text[:_LONGEST]} cannot be read without running the code (--execute)"
    return f"{repr(raw)[:_LONGEST]} has no counterpart here"


def _shown(entry: object) -> str:
    if isinstance(entry, Mapping):
        return "\n".join(f"{key}: {_shown(value)}" for key, value in entry.items())
    return entry.text if isinstance(entry, Unread | Call) else repr(entry)
