from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pillars.cron.book import list_schedules, reconcile
from pillars.cron.changes import lock_book
from pillars.cron.definition import parse_schedule
from pillars.cron.fields import SCHEDULE
from pillars.db.database import Database
from pillars.ground.settings import Secret, Settings
from pillars.server.api import OPERATIONS
from pillars.server.problems import MOST_FAULTS
from pillars.server.schedule_bodies import (
    MOST_SCHEDULES,
    ONE,
    schedules_schema,
    unnamed_schema,
)
from pillars.server.site import build_site
from tests.helpers import PATIENCE, until_one_waits_for_a_lock
from tests.server.conftest import OPS, SomeApp

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from pillars.server.operations import Operation
    from tests.server.conftest import Client, Start

SCHEDULES = "/api/v1/schedules"
HOURLY = {"cron": "0 * * * *", "job": "noop"}
# The clock of the tests' database is the machine's: what must not come due meanwhile is far away.
YEARLY = {"cron": "0 0 1 1 *", "job": "noop"}


async def call(
    client: Client,
    method: str,
    path: str,
    body: object = ...,
) -> tuple[int, Any]:
    # A stream: the client warns of large bodies that are not.
    data = None if body is ... else BytesIO(json.dumps(body).encode())
    headers = {} if body is ... else {"Content-Type": "application/json"}
    response = await client.request(method, f"{SCHEDULES}{path}", data=data, headers=headers)
    return response.status, await response.json() if await response.read() else None


async def put_file(database: Database, *names: str, code: tuple[str, ...] = ()) -> None:
    """Write schedules as a cron would that found them in a file or in code."""
    schedules = [parse_schedule({"name": name, **HOURLY}) for name in names]
    origins = {name: "jobs:send" if name in code else "a.yaml:2" for name in names}
    async with database.transaction() as connection:
        await lock_book(connection)
        await reconcile(connection, schedules, origins, code)


def pointers(problem: dict[str, Any]) -> list[str]:
    return [error.get("pointer") or error["parameter"] for error in problem["errors"]]


def row(sql: psycopg.Connection[Any], name: str) -> tuple[Any, ...]:
    found = sql.execute("SELECT * FROM pillars.schedules WHERE name = %s", (name,)).fetchone()
    assert found is not None
    return found


# ---- put


async def test_a_schedule_is_created_and_fires_by_its_definition(client: Client) -> None:
    body = {**HOURLY, "timezone": "Europe/Berlin", "args": {"n": 1}, "timeout": "30s"}

    status, made = await call(client, "PUT", "/nightly", body)

    assert (status, made["source"], made["origin"], made["enabled"]) == (201, "api", None, True)
    assert made["next_fire_at"] is not None
    assert made["definition"] == {"name": "nightly", **body}
    assert await call(client, "GET", "/nightly") == (200, made)


async def test_its_place_is_told_when_it_is_created(client: Client) -> None:
    path = f"{SCHEDULES}/nightly%2Fa%20%7Bb%7D%20%C3%BC"

    response = await client.put(path, json=HOURLY)

    assert (response.status, response.headers["Location"]) == (201, path)
    assert (await (await client.get(path)).json())["name"] == "nightly/a {b} ü"


async def test_the_same_definition_again_changes_nothing(
    client: Client, sql: psycopg.Connection[Any]
) -> None:
    await call(client, "PUT", "/a", HOURLY)
    before = row(sql, "a")

    status, _ = await call(client, "PUT", "/a", {**HOURLY, "queue": "default"})

    assert status == 200
    assert row(sql, "a") == before


async def test_what_was_read_can_be_put_again(client: Client, sql: psycopg.Connection[Any]) -> None:
    _, made = await call(client, "PUT", "/a", HOURLY)
    before = row(sql, "a")

    assert await call(client, "PUT", "/a", made["definition"]) == (200, made)
    assert row(sql, "a") == before


async def test_an_edit_takes_back_jobs_that_are_not_due_and_outdates_all_plans(
    client: Client, sql: psycopg.Connection[Any]
) -> None:
    await call(client, "PUT", "/a", HOURLY)
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, schedule, fire_at, run_at, type)"
        " SELECT id, name, now() + interval '5 s', now() + interval '1 h', job"
        " FROM pillars.schedules",
    )
    version = sql.execute("SELECT version FROM pillars.schedules").fetchone()
    assert version is not None

    status, edited = await call(client, "PUT", "/a", YEARLY)

    assert (status, edited["definition"]["cron"]) == (200, YEARLY["cron"])
    assert edited["next_fire_at"].endswith("-01-01T00:00:00.000000Z")
    assert sql.execute("SELECT version > %s FROM pillars.schedules", version).fetchone() == (True,)
    waiting = "SELECT count(*) FROM pillars.jobs WHERE state = 'available'"
    assert sql.execute(waiting).fetchone() == (0,)


async def test_a_paused_schedule_stays_paused_when_it_is_replaced(client: Client) -> None:
    await call(client, "PUT", "/a", HOURLY)
    await call(client, "POST", "/a/pause")

    _, edited = await call(client, "PUT", "/a", YEARLY)

    assert (edited["enabled"], edited["paused_at"] is None) == (False, False)


@pytest.mark.parametrize(("code", "place"), [((), "a.yaml:2"), (("a",), "jobs:send")])
async def test_a_name_of_a_file_or_of_code_is_a_conflict_that_names_the_place(
    client: Client, database: Database, code: tuple[str, ...], place: str
) -> None:
    await put_file(database, "a", code=code)

    status, problem = await call(client, "PUT", "/a", YEARLY)

    assert (status, problem["code"]) == (409, "schedule_conflict")
    assert problem["detail"] == (
        f"schedule 'a' is written in {place}: change it there, or choose another name"
    )
    _, shown = await call(client, "GET", "/a")
    assert shown["definition"]["cron"] == HOURLY["cron"]


async def test_all_faults_are_named_at_once_with_a_pointer_each(dry: Client) -> None:
    body = {
        "crom": "0 6 * * *",
        "every": "1h",
        "at": "2030-01-01",
        "timezone": "Europe/Berln",
        "queue": 5,
        "dst": {"missing": "shit"},
        "retry": {"max_attempts": 0, "a/b~c": 1},
        "x.y": 1,
    }

    status, problem = await call(dry, "PUT", "/a", body)

    assert (status, problem["code"]) == (422, "invalid")
    assert sorted(pointers(problem)) == [
        "#/at",
        "#/crom",
        "#/dst/missing",
        "#/job",
        "#/queue",
        "#/retry/a~1b~0c",
        "#/retry/max_attempts",
        "#/timezone",
        "#/x.y",
    ]
    details = " ".join(error["detail"] for error in problem["errors"])
    assert "did you mean 'cron'" in details
    assert "did you mean 'Europe/Berlin'" in details


async def test_another_name_in_the_body_than_in_the_path_is_refused(dry: Client) -> None:
    status, problem = await call(dry, "PUT", "/a", {**HOURLY, "name": "b"})

    assert (status, pointers(problem)) == (422, ["#/name"])


async def test_a_name_no_schedule_can_have_is_refused(dry: Client) -> None:
    for name in ("x" * 201, "%00", "%20a", "a%0A"):
        status, problem = await call(dry, "PUT", f"/{name}", HOURLY)
        assert (status, pointers(problem)) == (422, ["name"])


@pytest.mark.parametrize("body", [[], "x", 5, True])
async def test_a_body_that_is_no_object_is_refused(dry: Client, body: object) -> None:
    for method, path in (("PUT", "/a"), ("POST", "")):
        status, problem = await call(dry, method, path, body)
        assert (status, pointers(problem)) == (422, ["#"])


async def test_of_many_that_put_the_same_at_once_one_creates_it(
    client: Client, database: Database
) -> None:
    answers = await asyncio.gather(*(call(client, "PUT", "/a", HOURLY) for _ in range(4)))

    assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
    assert len(await list_schedules(database)) == 1


# ---- many


async def test_a_batch_is_put_as_a_whole_and_tells_what_changed(
    client: Client, database: Database
) -> None:
    await call(client, "PUT", "/kept", HOURLY)
    await call(client, "PUT", "/edited", HOURLY)
    batch = [{"name": "kept", **HOURLY}, {"name": "edited", **YEARLY}, {"name": "new", **HOURLY}]

    status, told = await call(client, "POST", "", {"schedules": batch})

    assert status == 200
    assert told == {"added": ["new"], "changed": ["edited"], "unchanged": 1}
    assert [r.name for r in await list_schedules(database)] == ["edited", "kept", "new"]


async def test_a_batch_with_one_name_of_a_file_changes_nothing(
    client: Client, database: Database
) -> None:
    await put_file(database, "b")
    batch = [{"name": name, **HOURLY} for name in "abc"]

    status, problem = await call(client, "POST", "", {"schedules": batch})

    assert (status, problem["code"]) == (409, "schedule_conflict")
    assert [r.name for r in await list_schedules(database)] == ["b"]


async def test_faults_of_a_batch_point_into_it(dry: Client) -> None:
    batch = [{"name": "a", **HOURLY}, {"job": "noop"}, 5, {"name": "a", **HOURLY}]

    status, problem = await call(dry, "POST", "", {"schedules": batch})

    assert status == 422
    assert pointers(problem) == [
        "#/schedules/1/name",
        "#/schedules/1",
        "#/schedules/2",
        "#/schedules/3/name",
    ]


async def test_a_flood_of_faults_ends_the_reading(dry: Client) -> None:
    batch = [{"name": str(n), "job": "noop", "every": "nie"} for n in range(MOST_SCHEDULES)]

    status, problem = await call(dry, "POST", "", {"schedules": batch})

    assert (status, len(problem["errors"])) == (422, MOST_FAULTS)
    assert problem["detail"].startswith(f"{MOST_FAULTS + 1} things")


@pytest.mark.parametrize("count", [0, MOST_SCHEDULES + 1])
async def test_a_batch_has_bounds(dry: Client, count: int) -> None:
    status, problem = await call(dry, "POST", "", {"schedules": [{}] * count})

    assert (status, pointers(problem)) == (422, ["#/schedules"])


async def test_a_batch_of_full_size_is_put_at_once(
    client: Client, sql: psycopg.Connection[Any]
) -> None:
    batch = [{"name": f"s{n}", "cron": "H H * * *", "job": "noop"} for n in range(MOST_SCHEDULES)]

    status, told = await call(client, "POST", "", {"schedules": batch})

    assert (status, len(told["added"])) == (200, MOST_SCHEDULES)
    count = "SELECT count(*), count(DISTINCT next_fire_at) > 100 FROM pillars.schedules"
    assert sql.execute(count).fetchone() == (MOST_SCHEDULES, True)


# ---- remove, pause, resume


async def test_a_schedule_of_the_apis_is_removed(client: Client) -> None:
    await call(client, "PUT", "/a", HOURLY)

    assert await call(client, "DELETE", "/a") == (204, None)
    assert (await call(client, "GET", "/a"))[0] == 404
    assert (await call(client, "DELETE", "/a"))[0] == 404


async def test_a_schedule_that_would_come_back_is_not_removed(
    client: Client, database: Database
) -> None:
    await put_file(database, "a")

    status, problem = await call(client, "DELETE", "/a")

    assert (status, problem["code"]) == (409, "schedule_conflict")
    assert "a.yaml:2" in problem["detail"]
    assert len(await list_schedules(database)) == 1


async def test_a_schedule_that_a_file_takes_over_meanwhile_is_not_removed(
    client: Client, database: Database, sql: psycopg.Connection[Any]
) -> None:
    await call(client, "PUT", "/a", HOURLY)

    async with database.transaction() as connection:
        await lock_book(connection)
        removing = asyncio.create_task(call(client, "DELETE", "/a"))
        await until_one_waits_for_a_lock(database)
        sql.execute("UPDATE pillars.schedules SET source = 'file', origin = 'a.yaml:2'")

    assert (await removing)[0] == 409
    assert len(await list_schedules(database)) == 1


async def test_a_files_schedule_is_paused_and_resumed(client: Client, database: Database) -> None:
    await put_file(database, "a")

    status, paused = await call(client, "POST", "/a/pause")
    assert (status, paused["enabled"], paused["paused_at"] is None) == (200, False, False)
    status, resumed = await call(client, "POST", "/a/resume", {})
    assert (status, resumed["enabled"], resumed["paused_at"]) == (200, True, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/nobody"),
        ("POST", "/nobody/pause"),
        ("POST", "/nobody/resume"),
        ("POST", "/nobody/fire"),
        ("GET", "/nobody/history"),
        ("POST", "/nobody/backfill"),
        ("GET", "/nobody/next"),
        ("POST", "/a%00b/pause"),
    ],
)
async def test_what_is_not_there_is_not_found(client: Client, method: str, path: str) -> None:
    body = YESTERYEAR if path.endswith("backfill") else ...

    status, problem = await call(client, method, path, body)

    assert (status, problem["code"]) == (404, "schedule_not_found")


async def test_each_write_needs_the_token(serve_dry: Start) -> None:
    client = await serve_dry(api_token=Secret("s"))

    writes = [each for each in OPERATIONS if each.path.startswith(SCHEDULES) and each.writes]
    for operation in writes:
        path = operation.path.replace("{name}", "a")
        response = await client.request(operation.method, path, json={})
        assert response.status == 401, operation.name
    assert len(writes) >= 5


# ---- fire, and what became of it


async def test_a_schedule_is_fired_by_hand(client: Client) -> None:
    await call(client, "PUT", "/a", {**YEARLY, "args": {"n": 1}})

    status, fired = await call(client, "POST", "/a/fire")

    assert (status, fired["state"], fired["reason"]) == (201, "available", "fired by hand")
    job = await (await client.get(f"/api/v1/jobs/{fired['job_id']}")).json()
    assert (job["schedule"], job["args"]) == ("a", {"n": 1})


async def test_overlap_holds_for_a_fire_by_hand_unless_it_is_forced(client: Client) -> None:
    await call(client, "PUT", "/a", {**YEARLY, "overlap": "skip"})
    await call(client, "POST", "/a/fire", {"force": False})

    status, problem = await call(client, "POST", "/a/fire", {})
    assert (status, problem["code"]) == (409, "schedule_overlap")
    status, _ = await call(client, "POST", "/a/fire", {"force": True})
    assert status == 201

    _, page = await call(client, "GET", "/a/history")
    outcomes = [each["outcome"] for each in page["occurrences"]]
    assert outcomes == ["enqueued", "skipped", "enqueued"]


async def test_a_bad_force_is_refused(dry: Client) -> None:
    status, problem = await call(dry, "POST", "/a/fire", {"force": 1, "forse": True})

    assert (status, pointers(problem)) == (422, ["#/force", "#/forse"])


async def test_history_leads_from_page_to_page(client: Client) -> None:
    await call(client, "PUT", "/a", YEARLY)
    for _ in range(3):
        await call(client, "POST", "/a/fire")

    path: str | None = f"{SCHEDULES}/a/history?limit=1&outcome=enqueued"
    seen = []
    while path is not None:
        page = await (await client.get(path)).json()
        seen += [each["job_id"] for each in page["occurrences"]]
        path = page["next"]

    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 3


async def test_a_page_of_history_holds_all_ticks_of_its_last_instant(
    client: Client, sql: psycopg.Connection[Any]
) -> None:
    await call(client, "PUT", "/a", YEARLY)
    sql.execute(
        "INSERT INTO pillars.withdrawn_ticks (schedule_id, fire_at, schedule, reason, withdrawn_at)"
        " SELECT id, date_trunc('day', now()) - place / 2 * interval '1 day', name, place::text,"
        " now() + place * interval '1 s' FROM pillars.schedules, generate_series(0, 4) AS place"
    )

    path: str | None = f"{SCHEDULES}/a/history?limit=1"
    pages = []
    while path is not None:
        page = await (await client.get(path)).json()
        pages.append([each["reason"] for each in page["occurrences"]])
        path = page["next"]

    assert pages == [["1", "0"], ["3", "2"], ["4"]]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("outcome=lost", "outcome"), ("before=yesterday", "before"), ("limit=0", "limit")],
)
async def test_a_bad_query_of_history_is_refused(dry: Client, query: str, parameter: str) -> None:
    status, problem = await call(dry, "GET", f"/a/history?{query}")

    assert (status, pointers(problem)) == (422, [parameter])


YESTERYEAR = {"from": "2020-01-01", "to": "2020-01-01T05:00:00Z"}


async def test_a_backfill_enqueues_past_ticks_once(
    client: Client, sql: psycopg.Connection[Any]
) -> None:
    await call(client, "PUT", "/a", HOURLY)
    jobs = "SELECT count(*) FROM pillars.jobs WHERE extract(year FROM fire_at) = 2020"

    _, counted = await call(client, "POST", "/a/backfill", {**YESTERYEAR, "dry_run": True})
    assert (counted["ticks"], counted["enqueued"]) == (5, 5)
    assert sql.execute(jobs).fetchone() == (0,)

    for enqueued in (5, 0):
        status, done = await call(client, "POST", "/a/backfill", {**YESTERYEAR, "pace": 2})
        assert (status, done["ticks"], done["enqueued"]) == (200, 5, enqueued)
        assert sql.execute(jobs).fetchone() == (5,)


@pytest.mark.parametrize(
    ("body", "faulty"),
    [
        ({}, ["#/from", "#/to"]),
        ({**YESTERYEAR, "pace": 0, "dry_run": 1}, ["#/pace", "#/dry_run"]),
        ({**YESTERYEAR, "from": "0001-01-01", "till": "now"}, ["#/from", "#/till"]),
    ],
)
async def test_a_bad_span_is_refused(dry: Client, body: dict[str, Any], faulty: list[str]) -> None:
    status, problem = await call(dry, "POST", "/a/backfill", body)

    assert (status, sorted(pointers(problem))) == (422, sorted(faulty))


async def test_a_span_that_reaches_into_the_future_is_refused(client: Client) -> None:
    await call(client, "PUT", "/a", HOURLY)

    body = {"from": "2020-01-01", "to": "2999-01-01"}
    status, problem = await call(client, "POST", "/a/backfill", body)

    assert (status, problem["code"]) == (422, "invalid_backfill")
    assert "lies in the future" in problem["detail"]


# ---- look


async def test_schedules_are_listed_by_source_and_by_whether_they_fire(
    client: Client, database: Database
) -> None:
    await put_file(database, "c", "f", code=("c",))
    await call(client, "PUT", "/p", HOURLY)
    await call(client, "PUT", "/q", {**HOURLY, "enabled": False})

    async def names(query: str) -> list[str]:
        _, page = await call(client, "GET", f"?{query}")
        assert page["next"] is None
        return [record["name"] for record in page["schedules"]]

    assert await names("source=code") == ["c"]
    assert await names("source=file") == ["f"]
    assert await names("source=api") == ["p", "q"]
    assert await names("enabled=false") == ["q"]
    assert await names("enabled=true&source=api") == ["p"]


async def test_a_page_leads_to_the_next_with_the_same_filters(client: Client) -> None:
    for name in ("a", "b", "c"):
        await call(client, "PUT", f"/{name}", HOURLY)
    await call(client, "POST", "/b/pause")

    _, page = await call(client, "GET", "?limit=1&enabled=true")
    further = await (await client.get(page["next"])).json()

    assert [record["name"] for record in further["schedules"]] == ["c"]
    assert further["next"] is None


async def test_those_that_fire_next_come_soonest_first(client: Client) -> None:
    await call(client, "PUT", "/a", YEARLY)
    await call(client, "PUT", "/b", {"every": "1m", "job": "noop"})

    _, page = await call(client, "GET", "?soonest=true")

    assert [record["name"] for record in page["schedules"]] == ["b", "a"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("source=fiel", "source"),
        ("enabled=1", "enabled"),
        ("soonest=", "soonest"),
        ("soonest=true&after=a", "after"),
        ("soonest=true&enabled=true", "enabled"),
        ("limit=1001", "limit"),
        ("name=a", "name"),
    ],
)
async def test_a_bad_query_is_refused(dry: Client, query: str, parameter: str) -> None:
    status, problem = await call(dry, "GET", f"?{query}")

    assert (status, pointers(problem)) == (422, [parameter])


async def test_the_next_fires_are_told_in_order(client: Client) -> None:
    await call(client, "PUT", "/leap", {"cron": "0 9 29 2 *", "job": "noop", "timezone": "Japan"})

    status, told = await call(client, "GET", "/leap/next?n=3")

    assert (status, told["timezone"], told["enabled"]) == (200, "Japan", True)
    assert told["fires"] == [f"{year}-02-29T00:00:00.000000Z" for year in (2028, 2032, 2036)]


async def test_a_schedule_that_is_done_has_no_next_fire(client: Client) -> None:
    await call(client, "PUT", "/past", {"at": "2001-01-01", "job": "noop"})

    _, told = await call(client, "GET", "/past/next")

    assert told["fires"] == []


# ---- the description, and whatever a client may send

UNNAMED = Draft202012Validator(unnamed_schema())

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=()), max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
# What may well stand in a file; several of them together are accepted more often than not.
sound = st.sampled_from(
    [
        {"timezone": "Europe/Berlin"},
        {"args": {"a": [1, {"b": None}]}},
        {"queue": "mail", "priority": -5},
        {"catchup": "all", "catchup_window": "1d", "catchup_limit": 7},
        {"overlap": "skip"},
        {"jitter": 60},
        {"dst": {"missing": "skip"}},
        {"start_at": "2026-10-25T02:30:00+01:00"},
        {"end_at": "2999-12-31"},
        {"enabled": False},
        {"timeout": 1.5},
        {"retry": {"max_attempts": 3, "base": "1s"}},
    ]
)
times = st.sampled_from(
    [
        {"cron": "0 6 * * *"},
        {"cron": "*/7 * * * * *"},
        {"every": "90s", "phase": 30},
        {"every": 3600},
        {"at": "2026-10-25T12:30:00"},
    ]
)
keys = st.sampled_from([each.name for each in SCHEDULE if each.name != "name"]) | texts
odd = st.dictionaries(keys, anything, max_size=3)


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one body of several."""
    return {"job": "noop"} | {key: value for part in parts for key, value in part.items()}


plausible = st.builds(lambda time, more: together([time, *more]), times, st.lists(sound))
bodies = plausible | st.builds(lambda body, more: body | more, plausible, odd) | odd | anything
path_names = st.text(max_size=10) | st.sampled_from(
    ["a", "next", "..", "x" * 201, "{name}", "a/b", "a\0b"]
)


@dataclass
class Remote:
    """A site and its client, driven from synchronous tests."""

    runner: asyncio.Runner
    client: Client

    def call(self, method: str, path: str, body: object = ...) -> tuple[int, Any]:
        return self.runner.run(call(self.client, method, path, body))


@pytest.fixture
def remote(dsn: Secret) -> Iterator[Remote]:
    """A client of a site over the test's own database, for tests with many examples."""
    with asyncio.Runner() as runner:
        database = Database(dsn, "test", lambda _: None)

        async def start() -> Client:
            site = build_site(
                SomeApp(),
                database=database,
                settings=Settings(),
                emit=lambda _: None,
                ops=OPS,
                patience=PATIENCE,
            )
            client = TestClient(TestServer(site))
            await client.start_server()
            return client

        client = runner.run(start())
        yield Remote(runner, client)
        runner.run(client.close())
        runner.run(database.close())


many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@many
@given(body=bodies)
def test_whatever_is_put_is_stored_as_described_or_refused_with_pointers(
    remote: Remote, body: Any
) -> None:
    remote.call("DELETE", "/fuzz")

    status, answer = remote.call("PUT", "/fuzz", body)

    assert status in {201, 422}
    if status == 201:
        assert UNNAMED.is_valid(body)
        assert remote.call("PUT", "/fuzz", answer["definition"]) == (200, answer)
    else:
        for pointer in pointers(answer):
            assert pointer.startswith("#")


@many
@given(
    operation=st.sampled_from([each for each in OPERATIONS if each.path.startswith(ONE)]),
    name=path_names,
    body=st.just({}) | st.just(YESTERYEAR) | bodies,
)
def test_no_request_is_too_odd_for_an_answer(
    remote: Remote, operation: Operation, name: str, body: Any
) -> None:
    path = operation.path.removeprefix(SCHEDULES).replace("{name}", quote(name, safe=""))

    status, _ = remote.call(operation.method, path, body)

    assert status < 500


@many
@given(body=st.fixed_dictionaries({"schedules": st.lists(bodies, max_size=4)}) | anything)
def test_whatever_stands_in_a_batch_is_put_or_refused(remote: Remote, body: Any) -> None:
    status, _ = remote.call("POST", "", body)

    assert status in {200, 422}


@pytest.mark.parametrize("schema", [unnamed_schema(), schedules_schema()])
def test_the_description_of_a_body_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
