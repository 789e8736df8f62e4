"""What can be done to the processes and their database, and in which order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from ops.chaos.evidence import Deed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from ops.chaos.crew import Crew
    from ops.chaos.proxy import Proxy
    from pillars.db.embedded import EmbeddedPostgres

OURS = "application_name LIKE 'pillars %'"
_TERMINATE = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"  # noqa: S608
# Seconds: between faults, of an outage, of one way through a slow link.
_PAUSE = (2.0, 4.0)
_OUTAGE = 6.0
_DELAY = 0.1
_STORM = 6


@dataclass(slots=True)
class Field:
    """Whom the faults meet; durations in seconds.

    Attributes:
        crew: the processes.
        proxy: the way to the database of some of them.
        server: the database.
        lease: silence after which a member is taken for dead.
        chance: decides on whom and when.
        deeds: what was done, in order.
    """

    crew: Crew
    proxy: Proxy
    server: EmbeddedPostgres
    lease: float
    chance: random.Random
    deeds: list[Deed] = field(default_factory=list)

    def one(self, *roles: str) -> str:
        """Pick a living process of one of these roles."""
        return self.chance.choice([name for role in roles for name in self.crew.alive(role)])

    async def wait(self, least: float, most: float) -> None:
        """Let time pass, some."""
        await asyncio.sleep(self.chance.uniform(least, most))

    def did(self, fault: str, since: float, harmed: Sequence[str] = ()) -> None:
        """Note a deed that is over now."""
        self.deeds.append(Deed(fault, since, time.time(), tuple(harmed)))


def deck(seed: int, faults: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield faults for ever, each as often as the others, and the pause before each in seconds."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        cards = list(faults)
        chance.shuffle(cards)
        for card in cards:
            yield card, chance.uniform(*_PAUSE)


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
    """Kill a cron and a worker at once."""
    await _kill(ground, "kill-two", [ground.one("cron"), ground.one("worker")])


async def kill_crons(ground: Field) -> None:
    """Kill all crons at once, start them again later."""
    await _kill(ground, "kill-crons", ground.crew.alive("cron"))


async def kill_workers(ground: Field) -> None:
    """Kill all workers at once, start them again later."""
    await _kill(ground, "kill-workers", ground.crew.alive("worker"))


async def stop_short(ground: Field) -> None:
    """Stop a process for less than the lease, then let it go on."""
    await _stop(ground, "stop-short", ground.one("cron", "worker"), 0.3, 0.6)


async def stop_long(ground: Field) -> None:
    """Stop a process until others have its work, then let it go on as if nothing had been."""
    await _stop(ground, "stop-long", ground.one("cron", "worker"), 1.5, 2.0)


async def stop_worker_long(ground: Field) -> None:
    """Stop a worker for longer than the lease: it comes back with results nobody wants."""
    await _stop(ground, "stop-worker-long", ground.one("worker"), 1.5, 2.0)


async def roll(ground: Field) -> None:
    """Restart all crons and workers in order, each when the one before has joined."""
    since = time.time()
    for name in [*ground.crew.alive("cron"), *ground.crew.alive("worker")]:
        await ground.crew.stop([name])
        ground.crew.start(name)
        await ground.crew.joined(name)
    ground.did("roll", since)


async def storm(ground: Field) -> None:
    """Let several crons join at once, and leave at once."""
    since = time.time()
    names = [f"cron-storm{number}" for number in range(1, _STORM + 1)]
    for name in names:
        ground.crew.start(name)
    await asyncio.gather(*(ground.crew.joined(name) for name in names))
    await ground.crew.stop(names)
    ground.did("storm", since)


async def db_restart(ground: Field) -> None:
    """Stop the database at once, without a word to its clients, and start it."""
    await _down(ground, "db-restart", 0.0)


async def db_down(ground: Field) -> None:
    """Stop the database at once and let it be down for longer than lease and look-ahead."""
    await _down(ground, "db-down", _OUTAGE)


async def db_stall(ground: Field) -> None:
    """Let the database stand still for longer than the lease: it is there and does not answer."""
    since = time.time()
    postmaster = ground.server.running()
    if postmaster is None:
        raise RuntimeError("PostgreSQL does not run")
    # The postmaster first: from then on there are no new sessions.
    _signal_all([postmaster.pid], signal.SIGSTOP)
    sessions = _children(postmaster.pid)
    _signal_all(sessions, signal.SIGSTOP)
    try:
        await ground.wait(1.5 * ground.lease, 2.0 * ground.lease)
    finally:
        _signal_all([*sessions, postmaster.pid], signal.SIGCONT)
    ground.did("db-stall", since)


async def terminate(ground: Field) -> None:
    """End every session of ours, several times."""
    since = time.time()
    dsn = ground.server.dsn.reveal()
    for _ in range(3):
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(_TERMINATE.encode())
        await ground.wait(0.2, 1.0)
    ground.did("terminate", since)


async def cut(ground: Field) -> None:
    """Cut the link of some processes without a FIN, while data is in flight."""
    since = time.time()
    linked = [ground.crew.id(name) for name in ground.crew.alive() if name in ground.crew.linked]
    await ground.proxy.cut(ground.chance.uniform(1.5, 2.0) * ground.lease)
    ground.did("cut", since, linked)


async def slow(ground: Field) -> None:
    """Make the link of some processes slow."""
    since = time.time()
    await ground.proxy.slow(ground.chance.uniform(3.0, 6.0), _DELAY)
    ground.did("slow", since)


FAULTS: dict[str, Callable[[Field], Awaitable[None]]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        kill_cron,
        kill_worker,
        kill_server,
        kill_two,
        kill_crons,
        kill_workers,
        stop_short,
        stop_long,
        stop_worker_long,
        roll,
        storm,
        db_restart,
        db_down,
        db_stall,
        terminate,
        cut,
        slow,
    )
}


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        # A session may end at any time.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


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


async def _down(ground: Field, fault: str, seconds: float) -> None:
    since = time.time()
    await asyncio.to_thread(ground.server.stop, "immediate")
    await asyncio.sleep(seconds)
    await asyncio.to_thread(ground.server.start)
    ground.did(fault, since)
