"""Schedules over HTTP: list, show, put one or many, remove, pause, resume, fire, look both ways."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pillars.cron import book, life
from pillars.cron.changes import database_time, lock_book
from pillars.cron.definition import Timing
from pillars.cron.fires import fires_between
from pillars.cron.history import Occurrence, Outcome, history
from pillars.ground.events import JobsEnqueued
from pillars.server.fields import (
    Field,
    instant,
    integer_text,
    object_schema,
    one_of,
    read_object,
    require_storable,
    text,
    true_or_false,
    yes_or_no,
)
from pillars.server.operations import NO_BODY, Answer, Body, Call, Context, Operation
from pillars.server.problems import Fault, ProblemError, invalid
from pillars.server.records import listing, rfc3339, schema_of, to_json
from pillars.server.schedule_bodies import (
    MOST_SCHEDULES,
    named,
    read_schedules,
    read_unnamed,
    schedules_schema,
    unnamed_schema,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillars.cron.book import Difference, ScheduleRecord
    from pillars.cron.definition import Schedule

_DEFAULT_PAGE, _LONGEST_PAGE = 100, 1_000
_DEFAULT_NEXT, _MOST_NEXT = 10, 1_000
_END_OF_TIME = 2**53


async def list_schedules(context: Context, call: Call) -> Answer:
    """Return a page of schedules by name, or those that fire next."""
    query = dict(call.query)
    limit = query.pop("limit", _DEFAULT_PAGE)
    if query.get("soonest"):
        _refuse_beside_soonest(query)
        return Answer({"schedules": to_json(await _list(context, limit, query)), "next": None})
    records = await _list(context, limit + 1, query)
    page = records[:limit]
    further = str(call.url.update_query(after=page[-1].name)) if len(records) > limit else None
    return Answer({"schedules": to_json(page), "next": further})


async def show_schedule(context: Context, call: Call) -> Answer:
    """Return one schedule."""
    return Answer(to_json(await book.show_schedule(context.database, _name(call))))


async def put_schedule(context: Context, call: Call) -> Answer:
    """Create a schedule or replace its definition; the same again changes nothing."""
    schedule = named(call.path["name"], call.body)
    difference = await _put(context, [schedule])
    record = await book.show_schedule(context.database, schedule.name)
    if not difference.added:
        return Answer(to_json(record))
    headers = {"Location": f"{_SCHEDULES}/{quote(schedule.name, safe='')}"}
    return Answer(to_json(record), HTTPStatus.CREATED, headers)


async def put_schedules(context: Context, call: Call) -> Answer:
    """Create or replace all schedules of the request or, if one cannot be, none."""
    schedules: list[Schedule] = call.body
    difference = await _put(context, schedules)
    unchanged = len(schedules) - len(difference.added) - len(difference.changed)
    return Answer(
        {
            "added": list(difference.added),
            "changed": list(difference.changed),
            "unchanged": unchanged,
        },
    )


async def remove_schedule(context: Context, call: Call) -> Answer:
    """Delete a schedule made through the API."""
    name = _name(call)
    record = await book.show_schedule(context.database, name)
    if record.source != "api":
        raise book.ScheduleConflictError(
            f"schedule {name!r} is written in {record.origin or record.source}, from where it "
            "would come back: delete it there, or pause it",
        )
    await life.remove(context.database, name)
    return Answer(None, HTTPStatus.NO_CONTENT)


async def pause_schedule(context: Context, call: Call) -> Answer:
    """Stop a schedule, whoever made it; its jobs that are not due are taken back."""
    await life.pause(context.database, _name(call))
    return await show_schedule(context, call)


async def resume_schedule(context: Context, call: Call) -> Answer:
    """Let a paused schedule go on from now."""
    await life.resume(context.database, _name(call))
    return await show_schedule(context, call)


async def fire_schedule(context: Context, call: Call) -> Answer:
    """Enqueue a job of a schedule at once, unless its overlap policy keeps it from running."""
    fired = await life.fire(context.database, _name(call), force=call.body.get("force", False))
    if fired.skipped:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "schedule_overlap",
            f"it is not fired: {fired.reason}; `force: true` lets it run all the same",
            job_id=fired.job_id,
        )
    context.emit(JobsEnqueued(fired.queue, 1))
    headers = {"Location": f"/api/v1/jobs/{fired.job_id}"}
    return Answer(to_json(fired), HTTPStatus.CREATED, headers)


async def show_history(context: Context, call: Call) -> Answer:
    """Return what became of a schedule's ticks, latest first, page by page."""
    query = dict(call.query)
    limit = query.pop("limit", _DEFAULT_PAGE)
    outcome = query.pop("outcome", None)
    found = await history(
        context.database,
        _name(call),
        limit + 1,
        outcome=Outcome(outcome) if outcome else None,
        **query,
    )
    page = found[:limit]
    further = None
    if len(found) > limit:
        further = str(call.url.update_query(before=rfc3339(page[-1].fire_at)))
    return Answer({"occurrences": to_json(page), "next": further})


async def next_fires(context: Context, call: Call) -> Answer:
    """Return when a schedule fires next."""
    record = await book.show_schedule(context.database, _name(call))
    timing = Timing.decode(record.timing)
    async with context.database.connection() as connection:
        now = int(await database_time(connection))
    count = call.query.get("n", _DEFAULT_NEXT)
    # Leap days of a weekday are searched for by the century.
    fires = await asyncio.to_thread(fires_between, timing, now, _END_OF_TIME, count)
    return Answer(
        {
            "timezone": timing.timezone,
            "enabled": record.enabled,
            "fires": to_json([datetime.fromtimestamp(fire, UTC) for fire in fires]),
        },
    )


async def _list(context: Context, limit: int, query: dict[str, Any]) -> list[ScheduleRecord]:
    return await book.list_schedules(context.database, limit=limit, **query)


async def _put(context: Context, schedules: Sequence[Schedule]) -> Difference:
    async with context.database.transaction() as connection:
        await lock_book(connection)
        return await book.put(connection, schedules)


def _refuse_beside_soonest(query: dict[str, Any]) -> None:
    if faults := [
        Fault(f"{name} has no meaning beside soonest", parameter=name)
        for name in ("after", "enabled")
        if name in query
    ]:
        raise invalid(faults)


def _name(call: Call) -> str:
    name = call.path["name"]
    try:
        require_storable(name)
    except ValueError:
        raise book.ScheduleNotFoundError(f"there is no schedule {name[:100]!r}") from None
    return name


_SCHEDULES = "/api/v1/schedules"
_ONE = f"{_SCHEDULES}/{{name}}"
_RECORD = schema_of(book.ScheduleRecord)
_SOURCES = ("file", "api", "code")
_NAMES = {"type": "array", "items": {"type": "string"}}
_LIMIT = Field(
    "limit",
    f"how many; default {_DEFAULT_PAGE}",
    {"type": "integer", "minimum": 1, "maximum": _LONGEST_PAGE},
    integer_text(1, _LONGEST_PAGE),
)
_FILTERS = (
    _LIMIT,
    Field(
        "after",
        "only schedules whose name sorts after this one; `next` has it",
        {"type": "string", "minLength": 1, "maxLength": 200},
        text(200),
    ),
    Field("source", "only those made there", {"enum": list(_SOURCES)}, one_of(*_SOURCES)),
    Field(
        "enabled",
        "only those that fire (true), or only those that are paused or disabled (false)",
        {"type": "boolean"},
        yes_or_no,
    ),
    Field(
        "soonest",
        "those that fire next, soonest first, instead of all by name",
        {"type": "boolean"},
        yes_or_no,
    ),
)
_FORCE = Field("force", "run beside whatever runs of it", {"type": "boolean"}, true_or_false)
_OUTCOMES = tuple(outcome.value for outcome in Outcome)
_OCCURRENCES = (
    _LIMIT,
    Field("outcome", "only those", {"enum": list(_OUTCOMES)}, one_of(*_OUTCOMES)),
    Field(
        "before",
        "only ticks before this instant; `next` has it",
        {"type": "string", "format": "date-time"},
        instant,
    ),
)
_COUNT = Field(
    "n",
    f"how many; default {_DEFAULT_NEXT}",
    {"type": "integer", "minimum": 1, "maximum": _MOST_NEXT},
    integer_text(1, _MOST_NEXT),
)
_FIRES = {
    "type": "object",
    "required": ["timezone", "enabled", "fires"],
    "properties": {
        "timezone": {"type": "string"},
        "enabled": {"type": "boolean", "description": "false: none of these will be fired"},
        "fires": {"type": "array", "items": {"type": "string", "format": "date-time"}},
    },
}
_CHANGES = {
    "type": "object",
    "required": ["added", "changed", "unchanged"],
    "properties": {"added": _NAMES, "changed": _NAMES, "unchanged": {"type": "integer"}},
}


def _read_force(value: object, faults: list[Fault]) -> dict[str, Any]:
    return read_object(value, (_FORCE,), faults)


OPERATIONS = (
    Operation(
        "GET",
        _SCHEDULES,
        "listSchedules",
        "Schedules by name, page by page, or those that fire next",
        list_schedules,
        answer=listing("schedules", book.ScheduleRecord, paged=True),
        query=_FILTERS,
    ),
    Operation(
        "POST",
        _SCHEDULES,
        "putSchedules",
        f"Create or replace up to {MOST_SCHEDULES:,} schedules, all or none",
        put_schedules,
        answer=_CHANGES,
        body=Body(schedules_schema(), read_schedules),
        errors=(HTTPStatus.CONFLICT,),
    ),
    Operation(
        "GET",
        _ONE,
        "showSchedule",
        "One schedule",
        show_schedule,
        answer=_RECORD,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "PUT",
        _ONE,
        "putSchedule",
        "Create a schedule or replace its definition; the same again changes nothing",
        put_schedule,
        answer=_RECORD,
        statuses=(HTTPStatus.OK, HTTPStatus.CREATED),
        body=Body(unnamed_schema(), read_unnamed),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "DELETE",
        _ONE,
        "removeSchedule",
        "Delete a schedule that was made through the API",
        remove_schedule,
        answer={},
        statuses=(HTTPStatus.NO_CONTENT,),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "POST",
        f"{_ONE}/pause",
        "pauseSchedule",
        "Stop a schedule; its jobs that are not due are taken back",
        pause_schedule,
        answer=_RECORD,
        body=NO_BODY,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "POST",
        f"{_ONE}/resume",
        "resumeSchedule",
        "Let a paused schedule go on from now; the time it was paused is not caught up",
        resume_schedule,
        answer=_RECORD,
        body=NO_BODY,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "POST",
        f"{_ONE}/fire",
        "fireSchedule",
        "Enqueue a job of a schedule at once, also of a paused one; its ticks are not touched",
        fire_schedule,
        answer=schema_of(life.Fired),
        statuses=(HTTPStatus.CREATED,),
        body=Body(object_schema((_FORCE,)), _read_force, required=False),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "GET",
        f"{_ONE}/history",
        "showHistory",
        "What became of each tick of a schedule and why, latest first, page by page",
        show_history,
        answer=listing("occurrences", Occurrence, paged=True),
        query=_OCCURRENCES,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "GET",
        f"{_ONE}/next",
        "nextFires",
        "When a schedule fires next",
        next_fires,
        answer=_FIRES,
        query=(_COUNT,),
        errors=(HTTPStatus.NOT_FOUND,),
    ),
)
