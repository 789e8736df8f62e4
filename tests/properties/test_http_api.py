"""Whatever comes in over HTTP: no 5xx, and every answer as the API's own description says.

Requests are made from the description, for each operation, half of them spoilt in some way. An
error is a problem document, no answer holds a secret, and what is refused changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

import jsonschema
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.app import App
from pillars.cron.book import put, reconcile
from pillars.cron.definition import parse_schedule
from pillars.cron.life import pause
from pillars.ground.events import RequestServed
from pillars.ground.settings import Secret, Settings
from pillars.server import api, discovery, fields
from pillars.server.openapi import describe, description_operation
from pillars.server.problems import CONTENT_TYPE
from pillars.server.site import build_site
from tests.helpers import PATIENCE
from tests.properties.wire import TOKEN, Request, requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from socket import socket

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

Send = Any
OPERATIONS = (*api.OPERATIONS, *discovery.OPERATIONS, description_operation({}))
DESCRIBED: Final = {
    operation["operationId"]: (path, method, operation)
    for path, methods in describe(OPERATIONS, ())["paths"].items()
    for method, operation in methods.items()
}
PROBLEM: Final = describe((), ())["components"]["schemas"]["Problem"]
SECRETS: Final = (TOKEN, "postgresql://", "postgres@", "Traceback")
# What a request may change.
TABLES: Final = ("jobs", "schedules", "queues", "members", "ring", "ring_log", "withdrawn_ticks")
STATE = "SELECT " + ", ".join(
    f"(SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM pillars.{table} AS t)"
    for table in TABLES
)
SEED = """
TRUNCATE pillars.jobs, pillars.schedules, pillars.queues, pillars.withdrawn_ticks,
    pillars.removed_schedules RESTART IDENTITY;
INSERT INTO pillars.jobs (type, state, finished_at, attempt, error) VALUES
    ('waits', 'available', NULL, 0, NULL), ('ended', 'dead', now(), 5, 'boom'),
    ('done', 'succeeded', now(), 1, NULL);
INSERT INTO pillars.queues (name, concurrency) VALUES ('default', 3);
"""
FEW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Answer:
    """What came back, whether the database was changed, and whether the site was reached at all."""

    status: int
    kind: str
    headers: str
    body: bytes
    changed: bool = False
    reached: bool = True


# Who goes on sending what is refused already may lose the answer with the connection.
CUT_OFF: Final = Answer(HTTPStatus.BAD_REQUEST, CONTENT_TYPE, "", b"")


@pytest.fixture
async def send(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[[Request], Awaitable[Answer]]]:
    """Send a request to a site over a database with a little of everything."""
    monkeypatch.setattr("pillars.server.operations.BODY_PATIENCE", 0.5)
    site = build_site(
        App(),
        database=database,
        settings=replace(Settings(), api_token=Secret(TOKEN)),
        emit=events,
        ops=(),
        patience=PATIENCE,
    )
    runner = web.AppRunner(site, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def sent(request: Request) -> Answer:
        before, heard = _state(sql), len(events.of(RequestServed))
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(request.wire())
        try:
            async with asyncio.timeout(PATIENCE):
                answer = _parsed(await _answer(reader), request.method)
        except ConnectionResetError:
            answer = CUT_OFF
        finally:
            writer.transport.abort()
        return replace(
            answer,
            changed=_state(sql) != before,
            reached=answer is not CUT_OFF and len(events.of(RequestServed)) > heard,
        )

    yield sent
    await runner.cleanup()


async def seed(database: Database, sql: psycopg.Connection[Any]) -> None:
    sql.execute(SEED)
    names = "mine", "paused", "a b/c"
    one = {"job": "noop", "every": "1h", "overlap": "skip"}
    async with database.transaction() as connection:
        await reconcile(connection, [parse_schedule({"name": "filed", **one})], {})
        await put(connection, [parse_schedule({"name": name, **one}) for name in names])
    await pause(database, "paused")


@FEW
@pytest.mark.parametrize("name", DESCRIBED)
@given(data=st.data())
async def test_every_answer_is_one_that_the_description_knows(
    send: Send,
    database: Database,
    sql: psycopg.Connection[Any],
    name: str,
    data: st.DataObject,
) -> None:
    await seed(database, sql)
    asked = data.draw(st.lists(requests(*DESCRIBED[name]), min_size=1, max_size=3))

    for request in asked:
        answer = await send(request)
        assert faults(request, answer) == [], (request, answer)


# ---- the judge


def faults(request: Request, answer: Answer) -> list[str]:
    """Return what is wrong with an answer."""
    shown = answer.headers + answer.body.decode("utf-8", "replace")
    found = [f"it shows {secret}" for secret in SECRETS if secret in shown]
    if answer.status >= 500:
        return [*found, "a 5xx"]
    if not answer.reached:
        # What is no sound HTTP/1.1 is refused by aiohttp itself, in its own words.
        refused = answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.EXPECTATION_FAILED)
        return found if refused and not answer.changed else [*found, "served past the site"]
    if answer.status >= 400:
        return found + _faults_of_a_refusal(request, answer)
    found += ["a look that changed something"] if answer.changed and request.looks else []
    return found + _undescribed(request, answer)


def _faults_of_a_refusal(request: Request, answer: Answer) -> list[str]:
    if answer.kind != CONTENT_TYPE:
        return ["no problem document"]
    body = json.loads(answer.body)
    found = _unlike(PROBLEM, body)
    found += ["another status in the body"] if body["status"] != answer.status else []
    # A tick that is skipped is put on record.
    if answer.changed and body["code"] != "schedule_overlap":
        found.append("refused, and yet it changed something")
    # What leads to no operation is not described.
    return found if body["code"] == "not_found" else found + _undescribed(request, answer)


def _undescribed(request: Request, answer: Answer) -> list[str]:
    _, _, operation = DESCRIBED[request.operation]
    described = operation["responses"].get(str(answer.status))
    if described is None:
        return [f"an undescribed {answer.status}"]
    if "content" not in described:
        return ["a body where none is described"] if answer.body else []
    content = described["content"].get(answer.kind)
    if content is None:
        return [f"an undescribed {answer.kind}"]
    # The schema of all problems was held before.
    return (
        [] if answer.kind == CONTENT_TYPE else _unlike(content["schema"], json.loads(answer.body))
    )


def _unlike(schema: Mapping[str, Any], body: Any) -> list[str]:
    judge = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return [f"not of its schema: {error.message}" for error in judge.iter_errors(body)]


def _state(sql: psycopg.Connection[Any]) -> Any:
    return sql.execute(STATE).fetchone()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read as much as was announced: aiohttp closes late where what was sent is spoilt."""
    data = b""
    while not _is_whole(data) and (more := await reader.read(65_536)):
        data += more
    return data


def _is_whole(data: bytes) -> bool:
    head, end, body = data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and announced is not None and len(body) >= int(announced[1])


def _parsed(data: bytes, method: str) -> Answer:
    response = HTTPResponse(cast("socket", _Received(data)), method=method)
    response.begin()
    kind = response.headers.get_content_type()
    return Answer(response.status, kind, str(response.headers), response.read())


class _Received:
    """Bytes that were received, as http.client wants them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


# ---- it can fail

ASKED = Request("showJob", "GET", "/api/v1/jobs/1", (), b"")
PROBLEM_BODY = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "code": "job_not_found",
    "detail": "there is no job 1",
}


def problem(status: int = 404, **members: object) -> Answer:
    body = {**PROBLEM_BODY, "status": status, **members}
    return Answer(status, CONTENT_TYPE, "", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (problem(), []),
        (problem(500), ["a 5xx"]),
        (problem(418), ["an undescribed 418"]),
        (problem(detail=7), ["not of its schema: 7 is not of type 'string'"]),
        (replace(problem(), changed=True), ["refused, and yet it changed something"]),
        (replace(problem(), kind="text/html"), ["no problem document"]),
        (problem(detail=f"use {TOKEN}"), [f"it shows {TOKEN}"]),
        (
            Answer(200, "application/json", "", b"[]"),
            ["not of its schema: [] is not of type 'object'"],
        ),
    ],
)
def test_the_judge_finds_what_is_wrong(answer: Answer, found: list[str]) -> None:
    assert faults(ASKED, answer) == found


async def test_a_guard_that_is_missing_is_found(
    send: Send, database: Database, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await seed(database, sql)
    request = Request("listJobs", "GET", "/api/v1/jobs?schedule=%00", (), b"")
    assert faults(request, await send(request)) == []

    monkeypatch.setattr(fields, "require_storable", lambda _: None)

    assert faults(request, await send(request)) == ["a 5xx"]
