from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from psycopg.conninfo import make_conninfo

from pillars.db.database import Database
from pillars.ground.settings import Secret
from pillars.server.html import Html, element, join
from pillars.server.status_page import span
from tests.server.conftest import SECRET, SomeApp
from tests.server.test_site import add_member, add_schedule, answering

if TYPE_CHECKING:
    import psycopg

    from tests.helpers import RecordingListener
    from tests.server.conftest import Client, Start

HOSTILE = "<script>alert('x')</script>\"&"
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;"


def add_job(sql: psycopg.Connection[Any], type_: str, queue: str = "default") -> None:
    sql.execute(
        "INSERT INTO pillars.jobs (type, queue, run_at) VALUES (%s, %s, '2020-01-01')",
        (type_, queue),
    )


def add_dead_job(sql: psycopg.Connection[Any], type_: str, error: str) -> None:
    sql.execute(
        "INSERT INTO pillars.jobs (type, state, finished_at, error) "
        "VALUES (%s, 'dead', '2020-01-01', %s)",
        (type_, error),
    )


async def test_the_page_answers_who_owns_what_waits_fires_next_and_failed(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "cron", "cron-one", None)
    add_schedule(sql, "nightly")
    add_job(sql, "mail.welcome", "mail")
    add_dead_job(sql, "report", "out of paper")

    response = await client.get("/")

    page = await response.text()
    assert (response.status, response.content_type) == (200, "text/html")
    for word in ("cron-one", "nightly", "mail", "report", "out of paper", "every 1m"):
        assert word in page


async def test_the_page_tells_the_time_in_utc_whatever_the_zone_of_the_session(
    start: Start, dsn: Secret, events: RecordingListener
) -> None:
    elsewhere = Secret(make_conninfo(dsn.reveal(), options="-c TimeZone=Asia/Tokyo"))
    database = Database(elsewhere, "test", events)
    hours = [f"as of {datetime.now(UTC):%H}"]

    page = await (await (await start(database)).get("/")).text()

    await database.close()
    hours.append(f"as of {datetime.now(UTC):%H}")
    assert any(hour in page for hour in hours)


async def test_hostile_text_from_the_database_is_escaped(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "cron", HOSTILE, None)
    add_schedule(sql, HOSTILE)
    add_job(sql, HOSTILE, HOSTILE)
    add_dead_job(sql, HOSTILE, HOSTILE)

    page = await (await client.get("/")).text()

    assert "<script" not in page
    assert page.count(ESCAPED) == 5


async def test_a_row_that_cannot_be_read_hides_no_other_part(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    add_member(sql, "cron", "cron-one", None)
    add_dead_job(sql, "report", "out of paper")
    sql.execute("UPDATE pillars.jobs SET created_at = 'infinity'")

    response = await client.get("/")

    page = await response.text()
    assert response.status == 200
    assert "cron-one" in page
    assert "this could not be read now" in page


async def test_the_policy_allows_the_pages_own_style_and_nothing_else(client: Client) -> None:
    response = await client.get("/")

    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    page = await response.text()
    assert " style=" not in page
    assert "<script" not in page


async def test_the_page_refreshes_itself_until_told_to_hold_still(client: Client) -> None:
    assert 'http-equiv="refresh"' in await (await client.get("/")).text()
    assert 'http-equiv="refresh"' not in await (await client.get("/?still")).text()


async def test_the_users_pages_are_linked(serve: Start) -> None:
    app = SomeApp()
    app.web.add_routes([web.get("/signup", answering("")), web.get("/x/{y}", answering(""))])
    client = await serve(app)

    page = await (await client.get("/")).text()

    assert 'href="/signup"' in page
    assert "/x/{y}" not in page


async def test_without_a_database_the_page_says_so(dry: Client) -> None:
    response = await dry.get("/")

    page = await response.text()
    assert response.status == 503
    assert "The database does not answer" in page
    assert SECRET not in page


def test_what_is_not_an_element_is_text() -> None:
    assert element("p", "<&>", class_='"') == '<p class="&quot;">&lt;&amp;&gt;</p>'
    assert join("<", Html("<br>"), None, 1, [element("b", ">")]) == "&lt;<br>1<b>&gt;</b>"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (12_000, "3 h 20 min"),
        (90_000, "1 d 1 h"),
        (86_401, "1 d"),
    ],
)
def test_a_length_of_time_is_told_in_two_units(seconds: float, words: str) -> None:
    assert span(seconds) == words
