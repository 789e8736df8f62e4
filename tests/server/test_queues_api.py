from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Client

QUEUES = "/api/v1/queues"


async def ask(
    client: Client, method: str, path: str, body: object = None
) -> tuple[int, dict[str, Any]]:
    response = await client.request(method, f"{QUEUES}{path}", json=body)
    return response.status, await response.json()


async def test_queues_are_listed_with_depth_and_limits(client: Client) -> None:
    jobs = [{"type": "a", "queue": "mail"}, {"type": "a", "queue": "mail", "delay": 60}]
    await client.post("/api/v1/jobs", json={"jobs": jobs})
    await ask(client, "PUT", "/api", {"concurrency": 5, "rate": 0.5})

    _, answer = await ask(client, "GET", "")

    api, mail = answer["queues"]
    assert (api["queue"], api["available"], api["concurrency"], api["rate"]) == ("api", 0, 5, 0.5)
    assert (mail["queue"], mail["available"], mail["scheduled"]) == ("mail", 1, 1)
    assert (mail["concurrency"], mail["paused_at"]) == (None, None)


async def test_limits_are_set_whole_and_lifted_by_an_empty_object(client: Client) -> None:
    _, set_to = await ask(client, "PUT", "/mail", {"rate": 500, "burst": None})
    _, lifted = await ask(client, "PUT", "/mail", {})
    _, answer = await ask(client, "GET", "")

    assert (set_to["rate"], set_to["burst"], set_to["concurrency"]) == (500.0, 50, None)
    assert (lifted["queue"], lifted["rate"], lifted["burst"]) == ("mail", None, None)
    assert answer == {"queues": []}


async def test_a_queue_is_paused_and_resumed(client: Client) -> None:
    status, paused = await ask(client, "POST", "/mail/pause")
    _, again = await ask(client, "POST", "/mail/pause", {})
    _, resumed = await ask(client, "POST", "/mail/resume")

    assert (status, paused["queue"]) == (200, "mail")
    assert paused["paused_at"] == again["paused_at"]
    assert (paused["paused_at"] is None, resumed["paused_at"]) == (False, None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"concurrency": 0}, "#/concurrency"),
        ({"concurrency": "5"}, "#/concurrency"),
        ({"rate": 0}, "#/rate"),
        ({"rate": "10/s"}, "#/rate"),
        ({"rate": True}, "#/rate"),
        ({"burst": 1.5}, "#/burst"),
        ({"concurency": 1}, "#/concurency"),
        ([], "#"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(
    dry: Client, body: object, pointer: str
) -> None:
    status, problem = await ask(dry, "PUT", "/mail", body)

    assert (status, [error["pointer"] for error in problem["errors"]]) == (422, [pointer])


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/no%20good"), ("POST", "/no%00good/pause"), ("POST", "/%F0/resume")],
)
async def test_what_is_no_name_of_a_queue_is_refused(
    client: Client, method: str, path: str
) -> None:
    status, problem = await ask(client, method, path, {})

    assert (status, problem["code"]) == (422, "invalid_queue")


async def test_the_page_shows_which_queues_are_paused_and_limited(client: Client) -> None:
    await ask(client, "PUT", "/mail", {"concurrency": 5, "rate": 10})
    await ask(client, "POST", "/mail/pause")

    assert "paused, 5 at a time, 10/s" in await (await client.get("/")).text()
