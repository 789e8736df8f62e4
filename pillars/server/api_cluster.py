"""What runs and when over HTTP: schedules, members, the ring."""

from __future__ import annotations

from http import HTTPStatus

from pillars.cluster.members import MemberRecord, RingState, list_members, ring_state
from pillars.cron import book
from pillars.server.fields import Field, integer_text, require_storable, text
from pillars.server.operations import Answer, Call, Context, Operation
from pillars.server.records import listing, schema_of, to_json

_DEFAULT_PAGE, _LONGEST_PAGE = 100, 1_000


async def list_schedules(context: Context, call: Call) -> Answer:
    """Return a page of schedules by name."""
    limit = call.query.get("limit", _DEFAULT_PAGE)
    after = call.query.get("after")
    records = await book.list_schedules(context.database, after=after, limit=limit + 1)
    page = records[:limit]
    further = str(call.url.update_query(after=page[-1].name)) if len(records) > limit else None
    return Answer({"schedules": to_json(page), "next": further})


async def show_schedule(context: Context, call: Call) -> Answer:
    """Return one schedule."""
    name = call.path["name"]
    try:
        require_storable(name)
    except ValueError:
        raise book.ScheduleNotFoundError(f"there is no schedule {name[:100]!r}") from None
    return Answer(to_json(await book.show_schedule(context.database, name)))


async def list_all_members(context: Context, _: Call) -> Answer:
    """Return every live process."""
    return Answer({"members": to_json(await list_members(context.database))})


async def show_ring(context: Context, _: Call) -> Answer:
    """Return the ring with its latest changes."""
    return Answer(to_json(await ring_state(context.database)))


_SCHEDULES = "/api/v1/schedules"
_PAGE = (
    Field(
        "limit",
        f"how many; default {_DEFAULT_PAGE}",
        {"type": "integer", "minimum": 1, "maximum": _LONGEST_PAGE},
        integer_text(1, _LONGEST_PAGE),
    ),
    Field(
        "after",
        "only schedules whose name sorts after this one; `next` has it",
        {"type": "string", "minLength": 1, "maxLength": 200},
        text(200),
    ),
)
OPERATIONS = (
    Operation(
        "GET",
        _SCHEDULES,
        "listSchedules",
        "Schedules by name, page by page",
        list_schedules,
        answer=listing("schedules", book.ScheduleRecord, paged=True),
        query=_PAGE,
    ),
    Operation(
        "GET",
        f"{_SCHEDULES}/{{name}}",
        "showSchedule",
        "One schedule",
        show_schedule,
        answer=schema_of(book.ScheduleRecord),
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "GET",
        "/api/v1/members",
        "listMembers",
        "Every live process with its share of the ring",
        list_all_members,
        answer=listing("members", MemberRecord),
    ),
    Operation(
        "GET",
        "/api/v1/ring",
        "showRing",
        "The ring and its latest changes",
        show_ring,
        answer=schema_of(RingState),
    ),
)
