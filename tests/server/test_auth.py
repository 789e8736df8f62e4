from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pillars.ground.settings import Secret
from pillars.server.auth import is_loopback

if TYPE_CHECKING:
    from tests.server.conftest import Client, Start

JOBS = "/api/v1/jobs"
TOKEN = "correct horse battery staple"  # noqa: S105 - a test's
JOB = {"type": "a"}


async def write(client: Client, **headers: str) -> tuple[int, str]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.post(JOBS, json=JOB, headers=given)
    body = await response.text()
    assert TOKEN not in body
    return response.status, "" if response.ok else (await response.json())["code"]


async def test_the_token_opens_writes(serve: Start) -> None:
    client = await serve(host="0.0.0.0", api_token=Secret(TOKEN))  # noqa: S104 - a name, not bound

    assert await write(client, Authorization=f"Bearer {TOKEN}") == (201, "")
    assert await write(client, Authorization=f"bearer  {TOKEN} ") == (201, "")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "token_missing"),
        ("Bearer", "token_missing"),
        ("Bearer  ", "token_missing"),
        ("Basic Zm9vOmJhcg==", "token_missing"),
        ("Bearer wrong", "token_wrong"),
        (f"Bearer {TOKEN}x", "token_wrong"),
        (f"Bearer {TOKEN[:-1]}", "token_wrong"),
        ("Bearer \u00fc", "token_wrong"),
    ],
)
async def test_without_the_right_token_writes_are_refused(
    serve_dry: Start,
    header: str,
    code: str,
) -> None:
    client = await serve_dry(api_token=Secret(TOKEN))

    response = await client.post(JOBS, json=JOB, headers={"Authorization": header})

    problem = await response.json()
    assert (response.status, problem["code"]) == (401, code)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "PILLARS_API_TOKEN" in problem["detail"]
    assert TOKEN not in str(problem)


async def test_reads_need_no_token(serve: Start) -> None:
    client = await serve(host="0.0.0.0", api_token=Secret(TOKEN))  # noqa: S104 - a name, not bound

    assert (await client.get(JOBS)).status == 200


async def test_a_token_that_is_not_ascii_works(serve: Start) -> None:
    client = await serve(api_token=Secret("größe"))

    assert await write(client, Authorization="Bearer größe") == (201, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "pillars.example.org", ""])  # noqa: S104 - names, not bound
async def test_a_server_others_can_reach_takes_no_writes_without_a_token(
    serve_dry: Start,
    host: str,
) -> None:
    client = await serve_dry(host=host)

    response = await client.post(JOBS, json=JOB)

    problem = await response.json()
    assert (response.status, problem["code"]) == (403, "token_needed")
    assert "PILLARS_API_TOKEN" in problem["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "a.localhost:1"])
async def test_on_loopback_writes_need_no_token(client: Client, host: str) -> None:
    assert await write(client, Host=host) == (201, "")
    assert await write(client, Host=host, Origin=f"http://{host}") == (201, "")
    assert await write(client, Host=host, Sec_Fetch_Site="same-origin") == (201, "")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example.org"}, "foreign_host"),
        ({"Host": "127.0.0.1.evil.example.org:8000"}, "foreign_host"),
        ({"Host": "localhost.evil.example.org"}, "foreign_host"),
        ({"Host": "localhost@evil.example.org"}, "foreign_host"),
        ({"Host": ""}, "foreign_host"),
        ({"Host": "localhost:8000", "Origin": "https://evil.example.org"}, "cross_site"),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, "cross_site"),
        ({"Host": "localhost:8000", "Origin": "null"}, "cross_site"),
        ({"Host": "localhost:8000", "Sec-Fetch-Site": "cross-site"}, "cross_site"),
        ({"Host": "localhost:8000", "Sec-Fetch-Site": "same-site"}, "cross_site"),
        ({"Host": "localhost:8000", "X-Forwarded-For": "203.0.113.9"}, "proxied"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_on_loopback_what_may_come_from_elsewhere_is_refused(
    dry: Client,
    headers: dict[str, str],
    code: str,
) -> None:
    response = await dry.post(JOBS, json=JOB, headers=headers)

    assert (response.status, (await response.json())["code"]) == (403, code)


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}/1/retry", f"{JOBS}/1/cancel"])
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
async def test_what_a_form_can_send_is_refused(
    dry: Client,
    path: str,
    content_type: str,
) -> None:
    for data in (b'{"type": "a"}', b""):
        response = await dry.post(path, data=data, headers={"Content-Type": content_type})

        assert (response.status, (await response.json())["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),  # noqa: S104 - a name, not bound
        ("::", False),
        ("localhost.example.org", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_name_and_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
