from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pillars.db.notify import Listener
from pillars.ground.events import LoopFailed
from pillars.ground.loop import Stepper
from tests.helpers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from pillars.ground.settings import Secret
    from tests.helpers import RecordingListener


class Calls:
    """Counts calls and lets a test wait for them."""

    def __init__(self) -> None:
        self.count = 0
        self._called = asyncio.Event()

    def __call__(self, _: str) -> None:
        self.count += 1
        self._called.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.count < count:
                self._called.clear()
                await self._called.wait()


@pytest.fixture
def ring() -> Calls:
    return Calls()


@pytest.fixture
def jobs() -> Calls:
    return Calls()


@pytest.fixture
async def listener(
    dsn: Secret,
    ring: Calls,
    jobs: Calls,
    events: RecordingListener,
) -> AsyncIterator[Listener]:
    """A listener at work on two channels."""
    listener = Listener(dsn, "ear", {"ring": ring, "jobs": jobs}, direct=False)
    loop = Stepper("listener", listener.step, events)
    running = asyncio.create_task(loop.run())
    await jobs.until(1)
    yield listener
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await listener.close()


@pytest.mark.usefixtures("listener")
async def test_each_channel_is_called_once_at_the_start_for_what_may_have_been_missed(
    ring: Calls,
    jobs: Calls,
) -> None:
    assert (ring.count, jobs.count) == (1, 1)


@pytest.mark.usefixtures("listener")
async def test_a_notification_calls_back_on_its_channel_alone(
    ring: Calls,
    jobs: Calls,
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute("NOTIFY jobs, 'not looked at'")

    await jobs.until(2)
    assert (ring.count, jobs.count) == (1, 2)


@pytest.mark.usefixtures("listener")
async def test_after_its_backend_was_terminated_it_listens_again_and_calls_once(
    ring: Calls,
    jobs: Calls,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    sql.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'ear'",
    )

    await jobs.until(2)
    assert (ring.count, jobs.count) == (2, 2)
    assert len(events.of(LoopFailed)) == 1
    sql.execute("NOTIFY jobs")
    await jobs.until(3)
