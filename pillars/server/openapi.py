"""The API's description, OpenAPI 3.1, made from the very table that registers the routes."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pillars.server.operations import JSON, Answer, Operation
from pillars.server.problems import PROBLEM_SCHEMA, problem_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from pillars.server.operations import Call, Context

PATH = "/openapi.json"
_WRITE_ERRORS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_BODY_ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
# What any operation may answer: a query it does not know, a fault here, a database that is away.
_ANY_ERRORS = (
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def description_operation(document: dict[str, Any]) -> Operation:
    """Return the operation that serves `document`; it may be filled later, by `describe`."""

    async def handler(_context: Context, _call: Call) -> Answer:
        return Answer(document)

    return Operation("GET", PATH, "describe", "This description", handler, {"type": "object"})


def describe(operations: Iterable[Operation], ops: Iterable[web.RouteDef]) -> dict[str, Any]:
    """Return the OpenAPI document of these operations and of the plain routes in `ops`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    for plain in ops:
        paths.setdefault(plain.path, {})[plain.method.lower()] = _plain(plain)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pillars",
            "version": version("pillars"),
            "description": "Jobs, schedules and members of a Pillars cluster.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM_SCHEMA},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body.required,
            "content": {JSON: {"schema": operation.body.schema}},
        }
    if operation.writes:
        # The empty one: a server on a loopback address may have no token.
        described["security"] = [{"token": []}, {}]
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    content = {JSON: {"schema": operation.answer}}
    successes = {
        str(int(status)): {"description": HTTPStatus(status).phrase}
        | ({} if status == HTTPStatus.NO_CONTENT else {"content": content})
        for status in operation.statuses
    }
    errors = {*operation.errors, *_ANY_ERRORS}
    errors.update(_WRITE_ERRORS if operation.writes else ())
    errors.update(_BODY_ERRORS if operation.body is not None else ())
    problems = {str(int(status)): problem_schema(status) for status in sorted(errors)}
    return {**successes, **problems}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    schemas: dict[str, dict[str, Any]] = {"id": {"type": "integer", "minimum": 1}}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schemas.get(name, {"type": "string"}),
        }
        for name in names
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.description,
            "schema": field.schema,
        }
        for field in operation.query
    ]


def _plain(plain: web.RouteDef) -> dict[str, Any]:
    summary = (inspect.getdoc(plain.handler) or plain.path).splitlines()[0]
    return {
        "operationId": plain.path.strip("/").replace("/", "_") or "root",
        "summary": summary,
        "responses": {"default": {"description": "See the status and the text"}},
    }
