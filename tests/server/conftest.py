"""A site over the test's own database, and a client for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pillars.ground.settings import Settings
from pillars.server.site import build_site
from pillars.worker.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

Client = TestClient[web.Request, web.Application]


@dataclass
class SomeApp:
    """What the site sees of an application."""

    web: web.Application = field(default_factory=web.Application)
    registry: Registry = field(default_factory=Registry)


async def healthz(_: web.Request) -> web.Response:
    """Tell that the process lives."""
    return web.Response(text="ok")


OPS = (web.get("/healthz", healthz),)


@pytest.fixture
async def serve(
    database: Database,
    events: RecordingListener,
) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Start a site; `await serve(app=..., host="0.0.0.0", api_token=Secret(...))`."""
    clients: list[Client] = []

    async def start(
        app: SomeApp | None = None,
        database: Database = database,
        patience: float = 5.0,
        **settings: object,
    ) -> Client:
        site = build_site(
            app or SomeApp(),
            database=database,
            settings=replace(Settings(), **settings),
            emit=events,
            ops=OPS,
            patience=patience,
        )
        client = TestClient(TestServer(site))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(serve: Callable[..., Awaitable[Client]]) -> Client:
    """A client of a site bound to loopback, without a token."""
    return await serve()
