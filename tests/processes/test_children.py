from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pillars.ground.clock import SystemClock
from pillars.ground.events import LoopFailed
from pillars.processes import children
from pillars.processes.children import Child, Supervisor

if TYPE_CHECKING:
    import pytest

    from tests.helpers import RecordingListener


async def test_a_child_that_cannot_be_started_for_want_of_resources_is_started_later(
    events: RecordingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn, refused = asyncio.create_subprocess_exec, []

    async def once_refused(*words: str, **options: object) -> asyncio.subprocess.Process:
        if not refused:
            refused.append(words)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", once_refused)
    monkeypatch.setattr(children, "_SPAWN_PAUSE", 0.0)
    supervisor = Supervisor(
        "up", "pillars", pause=lambda *_: None, emit=events, clock=SystemClock()
    )

    # `dsn` ends by itself, with an error: there is no embedded database here.
    supervisor.start([Child("dsn", "child", dict(os.environ), ("--data-dir", "/no/such"))])
    async with asyncio.timeout(30):
        await supervisor.asked.wait()

    assert [event.loop for event in events.of(LoopFailed)] == ["child"]
    assert supervisor.failed == 1
    await supervisor.stop(limit=5.0)
