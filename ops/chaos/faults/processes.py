"""Faults of processes: killed, stopped for a while, restarted, many at once."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.chaos.field import Field

_STORM = 12


async def kill_cron(ground: Field) -> None:
    """Kill a cron, start it again later."""
    await _kill(ground, "kill-cron", [ground.one("cron")])


async def kill_worker(ground: Field) -> None:
    """Kill a worker in the middle of its jobs, start it again later."""
    await _kill(ground, "kill-worker", [ground.one("worker")])


async def kill_server(ground: Field) -> None:
    """Kill the server, start it again later."""
    await _kill(ground, "kill-server", [ground.one("server")])


async def kill_two(ground: Field) -> None:
    """Kill two processes at once, crons or workers."""
    everyone = [*ground.crew.alive("cron"), *ground.crew.alive("worker")]
    await _kill(ground, "kill-two", ground.chance.sample(everyone, 2))


async def kill_crons(ground: Field) -> None:
    """Kill all crons at once, start them again later."""
    await _kill(ground, "kill-crons", ground.crew.alive("cron"))


async def kill_workers(ground: Field) -> None:
    """Kill all workers at once, start them again later."""
    await _kill(ground, "kill-workers", ground.crew.alive("worker"))


async def kill_all(ground: Field) -> None:
    """Kill every process at once, start them again later."""
    await _kill(ground, "kill-all", ground.crew.alive())


async def stop_short(ground: Field) -> None:
    """Stop a process for less than the lease, then let it go on."""
    await _stop(ground, "stop-short", ground.one("cron", "worker", "server"), 0.3, 0.6)


async def stop_long(ground: Field) -> None:
    """Stop a process until others have its work, then let it go on as if nothing had been."""
    await _stop(ground, "stop-long", ground.one("cron", "worker", "server"), 1.5, 2.0)


async def stop_worker_long(ground: Field) -> None:
    """Stop a worker for longer than the lease: it comes back with results nobody wants."""
    await _stop(ground, "stop-worker-long", ground.one("worker"), 1.5, 2.0)


async def roll(ground: Field) -> None:
    """Restart all processes in order, each when the one before has joined."""
    since = time.time()
    for name in ground.crew.alive():
        await ground.crew.stop([name])
        ground.crew.start(name)
        await ground.crew.joined(name)
    ground.did("roll", since)


async def storm(ground: Field) -> None:
    """Leave one cron, let it become twelve at once, then as many as before."""
    since = time.time()
    usual = ground.crew.alive("cron")
    await ground.crew.stop(usual[1:])
    storming = [f"cron-storm{number}" for number in range(len(usual), _STORM)]
    for name in (*usual[1:], *storming):
        ground.crew.start(name)
    await asyncio.gather(*(ground.crew.joined(name) for name in (*usual[1:], *storming)))
    await ground.crew.stop(storming)
    ground.did("storm", since)


async def _kill(ground: Field, fault: str, names: Sequence[str]) -> None:
    since = time.time()
    harmed = [ground.crew.id(name) for name in names]
    await asyncio.gather(*(ground.crew.kill(name) for name in names))
    await ground.wait(0.0, ground.lease + 2.0)
    for name in names:
        ground.crew.start(name)
    await asyncio.gather(*(ground.crew.joined(name) for name in names))
    ground.did(fault, since, harmed)


async def _stop(ground: Field, fault: str, name: str, least: float, most: float) -> None:
    since = time.time()
    ground.crew.signal(name, signal.SIGSTOP)
    await ground.wait(least * ground.lease, most * ground.lease)
    ground.crew.signal(name, signal.SIGCONT)
    ground.did(fault, since, [ground.crew.id(name)])
