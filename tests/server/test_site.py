from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiohttp import web

from pillars.cron.book import ScheduleNotFoundError
from pillars.db.connection import connect
from pillars.ground.events import RequestServed
from pillars.ground.settings import Settings
from pillars.queue.jobs import JobError
from pillars.server import api, discovery, openapi
from pillars.server.operations import Answer, Operation
from pillars.server.site import SiteError, build_site
from tests.server.conftest import OPS, SECRET, SomeApp

if TYPE_CHECKING:
    import psycopg
    from aiohttp.typedefs import Handler

    from pillars.db.database import Database
    from pillars.server.operations import Call, Context
    from tests.helpers import RecordingListener
    from tests.server.conftest import Client, Start


def an_app(*routes: web.RouteDef) -> SomeApp:
    app = SomeApp()
    app.web.add_routes(routes)
    return app


def answering(text: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return handler


async def test_the_users_routes_are_served_beside_ours(serve: Start) -> None:
    client = await serve(an_app(web.get("/hello/{name}", answering("hello"))))

    assert await (await client.get("/hello/you")).text() == "hello"
    assert await (await client.get("/healthz")).text() == "ok"
    assert (await client.get("/api/v1/jobs")).status == 200


async def test_the_status_page_makes_way_for_the_users_home(serve: Start) -> None:
    client = await serve(an_app(web.get("/", answering("mine"))))

    assert await (await client.get("/")).text() == "mine"
    assert "Next to fire" in await (await client.get("/pillars")).text()


async def test_a_route_for_everything_hides_nothing_of_ours(serve: Start) -> None:
    client = await serve(an_app(web.get("/{tail:.*}", answering("mine"))))

    assert await (await client.get("/")).text() == "mine"
    assert await (await client.get("/healthz")).text() == "ok"
    assert (await client.get("/api/v1/ring")).status == 200


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/openapi.json", "/sd/prometheus", "/api/v1", "/api/v1/jobs", "/api/v1/{x}/y"],
)
def test_a_route_of_the_users_where_ours_is_needed_is_an_error(
    path: str,
    nowhere: Database,
    events: RecordingListener,
) -> None:
    app = an_app(web.get(path, answering("mine")))

    with pytest.raises(SiteError, match="your application has routes that Pillars serves itself"):
        build_site(app, database=nowhere, settings=Settings(), emit=events, ops=OPS)


async def test_each_request_is_told_of_by_its_pattern(
    serve_dry: Start,
    events: RecordingListener,
) -> None:
    async def gone(_: web.Request) -> web.Response:
        raise web.HTTPGone

    client = await serve_dry(an_app(web.get("/gone/{what}", gone)))

    for method, path in [
        ("GET", "/api/v1/jobs/x"),
        ("GET", "/gone/x"),
        ("GET", "/nothing/here"),
        ("PURGE", "/api/v1/jobs"),
    ]:
        await client.request(method, path)

    served = await events.until(RequestServed, count=4)
    assert [(event.method, event.route, event.status) for event in served] == [
        ("GET", "/api/v1/jobs/{id}", 404),
        ("GET", "/gone/{what}", 410),
        ("GET", "unmatched", 404),
        ("OTHER", "unmatched", 405),
    ]
    assert all(event.seconds >= 0 for event in served)


async def test_a_client_that_goes_away_while_it_sends_is_no_error_of_ours(
    nowhere: Database, events: RecordingListener, caplog: pytest.LogCaptureFixture
) -> None:
    site = build_site(SomeApp(), database=nowhere, settings=Settings(), emit=events, ops=OPS)
    # As the process runs it; aiohttp's test server cancels the handlers of clients that are gone.
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    head = "POST /api/v1/jobs HTTP/1.1", "Host: localhost", "Content-Length: 100"
    writer.write("\r\n".join([*head, "", "{"]).encode())
    await writer.drain()

    writer.close()

    served = await events.until(RequestServed)
    await writer.wait_closed()
    await runner.cleanup()
    assert ([event.status for event in served], caplog.records) == ([400], [])


async def test_the_users_own_errors_stay_as_they_are(serve_dry: Start) -> None:
    async def refuse(_: web.Request) -> web.Response:
        raise web.HTTPForbidden(text="my words")

    client = await serve_dry(an_app(web.get("/mine", refuse)))

    response = await client.get("/mine")

    assert (response.status, await response.text()) == (403, "my words")


async def test_what_nobody_expected_is_logged_and_not_shown(
    serve_dry: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError(SECRET)

    client = await serve_dry(an_app(web.get("/mine", fail)))

    response = await client.get("/mine")

    problem = await response.json()
    assert (response.status, problem["code"]) == (500, "internal_error")
    assert SECRET not in await response.text()
    assert problem["error_id"] in caplog.text
    assert "GET /mine" in caplog.text


@pytest.mark.parametrize(
    "error",
    [TimeoutError(SECRET), JobError(SECRET), ScheduleNotFoundError(SECRET)],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_users_code_lets_slip_is_its_fault_and_not_the_clients(
    serve: Start, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def fail(_: web.Request) -> web.Response:
        raise error

    client = await serve(an_app(web.get("/mine", fail)))

    response = await client.get("/mine")

    assert (response.status, (await response.json())["code"]) == (500, "internal_error")
    assert SECRET not in await response.text()
    assert "GET /mine" in caplog.text


async def test_a_database_that_is_away_is_told_to_the_users_clients_too(
    serve_dry: Start, nowhere: Database
) -> None:
    async def enqueue(_: web.Request) -> web.Response:
        await connect(nowhere.dsn, "test")
        return web.Response()

    client = await serve_dry(an_app(web.get("/mine", enqueue)))

    response = await client.get("/mine")

    assert (response.status, response.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/api/v1/jobs"), ("GET", "/api/v1/jobs/1/retry"), ("POST", "/openapi.json")],
)
async def test_a_wrong_method_is_told_the_right_ones(
    dry: Client,
    method: str,
    path: str,
) -> None:
    response = await dry.request(method, path)

    problem = await response.json()
    assert (response.status, problem["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] in problem["detail"]


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api/v2", "/api/v1/jobs/"])
async def test_what_is_not_there_is_a_problem(dry: Client, path: str) -> None:
    response = await dry.get(path)

    assert response.content_type == "application/problem+json"
    assert (await response.json())["detail"] == f"there is nothing at {path}"


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/ring", "/sd/prometheus"])
async def test_an_absent_database_is_a_503_that_gives_nothing_away(
    dry: Client,
    path: str,
) -> None:
    response = await dry.get(path)

    text = await response.text()
    assert (response.status, (await response.json())["code"]) == (503, "database_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert not any(word in text for word in (SECRET, "somebody", "far", "127.0.0.1", "SELECT"))


async def test_faults_are_found_before_the_database_is_asked(
    dry: Client,
) -> None:
    assert (await dry.post("/api/v1/jobs", json={})).status == 422
    assert (await dry.post("/api/v1/jobs", json={"type": "a"})).status == 503


async def test_every_route_is_described_and_every_description_is_a_route(
    nowhere: Database,
    events: RecordingListener,
) -> None:
    site = build_site(SomeApp(), database=nowhere, settings=Settings(), emit=events, ops=OPS)
    routes = {
        (route.method, route.resource.canonical)
        for route in site.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    document = openapi.describe(
        (*api.OPERATIONS, *discovery.OPERATIONS, openapi.description_operation({})), OPS
    )
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert routes - {("GET", "/")} == described


async def test_the_description_is_served(dry: Client) -> None:
    response = await dry.get("/openapi.json")

    document = await response.json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/api/v1/jobs"]) == {"get", "post"}
    assert document["paths"]["/healthz"]["get"]["summary"] == "Tell that the process lives."
    names = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(names) == len(set(names))


def test_an_operation_that_is_in_the_table_is_in_the_description() -> None:
    async def handler(_context: Context, _call: Call) -> Answer:
        return Answer({})

    new = Operation("PUT", "/api/v1/new/{id}", "new", "New", handler, {"type": "object"})

    described = openapi.describe([new], [])["paths"]["/api/v1/new/{id}"]["put"]

    assert described["security"] == [{"token": []}, {}]
    assert [parameter["name"] for parameter in described["parameters"]] == ["id"]


def add_member(sql: psycopg.Connection[Any], role: str, name: str, url: str | None) -> None:
    sql.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, app_version, url) "
        "VALUES (%s, %s, %s, 'active', 1, '0', %s)",
        (uuid4(), role, name, url),
    )


async def test_prometheus_finds_each_member_that_serves_metrics(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "cron", "c1", "http://10.0.0.1:9100")
    add_member(sql, "server", "s1", "https://[fd00::1]:8000/")
    add_member(sql, "worker", "w1", None)

    response = await client.get("/sd/prometheus")

    assert response.content_type == "application/json"
    assert await response.json() == [
        {"targets": ["10.0.0.1:9100"], "labels": {"role": "cron", "name": "c1"}},
        {
            "targets": ["[fd00::1]:8000"],
            "labels": {"role": "server", "name": "s1", "__scheme__": "https"},
        },
    ]


async def test_workers_that_report_as_one_are_one_target(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "worker", "w#1", "http://10.0.0.1:9100")
    add_member(sql, "worker", "w#2", "http://10.0.0.1:9100")

    response = await client.get("/sd/prometheus")

    assert await response.json() == [
        {"targets": ["10.0.0.1:9100"], "labels": {"role": "worker", "name": "w"}},
    ]


async def test_members_are_listed_with_their_share(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "cron", "c1", "http://10.0.0.1:9100")

    (member,) = (await (await client.get("/api/v1/members")).json())["members"]

    contract = {"id", "role", "name", "state", "pid", "slots", "schedules", "heartbeat_age", "url"}
    assert contract <= set(member)
    assert (member["name"], member["slots"]) == ("c1", 0)


async def test_the_ring_is_shown_with_its_changes(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute(
        "INSERT INTO pillars.ring_log (version, reason, member_name, moved, members) "
        "VALUES (1, 'join', 'c1', 4096, 1)",
    )

    ring = await (await client.get("/api/v1/ring")).json()

    assert (ring["slots"], [change["reason"] for change in ring["log"]]) == (4096, ["join"])


async def test_queues_are_listed_with_their_depth(client: Client) -> None:
    await client.post("/api/v1/jobs", json={"jobs": [{"type": "a"}, {"type": "a", "delay": 60}]})

    (queue,) = (await (await client.get("/api/v1/queues")).json())["queues"]

    assert (queue["queue"], queue["available"], queue["scheduled"]) == ("default", 1, 1)


def add_schedule(sql: psycopg.Connection[Any], name: str) -> None:
    sql.execute(
        "INSERT INTO pillars.schedules (slot, name, timing, job, next_fire_at, definition, "
        "fingerprint) VALUES (0, %s, 'every 60', 'noop', '2030-01-01', %s, '')",
        (name, '{"every": "1m"}'),
    )


async def test_schedules_are_listed_by_name_page_by_page(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    for name in ("c", "a", "b & ü"):
        add_schedule(sql, name)

    path: str | None = "/api/v1/schedules?limit=1"
    seen = []
    while path is not None:
        page = await (await client.get(path)).json()
        seen += [schedule["name"] for schedule in page["schedules"]]
        path = page["next"]

    assert seen == ["a", "b & ü", "c"]


async def test_a_schedule_is_shown_by_name(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_schedule(sql, "nightly/a b")

    shown = await (await client.get("/api/v1/schedules/nightly%2Fa%20b")).json()
    missing = await client.get("/api/v1/schedules/nightly%2Fa%20c")

    assert shown["next_fire_at"] == "2030-01-01T00:00:00.000000Z"
    assert (missing.status, (await missing.json())["code"]) == (404, "schedule_not_found")


async def test_a_name_no_schedule_can_have_is_not_found(dry: Client) -> None:
    assert (await dry.get("/api/v1/schedules/a%00b")).status == 404
