from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from pillars.ground.events import Events, ProcessStopping
from pillars.telemetry.endpoints import OpsServer, PortError, ops_routes, reachable_host
from pillars.telemetry.health import Check, Health
from pillars.telemetry.metrics import Metrics
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def emit() -> Events:
    return Events()


@pytest.fixture
def health(emit: Events) -> Health:
    return Health(emit, FakeClock())


@pytest.fixture
async def url(emit: Events, health: Health) -> AsyncIterator[str]:
    server = OpsServer("127.0.0.1", 0, ops_routes(Metrics(emit, "worker"), health))
    yield await server.start()
    await server.stop()


@asynccontextmanager
async def get(url: str, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        yield response


async def read(url: str) -> tuple[int, Any]:
    async with get(url) as response:
        return response.status, await response.json()


async def test_a_live_process_says_so(url: str) -> None:
    assert await read(f"{url}/healthz") == (200, {"status": "ok"})


async def test_readiness_is_given_with_its_reasons(url: str, health: Health) -> None:
    health.add("claim", lambda: Check(ok=True, seconds=0.5))
    ready = await read(f"{url}/readyz")
    health.add("database", lambda: Check(ok=False, reason="no answer within 2s"))
    unready = await read(f"{url}/readyz")

    claim = {"ok": True, "reason": None, "seconds": 0.5}
    database = {"ok": False, "reason": "no answer within 2s", "seconds": None}
    assert ready == (200, {"ok": True, "checks": {"claim": claim}})
    assert unready == (503, {"ok": False, "checks": {"claim": claim, "database": database}})


async def test_a_draining_process_lives_but_is_not_ready(url: str, emit: Events) -> None:
    emit(ProcessStopping("worker", "a", "SIGTERM"))

    assert (await read(f"{url}/healthz"))[0] == 200
    assert (await read(f"{url}/readyz"))[0] == 503


async def test_metrics_come_in_the_format_asked_for(url: str) -> None:
    async with get(f"{url}/metrics") as response:
        plain, plain_type = await response.text(), response.headers["Content-Type"]
    async with get(
        f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0"
    ) as response:
        other, other_type = await response.text(), response.headers["Content-Type"]

    assert plain_type.startswith("text/plain")
    assert "pillars_worker_slots" in plain
    assert other_type.startswith("application/openmetrics-text")
    assert other.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "garbage;;;", "application/openmetrics-text;version=x.y;escaping=?"],
)
async def test_strange_wishes_for_a_format_are_answered(url: str, accept: str) -> None:
    async with get(f"{url}/metrics", Accept=accept) as response:
        assert response.status == 200


async def test_a_port_in_use_is_named_with_the_setting_that_changes_it(url: str) -> None:
    port = int(url.rpartition(":")[2])

    with pytest.raises(PortError, match=rf"port {port} on 127.0.0.1 is in use.*PILLARS_METRICS_"):
        await OpsServer("127.0.0.1", port, []).start()


async def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(PortError, match=r"cannot listen on 192\.0\.2\.1.*PILLARS_HOST"):
        await OpsServer("192.0.2.1", 0, []).start()


async def test_a_server_can_be_stopped_twice_and_started_again(health: Health) -> None:
    server = OpsServer("127.0.0.1", 0, ops_routes(Metrics(Events(), "cron"), health))
    await server.start()
    await server.stop()
    await server.stop()
    url = await server.start()
    status, _ = await read(f"{url}/healthz")
    await server.stop()

    assert status == 200


async def test_a_wildcard_address_becomes_one_that_others_can_reach() -> None:
    hosts = [await reachable_host(host) for host in ("127.0.0.1", "::1", "example.org")]

    assert hosts == ["127.0.0.1", "[::1]", "example.org"]
    assert await reachable_host("0.0.0.0") != "0.0.0.0"  # noqa: S104 - not bound here
    assert await reachable_host("::") != "[::]"
