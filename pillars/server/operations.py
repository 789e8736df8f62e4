"""One operation is one entry of a table; the route and its description are both made from it.

The route reads query and body by the operation's fields before the handler runs, so a handler sees
only what the description promises, and a client hears of all its faults at once.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web

from pillars.queue.trace import read_traceparent
from pillars.server.fields import object_schema, read_object, read_query
from pillars.server.problems import Fault, ProblemError, invalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler
    from yarl import URL

    from pillars.db.database import Database
    from pillars.ground.events import Emit
    from pillars.ground.settings import Settings
    from pillars.server.fields import Field
    from pillars.worker.registry import Registry

LARGEST_BODY = 2 * 1024 * 1024
# Seconds in which a body must have come.
BODY_PATIENCE = 30.0
_LONG_BODY = 16 * 1024
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Context:
    """What handlers work with; `patience` bounds, in seconds, how long one may take.

    `registry` holds the job types of the application that is served here; others may exist.
    """

    database: Database
    settings: Settings
    emit: Emit
    registry: Registry
    patience: float


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was read and found in order; `trace` is its `traceparent`, if it has one."""

    url: URL
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns: JSON, with the status that goes with it."""

    body: Any
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """What an operation takes.

    Attributes:
        read: turns the parsed JSON into what the handler wants and adds every fault.
        required: without it, an empty body is read as an empty object.
    """

    schema: Mapping[str, Any]
    read: Callable[[Any, list[Fault]], Any]
    required: bool = True

    @classmethod
    def of(cls, *fields: Field, required: bool = True) -> Body:
        """Return the body that is an object of these fields."""

        def read(value: object, faults: list[Fault]) -> dict[str, Any]:
            return read_object(value, fields, faults)

        return cls(object_schema(fields), read, required)


# Nothing, or an object without keys.
NO_BODY = Body.of(required=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        name: the operation's id, unique.
        answer: JSON schema of the body of a success.
        statuses: those of a success; NO_CONTENT has no body.
        errors: further statuses it may answer with, as problems.
        patience: seconds it may take where that is more than others may.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Context, Call], Awaitable[Answer]]
    answer: Mapping[str, Any]
    statuses: tuple[int, ...] = (HTTPStatus.OK,)
    query: tuple[Field, ...] = ()
    body: Body | None = None
    errors: tuple[int, ...] = ()
    patience: float | None = None

    @property
    def writes(self) -> bool:
        """Whether it changes anything, and so needs the right to."""
        return self.method not in ("GET", "HEAD")


def route(
    operation: Operation,
    context: Context,
    authorize: Callable[[web.Request], None],
    prefix: str = "",
) -> web.RouteDef:
    """Return the route of an operation; its path is below `prefix`.

    Args:
        operation: an entry of the table.
        context: what its handler works with.
        authorize: raises ProblemError for a request that may not write.
        prefix: the sub-application's part of the path.
    """

    async def handle(request: web.Request) -> web.Response:
        if operation.writes:
            authorize(request)
        call = await _read(request, operation)
        async with asyncio.timeout(operation.patience or context.patience):
            answer = await operation.handler(context, call)
        if answer.status == HTTPStatus.NO_CONTENT:
            return web.Response(status=answer.status)
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    options = {"allow_head": True} if operation.method == "GET" else {}
    # By itself aiohttp takes no braces, which a schedule's name may hold.
    path = operation.path.removeprefix(prefix).replace("{name}", "{name:[^/]+}")
    return web.RouteDef(operation.method, path, ours(handle), options)


def ours(handler: Handler) -> Handler:
    """Mark a handler as one whose HTTP errors are to be answered as problems."""
    handler.pillars = True  # type: ignore[attr-defined] # functions take attributes
    return handler


async def _read(request: web.Request, operation: Operation) -> Call:
    faults: list[Fault] = []
    query = read_query(request.query.items(), operation.query, faults)
    body = None
    if operation.body is not None:
        data = await _data(request)
        require_json(request, data)
        read = partial(_read_body, operation.body, data, faults)
        # Reading a thousand schedules takes tenths of a second; other requests go on meanwhile.
        body = await asyncio.to_thread(read) if len(data) > _LONG_BODY else read()
    if faults:
        raise invalid(faults)
    # As the standard demands, one that is none is ignored.
    trace = read_traceparent(request.headers.get("traceparent", ""))
    return Call(request.rel_url, request.match_info, query, body, trace)


def _read_body(body: Body, data: bytes, faults: list[Fault]) -> Any:  # noqa: ANN401 - its own
    return body.read(parse(data) if data or body.required else {}, faults)


async def _data(request: web.Request) -> bytes:
    # The application's own limit is the user's to set; this one is ours.
    if (request.content_length or 0) > LARGEST_BODY:
        _too_large()
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > LARGEST_BODY:
                    _too_large()
    except (web.RequestPayloadError, OSError):
        # Not compressed as its Content-Encoding says, or the client is gone or silent: TimeoutError
        # is an OSError. Of long bodies that are spoilt aiohttp (3.14) never sees the end.
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "body_unreadable",
            "the body is not encoded as its headers say, or it is incomplete or comes too slowly",
        ) from None
    return bytes(data)


def require_json(request: web.Request, data: bytes) -> None:
    """Refuse a body that is not declared as JSON, and what an HTML form sends even without one.

    Raises:
        ProblemError: 415. A page of another site can send forms, but never JSON.
    """
    if request.content_type == JSON or not (data or request.content_type in _FORM_TYPES):
        return
    declared = "Content-Type" in request.headers
    given = f"not {request.content_type[:100]}" if declared else "and has to say so"
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        f"the body must be JSON, {given}: send the header Content-Type: {JSON}",
        headers={"Accept-Post": JSON},
    )


_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


def parse(data: bytes) -> Any:  # noqa: ANN401 - JSON is any of six things
    """Return the value of a JSON text.

    Raises:
        ProblemError: 400, with the line and column where the text stops being JSON.
    """
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "json_syntax",
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except UnicodeDecodeError as error:
        raise _unreadable(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(str(error)) from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value")


def _unreadable(reason: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST,
        "json_syntax",
        f"the body is not JSON: {reason}",
    )


def _too_large() -> NoReturn:
    raise ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"the body is larger than {LARGEST_BODY:,} bytes: send less at once, or store large data "
        "elsewhere and pass its key",
    )
