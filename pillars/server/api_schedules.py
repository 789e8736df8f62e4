"""Schedules over HTTP: list, show, put one or many, remove."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pillars.cron import book, life
from pillars.cron.changes import lock_book
from pillars.server.fields import Field, one_of, text, yes_or_no
from pillars.server.operations import Answer, Body, Call, Context, Operation
from pillars.server.problems import Fault, invalid
from pillars.server.records import listing, schema_of, to_json
from pillars.server.schedule_bodies import (
    DEFAULT_PAGE,
    LIMIT,
    MOST_SCHEDULES,
    ONE,
    SCHEDULES,
    name_of,
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


async def list_schedules(context: Context, call: Call) -> Answer:
    """Return a page of schedules by name, or those that fire next."""
    query = dict(call.query)
    limit = query.pop("limit", DEFAULT_PAGE)
    if query.get("soonest"):
        _refuse_beside_soonest(query)
        return Answer({"schedules": to_json(await _list(context, limit, query)), "next": None})
    records = await _list(context, limit + 1, query)
    page = records[:limit]
    further = str(call.url.update_query(after=page[-1].name)) if len(records) > limit else None
    return Answer({"schedules": to_json(page), "next": further})


async def show_schedule(context: Context, call: Call) -> Answer:
    """Return one schedule."""
    return Answer(to_json(await book.show_schedule(context.database, name_of(call))))


async def put_schedule(context: Context, call: Call) -> Answer:
    """Create a schedule or replace its definition; the same again changes nothing."""
    schedule = named(call.path["name"], call.body)
    difference = await _put(context, [schedule])
    record = await book.show_schedule(context.database, schedule.name)
    if not difference.added:
        return Answer(to_json(record))
    headers = {"Location": f"{SCHEDULES}/{quote(schedule.name, safe='')}"}
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
    await life.remove(context.database, name_of(call), unwritten=True)
    return Answer(None, HTTPStatus.NO_CONTENT)


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


_RECORD = schema_of(book.ScheduleRecord)
_SOURCES = ("file", "api", "code")
_NAMES = {"type": "array", "items": {"type": "string"}}
_FILTERS = (
    LIMIT,
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
_CHANGES = {
    "type": "object",
    "required": ["added", "changed", "unchanged"],
    "properties": {"added": _NAMES, "changed": _NAMES, "unchanged": {"type": "integer"}},
}


OPERATIONS = (
    Operation(
        "GET",
        SCHEDULES,
        "listSchedules",
        "Schedules by name, page by page, or those that fire next",
        list_schedules,
        answer=listing("schedules", book.ScheduleRecord, paged=True),
        query=_FILTERS,
    ),
    Operation(
        "POST",
        SCHEDULES,
        "putSchedules",
        f"Create or replace up to {MOST_SCHEDULES:,} schedules, all or none",
        put_schedules,
        answer=_CHANGES,
        body=Body(schedules_schema(), read_schedules),
        errors=(HTTPStatus.CONFLICT,),
    ),
    Operation(
        "GET",
        ONE,
        "showSchedule",
        "One schedule",
        show_schedule,
        answer=_RECORD,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "PUT",
        ONE,
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
        ONE,
        "removeSchedule",
        "Delete a schedule that was made through the API",
        remove_schedule,
        answer={},
        statuses=(HTTPStatus.NO_CONTENT,),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
)
