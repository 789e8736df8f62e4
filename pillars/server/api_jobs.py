"""Jobs over HTTP: enqueue one or many, list, show, retry, cancel."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pillars.db.connection import fetch
from pillars.db.statements import load_statements
from pillars.queue import desk
from pillars.queue.jobs import JobError, NewJob, check_job, enqueue
from pillars.queue.states import JobState
from pillars.server.fields import (
    Field,
    ReadError,
    instant,
    integer,
    integer_text,
    json_object,
    kind_of,
    one_of,
    read_object,
    seconds,
    text,
)
from pillars.server.operations import Answer, Body, Call, Context, Operation
from pillars.server.problems import Fault, at
from pillars.server.records import listing, schema_of, to_json

if TYPE_CHECKING:
    from datetime import datetime

    from pillars.worker.registry import Registry

SQL = load_statements("pillars.server")
MOST_JOBS = 1_000
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}"
_LONGEST_DELAY = 10 * 365 * 86_400
_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 0.001, 30 * 86_400
_LAST_YEAR = 9_000
_DEFAULT_PAGE, _LONGEST_PAGE = 50, 200


@dataclass(frozen=True, slots=True)
class Wish:
    """A job as a request asks for it; `delay` in seconds, None for none."""

    job: NewJob
    delay: float | None
    queue_given: bool

    def granted(self, registry: Registry, now: datetime | None) -> NewJob:
        """Return the job to enqueue: on its type's queue unless told otherwise, delayed from now.

        A delay of nothing stays "at once": workers are woken for it.
        """
        job = self.job
        handler = registry.get(job.type)
        if handler is not None and not self.queue_given:
            job = replace(job, queue=handler.queue)
        if self.delay and now is not None:
            job = replace(job, run_at=now + timedelta(seconds=self.delay))
        return job


async def enqueue_jobs(context: Context, call: Call) -> Answer:
    """Enqueue all jobs of the request or, if one cannot be, none."""
    wishes: list[Wish] = call.body
    async with context.database.connection() as connection:
        now = None
        if any(wish.delay for wish in wishes):
            ((now,),) = await fetch(connection, SQL["now"])
        jobs = [wish.granted(context.registry, now) for wish in wishes]
        # One INSERT statement: it commits by itself, whole or not at all.
        ids = await enqueue(connection, jobs, context.emit)
    headers = {"Location": f"{_JOBS}/{ids[0]}"} if len(ids) == 1 else {}
    return Answer({"ids": ids}, HTTPStatus.CREATED, headers)


async def list_jobs(context: Context, call: Call) -> Answer:
    """Return a page of jobs, newest first."""
    query = dict(call.query)
    limit = query.pop("limit", _DEFAULT_PAGE)
    state = query.pop("state", None)
    jobs = await desk.list_jobs(
        context.database,
        **query,
        state=JobState(state) if state else None,
        limit=limit + 1,
    )
    page = jobs[:limit]
    further = str(call.url.update_query(before=page[-1].id)) if len(jobs) > limit else None
    return Answer({"jobs": to_json(page), "next": further})


async def show_job(context: Context, call: Call) -> Answer:
    """Return one job."""
    return Answer(to_json(await desk.show_job(context.database, _id(call))))


async def retry_job(context: Context, call: Call) -> Answer:
    """Make a job that ended badly available again."""
    await desk.retry_job(context.database, _id(call))
    return await show_job(context, call)


async def cancel_job(context: Context, call: Call) -> Answer:
    """Cancel a job that waits."""
    reason = call.body.get("reason", "cancelled through the API")
    await desk.cancel_job(context.database, _id(call), reason)
    return await show_job(context, call)


def read_jobs(value: object, faults: list[Fault]) -> list[Wish]:
    """Return the jobs a request body asks for; add every fault."""
    if not isinstance(value, dict) or "jobs" not in value:
        job = _read_job(value, "", faults)
        return [job] if job else []
    batch = read_object(value, [_BATCH], faults).get("jobs", [])
    if not 1 <= len(batch) <= MOST_JOBS:
        if not faults:
            detail = f"jobs must hold 1 to {MOST_JOBS:,} jobs, not {len(batch):,}"
            faults.append(Fault(detail, pointer="/jobs"))
        return []
    found = (_read_job(item, f"/jobs/{number}", faults) for number, item in enumerate(batch))
    return [job for job in found if job is not None]


def _read_job(value: object, pointer: str, faults: list[Fault]) -> Wish | None:
    mine: list[Fault] = []
    given = read_object(value, _JOB, mine)
    if "delay" in given and "run_at" in given:
        mine.append(Fault("give run_at or delay, not both", pointer="/delay"))
    delay = given.pop("delay", None)
    wish = None
    if not mine:
        try:
            wish = Wish(NewJob(**given), delay, "queue" in given)
            check_job(wish.job)
        except JobError as error:
            mine.append(Fault(str(error), pointer=_blamed(str(error))))
    faults += [at(fault, pointer) for fault in mine]
    return None if mine else wish


def _blamed(sentence: str) -> str:
    # The queue's sentences begin with the field's name.
    word = sentence.partition(" ")[0]
    return f"/{word}" if word in {field.name for field in _JOB} else ""


def _id(call: Call) -> int:
    word = call.path["id"]
    if not re.fullmatch(r"[0-9]{1,19}", word) or int(word) >= 2**63:
        raise desk.JobNotFoundError(f"there is no job {word[:100]!r}: ids are whole numbers")
    return int(word)


def _array(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ReadError(f"must be an array, not {kind_of(value)}")
    return value


def _instant_within_reach(value: object) -> datetime:
    moment = instant(value)
    if moment.year > _LAST_YEAR:
        raise ReadError(f"must be before the year {_LAST_YEAR}")
    return moment


_name = text(128, re.compile(NAME))
_NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME}$"}
_JOB = (
    Field("type", "the name its handler is registered under", _NAME_SCHEMA, _name, required=True),
    Field("args", "the handler's arguments, 1 MiB at most", {"type": "object"}, json_object),
    Field("queue", "default: the job type's, where this server knows it", _NAME_SCHEMA, _name),
    Field(
        "priority",
        "lower first, as in nice; default 0",
        {"type": "integer", "minimum": -32_768, "maximum": 32_767},
        integer(-32_768, 32_767),
    ),
    Field(
        "run_at",
        "not before this instant; RFC 3339 with an offset",
        {"type": "string", "format": "date-time"},
        _instant_within_reach,
    ),
    Field(
        "delay",
        "seconds from now, by the database's clock; instead of run_at",
        {"type": "number", "minimum": 0, "maximum": _LONGEST_DELAY},
        seconds(0, _LONGEST_DELAY),
    ),
    Field(
        "max_attempts",
        "how often it is tried; default: the job type's",
        {"type": "integer", "minimum": 1, "maximum": 32_767},
        integer(1, 32_767),
    ),
    Field(
        "timeout",
        "seconds an attempt may take; default: the job type's",
        {"type": "number", "minimum": _SHORTEST_TIMEOUT, "maximum": _LONGEST_TIMEOUT},
        seconds(_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT),
    ),
)
_BATCH = Field("jobs", "the jobs", {"type": "array"}, _array, required=True)
_REASON = Field(
    "reason",
    "kept with the job",
    {"type": "string", "minLength": 1, "maxLength": 500},
    text(500),
)


def object_schema(fields: tuple[Field, ...], **more: object) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: _property(field) for field in fields},
        **more,
    }


def _property(field: Field) -> dict[str, Any]:
    schema = dict(field.schema)
    if not field.required:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": field.description}


def _jobs_schema() -> dict[str, Any]:
    # Either may be null, which is not given.
    not_both = {
        "required": ["run_at", "delay"],
        "properties": {"run_at": {"type": "string"}, "delay": {"type": "number"}},
    }
    job = object_schema(_JOB, **{"not": not_both})
    jobs = {"type": "array", "minItems": 1, "maxItems": MOST_JOBS, "items": job}
    batch = {
        "type": "object",
        "additionalProperties": False,
        "required": ["jobs"],
        "properties": {"jobs": jobs},
    }
    return {
        "oneOf": [job, batch],
        "examples": [{"type": "mail.welcome", "args": {"to": "a@example.org"}, "delay": 60}],
    }


_JOBS = "/api/v1/jobs"
_IDS = {
    "type": "object",
    "required": ["ids"],
    "properties": {"ids": {"type": "array", "items": {"type": "integer"}}},
}
_RECORD = schema_of(desk.JobRecord)
_STATES = tuple(state.value for state in JobState)
_FILTERS = (
    Field("state", "only jobs in this state", {"enum": list(_STATES)}, one_of(*_STATES)),
    Field("type", "only jobs of this type", _NAME_SCHEMA, _name),
    Field("queue", "only jobs of this queue", _NAME_SCHEMA, _name),
    Field(
        "schedule",
        "only jobs of this schedule",
        {"type": "string", "minLength": 1, "maxLength": 200},
        text(200),
    ),
    Field(
        "before",
        "only jobs with a lower id; `next` has it",
        {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
        integer_text(1),
    ),
    Field(
        "limit",
        f"how many; default {_DEFAULT_PAGE}",
        {"type": "integer", "minimum": 1, "maximum": _LONGEST_PAGE},
        integer_text(1, _LONGEST_PAGE),
    ),
)


def _read_nothing(value: object, faults: list[Fault]) -> dict[str, Any]:
    return read_object(value, (), faults)


def _read_reason(value: object, faults: list[Fault]) -> dict[str, Any]:
    return read_object(value, (_REASON,), faults)


OPERATIONS = (
    Operation(
        "POST",
        _JOBS,
        "enqueueJobs",
        f"Enqueue one job, or up to {MOST_JOBS:,} at once, all or none",
        enqueue_jobs,
        answer=_IDS,
        status=HTTPStatus.CREATED,
        body=Body(_jobs_schema(), read_jobs),
    ),
    Operation(
        "GET",
        _JOBS,
        "listJobs",
        "Jobs, newest first, page by page",
        list_jobs,
        answer=listing("jobs", desk.JobRecord, paged=True),
        query=_FILTERS,
    ),
    Operation(
        "GET",
        f"{_JOBS}/{{id}}",
        "showJob",
        "One job",
        show_job,
        answer=_RECORD,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Operation(
        "POST",
        f"{_JOBS}/{{id}}/retry",
        "retryJob",
        "Make a dead, cancelled or failed job available at once",
        retry_job,
        answer=_RECORD,
        body=Body(object_schema(()), _read_nothing, required=False),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "POST",
        f"{_JOBS}/{{id}}/cancel",
        "cancelJob",
        "Cancel a job that waits",
        cancel_job,
        answer=_RECORD,
        body=Body(object_schema((_REASON,)), _read_reason, required=False),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
)
