"""The life of a schedule over HTTP: pause, resume, fire, backfill, look ahead and back."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pillars.cron import book, life
from pillars.cron.backfill import FASTEST, PACE, Backfilled, backfill
from pillars.cron.history import Occurrence, history
from pillars.cron.outcomes import Outcome
from pillars.cron.readers import moment
from pillars.cron.upcoming import upcoming
from pillars.ground.events import JobsEnqueued
from pillars.server.fields import (
    Field,
    ReadError,
    instant,
    integer_text,
    number,
    one_of,
    true_or_false,
)
from pillars.server.operations import NO_BODY, Answer, Body, Call, Context, Operation
from pillars.server.problems import ProblemError
from pillars.server.records import listing, rfc3339, schema_of, to_json
from pillars.server.schedule_bodies import DEFAULT_PAGE, LIMIT, ONE, name_of

if TYPE_CHECKING:
    from datetime import datetime


_DEFAULT_NEXT, _MOST_NEXT = 10, 1_000
_SLOWEST = 0.001
# A hundred thousand ticks, a thousand to a transaction.
_BACKFILL_PATIENCE = 60.0
_WALL = "without an offset it is in the schedule's time zone"


async def pause_schedule(context: Context, call: Call) -> Answer:
    """Stop a schedule, whoever made it; its jobs that are not due are taken back."""
    await life.pause(context.database, name_of(call))
    return await _shown(context, call)


async def resume_schedule(context: Context, call: Call) -> Answer:
    """Let a paused schedule go on from now."""
    await life.resume(context.database, name_of(call))
    return await _shown(context, call)


async def fire_schedule(context: Context, call: Call) -> Answer:
    """Enqueue a job of a schedule at once, unless its overlap policy keeps it from running."""
    fired = await life.fire(context.database, name_of(call), force=call.body.get("force", False))
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


async def backfill_schedule(context: Context, call: Call) -> Answer:
    """Enqueue past ticks of a schedule; those that have a job are left alone."""
    span = dict(call.body)
    start, end = span.pop("from"), span.pop("to")
    name = name_of(call)
    done = await backfill(context.database, name, start, end, emit=context.emit, **span)
    return Answer(to_json(done))


async def show_history(context: Context, call: Call) -> Answer:
    """Return what became of a schedule's ticks, latest first, page by page."""
    query = dict(call.query)
    limit = query.pop("limit", DEFAULT_PAGE)
    outcome = query.pop("outcome", None)
    found = await history(
        context.database,
        name_of(call),
        limit + 1,
        outcome=Outcome(outcome) if outcome else None,
        **query,
    )
    # What shares the last instant stays together, since the next page begins before it.
    page = found
    if len(found) > limit and found[limit].fire_at != found[limit - 1].fire_at:
        page = found[:limit]
    further = None
    if len(found) > limit:
        further = str(call.url.update_query(before=rfc3339(page[-1].fire_at)))
    return Answer({"occurrences": to_json(page), "next": further})


async def next_fires(context: Context, call: Call) -> Answer:
    """Return when a schedule fires next."""
    count = call.query.get("n", _DEFAULT_NEXT)
    found = await upcoming(context.database, name_of(call), count)
    return Answer(
        {
            "timezone": found.timezone,
            "enabled": found.schedule.enabled,
            "fires": to_json(found.fires),
        },
    )


async def _shown(context: Context, call: Call) -> Answer:
    return Answer(to_json(await book.show_schedule(context.database, name_of(call))))


def _moment(value: object) -> datetime:
    try:
        return moment().read(value)  # type: ignore[no-any-return] # of this kind it is one
    except ValueError as error:
        raise ReadError(str(error)) from None


_RECORD = schema_of(book.ScheduleRecord)
_FORCE = Field("force", "run beside whatever runs of it", {"type": "boolean"}, true_or_false)
_SPAN = (
    Field("from", f"the first tick; {_WALL}", moment().schema, _moment, required=True),
    Field("to", f"where it ends, at most now; {_WALL}", moment().schema, _moment, required=True),
    Field(
        "pace",
        f"how many jobs may start a second; default {PACE:g}",
        {"type": "number", "minimum": _SLOWEST, "maximum": FASTEST},
        number(_SLOWEST, FASTEST),
    ),
    Field("dry_run", "only count", {"type": "boolean"}, true_or_false),
)
_OUTCOMES = tuple(outcome.value for outcome in Outcome)
_OCCURRENCES = (
    LIMIT,
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


OPERATIONS = (
    Operation(
        "POST",
        f"{ONE}/pause",
        "pauseSchedule",
        "Stop a schedule; its jobs that are not due are taken back",
        pause_schedule,
        answer=_RECORD,
        body=NO_BODY,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "POST",
        f"{ONE}/resume",
        "resumeSchedule",
        "Let a paused schedule go on from now; the time it was paused is not caught up",
        resume_schedule,
        answer=_RECORD,
        body=NO_BODY,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "POST",
        f"{ONE}/fire",
        "fireSchedule",
        "Enqueue a job of a schedule at once, also of a paused one; its ticks are not touched",
        fire_schedule,
        answer=schema_of(life.Fired),
        statuses=(HTTPStatus.CREATED,),
        body=Body.of(_FORCE, required=False),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "POST",
        f"{ONE}/backfill",
        "backfillSchedule",
        "Enqueue past ticks of a schedule, paced; those that have a job are left alone",
        backfill_schedule,
        answer=schema_of(Backfilled),
        body=Body.of(*_SPAN),
        errors=(HTTPStatus.NOT_FOUND,),
        patience=_BACKFILL_PATIENCE,
    ),
    Operation(
        "GET",
        f"{ONE}/history",
        "showHistory",
        "What became of each tick of a schedule and why, latest first, page by page",
        show_history,
        answer=listing("occurrences", Occurrence, paged=True),
        query=_OCCURRENCES,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "GET",
        f"{ONE}/next",
        "nextFires",
        "When a schedule fires next",
        next_fires,
        answer=_FIRES,
        query=(_COUNT,),
        errors=(HTTPStatus.NOT_FOUND,),
    ),
)
