from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pillars import PermanentError
from pillars.worker.builtin import HttpJobError, http, log, noop
from pillars.worker.context import JobContext, enter_job
from tests.worker.test_attempts import job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Site:
    """A web server of the test's own that answers as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.text = ""
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.seen: list[dict[str, str]] = []
        self.url = ""
        self.release = asyncio.Event()
        self.release.set()

    async def answer(self, request: web.Request) -> web.Response:
        await self.release.wait()
        self.requests.append((request.method, request.path_qs, await request.text()))
        self.seen.append(dict(request.headers))
        return web.Response(status=self.status, text=self.text, headers=self.headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    enter_job(JobContext(job()))
    site = Site()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield site
    site.release.set()
    await runner.cleanup()


async def test_noop_takes_any_args() -> None:
    assert await noop(a=1, b=[2]) is None


async def test_log_writes_to_the_job_logger(caplog: pytest.LogCaptureFixture) -> None:
    enter_job(JobContext(job("log")))

    await log("100 % done", level="warning")

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pillars.job", logging.WARNING)
    assert record.getMessage() == "100 % done"
    assert record.__dict__["job_id"] == 7


async def test_an_unknown_log_level_is_not_tried_again() -> None:
    with pytest.raises(PermanentError, match=r"'warn' is none of .*, did you mean 'warning'"):
        await log("x", level="warn")


async def test_http_posts_with_a_key_that_stays_the_same_over_attempts(site: Site) -> None:
    await http(site.url, json={"a": 1}, headers={"X-Token": "s3cret"})
    await http(site.url, method="put", body="text")

    assert site.requests == [("POST", "/hook", '{"a": 1}'), ("PUT", "/hook", "text")]
    assert {seen["Idempotency-Key"] for seen in site.seen} == {"pillars-7"}
    assert site.seen[0]["X-Token"] == "s3cret"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_http_is_tried_again_when_that_may_help(site: Site, status: int) -> None:
    site.status, site.text = status, "come\n back "

    with pytest.raises(HttpJobError, match=f"was answered {status}: come back$"):
        await http(site.url)


@pytest.mark.parametrize("status", [302, 400, 404, 410])
async def test_http_is_given_up_where_it_would_not(site: Site, status: int) -> None:
    site.status, site.headers = status, {"Location": "/elsewhere"}

    with pytest.raises(PermanentError, match=f"was answered {status}$"):
        await http(site.url)

    assert len(site.requests) == 1


async def test_http_takes_the_statuses_it_was_told_for_success(site: Site) -> None:
    site.status = 404
    await http(site.url, expect=[200, 404])

    site.status = 204
    with pytest.raises(PermanentError):
        await http(site.url, expect=[200, 404])


async def test_no_error_holds_header_values_query_or_credentials(site: Site) -> None:
    site.status = 500
    url = site.url.replace("//", "//user:passw0rd@") + "?key=s3cret#s3cret"

    with pytest.raises(HttpJobError) as caught:
        await http(url, headers={"X-Token": "s3cret"})

    assert str(caught.value) == f"POST {site.url} was answered 500"


async def test_the_snippet_of_an_answer_is_bounded(site: Site) -> None:
    site.status, site.text = 500, "x" * 100_000

    with pytest.raises(HttpJobError) as caught:
        await http(site.url)

    assert len(str(caught.value)) < 600


async def test_no_answer_in_time_is_tried_again(site: Site) -> None:
    site.release.clear()

    with pytest.raises(HttpJobError, match=r"no answer within 0\.05 s"):
        await http(site.url, timeout=0.05)


async def test_a_server_that_is_not_there_is_tried_again(site: Site) -> None:
    with pytest.raises(HttpJobError, match="Cannot connect to host 127"):
        await http("http://127.0.0.1:1/hook?key=s3cret")

    assert site.requests == []


@pytest.mark.parametrize(
    "args",
    [
        {"url": "ftp://example.org"},
        {"url": "/relative"},
        {"url": 5},
        {"url": "http://example.org:port"},
        {"json": {}, "body": ""},
        {"headers": {"X": "a\r\nb"}},
        {"headers": ["x"]},
        {"method": "BAD METHOD"},
        {"body": {"not": "text"}},
    ],
)
async def test_args_that_can_never_work_are_not_tried_again(
    site: Site,
    args: dict[str, Any],
) -> None:
    with pytest.raises(PermanentError):
        await http(**{"url": site.url, **args})
