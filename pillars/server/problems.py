"""Every error as `application/problem+json` (RFC 9457): what is wrong, where, and how to mend it.

`type` is always `about:blank`, so `title` is the status's own phrase; what distinguishes two
problems of one status is the member `code`. `errors` lists all faults of a request at once, each
with a JSON pointer into the body or the name of a query parameter.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from aiohttp import web

from pillars.cron.backfill import BackfillError
from pillars.cron.book import ScheduleConflictError, ScheduleNotFoundError
from pillars.cron.life import FireError
from pillars.ground.errors import PillarsError
from pillars.queue.desk import JobNotFoundError, JobStateError
from pillars.queue.jobs import JobError
from pillars.queue.limits import QueueLimitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp.typedefs import Handler

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER = 2
MOST_FAULTS = 100
# A pool that gives no connection in time raises an OperationalError of its own.
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
UNREACHABLE = (*_LOST, TimeoutError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request.

    Attributes:
        detail: a sentence that says how to mend it.
        pointer: where in the body, as a JSON pointer (RFC 6901); empty is the whole body.
        parameter: or the query parameter; one of the two is None.
        did_you_mean: the nearest known name where an unknown one was given.
    """

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    did_you_mean: str | None = None

    def as_json(self) -> dict[str, str]:
        """Return the members that are set, the pointer in its URI fragment form."""
        members = {
            "detail": self.detail,
            "pointer": None if self.pointer is None else f"#{self.pointer}",
            "parameter": self.parameter,
            "did_you_mean": self.did_you_mean,
        }
        return {name: value for name, value in members.items() if value is not None}


class ProblemError(PillarsError):
    """A request that cannot be served, with all a client needs to know."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **members: str | int,
    ) -> None:
        """Describe the problem.

        Args:
            status: the HTTP status.
            code: a stable word for programs.
            detail: a sentence for people.
            faults: everything wrong with the request; the first MOST_FAULTS are shown.
            headers: further headers of the response.
            members: further members of the problem.
        """
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> web.Response:
        """Return the problem as a response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": _phrase(self.status),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }
        if self.faults:
            body["errors"] = [fault.as_json() for fault in self.faults[:MOST_FAULTS]]
        return web.Response(
            status=self.status,
            text=json.dumps(body),
            content_type=CONTENT_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def invalid(faults: Sequence[Fault]) -> ProblemError:
    """Return the 422 for a request that is understood and holds something that cannot be."""
    if len(faults) == 1:
        detail = faults[0].detail
    else:
        detail = f"{len(faults):,} things are wrong with the request"
        if len(faults) > MOST_FAULTS:
            detail += f"; the first {MOST_FAULTS} are listed"
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, faults=faults)


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem; the user's own HTTP errors stay as they are."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST or not _is_ours(request):
            raise
        return _from_http(error, request).response()
    except Exception as error:  # noqa: BLE001 - the last line before the client
        return _from_exception(error, request).response()


def _is_ours(request: web.Request) -> bool:
    # What no route matched is answered here; what a user's handler raised is the user's answer.
    if request.match_info.http_exception is not None:
        return True
    return getattr(request.match_info.handler, "pillars", False)


def _from_http(error: web.HTTPException, request: web.Request) -> ProblemError:
    headers = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    details = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.path[:_LONGEST_ECHO]}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"use {headers.get('Allow', 'another method')} here",
    }
    status = HTTPStatus(error.status)
    detail = details.get(status, error.reason or status.phrase)
    code = status.name.lower()
    return ProblemError(status, code, detail, headers=headers)


def _from_exception(error: Exception, request: web.Request) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    ours = _is_ours(request)
    # In the user's handlers these are slips of their code: no fault of the client's, and a timeout
    # may be anybody's.
    for kind, (status, code) in _OURS.items() if ours else ():
        if isinstance(error, kind):
            return ProblemError(status, code, str(error))
    if isinstance(error, UNREACHABLE if ours else _LOST):
        _log.warning("%s while serving %s", type(error).__name__, _where(request))
        return database_away()
    return _unexpected(error, request)


def database_away() -> ProblemError:
    """Return the 503 for a database that does not answer; says nothing about where it is."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database_unavailable",
        f"the database did not answer in time; try again in {RETRY_AFTER} seconds",
        headers={"Retry-After": str(RETRY_AFTER)},
    )


def _unexpected(error: Exception, request: web.Request) -> ProblemError:
    error_id = uuid4().hex[:12]
    _log.error("error %s while serving %s", error_id, _where(request), exc_info=error)
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        f"something went wrong here; the server's log has it as error {error_id}",
        error_id=error_id,
    )


def problem_schema(status: int) -> dict[str, Any]:
    """Return the OpenAPI response object for a problem of this status."""
    reference = {"$ref": "#/components/schemas/Problem"}
    return {"description": _phrase(status), "content": {CONTENT_TYPE: {"schema": reference}}}


_FAULT_SCHEMA = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {"type": "string"},
        "pointer": {"type": "string", "description": "JSON pointer into the body, as a fragment"},
        "parameter": {"type": "string", "description": "the query parameter"},
        "did_you_mean": {"type": "string"},
    },
}
PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "a stable word for programs"},
        "detail": {"type": "string", "description": "a sentence for people"},
        "errors": {"type": "array", "items": _FAULT_SCHEMA},
        "error_id": {"type": "string", "description": "finds an unexpected error in the log"},
        "job_id": {"type": "integer", "description": "the job that was not to run"},
        "line": {"type": "integer"},
        "column": {"type": "integer"},
    },
}


def _where(request: web.Request) -> str:
    return f"{request.method} {route_of(request)}"


def route_of(request: web.Request) -> str:
    """Return the pattern of the route that serves a request, never its path."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def at(fault: Fault, prefix: str) -> Fault:
    """Return the fault as seen from further out: its pointer below `prefix`."""
    return fault if fault.pointer is None else replace(fault, pointer=prefix + fault.pointer)


_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")
_LONGEST_ECHO = 200
_OURS: dict[type[PillarsError], tuple[int, str]] = {
    JobError: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_job"),
    JobNotFoundError: (HTTPStatus.NOT_FOUND, "job_not_found"),
    JobStateError: (HTTPStatus.CONFLICT, "job_state"),
    QueueLimitError: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_queue"),
    ScheduleNotFoundError: (HTTPStatus.NOT_FOUND, "schedule_not_found"),
    ScheduleConflictError: (HTTPStatus.CONFLICT, "schedule_conflict"),
    BackfillError: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_backfill"),
    FireError: (HTTPStatus.CONFLICT, "schedule_busy"),
}
