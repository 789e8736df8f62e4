from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from pillars.ground.clock import SystemClock
from pillars.ground.events import nobody
from pillars.ground.settings import Secret
from pillars.loadtest import crew as crews
from pillars.loadtest.crew import Crew
from pillars.loadtest.mix import Mix
from pillars.loadtest.orders import order_of
from pillars.processes.children import Supervisor
from tests.cluster.crew import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from pillars.loadtest.crew import Hand


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """A crew whose workers leave when they are asked to, and whose crons do not."""
    (tmp_path / "pillars").mkdir()
    (tmp_path / "pillars" / "__init__.py").touch()
    (tmp_path / "pillars" / "__main__.py").write_text(
        "import signal, sys\n"
        "if sys.argv[1] == 'cron':\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('here', flush=True)\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    monkeypatch.chdir(tmp_path)
    order = order_of(
        schedules=1,
        mix=Mix.REALISTIC,
        replicas=1,
        workers=1,
        seconds=5,
        plan="",
        lookahead=5.0,
        lease=5.0,
        concurrency=1,
        seed=1,
    )
    supervisor = Supervisor(
        "loadtest", "pillars", pause=lambda *_: 0.0, emit=nobody, clock=SystemClock()
    )
    return Crew(supervisor, order, Secret("postgresql://nowhere"), tmp_path, "run")


async def started(crew: Crew, role: str) -> Hand:
    hand = crew.start(role)
    log = hand.child.log
    assert log
    await asyncio.to_thread(
        eventually, "it is there", lambda: log.exists() and log.read_text() == "here\n"
    )
    return hand


async def test_a_process_that_had_to_be_killed_is_not_said_to_have_left(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn, docile = await started(crew, "cron"), await started(crew, "worker")

    await crew.end(docile, signal.SIGTERM, "done")
    monkeypatch.setattr(crews, "_LEAVING", 0.0)
    await crew.end(stubborn, signal.SIGTERM, "left")

    assert [(each.name, each.end) for each in crew.figures()] == [
        ("cron-1", "left, killed after 0 s"),
        ("worker-1", "done"),
    ]
