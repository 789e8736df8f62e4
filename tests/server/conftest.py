"""A site over the test's own database, and a client for it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pillars.db.database import Database
from pillars.ground.settings import Secret, Settings
from pillars.server.site import build_site
from pillars.worker.registry import Registry
from tests.helpers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.helpers import RecordingListener

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]
SECRET = "hunter2"  # noqa: S105 - a test's


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
async def nowhere(events: RecordingListener) -> AsyncIterator[Database]:
    """A database behind a port where nobody listens."""
    database = Database(Secret(f"postgresql://somebody:{SECRET}@127.0.0.1:1/far"), "test", events)
    yield database
    await database.close()


@pytest.fixture
async def start(events: RecordingListener, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start a site over a database of the test's choice."""
    clients: list[Client] = []

    async def start(
        database: Database,
        app: SomeApp | None = None,
        patience: float = PATIENCE,
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
        monkeypatch.setattr("pillars.server.status._PATIENCE", patience)
        client = TestClient(TestServer(site))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
def serve(start: Start, database: Database) -> Start:
    """Start a site; `await serve(app=..., host="0.0.0.0", api_token=Secret(...))`."""
    return functools.partial(start, database)


@pytest.fixture
def serve_dry(start: Start, nowhere: Database) -> Start:
    """Start a site whose database is away: what it refuses, it refuses without looking there."""
    return functools.partial(start, nowhere, patience=0.1)


@pytest.fixture
async def client(serve: Start) -> Client:
    """A client of a site bound to loopback, without a token."""
    return await serve()


@pytest.fixture
async def dry(serve_dry: Start) -> Client:
    """A client of a site whose database is away."""
    return await serve_dry()
