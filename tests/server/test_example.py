from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

import pillars.example

if TYPE_CHECKING:
    import psycopg

    from pillars.app import App
    from pillars.db.database import Database
    from tests.helpers import RecordingListener
    from tests.server.conftest import Client, Start


@pytest.fixture
def app(database: Database, events: RecordingListener) -> App:
    """The example anew: a web application starts once."""
    app = importlib.reload(pillars.example).app
    app.bind(database, events)
    return app


@pytest.fixture
async def client(serve: Start, app: App) -> Client:
    return await serve(app)


def mails(sql: psycopg.Connection[Any]) -> list[tuple[str, dict[str, str]]]:
    rows = sql.execute("SELECT queue, args FROM pillars.jobs WHERE type = 'mail.welcome'")
    return rows.fetchall()


async def test_a_sign_up_answers_at_once_and_leaves_the_mail_to_a_worker(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    response = await client.post("/signup", data={"email": " you@example.org "})

    assert response.status == 202
    assert "you@example.org" in await response.text()
    assert mails(sql) == [("mail", {"to": "you@example.org"})]


async def test_a_second_sign_up_sends_no_second_mail(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    for _ in range(2):
        response = await client.post("/signup", json={"email": "you@example.org"})
        assert response.status == 202
        assert await response.json() == {"email": "you@example.org", "status": "accepted"}

    assert len(mails(sql)) == 1


async def test_a_sign_up_that_cannot_be_stored_enqueues_nothing(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute("ALTER TABLE example.signups ADD CHECK (email <> 'you@example.org')")

    response = await client.post("/signup", json={"email": "you@example.org"})

    assert response.status == 500
    assert mails(sql) == []


@pytest.mark.parametrize(
    "body", ["{}", "[]", "null", "{", '{"email": "@"}', '{"email": "a@b\\u0000"}']
)
async def test_what_is_no_address_is_refused(
    client: Client,
    sql: psycopg.Connection[Any],
    body: str,
) -> None:
    headers = {"Content-Type": "application/json"}

    response = await client.post("/signup", data=body, headers=headers)

    assert response.status == 400
    assert mails(sql) == []


async def test_the_answer_to_a_form_is_escaped(client: Client) -> None:
    response = await client.post("/signup", data={"email": "<script>@example.org"})

    assert "<script>" not in await response.text()


async def test_the_form_is_linked_from_the_status_page(client: Client) -> None:
    assert 'href="/signup"' in await (await client.get("/")).text()
    assert 'name="email"' in await (await client.get("/signup")).text()


def test_the_jobs_of_the_example_schedules_are_registered(app: App) -> None:
    assert {"mail.welcome", "digest.morning", "report.slow", "log", "noop"} <= {
        *app.registry.names(),
    }
