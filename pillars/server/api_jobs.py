"""Jobs over HTTP: enqueue one or many, list, show, retry, cancel."""

from __future__ import annotations

import re
from http import HTTPStatus

from pillars.db.statements import load_statements
from pillars.queue import desk
from pillars.queue.enqueue import enqueue_alone
from pillars.queue.jobs import in_trace
from pillars.queue.states import JobState
from pillars.server.fields import Field, integer_text, one_of, text
from pillars.server.job_bodies import (
    MOST_JOBS,
    NAME_SCHEMA,
    job_name,
    jobs_schema,
    read_jobs,
)
from pillars.server.operations import NO_BODY, Answer, Body, Call, Context, Operation
from pillars.server.records import listing, schema_of, to_json

SQL = load_statements("pillars.server")
_DEFAULT_PAGE, _LONGEST_PAGE = 50, 200


async def enqueue_jobs(context: Context, call: Call) -> Answer:
    """Enqueue all jobs of the request or, if one cannot be, none.

    Answers 200 where there is nothing new, because the unique key of each job is taken.
    """
    jobs = in_trace([context.registry.at_home(job) for job in call.body], call.trace)
    ids, inserted, _ = await enqueue_alone(context.database, jobs, context.emit)
    headers = {"Location": f"{_JOBS}/{ids[0]}"} if len(ids) == 1 else {}
    status = HTTPStatus.CREATED if inserted else HTTPStatus.OK
    return Answer({"ids": ids, "enqueued": len(inserted)}, status, headers)


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
    """Cancel a job that waits, or ask its worker to stop it."""
    reason = call.body.get("reason", "cancelled through the API")
    await desk.cancel_job(context.database, _id(call), reason)
    return await show_job(context, call)


def _id(call: Call) -> int:
    word = call.path["id"]
    if not re.fullmatch(r"[0-9]{1,19}", word) or int(word) >= 2**63:
        raise desk.JobNotFoundError(f"there is no job {word[:100]!r}: ids are whole numbers")
    return int(word)


_REASON = Field(
    "reason",
    "kept with the job",
    {"type": "string", "minLength": 1, "maxLength": 500},
    text(500),
)


_JOBS = "/api/v1/jobs"
_IDS = {
    "type": "object",
    "required": ["ids", "enqueued"],
    "properties": {
        "ids": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "in order; of a job whose unique key is taken, the id that holds it",
        },
        "enqueued": {"type": "integer", "description": "how many are new; with 200 none is"},
    },
}
_RECORD = schema_of(desk.JobRecord)
_STATES = tuple(state.value for state in JobState)
_FILTERS = (
    Field("state", "only jobs in this state", {"enum": list(_STATES)}, one_of(*_STATES)),
    Field("type", "only jobs of this type", NAME_SCHEMA, job_name),
    Field("queue", "only jobs of this queue", NAME_SCHEMA, job_name),
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


OPERATIONS = (
    Operation(
        "POST",
        _JOBS,
        "enqueueJobs",
        f"Enqueue one job, or up to {MOST_JOBS:,} at once, all or none",
        enqueue_jobs,
        answer=_IDS,
        statuses=(HTTPStatus.CREATED, HTTPStatus.OK),
        body=Body(jobs_schema(), read_jobs),
    ),
    Operation(
        "GET",
        _JOBS,
        "listJobs",
        "Jobs, newest first, page by page; args and results of over "
        f"{desk.LONGEST_IN_LIST:,} bytes are null here, the job itself has them",
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
        body=NO_BODY,
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
    Operation(
        "POST",
        f"{_JOBS}/{{id}}/cancel",
        "cancelJob",
        "Cancel a job that waits, or ask the worker of one that runs to stop it",
        cancel_job,
        answer=_RECORD,
        body=Body.of(_REASON, required=False),
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
)
