"""The schedules a request speaks of: by name, or by the keys of the files and their definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pillars.cron.book import ScheduleNotFoundError
from pillars.cron.definition import parse_schedule
from pillars.cron.faults import ScheduleError
from pillars.cron.schema import schedule_schema
from pillars.server.fields import (
    Field,
    array,
    escape_pointer,
    integer_text,
    kind_of,
    object_schema,
    read_object,
    require_storable,
)
from pillars.server.problems import MOST_FAULTS, Fault, at, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pillars.cron.definition import Schedule
    from pillars.cron.faults import Fault as CronFault
    from pillars.server.operations import Call

SCHEDULES = "/api/v1/schedules"
ONE = f"{SCHEDULES}/{{name}}"
MOST_SCHEDULES = 1_000
DEFAULT_PAGE, LONGEST_PAGE = 100, 1_000


def name_of(call: Call) -> str:
    """Return the name in a path.

    Raises:
        ScheduleNotFoundError: no schedule can have it.
    """
    name = call.path["name"]
    try:
        require_storable(name)
    except ValueError:
        raise ScheduleNotFoundError(f"there is no schedule {name[:100]!r}") from None
    return name


def read_unnamed(value: object, faults: list[Fault]) -> dict[str, Any]:
    """Return the keys of a schedule that does not say its name; `named` reads on."""
    if isinstance(value, dict):
        return value
    faults.append(Fault(f"must be an object, not {kind_of(value)}", pointer=""))
    return {}


def named(name: str, given: Mapping[str, Any]) -> Schedule:
    """Return the schedule of this name.

    Raises:
        ProblemError: 422 with every fault.
    """
    faults: list[Fault] = []
    if given.get("name", name) != name:
        detail = "name differs from the one in the path: leave it out, or use that path"
        faults.append(Fault(detail, pointer="/name"))
    try:
        schedule = parse_schedule({**given, "name": name})
    except ScheduleError as error:
        for fault in error.faults:
            if fault.key == "name":
                faults.append(Fault(fault.message, parameter="name"))
            else:
                faults.append(_pointed(fault, given))
    if faults:
        raise invalid(faults)
    return schedule


def read_schedules(value: object, faults: list[Fault]) -> list[Schedule]:
    """Return the schedules of a batch; add every fault."""
    before = len(faults)
    batch = read_object(value, [_BATCH], faults).get("schedules", [])
    if len(faults) > before:
        return []
    if not 1 <= len(batch) <= MOST_SCHEDULES:
        detail = f"schedules must hold 1 to {MOST_SCHEDULES:,} schedules, not {len(batch):,}"
        faults.append(Fault(detail, pointer="/schedules"))
        return []
    found: dict[str, Schedule] = {}
    for number, item in enumerate(batch):
        if len(faults) >= MOST_FAULTS:
            # Looking for what each might have meant takes its time, and nobody is shown it.
            detail = "there may be more to mend: reading stopped here"
            faults.append(Fault(detail, pointer=f"/schedules/{number}"))
            break
        mine: list[Fault] = []
        schedule = _read_schedule(item, mine)
        if schedule is not None and found.setdefault(schedule.name, schedule) is not schedule:
            mine.append(Fault(f"name {schedule.name!r} is given twice", pointer="/name"))
        faults += [at(fault, f"/schedules/{number}") for fault in mine]
    return list(found.values())


def unnamed_schema() -> dict[str, Any]:
    """Return the JSON schema of a schedule whose name is in the path."""
    return schedule_schema(named=False) | {
        "examples": [{"cron": "0 6 * * mon-fri", "timezone": "Europe/Berlin", "job": "noop"}],
    }


def schedules_schema() -> dict[str, Any]:
    """Return the JSON schema of a batch."""
    many = {"type": "array", "minItems": 1, "maxItems": MOST_SCHEDULES}
    return object_schema((_BATCH,)) | {
        "properties": {"schedules": many | {"items": schedule_schema(named=True)}},
    }


def _read_schedule(value: object, faults: list[Fault]) -> Schedule | None:
    given = read_unnamed(value, faults)
    if faults:
        return None
    try:
        return parse_schedule(given)
    except ScheduleError as error:
        faults += [_pointed(fault, given) for fault in error.faults]
        return None


def _pointed(fault: CronFault, given: Mapping[str, Any]) -> Fault:
    """Return a fault with its pointer; a key with dots of its own is one nobody knows."""
    parts = [] if fault.key is None else [fault.key]
    if fault.key is not None and fault.key not in given:
        parts = fault.key.split(".")
    pointer = "".join(f"/{escape_pointer(part)}" for part in parts)
    return Fault(fault.message, pointer=pointer)


_BATCH = Field("schedules", "the schedules", {"type": "array"}, array, required=True)
LIMIT = Field(
    "limit",
    f"how many; default {DEFAULT_PAGE}",
    {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE},
    integer_text(1, LONGEST_PAGE),
)
