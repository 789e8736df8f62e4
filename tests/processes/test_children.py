from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from pillars.ground.clock import SystemClock
from pillars.ground.events import ChildEnded, LoopFailed
from pillars.processes import children
from pillars.processes.children import Child, Supervisor
from tests.cluster.crew import eventually
from tests.helpers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers import RecordingListener


def new_supervisor(events: RecordingListener) -> Supervisor:
    return Supervisor("up", "pillars", pause=lambda *_: 0.0, emit=events, clock=SystemClock())


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
    supervisor = new_supervisor(events)

    # `dsn` ends by itself, with an error: there is no embedded database here.
    supervisor.start([Child("dsn", "child", dict(os.environ), ("--data-dir", "/no/such"))])
    async with asyncio.timeout(PATIENCE):
        await supervisor.asked.wait()

    assert [event.loop for event in events.of(LoopFailed)] == ["child"]
    assert supervisor.failed == 1
    await supervisor.stop(limit=5.0)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Decide what `python -m pillars` is to the children of a test."""
    (tmp_path / "pillars").mkdir()
    (tmp_path / "pillars" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> None:
        (tmp_path / "pillars" / "__main__.py").write_text(text)

    return write


async def test_a_child_that_ends_with_an_error_is_started_again_once_one_of_its_role_was_ready(
    events: RecordingListener, program: Callable[[str], None]
) -> None:
    program(
        "import os, sys\n"
        "if sys.argv[2] == 'ready':\n"
        "    os.write(int(os.environ['PILLARS_READY_FD']), b'http://here')\n"
        "sys.exit(3)\n"
    )
    supervisor = new_supervisor(events)
    environment = dict(os.environ)

    supervisor.start([Child("worker", "first", environment, ("ready",))])
    await events.until(ChildEnded)
    supervisor.start([Child("worker", "second", environment, ("never",))])
    await events.until(ChildEnded, where=lambda event: event.name == "second")
    assert not supervisor.asked.is_set()

    supervisor.start([Child("cron", "third", environment, ("never",))])
    async with asyncio.timeout(PATIENCE):
        await supervisor.asked.wait()

    assert supervisor.failed == 3
    await supervisor.stop(supervisor.children, limit=5.0)


async def test_a_stop_waits_for_a_child_that_is_just_being_started(
    events: RecordingListener, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("import signal\nsignal.pause()\n")
    spawn, starting, go = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slowly(*words: str, **options: object) -> asyncio.subprocess.Process:
        starting.set()
        await go.wait()
        return await spawn(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    supervisor = new_supervisor(events)
    child = Child("worker", "child", dict(os.environ))
    supervisor.start([child])
    await starting.wait()

    stopping = asyncio.create_task(supervisor.stop([child], limit=PATIENCE))
    await supervisor.asked.wait()
    go.set()
    await stopping

    assert child.process is not None
    assert child.process.returncode == -signal.SIGTERM


async def test_a_child_that_is_dismissed_is_not_started_again_and_the_others_go_on(
    events: RecordingListener, program: Callable[[str], None], tmp_path: Path
) -> None:
    program("import sys, time\nprint('here', flush=True)\ntime.sleep(60)\n")
    supervisor = new_supervisor(events)
    names = ("first", "second")
    logs = {name: tmp_path / name for name in names}

    environment = dict(os.environ)
    supervisor.start(Child("worker", name, environment, log=logs[name]) for name in names)
    await asyncio.to_thread(
        eventually,
        "both write into their logs",
        lambda: all(log.exists() and log.read_text() == "here\n" for log in logs.values()),
    )
    first, second = supervisor.children
    assert await supervisor.dismiss(first, signal.SIGKILL, limit=PATIENCE)

    assert first.process
    assert second.process
    assert first.process.returncode == -signal.SIGKILL
    assert second.process.returncode is None
    assert events.of(ChildEnded) == []
    await supervisor.stop([second], limit=5.0)
